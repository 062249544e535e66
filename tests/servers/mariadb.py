"""A private MariaDB server (or MySQL's), from installed binaries. Nothing else may live here.

Its data and its socket are in a folder of its own; it listens on no port.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

__all__ = ["Server", "available", "start"]

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


def available() -> str | None:
    """Return ``None`` if the server's programs are installed, otherwise how to get them."""
    missing = [name for name in ("mariadbd", "mariadb-install-db") if _program(name) is None]
    if not missing:
        return None
    return f"no {' and no '.join(missing)} found; get them with: apt-get install mariadb-server"


def _program(name: str) -> str | None:
    # Debian keeps servers where only root looks for programs.
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


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
                    _program("mariadbd"),
                    *self._common(),
                    *_OPTIONS,
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
                raise RuntimeError(f"mariadbd did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(_PAUSE)

    def kill(self) -> None:
        """Kill it as a power failure would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop it, and remove the socket's folder."""
        # Nobody needs its data any more, and an orderly end takes seconds.
        self._end(signal.SIGKILL)
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
        return ["--no-defaults", *user, f"--datadir={self._data}"]

    def _install(self) -> None:
        command = [
            _program("mariadb-install-db"),
            *self._common(),
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout}\n{done.stderr}")

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_START_TIMEOUT)
