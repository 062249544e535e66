"""Two codecs to copy: envelope encryption with keys that change, and large values kept elsewhere.

Both work on bytes, so they are used with WrappedCodec, alone or one around the other:

    encrypted = WrappedCodec(JsonCodec(), envelope.wrap, envelope.unwrap)
    codec = WrappedCodec(encrypted, shelf.wrap, shelf.unwrap)

    async with open_worker(url, codec=codec) as worker: ...

All workers and clients of a store need the same codec. Objects of these classes can be pickled, as
activities with runtime="process" need it. Encryption needs `pip install cryptography`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_WRAPPED_KEY = _NONCE + 32 + 16


@dataclass
class Envelope:
    """Encrypts each value with a data key, which stands before it, encrypted with a key of yours.

    Your keys (32 bytes each, from a key management service or a secret file) never encrypt data, so
    little is encrypted with each. To change the key:

    1. Give all workers and clients the new one in `keys`, beside the old one.
    2. When all of them have it, make it `current`: what is written from now on needs the new key,
       and what the old one wrote can still be read.
    3. When no instance is left that was written with the old one, remove it.
    """

    keys: Mapping[str, bytes]
    current: str
    _data_key: bytes = field(init=False, repr=False)
    _header: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # One data key for each process: values that nobody could tell apart need no key each.
        self._data_key = AESGCM.generate_key(256)
        name = self.current.encode()
        sealed = _encrypt(self.keys[self.current], self._data_key, name)
        self._header = bytes([len(name)]) + name + sealed

    def wrap(self, document: bytes) -> bytes:
        """Return a document, encrypted."""
        return self._header + _encrypt(self._data_key, document, self._header)

    def unwrap(self, data: bytes) -> bytes:
        """Return the document that was encrypted, with whichever of the keys."""
        size = 1 + data[0] + _WRAPPED_KEY
        header, sealed = data[:size], data[size:]
        name = header[1 : 1 + data[0]]
        if name.decode() not in self.keys:
            raise LookupError(f"there is no key {name.decode()!r} any more")
        data_key = _decrypt(self.keys[name.decode()], header[1 + data[0] :], name)
        return _decrypt(data_key, sealed, header)


def _encrypt(key: bytes, document: bytes, context: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + _cipher(key).encrypt(nonce, document, context)


def _decrypt(key: bytes, data: bytes, context: bytes) -> bytes:
    return _cipher(key).decrypt(data[:_NONCE], data[_NONCE:], context)


@lru_cache(maxsize=256)
def _cipher(key: bytes) -> AESGCM:
    return AESGCM(key)


@dataclass
class Shelf:
    """Keeps values of more than `limit` bytes as files, and stores their names instead.

    The folder has to be one that all workers and clients see. A file is there, and on the disk,
    before the value that names it is stored. It is never changed, so it may be written twice. A
    file is needed for as long as the instance that names it; one whose value was not stored after
    all is needed by nobody. So remove what is older than the instances that you keep.

    The functions of a codec run on the event loop: this suits a few large values on a quick disk.
    For many, or for an object store, let an activity put them there, and pass their names yourself.
    """

    folder: Path
    limit: int = 1_000_000

    def wrap(self, document: bytes) -> bytes:
        """Return a document, or the name of its file."""
        if len(document) <= self.limit:
            return b"=" + document
        name = hashlib.sha256(document).hexdigest()
        path = self.folder / name
        if not path.exists():
            part = self.folder / f"{name}.{os.getpid()}.part"
            with part.open("wb") as file:
                file.write(document)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        return b">" + name.encode()

    def unwrap(self, data: bytes) -> bytes:
        """Return the document."""
        if data[:1] == b"=":
            return data[1:]
        document = (self.folder / data[1:].decode()).read_bytes()
        if hashlib.sha256(document).hexdigest() != data[1:].decode():
            raise ValueError(f"the file {data[1:].decode()} was changed")
        return document
