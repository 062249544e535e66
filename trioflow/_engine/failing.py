"""Which calls' failures a workflow may be raising now, and since which turn."""

from __future__ import annotations

from collections.abc import Sequence

from trioflow._codec.failures.failures import Failure, holds
from trioflow._codec.values import Codec
from trioflow._model import events as ev
from trioflow._model.commands import CancelActivity, CancelChild, Command

__all__ = ["Failing"]

_Failed = ev.ActivityFailed | ev.ChildFailed
_Answer = ev.ActivityAnswer | ev.ChildAnswer | ev.SignalAnswer | ev.RequestAnswer


class Failing:
    """The failures of calls that what is raised in the current turn may have begun with.

    Mostly these came in that turn. But a nursery in which a task fails cancels the others first,
    and raises when these have stopped: then it began in the turn that has cancelled them. And code
    may gather failures until all calls have ended. This finds the turn that
    `trioflow._client.failing.first_turn_to_drop` finds in all the turns of a failed execution,
    without keeping them.

    Args:
        wanted: Whether anybody will ask; otherwise nothing is noted.

    Attributes:
        began: The number of the turn in which what the current turn raises, if it raises, began.
    """

    __slots__ = ("_came", "_cancelled", "_quiet", "_wanted", "began")

    def __init__(self, *, wanted: bool) -> None:
        self._wanted = wanted
        self.began = 0
        self._quiet = 0  # since this turn nothing was asked for
        self._came: list[tuple[int, _Failed]] = []
        # By the id of a call that was cancelled and has not answered: in which turn, and when what
        # that turn did had begun.
        self._cancelled: dict[str, tuple[int, int]] = {}

    def consumes(self, turn: int, events: Sequence[ev.Event]) -> None:
        """Take note of the events of a turn, before its end is known."""
        if not self._wanted:
            return
        stops = [
            self._cancelled.pop(event.id)
            for event in events
            if isinstance(event, _Answer) and event.id in self._cancelled
        ]
        only_stops = bool(stops) and len(stops) == len(events)
        self.began = min(stops)[1] if only_stops else turn
        self._came += [(turn, event) for event in events if isinstance(event, _Failed)]

    def gives(self, turn: int, commands: Sequence[Command]) -> None:
        """Take note of the commands of a turn that goes on, and forget what is of no use now."""
        if not self._wanted:
            return
        for command in commands:
            if isinstance(command, CancelActivity | CancelChild):
                self._cancelled[command.id] = turn, self.began
        if commands:
            self._quiet = turn + 1
        if self._came:
            oldest = min([self._quiet, *(began for _, began in self._cancelled.values())])
            self._came = [each for each in self._came if each[0] >= oldest]

    def raised_by(self, error: BaseException, codec: Codec) -> tuple[str, ...]:
        """Return the ids of the calls whose failure the current turn raises.

        Then `began` is the turn in which the first of these came, if nothing was asked for since.
        """
        since = min(self.began, self._quiet)
        came = [(turn, event) for turn, event in self._came if turn >= since]
        if not came:
            return ()
        raised = Failure.of(error)
        held = [each for each in came if holds(raised, each[1].failure.legible(codec))]
        self.began = min([self.began, *(turn for turn, _ in held)])
        return tuple(event.id for _, event in held)
