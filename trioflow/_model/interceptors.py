"""Interceptors: code of the user's around calls of workflows, of activities, and of clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec

__all__ = ["Call", "Interceptor", "Proceed", "around", "check_interceptors", "those_around"]

Proceed: TypeAlias = Callable[[], Awaitable[Any]]
"""Makes the call that an interceptor is around; to be called once at most."""

_Kind: TypeAlias = Literal["workflow", "activity", "client"]
_KINDS: Final[tuple[_Kind, ...]] = ("workflow", "activity", "client")


class Call(msgspec.Struct, frozen=True):
    """A call that an interceptor is around.

    Attributes:
        name: The name of the workflow or of the activity; of a client's call that of the method:
            ``"start"``, ``"signal"``, …
        instance: The instance's id; of a client's call that of the handle, or ``None`` if it is
            made of no handle.
        args: The arguments.
        kwargs: The keyword arguments.
    """

    name: str
    instance: str | None
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Interceptor:
    """Is around calls: a subclass overrides the methods for the kinds of calls that it is for.

    Each awaits ``proceed()``, which makes the call, and returns what that returned. It may do
    something before and after, return something else, raise, or not proceed at all. Of several
    interceptors the first one is the outermost.
    """

    async def workflow(self, call: Call, proceed: Proceed) -> Any:
        """Be around the function of a workflow, from its first turn to its last.

        This is code of a workflow: it runs again on each replay, may do what a workflow may do, and
        nothing else. The calls that it makes are commands of the workflow's main task, so a change
        of them is a change of all workflows.
        """
        del call
        return await proceed()

    async def activity(self, call: Call, proceed: Proceed) -> Any:
        """Be around one attempt of an activity, in the worker's event loop.

        ``activity_info()`` says which. The attempt's limits of time and its cancel hold for this
        too. A value that it returns must be of the activity's type, and an error is the attempt's.

        A transactional activity commits its own result: here ``proceed()`` must be awaited, gives
        ``None``, and what comes after it changes nothing.
        """
        del call
        return await proceed()

    async def client(self, call: Call, proceed: Proceed) -> Any:
        """Be around a call of a client, or of one of its handles.

        Those that a call makes in its turn are not intercepted, but ``run()`` is a ``start`` and
        then a ``result``.
        """
        del call
        return await proceed()


def those_around(interceptors: Sequence[Interceptor], kind: _Kind) -> tuple[Interceptor, ...]:
    """Return the interceptors that are for that kind of calls.

    Raises:
        TypeError: One of them is no interceptor.
    """
    check_interceptors(interceptors)
    of_nothing = getattr(Interceptor, kind)
    return tuple(one for one in interceptors if getattr(type(one), kind) is not of_nothing)


def check_interceptors(interceptors: object) -> None:
    """Check what was given as interceptors.

    Raises:
        TypeError: They are no sequence, or one of them is none, or is around nothing.
    """
    if not isinstance(interceptors, Sequence) or isinstance(interceptors, str):
        raise TypeError(
            "interceptors: a sequence of them is needed, interceptors=[…] or (), not "
            f"{interceptors!r}"
        )
    for one in cast("Sequence[object]", interceptors):
        if not isinstance(one, Interceptor):
            raise TypeError(
                "interceptors: an object of a subclass of trioflow.Interceptor is needed, not "
                f"{one!r}"
            )
        if all(getattr(type(one), kind) is getattr(Interceptor, kind) for kind in _KINDS):
            own = [name for name in vars(type(one)) if not name.startswith("_")]
            named = f"it has {', '.join(own)}" if own else "it has none"
            raise TypeError(
                f"interceptors: {one!r} is around nothing, since its class overrides none of the "
                f"methods {', '.join(_KINDS)}; {named}"
            )


def around(
    interceptors: Sequence[Interceptor], kind: _Kind, call: Call, proceed: Proceed
) -> Awaitable[Any]:
    """Make a call with interceptors around it; with the first one outermost."""
    for one in reversed(interceptors):
        proceed = partial(getattr(one, kind), call, _Once(one, proceed))
    return proceed()


class _Once:
    """What an interceptor is given to proceed."""

    def __init__(self, interceptor: Interceptor, proceed: Proceed) -> None:
        self._interceptor = interceptor
        self._proceed: Proceed | None = proceed

    def __call__(self, *args: object, **kwargs: object) -> Awaitable[Any]:
        """Proceed.

        Raises:
            TypeError: It was given arguments.
            RuntimeError: It was called before.
        """
        if args or kwargs:
            raise TypeError(
                f"{type(self._interceptor).__name__} has given arguments to proceed(), which takes "
                "none: it makes the call that `call` shows, as it is"
            )
        proceed, self._proceed = self._proceed, None
        if proceed is None:
            raise RuntimeError(
                f"{type(self._interceptor).__name__} has called proceed() before; a call is made "
                "only once"
            )
        return proceed()
