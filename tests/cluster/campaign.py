"""Seed after seed: ``python -m tests.cluster.campaign --seeds 1000``."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter, defaultdict

from tests.cluster.flows import Clients, flows, log
from trioflow._model import commands as cm
from trioflow.testing.cluster import BrokenInvariant, Cluster, ClusterReport, Faults

SLACK = 12.0  # seconds in which a worker that is cut off may not have heard of a cancel


def run(seed: int, *, faults: Faults | None = Faults(), instances: int = 20) -> ClusterReport:  # noqa: B008
    """Run a cluster with its clients, and check what they were told too."""
    clients = Clients(seed, instances)
    report = Cluster(seed, registry=flows, faults=faults).run(clients)
    problems = [*_signals(clients, report), *_after_cancels(report)]
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


def _after_cancels(report):
    """No attempt begins long after its cancel was stored."""
    starts = defaultdict(list)
    for what, key, attempt, at in log.lines:
        if what == "start":
            starts[key].append((attempt, at))
    for history in report.histories:
        for execution in history.executions:
            for turn in execution.decode():
                for command in turn.commands:
                    if not isinstance(command, cm.CancelActivity):
                        continue
                    key = (history.id, history.life, execution.number, command.id)
                    cancelled = turn.now - 1_767_225_600.0
                    for attempt, at in starts[key]:
                        if at > cancelled + SLACK:
                            late = at - cancelled
                            yield (
                                f"attempt {attempt} of {command.id} of {history.id} began"
                                f" {late:.1f} s after its cancel"
                            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.cluster.campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--keep-going", action="store_true")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, broken, statuses, seconds = time.perf_counter(), [], Counter(), 0.0
    for seed in range(given.first, given.first + given.seeds):
        try:
            report = run(seed)
        except BrokenInvariant as exc:
            broken.append(seed)
            print(f"BROKEN {exc}", flush=True)  # noqa: T201
            if not given.keep_going:
                break
        else:
            statuses.update(report.statuses)
            seconds += report.seconds
    real = time.perf_counter() - began
    print(  # noqa: T201
        f"{given.seeds} clusters in {real:.0f} s, {seconds:.0f} s of virtual time: {dict(statuses)};"
        f" broken: {broken or 'none'}"
    )
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
