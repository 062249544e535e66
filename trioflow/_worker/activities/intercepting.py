"""Interceptors around attempts of activities: runtimes that call them, and through them functions.

A worker without interceptors has the runtimes as they are, so that its calls cost nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import outcome

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec, decode_as, encode_checked
from trioflow._model.interceptors import Call as Intercepted
from trioflow._model.interceptors import Interceptor, Proceed, around
from trioflow._worker.activities.lanes import Run
from trioflow._worker.activities.processes import frames
from trioflow._worker.activities.runtimes import Call, Resources, Runtime
from trioflow.errors import NonRetryable

__all__ = ["intercepting"]

logger = logging.getLogger("trioflow.worker")

_encode = msgspec.json.Encoder().encode
_decode_failure = msgspec.json.Decoder(Failure).decode


def intercepting(
    runtimes: Mapping[str, Runtime], interceptors: Sequence[Interceptor], codec: Codec
) -> dict[str, Runtime]:
    """Return runtimes that call functions with interceptors around them."""
    here, elsewhere = _Here(interceptors), _Elsewhere(interceptors, codec)
    return {
        name: runtime._replace(
            invoke=partial((elsewhere if runtime.coded else here).invoke, runtime)
        )
        for name, runtime in runtimes.items()
    }


class _Box:
    """Opens the outcome of a function beside the loop, which may have raised StopIteration.

    No coroutine can raise that, so interceptors get the RuntimeError that Python makes of it. If
    they let it pass, the attempt has failed with what the function has raised, as without them.

    Attributes:
        result: An outcome with the error that cannot pass.
        instead: What is raised for it; ``None`` if there is no such error.
    """

    result: Any = None
    instead: RuntimeError | None = None

    def open(self, result: Any) -> Any:
        """Return the value, or raise the error or `instead`."""
        try:
            return result.unwrap()
        except StopIteration as exc:
            self.result = outcome.Error(exc)  # the other one can be opened only once
            self.instead = RuntimeError("coroutine raised StopIteration")
            raise self.instead from exc


class _Here:
    """Calls what takes values and gives one."""

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._interceptors = interceptors

    async def invoke(self, runtime: Runtime, resources: Resources, call: Call, run: Run) -> Any:
        """Call the function of an attempt; gives what the runtime gives."""
        if call.definition.transactional:
            return await self._transactional(runtime, resources, call, run)

        if not runtime.boxed:
            proceed: Proceed = partial(runtime.invoke, resources, call, run)
            return await self._around(run, proceed, call.args, call.kwargs)
        box = _Box()

        async def unbox() -> Any:
            return box.open(await runtime.invoke(resources, call, run))

        try:
            return outcome.Value(await self._around(run, unbox, call.args, call.kwargs))
        except RuntimeError as exc:
            if exc is not box.instead:
                raise
            return box.result

    async def _transactional(
        self, runtime: Runtime, resources: Resources, call: Call, run: Run
    ) -> Any:
        """Call a function that commits its own result: interceptors see and change none."""
        ended: list[Any] = []
        box = _Box()

        async def proceed() -> None:
            result = await runtime.invoke(resources, call, run)
            if runtime.boxed:
                box.open(result)
            ended.append(result)

        try:
            await self._around(run, proceed, call.args, call.kwargs)
        except Exception as exc:
            if exc is box.instead:
                return box.result
            if not ended:
                raise
            # The transaction has ended by now, and nothing changes how.
            logger.exception(
                "an interceptor failed after the transactional activity %r of instance %r",
                run.task.activity,
                run.task.key.instance,
            )
        if not ended:
            raise NonRetryable(
                f"activity {run.task.activity!r} is transactional and stores its own result, but "
                "an interceptor did not await proceed(): it cannot take its place"
            )
        return ended[-1]

    def _around(
        self, run: Run, proceed: Proceed, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Awaitable[Any]:
        task = run.task
        made = Intercepted(task.activity, task.key.instance, tuple(args), dict(kwargs))
        return around(self._interceptors, "activity", made, proceed)


class _Elsewhere(_Here):
    """Calls what decodes arguments and encodes a result itself, in another process.

    Interceptors are in this process, and see values. What they leave as it is stays as the other
    process has encoded it.
    """

    def __init__(self, interceptors: Sequence[Interceptor], codec: Codec) -> None:
        super().__init__(interceptors)
        self._codec = codec

    async def invoke(self, runtime: Runtime, resources: Resources, call: Call, run: Run) -> Any:
        """Call the function of an attempt; gives an `Answer`."""
        codec, definition = self._codec, call.definition
        type_, what = definition.signature.result_type, f"{definition.name}() result"
        try:
            args, kwargs = definition.signature.decode(codec, run.task.input, definition.name)
        except KeyboardInterrupt:
            raise
        except BaseException as exc:  # noqa: BLE001  # of the codec and of any class's validation
            return frames.Unreadable(_encode(Failure.of(exc, codec)))
        answers: list[frames.Answer] = []
        told: list[Any] = []  # the value, or the error, that the answer is

        async def proceed() -> Any:
            answer = await runtime.invoke(resources, call, run)
            answers.append(answer)
            if isinstance(answer, frames.Returned):
                told.append(decode_as(codec, answer.result, type_, what))
                return told[0]
            told.append(_decode_failure(answer.failure).rebuild(codec))
            raise told[0]

        try:
            result = await self._around(run, proceed, args, kwargs)
        except Exception as exc:
            if told and exc is told[0]:
                return answers[0]
            raise
        if told and result is told[0] and isinstance(answers[0], frames.Returned):
            return answers[0]
        return frames.Returned(encode_checked(codec, result, type_, what))
