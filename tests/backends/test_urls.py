"""From URLs to backends, and what is said about those that name none."""

from __future__ import annotations

import pytest

from trioflow.backends.memory import MemoryBackend
from trioflow.backends.sqlite import SqliteBackend
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


def test_a_backend_is_returned_as_it_is():
    backend = MemoryBackend()
    assert open_backend(backend) is backend


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("flow.db", "is no URL"),
        ("", "is no URL"),
        ("sqlite:flow.db", "is no URL"),
        ("oracle://x", "unknown scheme 'oracle'"),
        ("postgresql://localhost/x", "no postgresql backend"),
        ("redis://localhost", "no redis backend"),
        ("sqlite://flow.db", "sqlite:///flow.db"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite:///flow.db?mode=ro", "takes no options"),
        ("memory://name", "has no name"),
    ],
)
def test_other_urls_are_explained(url, words):
    with pytest.raises(BackendError, match=words) as caught:
        open_backend(url)
    assert repr(url) in str(caught.value)
