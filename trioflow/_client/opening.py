"""Opening a client: on a store, for as long as a block lasts."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from trioflow._client.client import Client
from trioflow._client.native_cancel import raise_native_cancel
from trioflow._codec.failures.groups import joined
from trioflow._codec.values import Codec, JsonCodec
from trioflow._model.propagation import Propagator
from trioflow._model.randomness import RandomSource, system_random
from trioflow._registry import Registry, default_registry
from trioflow.backends.abc import Backend
from trioflow.backends.urls import open_backend

__all__ = ["client_on", "open_client"]


def open_client(
    backend: str | Backend,
    *,
    codec: Codec | None = None,
    registry: Registry | None = None,
    propagators: Sequence[Propagator] = (),
) -> AbstractAsyncContextManager[Client]:
    """Open a client on a store, for as long as the block lasts.

    Args:
        backend: A URL, as for `run_worker`, or a backend.
        codec: How values are stored; the same as the workers'.
        registry: Where workflows that are started by name are looked up.
        propagators: What adds metadata to what is started; mostly the same as the workers'.

    Raises:
        BackendUnavailable: The store cannot be reached.
        SchemaError: The store's schema is newer than this code.
    """
    return client_on(
        backend,
        codec=codec or JsonCodec(),
        registry=registry or default_registry,
        propagators=propagators,
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
) -> AsyncGenerator[Client, None]:
    """Do what `open_client` does, with the random bits and the clock that `Client` is given."""
    store = open_backend(backend)
    await store.open()
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
            propagators=propagators,
        )
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(client.watch)
                try:
                    yield client
                except (Exception, KeyboardInterrupt, SystemExit) as exc:  # noqa: BLE001
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
        if store is not backend:
            with anyio.CancelScope(shield=True):
                await store.aclose()
    await raise_native_cancel()
