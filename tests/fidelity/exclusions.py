"""Which tests of trio's and anyio's suites are not made as workflows, and why.

What is not named here is made. A test that calls ``trio.run()`` nowhere needs no entry, nor does
one that gives it an option which a workflow has not (`runs.Workflows.unsuited`).
"""

# mypy: ignore-errors

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

#: Why, and whole files, or tests without their parameters; ``*`` stands for anything.
REASONS: dict[str, tuple[str, ...]] = {
    "a workflow does no I/O: sockets, pipes, TLS over them, files, processes": (
        "trio/_core/_tests/test_io.py",
        "trio/_core/_tests/test_windows.py",
        "trio/_tests/test_dtls.py",
        "trio/_tests/test_fakenet.py",
        "trio/_tests/test_file_io.py",
        "trio/_tests/test_highlevel_open_tcp_listeners.py",
        "trio/_tests/test_highlevel_open_tcp_stream.py",
        "trio/_tests/test_highlevel_open_unix_stream.py",
        "trio/_tests/test_highlevel_socket.py",
        "trio/_tests/test_highlevel_ssl_helpers.py",
        "trio/_tests/test_path.py",
        "trio/_tests/test_socket.py",
        "trio/_tests/test_ssl.py",
        "trio/_tests/test_subprocess.py",
        "trio/_tests/test_testing.py::test_open_stream_to_socket_listener",
        "trio/_tests/test_unix_pipes.py",
        "trio/_tests/test_wait_for_object.py",
        "trio/_tests/test_windows_pipes.py",
        "anyio/tests/streams/test_file.py",
        "anyio/tests/streams/test_tls.py",
        "anyio/tests/test_fileio.py",
        "anyio/tests/test_sockets.py",
        "anyio/tests/test_subprocesses.py",
        "anyio/tests/test_tempfile.py",
    ),
    "a workflow has no threads, and nobody calls into it from one": (
        "trio/_core/_tests/test_thread_cache.py",
        "trio/_tests/test_threads.py",
        "trio/_core/_tests/test_asyncgen.py::test_last_minute_gc_edge_case",
        "trio/_core/_tests/test_run.py::test_TrioToken_*",
        "trio/_core/_tests/test_run.py::test_cancel_scope_repr",
        "trio/_core/_tests/test_run.py::test_slow_abort_*",
        "trio/_core/_tests/test_run.py::test_trio_context_detection",
        "trio/_tests/test_util.py::test_is_main_thread",
        "anyio/tests/test_from_thread.py",
        "anyio/tests/test_to_interpreter.py",
        "anyio/tests/test_to_process.py",
        "anyio/tests/test_to_thread.py",
    ),
    "signals, and Control-C with them, belong to the host": (
        "trio/_core/_tests/test_cancelled.py::test_reason_delayed_ki",
        "trio/_core/_tests/test_ki.py",
        "trio/_core/_tests/test_run.py::test_async_function_implemented_in_C",
        "trio/_tests/test_signals.py",
        "anyio/tests/test_signals.py",
    ),
    "a loop within another one is the host's affair, and so are instruments of a loop": (
        "trio/_core/_tests/test_guest_mode.py",
        "trio/_core/_tests/test_instrumentation.py",
    ),
    "system tasks would outlive the workflow's nurseries": (
        "trio/_core/_tests/test_run.py::test_sniffio_integration",
        "trio/_core/_tests/test_run.py::test_spawn_name",
        "trio/_core/_tests/test_run.py::test_spawn_system_task",
        "trio/_core/_tests/test_run.py::test_system_task_*",
    ),
    "the clock stands still within a turn, whatever its rate, and begins at no certain number": (
        "trio/_core/_tests/test_run.py::test_basic_timeout",
        "trio/_core/_tests/test_run.py::test_current_clock",
        "trio/_core/_tests/test_run.py::test_current_time",
        "trio/_core/_tests/test_run.py::test_current_time_with_mock_clock",
        "trio/_core/_tests/test_run.py::test_yield_briefly_checks_for_timeout",
    ),
    "the order in which tasks run is random on trio, and fixed in a workflow": (
        "trio/_tests/test_scheduler_determinism.py::test_the_trio_scheduler_is_not_deterministic",
    ),
    "how trio.run() checks its arguments": (
        "trio/_core/_tests/test_run.py::test_basic",
        "trio/_core/_tests/test_run.py::test_nice_error_on_bad_calls_to_run_or_spawn",
    ),
    "the numbers of trio's own tasks, which a workflow has not": (
        "trio/_core/_tests/test_run.py::test_current_statistics",
    ),
    "it breaks trio's loop on purpose, for which an instance is suspended": (
        "trio/_core/_tests/test_run.py::test_broken_abort",
        "trio/_core/_tests/test_run.py::test_error_in_run_loop",
    ),
    "it looks at the context of an error, in which the scope around a workflow has a part": (
        "trio/_core/_tests/test_run.py::test_nursery_nested_child_misnest",
    ),
    "asyncio's functions raise DeterminismError": (
        "trio/_core/_tests/test_run.py::test_asyncio_function_inside_nursery_does_not_explode",
        "trio/_core/_tests/test_run.py::test_calling_asyncio_function_gives_nice_error",
    ),
    "a workflow does not see the context variables and generator hooks of its host": (
        "trio/_core/_tests/test_asyncgen.py::test_delegation_to_existing_hooks",
        "trio/_core/_tests/test_asyncgen.py::test_fallback_when_no_hook_claims_it",
        "trio/_core/_tests/test_run.py::test_contextvar_support",
    ),
    "it waits in what was made outside of any loop, as what several instances share is": (
        "anyio/tests/test_synchronization.py::*::test_instantiate_outside_event_loop",
    ),
    "it tests no loop, but a console, pytest in other processes, or what linters see of trio": (
        "trio/_tests/test_exports.py",
        "trio/_tests/test_repl.py",
        "trio/_tests/tools/test_gen_exports.py",
        "trio/_tests/tools/test_mypy_annotate.py",
        "trio/_tests/tools/test_sync_requirements.py",
        "anyio/tests/test_pytest_plugin.py",
    ),
}

#: What is made as a workflow, but neither replayed nor evicted, and why.
ONLY_LIVE: dict[str, tuple[str, ...]] = {
    "it looks at a warning or a log, which is not given again on replay": (
        "trio/_core/_tests/test_asyncgen.py::test_asyncgen_basics",
        "trio/_core/_tests/test_asyncgen.py::test_asyncgen_throws_during_finalization",
    ),
}

WHOLE_FILES = frozenset(name for names in REASONS.values() for name in names if "::" not in name)


def shapes() -> list[str]:
    """Return all that both tables name."""
    return [shape for table in (REASONS, ONLY_LIVE) for each in table.values() for shape in each]


def path_in_suite(path: Path) -> str:
    """Return a file's path from the package whose test it is; empty for any other file."""
    parts = path.parts
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "trio":
            return "/".join(parts[index:])
        if parts[index].startswith("anyio-"):
            return "/".join(("anyio", *parts[index + 1 :]))
    return ""


def reason_for(path: str, test: str) -> str | None:
    """Return why a test is excluded, ``None`` if it is made.

    Args:
        path: As `path_in_suite` says.
        test: Its name in that file, with the classes that it is in, and without parameters.
    """
    return _find(REASONS, path, test)


def only_live(path: str, test: str) -> bool:
    """Return whether a test is made once only."""
    return _find(ONLY_LIVE, path, test) is not None


def _find(table: dict[str, tuple[str, ...]], path: str, test: str) -> str | None:
    name = f"{path}::{test}"
    for why, shapes in table.items():
        if any(shape == path or fnmatchcase(name, shape) for shape in shapes):
            return why
    return None
