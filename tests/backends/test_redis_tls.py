"""Redis with TLS and a password: who is let in, whom we believe, and what is said."""

from __future__ import annotations

import contextlib
import os

import pytest

redis = pytest.importorskip("redis")
pytest.importorskip("cryptography")

from tests.servers import certificates, required  # noqa: E402
from trioflow import Registry, open_client, open_worker  # noqa: E402
from trioflow.backends.urls import open_backend  # noqa: E402
from trioflow.errors import BackendUnavailable  # noqa: E402

PASSWORD = "s3cret/word"  # a URL reserves the slash
registry = Registry()


@registry.workflow
async def answer(number: int) -> int:
    return number + 1


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that speaks TLS only, and the certificates that it uses."""
    module = required("redis")
    if not module.has_tls():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("it has no TLS")
    folder = tmp_path_factory.mktemp("redis-tls")
    given = certificates.make(folder / "certificates")
    options = (*module.FORGETFUL, "--requirepass", "nobody's")
    started = module.Server(folder, *options, certificates=given)
    with contextlib.closing(started):
        started.start()
        url = url_of(started, given.authority, user="", password="nobody%27s")
        with redis.Redis.from_url(url) as admin:
            let_in(admin, "shop", PASSWORD)
        yield started, given


def let_in(admin, user, password):
    """Make a user that may do what the documentation demands, and no more."""
    words = ("ACL SETUSER", user, "reset", "on", f">{password}", "~{trioflow}*", "+@all")
    channels = ("resetchannels", "&{trioflow}*")
    with contextlib.suppress(redis.ResponseError):  # before 6.2 there are no rights to channels
        words = (*words, *channels) if admin.execute_command(*words, *channels) else words
    admin.execute_command(*words, "-@dangerous")


def url_of(server, authority, *, user="shop", password="s3cret%2Fword", host="127.0.0.1"):
    who = server.url.replace("rediss://127.0.0.1", f"rediss://{user}:{password}@{host}")
    return f"{who}?ssl_ca_certs={authority}"


async def refusal(url):
    """Return what is said when a store cannot be opened, with all causes."""
    with pytest.raises(BackendUnavailable) as caught:
        await open_backend(url).open()
    error = caught.value
    told, cause = [str(error)], error.__cause__
    while cause is not None:
        told.append(str(cause))
        cause = cause.__cause__ or cause.__context__
    assert "s3cret" not in " ".join(told)
    return str(error)


async def test_workers_and_clients_speak_tls(server):
    started, given = server
    url = url_of(started, given.authority)

    async with (
        open_worker(url, registry=registry),
        open_client(url, registry=registry) as client,
    ):
        assert await client.run(answer, 41) == 42


async def test_a_wrong_password_is_said(server):
    started, given = server
    said = await refusal(url_of(started, given.authority, password="s3cret-but-wrong"))
    assert "refuses the user or the password" in said
    said = await refusal(url_of(started, given.authority, user="nobody"))
    assert "refuses the user or the password" in said


async def test_a_server_that_no_known_authority_vouches_for_is_not_believed(server, tmp_path):
    started, _ = server
    other = certificates.make(tmp_path / "others")
    assert "a certificate that is not trusted" in await refusal(url_of(started, other.authority))


async def test_a_certificate_of_another_host_is_not_believed(server):
    started, given = server
    said = await refusal(url_of(started, given.authority, host="localhost"))
    assert "a certificate that is not trusted" in said
    assert "host" in said


async def test_without_tls_nothing_is_said_to_a_server_that_wants_it(server):
    started, _ = server
    url = started.url.replace("rediss://", "redis://shop:s3cret%2Fword@")
    assert "cannot be reached" in await refusal(url)
