"""What is done to one instance."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from trioflow import (
    Handle,
    InstanceError,
    InstanceNotFound,
    RemoteError,
    TrioflowError,
    Update,
)
from trioflow._codec.limits import NAME_LENGTH
from trioflow.backends.records import ENDED, InstanceRecord, Status
from trioflow.web._acting.forms import (
    REASON,
    Answer,
    Field,
    Given,
    Sheet,
    both,
    given_of,
    refusal,
    show,
    to,
)
from trioflow.web._acting.signals import known_signals, signal_given, unchecked
from trioflow.web._site import Site, url

__all__ = ["ACTIONS", "Action", "routes"]

_PATIENCE: Final = 10.0  # seconds for which a page waits for a worker
_OPEN: Final[tuple[Status, ...]] = ("running", "suspended")
_ANY: Final[tuple[Status, ...]] = (*_OPEN, *ENDED)

_Act = Callable[[Handle[Any], Given], Awaitable["Said | None"]]


@dataclass(frozen=True, slots=True)
class Said:
    """What an instance, or the store, has answered."""

    text: str
    value: Any = None
    has_value: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """Something that is done to an instance.

    Attributes:
        name: Its name in addresses and in the log.
        label: What its button says.
        does: What will happen.
        act: Does it.
        when: For which statuses it is of use.
        fields: What can be said about it.
        destroys: Whether it cannot be taken back.
    """

    name: str
    label: str
    does: str
    act: _Act
    when: Sequence[Status]
    fields: Sequence[Field] = ()
    destroys: bool = False


async def _signal(handle: Handle[Any], given: Given) -> None:
    which, value = signal_given(given)
    await handle.signal(which, value)


async def _update(handle: Handle[Any], given: Given) -> Said:
    value = given.value("value")
    anything: Any = Any
    plain: Any = Update(given.text("name"), argument=anything) if value else None
    asked = (plain or Update(given.text("name"))).options(id=f"{given.by}, {secrets.token_hex(6)}")
    begun = await handle.start_update(asked, *value)
    answer = await _answer(lambda: begun.result(wait_suspended=False))
    return answer or Said(
        f"The request is stored. It was not answered within {_PATIENCE:.0f} seconds; it will be "
        "when a worker comes to it."
    )


async def _query(handle: Handle[Any], given: Given) -> Said:
    value = given.value("value")
    name = given.text("name")
    answer = await _answer(lambda: handle.query(name, *value, timeout=_PATIENCE))
    return answer or Said("No worker has answered.", failed=True)


async def _answer(ask: Callable[[], Awaitable[Any]]) -> Said | None:
    """Wait for an answer; ``None`` if it takes too long.

    What the code of the instance has raised is an answer, too.
    """
    with anyio.move_on_after(_PATIENCE + 1):
        try:
            value = await ask()
        except RemoteError as error:
            return Said(str(error), failed=True)
        except TrioflowError:
            raise
        except Exception as error:  # noqa: BLE001 - of any class
            return Said(f"{type(error).__name__}: {error}", failed=True)
        return Said("", value, has_value=True)
    return None


async def _cancel(handle: Handle[Any], given: Given) -> None:
    await handle.cancel(given.reason())


async def _terminate(handle: Handle[Any], given: Given) -> None:
    await handle.terminate(given.reason())


async def _pause(handle: Handle[Any], given: Given) -> None:
    await handle.pause(given.reason())


async def _resume(handle: Handle[Any], given: Given) -> None:
    await handle.resume(without=given.text("without") or None)


async def _reset(handle: Handle[Any], given: Given) -> None:
    await handle.reset(given.number("turn"), reason=given.reason())


async def _retry(handle: Handle[Any], given: Given) -> Said | None:
    if await handle.retry_now(given.text("activity") or None):
        return None
    return Said("No attempt of an activity was waiting, so nothing was done.", failed=True)


async def _remove(handle: Handle[Any], _given: Given) -> None:
    await handle.remove()


_NAME: Final = Field(name="name", label="Name", required=True, longest=NAME_LENGTH)
_VALUE: Final = Field(
    name="value", label="Value", kind="long", help="JSON, or a text that is no JSON."
)

ACTIONS: Final = {
    each.name: each
    for each in (
        Action(
            name="signal",
            label="Signal",
            does="Puts a signal into its inbox. Without a value, null is sent.",
            act=_signal,
            when=_OPEN,
            fields=(_NAME, _VALUE),
        ),
        Action(
            name="update",
            label="Update",
            does="Asks it for something that may change it, and waits for the answer.",
            act=_update,
            when=_OPEN,
            fields=(_NAME, _VALUE),
        ),
        Action(
            name="query",
            label="Query",
            does="Asks it what it knows. Nothing is changed. A worker answers.",
            act=_query,
            when=_ANY,
            fields=(_NAME, _VALUE),
        ),
        Action(
            name="pause",
            label="Pause",
            does="Suspends it until it is resumed. Its activities that run go on, and so do its "
            "sub-workflows. Deadlines are not moved.",
            act=_pause,
            when=("running",),
            fields=(REASON,),
        ),
        Action(
            name="resume",
            label="Resume",
            does="Lets it try again, with the code that the workers have now.",
            act=_resume,
            when=("suspended",),
            fields=(
                Field(
                    name="without",
                    label="Without the signal",
                    help="Drops the unread signals of this name for good: for one that the code "
                    "cannot read, and that would suspend it again. Empty for none.",
                    longest=NAME_LENGTH,
                ),
            ),
        ),
        Action(
            name="retry",
            label="Retry now",
            does="Begins the next attempts of activities that have failed at once, instead of "
            "waiting. Attempts are counted as before.",
            act=_retry,
            when=_OPEN,
            fields=(
                Field(
                    name="activity",
                    label="Activity",
                    help="Only those of this name; empty for all.",
                    longest=NAME_LENGTH,
                ),
            ),
        ),
        Action(
            name="reset",
            label="Reset",
            does="Lets it go on from before a turn of its history, with the code that the workers "
            "have now. What the dropped turns have begun is cancelled. What they have done "
            "elsewhere is done, and may be done again.",
            act=_reset,
            when=_ANY,
            fields=(
                Field(
                    name="turn",
                    label="First turn to drop",
                    kind="number",
                    help="Counted from 0, as the history shows them. Empty for the one in which "
                    "it failed, or which does not fit its code.",
                ),
                REASON,
            ),
            destroys=True,
        ),
        Action(
            name="cancel",
            label="Cancel",
            does="Asks it to end. Its code cleans up, and may take its time.",
            act=_cancel,
            when=_OPEN,
            fields=(REASON,),
            destroys=True,
        ),
        Action(
            name="terminate",
            label="Terminate",
            does="Ends it and its sub-workflows at once. Its code is not asked, so nothing is "
            "cleaned up.",
            act=_terminate,
            when=_OPEN,
            fields=(REASON,),
            destroys=True,
        ),
        Action(
            name="remove",
            label="Remove",
            does="Removes it from the store, with its history. Nothing is left of it.",
            act=_remove,
            when=ENDED,
            destroys=True,
        ),
    )
}
"""By name, in the order of their buttons."""


def routes(site: Site) -> list[BaseRoute]:
    """Return the routes of what is done to one instance."""
    return both(site, "/instances/{id:trioflow_id}/do/{action}", "act", _look, _do)


async def _look(site: Site, request: Request) -> Response:
    action, record = await _meant(site, request)
    return show(site, request, _sheet(request, action, record), given=given_of(request))


async def _do(site: Site, request: Request) -> Response:
    action, record = await _meant(site, request)
    given = given_of(request)
    sheet = _sheet(request, action, record)
    if action.destroys and not given.sure:
        return show(site, request, sheet, given=given)
    given.signals = known_signals(site, [record.workflow])
    # The form was made for one instance, and another one may have taken its id since.
    handle: Handle[Any] = Handle(
        site.client, record.id, None, life=given.text("life") or record.life
    )
    try:
        said = await action.act(handle, given)
    except (TrioflowError, ValueError, TypeError) as error:
        if isinstance(error, InstanceNotFound):
            raise
        text, status = refusal(error)
        if isinstance(error, InstanceError):
            given.log(action.name, f"instance {record.id!r}, refused", instance=record.id)
        sheet = unchecked(sheet, error)
        return show(site, request, sheet, given=given, said=text, status=status)
    given.log(
        action.name,
        f"instance {record.id!r}",
        instance=record.id,
    )
    if said is not None:
        answer = Answer(
            title=sheet.title,
            says=(said.text,) if said.text else (),
            back=sheet.back,
            value=said.value,
            has_value=said.has_value,
            failed=said.failed,
        )
        return show(site, request, answer)
    if action.name == "remove":
        return to(url(request, "instances", {"did": action.name}))
    return to(url(request, "instance", {"did": action.name}, id=record.id))


async def _meant(site: Site, request: Request) -> tuple[Action, InstanceRecord]:
    action = ACTIONS.get(request.path_params["action"])
    if action is None:
        raise HTTPException(404, "There is no such action.")
    id: str = site.client.handle(request.path_params["id"]).id
    record = await site.client.backend.get(id)
    if record is None:
        raise InstanceNotFound(id)
    return action, record


def _sheet(request: Request, action: Action, record: InstanceRecord) -> Sheet:
    says = [action.does]
    if record.status not in action.when:
        says.append(f"It is {record.status}, so there will be nothing to do.")
    return Sheet(
        title=f"{action.label} {record.id}",
        says=says,
        button=action.label,
        action=url(request, "act", id=record.id, action=action.name),
        back=url(request, "instance", id=record.id),
        fields=action.fields,
        hidden={"life": record.life, "sure": "yes"},
        destroys=action.destroys,
    )
