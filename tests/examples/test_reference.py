"""docs/reference.md and the table of worker options name all that there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import trioflow
import trioflow.observers
from trioflow import (
    Activity,
    Client,
    Description,
    ExecutionDescription,
    Handle,
    Info,
    ScheduleHandle,
    Workflow,
)
from trioflow._worker.options import WorkerOptions

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference.md").read_text("utf-8")
INSIDE = {"backend", "close", "watch", "fresh_request", "wait_change"}  # of a client: for handles


def named(text: str) -> set[str]:
    """Return the names that begin a piece of code, with or without what follows in brackets."""
    return set(re.findall(r"`(?:\w+\.)*(\w+)[^`]*`", text))


def table(heading: str, column: int = 0) -> set[str]:
    """Return what a column of the reference names, of the table with that first cell."""
    rows = REFERENCE.split(f"\n| {heading} |")[1].split("\n\n")[0].splitlines()[2:]
    return {name for row in rows for name in named(row.split(" | ")[column])}


def methods(owner: type) -> set[str]:
    return {name for name in dir(owner) if name[0] != "_" and callable(getattr(owner, name))}


def parameters(function: object) -> set[str]:
    return set(inspect.signature(function).parameters) - {"self", "fn"}  # type: ignore[arg-type]


def test_the_reference_has_every_public_name():
    assert set(trioflow.__all__) - named(REFERENCE) == set()


@pytest.mark.parametrize(
    ("heading", "column", "there"),
    [
        ("method of `Client`", 0, methods(Client) - INSIDE),
        ("method of `Handle`", 0, methods(Handle)),
        ("method of `ScheduleHandle`", 0, methods(ScheduleHandle)),
        ("field of `Description`", 0, set(Description.__struct_fields__)),
        ("field of `ExecutionDescription`", 0, set(ExecutionDescription.__struct_fields__)),
        ("`@workflow(…)`", 0, parameters(Workflow.__init__)),
        ("`@workflow(…)`", 1, parameters(Workflow.options)),
        ("`@activity(…)`", 0, parameters(Activity.__init__)),
        ("`@activity(…)`", 1, parameters(Activity.options)),
    ],
)
def test_its_tables_are_complete(heading: str, column: int, there: set[str]):
    assert table(heading, column) == there


def test_the_table_of_worker_options_is_complete_and_has_the_defaults():
    section = (DOCS / "operations.md").read_text("utf-8").split("\n## Worker options\n")[1]
    rows = section.lstrip().split("\n\n")[0]
    shown = dict(re.findall(r"`(\w+)=([^`]*)`", re.sub(r"(?m)^\| (.*?) \| .*$", r"\1", rows)))
    options = inspect.signature(trioflow.open_worker).parameters
    fields = [field.name for field in dataclasses.fields(WorkerOptions)]
    defaults = {name: options[name].default for name in fields}
    assert {name: eval(text) for name, text in shown.items()} == defaults


def test_the_page_of_observers_has_all_types_with_their_fields():
    page = (DOCS / "observers.md").read_text("utf-8")
    of_all = named(page.split("Those of an execution are")[1].split(". ")[0])
    for name in {*trioflow.observers.__all__} - {"Observation", "Observer"}:
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` "))
        shown = named(row.split(" | ")[2])
        fields = {*getattr(trioflow.observers, name).__struct_fields__}
        assert fields <= shown | (of_all if "those of an execution" in row else set()), name


def test_it_has_the_fields_of_info():
    (row,) = (line for line in REFERENCE.splitlines() if line.startswith("| `info()`"))
    assert {*Info.__struct_fields__} - named(row) == set()
