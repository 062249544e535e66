"""Connect to a MySQL or MariaDB server and set up the session."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.connections import Connection as RawConnection
from pymysql.constants import CLIENT

from trioflow.backends._common.url_text import port_of
from trioflow.errors import BackendError

__all__ = ["Server", "from_url"]

_FLAGS = CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS
# Seconds without an answer until a server counts as gone; longer than any wait for a lock.
_SILENCE = 30.0
_LOCK_WAIT = 10
# After so many idle seconds the server forgets a session, and frees what a lost one had locked.
_IDLE = 300
# …and in a transaction: a process that was stopped must not hold its locks for long. MySQL itself
# does not know this one.
_IDLE_IN_TRANSACTION = 10
_LONGEST_CONNECT = 3600
_OPTIONS = ("unix_socket", "connect_timeout", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify")
_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


class Server:
    """One database of a server.

    Args:
        connect: Makes a connection; called with those of ``pymysql.connect``'s keyword arguments
            that trioflow decides.
        where: The database, for messages; without a password.
    """

    def __init__(self, connect: Callable[..., RawConnection[Any]], where: str) -> None:
        self._connect = connect
        self.where = where

    def connect(self, silence: float | None = _SILENCE) -> RawConnection[Any]:
        """Return a new connection, its session set up.

        Args:
            silence: Seconds to wait for an answer; ``None`` for as long as it takes.

        Raises:
            pymysql.Error: The server cannot be reached, or refuses.
            BackendError: It is too old, or the driver lacks something.
        """
        try:
            raw = self._connect(
                charset="utf8mb4",
                autocommit=True,
                client_flag=_FLAGS,
                read_timeout=silence,
                write_timeout=silence,
            )
        except RuntimeError as exc:  # what it needs for passwords is not installed
            raise BackendError(f"{self.where}: {exc}; pip install 'trioflow[mysql]'") from exc
        try:
            self._set_up(raw)
        except BaseException:
            with suppress(pymysql.Error):
                raw.close()
            raise
        return raw

    def connect_plain(self) -> RawConnection[Any]:
        """Return a new connection with the server's settings, not in autocommit mode.

        Raises:
            pymysql.Error: The server cannot be reached, or refuses.
        """
        return self._connect(charset="utf8mb4", autocommit=False)

    def _set_up(self, raw: RawConnection[Any]) -> None:
        if raw.client_flag & _FLAGS != _FLAGS:
            raise BackendError(
                f"{self.where}: the connection factory must pass on the keyword arguments it is "
                "given, client_flag among them, to pymysql.connect()"
            )
        with raw.cursor() as cursor:
            cursor.execute("SELECT version()")
            ((version,),) = cursor.fetchall()
            collation = self._collation(version)
            idle = f"wait_timeout = {_IDLE}"
            if _is_maria(version):
                idle += f", idle_transaction_timeout = {_IDLE_IN_TRANSACTION}"
            cursor.execute(
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; "
                f"SET NAMES utf8mb4 COLLATE {collation}; "
                f"SET SESSION sql_mode = '{_MODE}', time_zone = '+00:00', "
                f"innodb_lock_wait_timeout = {_LOCK_WAIT}, {idle}"
            )
            while cursor.nextset():
                pass

    def _collation(self, version: str) -> str:
        """Return the collation that compares code points, and does not ignore spaces at the end."""
        found = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
        number = tuple(map(int, found.groups())) if found else (0,)
        maria = _is_maria(version)
        oldest = (10, 6, 0) if maria else (8, 0, 17)
        if number < oldest:
            raise BackendError(
                f"{self.where} is version {version}; trioflow needs MySQL 8.0.17 or MariaDB 10.6, "
                "or newer"
            )
        return "utf8mb4_nopad_bin" if maria else "utf8mb4_0900_bin"


def _is_maria(version: str) -> bool:
    return "mariadb" in version.lower()


def from_url(url: str) -> Server:
    """Return the server that a URL names: ``mysql://user:password@host:3306/database``.

    Options after a question mark: ``unix_socket`` (a path), ``connect_timeout`` (seconds),
    ``ssl_ca``, ``ssl_cert``, ``ssl_key`` (paths), ``ssl_verify`` (``yes`` or ``no``: whether the
    server's name must be its certificate's).

    Raises:
        BackendError: It is incomplete, or has options that there are not.
    """
    parts = urlsplit(url)
    database = unquote(parts.path[1:])
    port = port_of(url) or 3306
    host = parts.hostname or "localhost"
    where = f"{parts.scheme}://{host}:{port}/{database}"
    if not database or "/" in database:
        raise BackendError(f"{where!r} names no database; write mysql://user:password@host/name")
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := sorted(set(given) - set(_OPTIONS)):
        raise BackendError(
            f"{where}: unknown option {unknown[0]!r}; there are {', '.join(_OPTIONS)}"
        )
    options: dict[str, Any] = {"host": host, "port": port, "database": database}
    if parts.username is not None:
        options["user"] = unquote(parts.username)
    options["password"] = unquote(parts.password or "")
    options["connect_timeout"] = _seconds(given.pop("connect_timeout", "10"), where)
    verify = given.pop("ssl_verify", None)
    if verify not in {None, "yes", "no"}:
        raise BackendError(f"{where}: ssl_verify is yes or no, not {verify!r}")
    if verify is not None:
        options |= {"ssl_verify_cert": verify == "yes", "ssl_verify_identity": verify == "yes"}
    options |= given
    if "unix_socket" in given:
        where = f"{parts.scheme}://{given['unix_socket']}/{database}"

    def connect(**fixed: Any) -> RawConnection[Any]:
        if "unix_socket" not in given:
            return pymysql.connect(**options, **fixed)
        raw = pymysql.connect(**options, **fixed, defer_connect=True)
        raw.connect(_unix_socket(given["unix_socket"], options["connect_timeout"]))
        return raw

    return Server(connect, where)


def _unix_socket(path: str, timeout: float) -> socket.socket:
    # The driver would leave its socket open where nobody listens.
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout)
    try:
        connected.connect(path)
    except OSError as exc:
        connected.close()
        raise pymysql.OperationalError(2003, f"nobody listens at {path}: {exc}") from exc
    return connected


def _seconds(text: str, where: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _LONGEST_CONNECT:
        raise BackendError(
            f"{where}: connect_timeout is 1 to {_LONGEST_CONNECT} whole seconds, not {text!r}"
        )
    return int(text)
