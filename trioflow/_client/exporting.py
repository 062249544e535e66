"""Reads all that a store holds, for a move of it; see `moving`."""

from __future__ import annotations

from trioflow.backends.moves import MovableBackend, MovedInstance
from trioflow.errors import InstanceNotFound

__all__ = ["InstanceReader"]

_PAGE = 200


class InstanceReader:
    """Reads all instances of a store, oldest first: page by page, or one by one.

    Args:
        backend: The store.
        unfinished_only: Whether finished ones are left out.
        in_use: Whether some may be removed meanwhile. Then it may give a few of them again.

    Attributes:
        after: The id of the last one that was read.
    """

    def __init__(
        self,
        backend: MovableBackend,
        unfinished_only: bool = False,  # noqa: FBT001, FBT002
        *,
        in_use: bool = False,
    ) -> None:
        self.after: str | None = None
        self._backend = backend
        self._unfinished_only = unfinished_only
        self._in_use = in_use
        self._older: list[str] = []  # the last id of each page but the last
        self._page: list[str] = []  # the ids of that
        self._rest: list[MovedInstance] = []

    async def page(self) -> list[MovedInstance]:
        """Return the next ones; none at the end."""
        while True:
            try:
                found = await self._backend.export(
                    limit=_PAGE, after=self.after, unfinished_only=self._unfinished_only
                )
            except InstanceNotFound:
                if not self._in_use or self.after is None:
                    raise
                self._go_back()
            else:
                break
        if found:
            self.after = found[-1].id
        if found and self._in_use:
            self._older += self._page[-1:]
            self._page = [one.id for one in found]
        return found

    def _go_back(self) -> None:
        """Let the next page begin after one that was read before the last, which is gone."""
        (self._page or self._older).pop()
        left = self._page or self._older
        self.after = left[-1] if left else None

    async def next(self) -> MovedInstance | None:
        """Return the next one, ``None`` at the end."""
        if not self._rest:
            self._rest = (await self.page())[::-1]
        return self._rest.pop() if self._rest else None
