"""Stores, each with a mistake, that a campaign of clusters has to notice."""

from __future__ import annotations

import msgspec

from trioflow.backends.memory import MemoryBackend


class Planted(MemoryBackend):
    """The store in memory, with SQL of its own."""

    def sql(self, statement, *values):
        return self._session().store.connection.execute(statement, values)


class NoLease(Planted):
    """Lets everybody commit, whoever has the lease."""

    async def commit(self, worker, units):
        for unit in units:
            for commit in unit.instances:
                if commit.new is None:
                    self.sql("UPDATE instances SET worker = ? WHERE id = ?", worker, commit.id)
        return await super().commit(worker, units)


class NoFence(Planted):
    """Takes a turn whatever its number is."""

    async def commit(self, worker, units):
        for unit in units:
            for commit in unit.instances:
                if commit.new is None and commit.turns:
                    self.sql(
                        "UPDATE instances SET turns = ?, worker = ? WHERE id = ? AND execution = ?",
                        *(commit.number, worker, commit.id, commit.execution),
                    )
                    self.sql(
                        "DELETE FROM turns WHERE instance = ? AND execution = ? AND number >= ?",
                        *(commit.id, commit.execution, commit.number),
                    )
        return await super().commit(worker, units)


class KeepsMessages(Planted):
    """Does not delete what a turn has consumed, now and then."""

    seen = 0

    async def commit(self, worker, units):
        changed = []
        for unit in units:
            commits = []
            for commit in unit.instances:
                self.seen += 1
                if self.seen % 7 == 0 and commit.consumed:
                    commit = msgspec.structs.replace(commit, consumed=[])  # noqa: PLW2901
                commits.append(commit)
            changed.append(msgspec.structs.replace(unit, instances=commits))
        return await super().commit(worker, changed)


class LosesWakeUps(Planted):
    """Forgets the deadline of what parks, now and then."""

    seen = 0

    async def commit(self, worker, units):
        results = await super().commit(worker, units)
        for unit, result in zip(units, results, strict=True):
            for commit in unit.instances:
                self.seen += 1
                if result is None and self.seen % 11 == 0 and not commit.leased:
                    self.sql(
                        "UPDATE instances SET ready_at = NULL WHERE id = ? AND ready_at > 0",
                        commit.id,
                    )
        return results


class ForgetsCancels(Planted):
    """Frees what a dead worker held as if nobody had cancelled it."""

    async def reclaim(self, lease):
        self.sql("UPDATE activities SET cancel = NULL")
        return await super().reclaim(lease)


class DropsCarried(Planted):
    """Begins the next execution without the signals that were carried over."""

    async def commit(self, worker, units):
        changed = [
            msgspec.structs.replace(
                unit,
                instances=[
                    msgspec.structs.replace(commit, carried=b"") if commit.carried else commit
                    for commit in unit.instances
                ],
            )
            for unit in units
        ]
        return await super().commit(worker, changed)


class StoresResultsTwice(Planted):
    """Puts a result that comes through the inbox there a second time."""

    async def commit(self, worker, units):
        results = await super().commit(worker, units)
        for unit, result in zip(units, results, strict=True):
            for one in unit.results if result is None else ():
                await self.send(one.key.instance, one.event)
        return results


class AttemptsDoNotCount(Planted):
    """Stores the same attempt again where a failed one is to be followed by another."""

    async def commit(self, worker, units):
        changed = [
            msgspec.structs.replace(
                unit,
                retries=[
                    msgspec.structs.replace(retry, attempt=max(1, retry.attempt - 1))
                    for retry in unit.retries
                ],
            )
            for unit in units
        ]
        return await super().commit(worker, changed)


class LosesSignals(Planted):
    """Says of each fifth signal that it is stored, and does not store it."""

    seen = 0

    async def send(self, instance, event, *, life=None, request=""):
        self.seen += 1
        if self.seen % 5 == 0 and (await self.get(instance)).status == "running":
            return "done"
        return await super().send(instance, event, life=life, request=request)


class LosesAnswers(Planted):
    """Does not keep each third answer to an update."""

    seen = 0

    async def commit(self, worker, units):
        changed = []
        for unit in units:
            commits = []
            for commit in unit.instances:
                self.seen += bool(commit.answers)
                if self.seen % 3 == 2 and commit.answers:
                    commit = msgspec.structs.replace(commit, answers=[])  # noqa: PLW2901
                commits.append(commit)
            changed.append(msgspec.structs.replace(unit, instances=commits))
        return await super().commit(worker, changed)


class ForgetsWhatWasRead(Planted):
    """Gives an instance that is reset no message back."""

    async def reset(self, reset):
        reset.beginning.inbox.clear()
        return await super().reset(reset)


class ForgetsUnreadCancels(Planted):
    """Gives an instance that is reset its messages back, but no cancel."""

    async def reset(self, reset):
        inbox = reset.beginning.inbox
        inbox[:] = [each for each in inbox if b"cancel requested" not in each.event]
        return await super().reset(reset)
