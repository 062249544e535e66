"""Versions of the engine's rules. An execution keeps the one that it began with.

What is stored must replay as it ran. Whoever changes the order in which the engine does things, or
the commands that it gives by itself, adds a rule here, and the engine asks for it by name.
"""

from __future__ import annotations

__all__ = [
    "CHECKED_HANDLERS",
    "CURRENT_RULES",
    "FORWARDED_ONCE",
    "IN_ORDER_OF_TIME",
    "LATE_GENERATORS",
    "LIMITED_HANDLERS",
    "LIMITED_NESTING",
    "SCHEDULED_IN_STEPS",
    "SCHEDULED_IN_TURN",
]

IN_ORDER_OF_TIME = 1
"""From this number on: what happened since the last turn is applied one thing after the other, in
the order of time, overdue deadlines included; aborts at a cancel go by the age of tasks; an
activity's ``schedule_timeout`` is kept by its caller, too."""

LIMITED_NESTING = 2
"""From this number on: the nesting of tasks is limited where a task is started."""

LATE_GENERATORS = 3
"""From this number on: an async generator that begins in a cleanup at the end of the run, and is
left, is cleaned up after the others."""

FORWARDED_ONCE = 4
"""From this number on: a signal that ``forward_unread()`` sends has left the mailbox before."""

LIMITED_HANDLERS = 5
"""From this number on: the instance's timeout ends handlers of updates, also when the workflow's
function has returned before."""

SCHEDULED_IN_TURN = 6
"""From this number on: a run of a schedule that had to wait for the jitter of one before it is late
by what has passed since then only."""

CHECKED_HANDLERS = 7
"""From this number on: a handler that takes other arguments than it is called with is refused where
it is set. Before, each of its calls failed, and the workflow went on."""

SCHEDULED_IN_STEPS = 8
"""From this number on: a schedule with a long backlog ends its turn after a number of times that
have begun no run, or of messages."""

CURRENT_RULES = 8
"""What new executions get."""
