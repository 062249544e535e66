"""Failures: exceptions as stored data, and their rebuilding as exceptions.

Nothing is ever imported, and no constructor written in Python is run, because of stored data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, Final, cast

import msgspec

from trioflow._codec.failures.facts import (
    ORIGIN,
    builtin_base,
    count_of,
    facts_of,
    failed_in,
    leaves_of,
    linked,
    middle,
    storable,
    traceback_of,
)
from trioflow._codec.foreign import shown, suppressed
from trioflow._codec.names import canonical, imported
from trioflow._codec.names import qualified as type_name
from trioflow._codec.paths import readable
from trioflow._codec.plain import from_plain
from trioflow._codec.values import Codec, decode_as, is_plain
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
    UndecodableValue,
    ValueMismatch,
)

__all__ = ["FAILURE_LIMIT", "Failure", "holds", "matches", "type_name"]

FAILURE_LIMIT = 64 * 1024
"""About how many bytes one failure may take, with its causes and members."""

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
_DIRECT: Final = "\n\nThe above exception was the direct cause of the following exception:\n\n"
# A coroutine cannot raise these.
_UNRAISABLE: Final = (StopIteration, StopAsyncIteration)
_MAX_DEPTH: Final = 16
_MAX_LEVELS: Final = 64
# With less room than this many characters, causes are left out.
_LEAST: Final = 2048
# With less than this for each, the members of a group are shown by type and message alone,
_FULL: Final = 1024
_BRIEF: Final = 160
# and with less than this they are counted.
_LEAST_BRIEF: Final = 192


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
        sealed: All of it as a codec other than the default stored it. Then only ``type``,
            ``bases``, ``non_retryable`` and ``retry_after`` can be read beside it, also of
            ``cause`` and ``members``; :meth:`opened` gives the rest.
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
    sealed: str = ""

    @classmethod
    def of(
        cls, exc: BaseException, codec: Codec | None = None, *, limit: int = FAILURE_LIMIT
    ) -> Failure:
        """Return ``exc`` as plain data. This never fails, whatever the exception does.

        Args:
            exc: Any exception.
            codec: How values are stored. What the exception says goes through it, unless it is the
                default codec, with which all of it can be read in the store. Without one nothing
                is sealed: for exceptions that hold nothing of a user.
            limit: About how many characters the failure may take; what does not fit is cut, or
                left out with a note that says so.
        """
        try:
            failure = _describe(exc, limit, 0, 0, set())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - an exception may be of any code
            failure = cls(type=type_name(type(exc)), message=f"<reading it raised {shown(error)}>")
        return failure if codec is None or is_plain(codec) else _sealed(failure, codec)

    def rebuild(self, codec: Codec | None = None) -> BaseException:
        """Return a new exception that is as close to the original as can be.

        It is of the original class if that is imported in this process, derives from
        ``Exception`` and gives the same message; otherwise a :class:`trioflow.RemoteError`.
        Exception groups come back as groups. The ``__cause__`` is the original's cause, and at
        the end of the causes there is one whose message is the remote traceback.

        Args:
            codec: What the failure was made with. Without it a sealed one is a `RemoteError`
                that says no more than the type.

        Raises:
            UndecodableValue: ``codec`` cannot read it.
        """
        return _rebuild(self, codec, ())

    def legible(self, codec: Codec) -> Failure:
        """Return the failure as it is to be logged: sealed, if ``codec`` cannot read it."""
        with suppressed():
            return self.opened(codec)
        return self

    def opened(self, codec: Codec) -> Failure:
        """Return the failure with what ``codec`` sealed, or itself if it is all in plain.

        Raises:
            UndecodableValue: ``codec`` cannot read it.
        """
        if not self.sealed:
            return self
        what = f"what the stored {self.type} says"
        data = decode_as(codec, self.sealed.encode(), Any, what)
        try:
            return msgspec.convert(data, Failure).opened(codec)
        except msgspec.ValidationError as error:
            raise UndecodableValue(
                f"{what} cannot be read ({readable(str(error))}); was it stored by another codec?"
            ) from error


class RemoteTraceback(Exception):
    """The traceback of where an exception was first raised; the cause of the rebuilt one.

    Attributes:
        text: The remote traceback, with those of the causes.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text.rstrip()}\n"""'


def matches(failure: Failure, names: Iterable[str]) -> bool:
    """Return whether a failure, its causes or its members are of one of these classes.

    Args:
        failure: The failure.
        names: Qualified names of classes, as :func:`type_name` gives them. Subclasses match too;
            ``"Exception"`` and ``"BaseException"`` match everything.
    """
    wanted = frozenset(map(canonical, names))
    if not wanted:
        return False
    if not wanted.isdisjoint(("Exception", "BaseException")):
        return True
    return any(
        canonical(name) in wanted for each in _all(failure) for name in (each.type, *each.bases)
    )


def holds(whole: Failure, part: Failure) -> bool:
    """Return whether a failure is another one, or has it among its causes or members.

    It is told by what it says, since it may have been raised again since. Both are opened.
    """
    said = part.type, part.message, part.args
    return any((each.type, each.message, each.args) == said for each in _all(whole))


def _all(failure: Failure) -> Iterator[Failure]:
    yield failure
    if failure.cause is not None:
        yield from _all(failure.cause)
    for member in failure.members:
        yield from _all(member)


# --- from an exception to a failure -------------------------------------------------------------


def _describe(exc: BaseException, room: int, depth: int, level: int, seen: set[int]) -> Failure:
    """Describe an exception that is the ``depth``-th cause, within ``level`` groups."""
    seen.add(id(exc))
    count = count_of(exc)
    own = room // count
    # What is not shown counts all the same in what policies ask.
    hidden: list[BaseException] = []
    members, cut = _members(exc, room - own, depth, level, seen, hidden) if count > 1 else ((), [])
    brief = level > 0 and own < _FULL
    origin = vars(exc).get(ORIGIN)
    if isinstance(origin, Failure):
        # It passes through here as what it was, for a process that knows its class.
        facts = msgspec.structs.asdict(origin)
    else:
        facts = facts_of(exc, _BRIEF if brief else max(own, _LEAST) // 8)
    if brief:
        # What `except` needs, and no more.
        facts.update(state={}, lost=(), traceback="", cause=None, notes=tuple(cut))
        hidden += [] if exc.__cause__ is None else [exc.__cause__]
    else:
        facts.update(_story(exc, own, depth, level, seen, cut, hidden))
    cause: Failure | None = facts["cause"]
    shown = members if cause is None else (*members, cause)
    judged = [exc, *(each for one in hidden for each in linked(one))]
    facts.update(
        members=members or facts.get("members", ()),
        non_retryable=any(each.non_retryable for each in shown) or any(map(_is_permanent, judged)),
        retry_after=_retry_after(judged, shown),
    )
    return Failure(**facts)


def _story(  # noqa: PLR0917 - what `_describe` knows
    exc: BaseException,
    room: int,
    depth: int,
    level: int,
    seen: set[int],
    cut: list[str],
    hidden: list[BaseException],
) -> dict[str, Any]:
    """Return an exception's traceback, cause and notes."""
    cause, remote = exc.__cause__, ""
    if isinstance(cause, RemoteTraceback):
        remote, cause = cause.text, None
    notes = [storable(note) for note in getattr(exc, "__notes__", ())]
    if cause is not None and (id(cause) in seen or depth >= _MAX_DEPTH or room < _LEAST):
        notes.append(f"caused by {type_name(type(cause))}, not shown here")
        hidden.append(cause)
        cause = None
    notes = [*notes, *cut][-16 if room >= _LEAST else -4 :]
    return {
        "traceback": middle(traceback_of(exc, remote), max(room, _LEAST) // 4),
        "cause": None if cause is None else _describe(cause, room // 2, depth + 1, level, seen),
        "notes": tuple(middle(note, max(room, _LEAST) // 16) for note in notes),
    }


def _members(  # noqa: PLR0917 - what `_describe` knows
    exc: BaseException,
    room: int,
    depth: int,
    level: int,
    seen: set[int],
    hidden: list[BaseException],
) -> tuple[tuple[Failure, ...], list[str]]:
    """Describe the members of a group, and return notes on what was cut to make it fit."""
    failed, cut = failed_in(exc), list[str]()
    if level >= _MAX_LEVELS and any(isinstance(each, BaseExceptionGroup) for each in failed):
        hidden += failed
        failed = list(leaves_of(failed))
        cut.append(f"groups nested more than {_MAX_LEVELS} deep are shown here as one")
    rest = sum(map(count_of, failed))
    shown: list[Failure] = []
    left_out: list[BaseException] = []
    shortened = 0
    for each in failed:
        count = count_of(each)
        rest -= count
        # Those that come first are shown in full as long as all others can at least be named.
        share = room - rest * _LEAST_BRIEF
        if share < count * _LEAST_BRIEF:
            share = min(count * _LEAST_BRIEF, room)
        elif room < (count + rest) * _FULL:
            share = min(count * _FULL, share)
        else:
            share = room * count // (count + rest)
        if share < _LEAST_BRIEF:
            left_out.append(each)
            continue
        room -= share
        shortened += share < _FULL
        shown.append(_describe(each, share, depth, level + 1, seen))
    if shortened:
        cut.append(f"{shortened} of the group's exceptions are shown without their tracebacks")
    if left_out:
        hidden += left_out
        types = Counter(type_name(type(leaf)) for leaf in leaves_of(left_out))
        named = ", ".join(f"{number} {name}" for name, number in types.most_common(8))
        more = ", and others" if len(types) > 8 else ""  # noqa: PLR2004 - as many as are named
        cut.append(
            f"{types.total()} more exceptions in the group are not shown here: {named}{more}"
        )
    return tuple(shown), cut


def _is_permanent(exc: BaseException) -> bool:
    origin = vars(exc).get(ORIGIN)
    return isinstance(exc, _PERMANENT) or (isinstance(origin, Failure) and origin.non_retryable)


def _retry_after(judged: list[BaseException], shown: Iterable[Failure]) -> float | None:
    found = [each.retry_after for each in shown if each.retry_after is not None]
    for each in judged:
        origin = vars(each).get(ORIGIN)
        after = origin.retry_after if isinstance(origin, Failure) else getattr(each, "after", None)
        if isinstance(each, (Retry, RemoteError)) and after is not None and math.isfinite(after):
            found.append(max(0.0, after))
    return max(found, default=None)


def _sealed(failure: Failure, codec: Codec) -> Failure:
    """Encode a failure's texts and data with the codec; its type stays readable for policies."""
    try:
        text = codec.encode(msgspec.to_builtins(failure)).decode()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - rather nothing than in plain
        return msgspec.structs.replace(
            _outside(failure),
            message=f"<the codec failed to store what it says: {type(error).__name__}>",
        )
    return msgspec.structs.replace(_outside(failure), sealed=text)


def _outside(failure: Failure) -> Failure:
    return Failure(
        type=failure.type,
        bases=failure.bases,
        cause=None if failure.cause is None else _outside(failure.cause),
        members=tuple(map(_outside, failure.members)),
        non_retryable=failure.non_retryable,
        retry_after=failure.retry_after,
    )


# --- from a failure to an exception -------------------------------------------------------------


def _rebuild(failure: Failure, codec: Codec | None, later: tuple[str, ...]) -> BaseException:
    """Rebuild a failure; ``later`` are the tracebacks of what it caused, the nearest first."""
    if failure.sealed and codec is not None:
        failure = failure.opened(codec)
    exc = _rebuild_group(failure, codec) if failure.members else _rebuild_class(failure)
    if exc is None:
        exc = RemoteError(failure.type, failure.message)
        vars(exc)[ORIGIN] = failure
    notes = list(failure.notes)
    if failure.lost and type(exc) is not RemoteError:
        notes.append(f"attributes that could not be stored: {', '.join(failure.lost)}")
    if notes:
        # Not add_note() and plain assignments: a frozen dataclass would refuse them.
        vars(exc)["__notes__"] = notes
    tracebacks = (failure.traceback.rstrip(), *later)
    if failure.cause is not None:
        cause = _rebuild(failure.cause, codec, tracebacks)
    else:
        cause = RemoteTraceback(_DIRECT.join(filter(None, tracebacks)))
    BaseException.__setattr__(exc, "__cause__", cause)
    return exc


def _rebuild_group(failure: Failure, codec: Codec | None) -> BaseException:
    members = [cast("Exception", member.rebuild(codec)) for member in failure.members]
    title = str(failure.args[0]) if failure.args else failure.message
    # BaseExceptionGroup becomes this as well: whatever it may hold was made an Exception.
    group = ExceptionGroup(title, members)
    cls = _imported_class(failure.type, ExceptionGroup)
    if cls is not None and cls is not ExceptionGroup:
        with suppressed():
            own: BaseException = BaseExceptionGroup.__new__(cls, title, members)
            _restore(own, failure.state)
            if _is_usable(own, cls):
                return own
    return group


def _rebuild_class(failure: Failure) -> BaseException | None:
    cls = _imported_class(failure.type, Exception)
    if cls is None or issubclass(cls, _UNRAISABLE):
        return None
    base = builtin_base(cls)
    # Arguments that are not plain data, or read differently here as a set may, are given up before
    # the class is: it can be caught.
    for args in (failure.args, [failure.message], []):
        if args is None:
            continue
        with suppressed():
            given = from_plain(args)
            exc: BaseException = base.__new__(cls, *given)
            base.__init__(exc, *given)
            _restore(exc, failure.state)
            if _is_usable(exc, cls) and storable(str(exc)) == failure.message:
                return exc
    return None


def _imported_class(name: str, base: type[BaseException]) -> Any:
    found = imported(name)
    return found if isinstance(found, type) and issubclass(found, base) else None


def _is_usable(exc: BaseException, cls: type[BaseException]) -> bool:
    """Return whether a rebuilt exception works as others do; this may raise anything."""
    return type(exc) is exc.__class__ is cls and vars(exc) is exc.__dict__


def _restore(exc: BaseException, state: dict[str, Any]) -> None:
    for name, value in state.items():
        kept_in_c = getattr(type(exc), name, None)
        if isinstance(kept_in_c, (MemberDescriptorType, GetSetDescriptorType)):
            BaseException.__setattr__(exc, name, from_plain(value))
        else:
            vars(exc)[name] = from_plain(value)
