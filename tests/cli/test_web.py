"""`trioflow web` and `trioflow dev`: in processes of their own, as they are run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import trio
from click.testing import CliRunner

from trioflow import Registry, StoreMove, open_client
from trioflow._cli.app import app
from trioflow._cli.web import _is_loopback, _queues_of, _read_users

pytestmark = pytest.mark.timeout(180)  # processes that begin take their time where all are busy

ROOT = Path(__file__).parents[2]
FLOWS = """
from trioflow import Signal, workflow

go = Signal("go", str)

@workflow
async def greet(name: str) -> str:
    return f"Hello {name}, {await go.receive()}"
"""


@pytest.fixture(autouse=True)
def shop(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("TRIOFLOW_STORE", "TRIOFLOW_WEB_PASSWORD", "TRIOFLOW_MODULES"):
        monkeypatch.delenv(name, raising=False)
    Path("flows.py").write_text(FLOWS)


@contextmanager
def running(*arguments, bind="127.0.0.1:0", **environment):
    """A process of the command line; what it prints comes through one pipe."""
    process = subprocess.Popen(
        [sys.executable, "-m", "trioflow", *arguments, "--bind", bind],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def until(process, pattern):
    """Read until a line is so; return the match."""
    seen = ""
    for line in process.stdout:
        seen += line
        if found := re.search(pattern, line):
            return found
    raise AssertionError(f"it has not said {pattern!r}:\n{seen}")


def address(process):
    return until(process, r"^trioflow: (http://127\.0\.0\.1:\d+)/")[1]


def sign_in(client, password):
    answer = client.post("/sign-in", data={"name": "ann", "password": password})
    assert answer.status_code == 303, answer.text


def act(client, path, **given):
    """Fill in a form and send it."""
    form = client.get(path).text.partition('<main id="main"')[2]
    hidden = dict(re.findall(r'type="hidden" name="([^"]*)" value="([^"]*)"', form))
    return client.post(path, data={**hidden, **given})


def test_dev_works_and_shows_and_ends_with_its_group():
    with running("dev", "flows", "-v") as process:
        until(
            process,
            r"^store: sqlite:///trioflow.db \(.* export TRIOFLOW_STORE=sqlite:///trioflow.db",
        )
        password = until(process, r"^Sign in with the password ([0-9a-f-]{19})$")[1]
        with httpx.Client(base_url=address(process)) as client:
            assert 'href="/sign-in?next=%2Fworkers"' in client.get("/workers").text
            sign_in(client, password)
            given = {"argument-name": "ann", "id": "g"}
            answer = act(client, "/start?workflow=greet", **given)
            assert answer.headers["location"] == "/instances/g?did=start"
            assert act(client, "/instances/g/do/signal", name="go", value="now").status_code == 303
            until(process, "'ann': signal, instance 'g': 'go'")

            Path("flows.py").write_text(FLOWS.replace("Hello", "Good day"))
            until(process, "A file has changed")
            # It has not ended for good, and another port is free.
            found = until(process, r"have ended|^trioflow: (http://127\.0\.0\.1:\d+)/")[1]
            client.base_url = found
            assert "Signed in as ann" in client.get("/").text  # the session goes on
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C in a terminal
        until(process, "Worker and page have ended.")
        assert process.wait(20) == 0
        assert process.stdout.read() == ""  # nobody else holds the pipe
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert Path("trioflow.db").exists()

    async def result():
        async with open_client("sqlite:///trioflow.db") as client:
            return await client.handle("g").result()

    assert trio.run(result) == "Hello ann, now"


def test_dev_leaves_no_orphan_if_it_is_killed():
    with running("dev", "flows") as process:
        address(process)
        process.kill()
        process.wait()
        until(process, "Worker and page have ended.")
        assert process.stdout.read() == ""  # nobody else holds the pipe


def test_dev_serves_all_queues_that_definitions_name():
    registry = Registry()

    @registry.workflow(queue="slow")
    async def flow() -> None: ...

    @registry.activity(queue="mail")
    async def send() -> None: ...

    assert _queues_of(registry) == ["default", "mail", "slow"]


def test_dev_ends_with_what_cannot_be_served():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running("dev", "flows", bind=f"127.0.0.1:{port}") as process:
            until(process, f"--bind 127.0.0.1:{port}: ")
            assert process.wait(20) == 1


def test_dev_waits_for_an_edit_of_code_that_an_edit_broke():
    with running("dev", "flows") as process:
        address(process)
        for broken in ("1 / 0", "import nothing_like_it"):
            Path("broken").write_text(broken)
            Path("broken").replace("flows.py")
            until(process, r"^The worker has ended \(exit code 1\); it begins anew when a file")
        Path("mended").write_text(FLOWS)
        Path("mended").replace("flows.py")
        address(process)

        # No edit opens a store that a move has closed.
        async def move():
            await StoreMove("sqlite:///trioflow.db", "sqlite:///other.db").run()

        trio.run(move)
        until(process, "other.db")
        assert process.wait(20) == 1


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_web_serves_a_store_until_it_is_told_to_end(sent):
    async def fill():
        async with open_client("sqlite:///shop.db"):
            pass

    trio.run(fill)
    users = Path("users")
    users.write_text("# those on call\nann:se:cret\n\nbob:other\n")
    store = ("--store", "sqlite:///shop.db")
    with running("web", *store, "-m", "flows", "--users", "users", "--title", "shop") as process:
        with httpx.Client(base_url=address(process)) as client:
            assert "<title>Overview · shop</title>" in client.get("/").text
            sign_in(client, "se:cret")
            assert "greet" in client.get("/start").text
            assert client.get("/", headers={"host": "evil.example"}).status_code == 421
            client.cookies.clear()
            assert client.get("/", headers={"x-forwarded-for": "::1"}).status_code == 303
        os.kill(process.pid, sent)
        said = process.stdout.read()
        assert process.wait(20) == 0
        assert "The page has ended." in said
        assert "Traceback" not in said
        assert "se:cret" not in said


def test_passwords_are_not_in_what_is_printed():
    Path("shop.db").touch()
    environment = {"TRIOFLOW_WEB_PASSWORD": "hidden-word"}
    with running("web", "--store", "sqlite:///shop.db", **environment) as process:
        with httpx.Client(base_url=address(process)) as client:
            client.post("/sign-in", data={"name": "ann", "password": "hidden-w0rd"})
            sign_in(client, "hidden-word")
        process.terminate()
        said = process.stdout.read()
    assert "sign-in failed, from 127.0.0.1" in said
    assert "'ann' signed in" in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["web"], 2, "which store?"),
        (["web", "--store", "sqlite:///none.db"], 3, "there is no file 'none.db'"),
        (["web", "--bind", "0.0.0.0:8700"], 2, "is reached by others: give a password"),
        (["web", "--bind", "[::]:8700"], 2, "is reached by others"),
        (["web", "--bind", "unix:/tmp/x"], 2, "is reached by others"),
        (["web", "--proxy-header", "X-User"], 2, "needs proxies"),
        (["web", "--host", "http://x", "--password", "p"], 2, "without a scheme"),
        (["web", "--users", "bad"], 2, "line 1 is not NAME:PASSWORD"),
        (["web", "--users", "empty"], 2, "there is nobody in it"),
        (["web", "--users", "bad", "--password", "p"], 2, "one of them is enough"),
        (["web", "--bind", "203.0.113.1:1", "--password", "p"], 1, "--bind 203.0.113.1:1: "),
        (["web", "--bind", "127.0.0.1:x", "--password", "p"], 2, "--bind 127.0.0.1:x: "),
        (["web", "--bind", "127.0.0.1:99999", "--password", "p"], 2, "with a port up to 65535"),
        (["web", "-m", "nothing_like_it", "--password", "p"], 2, "there is no module"),
        (["dev"], 2, "Missing argument"),
        (["dev", "flows", "--bind", "0.0.0.0:8700"], 2, "is reached by others"),
        (["dev", "nothing_like_it", "--no-reload"], 2, "there is no module"),
    ],
)
def test_mistakes_are_told_in_a_line(arguments, code, said, monkeypatch):
    Path("shop.db").touch()
    Path("bad").write_text("ann\n")
    Path("empty").write_text("\n")
    monkeypatch.setenv("TRIOFLOW_WEB_KEY", "")
    if arguments[0] == "web" and said != "which store?" and "--store" not in arguments:
        monkeypatch.setenv("TRIOFLOW_STORE", "sqlite:///shop.db")
    monkeypatch.setattr(sys, "path", [*sys.path])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.split())


def test_a_key_that_is_too_short_is_refused(monkeypatch):
    Path("shop.db").touch()
    monkeypatch.setenv("TRIOFLOW_WEB_KEY", "short")
    result = CliRunner().invoke(app, ["web", "--store", "sqlite:///shop.db", "--password", "p"])
    assert result.exit_code == 2
    assert "too few" in result.output
    assert "short" not in result.output


def test_which_addresses_others_reach():
    assert all(map(_is_loopback, ["127.0.0.1:1", "[::1]:1", "localhost:1", "127.8.8.8:0"]))
    assert not any(map(_is_loopback, ["0.0.0.0:1", "[::]:1", "ops:1", ":8700", "unix:/x", ""]))


def test_passwords_may_have_colons():
    Path("users").write_text("ann:a:b:c\n")
    assert _read_users(Path("users"), None) == {"ann": "a:b:c"}
