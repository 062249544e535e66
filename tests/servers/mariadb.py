"""A private MariaDB server, or MySQL's, from installed binaries. Nothing else may live here.

Its data and its socket are in a folder of its own; it listens on no port.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from urllib.parse import quote

from tests.servers.programs import chosen, end, found

__all__ = ["Server", "available", "is_mysql", "start"]

_START_TIMEOUT = 30.0
_PAUSE = 0.02
# Durable as it comes; small, since many may run side by side, and quick to stop.
_OPTIONS = (
    "--skip-networking",
    "--skip-name-resolve",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=256M",
    "--innodb-fast-shutdown=1",
    "--skip-log-bin",
    "--character-set-server=latin1",  # so that what the backend does not say itself is seen
)
# It has another port, and much to tell.
_MYSQL = ("--mysqlx=OFF", "--performance-schema=OFF")


def available() -> str | None:
    """Return ``None`` if the server's programs are installed, otherwise how to get them."""
    missing = [
        name
        for name, path in (("mariadbd", _server()), ("mariadb-install-db", _installer()))
        if path is None
    ]
    if not missing:
        return None
    return f"no {' and no '.join(missing)} found; get them with: apt-get install mariadb-server"


@cache
def is_mysql() -> bool:
    """Whether the server is MySQL's."""
    command = [_server(), "--no-defaults", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return "mariadb" not in done.stdout.lower()


def _server() -> str | None:
    named = chosen("mysql")
    return str(named) if named else found("mariadbd", "mysqld")


def _installer() -> str | None:
    server = _server()
    if server is None or is_mysql():
        return server  # MySQL's does that itself
    folder = Path(server).parent
    beside = f"{folder}:{folder.parent / 'bin'}:{folder.parent / 'scripts'}"
    return found("mariadb-install-db", beside=beside)


@contextlib.contextmanager
def start(folder: Path):
    """Run a server on an empty folder; yield the URL of an empty database; stop it at the end."""
    server = Server(folder)
    try:
        server.start()
        server.create_database("trioflow")
        yield server.url("trioflow")
    finally:
        server.close()


class Server:
    """One server. `start` and `kill` may be repeated: it finds its data again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._options = options
        # In a folder of its own, because a socket's path may not be longer than 107 characters.
        self._short = Path(tempfile.mkdtemp(prefix="mariadb-"))
        self.socket = self._short / "sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        if not self._data.exists():
            self._install()
        self.socket.unlink(missing_ok=True)  # one that was killed leaves it behind
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _server(),
                    *self._common(),
                    *_OPTIONS,
                    *(_MYSQL if is_mysql() else ()),
                    *self._options,
                    f"--socket={self.socket}",
                    f"--pid-file={self._short / 'pid'}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(_PAUSE)

    def kill(self) -> None:
        """Kill it as a power failure would."""
        process, self._process = self._process, None
        end(process)

    def close(self) -> None:
        """Stop it, and remove the socket's folder."""
        self.kill()  # nobody needs its data any more, and an orderly end takes seconds
        shutil.rmtree(self._short, ignore_errors=True)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"mysql://root@localhost/{database}?unix_socket={quote(str(self.socket), safe='')}"

    def create_database(self, name: str) -> None:
        """Make an empty database."""
        with contextlib.closing(self.connect()) as connection:
            connection.cursor().execute(f"CREATE DATABASE `{name}`")

    def drop_database(self, name: str) -> None:
        """Remove a database."""
        with contextlib.closing(self.connect()) as connection:
            connection.cursor().execute(f"DROP DATABASE IF EXISTS `{name}`")

    def connect(self, **options):
        """Connect with the driver, as the administrator."""
        import pymysql  # noqa: PLC0415 - it is an extra

        return pymysql.connect(
            unix_socket=str(self.socket), user="root", autocommit=True, **options
        )

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        try:
            self.connect().close()
        except OSError:
            return False
        except Exception as exc:
            if type(exc).__name__ == "OperationalError":
                return False
            raise
        return True

    def _common(self) -> list[str]:
        # No file of the machine's is read, so that all machines agree. The server refuses root
        # unless it is told so.
        user = [f"--user={getpass.getuser()}"] if os.geteuid() == 0 else []
        # A server that starts removes temporary tables, also those of others in the same folder.
        return ["--no-defaults", *user, f"--datadir={self._data}", f"--tmpdir={self._short}"]

    def _install(self) -> None:
        how = (
            ("--initialize-insecure",)
            if is_mysql()
            else (
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--skip-name-resolve",
            )
        )
        command = [_installer(), *self._common(), *how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed:\n{done.stdout}\n{done.stderr}")
