"""What becomes of a unit that the store rejects, so that no instance can end a worker.

What a workflow or a client gives is checked where it is given. A store may reject it all the same:
its limits are other than those known here, or a turn as a whole is too large for it. Tried again,
it would be rejected again, here and by every other worker. So the one instance that it belongs to
is suspended, with the store's words; what is not about an instance is replaced by the news of it.
"""

from __future__ import annotations

import logging

from trioflow._codec.failures.failures import Failure
from trioflow._codec.values import Codec
from trioflow._model import events as ev
from trioflow._model.events import encode_event
from trioflow._worker.instances import reports
from trioflow._worker.instances.batch import Batch, OpenUnit
from trioflow._worker.instances.held import HeldInstance
from trioflow._worker.instances.holdings import Holdings
from trioflow._worker.instances.outgoing import birth
from trioflow._worker.instances.recorder import Recorder
from trioflow._worker.log_fields import of_instance, of_key
from trioflow.backends.commits import ActivityResult, ActivityRetry
from trioflow.backends.records import ActivityKey

__all__ = ["Rejections"]

_TRIES = 5  # to store what stands in place of something that was rejected

logger = logging.getLogger("trioflow.worker")


class Rejections:
    """Replaces what the store rejected by what it takes.

    Args:
        holdings: What the worker holds.
        batch: The batch that is being built.
        recorder: Writes into it.
        codec: For what the store says, in which a user's values may be.
    """

    def __init__(self, holdings: Holdings, batch: Batch, recorder: Recorder, codec: Codec) -> None:
        self._holdings = holdings
        self._batch = batch
        self._recorder = recorder
        self._codec = codec

    def handle(self, unit: OpenUnit, error: Exception) -> None:
        """Put something into the open batch in place of a unit that has one member, or none."""
        if not unit.members:
            self._replace_ends(unit, error)
            return
        (instance,) = unit.members
        commit = instance.unsay()
        if instance.new is not None:
            if commit.turns:
                self._create_only(instance)
            else:
                self._give_up_birth(instance, error)
        elif instance.failures < _TRIES:  # of the suspension, if it was none
            instance.begin_again(commit, failed=commit.suspended is not None)
            self._holdings.evict(instance)
            self._recorder.suspend(instance, reports.rejected(instance, commit.number, error))
        else:
            # It stays leased to this worker: nobody else will try it for as long as this one lives.
            logger.error(
                "the store rejects even the suspension of instance %r (%s), which is left as it "
                "is: %s",
                instance.id,
                instance.workflow,
                error,
                extra=of_instance(instance),
            )
            self._holdings.drop(instance)

    def _create_only(self, instance: HeldInstance) -> None:
        """Store an instance without its first turn, so that it can be suspended like any other."""
        assert instance.new is not None
        commit = birth(instance.new, leased=False)
        self._holdings.drop(instance)
        again = instance.born_again()
        self._holdings.hold(again)
        unit = OpenUnit()
        again.join(unit, commit)
        again.seal()
        self._batch.add(unit)
        self._holdings.wake()

    def _give_up_birth(self, instance: HeldInstance, error: Exception) -> None:
        self._holdings.drop(instance)
        if not instance.fail_start(error):
            logger.error(
                "the store rejects the new instance %r: %s",
                instance.id,
                error,
                extra=of_instance(instance),
            )

    def _replace_ends(self, unit: OpenUnit, error: Exception) -> None:
        """Fail activities whose results are rejected, and attempt others without what is said."""
        again = unit.rejections + 1
        for result in unit.unit.results:
            _log("the result of activity", result.key, error)
            event = ev.ActivityFailed(result.key.command, Failure.of(error, self._codec))
            end = ActivityResult(result.key, encode_event(event), result.at)
            if again <= _TRIES:
                self._batch.add(OpenUnit(results=[end], rejections=again))
        for retry in unit.unit.retries:
            _log("the next attempt of", retry.key, error)
            bare = ActivityRetry(retry.key, retry.attempt, retry.visible_at)
            if again <= _TRIES:
                self._batch.add(OpenUnit(retries=[bare], rejections=again))
        for each in unit.unit.progress:
            _log("the heartbeat of activity", each.key, error)
        self._holdings.wake()


def _log(what: str, key: ActivityKey, error: Exception) -> None:
    logger.error("the store rejects %s %s: %s", what, key, error, extra=of_key(key))
