"""The workflows of the golden histories of updates. NEVER EDIT A LINE THAT IS HERE.

As with `programs.py`; `record_updates.py` has recorded their histories.
"""

from __future__ import annotations

import trio

from tests.histories.programs import double, flows, go, slow, word
from trioflow import Update, continue_as_new

add = Update("add", argument=int, result=int)
shows = Update("shows", result=list[int])
late = Update("late", argument=str)


@flows.workflow
async def updated(seen: list[int]) -> list[int]:
    """Adds numbers by an activity each; continues as new while some have not begun."""

    def check(number: int) -> None:
        if number < 0:
            raise ValueError(f"{number} is below 0")

    @add.handler(validator=check)
    async def _(number: int) -> int:
        with trio.move_on_after(50):
            seen.append(await double(number))
            return sum(seen)
        return -1

    shows.handler(lambda: seen)
    how = await word.receive()
    if how == "again":
        continue_as_new(seen)
    late.handler(lambda text: f"{text} in the end")
    if how == "raise":
        raise ValueError("enough")
    await trio.sleep(1)
    return seen


@flows.workflow
async def updated_at_its_end(how: str) -> str:
    """Its handlers run when it ends; they have tasks, and clean up."""

    @add.handler
    async def _(number: int) -> int:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(slow, "first", number)
                nursery.start_soon(slow, "second", number + 1)
            return number
        finally:
            with trio.CancelScope(shield=True):
                await double(number)

    number = await go.receive()
    if how == "raise":
        raise ValueError(number)
    return how
