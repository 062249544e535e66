"""Exceptions as plain data: reading them, for `trioflow._codec.failures.failures`.

Only functions of one exception live here; causes and members have failures of their own.
"""

from __future__ import annotations

import traceback
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Final, cast

from trioflow._codec.foreign import suppressed
from trioflow._codec.names import qualified
from trioflow._codec.plain import fits, small, to_plain

__all__ = [
    "ORIGIN",
    "builtin_base",
    "count_of",
    "facts_of",
    "failed_in",
    "leaves_of",
    "linked",
    "middle",
    "storable",
    "traceback_of",
]

ORIGIN: Final = "_trioflow_failure"
"""Where a rebuilt RemoteError keeps the failure it stands for."""

_CANCELLED: Final = frozenset({"trio.Cancelled", "asyncio.exceptions.CancelledError"})
_INTERNAL: Final = frozenset(
    {"anyio", "asyncio", "concurrent", "contextvars", "outcome", "threading", "trio", "trioflow"}
)
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"


def facts_of(exc: BaseException, limit: int) -> dict[str, Any]:
    """Return an exception's type, arguments and state as plain data."""
    cls = type(exc)
    skip = {Exception, BaseException, object}
    try:
        message = storable(str(exc))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - a broken __str__ must not hide the failure
        message = f"<str() of it raised {type(error).__name__}>"
    short = middle(message, limit)
    args, attributes = _contents(exc)
    state: dict[str, Any] = {}
    lost: list[str] = []
    for name, value in attributes.items():
        try:
            state[storable(name)] = small(to_plain(value), limit)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - values of any class, with any __len__ or __iter__
            lost.append(storable(name))
    plain_args: list[Any] | None = None
    with suppressed():
        # A group's second argument is its members, which are described by themselves.
        given = args[:1] if isinstance(exc, BaseExceptionGroup) else args
        if short == message:
            plain_args = small([to_plain(each) for each in given], limit)
    return {
        "type": qualified(cls),
        "message": short,
        "args": plain_args,
        "state": small(state, limit) if fits(state, limit) else {},
        "lost": tuple(lost) if fits(state, limit) else (*state, *lost),
        "bases": tuple(qualified(base) for base in cls.__mro__[1:] if base not in skip),
    }


def _contents(exc: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments and attributes of an exception, those kept in C and slots included."""
    args: tuple[Any, ...] = exc.args
    attributes: dict[str, Any] = {}
    with suppressed():
        # OSError and others keep a part outside of `args` and `__dict__`.
        reduced: Any = builtin_base(type(exc)).__reduce__(exc)
        args = reduced[1]
        attributes.update(reduced[2] if len(reduced) > 2 and reduced[2] else {})  # noqa: PLR2004
    attributes.update(vars(exc))
    for cls in type(exc).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with suppressed():
                attributes[name] = getattr(exc, name)
    # What is Python's own, as __notes__, has its own ways here or cannot be set.
    own = [name for name in attributes if name[:2] == "__" or name in ("args", ORIGIN)]
    for name in own:
        del attributes[name]
    return args, attributes


def failed_in(exc: BaseException) -> list[BaseException]:
    """Return the members of a group, without those that are only cancellations."""
    if not isinstance(exc, BaseExceptionGroup):
        return []
    group = cast("BaseExceptionGroup[BaseException]", exc).exceptions
    return [each for each in group if qualified(type(each)) not in _CANCELLED]


def leaves_of(exceptions: Iterable[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions that are no groups, among these and in their groups."""
    queue = deque(exceptions)
    while queue:
        each = queue.popleft()
        if isinstance(each, BaseExceptionGroup):
            queue.extendleft(reversed(failed_in(cast("BaseException", each))))
        else:
            yield each


def count_of(exc: BaseException) -> int:
    """Count the exceptions in an exception, itself and groups included."""
    count = 0
    queue = [exc]
    while queue:
        count += 1
        queue.extend(failed_in(queue.pop()))
    return count


def linked(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes and members, and theirs, each once."""
    seen: set[int] = set()
    queue: list[BaseException] = [exc]
    while queue:
        each = queue.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if each.__cause__ is not None:
            queue.append(each.__cause__)
        if isinstance(each, BaseExceptionGroup):
            queue.extend(cast("BaseExceptionGroup[BaseException]", each).exceptions)


def traceback_of(exc: BaseException, remote: str) -> str:
    """Return the traceback of one exception without its causes, which have their own."""
    parts = [remote.rstrip(), "\n\nIt was raised again here:\n\n"] if remote else []
    context = exc.__context__
    if exc.__cause__ is None and context is not None and not exc.__suppress_context__:
        shown = traceback.TracebackException.from_exception(context, compact=True)
        parts += [*shown.format(), _DURING]
    if exc.__traceback__ is not None:
        parts.append("Traceback (most recent call last):\n")
        parts += traceback.format_tb(_without_internals(exc.__traceback__))
    try:
        if _is_group(exc):
            # The function below would look at all that the group holds.
            parts.append(f"{qualified(type(exc))}: {exc}\n")
        else:
            parts += traceback.format_exception_only(exc)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - it runs the exception's own code
        parts.append(qualified(type(exc)))
    return storable("".join(parts))


def _is_group(exc: BaseException) -> bool:
    return isinstance(exc, BaseExceptionGroup)


def _without_internals(tb: TracebackType) -> TracebackType:
    own: TracebackType | None = tb
    while own is not None:
        module = str(own.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _INTERNAL:
            return own
        own = own.tb_next
    return tb


def storable(text: object) -> str:
    """Replace half surrogate pairs, which UTF-8 cannot express."""
    return str(text).encode(errors="backslashreplace").decode()


def middle(text: str, limit: int) -> str:
    """Cut the middle out of a text that is too long: both ends of a traceback matter."""
    if len(text) <= limit:
        return text
    half = max(limit // 2 - 20, 10)
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


def builtin_base(cls: type[BaseException]) -> Any:
    """Return the class written in C whose layout ``cls`` has, and so whose constructor makes it."""
    heap_type = 1 << 9
    base: Any = cls
    while base.__flags__ & heap_type:
        base = base.__base__
    return base
