"""Histories that tests of an instance's pages are made of; no worker has made them."""

# mypy: ignore-errors

from __future__ import annotations

import msgspec

from trioflow._model import commands as co
from trioflow._model import events as ev
from trioflow._model.turns import Turn, encode_turn
from trioflow.web._instance.digest import Digest
from trioflow.web._instance.timeline import timeline_of

__all__ = ["START", "digest_of", "done", "raw", "run", "started", "timeline", "turns_of"]

START = 1_000_000.0


def raw(value=None):
    return msgspec.Raw(msgspec.json.encode(value))


def started(**more):
    return ev.Started("order", raw({"order": "o-1"}), **more)


def run(id, activity="charge", value=None):
    return co.RunActivity(id, activity, raw({"order": value}))


def done(id, value=None):
    return ev.ActivityCompleted(id, raw(value))


def turns_of(*steps):
    """Return turns: each step is a time since the start, its events, and its commands."""
    return [
        Turn(START + at, list(events), list(commands), *outcome)
        for at, events, commands, *outcome in steps
    ]


def digest_of(*steps):
    """Return what is kept of a history."""
    digest = Digest()
    digest.add([encode_turn(turn) for turn in turns_of(*steps)])
    return digest


def timeline(*steps, now=100.0, **options):
    """Return the timeline of a history that is looked at some seconds after its start."""
    return timeline_of(digest_of(*steps).reader, now=START + now, **options)
