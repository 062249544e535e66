"""Bundles: the histories of many instances in one file, and whether the present code fits them.

So a change is checked where the store cannot be reached, in CI for example.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trioflow._client.client import Client
from trioflow._codec.values import Codec, JsonCodec
from trioflow._model.info import Identity
from trioflow._model.interceptors import Interceptor, those_around
from trioflow._model.options import check_count
from trioflow._model.propagation import Propagator
from trioflow._registry import Registry, default_registry, known_workflows
from trioflow._worker.compatibility import (
    Compatibility,
    HistoryCheck,
    loaded,
    records_under_way,
)
from trioflow.errors import TrioflowError
from trioflow.testing.history import (
    History,
    StoredExecution,
    history_of,
    load_history,
    write_json,
)

__all__ = ["check_bundle", "export_bundle", "load_bundle", "save_bundle"]

Bundle = Sequence[History] | str | os.PathLike[str] | bytes
"""Histories, the path of a file with some, or the bytes of such a file."""


async def export_bundle(client: Client, *, sample: int | None = None) -> list[History]:
    """Read the histories of the instances that have not ended, of each its present execution.

    Suspended ones are among them. Nothing is changed, and no worker has to be stopped.

    Args:
        client: On the store that has them.
        sample: How many instances of each workflow, drawn at random; by default all.

    Returns:
        What `save_bundle` keeps in a file, and `check_bundle` replays.

    Raises:
        BackendUnavailable: The store cannot be reached.
        ValueError: ``sample`` is below 1.
    """
    if sample is not None:
        check_count("sample", sample, 1)
    of_workflow = await records_under_way(client.backend, ("running", "suspended"), sample=sample)
    return [
        history_of(record, [(record.execution, turns)])
        for drawn in of_workflow.values()
        async for record, turns in loaded(client.backend, drawn.records)
    ]


def save_bundle(histories: Sequence[History], path: str | os.PathLike[str]) -> None:
    """Write histories to a file, as a JSON array."""
    write_json(list(histories), path)


def load_bundle(source: Bundle) -> list[History]:
    """Read histories; a file with a single one is a bundle, too.

    Raises:
        OSError: The file cannot be read.
        TrioflowError: There is something else in it, or it has a format of a newer version.
    """
    if not isinstance(source, str | os.PathLike | bytes):
        return list(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    if not data.lstrip().startswith(b"["):
        return [load_history(source)]
    try:
        each = msgspec.json.decode(data, type=list[msgspec.Raw])
    except msgspec.MsgspecError as exc:
        where = "it" if isinstance(source, bytes) else repr(os.fspath(source))
        raise TrioflowError(f"{where} is no bundle of histories: {exc}") from None
    return [load_history(bytes(history)) for history in each]


def check_bundle(
    bundle: Bundle,
    registry: Registry | None = None,
    *,
    codec: Codec | None = None,
    propagators: Sequence[Propagator] = (),
    interceptors: Sequence[Interceptor] = (),
) -> Compatibility:
    """Replay the histories of a bundle with the code of this process.

    It does with each what `trioflow.check_compatibility` does with the instances of a store. Of
    one that has not begun there is nothing to replay.

    Args:
        bundle: See `load_bundle`.
        registry: The definitions; by default all that were decorated in this process.
        codec: For the values; by default `JsonCodec`.
        propagators: Those of the workers, for workflows that read what these take over.
        interceptors: Those of the workers; they are needed if they give commands.

    Returns:
        Which instances diverge and where.

    Raises:
        OSError: The file cannot be read.
        TrioflowError: As `load_bundle`.
    """
    found, unknown, checks = Compatibility(), Counter[str](), dict[str, HistoryCheck]()
    known = known_workflows(registry or default_registry)
    for history in load_bundle(bundle):
        name = history.workflow
        if name not in known:
            unknown[name] += 1
            continue
        if name not in checks:
            checks[name] = HistoryCheck(
                known[name],
                JsonCodec() if codec is None else codec,
                propagators,
                those_around(interceptors, "workflow"),
                found,
            )
        last = max(history.executions, key=lambda each: each.number, default=StoredExecution(1, []))
        me = Identity(history.id, last.number, history.queue, history.priority, history.life)
        checks[name].look_at(me, last.stored(), b"")
    found.unknown = dict(unknown)
    return found
