"""The forms of all actions: their fields, who sent them, and the pages that show them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from starlette.datastructures import ImmutableMultiDict
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from trioflow import BackendUnavailable, InstanceNotFound, Signal, TrioflowError
from trioflow._client.texts import json_or_text
from trioflow._codec.limits import REASON_LENGTH
from trioflow.web._security.guard import form_of
from trioflow.web._site import Site, answered, page

__all__ = [
    "REASON",
    "Answer",
    "Field",
    "Given",
    "Sheet",
    "both",
    "given_of",
    "refusal",
    "show",
    "to",
]

_log = logging.getLogger("trioflow.web")


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of a form.

    Attributes:
        name: Its name, also in an address.
        label: What it is called.
        help: More about it.
        kind: ``"text"`` for a line, ``"long"`` for several, ``"number"``.
        required: Whether it cannot be empty.
        longest: How many characters it takes.
        choices: What may be chosen; or empty for anything.
    """

    name: str
    label: str
    help: str = ""
    kind: Literal["text", "long", "number"] = "text"
    required: bool = False
    longest: int | None = None
    choices: Sequence[str] = ()


REASON: Final = Field(
    name="reason",
    label="Reason",
    help="Why, for those who look. Your name is added.",
    longest=1_000,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A page that asks for one action.

    Attributes:
        title: What is done, to what.
        says: What will happen, a paragraph each.
        button: What the button says.
        action: Where the form is posted to.
        back: The page that one came from.
        fields: What can be said about it.
        hidden: What the form carries beside.
        destroys: Whether it cannot be taken back.
        here: Which part of the site it belongs to.
        examples: The ids of some that it is done to, if those are many.
        more: Whether there are others beside these.
    """

    title: str
    says: Sequence[str]
    button: str
    action: str
    back: str
    fields: Sequence[Field] = ()
    hidden: Mapping[str, str | Sequence[str]] = field(default_factory=dict[str, Any])
    destroys: bool = False
    here: str = "instances"
    examples: Sequence[str] = ()
    more: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A page that says what was done, where that is more than a word.

    Attributes:
        title: What was done, to what.
        says: What came of it, a paragraph each.
        back: Where one goes from here.
        value: What was answered, as plain JSON data.
        has_value: Whether something was.
        failed: Whether it was not as wanted.
        more: A form that goes on, if there is more to do.
        here: Which part of the site it belongs to.
    """

    title: str
    says: Sequence[str]
    back: str
    value: Any = None
    has_value: bool = False
    failed: bool = False
    more: Sheet | None = None
    here: str = "instances"


class Given:
    """What the fields of a form hold, and who has sent it; fields that are not there are empty.

    Args:
        values: What they hold.
        user: Who has sent it, or ``None`` if nobody who is known has.

    Attributes:
        signals: Those that are known of whom it is about, by name.
    """

    def __init__(self, values: Mapping[str, Sequence[str]], user: str | None) -> None:
        self._values = values
        self._user = user
        self.signals: Mapping[str, Sequence[Signal[Any]]] = {}

    def text(self, name: str) -> str:
        """Return a field's text, without space around it."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """Return a field's text as it was typed; browsers send lines as CR LF."""
        return (self._values.get(name) or [""])[0].replace("\r\n", "\n")

    def all(self, name: str) -> list[str]:
        """Return all fields of that name."""
        return [*self._values.get(name, ())]

    def value(self, name: str) -> tuple[Any, ...]:
        """Return a field's value, from JSON or a text that is no JSON; nothing if it is empty.

        Raises:
            ArgumentError: It begins like JSON, and is none.
        """
        text = self.text(name)
        return (json_or_text(text),) if text else ()

    def number(self, name: str) -> int | None:
        """Return a field's whole number, ``None`` if it is empty.

        Raises:
            ValueError: It is no number.
        """
        text = self.text(name)
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 10):  # noqa: PLR2004 - enough
            raise ValueError(f"{name}: {text[:40]!r} is no whole number")
        return int(text)

    def shown(self) -> dict[str, str]:
        """Return what to show in the fields again."""
        return {name: self.raw(name) for name in self._values}

    def multi(self) -> ImmutableMultiDict[str, str]:
        """Return all of it as Starlette has the query of an address."""
        return ImmutableMultiDict(
            [(name, value) for name, values in self._values.items() for value in values]
        )

    @property
    def sure(self) -> bool:
        """Whether it was asked for."""
        return self.text("sure") == "yes"

    @property
    def by(self) -> str:
        """Who acts, in words."""
        return f"{self._user} through the web page"

    def reason(self) -> str:
        """Return the reason that is given, with who has given it.

        Raises:
            ValueError: It is too long.
        """
        why = self.text("reason")
        said = f"{why} (by {self.by})" if why else f"by {self.by}"
        if len(said) > REASON_LENGTH:
            raise ValueError(f"the reason has {len(why):,} characters, that is too many")
        return said

    def log(self, action: str, what: str, **fields: Any) -> None:
        """Write into the log what was done, and why if somebody said."""
        why = self.text("reason") or self.text("name")
        because = f": {why!r}" if why else ""
        extra = {"user": self._user, "action": action, **fields}
        _log.info("%r: %s, %s%s", self._user, action, what, because, extra=extra)


def given_of(request: Request) -> Given:
    """Return what a form holds, or what an address says of its fields before it is sent."""
    user: str | None = request.state.user
    if request.method == "POST":
        return Given(form_of(request), user)
    query = request.query_params
    return Given({name: query.getlist(name) for name in query}, user)


def both(
    site: Site,
    path: str,
    name: str,
    look: Callable[[Site, Request], Awaitable[Response]],
    act: Callable[[Site, Request], Awaitable[Response]],
) -> list[BaseRoute]:
    """Return the routes of a form and of what it does, which have the same address."""

    async def endpoint(request: Request) -> Response:
        return await answered(site, request, act if request.method == "POST" else look)

    return [Route(path, endpoint, methods=["GET", "POST"], name=name)]


def show(
    site: Site,
    request: Request,
    what: Sheet | Answer,
    *,
    given: Given | None = None,
    said: str = "",
    status: int = 200,
) -> Response:
    """Show a form, or what was done; ``said`` is why it could not be."""
    if isinstance(what, Answer):
        return page(site, request, "acting/answer.html", status=status, one=what, here=what.here)
    values = {} if given is None else given.shown()
    return page(
        site,
        request,
        "acting/sheet.html",
        status=status,
        one=what,
        values=values,
        said=said,
        here=what.here,
    )


def refusal(error: TrioflowError | ValueError | TypeError) -> tuple[str, int]:
    """Return what to say of an error, and the status of the answer.

    Raises:
        InstanceNotFound, BackendUnavailable: These have pages of their own.
    """
    if isinstance(error, (InstanceNotFound, BackendUnavailable)):
        raise error
    return str(error), 409 if isinstance(error, TrioflowError) else 400


def to(address: str) -> Response:
    """Send the browser to another page."""
    return RedirectResponse(address, 303)
