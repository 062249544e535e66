"""Every check of the project, each in an environment of its own: `nox --list` names them.

A session belongs here when a change has to pass it, or when it measures something. `nox` alone
runs the sessions that a change has to pass; what follows `--` goes to the tool that is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")["project"]
OLDEST_TRIO = next(
    bound.removeprefix("trio>=") for bound in PROJECT["dependencies"] if bound.startswith("trio>=")
)
NEWS = ["towncrier", "build", "--draft", "--version", PROJECT["version"]]

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests", "tests_trio"]


def _reach_pyenv_pythons() -> None:
    """Let pyenv's `python3.12` and its like work, which by default answer for one version only."""
    pyenv = shutil.which("pyenv")
    if pyenv is None or "PYENV_VERSION" in os.environ:
        return
    command = [pyenv, "versions", "--bare"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    found = [v for v in listed if any(v.startswith(f"{python}.") for python in PYTHONS)]
    os.environ["PYENV_VERSION"] = ":".join([*found, "system"])


_reach_pyenv_pythons()


def _existing(*paths: str) -> list[str]:
    return [path for path in paths if (ROOT / path).exists()]


@nox.session
def lint(session: nox.Session) -> None:
    """Style, formatting, layers and news; `nox -s lint -- --fix` mends what can be mended."""
    session.install("-e", ".[lint]")
    fix = "--fix" in session.posargs
    session.run("ruff", "check", *(["--fix"] if fix else []), ".")
    session.run("ruff", "format", *([] if fix else ["--check"]), ".")
    session.run("lint-imports")
    session.run(*NEWS, silent=True)  # fails at a fragment with a wrong name


@nox.session
def news(session: nox.Session) -> None:
    """Show what the changelog will say about the next release."""
    session.install("-e", ".[lint]")
    session.run(*NEWS)


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both strict."""
    session.install("-e", ".[types]")
    # What a test asserts checks its types, but for those that are about types.
    typed = _existing("trioflow", "tests/typing", "examples", "benchmarks", "noxfile.py")
    session.run("mypy", *typed)
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests on every Python that is installed."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
@nox.parametrize("trio", [nox.param(f"=={OLDEST_TRIO}", id="oldest"), nox.param("", id="newest")])
def tests_trio(session: nox.Session, trio: str) -> None:
    """Run what the engine does on the oldest and the newest trio, whose private names it uses."""
    session.install("-e", ".[test]")
    session.install("--upgrade", f"trio{trio}")
    session.run("pytest", *(session.posargs or ["tests/engine", "tests/histories", "tests/stored"]))


@nox.session
def servers(session: nox.Session) -> None:
    """Run workers on every database server that is installed; `scripts/servers` installs them."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "servers", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Drive the web pages in chromium; `scripts/browser` installs that."""
    session.install("-e", ".[test,browser]")
    session.run("pytest", "-m", "browser", "tests/web/browser", *session.posargs)


@nox.session
def campaign(session: nox.Session) -> None:
    """Run the tests that take minutes each: long random schedules, crashes, many instances."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "campaign", "--timeout=1800", *session.posargs)


@nox.session
def races(session: nox.Session) -> None:
    """Race workers on a store, at random and for minutes: `nox -s races -- --help`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.races", *session.posargs)


@nox.session
def clusters(session: nox.Session) -> None:
    """Simulate clusters of workers with faults, seed after seed: `nox -s clusters -- --help`."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.cluster.campaign", *session.posargs)


@nox.session
def orders(session: nox.Session) -> None:
    """Run tests in other orders of what happens at once: `nox -s orders -- --orders 7`."""
    session.install("-e", ".[test]")
    usual = ("tests/worker", "tests/client", "tests/testing", "tests/cluster", "tests/web")
    session.run("pytest", "-p", "tests.orders", *usual, *session.posargs)


@nox.session
def fidelity(session: nox.Session) -> None:
    """Run trio's and anyio's own tests, and random programs, on trio and as workflows."""
    session.install("-e", ".[test]")
    session.install("pytest-mock", "trustme")  # what anyio's tests import
    session.run("python", "-m", "tests.fidelity.suites", "trio", *session.posargs)
    anyio = f"anyio=={_installed(session, 'anyio')}"
    archive = session.cache_dir / f"{anyio.replace('==', '-')}.tar.gz"
    if not archive.exists():  # its wheel has no tests
        where = ("--dest", str(session.cache_dir), "--no-deps", "--no-binary", "anyio")
        session.run("pip", "download", "--quiet", *where, anyio)
    session.run("python", "-m", "tests.fidelity.suites", f"anyio={archive}", *session.posargs)
    session.run("pytest", "-m", "campaign", "--timeout=1800", "tests/fidelity")


def _installed(session: nox.Session, name: str) -> str:
    """Return the version of a package in a session's environment."""
    script = f"from importlib.metadata import version; print(version({name!r}))"
    return str(session.run("python", "-c", script, silent=True)).strip()


@nox.session
def coverage(session: nox.Session) -> None:
    """Report which lines and branches the tests do not reach."""
    session.install("-e", ".[test]")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure; `nox -s bench -- --help` lists what can be measured, and how."""
    session.install("-e", ".[test]")  # what the private servers need, and the drivers
    session.run("python", "-m", "benchmarks", *session.posargs)
