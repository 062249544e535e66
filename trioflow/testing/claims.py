"""What instances share, in dictionaries: for the model of stores and for simulations."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from trioflow.backends.records import SharedState

__all__ = ["Claimant", "SharedClaims"]

E = TypeVar("E")


class Claimant(NamedTuple):
    """Who claims: an execution, and the command with which it does."""

    instance: str
    life: str
    execution: int
    command: str


@dataclass
class _Claim(Generic[E]):
    who: Claimant
    size: int
    event: E
    granted: bool = False


class SharedClaims(Generic[E]):
    """Claims by name, in the order of asking, and the events that are set.

    Args:
        is_there: Returns whether a claimant's execution goes on.
        tell: Gives a claimant its event.
    """

    def __init__(
        self, is_there: Callable[[Claimant], bool], tell: Callable[[Claimant, E], object]
    ) -> None:
        self._is_there = is_there
        self._tell = tell
        self._claims: dict[str, list[_Claim[E]]] = {}
        self._set: set[str] = set()

    def take(self, name: str, who: Claimant, size: int, event: E) -> None:
        """Claim a place, or wait for an event if there is no size."""
        self._claims.setdefault(name, []).append(_Claim(who, size, event))
        self._settle(name)

    def free(self, name: str, who: Claimant) -> None:
        """Give a place back, or wait no more."""
        self._claims[name] = [one for one in self._claims.get(name, []) if one.who != who]
        self._settle(name)

    def put(self, name: str, *, value: bool) -> None:
        """Set or clear an event."""
        (self._set.add if value else self._set.discard)(name)
        self._settle(name)

    def state(self, name: str) -> SharedState:
        """Return who has claims of a name."""
        claims = [one for one in self._claims.get(name, []) if self._is_there(one.who)]
        return SharedState(
            [one.who.instance for one in claims if one.granted],
            [one.who.instance for one in claims if not one.granted],
            name in self._set,
        )

    def forget(self, instances: Iterable[str]) -> None:
        """Give to the next what instances had that have been ended."""
        ended = set(instances)
        for name, claims in self._claims.items():
            if any(one.who.instance in ended for one in claims):
                self._settle(name)

    def _settle(self, name: str) -> None:
        claims = [one for one in self._claims.get(name, []) if self._is_there(one.who)]
        held = sum(one.granted for one in claims)
        kept: list[_Claim[E]] = []
        stopped = False
        for one in claims:
            if not one.granted:
                stopped = stopped or not (held < one.size if one.size else name in self._set)
                if not stopped:
                    self._tell(one.who, one.event)
                    if not one.size:
                        continue  # an event is not held
                    one.granted = True
                    held += 1
            kept.append(one)
        self._claims[name] = kept
