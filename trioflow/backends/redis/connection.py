"""One connection to a Redis server: pipelined requests, made again when their answers were lost.

A request is one call of one script, which is atomic. When the connection breaks, nobody knows
whether the request was made. A read is made again; so is a write, with the same nonce: the script
keeps the answer to each write for a minute, and gives it again instead of writing twice. Only what
takes work is not made again by itself: a worker recalls what an answer gave it that was lost.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

import outcome
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from trioflow.backends._common.backoff import Backoff
from trioflow.backends.redis.errors import ANY, BROKEN, ELSEWHERE, explain, is_refusal
from trioflow.backends.redis.scripts import Script, script
from trioflow.backends.redis.wire import refused
from trioflow.errors import BackendError

__all__ = ["Address", "Client", "RedisConnection", "Request", "connect"]

logger = logging.getLogger("trioflow.backends.redis")

R = TypeVar("R")

_FIRST_DELAY = 0.02
_LONGEST_DELAY = 0.5
_ANSWER_WITHIN = 10.0
_MOST_LOADS = 3
_LARGEST = 512 * 1024**2  # the server's own setting, unless it says another
_SAYS_WHAT_TO_CHECK = re.compile(r"[?&]ssl_(cert_reqs=none|check_hostname=)")


class Pipeline(Protocol):
    """The part of redis-py's pipeline that the store uses."""

    def execute_command(self, *words: Any) -> Any:
        """Add a command."""

    def execute(self, raise_on_error: bool) -> list[Any]:  # noqa: FBT001 - the driver's
        """Send them all and return their answers, some of them exceptions."""
        ...


class Client(Protocol):
    """The part of redis-py's client that the store uses; its own annotations say little."""

    @property
    def connection_pool(self) -> Any:
        """Where its connections are."""

    def execute_command(self, *words: Any) -> Any:
        """Send one command and return its answer."""

    def pipeline(self, transaction: bool) -> Pipeline:  # noqa: FBT001 - the driver's
        """Return a pipeline."""
        ...

    def pubsub(self) -> Any:
        """Return a subscription."""

    def close(self) -> None:
        """Give its connection back."""


@dataclass(frozen=True)
class Address:
    """The address of a store: server, prefix, and whether it is a cluster.

    Attributes:
        url: As redis-py reads it, without options of ours.
        prefix: What every key begins with, in braces.
        cluster: Whether the server is one of a cluster.
    """

    url: str
    prefix: str
    cluster: bool = False

    @property
    def tag(self) -> str:
        """The prefix of every key, in braces, so that all keys of a store lie in one slot."""
        return "{" + self.prefix + "}"

    @property
    def shown(self) -> str:
        """The URL for messages, without its password."""
        head, separator, tail = self.url.rpartition("@")
        return f"Redis at {head.partition('://')[0]}://{tail}" if separator else f"Redis at {tail}"


@dataclass(frozen=True)
class Request(Generic[R]):
    """One call of one script.

    Attributes:
        name: The script's.
        arguments: Its ARGV, but for what `nonce` adds.
        decode: Makes the result of the reply.
        nonce: Before ``arguments``: what tells a repeated write, and whether it is one. Empty for
            what may be done twice.
        repeated: Whether it is made again when its answer was lost.
    """

    name: str
    arguments: tuple[Any, ...]
    decode: Callable[[Any], R]
    nonce: str = ""
    repeated: bool = True

    def command(self, called: Script, tag: str, *, again: bool) -> tuple[Any, ...]:
        """Return the command that calls the script."""
        once = (self.nonce, "1" if again else "0") if self.nonce else ()
        return ("EVALSHA", called.sha, 1, tag, *once, *self.arguments)


def connect(address: Address, *, timeout: float | None = _ANSWER_WITHIN) -> Client:
    """Return a client of redis-py that connects when it is used and never retries by itself."""
    options: dict[str, Any] = {
        "decode_responses": False,
        "health_check_interval": 30,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout,
    }
    if not address.url.startswith("unix:"):  # the driver refuses them there
        options.update(socket_connect_timeout=5.0, socket_keepalive=True)
    if address.url.startswith("rediss:") and not _SAYS_WHAT_TO_CHECK.search(address.url):
        options["ssl_check_hostname"] = True  # as redis-py does of itself since version 6
    # redis-py's annotations are partial, hence the casts.
    driver = cast("Any", redis)
    if not address.cluster:
        return cast("Client", driver.Redis.from_url(address.url, **options))
    cluster = driver.RedisCluster.from_url(address.url, **options)
    try:
        node = cluster.get_node_from_key(address.tag)
        parts = urlsplit(address.url)
        user, at, _ = parts.netloc.rpartition("@")
        url = urlunsplit(parts._replace(netloc=f"{user}{at}{node.host}:{node.port}"))
        return cast("Client", driver.Redis.from_url(url, **options))
    finally:
        cluster.close()


class RedisConnection:
    """A connection that reconnects when it is lost. Used by one thread at a time.

    Args:
        address: Of the store.
        patience: For so many seconds a call is tried again when the server does not answer.

    Attributes:
        address: As above.
        largest: How many bytes the server takes as one argument.
    """

    def __init__(self, address: Address, patience: float) -> None:
        self.address = address
        self.largest = _LARGEST
        self._patience = patience
        self._client: Client | None = None

    def call(self, request: Request[R]) -> R:
        """Make one call.

        Raises:
            BackendError: It cannot be made, or was refused.
        """
        (result,) = self.call_together([lambda: request])
        value: R = result.unwrap()
        return value

    def call_together(self, calls: Sequence[Callable[[], Any]]) -> list[outcome.Outcome[Any]]:
        """Build the requests that ``calls`` return and send them in one pipeline.

        As `trioflow.backends._common.thread.StorageThread.run_together` wants it.
        """
        built = [_built(call, self.largest) for call in calls]
        requests = [made for made in built if isinstance(made, Request)]
        try:
            replies = iter(self._exchange(requests))
        except ANY as exc:
            # One for each, since each is raised in a place of its own.
            return [outcome.Error(self._explained(exc)) for _ in calls]
        return [
            self._result(made, next(replies)) if isinstance(made, Request) else made
            for made in built
        ]

    def run(self, use: Callable[[Client], R]) -> R:
        """Call a function with the client.

        Raises:
            BackendError: It raised one of the driver's.
        """
        try:
            return use(self._connected())
        except ANY as exc:
            self.close()
            raise self._explained(exc) from exc

    def close(self) -> None:
        """Close the connection. The next call makes a new one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
            client.connection_pool.disconnect()

    def _result(self, request: Request[Any], reply: Any) -> outcome.Outcome[Any]:
        if isinstance(reply, Exception):
            return outcome.Error(self._explained(reply))
        decoded: outcome.Outcome[Any] = outcome.capture(request.decode, reply)
        return decoded

    def _explained(self, error: Exception) -> BackendError:
        explained = explain(error, self.address.shown)
        explained.__cause__ = error
        return explained

    def _connected(self) -> Client:
        if self._client is None:
            self._client = connect(self.address)
        return self._client

    def _exchange(self, requests: Sequence[Request[Any]]) -> list[Any]:
        """Send requests until each has a reply or an exception, or patience ends."""
        replies: list[Any] = [None] * len(requests)
        waiting = _Waiting(list(range(len(requests))))
        deadline = time.monotonic() + self._patience
        while waiting.left:
            try:
                asked = [requests[at] for at in waiting.left]
                answers = self._send(asked, again=waiting.again)
                if waiting.sort_out(answers, replies):
                    self._load([requests[at].name for at in waiting.left])
                    continue
            except BROKEN as exc:
                self.close()
                if is_refusal(exc):
                    raise
                waiting.give_up(exc, requests, replies)
                if waiting.left and not waiting.wait(deadline):
                    raise
                continue
            if waiting.left:
                self.close()
                if not waiting.wait(deadline):
                    return replies
        return replies

    def _send(self, requests: Sequence[Request[Any]], *, again: bool) -> list[Any]:
        tag = self.address.tag
        pipeline = self._connected().pipeline(transaction=False)
        for request in requests:
            words = request.command(script(request.name), tag, again=again)
            pipeline.execute_command(*words)
        answers = pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, BROKEN):
                raise answer  # a server that is loading its data answers so
        return answers

    def _load(self, names: Sequence[str]) -> None:
        pipeline = self._connected().pipeline(transaction=False)
        for name in set(names):
            pipeline.execute_command("SCRIPT LOAD", script(name).text)
        pipeline.execute(raise_on_error=False)


def _built(call: Callable[[], Request[Any]], largest: int) -> Request[Any] | outcome.Error:
    """Build a request whose words the driver need not encode: what cannot be fails here, alone."""
    try:
        request = call()
        words = [word.encode() if isinstance(word, str) else word for word in request.arguments]
    except UnicodeError as exc:
        return outcome.Error(refused(exc))
    except Exception as exc:  # noqa: BLE001 - it is raised where the call was made
        return outcome.Error(exc)
    size = max((len(word) for word in words if isinstance(word, bytes)), default=0)
    if size > largest:
        # The server would close the connection, which looks like a server that is away.
        return outcome.Error(
            refused(f"{size} bytes at once, and it takes {largest}; see proto-max-bulk-len")
        )
    return replace(request, arguments=tuple(words))


@dataclass
class _Waiting:
    """The requests that have no answer yet."""

    left: list[int]
    again: bool = False
    _delays: Backoff = field(default_factory=lambda: Backoff(_FIRST_DELAY, _LONGEST_DELAY))
    _loads: int = 0

    def give_up(
        self, error: Exception, requests: Sequence[Request[Any]], replies: list[Any]
    ) -> None:
        """Fill in an error for what is not repeated; keep the rest."""
        self.again = True
        for at in self.left:
            replies[at] = error
        self.left = [at for at in self.left if requests[at].repeated]

    def sort_out(self, answers: Sequence[Any], replies: list[Any]) -> bool:
        """Keep what has to be asked again; return whether its scripts have to be loaded."""
        left: list[int] = []
        unloaded = False
        for at, answer in zip(self.left, answers, strict=True):
            replies[at] = answer
            if isinstance(answer, exceptions.NoScriptError):
                unloaded = True
                left.append(at)
            elif isinstance(answer, ELSEWHERE):
                left.append(at)
        # A server that forgets at once what it was given would keep us here for ever.
        self._loads += unloaded
        if self._loads > _MOST_LOADS:
            left = []
        self.left = left
        return unloaded and bool(left)

    def wait(self, deadline: float) -> bool:
        """Wait for the next try; return False if that would take too long."""
        if time.monotonic() + self._delays.delay > deadline:
            return False
        time.sleep(next(self._delays))
        return True
