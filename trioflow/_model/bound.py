"""Calls that are held and not made: what ``definition.bind(...)`` returns."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

if TYPE_CHECKING:
    from trioflow._model.activities import Activity
    from trioflow._model.workflows import Workflow

__all__ = ["BoundActivity", "BoundWorkflow"]

D = TypeVar("D", bound="Activity[..., Any] | Workflow[..., Any]")
R = TypeVar("R")


class _BoundCall(Generic[D, R]):
    """A call of a definition, held and not made.

    Attributes:
        definition: The definition, or a variant of it.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    __slots__ = ("args", "definition", "kwargs")

    def __init__(self, definition: D, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.definition = definition
        self.args = args
        self.kwargs = dict(kwargs)

    def __call__(self) -> Coroutine[Never, object, R]:
        """Make the call: what the definition returns for these arguments. Any number of times."""
        return self.definition(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        given = [*map(repr, self.args), *(f"{key}={arg!r}" for key, arg in self.kwargs.items())]
        return f"<call {self.definition.name}({', '.join(given)})>"


class BoundActivity(_BoundCall["Activity[..., R]", R]):
    """A call of an activity, held and not made. ``activity.bind(...)`` returns it.

    Attributes:
        definition: The activity, or a variant of it.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    __slots__ = ()


class BoundWorkflow(_BoundCall["Workflow[..., R]", R]):
    """A call of a workflow, held and not made. ``workflow.bind(...)`` returns it.

    Attributes:
        definition: The workflow, or a variant of it: ``checkout.options(id="order-7")``.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    __slots__ = ()
