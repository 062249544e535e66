"""What crosses the store contract when an execution is begun with turns of another one."""

from __future__ import annotations

from typing import Literal

import msgspec

from trioflow.backends.commits import NewActivity, NewInstance

__all__ = ["Beginning", "Reset", "ResetResult", "Returned"]

ResetResult = Literal["done", "changed", "finished", "not found"]


class Returned(msgspec.Struct, frozen=True):
    """An event that goes (back) into an inbox.

    Attributes:
        event: It.
        at: When it came, by the store's clock.
        own: Whether it is for the execution that begins alone (as `Message.execution`).
    """

    event: bytes
    at: float
    own: bool = False


class Beginning(msgspec.Struct, kw_only=True):
    """What an execution begins with, besides its row.

    Attributes:
        turns: Its first turns, in their stored form.
        events: The size of that history: events and commands.
        inbox: Its whole inbox, in this order.
        activities: Activities that are under way: free, whatever ``leased`` says.
        children: Sub-workflows that are to be created, free, as `Backend.create` does it. For one
            whose id is taken the inbox gets the `ChildFailed` event, as with `Backend.commit`.
        wake_at: The row's ``wake_at``. Where it has turns, that is a time that has come: only their
            replay tells the next deadline.
        carried: Unread messages of the execution before, as `InstanceCommit.carried`; ``None``
            leaves what the row has, which is what an execution without turns has not received yet.
        attributes: The attributes that the instance has then.
    """

    turns: list[bytes] = []
    events: int = 0
    inbox: list[Returned] = []
    activities: list[NewActivity] = []
    children: list[NewInstance] = []
    wake_at: float | None = None
    carried: bytes | None = None
    attributes: bytes = b""


class Reset(msgspec.Struct, kw_only=True):
    """A new execution of an instance that takes the place of its last one.

    Attributes:
        id: The instance.
        life: Its life.
        execution: Which must be its current one.
        turns: How many turns that must have.
        inbox: ``seq`` of all that must be in its inbox, in their order.
        ending: A turn that is appended to that execution, in its stored form.
        beginning: What the next one begins with.
        adopted: Ids of sub-workflows of that execution that go on as those of the next one.
        keeps_parent: Whether it keeps its parent if it had ended. That has been told of the end,
            and is to be reset as well: then it waits for the next one.
        outcome: The stored form of a `trioflow._model.turns.Failed`: with it the others end.
    """

    id: str
    life: str
    execution: int
    turns: int
    inbox: list[int]
    ending: bytes
    beginning: Beginning
    adopted: list[str] = []
    keeps_parent: bool = False
    outcome: bytes
