"""Compare stores with a model, in random sequences of calls: a Hypothesis state machine.

The conformance suite (`trioflow.testing.conformance`) tests one requirement at a time. This finds
cases that nobody has thought of: Hypothesis drives all stores and the model in lockstep, and
shrinks a sequence after which they differ to the few calls that matter. With pytest::

    from trioflow.testing.lockstep import run_lockstep

    @asynccontextmanager
    async def empty_store():
        backend = MyBackend(...)                 # its store is empty
        await backend.open()
        try:
            yield backend
        finally:
            await backend.aclose()

    def test_it_does_what_the_model_does():
        run_lockstep(mine=empty_store, settings=settings(max_examples=200, deadline=None))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal

try:
    from hypothesis.stateful import run_state_machine_as_test
except ImportError as exc:
    raise ImportError(
        "trioflow.testing.lockstep needs Hypothesis; get it with: pip install 'trioflow[testing]'"
    ) from exc

from trioflow.testing.lockstep.machine import Machine
from trioflow.testing.lockstep.sessions import OpenBackend, Session

if TYPE_CHECKING:
    from hypothesis import settings as Settings  # noqa: N812 - it is a class

__all__ = ["OpenBackend", "run_lockstep"]


def run_lockstep(
    *, settings: Settings | None = None, loop: str = "trio", **stores: OpenBackend
) -> None:
    """Make random calls to stores and to the model, and demand the same answers of all of them.

    After every step all that can be read must be the same as well. What the contract leaves open
    is not compared: what time it is, the numbers of inbox rows, the order of equals.

    A store is opened once and must be empty then; it is emptied through its own methods after
    every example, and opened anew only after one that failed. Nobody else may use it. Its clock
    tells the present time and goes on between two calls. In `Backend.reclaim` nobody's lease is
    waited for, so nothing takes real time.

    Args:
        settings: Of Hypothesis: how many examples, how many steps each.
        loop: The event loop, as `anyio.run` calls it.
        stores: What opens each, by a name for messages.

    Raises:
        AssertionError: A store and the model differ; with the shortest sequence of calls found.
    """
    with start_blocking_portal(loop) as portal:
        session = Session(portal, stores)
        try:
            run_state_machine_as_test(lambda: Machine(session), settings=settings)  # type: ignore[arg-type]  # any callable will do
        finally:
            session.close()
