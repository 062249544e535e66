"""Certificates for private servers, and authorities that vouch for them."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Certificates", "make"]


@dataclass(frozen=True)
class Certificates:
    """Paths of PEM files.

    Attributes:
        authority: Who vouches for the certificate.
        certificate: The server's.
        key: Its private key.
    """

    authority: Path
    certificate: Path
    key: Path


def make(folder: Path, host: str = "127.0.0.1") -> Certificates:
    """Make an authority, and a certificate of an address; write them into an empty folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    issuer = _name(f"authority of {folder.name}")
    issuer_key = ec.generate_private_key(ec.SECP256R1())
    constraints = x509.BasicConstraints(ca=True, path_length=0)
    own = (
        _draft(issuer, issuer, issuer_key, issuer_key)
        .add_extension(constraints, critical=True)
        .add_extension(_may_sign(), critical=True)
    )
    paths.authority.write_bytes(_pem(own.sign(issuer_key, hashes.SHA256())))
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    draft = _draft(_name(host), issuer, key, issuer_key).add_extension(names, critical=False)
    paths.certificate.write_bytes(_pem(draft.sign(issuer_key, hashes.SHA256())))
    paths.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _may_sign() -> x509.KeyUsage:
    uses = (
        *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
        *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(**{use: use in ("key_cert_sign", "crl_sign") for use in uses})


def _draft(subject, issuer, key, issuer_key):
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        # Python 3.13 and newer believe no certificate without these two.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )


def _pem(certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
