"""Every store does what the model does, in random sequences of calls; broken ones are found."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.stores import LOCAL, SERVERS, open_store
from trioflow.backends.sqlite.backend import SqliteBackend
from trioflow.testing.lockstep import run_lockstep

ROOT = Path(__file__).parents[2]
# Examples that differ from run to run belong to the campaign.
MODEST = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class Ticking:
    """A clock that goes on a little whenever it is read."""

    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        self.now += 0.001
        return self.now


def opening(kind, path, servers):
    """Return what opens an empty store of a kind, again and again."""
    clock = Ticking() if kind in {"memory", "sqlite", "postgres"} else None

    @contextlib.asynccontextmanager
    async def empty_store():
        folder = path / f"{len(list(path.iterdir()))}"
        folder.mkdir()
        backend = open_store(kind, folder, servers, clock=clock)()
        await backend.open()
        try:
            yield backend
        finally:
            await backend.aclose()

    return empty_store


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", LOCAL)
def test_local_stores_do_what_the_model_does(kind, tmp_path):
    run_lockstep(**{kind: opening(kind, tmp_path, None)}, settings=MODEST)


def test_it_runs_on_asyncio_and_several_stores_at_once(tmp_path):
    few = settings(MODEST, max_examples=3)
    stores = {kind: opening(kind, tmp_path, None) for kind in LOCAL}
    run_lockstep(settings=few, loop="asyncio", **stores)


@pytest.mark.servers
@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", SERVERS)
def test_servers_do_what_the_model_does(kind, tmp_path, servers):
    run_lockstep(
        **{kind: opening(kind, tmp_path, servers)}, settings=settings(MODEST, max_examples=25)
    )


@pytest.mark.campaign
@pytest.mark.parametrize("kind", ["memory", "sqlite", *SERVERS])
def test_long_sequences_of_calls(kind, tmp_path, servers):
    long = settings(
        MODEST, max_examples=1000, stateful_step_count=60, derandomize=False, print_blob=True
    )
    run_lockstep(**{kind: opening(kind, tmp_path, servers)}, settings=long)


class Broken:
    """A connection to SQLite that has some words of every statement replaced."""

    def __init__(self, connection, old, new):
        self._connection = connection
        self._old, self._new = old, new
        self.changed = 0

    def __getattr__(self, name):
        return getattr(self._connection, name)

    def execute(self, sql, *values):
        text = sql.replace(self._old, self._new)
        self.changed += text != sql
        return self._connection.execute(text, *values)


def found(path, old, new, examples=MODEST.max_examples):
    """Break SQLite's statements; return whether that is noticed."""
    connections = []

    @contextlib.asynccontextmanager
    async def broken_store():
        backend = SqliteBackend(path / f"{len(connections)}.db", clock=Ticking())
        await backend.open()
        store = backend._store()
        store.connection = Broken(store.connection, old, new)
        connections.append(store.connection)
        try:
            yield backend
        finally:
            await backend.aclose()

    quick = settings(
        MODEST, max_examples=examples, phases=[Phase.generate], report_multiple_bugs=False
    )
    try:
        run_lockstep(broken=broken_store, settings=quick)
    except Exception as exc:
        assert "after these calls:" in "".join([str(exc), *getattr(exc, "__notes__", [])])
        return True
    finally:
        assert sum(connection.changed for connection in connections), "nothing was broken"
    return False


BROKEN = {
    "a commit does not ask for the lease": ("AND instances.worker = v.worker", ""),
    "a commit does not ask for the number of turns": ("AND instances.turns = v.number", ""),
    "a commit does not ask for the execution": ("AND instances.execution = v.execution", ""),
    "a commit does not ask for the life": ("AND instances.life = v.life AND", "AND"),
    "messages reach any life": ("AND (v.life IS NULL OR instances.life = v.life)", ""),
    "what killed its worker is ordinary": ("level = priority - 1000,", "level = priority,"),
    "children of other lives are ended": ("AND child.parent_life = family.life", ""),
    "what is marked is given to others": ("? AND cancel IS NULL", "?"),
    "what has finished is not deleted": (
        "DELETE FROM activities WHERE (instance = ? AND execution = ? AND command = ? AND",
        "DELETE FROM activities WHERE (instance = ? AND execution = ? AND command = '?' || ? AND",
    ),
    "a longer wait counts less": ("ORDER BY ready_at, seq LIMIT", "ORDER BY -ready_at, seq LIMIT"),
    "the lowest priority comes first": ("ORDER BY priority DESC", "ORDER BY priority"),
    "messages come in the wrong order": ("ORDER BY seq", "ORDER BY -seq"),
    "only one message is counted": ("unread + v.messages", "unread + 1"),
    "consumed messages are not counted out": ("instances.unread - v.consumed", "instances.unread"),
    "what arrives meanwhile is overlooked": ("instances.unread > v.consumed", "0"),
    "another's instance is not left to it": ("sticky_worker IS NULL OR", "1 OR"),
    "the dead are waited for": ("OR NOT EXISTS", "OR 0 AND EXISTS"),
    "a death is no attempt": ("attempt = attempt + ?", "attempt = attempt + 0 * ?"),
    "what is taken stays ready": ("ready_at = NULL", "ready_at = ready_at"),
    "the next execution keeps its turns": (
        "execution + 1, turns = 0",
        "execution + 1, turns = turns",
    ),
    "stale messages are kept": ("execution <= ?", "execution < ? - 9"),
    "a retry is due at once": ("attempt = ?, visible_at = ?", "attempt = ?, visible_at = 0 * ?"),
    "a suspended instance stays held": (
        "wake_at = ?, worker = NULL",
        "wake_at = ?, worker = worker",
    ),
    "descendants are not ended": (
        "ON child.parent = family.id",
        "ON 0 AND child.parent = family.id",
    ),
    "what waits survives a termination": (
        "WHERE instance = ? AND worker IS NULL",
        "WHERE 0 AND instance = ? AND worker IS NULL",
    ),
    "who runs is not told of a termination": (
        "cancel = ? WHERE instance = ?",
        "cancel = ? WHERE 0 AND instance = ?",
    ),
    "cancelled activities are not marked": ("SET cancel = ?\n", "SET cancel = substr(?, 9, 0)\n"),
    "an earlier event does not hasten": ("instances.ready_at > v.now", "0"),
    "suspended instances become ready": ("instances.status = 'running'\n", "1\n"),
    "messages reach any execution": ("v.execution IS NULL OR", "1 OR"),
    "a status is forgotten": (
        "coalesce(v.custom_status, instances.custom_status)",
        "v.custom_status",
    ),
    "excluded work hides the rest": ("AND workflow NOT IN", "AND workflow IN"),
    "an excluded instance hides the rest": ("AND id NOT IN", "AND id IN"),
    "the newest is removed first": ("ORDER BY finished_at LIMIT", "ORDER BY -finished_at LIMIT"),
    "turns stay behind": ("DELETE FROM turns", "DELETE FROM turns WHERE 0 AND 1 --"),
    "a cancel is forgotten when its worker dies": (
        "visible_at = ? WHERE worker = ? AND cancel IS NULL",
        "visible_at = ?, cancel = NULL WHERE worker = ?",
    ),
    "what was taken in isolation is not blamed": ("AND deaths > 0 LIMIT 1", "AND 0 LIMIT 1"),
    "a cancel ends what has begun": ("AND turns = 0 AND execution", "AND execution"),
    "a page begins too late": ("seq < ?", "seq < ? - 1"),
}


@pytest.mark.campaign
@pytest.mark.parametrize("what", BROKEN)
def test_what_is_broken_is_found(what, tmp_path):
    # Most are found by the modest profile as well.
    assert found(tmp_path, *BROKEN[what], examples=400)


@pytest.mark.parametrize("what", ["messages come in the wrong order", "what is taken stays ready"])
def test_what_is_broken_is_found_soon(what, tmp_path):
    assert found(tmp_path, *BROKEN[what])


def test_without_hypothesis_it_says_what_to_install():
    code = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import trioflow.testing.conformance\n"
        "import trioflow.testing.lockstep"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert "ImportError: " in run.stderr
    assert "pip install 'trioflow[testing]'" in run.stderr
