"""What instances share: locks, semaphores and events that live in the store."""

from __future__ import annotations

import ast
import re
from collections.abc import Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Never, NoReturn

from trioflow._codec.limits import check_name
from trioflow._model.invoker import invoker_for
from trioflow.errors import ArgumentError

__all__ = [
    "SharedEvent",
    "SharedLock",
    "SharedSemaphore",
    "held_in",
    "key_of_shared",
    "shared_words",
]

_MOST = 1_000_000
_HELD: Final = re.compile(r"the (lock|semaphore) ('.*'|\".*\")", re.DOTALL)  # see `shared_words`


class _Held:
    """What is held by a scope."""

    __slots__ = ("_key", "_size", "name")

    def __init__(self, kind: str, name: str, size: int) -> None:
        self.name = name
        self._key = f"{kind}:{check_name(name, f'a {kind}')}"
        self._size = size

    async def __aenter__(self) -> None:
        """Wait for a place, first come first served, and take it.

        Raises:
            NotInWorkflow: Outside of a workflow.
        """
        what = f"async with {type(self).__name__}"
        await invoker_for(what).claim_shared(self._key, self._size)

    def __await__(self) -> NoReturn:
        """Refuse: what is taken has to be given back."""
        raise ArgumentError(
            f"a {type(self).__name__} is taken for the length of a block, and not by await: write "
            f"'async with {self!r}:'"
        )

    if not TYPE_CHECKING:  # so that type checkers refuse it as well

        def __enter__(self) -> NoReturn:
            raise ArgumentError(
                f"a {type(self).__name__} is waited for: write 'async with {self!r}:'"
            )

        def __exit__(self, *_: object) -> None: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        invoker_for(f"async with {type(self).__name__}").release_shared(self._key)


class SharedLock(_Held):
    """A lock that one instance holds at a time, of all that use the store: ``async with lock:``.

    Who waits gets it in the order of asking. It is given back when the block ends, and also when
    the instance ends in any other way, as by a terminate. A worker that dies changes nothing: the
    instance goes on elsewhere, and still holds it. An instance that asks for a lock that it holds
    waits for itself.

    Args:
        name: Which lock; any object of the same name is the same lock.

    Example:
        >>> SharedLock("account-7")
        SharedLock('account-7')
    """

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__("lock", name, 1)

    def __repr__(self) -> str:
        return f"SharedLock({self.name!r})"


class SharedSemaphore(_Held):
    """A semaphore of which ``size`` places are held at a time, by all that use the store.

    As `SharedLock` otherwise. If instances give different sizes, each is let in when fewer are held
    than its own size says; nobody overtakes who came before.

    Args:
        name: Which semaphore; any object of the same name is the same semaphore.
        size: How many places there are.

    Raises:
        ArgumentError: The size is no whole number from 1 to a million.

    Example:
        >>> SharedSemaphore("gpu", 4)
        SharedSemaphore('gpu', 4)
    """

    __slots__ = ()

    def __init__(self, name: str, size: int) -> None:
        given: Any = size
        if not isinstance(given, int) or isinstance(given, bool) or not 0 < given <= _MOST:
            raise ArgumentError(
                f"SharedSemaphore({name!r}): size={size!r} is no whole number from 1 to {_MOST}"
            )
        super().__init__("semaphore", name, size)

    def __repr__(self) -> str:
        return f"SharedSemaphore({self.name!r}, {self._size})"


class SharedEvent:
    """An event that instances set and wait for, of all that use the store.

    It stays set until somebody clears it, whatever becomes of the instance that set it.

    Args:
        name: Which event; any object of the same name is the same event.

    Example:
        >>> SharedEvent("market open")
        SharedEvent('market open')
    """

    __slots__ = ("_key", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = f"event:{check_name(name, 'an event')}"

    def __repr__(self) -> str:
        return f"SharedEvent({self.name!r})"

    async def wait(self) -> None:
        """Return when it is set; at once if it is.

        Raises:
            NotInWorkflow: Outside of a workflow.
        """
        await invoker_for("SharedEvent.wait()").claim_shared(self._key, 0)

    def set(self) -> Coroutine[Never, object, None]:
        """Set it: whoever waits goes on. Returns when that is stored.

        Raises:
            NotInWorkflow: Outside of a workflow.
        """
        return invoker_for("SharedEvent.set()").set_shared(self._key, value=True)

    def clear(self) -> Coroutine[Never, object, None]:
        """Clear it: whoever waits from now on waits until it is set again.

        Raises:
            NotInWorkflow: Outside of a workflow.
        """
        return invoker_for("SharedEvent.clear()").set_shared(self._key, value=False)


def key_of_shared(shared: object) -> str:
    """Return the name that one of these has in the store.

    Raises:
        ArgumentError: It is none of them.
    """
    if not isinstance(shared, _Held | SharedEvent):
        raise ArgumentError(
            f"{shared!r} is nothing that instances share; give a SharedLock, a SharedSemaphore or "
            "a SharedEvent of its name"
        )
    return shared._key  # noqa: SLF001 - of this module  # pyright: ignore[reportPrivateUsage]  # so is it


def shared_words(key: str) -> str:
    """Return what to call the lock, semaphore or event that has a name in the store."""
    kind, _, name = key.partition(":")
    return f"the {kind} {name!r}"


def held_in(words: str) -> str | None:
    """Return which lock or semaphore `shared_words` called so, ``None`` if it is neither."""
    found = _HELD.fullmatch(words)
    return None if found is None else f"{found[1]}:{ast.literal_eval(found[2])}"
