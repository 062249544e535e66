"""How often somebody may try to sign in."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

__all__ = ["Attempts"]

_WINDOW = 60.0  # seconds
_EACH = 5  # failures of one peer within that
_ALL = 100  # of all peers together
_MOST_PEERS = 10_000


class Attempts:
    """Counts the failures of the last minute: at most five of one peer, a hundred of all.

    Args:
        clock: Seconds that only go forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all: deque[float] = deque()
        self._peers: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, peer: str) -> float:
        """Return in how many seconds this peer may try again; 0 for now."""
        now = self._clock()
        return max(
            _rest(self._all, _ALL, now), _rest(self._peers.get(peer, deque()), _EACH, now), 0.0
        )

    def failed(self, peer: str) -> None:
        """Count a failure."""
        now = self._clock()
        self._all.append(now)
        while len(self._all) > _ALL:
            self._all.popleft()
        theirs = self._peers.setdefault(peer, deque(maxlen=_EACH))
        theirs.append(now)
        self._peers.move_to_end(peer)
        while len(self._peers) > _MOST_PEERS:
            self._peers.popitem(last=False)


def _rest(failures: deque[float], most: int, now: float) -> float:
    """Return how long it is until the oldest of the last ``most`` failures counts no more."""
    return 0.0 if len(failures) < most else failures[-most] + _WINDOW - now
