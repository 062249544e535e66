"""Safe calls of users' special methods, such as ``__repr__`` and ``__str__``.

Such code may raise anything. A `KeyboardInterrupt` passes, since it is most often a signal that
came meanwhile. All else, `SystemExit` too, is a fault of the value and no request to end a worker.
"""

from __future__ import annotations

from types import TracebackType

__all__ = ["said", "shown", "suppressed"]


class suppressed:  # noqa: N801 - it is used as contextlib.suppress is
    """Suppress any exception of a block but `KeyboardInterrupt`."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, cls: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> bool:
        return cls is not None and not issubclass(cls, KeyboardInterrupt)


def said(error: BaseException) -> str:
    """Return ``str()`` of an exception, or a text that says why there is none."""
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException as why:  # noqa: BLE001 - it is the user's code
        return f"<str() of it raised {type(why).__name__}>"


def shown(error: BaseException) -> str:
    """Return ``repr()`` of an exception, or a text with its class and why there is none."""
    try:
        return repr(error)
    except KeyboardInterrupt:
        raise
    except BaseException as why:  # noqa: BLE001 - it is the user's code
        return f"<{type(error).__name__}, of which repr() raised {type(why).__name__}>"
