"""Where a failure says that it was raised: the last line that is the user's own."""

from __future__ import annotations

import pytest
import trio

from trioflow._codec.failures.failures import Failure
from trioflow._engine.guard import files
from trioflow._worker.failures import describe, raised_at

ENGINE = trio.__file__


def failure(*frames: tuple[str, int, str], members: tuple[Failure, ...] = ()) -> Failure:
    lines = "".join(
        f'  File "{file}", line {line}, in {name}\n    f()\n' for file, line, name in frames
    )
    return Failure(type="app.Declined", message="no", traceback=lines, members=members)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([("/app/flows.py", 3, "order"), ("/app/bank.py", 9, "pay")], ("/app/bank.py:9", "pay")),
        ([("/app/flows.py", 3, "order"), (ENGINE, 9, "run")], ("/app/flows.py:3", "order")),
        ([("/app/f.py", 3, "f"), ("/usr/lib/python3.12/json/x.py", 1, "g")], ("/app/f.py:3", "f")),
        ([("/app/f.py", 3, "f"), ("/v/site-packages/lib/x.py", 1, "g")], ("/app/f.py:3", "f")),
        (
            [
                ("/v/lib/python3.12/site-packages/shop/flows.py", 3, "<lambda>"),
                ("/v/lib/python3.12/site-packages/trioflow/_engine/calls.py", 1, "call"),
                ("/usr/lib/python3.12/json/decoder.py", 1, "decode"),
            ],
            ("/v/lib/python3.12/site-packages/shop/flows.py:3", "<lambda>"),
        ),
    ],
)
def test_it_is_the_last_line_that_is_no_librarys(frames, expected):
    assert raised_at(failure(*frames)) == [expected]


def test_a_line_of_an_installed_workflow_counts_before_that_of_a_library(monkeypatch):
    installed = "/v/lib/python3.12/site-packages/"
    raised = failure(
        (f"{installed}shop/flows.py", 3, "order"), (f"{installed}httpx/_client.py", 9, "send")
    )
    assert raised_at(raised) == [(f"{installed}httpx/_client.py:9", "send")]
    monkeypatch.setattr(files, "_user_roots", (f"{installed}shop/",))
    assert raised_at(raised) == [(f"{installed}shop/flows.py:3", "order")]


def test_of_a_group_it_is_those_of_its_members():
    one = failure(("/app/a.py", 1, "a"))
    other = failure(("/app/b.py", 2, "b"))
    own = ("/app/flows.py", 3, "order")
    inner = failure(own, members=(one, other))
    assert raised_at(failure(own, members=(one, inner))) == [
        ("/app/a.py:1", "a"),
        ("/app/b.py:2", "b"),
    ]
    unsaid = Failure(type="app.Declined", message="no")
    assert raised_at(failure(own, members=(unsaid,))) == [("/app/flows.py:3", "order")]
    assert raised_at(unsaid) == []


@pytest.mark.parametrize(("message", "said"), [("no", "OSError: no"), ("", "OSError")])
def test_a_failure_is_described_with_its_message_if_it_has_one(message, said):
    traceback = failure(("/app/f.py", 3, "f")).traceback
    failed = Failure(type="OSError", message=message, traceback=traceback)
    assert describe(failed) == f"{said} (at /app/f.py:3)"
