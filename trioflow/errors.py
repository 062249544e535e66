"""The exceptions that trioflow raises.

::

    TrioflowError
    ├── DefinitionError (TypeError)        a function that cannot be what it is declared to be
    ├── ArgumentError (TypeError)          arguments that do not fit or cannot be stored
    ├── ValueMismatch (ValueError)         a value that does not have the declared type
    │   └── UndecodableValue               what is stored cannot be read by the code as it is now
    ├── PayloadTooLarge (ValueError)       an encoded value over the limit
    ├── NotInWorkflow (RuntimeError)       something only a workflow may call, called elsewhere
    ├── DeterminismError (RuntimeError)    a workflow did what cannot be repeated on replay
    ├── IncompatibleCode                   running instances do not fit the code of a worker
    ├── UnknownDefinition (LookupError)    no workflow or activity of that name is registered
    ├── ActivityTimeout (TimeoutError)     an attempt, or all attempts, took too long
    ├── WorkerLost                         workers died in attempts of it, up to the last one
    ├── NonRetryable                       raised by an activity or a child: do not try again
    ├── Retry                              raised by an activity: try again, after this long
    ├── UnreadSignals                      a workflow returned without receiving its signals
    ├── RemoteError                        a failure whose class cannot be rebuilt here
    ├── ClientClosed (RuntimeError)        a client was used, or waited, after its block was left
    ├── InstanceError
    │   ├── InstanceNotFound (LookupError)
    │   ├── InstanceAlreadyExists
    │   ├── InstanceFinished               it can no longer be signalled, cancelled, …
    │   ├── InstanceNotFinished            it cannot be removed yet
    │   ├── InstanceCancelled
    │   ├── InstanceTerminated
    │   ├── NoWorkerAnswered (TimeoutError)  a query was not answered in time
    │   ├── QueryNotHandled (LookupError)    the workflow has no handler for a query
    │   └── InstanceSuspended              its code no longer matches its history
    └── BackendError
        ├── BackendUnavailable             the store cannot be reached, or refuses to write
        ├── SchemaError                    the store's schema is newer than this code, or not ours
        ├── CorruptStore                   what is stored cannot be read
        ├── DataRefused                    the store does not take these data, now or ever
        ├── StoreFenced                    the store takes part in a move; says where to look
        ├── TransactionRefused             the store cannot work in the caller's transaction
        └── LeaseLost                      this worker's lease expired; others have its work

Two more derive from ``BaseException``, because they are control flow that ``except Exception``
must not stop: :class:`Evicted` and :class:`ContinueAsNew`. Workflow code neither raises nor
catches them itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = [
    "ActivityTimeout",
    "ArgumentError",
    "BackendError",
    "BackendUnavailable",
    "ClientClosed",
    "ContinueAsNew",
    "CorruptStore",
    "DataRefused",
    "DefinitionError",
    "DeterminismError",
    "Evicted",
    "IncompatibleCode",
    "InstanceAlreadyExists",
    "InstanceCancelled",
    "InstanceError",
    "InstanceFinished",
    "InstanceNotFinished",
    "InstanceNotFound",
    "InstanceSuspended",
    "InstanceTerminated",
    "LeaseLost",
    "NoWorkerAnswered",
    "NonRetryable",
    "NotInWorkflow",
    "PayloadTooLarge",
    "QueryNotHandled",
    "RemoteError",
    "Retry",
    "SchemaError",
    "StoreFenced",
    "TransactionRefused",
    "TrioflowError",
    "UndecodableValue",
    "UnknownDefinition",
    "UnreadSignals",
    "ValueMismatch",
    "WorkerLost",
]


class TrioflowError(Exception):
    """The root of all errors that trioflow raises."""


class DefinitionError(TrioflowError, TypeError):
    """A function was decorated that cannot be a workflow or an activity, or a name is taken."""


class ArgumentError(TrioflowError, TypeError):
    """The arguments of a call do not fit the signature, or cannot be stored. Nothing was stored."""


class ValueMismatch(TrioflowError, ValueError):
    """A value does not have the type that its declaration asks for; the message names the path."""


class UndecodableValue(ValueMismatch):
    """What is stored cannot be read by the code and the codec as they are now.

    It is not lost: with the code or the codec that it was stored with, it can be read again.
    """


class PayloadTooLarge(TrioflowError, ValueError):
    """An encoded value is larger than the limit. Nothing was stored."""


class NotInWorkflow(TrioflowError, RuntimeError):
    """Something that only makes sense inside a workflow was called outside of one."""


class DeterminismError(TrioflowError, RuntimeError):
    """A workflow called something whose outcome cannot be repeated on replay.

    The message names the line and what to call instead.
    """


class IncompatibleCode(TrioflowError):
    """A worker with ``check="refuse"`` has code that does not fit instances that are running."""


class UnknownDefinition(TrioflowError, LookupError):
    """No workflow or activity of that name is registered in this process."""


class ActivityTimeout(TrioflowError, TimeoutError):
    """An attempt took longer than ``timeout``, or all of them longer than ``schedule_timeout``."""


class WorkerLost(TrioflowError):
    """The last attempt of an activity failed because its worker died.

    The ``__cause__`` is the last failure of an attempt whose worker lived, if there was one.
    """


class NonRetryable(TrioflowError):
    """Raise this, a subclass, or this ``from`` an error, and no further attempt is made."""


class Retry(TrioflowError):
    """Raise this in an activity to have it tried again after a delay of your choice.

    Attributes:
        after: Seconds until the next attempt; it takes the place of the policy's interval.

    Raises:
        TypeError: ``after`` is no number.
    """

    def __init__(self, message: str = "retry requested", *, after: float) -> None:
        super().__init__(message)
        given: object = after
        if not hasattr(given, "__float__"):
            hint = "; give its .total_seconds()" if hasattr(given, "total_seconds") else ""
            raise TypeError(f"Retry(after=...) is in seconds, a number, not {given!r}{hint}")
        self.after = float(after)


class UnreadSignals(TrioflowError):
    """A workflow with ``unread="fail"`` returned without receiving all its signals."""


class RemoteError(TrioflowError):
    """A failure whose class is not imported in this process, or cannot be rebuilt from plain data.

    Attributes:
        type: The qualified name of the original class, for example ``"shop.errors.CardExpired"``.
        remote_message: ``str()`` of the original exception.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.remote_message = message


class ClientClosed(TrioflowError, RuntimeError):
    """The block of ``open_client`` or ``open_worker`` was left, and the client with it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(
            message
            or "the client is closed: the block of its open_client() or open_worker() was left; "
            "ask within the block, or open another client"
        )


class InstanceError(TrioflowError):
    """Something about one instance.

    Attributes:
        instance: The instance's id.
        reason: What the person or program that caused it said about it, or ``None``.
    """

    _text = "instance {instance!r}"

    def __init__(self, instance: str, reason: str | None = None) -> None:
        text = self._text.format(instance=instance)
        super().__init__(f"{text}: {reason}" if reason else text)
        self.instance = instance
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.instance, self.reason))


class InstanceNotFound(InstanceError, LookupError):
    """There is no instance of that id in the store."""

    _text = "there is no instance {instance!r}"


class InstanceAlreadyExists(InstanceError):
    """There is an instance of that id; see ``if_exists`` and ``reuse_finished`` of `Workflow`."""

    _text = "there is already an instance {instance!r}"


class InstanceFinished(InstanceError):
    """The instance has finished and cannot receive anything any more."""

    _text = "instance {instance!r} has already finished"


class InstanceNotFinished(InstanceError):
    """The instance is still running and cannot be removed; cancel or terminate it first."""

    _text = "instance {instance!r} has not finished"


class InstanceCancelled(InstanceError):
    """The instance was cancelled and ended because of that."""

    _text = "instance {instance!r} was cancelled"


class InstanceTerminated(InstanceError):
    """The instance was ended from outside, without being asked."""

    _text = "instance {instance!r} was terminated"


class NoWorkerAnswered(InstanceError, TimeoutError):
    """A query was not answered in time: no worker could, or the one that had it was too slow."""

    _text = "no worker has answered a query of instance {instance!r}"


class QueryNotHandled(InstanceError, LookupError):
    """The workflow has no handler for a query; the message names those that it has."""

    _text = "instance {instance!r} has no handler for the query"


class InstanceSuspended(InstanceError):
    """The instance cannot go on until its code matches its history again; see ``describe()``.

    A query raises it also of one that still runs, if the worker that was asked cannot replay it.

    Attributes:
        running: Whether it still runs, and that worker would suspend it with its next turn.
    """

    _text = "instance {instance!r} is suspended"

    def __init__(self, instance: str, reason: str | None = None, *, running: bool = False) -> None:
        if running:
            self._text = (
                "instance {instance!r} still runs, and the worker that was asked would suspend it"
            )
        super().__init__(instance, reason)
        self.running = running

    def __reduce__(self) -> tuple[Any, ...]:
        return (partial(type(self), running=self.running), (self.instance, self.reason))


class BackendError(TrioflowError):
    """Something is wrong with the store."""


class BackendUnavailable(BackendError):
    """The store cannot be reached, is locked, read-only or full. Nothing was stored."""


class SchemaError(BackendError):
    """The store's schema was made by a newer trioflow, or by something else."""


class CorruptStore(BackendError):
    """What is stored cannot be read as what it should be."""


class DataRefused(BackendError):
    """The store does not take what it was given: a character, a length, a size. Nothing was stored.

    To try again is of no use.
    """


class StoreFenced(BackendError):
    """The store is closed, since what it holds is moved to or from another one.

    Nothing was stored. The message says where to look.
    """


class TransactionRefused(BackendError):
    """The store cannot do anything in the transaction that it was given. Nothing was done."""


class LeaseLost(BackendError):
    """This worker's lease expired and its work was given to others; nothing was stored."""


class Evicted(BaseException):
    """Unwinds a workflow that is removed from memory. Its instance goes on elsewhere."""


class ContinueAsNew(BaseException):
    """Ends an execution of a workflow and carries the input of the next.

    Attributes:
        input: The next execution's arguments in their stored form.
        encode: Gives them once more, when handlers of updates that still ran have ended: they may
            have changed what the arguments refer to. ``None`` if there are no handlers.
    """

    def __init__(self, input: bytes, encode: Callable[[], bytes] | None = None) -> None:
        super().__init__("the workflow continues as a new execution")
        self.input = input
        self.encode = encode
