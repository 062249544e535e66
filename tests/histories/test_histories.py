"""Golden histories: what was stored once replays for ever.

The files were made by an earlier version from the workflows beside them; neither they nor those
workflows are ever edited (SHA256SUMS). A new kind of event, command or outcome needs a history of
its own: a new module of workflows, recorded by a real run, and its lines in SHA256SUMS.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from tests.histories.programs import flows
from trioflow import JsonCodec
from trioflow._codec.failures.failures import Failure
from trioflow._engine import guard
from trioflow._engine.calls import Caller
from trioflow._engine.execution import Execution, Identity
from trioflow._engine.replay import Diverged
from trioflow._model.commands import Command
from trioflow._model.events import Event, Started
from trioflow._model.turns import Completed, Failed, Outcome, Turn, decode_turn, encode_turn

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.json"))
PROGRAMS = [p for p in sorted(HERE.glob("*.py")) if not p.name.startswith(("record", "test_"))]

for program in PROGRAMS:  # each adds its workflows
    importlib.import_module(f"tests.histories.{program.stem}")

guard.install()  # as a worker does


class Recorded(msgspec.Struct):
    """One execution of a file, its turns byte for byte as they were stored."""

    number: int
    turns: list[msgspec.Raw]

    @property
    def stored(self) -> list[bytes]:
        return [msgspec.json.format(bytes(turn), indent=-1) for turn in self.turns]

    @property
    def decoded(self) -> list[Turn]:
        return [decode_turn(turn) for turn in self.stored]


class Golden(msgspec.Struct):
    id: str
    workflow: str
    queue: str
    priority: int
    status: str
    executions: list[Recorded]


class Watched(Execution):
    """Keeps the turns that a replay makes."""

    __slots__ = ("made",)

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.made: list[Turn] = []

    def advance(self, *args: Any, **kwargs: Any) -> Turn:
        turn = super().advance(*args, **kwargs)
        self.made.append(turn)
        return turn


def read(path: Path) -> Golden:
    return msgspec.json.decode(path.read_bytes(), type=Golden)


def replayed(golden: Golden, recorded: Recorded, turns: list[Turn]) -> list[Turn]:
    """Replay as a worker does; return what the code did in each turn."""
    begun = turns[0].events[0]
    assert isinstance(begun, Started)
    identity = Identity(golden.id, recorded.number, golden.queue, golden.priority)
    execution = Watched(flows.find_workflow(begun.workflow), identity, JsonCodec(), Caller)
    try:
        execution.replay(turns)
        return execution.made
    finally:
        assert execution.evict()


def ended(outcome: Outcome | None) -> object:
    """How an execution ended; of a failure without what Python's versions say differently."""
    match outcome:
        case Completed(result=result):
            return "completed", bytes(result)
        case Failed(failure=failure):
            return "failed", described(failure)
        case _:
            return outcome


def described(failure: Failure) -> object:
    cause = None if failure.cause is None else described(failure.cause)
    # Python 3.12 finds what is not deterministic at another moment, and says it in other words.
    message = "" if failure.type == "trioflow.errors.DeterminismError" else failure.message
    return failure.type, message, cause, [described(each) for each in failure.members]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_golden_history_replays(path):
    golden = read(path)
    for recorded in golden.executions:
        turns = recorded.decoded
        again = replayed(golden, recorded, turns)  # which compares the commands
        made = [turn for turn in turns if turn.reset is None]
        assert [ended(turn.outcome) for turn in again] == [ended(turn.outcome) for turn in made]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_nothing_that_is_stored_is_lost_when_it_is_read(path):
    for recorded in read(path).executions:
        for stored in recorded.stored:
            again = encode_turn(decode_turn(stored))
            assert msgspec.json.decode(again) == msgspec.json.decode(stored)


def test_a_history_that_differs_is_noticed():
    golden = read(HERE / "deadlines.json")
    (recorded,) = golden.executions
    turns = recorded.decoded
    turns[0].commands.clear()
    with pytest.raises(Diverged, match="the code gives activity 'slow'"):
        replayed(golden, recorded, turns)


# --- nothing is missing, and nothing is changed ---------------------------------------------


def turns_of_all() -> list[Turn]:
    return [turn for path in FILES for each in read(path).executions for turn in each.decoded]


@pytest.mark.parametrize(
    ("union", "kinds"),
    [
        (Event, lambda turn: map(type, turn.events)),
        (Command, lambda turn: map(type, turn.commands)),
        (Outcome, lambda turn: [type(turn.outcome)]),
    ],
    ids=["event", "command", "outcome"],
)
def test_every_kind_has_a_golden_history(union, kinds):
    found = {kind for turn in turns_of_all() for kind in kinds(turn)}
    assert {kind.__name__ for kind in set(get_args(union)) - found} == set()


def test_an_execution_that_was_left_has_a_golden_history():
    turns = turns_of_all()
    assert any(turn.reset is not None for turn in turns)
    begun = [event for turn in turns for event in turn.events if isinstance(event, Started)]
    assert {len(event.origins) for event in begun} >= {0, 1, 2}


def failures(value: object) -> list[Failure]:
    if isinstance(value, Failure):
        inside = [*value.members, *([] if value.cause is None else [value.cause])]
        return [value, *(found for each in inside for found in failures(each))]
    if isinstance(value, list | tuple):
        return [found for each in value for found in failures(each)]
    if isinstance(value, msgspec.Struct):
        return [
            found for name in value.__struct_fields__ for found in failures(getattr(value, name))
        ]
    return []


def test_every_kind_of_failure_has_a_golden_history():
    found = failures(turns_of_all())
    empty = Failure(type="")
    fields = {
        name
        for failure in found
        for name in Failure.__struct_fields__
        if getattr(failure, name) != getattr(empty, name)
    }
    assert {
        *("type", "message", "args", "state", "lost", "bases", "traceback", "cause", "notes"),
        *("members", "non_retryable", "retry_after"),
    } <= fields
    text = msgspec.json.encode(found).decode()
    tags = ("bytes", "date", "datetime", "decimal", "time", "timedelta", "uuid")
    more = ("tuple", "set", "frozenset", "enum", "float", "dict")
    assert [tag for tag in (*tags, *more) if f'"${tag}":' not in text] == []
    kinds = {failure.type for failure in found}
    assert {
        "trioflow.errors.ActivityTimeout",
        "trioflow.errors.DeterminismError",
        "trioflow.errors.InstanceAlreadyExists",
        "trioflow.errors.InstanceNotFound",
        "trioflow.errors.InstanceTerminated",
        "trioflow.errors.Retry",
        "trioflow.errors.ValueMismatch",
        "tests.histories.failing._of_no_module.<locals>.Local",
    } <= kinds


def test_no_golden_file_was_changed():
    sums = dict(
        reversed(line.split("  ")) for line in (HERE / "SHA256SUMS").read_text().splitlines()
    )
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (*FILES, *PROGRAMS)
    }
    assert found == sums
