"""What type checkers know of the caller's transactions. Not run; `nox -s types` reads it."""

from __future__ import annotations

import sqlite3
from typing import Any, assert_type

import psycopg
import pymysql

from trioflow import (
    AsyncTransaction,
    Client,
    Handle,
    Signal,
    Transaction,
    activity,
    activity_connection,
    workflow,
)

number = Signal("number", int)


@workflow
async def add(first: int) -> int:
    return first


@activity(transactional=True)
def book(name: str) -> int:
    connection: sqlite3.Connection = activity_connection()
    return connection.execute("INSERT INTO books VALUES (?)", (name,)).rowcount


def plain(
    client: Client, file: sqlite3.Connection, mine: pymysql.Connection, other: psycopg.Connection
) -> None:
    assert_type(client.in_transaction(file), Transaction)
    assert_type(client.in_transaction(mine), Transaction)
    transaction = client.in_transaction(other)
    assert_type(transaction, Transaction)
    handle = transaction.start(add.options(id="a"), 1)
    assert_type(handle, Handle[int])
    assert_type(transaction.start("add", 1), Handle[Any])
    assert_type(transaction.signal_with_start(add.bind(1), number, 1), Handle[int])
    assert_type(transaction.signal(handle, number, 1), None)
    assert_type(transaction.signal("a", "number", 1), None)
    assert_type(transaction.cancel("a", "enough"), None)
    assert_type(transaction.resolve("token", 1), bool)
    assert_type(transaction.reject("token", ValueError()), bool)


async def booked() -> None:
    assert_type(await book("a"), int)


async def awaited(client: Client, connection: psycopg.AsyncConnection) -> None:
    transaction = client.in_transaction(connection)
    assert_type(transaction, AsyncTransaction)
    handle = await transaction.start(add, 1)
    assert_type(handle, Handle[int])
    assert_type(await transaction.signal_with_start(add.bind(1), number, 1), Handle[int])
    assert_type(await transaction.signal(handle, number, 1), None)
    assert_type(await transaction.resolve("token", 1), bool)
    assert_type(await transaction.reject("token", ValueError()), bool)
    assert_type(await transaction.start("by name", 1), Handle[Any])
    await transaction.cancel(handle, "over")


async def mistakes(client: Client, connection: sqlite3.Connection) -> None:
    transaction = client.in_transaction(connection)
    transaction.start(add, "one")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    transaction.signal("a", number, "x")  # type: ignore[misc]  # pyright: ignore[reportCallIssue, reportArgumentType]
    await transaction.start(add, 1)  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    client.in_transaction(1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
