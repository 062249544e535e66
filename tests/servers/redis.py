"""A private Redis server (or Valkey), from installed binaries. Nothing else may live here.

It listens on a free port of 127.0.0.1 and keeps its data, if it is told to, in a folder of its own.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.servers.programs import chosen, end, found, running

if TYPE_CHECKING:
    from tests.servers.certificates import Certificates

__all__ = ["Server", "available", "has_tls", "start"]

_START_TIMEOUT = 30.0
_PAUSE = 0.02
# How the figures are taken: everything is gone when it stops.
FORGETFUL = ("--save", "", "--appendonly", "no")
# What a commit gave is on the disk when its answer comes.
DURABLE = ("--save", "", "--appendonly", "yes", "--appendfsync", "always")


def available() -> str | None:
    """Return ``None`` if the server is installed, otherwise how to get it."""
    if _program() is not None:
        return None
    return "no redis-server and no valkey-server found; get one with: apt-get install redis-server"


def has_tls() -> bool:
    """Return whether the server was built with TLS."""
    command = [_program(), "--port", "0", "--tls-port", "1"]  # it ends, for want of a certificate
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return "Failed to configure TLS" in done.stdout + done.stderr


def _program() -> str | None:
    named = chosen("redis")
    return str(named) if named else found("redis-server", "valkey-server")


def start(folder: Path, *options: str):
    """Run a server without persistence, or with ``options``; yield its URL; stop it at the end."""
    return running(Server(folder, *(options or FORGETFUL)))


class Server:
    """One server. `start` and `kill` may be repeated: it keeps its port, and finds its data.

    Args:
        folder: For its log and its data.
        options: Settings, as on its command line.
        certificates: What it shows to clients; then it listens with TLS only.
    """

    def __init__(
        self, folder: Path, *options: str, certificates: Certificates | None = None
    ) -> None:
        self._certificates = certificates
        self._folder = folder
        self._log = folder / "redis.log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """The URL of its first database."""
        scheme = "redis" if self._certificates is None else "rediss"
        return f"{scheme}://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _START_TIMEOUT
        port = self.port
        while not self._started(port or _free_port(), deadline):
            # Somebody else may have been quicker to take a free port; a port of its own is kept.
            if time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start:\n{self._log.read_text()[-3000:]}")
            time.sleep(_PAUSE)

    def kill(self) -> None:
        """Kill it as a power failure would."""
        process, self._process = self._process, None
        end(process)

    close = kill

    def _started(self, port: int, deadline: float) -> bool:
        where = ("--bind", "127.0.0.1", *self._ports(port), "--dir", str(self._folder))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program(), *where, *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._process = None
                return False
            if _answers(port, tls=self._certificates is not None):
                self.port = port
                return True
            time.sleep(_PAUSE)
        return False

    def _ports(self, port: int) -> tuple[str, ...]:
        given = self._certificates
        if given is None:
            return ("--port", str(port))
        return (
            *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", str(given.certificate), "--tls-key-file", str(given.key)),
            *("--tls-ca-cert-file", str(given.authority)),
        )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answers(port: int, *, tls: bool) -> bool:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=1) as plain,
            trusting.wrap_socket(plain) if tls else plain as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False
