"""Opening a client: on a store, for as long as a block lasts."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from trioflow._client.client import Client
from trioflow._client.native_cancel import raise_native_cancel
from trioflow._codec.failures.groups import is_own, joined
from trioflow._codec.values import Codec, JsonCodec
from trioflow._model.interceptors import Interceptor
from trioflow._model.propagation import Propagator
from trioflow._model.randomness import RandomSource, system_random
from trioflow._observe import Observer, check_observers, observers_of, propagators_among
from trioflow._registry import Registry, default_registry
from trioflow.backends.abc import Backend
from trioflow.backends.urls import open_backend

__all__ = ["client_on", "open_client"]

logger = logging.getLogger("trioflow.client")


def open_client(
    backend: str | Backend,
    *,
    codec: Codec | None = None,
    registry: Registry | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    observers: Sequence[Observer] = (),
) -> AbstractAsyncContextManager[Client]:
    """Open a client on a store, for as long as the block lasts.

    Args:
        backend: A URL, as for `run_worker`, or a backend, which is left open as there.
        codec: How values are stored; the same as the workers'.
        registry: Where workflows that are started by name are looked up.
        propagators: What adds metadata to what is started; mostly the same as the workers'.
        interceptors: What is around its calls.
        observers: Who is told of what is started; one that is a propagator, too, is used as both.

    Raises:
        BackendUnavailable: The store cannot be reached.
        SchemaError: The store's schema is newer than this code.
        TypeError: One of the interceptors or the observers is none.
    """
    return client_on(
        backend,
        codec=codec or JsonCodec(),
        registry=registry or default_registry,
        propagators=propagators,
        interceptors=interceptors,
        observers=observers,
    )


@asynccontextmanager
async def client_on(
    backend: str | Backend,
    *,
    codec: Codec,
    registry: Registry,
    random: RandomSource = system_random,
    wall: Callable[[], float] = time.time,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
    observers: Sequence[Observer] = (),
) -> AsyncGenerator[Client, None]:
    """Do what `open_client` does, with the random bits and the clock that `Client` is given."""
    check_observers(observers)
    told = observers_of(observers)
    store = open_backend(backend)
    if store is not backend and store.name == "memory":
        logger.warning(
            "this client has opened a store of its own in memory, which no worker can reach: use "
            "the client of open_worker('memory://'), or give both the same MemoryBackend()"
        )
    await store.open()
    task = anyio.get_current_task()
    error: BaseException | None = None
    left: BaseException | None = None  # what has left the group
    try:
        await raise_native_cancel()
        client = Client(
            store,
            codec=codec,
            registry=registry,
            random=random,
            wall=wall,
            propagators=propagators_among(propagators, observers),
            interceptors=interceptors,
            observers=told,
        )
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(client.watch)
                try:
                    yield client
                except BaseException as exc:
                    if not is_own(exc, task):
                        raise
                    error = exc  # raised below, as it is and not in a group
                finally:
                    client.close()
        except BaseException as exc:  # noqa: BLE001  # a mere cancel must not hide the error
            left = exc
        error = joined(error, left)
        if error is not None:
            raise error
    finally:
        del error, left
        try:
            if told is not None:
                await told.flush()
        finally:
            if store is not backend:
                with anyio.CancelScope(shield=True):
                    await store.aclose()
    await raise_native_cancel()
