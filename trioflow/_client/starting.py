"""Starting instances: what a start creates, and creating it in the store or in a local worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, cast

import anyio
import anyio.lowlevel
import msgspec

from trioflow._client.handle import encode_terminated
from trioflow._codec.values import Codec
from trioflow._model.activities import Activity
from trioflow._model.attributes import encode_attributes
from trioflow._model.bound import BoundWorkflow
from trioflow._model.propagation import Propagator, injected
from trioflow._model.randomness import RandomSource
from trioflow._model.workflows import Workflow, timeout_of
from trioflow._observe import InstanceCreated, Observers
from trioflow._registry import Registry
from trioflow.backends.abc import Backend
from trioflow.backends.commits import NewInstance
from trioflow.backends.records import ENDED
from trioflow.errors import ArgumentError, InstanceAlreadyExists, InstanceTerminated

__all__ = ["LocalWorker", "Starter"]

_encode = msgspec.json.Encoder().encode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode


class _Start(Protocol):
    async def wait(self) -> bool: ...


class LocalWorker(Protocol):
    """The worker in a client's process: starts instances at once, and knows those that it holds."""

    def accepts(self, workflow: str, queue: str) -> bool: ...

    def life_of(self, instance: str) -> str | None: ...

    def start(self, new: NewInstance) -> _Start: ...


class Starter:
    """Makes instances as workflows and their options say, and creates them.

    The store is an argument of each call, since only the client knows whether it is open.

    Args:
        codec: How values are stored.
        registry: Where workflows that are started by name are looked up.
        local: The worker in this process that begins instances at once.
        random: For ids and lives.
        wall: The clock of ids, epoch seconds.
        propagators: What adds metadata to what is started.
        observers: Who is told of what was started, ``None`` for nobody.
    """

    def __init__(
        self,
        *,
        codec: Codec,
        registry: Registry,
        local: LocalWorker | None,
        random: RandomSource,
        wall: Callable[[], float],
        propagators: Sequence[Propagator],
        observers: Observers | None = None,
    ) -> None:
        self._observers = observers
        self._codec = codec
        self._registry = registry
        self._local = local
        self._random = random
        self._wall = wall
        self._propagators = propagators

    def definition(self, workflow: object) -> Workflow[..., Any]:
        """Return the workflow that is meant, which may be given by its name.

        Raises:
            UnknownDefinition: No workflow of that name is registered here.
            ArgumentError: It is something else.
        """
        if isinstance(workflow, Workflow):
            return cast("Workflow[..., Any]", workflow)
        if isinstance(workflow, str):
            return self._registry.find_workflow(workflow)
        if isinstance(workflow, Activity):
            raise ArgumentError(
                f"{workflow!r} is not a workflow: await it in one and start that, or call it here "
                "as the function that it is, which stores nothing"
            )
        if inspect.iscoroutine(workflow):
            workflow.close()
            raise ArgumentError(
                "a call is not a workflow: give the workflow and its arguments, as in "
                "client.start(checkout, order)"
            )
        raise ArgumentError(f"{workflow!r} is not a workflow; decorate the function with @workflow")

    def new(
        self,
        backend: Backend,
        definition: Workflow[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> NewInstance:
        """Return the instance that a start of the workflow creates.

        Raises:
            ArgumentError, PayloadTooLarge: As `Client.start`.
        """
        metadata = injected(self._propagators, definition.metadata)
        return NewInstance(
            id=definition.id or self.fresh_id(definition.name),
            workflow=definition.name,
            queue=definition.queue or "default",
            input=definition.signature.encode(self._codec, args, kwargs, definition.name),
            priority=definition.priority or 0,
            life=self._random.new_life(),
            start_at=definition.starts_at(backend.now()),
            options=b"" if definition.overrides is None else _encode(definition.overrides),
            metadata=_encode(metadata) if metadata else b"",
            attributes=encode_attributes(definition.attributes),
            timeout=timeout_of(definition, definition.overrides),
        )

    def bound(self, backend: Backend, call: object, what: str) -> NewInstance:
        """Return the instance that a bound call stands for, which must have an id of its own.

        Raises:
            ArgumentError: It has none, or is no bound call; ``what`` names what was called.
        """
        if not isinstance(call, BoundWorkflow):
            raise ArgumentError(
                f"{what} takes a call of a workflow that is not made, not {call!r}: write "
                'workflow.options(id="…").bind(argument, …)'
            )
        bound: BoundWorkflow[Any] = cast("Any", call)
        if bound.definition.id is None:
            raise ArgumentError(
                f"{what} finds the instance by its id, and {bound!r} has none: write "
                f'{bound.definition.name}.options(id="…").bind(…); client.start() gives it one'
            )
        if bound.definition.if_exists != "raise" or not bound.definition.reuses_finished:
            raise ArgumentError(
                f"{what} reaches an instance that has not ended, and begins a new one in place of "
                "a finished one; options(if_exists=…, reuse_finished=…) do not change that"
            )
        return self.new(backend, bound.definition, bound.args, bound.kwargs)

    async def create_or_find(
        self, backend: Backend, new: NewInstance, definition: Workflow[..., Any]
    ) -> str | None:
        """Create an instance as its options say.

        Returns:
            The life of the one that its caller gets a handle of, ``None`` if the id is taken.
        """
        replacing = None
        if definition.if_exists == "replace":
            error = InstanceTerminated(new.id, "another one was started in its place")
            replacing = encode_terminated(error, self._codec)
        while True:
            if await self._create(
                backend, new, reuse=definition.reuses_finished, replacing=replacing
            ):
                if self._observers is not None:
                    self.tell_created(backend, new, new.life)
                return new.life
            if definition.if_exists != "return":
                return None
            there = await backend.get(new.id)
            if there is None or (there.status in ENDED and definition.reuses_finished):
                continue  # it was removed, or has ended, in between
            if there.workflow != definition.name:
                other = f"it is one of workflow {there.workflow!r}, not of {definition.name!r}"
                raise InstanceAlreadyExists(new.id, other)
            return there.life

    async def _create(
        self, backend: Backend, new: NewInstance, *, reuse: bool, replacing: bytes | None
    ) -> bool:
        local = self._local
        create = partial(_store, backend, new, reuse=reuse, replacing=replacing)
        # A worker cannot tell a finished instance before it has made a turn of the new one.
        here = local is not None and reuse and not new.start_at
        if local is None or not here or not local.accepts(new.workflow, new.queue):
            return await create()
        await anyio.lowlevel.checkpoint_if_cancelled()
        if await local.start(new).wait():
            return True
        # The worker cannot say so if it had stored it and lost the answer, so this must be found
        # out even if the caller is cancelled.
        created = False
        with anyio.CancelScope(shield=True):
            created = await create()
        return created  # noqa: RET504  # to type checkers a scope may swallow what is raised in it

    def tell_created(self, backend: Backend, new: NewInstance, life: str) -> None:
        """Tell the observers that an instance was started, if ``life`` is the new one's."""
        if self._observers is None or life != new.life:
            return
        self._observers.tell(
            InstanceCreated(
                instance=new.id,
                life=new.life,
                workflow=new.workflow,
                queue=new.queue,
                metadata=_decode_metadata(new.metadata) if new.metadata else {},
                stored_at=backend.now(),
            )
        )

    def fresh_id(self, name: str) -> str:
        """Return an id that sorts by its time: those of one hour lie together in the store."""
        return f"{name}-{int(self._wall() * 1000):011x}{self._random.hex(7)}"


async def _store(
    backend: Backend, new: NewInstance, *, reuse: bool, replacing: bytes | None
) -> bool:
    """Create an instance; return whether it is there now, and is this one."""
    if (await backend.create([new], reuse=reuse, replacing=replacing))[0]:
        return True
    # A try before this one may have been stored, and its answer lost.
    there = None
    with anyio.CancelScope(shield=True):
        there = await backend.get(new.id)
    return there is not None and there.life == new.life
