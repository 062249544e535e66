"""How exceptions become stored facts and exceptions again.

Only :class:`Failure`, what it needs to be made and rebuilt, and :func:`matches` live here.
Nothing is ever imported, and no constructor written in Python is run, because of stored data.
"""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Iterable, Iterator
from types import GetSetDescriptorType, MemberDescriptorType, TracebackType
from typing import Any, Final, cast

import msgspec

from trioflow.errors import (
    ArgumentError,
    DefinitionError,
    DeterminismError,
    InstanceCancelled,
    InstanceTerminated,
    NonRetryable,
    NotInWorkflow,
    PayloadTooLarge,
    RemoteError,
    Retry,
    ValueMismatch,
)
from trioflow.model.plain import fits, from_plain, imported, small, to_plain

__all__ = ["FAILURE_LIMIT", "Failure", "matches", "type_name"]

FAILURE_LIMIT = 64 * 1024
"""About how many characters one failure may take, with its causes and members."""

_PERMANENT: Final = (
    NonRetryable,
    # Misuse repeats itself.
    ArgumentError,
    DefinitionError,
    DeterminismError,
    NotInWorkflow,
    PayloadTooLarge,
    ValueMismatch,
    # Somebody wanted it to end.
    InstanceCancelled,
    InstanceTerminated,
)
_CANCELLED: Final = frozenset({"trio.Cancelled", "asyncio.exceptions.CancelledError"})
_INTERNAL: Final = frozenset(
    {"anyio", "asyncio", "concurrent", "contextvars", "outcome", "threading", "trio", "trioflow"}
)
_DURING: Final = "\nDuring handling of the above exception, another exception occurred:\n\n"
_DIRECT: Final = "\n\nThe above exception was the direct cause of the following exception:\n\n"
# A coroutine cannot raise these.
_UNRAISABLE: Final = (StopIteration, StopAsyncIteration)
_MAX_DEPTH: Final = 16
# With less room than this many characters, causes and members are left out.
_LEAST: Final = 2048
# Where a rebuilt RemoteError keeps the failure it stands for.
_ORIGIN: Final = "_trioflow_failure"


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An exception as plain data.

    Attributes:
        type: The class's qualified name, ``"shop.errors.CardExpired"``; of a builtin the bare
            name, ``"ValueError"``.
        message: ``str()`` of the exception.
        args: What its constructor was given, or ``None`` where that is not plain data. Plain are
            what JSON has, and in a tagged form bytes, tuples, sets, datetimes, ``Decimal``,
            ``UUID`` and enum members.
        state: Its attributes that are plain data.
        lost: The names of its attributes that are not.
        bases: The qualified names of its base classes up to ``Exception``, exclusively.
        traceback: The traceback as text, without the frames of trioflow and trio at its top.
        cause: What it was raised ``from``.
        notes: What ``add_note()`` was given.
        members: What an exception group holds; tasks that were only cancelled are left out.
        non_retryable: It, a cause or a member of it is of a kind that is never tried again.
        retry_after: The seconds a :class:`trioflow.Retry` asked for, or ``None``.
    """

    type: str
    message: str = ""
    args: list[Any] | None = None
    state: dict[str, Any] = {}
    lost: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    traceback: str = ""
    cause: Failure | None = None
    notes: tuple[str, ...] = ()
    members: tuple[Failure, ...] = ()
    non_retryable: bool = False
    retry_after: float | None = None

    @classmethod
    def of(cls, exc: BaseException, *, limit: int = FAILURE_LIMIT) -> Failure:
        """Return ``exc`` as plain data. This never fails, whatever the exception does.

        Args:
            exc: Any exception.
            limit: About how many characters the failure may take; what does not fit is cut, or
                left out with a note that says so.
        """
        try:
            return _describe(exc, limit, 0, set())
        except Exception as error:  # noqa: BLE001 - an exception may be of any code
            return cls(type=type_name(exc.__class__), message=f"<reading it raised {error!r}>")

    def rebuild(self) -> BaseException:
        """Return a new exception that is as close to the original as can be.

        It is of the original class if that is imported in this process, derives from
        ``Exception`` and gives the same message; otherwise a :class:`trioflow.RemoteError`.
        Exception groups come back as groups. The ``__cause__`` is the original's cause, and at
        the end of the causes there is one whose message is the remote traceback.
        """
        return _rebuild(self, ())


class RemoteTraceback(Exception):
    """Shows as the first cause of a rebuilt exception: where it was raised, in another place.

    Attributes:
        text: The remote traceback, with those of the causes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def matches(failure: Failure, names: Iterable[str]) -> bool:
    """Tell whether a failure is, was caused by, or holds an exception of one of these classes.

    Args:
        failure: The failure.
        names: Qualified names of classes, as :func:`type_name` gives them. Subclasses match too;
            ``"Exception"`` and ``"BaseException"`` match everything.
    """
    wanted = frozenset(names)
    if not wanted:
        return False
    if not wanted.isdisjoint(("Exception", "BaseException")):
        return True
    return any(each.type in wanted or not wanted.isdisjoint(each.bases) for each in _all(failure))


def type_name(type: type[BaseException]) -> str:
    """Return a class's name as failures hold it: ``"shop.CardExpired"``, ``"ValueError"``."""
    if type.__module__ == "builtins":
        return type.__qualname__
    return f"{type.__module__}.{type.__qualname__}"


def _all(failure: Failure) -> Iterator[Failure]:
    yield failure
    if failure.cause is not None:
        yield from _all(failure.cause)
    for member in failure.members:
        yield from _all(member)


# --- from an exception to a failure -------------------------------------------------------------


def _describe(exc: BaseException, limit: int, depth: int, seen: set[int]) -> Failure:
    seen.add(id(exc))
    origin = vars(exc).get(_ORIGIN)
    cause, remote = exc.__cause__, ""
    if isinstance(cause, RemoteTraceback):
        remote, cause = cause.text, None
    notes = [_text(note) for note in getattr(exc, "__notes__", ())]
    if cause is not None and (id(cause) in seen or depth >= _MAX_DEPTH or limit < _LEAST):
        notes.append(f"caused by {type_name(type(cause))}, not shown here")
        cause = None
    members, left_out = _members(exc, limit // 2, depth, seen)
    notes += [left_out] if left_out else []
    if isinstance(origin, Failure):
        # It passes through here as what it was, for a process that knows its class.
        facts = msgspec.structs.asdict(origin)
    else:
        facts = _facts(exc, max(limit, _LEAST) // 8)
    facts.update(
        traceback=_middle(_traceback(exc, remote), max(limit, _LEAST) // 4),
        cause=_describe(cause, limit // 2, depth + 1, seen) if cause is not None else None,
        notes=tuple(_middle(note, max(limit, _LEAST) // 16) for note in notes[-16:]),
        members=members or facts.get("members", ()),
        non_retryable=any(map(_is_permanent, _linked(exc))),
        retry_after=_retry_after(exc),
    )
    return Failure(**facts)


def _facts(exc: BaseException, limit: int) -> dict[str, Any]:
    """Return what an exception is, without what belongs to where it was raised."""
    cls = type(exc)
    skip = {Exception, BaseException, object}
    try:
        message = _text(str(exc))
    except Exception as error:  # noqa: BLE001 - a broken __str__ must not hide the failure
        message = f"<str() of it raised {type(error).__name__}>"
    short = _middle(message, limit)
    args, attributes = _contents(exc)
    state: dict[str, Any] = {}
    lost: list[str] = []
    for name, value in attributes.items():
        try:
            state[_text(name)] = small(to_plain(value), limit)
        except Exception:  # noqa: BLE001 - values of any class, with any __len__ or __iter__
            lost.append(_text(name))
    plain_args: list[Any] | None = None
    with contextlib.suppress(Exception):
        # A group's second argument is its members, which are described by themselves.
        given = args[:1] if isinstance(exc, BaseExceptionGroup) else args
        if short == message:
            plain_args = small([to_plain(each) for each in given], limit)
    return {
        "type": type_name(cls),
        "message": short,
        "args": plain_args,
        "state": small(state, limit) if fits(state, limit) else {},
        "lost": tuple(lost) if fits(state, limit) else (*state, *lost),
        "bases": tuple(type_name(base) for base in cls.__mro__[1:] if base not in skip),
    }


def _contents(exc: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments and attributes of an exception, those kept in C and slots included."""
    args: tuple[Any, ...] = exc.args
    attributes: dict[str, Any] = {}
    with contextlib.suppress(Exception):
        # OSError and others keep a part outside of `args` and `__dict__`.
        reduced: Any = _builtin_base(type(exc)).__reduce__(exc)
        args = reduced[1]
        attributes.update(reduced[2] if len(reduced) > 2 and reduced[2] else {})  # noqa: PLR2004
    attributes.update(vars(exc))
    for cls in type(exc).__mro__:
        slots = vars(cls).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(AttributeError):
                attributes[name] = getattr(exc, name)
    # What is Python's own, as __notes__, has its own ways here or cannot be set.
    own = [name for name in attributes if name[:2] == "__" or name in ("args", _ORIGIN)]
    for name in own:
        del attributes[name]
    return args, attributes


def _members(
    exc: BaseException, limit: int, depth: int, seen: set[int]
) -> tuple[tuple[Failure, ...], str]:
    if not isinstance(exc, BaseExceptionGroup):
        return (), ""
    group = cast("BaseExceptionGroup[BaseException]", exc).exceptions
    failed = [each for each in group if type_name(type(each)) not in _CANCELLED]
    count = min(len(failed), limit // _LEAST) if depth < _MAX_DEPTH else 0
    share = limit // max(count, 1)
    shown = tuple(_describe(each, share, depth + 1, seen) for each in failed[:count])
    more = len(failed) - count
    return shown, f"{more} more exceptions in the group are not shown here" if more else ""


def _linked(exc: BaseException) -> Iterator[BaseException]:
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


def _is_permanent(exc: BaseException) -> bool:
    origin = vars(exc).get(_ORIGIN)
    return isinstance(exc, _PERMANENT) or (isinstance(origin, Failure) and origin.non_retryable)


def _retry_after(exc: BaseException) -> float | None:
    found: list[float] = []
    for each in _linked(exc):
        origin = vars(each).get(_ORIGIN)
        after = origin.retry_after if isinstance(origin, Failure) else getattr(each, "after", None)
        if isinstance(each, (Retry, RemoteError)) and after is not None and math.isfinite(after):
            found.append(max(0.0, after))
    return max(found, default=None)


def _traceback(exc: BaseException, remote: str) -> str:
    """Return the traceback of one exception without its causes, which have their own."""
    parts = [remote.rstrip(), "\n\nIt was raised on here:\n\n"] if remote else []
    context = exc.__context__
    if exc.__cause__ is None and context is not None and not exc.__suppress_context__:
        shown = traceback.TracebackException.from_exception(context, compact=True)
        parts += [*shown.format(), _DURING]
    if exc.__traceback__ is not None:
        parts.append("Traceback (most recent call last):\n")
        parts += traceback.format_tb(_without_internals(exc.__traceback__))
    try:
        parts += traceback.format_exception_only(exc)
    except Exception:  # noqa: BLE001 - it runs the exception's own code
        parts.append(type_name(type(exc)))
    return _text("".join(parts))


def _without_internals(tb: TracebackType) -> TracebackType:
    own: TracebackType | None = tb
    while own is not None:
        module = str(own.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _INTERNAL:
            return own
        own = own.tb_next
    return tb


def _text(text: object) -> str:
    """Return a string that UTF-8 can express."""
    return str(text).encode(errors="backslashreplace").decode()


def _middle(text: str, limit: int) -> str:
    """Cut the middle out of a text that is too long: both ends of a traceback matter."""
    if len(text) <= limit:
        return text
    half = max(limit // 2 - 20, 10)
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"


# --- from a failure to an exception -------------------------------------------------------------


def _rebuild(failure: Failure, later: tuple[str, ...]) -> BaseException:
    """Rebuild a failure; ``later`` are the tracebacks of what it caused, the nearest first."""
    exc = _rebuild_group(failure) if failure.members else _rebuild_class(failure)
    if exc is None:
        exc = RemoteError(failure.type, failure.message)
        vars(exc)[_ORIGIN] = failure
    notes = list(failure.notes)
    if failure.lost and type(exc) is not RemoteError:
        notes.append(f"attributes that could not be stored: {', '.join(failure.lost)}")
    if notes:
        # Not add_note() and plain assignments: a frozen dataclass would refuse them.
        vars(exc)["__notes__"] = notes
    tracebacks = (failure.traceback.rstrip(), *later)
    if failure.cause is not None:
        cause = _rebuild(failure.cause, tracebacks)
    else:
        cause = RemoteTraceback(_DIRECT.join(filter(None, tracebacks)))
    BaseException.__setattr__(exc, "__cause__", cause)
    return exc


def _rebuild_group(failure: Failure) -> BaseException:
    members = [cast("Exception", member.rebuild()) for member in failure.members]
    title = str(failure.args[0]) if failure.args else failure.message
    # BaseExceptionGroup becomes this as well: whatever it may hold was made an Exception.
    group = ExceptionGroup(title, members)
    cls = _imported_class(failure.type, ExceptionGroup)
    if cls is not None and cls is not ExceptionGroup:
        with contextlib.suppress(Exception):
            own: BaseException = BaseExceptionGroup.__new__(cls, title, members)
            _restore(own, failure.state)
            return own
    return group


def _rebuild_class(failure: Failure) -> BaseException | None:
    cls = _imported_class(failure.type, Exception)
    if cls is None or issubclass(cls, _UNRAISABLE):
        return None
    base = _builtin_base(cls)
    # Arguments that are not plain data, or read differently here as a set may, are given up before
    # the class is: it can be caught.
    for args in (failure.args, [failure.message], []):
        if args is None:
            continue
        with contextlib.suppress(Exception):
            given = from_plain(args)
            exc: BaseException = base.__new__(cls, *given)
            base.__init__(exc, *given)
            _restore(exc, failure.state)
            if type(exc) is cls and _text(str(exc)) == failure.message:
                return exc
    return None


def _imported_class(name: str, base: type[BaseException]) -> Any:
    found = imported(name)
    return found if isinstance(found, type) and issubclass(found, base) else None


def _restore(exc: BaseException, state: dict[str, Any]) -> None:
    for name, value in state.items():
        kept_in_c = getattr(type(exc), name, None)
        if isinstance(kept_in_c, (MemberDescriptorType, GetSetDescriptorType)):
            BaseException.__setattr__(exc, name, from_plain(value))
        else:
            vars(exc)[name] = from_plain(value)


def _builtin_base(cls: type[BaseException]) -> Any:
    """Return the class written in C whose layout ``cls`` has, and so whose constructor makes it."""
    heap_type = 1 << 9
    base: Any = cls
    while base.__flags__ & heap_type:
        base = base.__base__
    return base
