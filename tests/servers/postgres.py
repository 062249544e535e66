"""A private PostgreSQL server, from installed binaries. Nothing else may live here.

Its data and its socket are in a folder of its own; it listens on no port.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from tests.servers.programs import chosen, running

__all__ = ["Server", "available", "start"]

_START_TIMEOUT = 60
# A crash of the server alone loses nothing without fsync; only one of the machine would.
_OPTIONS = (
    "listen_addresses=",
    "max_connections=300",
    "shared_buffers=64MB",
    "fsync=off",
    "log_min_messages=fatal",
    "log_min_error_statement=fatal",
)


def available() -> str | None:
    """Return ``None`` if the server's programs are installed, otherwise how to get them."""
    if _programs() is not None:
        return None
    return "no PostgreSQL server found; get it with: apt-get install postgresql"


def _programs() -> Path | None:
    named = chosen("postgres")
    if named is not None:
        return named
    # Debian keeps them where only its own commands look; the newest version counts.
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    found = sorted(
        versions, key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0
    )
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def start(folder: Path, *options: str):
    """Run a server on an empty folder; yield the URL of an empty database; stop it at the end."""
    return running(Server(folder, *options))


class Server:
    """One server. `start` and `kill` may be repeated: it finds its data again.

    Args:
        folder: For the server's log; its data is elsewhere, since it must be its user's own.
        options: Settings, as ``name=value``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = folder / "postgres.log"
        self._options = (*_OPTIONS, *options)
        # In a folder of its own, because a socket's path may not be longer than 107 characters.
        self.home = Path(tempfile.mkdtemp(prefix="postgres-"))
        self.url = f"postgresql://trioflow@/postgres?host={quote(str(self.home), safe='')}"
        programs = _programs()
        assert programs is not None
        self._programs = programs
        self._running = False
        # The server refuses root.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(self.home, owner.pw_uid, owner.pw_gid)

    def start(self) -> None:
        """Start it and wait until it answers."""
        if not (self.home / "data").exists():
            self._run("initdb", "-U", "trioflow", "-A", "trust", "-N", "-E", "UTF8", "--locale=C")
        settings = " ".join(f"-c {option or chr(39) * 2}" for option in self._options)
        where = f"-k {self.home}"
        command = ("-o", f"{where} {settings}", "-l", str(self.home / "log"), "-w")
        self._run("pg_ctl", *command, "-t", str(_START_TIMEOUT), "start")
        self._running = True

    def kill(self) -> None:
        """Stop it as a crash would."""
        if self._running:
            self._running = False
            self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def close(self) -> None:
        """Stop it, and remove its data; its log stays."""
        try:
            self.kill()
        finally:
            with contextlib.suppress(OSError):
                shutil.copy(self.home / "log", self._log)
            shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), "-D", str(self.home / "data"), *arguments]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            user=self._user,
            group=self._user,
            extra_groups=[] if self._user else None,
            cwd=self.home,
            timeout=2 * _START_TIMEOUT,
        )
        if done.returncode:
            log = self.home / "log"
            more = log.read_text()[-3000:] if log.exists() else ""
            raise RuntimeError(f"{program} failed:\n{done.stdout}\n{more}")
