"""Seed after seed: ``python -m tests.cluster.campaign --seeds 1000``."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import inf
from typing import Any, NamedTuple

from tests.cluster.flows import Clients, changed, diverging, flows, log
from trioflow._model import commands as cm
from trioflow.backends.records import ActivityKey
from trioflow.testing.cluster import BrokenInvariant, Cluster, ClusterReport
from trioflow.testing.lockstep.model import Model

# Seconds after the cancel of an activity was stored in which an attempt may begin; see
# `_after_cancels`.
UNHEARD = 12.0


HOW_MANY = "how many instances clients start, beside four; with their sub-workflows 29 are about 50"


def run(seed: int, *, instances: int = 20, resets: bool = False, **options: Any) -> ClusterReport:
    """Run a cluster with its clients, and check what they were told too."""
    clients = Clients(seed, instances, resets=resets)
    cluster = Cluster(seed, registry=flows, **options)
    report = cluster.run(clients)
    problems = [
        *_signals(clients, report),
        *_updates(clients, report),
        *_after_cancels(report, cluster._ledger.cancelled),
    ]
    if problems:
        raise BrokenInvariant(f"seed {seed}: " + "\n".join([*problems, *report.trace]))
    return report


def _signals(clients, report):
    """What was accepted was received, once and in order."""
    for history in report.histories:
        if not history.id.startswith("drains-"):
            continue
        if history.status != "completed":
            yield f"{history.id} is {history.status}"
            continue
        outcome = json.loads(bytes(history.executions[-1].turns[-1]))["outcome"]
        got = [number for number in outcome["result"] if number < 100_000]
        sent = clients.sent.get(history.id, [])
        if got != sent:
            yield f"{history.id} got {got} of {sent}"


def _updates(clients, report):
    """What was accepted was answered, and done once."""
    for history in report.histories:
        asked = clients.asked.get(history.id)
        if asked is None:
            continue
        if history.status != "completed":
            yield f"{history.id} is {history.status}"
            continue
        outcome = json.loads(bytes(history.executions[-1].turns[-1]))["outcome"]
        if sorted(outcome["result"]) != asked:
            yield f"{history.id} has done {outcome['result']} of {asked}"
        answered = clients.answered.get(history.id, {})
        if answered != dict(zip(asked, asked, strict=True)):
            yield f"{history.id} has answered {answered} of {asked}"


def _after_cancels(report, cancelled):
    """No attempt begins long after its cancel was stored, by the true time of both.

    The cluster itself sees that no worker is given an attempt after that. An attempt that a worker
    had before, the first as well as one after a retry or a reclaim, begins all the same as long as
    the worker has not heard of the cancel: while its link is slow or cut, or its process stands
    still. It hears with a heartbeat, and without one its lease is over.
    """
    starts = defaultdict(list)
    for what, key, attempt, at in log.lines:
        if what == "start":
            starts[key].append((attempt, at))
    for history in report.histories:
        for execution in history.executions:
            turns = execution.decode()
            if not turns or turns[-1].reset is not None:
                continue  # what counts of it is copied; what dropped turns cancelled begins anew
            for command in _cancels_in(turns):
                called_in = _called_in(command, turns, execution.number)
                keys = (
                    ActivityKey(history.id, number, command, history.life)
                    for number in range(execution.number, called_in - 1, -1)
                )
                stored_at = next((cancelled[key] for key in keys if key in cancelled), inf)
                for attempt, at in starts[history.id, history.life, called_in, command]:
                    if at - stored_at > UNHEARD:
                        yield (
                            f"attempt {attempt} of {command} of {history.id} began"
                            f" {at - stored_at:.1f} s after its cancel"
                        )


def _cancels_in(turns):
    """Yield the commands of the activities that are cancelled."""
    for turn in turns:
        for command in turn.commands:
            if isinstance(command, cm.CancelActivity):
                yield command.id


def _called_in(command, turns, execution):
    """Return the execution whose key an activity has: it may be older than a reset."""
    number = next(n for n, turn in enumerate(turns) if any(c.id == command for c in turn.commands))
    origins = turns[0].events[0].origins
    return next((one.execution for one in origins if number < one.turns), execution)


def options_of(seed):
    """What kind of cluster a seed of the campaign makes."""
    kind: dict[str, Any] = {"resets": seed % 2 == 1}
    match seed % 3:
        case 0:
            kind["clocks"] = "process"  # as SQLite
        case 1:
            kind["store"] = lambda clock: Model(clock=clock)  # by the contract, as servers
    match seed % 4:
        case 1:
            kind["deploys"] = [changed]
        case 3:
            kind["deploys"] = [diverging, flows]
    return kind


class Result(NamedTuple):
    """What came of a seed."""

    seed: int
    statuses: dict[str, int]
    seconds: float
    broken: str


def try_seed(seed, instances):
    """Run one seed, in whatever process this is."""
    logging.disable(logging.CRITICAL)
    gc.set_threshold(20_000, 20, 100)  # a cluster is many small objects that live for its time
    try:
        report = run(seed, instances=instances, **options_of(seed))
    except BrokenInvariant as exc:
        return Result(seed, {}, 0.0, str(exc))
    except Exception:  # told with the seed, and the campaign goes on
        return Result(seed, {}, 0.0, f"seed {seed}: {traceback.format_exc()}")
    return Result(seed, report.statuses, report.seconds, "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.cluster.campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--instances", type=int, default=29, help=HOW_MANY)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--keep-going", action="store_true", help="after a seed that is broken")
    given = parser.parse_args()
    began, broken, statuses, seconds = time.perf_counter(), [], Counter(), 0.0
    seeds = range(given.first, given.first + given.seeds)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.jobs, mp_context=spawn) as pool:
        results = pool.map(partial(try_seed, instances=given.instances), seeds, chunksize=5)
        for done, result in enumerate(results, 1):
            if done % 100 == 0:
                print(f"{done} done in {time.perf_counter() - began:.0f} s", flush=True)  # noqa: T201
            statuses.update(result.statuses)
            seconds += result.seconds
            if result.broken:
                broken.append(result.seed)
                print(f"BROKEN {result.broken}", flush=True)  # noqa: T201
                if not given.keep_going:
                    pool.shutdown(cancel_futures=True)
                    break
    real = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(  # noqa: T201
        f"{given.seeds} clusters in {real:.0f} s ({used.ru_utime + used.ru_stime:.0f} s of "
        f"processors), {seconds:.0f} s of virtual time: {dict(statuses)}; broken: "
        f"{broken or 'none'}"
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
