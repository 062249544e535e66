"""Calls that are held and not made: what ``definition.bind(...)`` returns."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar

if TYPE_CHECKING:
    from trioflow._model.activities import Activity
    from trioflow._model.workflows import Workflow

__all__ = ["BoundActivity", "BoundWorkflow"]

R = TypeVar("R")


class BoundActivity(Generic[R]):
    """A call of an activity, held and not made. ``activity.bind(...)`` returns it.

    Attributes:
        definition: The activity, or a variant of it.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    __slots__ = ("args", "definition", "kwargs")

    def __init__(
        self, definition: Activity[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.definition = definition
        self.args = args
        self.kwargs = dict(kwargs)

    def __call__(self) -> Coroutine[Never, object, R]:
        """Make the call: what the definition returns for these arguments. Any number of times."""
        return self.definition(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"<call {_shown(self.definition.name, self.args, self.kwargs)}>"


class BoundWorkflow(Generic[R]):
    """A call of a workflow, held and not made. ``workflow.bind(...)`` returns it.

    Attributes:
        definition: The workflow, or a variant of it: ``checkout.options(id="order-7")``.
        args: The positional arguments.
        kwargs: The keyword arguments.
    """

    __slots__ = ("args", "definition", "kwargs")

    def __init__(
        self, definition: Workflow[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> None:
        self.definition = definition
        self.args = args
        self.kwargs = dict(kwargs)

    def __call__(self) -> Coroutine[Never, object, R]:
        """Make the call: what the definition returns for these arguments. Any number of times."""
        return self.definition(*self.args, **self.kwargs)

    def __repr__(self) -> str:
        return f"<call {_shown(self.definition.name, self.args, self.kwargs)}>"


def _shown(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    given = [*map(repr, args), *(f"{key}={value!r}" for key, value in kwargs.items())]
    return f"{name}({', '.join(given)})"
