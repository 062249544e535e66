"""Hear of changes that other processes make, by a subscription, on a thread of its own.

The scripts publish the changes that are made here, in the transactions that make them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from trioflow.backends._common.backoff import Backoff
from trioflow.backends._common.loop import call_soon_here
from trioflow.backends.redis.connection import Address, Client, connect
from trioflow.backends.redis.errors import ANY

__all__ = ["Notifier"]

logger = logging.getLogger("trioflow.backends.redis")

_LOOK_AROUND = 5.0
_FIRST_DELAY = 0.05
_LONGEST_DELAY = 2.0


class Notifier:
    """Call back in the loop when somebody else has changed the store.

    Made and started in the loop that is to be told.

    Args:
        address: Of the store.
        source: What our own changes are published as; they are not told.
        notify: Called in the loop; also when changes may have been missed.
    """

    def __init__(self, address: Address, source: str, notify: Callable[[], None]) -> None:
        self._address = address
        self._source = source.encode()
        self._notify = notify
        self._soon = call_soon_here()
        self._closed = threading.Event()
        self._ready = threading.Event()
        self._told = False
        self._thread = threading.Thread(
            target=self._work, name=f"trioflow notifier {address.prefix}", daemon=True
        )

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def wait_ready(self, timeout: float) -> bool:
        """Wait until every later change will be heard; may block. Return whether it is so."""
        return self._ready.wait(timeout)

    def stop(self) -> None:
        """Ask the thread to end; it does so at the next message, or within seconds."""
        self._closed.set()

    def join(self) -> None:
        """Wait for the thread; may block."""
        self._thread.join(2 * _LOOK_AROUND)

    def _work(self) -> None:
        delays = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        trouble = False
        while not self._closed.is_set():
            try:
                client = connect(self._address)
                try:
                    self._listen(client)
                finally:
                    client.close()
                    client.connection_pool.disconnect()
            except ANY as exc:
                if self._ready.is_set():
                    delays.reset()
                    self._ready.clear()
                if not trouble and not self._closed.is_set():
                    logger.warning("cannot hear of changes in the store, trying again: %s", exc)
                trouble = True
                self._closed.wait(next(delays))
            else:
                trouble = False

    def _listen(self, client: Client) -> None:
        pubsub = client.pubsub()
        try:
            pubsub.subscribe(f"{self._address.tag}:changes")
            while not self._closed.is_set():
                message = pubsub.get_message(timeout=_LOOK_AROUND)
                if message is None:
                    continue
                if message["type"] == "subscribe":
                    self._tell()
                    self._ready.set()
                elif message["data"] != self._source:
                    self._tell()
        finally:
            pubsub.close()

    def _tell(self) -> None:
        if self._told:
            return  # the loop has not come round to the last one
        self._told = True
        self._soon(self._heard)  # if the loop is gone, nobody is left to tell

    def _heard(self) -> None:
        self._told = False
        if not self._closed.is_set():
            self._notify()
