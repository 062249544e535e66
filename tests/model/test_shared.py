"""What locks, semaphores and events of several instances are called."""

from __future__ import annotations

import pytest

from trioflow import SharedEvent, SharedLock, SharedSemaphore
from trioflow._model.shared import held_in, key_of_shared, shared_words


@pytest.mark.parametrize(
    ("shared", "words"),
    [
        (SharedLock("stock"), "the lock 'stock'"),
        (SharedSemaphore("gpu", 4), "the semaphore 'gpu'"),
        (SharedEvent("market open"), "the event 'market open'"),
        (SharedLock('it\'s: "1"'), "the lock 'it\\'s: \"1\"'"),
        (SharedLock("it's"), 'the lock "it\'s"'),
    ],
)
def test_each_is_called_by_its_kind_and_name(shared, words):
    key = key_of_shared(shared)
    assert shared_words(key) == words
    assert held_in(words) == (None if isinstance(shared, SharedEvent) else key)


@pytest.mark.parametrize("words", ["the time", "the lock stock", "Lock.acquire", "a promise"])
def test_other_words_name_none(words):
    assert held_in(words) is None
