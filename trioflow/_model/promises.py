"""Promises: values that somebody outside gives a workflow, once, by a token."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

import msgspec

from trioflow._codec.limits import check_name
from trioflow._model.awaited import NotAwaited
from trioflow._model.invoker import invoker_for
from trioflow.errors import ArgumentError

__all__ = ["Promise", "Token"]

T = TypeVar("T")


class Token(msgspec.Struct, frozen=True, array_like=True):
    """What the token of a promise stands for.

    Attributes:
        secret: 128 random bits in hexadecimal, which name the promise in its execution.
        life: The instance's life.
        instance: The instance's id.
    """

    secret: str
    life: str
    instance: str

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(_encode(self)).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: object) -> Token:
        """Read a token.

        Raises:
            ArgumentError: It is none.
        """
        try:
            data = str(text).encode()
            return _decode(base64.urlsafe_b64decode(data + b"=" * (-len(data) % 4)))
        except (binascii.Error, msgspec.MsgspecError, ValueError):
            raise ArgumentError(
                f"{str(text)[:40]!r} is no token of a promise: give what promise.token was, all of "
                "it"
            ) from None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Token).decode


class Promise(NotAwaited, Generic[T]):
    """A value that somebody outside gives the workflow, once: a person, a webhook, another service.

    Make it in a workflow, and pass its token on, in an e-mail or a URL. Who has that settles the
    promise: ``client.resolve(token, value)``, or ``client.reject(token, error)``. It is of the
    execution in which it was made, and ends with that.

    Args:
        name: For people.
        type: The type of its value; without one, plain JSON data.

    Attributes:
        token: A string that cannot be guessed, and has only characters that a URL takes.

    Raises:
        NotInWorkflow: Outside of a workflow.
    """

    __slots__ = ("name", "token", "type")

    if TYPE_CHECKING:

        def __init__(self, name: str, type: type[T]) -> None:
            self.name = name
            self.type = type
            self.token = ""
    else:

        def __init__(self, name: str, type: object = Any) -> None:
            self.name = check_name(name, "a promise")
            self.type = type
            self.token: str = invoker_for("Promise()").make_promise(name)

    def __repr__(self) -> str:
        return f"Promise({self.name!r})"

    def _instead(self) -> str:
        return "write promise.receive(), which waits until it is settled"

    def receive(self) -> Coroutine[Never, object, T]:
        """Wait until the promise is settled; return its value, or raise the error of `reject`.

        Any number of tasks may wait, any number of times: the value stays. A cancelled wait loses
        nothing.
        """
        invoker = invoker_for("Promise.receive()")
        return invoker.receive_promise(self.name, self.token, self.type)
