"""What is said to a program becomes what somebody at a shell can do."""

from __future__ import annotations

import pytest

from trioflow._cli.wording import in_shell


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("it was paused; handle.resume() lets it go on", "`trioflow resume o-1` lets it go on"),
        ("of execution 1; resume() tries again.", "; `trioflow resume o-1` tries again."),
        (
            "Or leave it out: handle.resume(without='two words').",
            "Or leave it out: `trioflow resume o-1 --without 'two words'`.",
        ),
        ("reset(turn=…) goes back", "`trioflow reset o-1 --turn N` goes back"),
        (
            "it is to go on, turn=…; handle.history() shows them",
            "it is to go on, --turn N; `trioflow history o-1` shows them",
        ),
        ("client.handle('o-2').reset(turn=3)", "`trioflow reset o-2 --turn 3`"),
        (
            "client.handle('o-2', workflow) gives a handle of it",
            "`trioflow describe o-2` shows it",
        ),
        ("client.handle('a b').describe() says why", "`trioflow describe 'a b'` says why"),
        (
            "pause() first, then fork(), then resume()",
            "`trioflow pause o-1` first, then `trioflow fork o-1`, then `trioflow resume o-1`",
        ),
    ],
)
def test_calls_become_commands(said, shown):
    assert in_shell(said, "o-1").endswith(shown)


@pytest.mark.parametrize(
    "said", ["ValueError: my.resume() failed", "continue_as_new()", "a resume", "x.reset(turn=1)"]
)
def test_what_is_no_call_of_ours_stays(said):
    assert in_shell(said, "o-1") == said


def test_an_id_that_is_not_known_is_named_so():
    assert in_shell("resume() tries again") == "`trioflow resume ID` tries again"
