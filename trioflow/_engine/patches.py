"""Patches: changes of a workflow's code that executions which came by before do not take.

Each pass by a place decides for itself: it is the new way unless the turn is a stored one that has
no marker there. The marker is a command whose id is in front of the next one's, and which the
counter of commands leaves out; so asking shifts no ids.
"""

from __future__ import annotations

import sys
from types import CodeType
from typing import TYPE_CHECKING, NamedTuple

from trioflow._codec.limits import check_name
from trioflow._model.commands import RecordPatch
from trioflow.errors import DeterminismError

if TYPE_CHECKING:
    from trioflow._engine.calls import Caller

__all__ = ["Patches", "deprecate_patch", "patched"]


class _Place(NamedTuple):
    code: CodeType
    instruction: int
    line: int

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line}"


class Patches:
    """The patches that the code of one execution has asked for.

    Attributes:
        markers: The ids of the markers that were given, so that a loop without other commands does
            not record one in each turn.
        missing: The ids of the markers that stored turns do not have: there the old way was taken.
        places: Where each patch is asked for.
    """

    __slots__ = ("markers", "missing", "places")

    def __init__(self) -> None:
        self.markers: set[str] = set()
        self.missing: set[str] = set()
        self.places: dict[str, _Place] = {}


def patched(caller: Caller, patch: str) -> bool:
    """Return whether the running execution takes the new way here; record it if it does."""
    caller.check_not_fenced()
    execution = caller.execution
    check_name(patch, "a patch")
    state = caller.task_state("patched()")
    patches = execution.patches
    if patches is None:
        patches = execution.patches = Patches()
    _check_place(patches, patch)
    marker = state.marker_id(patch)
    if marker not in patches.markers:
        if execution.replaying and execution.commands.find_recorded(marker) is None:
            patches.missing.add(marker)
            return False
        patches.markers.add(marker)
        execution.commands.give(RecordPatch(id=marker))
    return True


def deprecate_patch(caller: Caller, patch: str) -> None:
    """Accept the marker that ``patched()`` has left here in a stored turn; record nothing."""
    caller.check_not_fenced()
    commands = caller.execution.commands
    check_name(patch, "a patch")
    marker = caller.task_state("deprecate_patch()").marker_id(patch)
    if commands.recorded and marker in commands.recorded:
        commands.give(RecordPatch(id=marker))


def _check_place(patches: Patches, patch: str) -> None:
    """Raise if a patch is asked for at a second place of the code."""
    frame = sys._getframe(4)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # no public way
    here = _Place(frame.f_code, frame.f_lasti, frame.f_lineno)
    first = patches.places.setdefault(patch, here)
    if first.instruction != here.instruction or first.code is not here.code:
        raise DeterminismError(
            f"patched({patch!r}) is called at two places, {first} and {here}. Each place decides "
            "for itself, so that an execution could go the old way at the one and the new way at "
            f"the other. Ask once and keep the answer (new = patched({patch!r}), then 'if new:'), "
            "or give each change a name of its own"
        )
