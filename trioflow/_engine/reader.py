"""Views of an execution for code that may only look: handlers of queries, validators of updates.

All is refused that gives a command, waits, or draws from what a replay repeats. What such code may
do all the same is a property or method of `View`; `Caller` adds the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from trioflow._model.invoker import current_invoker, invoker_for
from trioflow._model.shared import shared_words
from trioflow.errors import DeterminismError

if TYPE_CHECKING:
    from trioflow._engine.execution import Execution
    from trioflow._model.info import Identity, Info

__all__ = ["Reader", "View", "current_view", "current_view_or_none"]


def current_view_or_none() -> View | None:
    """Return what the running code may look at, ``None`` outside of a workflow."""
    invoker: object = current_invoker.get()
    return invoker if isinstance(invoker, View) else None


def current_view(what: str) -> View:
    """Return what the running code may look at.

    Raises:
        NotInWorkflow: Outside of a workflow; ``what`` names what was called.
    """
    invoker: object = invoker_for(what)
    assert isinstance(invoker, View)
    return invoker


class View:
    """What all code of an execution may look at, whether or not it may change anything.

    Attributes:
        execution: Which one.
    """

    __slots__ = ("execution",)

    execution: Execution

    @property
    def identity(self) -> Identity:
        """Which execution of which instance this is."""
        return self.execution.acting

    @property
    def now(self) -> float:
        """The turn's time."""
        return self.execution.now

    @property
    def replaying(self) -> bool:
        """Whether the turn that is being made is a stored one."""
        return self.execution.replaying

    def info(self) -> Info:
        """Return the ids, queue and size of the execution."""
        return self.execution.info()


class Reader(View):
    """A view that refuses every call which would change something or wait.

    Args:
        execution: What it looks at.
        who: Whose code it is, for messages: ``"the handler of query 'contents'"``.
    """

    __slots__ = ("_who",)

    def __init__(self, execution: Execution, who: str) -> None:
        self.execution = execution
        self._who = who

    def refuse(self, what: str) -> NoReturn:
        """Raise `DeterminismError`, since ``what`` was called."""
        raise DeterminismError(
            f"{self._who} called {what}: it may look at what there is, and change or wait for "
            "nothing; do that in the workflow, or in the handler of an update"
        )

    # --- `Invoker`: what definitions, signals and the like call ---------------------------

    def call(self, definition: Any, args: object, kwargs: object) -> Any:
        """Refuse it."""
        self.refuse(f"{definition.kind} {definition.name!r}")

    def claim_shared(self, name: str, size: int) -> Any:
        """Refuse it."""
        self.refuse(f"for {shared_words(name)}")

    def release_shared(self, name: str) -> None:
        """Refuse it."""
        self.refuse(f"for {shared_words(name)}")

    def set_shared(self, name: str, *, value: bool) -> Any:
        """Refuse it."""
        self.refuse(f"for {shared_words(name)}")

    def receive_signal(self, name: str, type_: object) -> Any:
        """Refuse it."""
        self.refuse(f"receive() of signal {name!r}")

    def receive_signal_nowait(self, name: str, type_: object) -> Any:
        """Refuse it."""
        self.refuse(f"receive_nowait() of signal {name!r}")

    def receive_any_signal(self) -> Any:
        """Refuse it."""
        self.refuse("receive() of any signal")

    def receive_any_signal_nowait(self) -> Any:
        """Refuse it."""
        self.refuse("receive_nowait() of any signal")

    def make_promise(self, name: str) -> Any:
        """Refuse it."""
        self.refuse(f"Promise({name!r})")

    def receive_promise(self, name: str, token: str, type_: object) -> Any:
        """Refuse it."""
        self.refuse(f"receive() of promise {name!r}")

    def set_update_handler(self, update: Any, fn: object, validator: object) -> None:
        """Refuse it."""
        self.refuse(f"the handler of update {'any' if update is None else repr(update.name)}")

    def set_query_handler(self, query: Any, fn: object) -> None:
        """Refuse it."""
        self.refuse(f"the handler of query {'any' if query is None else repr(query.name)}")
