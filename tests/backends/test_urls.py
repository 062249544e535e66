"""From URLs to backends, and what is said about those that name none."""

from __future__ import annotations

import sys

import pytest

from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.backends.urls import open_backend
from trioflow.errors import BackendError


def test_memory():
    assert isinstance(open_backend("memory://"), MemoryBackend)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///flow.db", "flow.db"),
        ("sqlite:///dir/flow.db", "dir/flow.db"),
        ("sqlite:////var/flow.db", "/var/flow.db"),
        ("sqlite:///a%20b%3F.db", "a b?.db"),
    ],
)
def test_sqlite(url, path):
    backend = open_backend(url)
    assert isinstance(backend, SqliteBackend)
    assert backend.path == path


def test_postgresql():
    backend = open_backend(
        "postgresql://me:secret@host:7/shop?schema=flows&pooled=1&sslmode=require"
    )
    assert backend.schema == "flows"
    assert backend.place == "PostgreSQL at host:7/shop"
    assert open_backend("postgres://host/shop").schema == "trioflow"


def test_redis():
    backend = open_backend("rediss://:secret@host:7000/2?prefix=shop&ssl_cert_reqs=none")
    assert backend.name == "redis"
    assert backend.address.url == "rediss://:secret@host:7000/2?ssl_cert_reqs=none"
    assert backend.address.tag == "{shop}"
    assert "secret" not in backend.address.shown


def test_a_missing_driver_is_named(monkeypatch):
    for name in list(sys.modules):
        if name.partition(".")[0] == "redis" or name.startswith("trioflow.backends.redis"):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(BackendError, match=r"pip install 'trioflow\[redis\]'"):
        open_backend("redis://localhost")


def test_a_backend_is_returned_as_it_is():
    backend = MemoryBackend()
    assert open_backend(backend) is backend


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("flow.db", "is not a backend URL"),
        ("", "is not a backend URL"),
        ("sqlite:flow.db", "is not a backend URL"),
        ("oracle://x", "unknown scheme 'oracle'"),
        ("postgresql://localhost/x?pooled=yes", "write pooled=1"),
        ("postgresql://localhost/x?nonsense=1", "invalid URI query parameter"),
        ("redis://localhost/shop", "prefix=shop"),
        ("redis://localhost:port", "the port is no number"),
        ("redis://localhost?prefix=", "must not be empty"),
        ("redis://localhost?prefix={a}", "no braces"),
        ("redis://localhost?prefiks=a", "unknown option 'prefiks'"),
        ("redis://localhost?keep_finished=day", "must be seconds"),
        ("redis://localhost?cluster=1", "must be true or false"),
        ("sqlite://flow.db", "sqlite:///flow.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///flow.db?mode=ro", "has one option, prefix"),
        ("memory://name", "has no name"),
    ],
)
def test_other_urls_are_explained(url, words):
    with pytest.raises(BackendError, match=words) as caught:
        open_backend(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "oracle://me:secret@host/x",
        "postgresql://me:secret@host/x?pooled=yes",
        "postgresql://me:secret@host/x?nonsense=1",
        "postgresql://host/x?password=secret&nonsense=1",
        "postgresql://me:a/secret@host:port/x?pooled=2",
        "mysql://me:secret@host",
        "mysql://me:secret/word@host/x",
        "mysql://me:secret@host/x?sslca=y",
        "redis://:secret@host/shop",
        "redis://:secret/word@host",
        "redis://me:word/secret@host",
        "redis://:secret@host?prefiks=a",
        "redis://:secret@host?prefix=",
        "redis://:secret@host?cluster=1",
        "memory://me:secret@name",
    ],
)
def test_no_password_is_shown(url):
    with pytest.raises(BackendError) as caught:
        open_backend(url)
    assert "secret" not in str(caught.value)
