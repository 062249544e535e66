"""Several instances and what happens to them: by a clock, or in any order that chance chooses."""

# mypy: ignore-errors

from __future__ import annotations

import heapq
import random
from typing import Any

import msgspec

from tests.engine.driver import (
    START,
    Driver,
    child_done,
    child_failed,
    done,
    failed,
    signal,
    stopped,
)
from tests.engine.programs import Boom, Durable, Node, kind_of
from trioflow._model import events as ev
from trioflow._model.commands import CancelActivity, CancelChild, Command, RunActivity, StartChild
from trioflow._model.turns import Cancelled, Completed, Failed, Turn


class World:
    """Carries out the commands of a program's instances.

    Args:
        tree: The program.
        chance: Chooses evictions, and in `run_in_any_order` everything else.
        evict: How likely an eviction before a turn is.
    """

    def __init__(self, tree: Node, chance: random.Random, *, evict: float = 0.0) -> None:
        self.durable = Durable(tree)
        self.chance = chance
        self.evict = evict
        self.now = START
        self.drivers: dict[str, Driver] = {}
        self.parents: dict[str, tuple[str, str]] = {}
        self.inbox: dict[str, list[ev.Event]] = {}
        self.activities: dict[tuple[str, str], tuple[float, ev.Event]] = {}
        self.start("root", "program")

    # --- what the worker and the store would do -----------------------------------------

    def start(self, id: str, workflow: str) -> None:
        self.inbox[id] = []
        self.drivers[id] = driver = Driver(self.durable.workflows[workflow], id=id, now=self.now)
        self.after(id, driver.last)

    def step(self, id: str, *events: ev.Event) -> None:
        driver = self.drivers[id]
        if self.evict and self.chance.random() < self.evict:
            driver.evict()
            driver.revive()
        self.after(id, driver.turn(*events, now=self.now))

    def after(self, id: str, turn: Turn) -> None:
        for command in turn.commands:
            self.carry_out(id, command)
        if turn.outcome is not None:
            for key in [key for key in self.activities if key[0] == id]:
                del self.activities[key]
            if id in self.parents:
                parent, command_id = self.parents[id]
                if self.drivers[parent].outcome is None:
                    self.inbox[parent].append(_ended(command_id, turn.outcome))

    def carry_out(self, id: str, command: Command) -> None:
        match command:
            case RunActivity():
                asked = msgspec.json.decode(bytes(command.input))
                answer = done(command.id, asked["number"])
                if asked["fails"]:
                    answer = failed(command.id, Boom(asked["number"]))
                self.activities[id, command.id] = (self.now + asked["seconds"], answer)
            case StartChild():
                self.parents[command.instance] = (id, command.id)
                self.start(command.instance, command.workflow)
            case CancelActivity():
                if self.activities.pop((id, command.id), None) is not None:
                    self.inbox[id].append(stopped(command.id))
            case CancelChild():
                if self.drivers[command.instance].outcome is None:
                    self.inbox[command.instance].append(ev.CancelRequested(command.reason))

    @property
    def ended(self) -> bool:
        return self.drivers["root"].outcome is not None

    # --- by the clock -------------------------------------------------------------------

    def run_by_the_clock(self, signals: list[float], cancel_at: float | None) -> World:
        """Let everything happen at its time, and consequences at once."""
        agenda: list[tuple[float, int, ev.Event]] = []
        for number, at in enumerate(signals):
            agenda.append((START + at, number, signal("item", number)))
        if cancel_at is not None:
            agenda.append((START + cancel_at, len(signals), ev.CancelRequested("enough")))
        heapq.heapify(agenda)
        while not self.ended:
            self.settle()
            if self.ended:
                break
            times = [at for at, _ in self.activities.values()] + [at for at, *_ in agenda[:1]]
            living = {id: d for id, d in self.drivers.items() if d.outcome is None}
            wakes = {id: d.execution.wake_at for id, d in living.items()}
            times += [at for at in wakes.values() if at is not None]
            assert times, "nothing will ever happen"
            self.now = max(self.now, min(times))
            while agenda and agenda[0][0] <= self.now:
                self.inbox["root"].append(heapq.heappop(agenda)[2])
            for key, (at, answer) in list(self.activities.items()):
                if at <= self.now:
                    del self.activities[key]
                    self.inbox[key[0]].append(answer)
            for id, at in wakes.items():
                if at is not None and at <= self.now:
                    self.inbox[id].append(ev.Woken())
        return self

    def settle(self) -> None:
        while True:
            ready = [id for id, inbox in self.inbox.items() if inbox]
            if not ready:
                return
            for id in ready:
                events, self.inbox[id] = self.inbox[id], []
                if events and self.drivers[id].outcome is None:
                    self.step(id, *events)

    # --- in any order -------------------------------------------------------------------

    def run_in_any_order(self, *, signals: int = 0, cancel: bool = False) -> World:
        """Let what can happen next happen in an order, and in turns, of chance's choosing."""
        chance = self.chance
        others: list[ev.Event] = [signal("item", number) for number in range(signals)]
        if cancel:
            others.insert(chance.randrange(len(others) + 1), ev.CancelRequested("enough"))
        for _ in range(2000):
            if self.ended:
                return self
            self.now += chance.choice([0.0, 0.0, 0.25, 1.0])
            living = [id for id, d in self.drivers.items() if d.outcome is None]
            busy = [id for id in living if self.could_go_on(id)]
            id = chance.choice(busy if busy and not others else living)
            events = self.pick(id)
            if id == "root" and others and chance.random() < 0.5:
                events.append(others.pop(0))
            wake_at = self.drivers[id].execution.wake_at
            if not events and wake_at is not None:
                self.now = max(self.now, wake_at)
                events.append(ev.Woken())
            if events:
                self.step(id, *events)
        raise AssertionError("the program does not end")

    def could_go_on(self, id: str) -> bool:
        return bool(
            self.inbox[id]
            or self.drivers[id].execution.wake_at is not None
            or any(key[0] == id for key in self.activities)
        )

    def pick(self, id: str) -> list[ev.Event]:
        """Some of what is in the inbox, in order, among some of the activities' answers."""
        inbox = self.inbox[id]
        cut = self.chance.randint(0, len(inbox))
        events, self.inbox[id] = inbox[:cut], inbox[cut:]
        keys = [key for key in self.activities if key[0] == id and self.chance.random() < 0.5]
        for key in keys:
            _, answer = self.activities.pop(key)
            events.insert(self.chance.randint(0, len(events)), answer)
        return events

    # --- what came of it ----------------------------------------------------------------

    def check(self) -> World:
        """Every history replays as it was, and no execution leaves a task."""
        for driver in self.drivers.values():
            if driver.outcome is None:  # of a terminated parent
                driver.check()
                driver.evict()
            else:
                driver.check()
        return self

    def end(self) -> Any:
        """The root's outcome, as `run_directly` says it."""
        driver = self.drivers["root"]
        match driver.outcome:
            case Completed():
                return ("completed", driver.result())
            case Failed(failure=failure):
                return ("failed", kind_of(failure.rebuild()))
            case Cancelled():
                return ("cancelled",)
        raise AssertionError(driver.outcome)

    def histories(self) -> dict[str, list[bytes]]:
        return {id: driver.history for id, driver in self.drivers.items()}


def _ended(command_id: str, outcome: Any) -> ev.Event:
    match outcome:
        case Completed():
            return child_done(command_id, msgspec.json.decode(bytes(outcome.result)))
        case Failed():
            return ev.ChildFailed(id=command_id, failure=outcome.failure)
        case Cancelled():
            return ev.ChildCancelled(id=command_id, reason=outcome.reason)
    raise AssertionError(child_failed)
