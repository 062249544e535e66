"""The table of what a workflow may not call, for the source check, monitor and audit hook.

The codes are explained in `trioflow._engine.guard.codes`; `trioflow lint` reads this table, too.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CHECKS", "Check"]


@dataclass(frozen=True, slots=True)
class Check:
    """A check: calls that are not allowed in a workflow, and what to write instead.

    Attributes:
        code: The stable short code, ``"TF101"``; several checks may share one.
        hint: What to do instead, as an imperative: ``"use trioflow.now()"``.
        calls: The callables, each as ``"module:qualified.name"``.
        events: Audit events that mean the same; a trailing ``*`` stands for any ending.
        fine_with: The number of arguments from which a call is fine; 0 when it never is.
        since: The first number of the engine's rules by which it is stopped as it happens; the
            histories of older executions may have gone on with it.
    """

    code: str
    hint: str
    calls: tuple[str, ...]
    events: tuple[str, ...] = ()
    fine_with: int = 0
    since: int = 0


def _of(prefix: str, names: str) -> tuple[str, ...]:
    """Prefix each of several names: ``_of("time:", "time sleep")``."""
    return tuple(prefix + name for name in names.split())


_NOW = "use trioflow.now()"
_RANDOM = "use trioflow.random().random(), .randint() and so on"
_UUID = "use trioflow.uuid4()"
_ACTIVITY = "do this in an activity"
_SYNC_ACTIVITY = "make the function a sync activity, which runs in a thread, and await that"
_NURSERY = "use a nursery (trio.open_nursery, anyio.create_task_group)"

_PATH_METHODS = (
    "open read_text read_bytes write_text write_bytes exists is_file is_dir is_symlink stat lstat "
    "iterdir glob rglob walk mkdir rmdir touch unlink rename replace symlink_to hardlink_to chmod "
    "owner group readlink resolve samefile"
)
_HTTP_VERBS = "get post put patch delete head options request"

_CLOCKS = (
    Check(
        "TF101",
        _NOW,
        (
            *_of(
                "time:",
                "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time "
                "process_time_ns thread_time thread_time_ns clock_gettime clock_gettime_ns",
            ),
            "os:times",
        ),
    ),
    Check("TF101", _NOW, _of("time:", "localtime gmtime ctime asctime"), fine_with=1),
    Check("TF101", _NOW, ("time:strftime",), fine_with=2),
    Check("TF101", _NOW, (*_of("datetime:datetime.", "now utcnow"), "datetime:date.today")),
    Check("TF102", "use `await trio.sleep(...)`", ("time:sleep",), ("time.sleep",)),
)

_CHANCE = (
    Check(
        "TF103",
        _RANDOM,
        _of(
            "random:",
            "random uniform triangular randint choice randrange sample shuffle choices "
            "normalvariate lognormvariate expovariate vonmisesvariate gammavariate gauss "
            "betavariate binomialvariate paretovariate weibullvariate getstate setstate seed "
            "getrandbits randbytes",
        )
        + _of(
            "numpy.random:",
            "rand randn randint random random_sample choice shuffle permutation normal "
            "uniform seed",
        ),
    ),
    Check(
        "TF103",
        "use trioflow.random(), or give a seed that comes from it",
        ("random:Random", "numpy.random:default_rng"),
        fine_with=1,
    ),
    Check("TF104", _UUID, _of("uuid:", "uuid1 uuid4 uuid6 uuid7")),
    Check("TF104", _UUID, ("uuid:uuid8",), fine_with=3),
    Check(
        "TF105",
        "use trioflow.random(), or `trioflow.side_effect(...)` for a secret",
        (
            *_of("os:", "urandom getrandom"),
            "random:SystemRandom",
            *_of(
                "secrets:",
                "token_bytes token_hex token_urlsafe choice randbelow randbits SystemRandom",
            ),
        ),
    ),
)

_FILES = (
    Check(
        "TF106",
        _ACTIVITY,
        _of("builtins:", "open")
        + _of("io:", "open FileIO open_code")
        + _of("pathlib:Path.", _PATH_METHODS)
        + _of(
            "os:",
            "open remove unlink rename replace mkdir makedirs rmdir removedirs renames listdir "
            "scandir walk stat lstat access chmod chown link symlink truncate utime chdir getcwd",
        )
        + _of("os.path:", "exists lexists isfile isdir getsize getmtime getctime getatime realpath")
        + _of("glob:", "glob iglob")
        + _of(
            "shutil:",
            "copy copy2 copyfile copytree copymode copystat move rmtree disk_usage which "
            "make_archive unpack_archive",
        )
        + _of(
            "tempfile:",
            "mkstemp mkdtemp NamedTemporaryFile TemporaryFile TemporaryDirectory "
            "SpooledTemporaryFile",
        ),
        (
            "open",
            "glob.glob*",
            "pathlib.Path.*",
            "shutil.*",
            "tempfile.*",
            "fcntl.*",
            *_of(
                "os.",
                "chdir chflags chmod chown fwalk getxattr link listdir listdrives listmounts "
                "listvolumes listxattr lockf mkdir remove removexattr rename rmdir scandir "
                "setxattr symlink truncate utime walk",
            ),
        ),
    ),
    Check(
        "TF107",
        "wait for a Signal instead",
        ("builtins:input", "getpass:getpass"),
        ("builtins.input",),
    ),
)

_OUTSIDE = (
    Check(
        "TF108",
        _ACTIVITY,
        _of(
            "socket:",
            "socket create_connection create_server socketpair getaddrinfo getnameinfo "
            "gethostbyname gethostbyname_ex gethostbyaddr gethostname getfqdn fromfd",
        )
        + _of(
            "socket:socket.",
            "connect connect_ex bind listen accept recv recv_into recvfrom send sendall sendto",
        )
        + _of("urllib.request:", "urlopen urlretrieve OpenerDirector.open")
        + _of("http.client:", "HTTPConnection.request HTTPConnection.connect")
        + _of("requests:", _HTTP_VERBS)
        + _of("requests:Session.", "request send " + _HTTP_VERBS)
        + _of("httpx:", _HTTP_VERBS + " stream")
        + _of("httpx:Client.", "send stream " + _HTTP_VERBS)
        + _of("httpx:AsyncClient.", "send stream " + _HTTP_VERBS)
        + ("aiohttp:ClientSession", "aiohttp:request", "urllib3:request"),
        (
            *_of("", "socket.* urllib.* http.client.* ftplib.* imaplib.* poplib.* smtplib.*"),
            *_of("", "nntplib.* telnetlib.* webbrowser.*"),
        ),
    ),
    Check(
        "TF109",
        _ACTIVITY,
        _of("subprocess:", "run call check_call check_output Popen getoutput getstatusoutput")
        + _of(
            "os:",
            "system popen fork forkpty posix_spawn posix_spawnp spawnl spawnle spawnlp spawnlpe "
            "spawnv spawnve spawnvp spawnvpe execl execle execlp execlpe execv execve execvp "
            "execvpe kill killpg waitpid",
        )
        + ("multiprocessing:Process", "multiprocessing:Pool")
        + ("multiprocessing.process:BaseProcess.start",),
        (
            "subprocess.Popen",
            *_of("os.", "system exec fork forkpty posix_spawn spawn startfile kill killpg"),
            "pty.spawn",
            "signal.pthread_kill",
        ),
    ),
    Check(
        "TF110",
        _SYNC_ACTIVITY,
        _of("threading:", "Thread.start Timer")
        + _of("concurrent.futures:", "ThreadPoolExecutor.submit ProcessPoolExecutor.submit")
        + ("concurrent.futures.thread:ThreadPoolExecutor.submit",)
        + ("concurrent.futures.process:ProcessPoolExecutor.submit",)
        + ("concurrent.futures._base:Executor.submit", "concurrent.futures._base:Executor.map")
        + _of("_thread:", "start_new_thread start_joinable_thread"),
        ("_thread.start_new_thread", "_thread.start_joinable_thread"),
    ),
    Check(
        "TF110",
        "use trio.Event or trio.open_memory_channel, which do not block the worker",
        _of("threading:", "Thread.join Event.wait Condition.wait Barrier.wait")
        + _of("queue:", "Queue.get Queue.put")
        + ("concurrent.futures._base:Future.result", "concurrent.futures:wait"),
    ),
    Check(
        "TF113",
        _ACTIVITY,
        ("sqlite3:connect", "psycopg:connect", "psycopg2:connect", "pymysql:connect"),
        ("sqlite3.connect",),
    ),
)

_ASYNCIO = (
    Check("TF111", "use `await trio.sleep(...)`", ("asyncio:sleep",)),
    Check(
        "TF111",
        "use trio.fail_after, trio.move_on_after or anyio.fail_after",
        _of("asyncio:", "wait_for timeout timeout_at"),
    ),
    Check(
        "TF111",
        _NURSERY,
        _of("asyncio:", "create_task ensure_future TaskGroup Runner run run_coroutine_threadsafe"),
    ),
    Check(
        "TF111",
        "use anyio.gather, anyio.as_completed or a nursery",
        _of("asyncio:", "gather wait as_completed shield"),
    ),
    Check("TF111", _SYNC_ACTIVITY, ("asyncio:to_thread",)),
    Check(
        "TF111",
        "use the class of that name in trio, or trio.open_memory_channel for a queue",
        _of(
            "asyncio:",
            "Event Lock Condition Semaphore BoundedSemaphore Barrier Queue PriorityQueue "
            "LifoQueue Future",
        ),
    ),
    Check(
        "TF111",
        _ACTIVITY,
        _of(
            "asyncio:",
            "get_event_loop get_running_loop new_event_loop open_connection start_server "
            "open_unix_connection start_unix_server create_subprocess_exec "
            "create_subprocess_shell",
        ),
    ),
)

_TRIO = (
    Check(
        "TF112",
        _SYNC_ACTIVITY,
        (
            "trio.to_thread:run_sync",
            "anyio.to_thread:run_sync",
            "anyio.to_interpreter:run_sync",
            "trio.lowlevel:start_thread_soon",
        ),
    ),
    Check(
        "TF112",
        "make the function an activity that calls it",
        ("anyio.to_process:run_sync",),
    ),
    Check(
        "TF112",
        "a workflow is not a worker thread: call the function itself",
        _of("trio.from_thread:", "run run_sync check_cancelled")
        + _of("anyio.from_thread:", "run run_sync check_cancelled start_blocking_portal"),
    ),
    Check(
        "TF112",
        "a workflow runs in a loop already: await the function itself",
        ("trio:run", "anyio:run", "trio.lowlevel:start_guest_run"),
    ),
    Check(
        "TF112", "start the task in a nursery of the workflow", ("trio.lowlevel:spawn_system_task",)
    ),
    Check(
        "TF112",
        "wait for a trio.Event or a Signal",
        ("trio.testing:wait_all_tasks_blocked", "anyio:wait_all_tasks_blocked"),
    ),
    Check(
        "TF112",
        "receive a trioflow Signal, and send it from the process that gets the signal",
        ("trio:open_signal_receiver", "anyio:open_signal_receiver"),
    ),
    Check(
        "TF112",
        _ACTIVITY,
        _of(
            "trio:",
            "open_file run_process open_tcp_stream open_tcp_listeners serve_tcp open_unix_socket "
            "open_ssl_over_tcp_stream open_ssl_over_tcp_listeners serve_ssl_over_tcp",
        )
        + _of("trio:Path.", _PATH_METHODS)
        + _of("trio.lowlevel:", "open_process wait_readable wait_writable notify_closing")
        + _of("trio.socket:", "socket socketpair fromfd from_stdlib_socket getaddrinfo getnameinfo")
        + _of(
            "anyio:",
            "open_file run_process open_process connect_tcp connect_unix create_tcp_listener "
            "create_unix_listener create_udp_socket create_connected_udp_socket "
            "create_unix_datagram_socket create_connected_unix_datagram_socket getaddrinfo "
            "getnameinfo wait_readable wait_writable wait_socket_readable wait_socket_writable "
            "NamedTemporaryFile TemporaryFile TemporaryDirectory SpooledTemporaryFile mkstemp "
            "mkdtemp",
        )
        + _of("anyio:Path.", _PATH_METHODS),
    ),
)

_ENVIRONMENT = (
    Check(
        "TF114",
        "give the value to the workflow as an argument, or read it in an activity or with "
        "trioflow.side_effect(...)",
        ("os:getenv", "os:getenvb", "os:environ"),
        since=1,
    ),
)

#: Every check. A callable named by two checks belongs to the first.
CHECKS: tuple[Check, ...] = (
    *_CLOCKS,
    *_CHANCE,
    *_FILES,
    *_ENVIRONMENT,
    *_OUTSIDE,
    *_ASYNCIO,
    *_TRIO,
)
