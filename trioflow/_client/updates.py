"""Updates, seen from outside: the request and its answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from trioflow._client.answers import Ended
from trioflow._client.description import decode_outcome, decode_report
from trioflow._client.messages import message_name
from trioflow._client.native_cancel import raises_native_cancels
from trioflow._client.waiting import TAKEN_SINCE
from trioflow._codec.values import Codec, decode_as, encode_checked, open_text
from trioflow._model.events import NO_VALUE, UpdateRequested, encode_event
from trioflow._model.turns import Cancelled, Completed, Failed
from trioflow._model.updates import NO_ARGUMENT, Update
from trioflow.backends.records import InstanceRecord, RequestKey
from trioflow.errors import (
    ArgumentError,
    CorruptStore,
    InstanceCancelled,
    InstanceFinished,
    InstanceNotFound,
    InstanceSuspended,
)

if TYPE_CHECKING:
    from trioflow._client.client import Client

__all__ = ["NOTHING", "UpdateHandle", "update_event"]

R = TypeVar("R")

NOTHING: Any = object()
"""Stands for an argument that was not given."""


class UpdateHandle(Generic[R]):
    """A request that was made of an instance, and is stored.

    Attributes:
        id: The request's id. Asked again under it, the instance does nothing and gives the same
            answer.
        instance: The instance's id.
    """

    def __init__(self, client: Client, key: RequestKey, update: Update[..., Any] | str) -> None:
        self.id = key.id
        self.instance = key.instance
        self._client = client
        self._key = key
        self._update = update

    def __repr__(self) -> str:
        return f"<Handle of update {self.id!r} of instance {self.instance!r}>"

    @raises_native_cancels
    async def result(self, *, wait_suspended: bool = True) -> R:
        """Wait for the answer and return it, or raise why there will be none.

        Args:
            wait_suspended: False raises as soon as the instance is suspended, instead of waiting
                until it is resumed.

        Raises:
            InstanceFinished: The instance has returned, or failed (then the failure is the cause),
                and has not answered.
            InstanceCancelled: It was cancelled before it has answered.
            InstanceTerminated: It was terminated before.
            InstanceNotFound: It was removed, or another one has taken its id, before.
            InstanceSuspended: It is suspended, and ``wait_suspended`` is false.
            ValueMismatch: The answer does not have the declared type.
            ClientClosed: The client was closed, perhaps while this waited.
            Exception: What the handler or its validator raised, as for `Handle.result`.
        """
        answer = await self._client.answers.wait(self._key, wait_suspended=wait_suspended)
        if isinstance(answer, Ended):
            raise self._unanswered(answer.record)
        codec, name = self._client.codec, _name_of(self._update)
        match _read(answer, self.instance):
            case Completed() as completed:
                type_ = self._update.result if isinstance(self._update, Update) else Any
                what = f"the answer to update {name!r} of instance {self.instance!r}"
                return cast("R", decode_as(codec, bytes(completed.result), type_, what))
            case Failed() as failed:
                error = failed.failure.rebuild(codec)
                error.add_note(f"raised by update {name!r} of instance {self.instance!r}")
                raise error
            case other:
                raise AssertionError(f"update {self.id!r} was answered with {other!r}")

    def _unanswered(self, record: InstanceRecord | None) -> BaseException:
        """Say why an instance will not answer."""
        id, codec, name = self.instance, self._client.codec, _name_of(self._update)
        unanswered = f"it has not answered update {name!r}"
        if record is None:
            return InstanceNotFound(id, f"{unanswered}: it was removed, or {TAKEN_SINCE}")
        if record.status == "suspended":
            report = decode_report(record.outcome)
            return InstanceSuspended(id, report.message)
        match _read(record.outcome, id):
            case Cancelled() as cancelled:
                return InstanceCancelled(id, open_text(codec, cancelled.reason))
            case Failed() as failed if record.status == "terminated":
                return failed.failure.rebuild(codec)
            case Failed() as failed:
                error = InstanceFinished(id, f"{unanswered}, and has failed")
                error.__cause__ = failed.failure.rebuild(codec)
                return error
            case _:
                return InstanceFinished(
                    id, f"{unanswered}; does the workflow set a handler of that name?"
                )


def update_event(
    codec: Codec, update: Update[..., Any] | str, value: object, id: str
) -> tuple[bytes, str]:
    """Return the event of a request in its stored form, and the request's id.

    Args:
        codec: How values are stored.
        update: Which update, or its name.
        value: Its argument, or `NOTHING`.
        id: The request's id if the update has none.

    Raises:
        ValueMismatch: The argument is not of the update's type.
        ArgumentError: It has no argument and is given one, or has one that is not given; or what
            is given as an update is no name that a store takes.
    """
    name, type_ = _name_of(update), Any
    if isinstance(update, Update):
        id, type_ = update.id or id, update.argument
        if value is NOTHING and type_ is not NO_ARGUMENT:
            raise ArgumentError(f"update {name!r} has an argument: update({name}, value)")
        if value is not NOTHING and type_ is NO_ARGUMENT:
            raise ArgumentError(f"update {name!r} has no argument, and was given {value!r}")
    data = NO_VALUE
    if value is not NOTHING:
        what = f"the argument of update {name!r}"
        data = msgspec.Raw(encode_checked(codec, value, type_, what))
    return encode_event(UpdateRequested(id, name, data)), id


def _name_of(update: Update[..., Any] | str) -> str:
    return update.name if isinstance(update, Update) else message_name(update, "update")


def _read(data: bytes, instance: str) -> object:
    try:
        return decode_outcome(data)
    except msgspec.MsgspecError as exc:
        raise CorruptStore(
            f"what is stored of an answer, or the end, of instance {instance!r} cannot be read: "
            f"{exc}"
        ) from exc
