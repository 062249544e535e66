"""`Backend` on Redis: each method calls a script, and wakes who waits for its changes."""

# ruff: noqa: D102 - what each method promises is said in `Backend`

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import Any, TypeVar, cast, get_args

from trioflow._model.events import ParentRef
from trioflow._model.limits import Limit, LimitKind, Limits
from trioflow.backends._common.connections import Connections
from trioflow.backends._common.notices import child_terminated
from trioflow.backends._common.thread import StorageThread
from trioflow.backends._common.watching import (
    EVERYTHING,
    OF_INSTANCES,
    OF_NOTHING,
    OF_QUESTIONS,
    Watcher,
    concerns_of,
)
from trioflow.backends.abc import Concern
from trioflow.backends.commits import Answer, CommitFailure, NewInstance, NewQuestion, Unit
from trioflow.backends.filters import Group, InstanceFilter
from trioflow.backends.outbox import (
    ActivityTransaction,
    CallerTransaction,
    no_transactions,
    refused,
)
from trioflow.backends.records import (
    ActivityKey,
    ActivityTask,
    Effect,
    EndedExecution,
    Execution,
    Heartbeat,
    InstanceRecord,
    QueueStats,
    Reached,
    RequestKey,
    SchemaState,
    SharedState,
    StoredMessage,
    TakenActivities,
    TakenInstances,
    TakenQuestions,
    Trouble,
    WorkerInfo,
)
from trioflow.backends.redis import rows, wire
from trioflow.backends.redis.connection import Address, RedisConnection, Request
from trioflow.backends.redis.moving import RedisMoves
from trioflow.backends.redis.notifier import Notifier
from trioflow.backends.redis.opening import look_at_settings, open_store, schema_of
from trioflow.backends.redis.searching import LOOK_AT_MOST, Search, unpack_texts
from trioflow.backends.resets import Beginning, Reset, ResetResult
from trioflow.errors import BackendUnavailable, InstanceNotFound, LeaseLost

__all__ = ["RedisBackend"]

logger = logging.getLogger("trioflow.backends.redis")

R = TypeVar("R")

# So few that no script keeps the server to itself for long.
_TAKE_AT_MOST = 500
_REMOVE_AT_MOST = 100
_MOST_TROUBLES = 1000
_TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
_RECORD_FIELDS = wire.pack(rows.RECORD_FIELDS)


class RedisBackend(RedisMoves):
    """A store in Redis 6 or newer, or in Valkey. The server's clock judges leases and visibility.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``, as redis-py reads it.
        prefix: What the keys begin with: one store for each. In a cluster all of them lie in one
            slot.
        cluster: Whether the server is one of a cluster.
        keep_finished: Seconds after which finished instances are removed by the workers, or
            ``None``.
        patience: For so many seconds a call is tried again when the server does not answer.
    """

    name = "redis"
    shared = True

    def __init__(
        self,
        url: str = "redis://localhost",
        *,
        prefix: str = "trioflow",
        cluster: bool = False,
        keep_finished: float | None = None,
        patience: float = 2.0,
    ) -> None:
        if not prefix or "{" in prefix or "}" in prefix:
            raise ValueError(f"prefix {prefix!r}: must not be empty, and have no braces")
        self.address = Address(url, prefix, cluster)
        self._keep_finished = keep_finished
        self._source = secrets.token_hex(8)
        self._numbers = count(1)
        self._offset = 0.0
        self._watcher = Watcher()
        self._passed_over: set[tuple[str, str]] = set()
        self._patience = patience
        self._notifier: Notifier | None = None
        self._connections = Connections(
            self.address.shown,
            connect=self._connect,
            # It is not patient: the next one comes soon.
            connect_for_heartbeats=partial(RedisConnection, self.address, min(patience, 0.5)),
        )

    # --- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        await self._connections.open_once(self._open)

    async def _open(self) -> None:
        self._notifier = Notifier(self.address, self._source, self._watcher.notify)
        await self._connections.open()

    def _connect(self) -> RedisConnection:
        connection = RedisConnection(self.address, self._patience)
        try:
            self._see_time(open_store(connection, self._source))
            look_at_settings(connection)
            if self._notifier is not None:
                self._notifier.start()
                self._notifier.wait_ready(5.0)
        except BaseException:
            connection.close()
            raise
        return connection

    async def migrate(self) -> None:
        """Bring the number of the schema up to date, without opening the store; errors as `open`.

        Rows of an older version are read as they are.
        """
        await self._apart(lambda connection: open_store(connection, self._source))

    async def schema_state(self) -> SchemaState:
        """Return which version of the schema is stored; nothing is changed. Errors as `open`."""
        return await self._apart(schema_of)

    async def _apart(self, use: Callable[[RedisConnection], R]) -> R:
        thread = StorageThread(f"trioflow schema {self.address.shown}")

        def call() -> R:
            connection = RedisConnection(self.address, self._patience)
            try:
                return use(connection)
            finally:
                connection.close()

        try:
            return await thread.run(call)
        finally:
            await thread.aclose()

    async def aclose(self) -> None:
        if self._notifier is not None:
            self._notifier.stop()
        await self._connections.aclose(self._close)

    def _close(self, connection: RedisConnection) -> None:
        notifier, self._notifier = self._notifier, None
        try:
            connection.call_together([lambda: Request("close", (self._source,), _ignore)])
            if notifier is not None:
                notifier.join()
        finally:
            connection.close()

    def now(self) -> float:
        """Return the server's time, as seen with its last answers."""
        return time.monotonic() + self._offset

    def _see_time(self, server: float) -> None:
        self._offset = server - time.monotonic()

    # --- workers ------------------------------------------------------------------------

    async def register_worker(
        self,
        worker: str,
        name: str,
        *,
        queues: Sequence[str] = (),
        activity_queues: Sequence[str] = (),
        lease: float | None = None,
        version: str = "",
    ) -> None:
        served = wire.pack([list(set(queues)), list(set(activity_queues)), lease, version])
        await self._write("register_worker", worker, name, served, decode=_ignore)

    async def workers(self) -> list[WorkerInfo]:
        found = await self._read("list_workers", decode=_same)
        return sorted(map(rows.worker_info, found), key=_by_name)

    def heartbeat(self, worker: str) -> Heartbeat:
        """Renew the worker's row on a connection of its own; any thread may call it.

        Raises:
            BackendUnavailable: The server does not answer, or the store is not open.
        """
        request = Request("heartbeat", (worker,), self._decode_beat)
        return self._connections.beat(lambda connection: connection.call(request))

    def _decode_beat(self, reply: Any) -> Heartbeat:
        self._see_time(float(reply[0]))
        return rows.heartbeat(reply)

    async def reclaim(self, lease: float) -> list[str]:
        expired: list[str] = []
        # One script expires one worker: each is freed in a transaction of its own.
        while found := await self._write("reclaim", repr(lease), decode=_text):
            expired.append(found)
        if expired:
            self._watcher.notify()
        if self._keep_finished is not None:
            old = InstanceFilter(finished_before=self.now() - self._keep_finished)
            await self.remove(old, limit=10 * LOOK_AT_MOST)
        return expired

    async def release_worker(self, worker: str, *, died: bool = False) -> None:
        await self._write("release_worker", worker, int(died), decode=_ignore)
        self._watcher.notify()

    # --- work ---------------------------------------------------------------------------

    async def take_instances(
        self,
        worker: str,
        queues: Sequence[str],
        limit: int,
        *,
        exclude: Sequence[str] = (),
        exclude_ids: Sequence[str] = (),
        sticky: float = 0.0,
        suspect: bool = False,
    ) -> TakenInstances:
        asked = self._take(worker, queues, limit, exclude)
        asked.exclude_ids = tuple(exclude_ids)
        asked.sticky, asked.suspect, asked.fields = sticky, suspect, rows.TAKEN_FIELDS
        taken, unreadable = await self._taken("take_instances", asked, rows.taken_instances)
        if unreadable:
            # They are this worker's, who can do nothing with them, nor can anybody else.
            reports = [(one.id, rows.damage_report(one)) for one in unreadable]
            await self._write("suspend", worker, wire.pack(reports), decode=_ignore)
            self._watcher.notify()
        return taken

    async def take_activities(
        self, worker: str, queues: Sequence[str], limit: int, *, exclude: Sequence[str] = ()
    ) -> TakenActivities:
        asked = self._take(worker, queues, limit, exclude)
        taken, passed_over = await self._taken("take_activities", asked, rows.taken_activities)
        for instance, command in passed_over:
            if (instance, command) not in self._passed_over:
                self._passed_over.add((instance, command))
                logger.warning(
                    "activity %s of instance %r waits for ever: its stored row cannot be read; "
                    "mend it, or terminate the instance",
                    command,
                    instance,
                )
        return taken

    def _take(
        self, worker: str, queues: Sequence[str], limit: int, exclude: Sequence[str]
    ) -> wire.TakeRequest:
        most = min(limit, _TAKE_AT_MOST)
        return wire.TakeRequest(worker, tuple(queues), most, tuple(exclude))

    async def _taken(self, name: str, asked: wire.TakeRequest, decode: Callable[[Any], R]) -> R:
        def read(reply: Any) -> R:
            self._see_time(float(reply[0]))
            return decode(reply)

        # Not tried again by itself: what an answer gave that was lost is recalled by the worker.
        request = Request(name, (wire.pack(asked),), read, repeated=False)
        return await self._run(lambda: request)

    async def commit(self, worker: str, units: Sequence[Unit]) -> list[CommitFailure | None]:
        left = concerns_of(units)
        source = "" if left is None else self._source
        reply = await self._commit(worker, units, {}, source)
        if reply == b"notice":
            # A child's id is taken, which is seldom: only now its parent's event is made.
            reply = await self._commit(worker, units, wire.notices_of(units), source)
        results = [rows.commit_result(one) for one in reply]
        self._watcher.notify_commit(worker, left, results)
        return results

    async def _commit(
        self, worker: str, units: Sequence[Unit], notices: dict[ParentRef, bytes], source: str
    ) -> Any:
        def build() -> Request[Any]:
            arguments = (worker, wire.pack_units(units), wire.pack_notices(notices))
            return self._request("commit", arguments, _same, source)

        reply = await self._tell(build)
        if reply == b"dead":
            raise LeaseLost(
                f"worker {worker!r} sent no heartbeat for too long and was declared dead; what it "
                "held belongs to other workers now, and nothing of this commit was stored"
            )
        return reply

    async def release_instances(self, worker: str, instances: Sequence[str]) -> list[str]:
        ids = wire.pack(list(instances))
        released = await self._write("release_instances", worker, ids, decode=rows.texts)
        if released:
            self._watcher.notify()
        return released

    async def recall(self, worker: str, keep: Sequence[ActivityKey]) -> None:
        await self._write("recall", worker, wire.pack(list(keep)), decode=_ignore)
        self._watcher.notify()

    async def load(self, ids: Sequence[tuple[str, int]]) -> list[list[bytes]]:
        return await self._read("load", wire.pack(list(ids)), decode=_same)

    async def turns_from(
        self, instance: str, execution: int, first: int, *, limit: int
    ) -> list[bytes]:
        wanted = instance, execution, first, first + limit - 1
        return await self._read("turns_from", *wanted, decode=_same)

    # --- limits -------------------------------------------------------------------------

    async def set_limit(self, limit: Limit) -> None:
        settings = (wire.packed_limit(limit), repr(float(limit.per)), int(limit.key is not None))
        names = (secrets.token_hex(8), limit.kind, limit.name)
        await self._write("set_limit", *names, *settings, decode=_ignore)
        self._watcher.notify()

    async def remove_limit(self, kind: LimitKind, name: str) -> bool:
        removed = await self._write("remove_limit", secrets.token_hex(8), kind, name, decode=bool)
        if removed:
            self._watcher.notify()
        return removed

    async def limits(self) -> Limits:
        return await self._read("limits", decode=rows.limits)

    async def shared_state(self, name: str) -> SharedState:
        return await self._read("shared_state", name, decode=rows.shared_state)

    # --- questions ----------------------------------------------------------------------

    async def ask(self, question: NewQuestion) -> Effect:
        asked = await self._write("ask", wire.pack_question(question), decode=_decode_effect)
        if asked == "done":
            self._watcher.notify(OF_QUESTIONS)
        return asked

    async def take_questions(
        self,
        worker: str,
        queues: Sequence[str],
        workflows: Sequence[str],
        limit: int,
        *,
        exclude_ids: Sequence[str] = (),
    ) -> TakenQuestions:
        names = wire.pack(list(queues)), wire.pack(list(workflows))
        wanted = worker, *names, limit, wire.pack(list(exclude_ids))
        # As with instances, what an answer gave that was lost is not given again.
        request = Request("take_questions", wanted, rows.taken_questions, repeated=False)
        return await self._run(lambda: request)

    async def answer_questions(self, answers: Sequence[Answer]) -> None:
        await self._write("answer_questions", wire.pack_answers(answers), decode=_ignore)
        self._watcher.notify(OF_NOTHING)

    async def replies(self, questions: Sequence[str]) -> list[bytes | None]:
        return await self._read("replies", wire.pack(list(questions)), decode=_same)

    async def withdraw(self, questions: Sequence[str]) -> None:
        await self._write("withdraw", wire.pack(list(questions)), decode=_ignore)

    # --- what clients ask for -----------------------------------------------------------

    async def create(
        self,
        instances: Sequence[NewInstance],
        *,
        reuse: bool = True,
        replacing: bytes | None = None,
    ) -> list[bool]:
        ending: tuple[bytes, ...] = (b"", b"", b"")
        if replacing is not None:
            ending = (replacing, *wire.parts_of_notice(child_terminated, replacing))
        wanted = (wire.pack_new(instances), int(reuse), *ending)
        created = await self._write("create", *wanted, decode=_flags)
        if any(created) or replacing is not None:
            self._watcher.notify(OF_INSTANCES if replacing is None else EVERYTHING)
        return created

    async def send(
        self, instance: str, event: bytes, *, life: str | None = None, request: str = ""
    ) -> Effect:
        sent = instance, event, wire.meant(life), "", request
        effect = await self._write("send", *sent, decode=_decode_effect)
        if effect == "done":
            self._watcher.notify(OF_INSTANCES)
        return effect

    async def create_and_send(
        self, new: NewInstance, event: bytes, *, request: str = ""
    ) -> Reached:
        packed = wire.pack_new([new])
        reached = await self._write("create_and_send", packed, event, request, decode=rows.reached)
        if not reached.repeated:
            self._watcher.notify()
        return reached

    async def answers(self, requests: Sequence[RequestKey]) -> list[bytes | None]:
        return await self._read("answers", wire.pack(list(requests)), decode=_same)

    async def cancel(
        self, instance: str, event: bytes, outcome: bytes, *, life: str | None = None
    ) -> Effect:
        unstarted = wire.pack_unstarted(event, outcome)
        return await self._change("send", instance, event, wire.meant(life), unstarted, "")

    async def terminate(self, instance: str, outcome: bytes, *, life: str | None = None) -> Effect:
        told = wire.parts_of_notice(child_terminated, outcome)
        return await self._change("terminate", instance, outcome, wire.meant(life), *told)

    async def suspend(self, instance: str, report: bytes, *, life: str | None = None) -> Effect:
        return await self._change("suspend_instance", instance, report, wire.meant(life))

    async def resume(self, instance: str, *, life: str | None = None) -> Effect:
        return await self._change("resume", instance, wire.meant(life))

    async def retry_now(
        self, instance: str, *, activity: str | None = None, life: str | None = None
    ) -> Effect:
        return await self._change("retry_now", instance, wire.meant(life), wire.meant(activity))

    async def reset(self, reset: Reset) -> ResetResult:
        told = wire.parts_of_notice(child_terminated, reset.outcome)
        done = await self._write("reset", wire.pack_reset(reset), *told, decode=_text)
        self._watcher.notify()
        return cast("ResetResult", done)

    async def fork(self, new: NewInstance, beginning: Beginning) -> bool:
        packed = wire.pack_new([new]), wire.pack_beginning(beginning)
        made = await self._write("fork", *packed, decode=bool)
        if made:
            self._watcher.notify()
        return made

    async def inbox(self, instance: str) -> list[StoredMessage]:
        return await self._read("inbox", instance, decode=rows.inbox)

    async def _change(self, name: str, *arguments: Any) -> Effect:
        effect = await self._write(name, *arguments, decode=_decode_effect)
        if effect == "done":
            self._watcher.notify()
        return effect

    async def get(self, instance: str) -> InstanceRecord | None:
        found = await self._read("get", instance, _RECORD_FIELDS, decode=_same)
        return rows.instance_record(found) if found else None

    async def not_running(
        self, instances: Sequence[str], *, lives: Sequence[str] | None = None
    ) -> list[str]:
        packed = b"" if lives is None else wire.pack(list(lives))
        asked = wire.pack(list(instances)), packed
        return await self._read("not_running", *asked, decode=rows.texts)

    async def history(self, instance: str) -> list[Execution]:
        found = await self._read("history", instance, decode=_same)
        return [rows.execution(row) for row in found]

    async def executions(self, instance: str) -> list[EndedExecution]:
        found = await self._read("executions", instance, _RECORD_FIELDS, decode=_same)
        return rows.ended_executions(found)

    async def remove_executions(self, ended_before: float, *, limit: int) -> int:
        removed = more = 0
        while removed < limit and more == removed:
            most = min(limit - removed, _REMOVE_AT_MOST)
            more += most
            removed += await self._write(
                "remove_executions", repr(ended_before), most, decode=_same
            )
        return removed

    async def activities(self, instance: str) -> list[ActivityTask]:
        found = await self._read("activities_of", instance, decode=_same)
        return sorted(map(rows.unfinished_activity, found), key=_by_command)

    async def count(self, where: InstanceFilter, *, most: int | None = None) -> int:
        search, number = Search(where, self._look), 0
        while not search.done and (most is None or number < most):
            number += sum(await search.look(LOOK_AT_MOST) or [])
        return number if most is None else min(number, most)

    async def count_by(
        self, where: InstanceFilter, by: str, *, attribute: bool = False
    ) -> list[Group]:
        search = Search(where, self._look)
        numbers: Counter[tuple[str, str]] = Counter()
        while not search.done:
            for name, value, number in (
                await search.look(LOOK_AT_MOST, by=by, attribute=attribute) or []
            ):
                numbers[name.decode(), value.decode()] += number
        return [Group(*key, number) for key, number in numbers.items()]

    async def stats(self) -> list[QueueStats]:
        found = await self._read("stats", decode=_same)
        return sorted(map(rows.queue_stats, found), key=_by_queue)

    async def troubles(self, after: float) -> dict[Trouble, int]:
        suspended = InstanceFilter(status=("suspended",))
        return {
            kind: await self.count(suspended, most=_MOST_TROUBLES)
            if kind == "suspended"
            else len(await self._in_trouble(kind, after, _MOST_TROUBLES))
            for kind in _TROUBLES
        }

    async def _in_trouble(self, kind: Trouble, after: float, most: int) -> Sequence[str]:
        """Return the ids of instances in a trouble, ``most`` of them at most, in any order."""
        ids: dict[str, None] = {}
        onwards = b""
        while True:
            wanted = (kind, repr(float(after)), LOOK_AT_MOST, onwards, most)
            onwards, found = await self._look("find_troubles", *wanted)
            ids.update(dict.fromkeys(unpack_texts(found)))
            if not onwards or len(ids) >= most:
                return tuple(ids)[:most]

    async def tried_again(self, instances: Sequence[str]) -> list[ActivityTask]:
        found = await self._read("tried_again", wire.pack(list(instances)), decode=_same)
        return [rows.unfinished_activity(row) for row in found]

    async def remove(
        self, where: InstanceFilter, *, ids: Sequence[str] | None = None, limit: int
    ) -> int:
        packed, removed = wire.pack_filter(where), 0
        for part in wire.pack_parts(ids, _REMOVE_AT_MOST):
            kept, more = 0, 1
            while more and removed < limit:
                most = min(limit - removed, _REMOVE_AT_MOST)
                wanted = (packed, most, LOOK_AT_MOST, part, kept)
                gone, kept, more = await self._write("remove", *wanted, decode=_same)
                removed += gone
        if removed:  # somebody may wait for one of them
            self._watcher.notify()
        return removed

    def in_transaction(self, connection: object) -> CallerTransaction:
        raise refused("Redis")

    def activity_transaction(
        self, worker: str, key: ActivityKey, attempt: int
    ) -> ActivityTransaction:
        raise no_transactions("Redis")

    # --- waking -------------------------------------------------------------------------

    def changes(self) -> int:
        return self._watcher.number

    def changed(self, what: Concern, since: int, worker: str = "") -> bool:
        return self._watcher.changed(what, since, worker)

    async def wait_change(self, seen: int, timeout: float) -> None:
        await self._watcher.wait(seen, timeout)

    # --- calls --------------------------------------------------------------------------

    def _request(
        self, name: str, arguments: tuple[Any, ...], decode: Callable[[Any], R], source: str
    ) -> Request[R]:
        nonce = f"{self._source}.{next(self._numbers)}"
        return Request(name, (source, *arguments), decode, nonce)

    async def _write(self, name: str, *arguments: Any, decode: Callable[[Any], R]) -> R:
        request = self._request(name, arguments, decode, self._source)
        return await self._tell(lambda: request)

    async def _tell(self, build: Callable[[], Request[R]]) -> R:
        try:
            return await self._run(build)
        except BackendUnavailable:
            self._watcher.notify()  # perhaps it was stored, and only the answer was lost
            raise

    def _told(self) -> None:
        self._watcher.notify()

    @property
    def _largest(self) -> int:
        return self._connections.calls.largest

    async def _read(self, name: str, *arguments: Any, decode: Callable[[Any], R]) -> R:
        request = Request(name, arguments, decode)
        return await self._run(lambda: request)

    async def _run(self, build: Callable[[], Request[R]]) -> R:
        """Make a request on the storage thread, together with those that wait beside it."""
        # What comes back is what the request decodes to, not the request.
        call = cast("Callable[[], R]", build)
        thread, connection = self._connections.thread, self._connections.calls
        return await thread.run_together(connection.call_together, call)

    async def _look(self, name: str, *arguments: Any) -> Any:
        return await self._read(name, *arguments, decode=_same)

    # Last, since its name hides the built-in type in what follows it.
    async def list(
        self, where: InstanceFilter, *, limit: int, after: str | None = None
    ) -> list[InstanceRecord]:
        search = Search(where, self._look, after)
        size = min(max(limit, 50), LOOK_AT_MOST)
        listed: list[InstanceRecord] = []
        while len(listed) < limit and not search.done:
            rest = limit - len(listed)
            found = await search.look(size, fields=_RECORD_FIELDS, limit=rest)
            if found is None:
                missing = "the page cannot begin after it; list from the start"
                raise InstanceNotFound(after or "", missing)
            listed += map(rows.instance_record, found)
            size = min(2 * size, LOOK_AT_MOST)  # what is meant is rare
        return listed


def _same(reply: Any) -> Any:
    return reply


def _ignore(reply: Any) -> None:
    pass


def _text(reply: bytes) -> str:
    return reply.decode()


def _decode_effect(reply: bytes) -> Effect:
    return cast("Effect", reply.decode())


def _flags(reply: Sequence[int]) -> list[bool]:
    return [bool(flag) for flag in reply]


def _by_command(task: ActivityTask) -> str:
    return task.key.command


def _by_name(worker: WorkerInfo) -> tuple[str, str]:
    return worker.name, worker.id


def _by_queue(stats: QueueStats) -> str:
    return stats.queue
