"""Reject instance ids that are too long for the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from trioflow._codec.limits import ID_LENGTH
from trioflow.backends._common.notices import id_too_long
from trioflow.backends.commits import CommitFailure, InstanceCommit, Unit
from trioflow.errors import ArgumentError

__all__ = ["ID_LENGTH", "IdLimit", "storable"]


@dataclass(frozen=True)
class IdLimit:
    """The ids of instances that a store takes: those of at most `ID_LENGTH` characters.

    Attributes:
        store: Its name, for messages.
        zeros: Whether the character of the number zero may be in one.
    """

    store: str
    zeros: bool = True

    def demand(self, id: str) -> None:
        """Check an id.

        Raises:
            ArgumentError: The store does not take it.
        """
        if len(id) > ID_LENGTH or (not self.zeros and "\0" in id):
            most = f"ids of at most {ID_LENGTH}{'' if self.zeros else ', none of which is a zero'}"
            raise ArgumentError(
                f"the id {id[:40]!r}… has {len(id)} characters; {self.store} stores {most}"
            )


def storable(units: Sequence[Unit]) -> tuple[list[Unit], dict[int, CommitFailure]]:
    """Take out units whose new ids are too long, so that others of a commit do not fail too.

    A sub-workflow without turns becomes the news of its failure, for its parent. A unit with any
    other such instance becomes empty and fails, as if the id was taken: a sub-workflow then comes
    again, without turns.

    Returns:
        The units to be written, and by their index the failures of those that became empty.
    """
    written = list(units)
    failures: dict[int, CommitFailure] = {}
    for at, unit in enumerate(units):
        long = [new for new in unit.instances if new.new is not None and len(new.id) > ID_LENGTH]
        if not long:
            continue
        changed = _without(unit, long)
        written[at] = Unit() if changed is None else changed
        if changed is None:
            failures[at] = CommitFailure(taken_ids=[commit.id for commit in long])
    return written, failures


def _without(unit: Unit, long: list[InstanceCommit]) -> Unit | None:
    ids = {commit.id for commit in long}
    rest = {commit.id: commit for commit in unit.instances if commit.id not in ids}
    for commit in long:
        ref = None if commit.new is None else commit.new.parent
        parent = None if ref is None else rest.get(ref.instance)
        if commit.turns or ref is None or parent is None:
            return None
        news = id_too_long(commit.id, ref, ID_LENGTH)
        rest[parent.id] = msgspec.structs.replace(parent, messages=[*parent.messages, news])
    return msgspec.structs.replace(unit, instances=list(rest.values()))
