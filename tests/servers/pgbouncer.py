"""A private PgBouncer in transaction mode before a private PostgreSQL. Nothing else may live here.

Its socket is in a folder of its own; it listens on no port.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from tests.servers import postgres
from tests.servers.programs import chosen, end, found, running

__all__ = ["POOL", "Server", "available", "start"]

#: Sessions with PostgreSQL, for any number of clients.
POOL = 3

_START_TIMEOUT = 30.0
_PAUSE = 0.02
# It names its socket after a port.
_PORT = 6432
_SETTINGS = """\
[databases]
postgres = host={home} dbname=postgres user=trioflow
[pgbouncer]
pool_mode = transaction
default_pool_size = {pool}
max_client_conn = 300
auth_type = any
listen_addr =
listen_port = {port}
unix_socket_dir = {folder}
"""


def available() -> str | None:
    """Return ``None`` if the programs are installed, otherwise how to get them."""
    if _program() is None:
        return "no PgBouncer found; get it with: apt-get install pgbouncer"
    return postgres.available()


def _program() -> str | None:
    named = chosen("pgbouncer")
    return str(named) if named else found("pgbouncer")


@contextlib.contextmanager
def start(folder: Path):
    """Run both on an empty folder; yield the URL of an empty database; stop them at the end."""
    with postgres.start(folder) as behind, running(Server(folder, behind)) as url:
        yield url


class Server:
    """One PgBouncer. `start` and `kill` may be repeated.

    Args:
        folder: For its log.
        behind: The URL of the PostgreSQL server, as `postgres` gives it.
    """

    def __init__(self, folder: Path, behind: str) -> None:
        self._log = folder / "pgbouncer.log"
        # In a folder of its own, because a socket's path may not be longer than 107 characters.
        self.home = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
        self.url = (
            f"postgresql://trioflow@/postgres?host={quote(str(self.home), safe='')}&port={_PORT}"
        )
        self._socket = self.home / f".s.PGSQL.{_PORT}"
        self._process: subprocess.Popen[bytes] | None = None
        home = parse_qs(urlsplit(behind).query)["host"][0]
        settings = _SETTINGS.format(home=home, pool=POOL, port=_PORT, folder=self.home)
        (self.home / "settings").write_text(settings)
        # It refuses root, as PostgreSQL does.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.home, self._user)

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._socket.unlink(missing_ok=True)  # one that was killed leaves it behind
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), str(self.home / "settings")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=[] if self._user else None,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pgbouncer did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(_PAUSE)

    def kill(self) -> None:
        """Kill it as a power failure would."""
        process, self._process = self._process, None
        end(process)

    def close(self) -> None:
        """Stop it, and remove the socket's folder."""
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(self._socket))
        except OSError:
            return False
        return True
