"""Check the schema and the server's settings when a store is opened."""

from __future__ import annotations

import logging
from typing import Any

from redis import exceptions

from trioflow.backends.records import SchemaState
from trioflow.backends.redis.connection import Client, RedisConnection, Request
from trioflow.errors import SchemaError

__all__ = ["SCHEMA", "look_at_settings", "open_store", "schema_of"]

logger = logging.getLogger("trioflow.backends.redis")

_LOOKED_AT = ("appendonly", "save", "maxmemory-policy", "maxmemory", "proto-max-bulk-len")

_LISTED_AT_ONCE = 500

# The only keys that expire.
_ANSWERS = "the answers to calls, which a call that is made again after a lost connection needs,"

# Raised with every change of keys or rows that older code would misread.
SCHEMA = 5


def open_store(connection: RedisConnection, source: str) -> float:
    """Make the store if it is new; return the server's time.

    Raises:
        SchemaError: It is newer than this code, or not ours.
        BackendUnavailable: It cannot be reached or written.
    """
    now, schema = connection.call(Request("open", (str(SCHEMA), source), _decode))
    _demand_known(connection, schema)
    while connection.call(Request("list_by_workflow", (str(_LISTED_AT_ONCE),), int)):
        logger.debug("instances of an older trioflow are listed with their workflows")
    return now


def schema_of(connection: RedisConnection) -> SchemaState:
    """Return which schema is stored; nothing is changed.

    Raises:
        SchemaError: It is newer than this code, or not ours.
        BackendUnavailable: It cannot be reached.
    """
    key = f"{connection.address.tag}:schema"
    stored = connection.run(lambda client: client.execute_command("GET", key))
    if stored is None:
        return SchemaState(None, str(SCHEMA))
    schema = _text(stored)
    _demand_known(connection, schema)
    return SchemaState(schema, str(SCHEMA))


def _demand_known(connection: RedisConnection, schema: str) -> None:
    where = f"{connection.address.shown}, prefix {connection.address.prefix!r},"
    if not schema.isdigit():
        raise SchemaError(f"{where} is not trioflow's; give trioflow another prefix")
    if int(schema) > SCHEMA:
        raise SchemaError(
            f"{where} has schema {schema}, but this trioflow knows only up to {SCHEMA}; upgrade "
            "trioflow, or use another prefix"
        )


def _decode(reply: Any) -> tuple[float, str]:
    return float(reply[0]), reply[1].decode(errors="replace")


def look_at_settings(connection: RedisConnection) -> None:
    """Read the server's limits, and warn of settings with which it may lose what was committed."""
    settings = connection.run(_settings)
    if settings is None:
        return
    if settings.get("proto-max-bulk-len", "").isdigit():
        connection.largest = int(settings["proto-max-bulk-len"])
    shown = connection.address.shown
    if settings.get("appendonly") == "no" and not settings.get("save"):
        logger.warning(
            "%s keeps nothing when it stops: neither AOF nor RDB is on. Set appendonly yes, or use "
            "it only for what may be lost",
            shown,
        )
    policy = settings.get("maxmemory-policy", "")
    if settings.get("maxmemory", "0") == "0" or policy in ("", "noeviction"):
        return
    logger.warning(
        "%s drops %s when its memory is full (maxmemory-policy %s); set noeviction",
        shown,
        "any keys" if policy.startswith("allkeys") else _ANSWERS,
        policy,
    )


def _settings(client: Client) -> dict[str, str] | None:
    found: dict[str, str] = {}
    try:
        for name in _LOOKED_AT:
            told: dict[Any, Any] = client.execute_command("CONFIG GET", name)
            found.update((_text(key), _text(value)) for key, value in told.items())
    except exceptions.ResponseError as exc:  # hosted servers forbid it
        logger.debug("the server does not tell its settings: %s", exc)
        return None
    return found


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
