"""What can go wrong in a cluster, how often, and for how long."""

from __future__ import annotations

import msgspec

__all__ = ["Faults"]


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How often what goes wrong; times are virtual seconds, the mean of random ones.

    Attributes:
        life: How long a worker lives before it is killed or drained.
        killed: How likely it is that it is killed.
        down: How long it is away then.
        between: How long a worker and its link are well before something happens to them.
        cut: How long a link is cut, or loses answers; now and then that is longer than a lease.
        slow: How long it is slow.
        lost: How likely it is that an answer is lost while it is bad.
        still: How long a worker's process stands still, as in a pause of the machine.
        skew: How far the clock of a process is from the true time, one way or the other.
        store: How long the store is well before it refuses to store, is slow, or is away.
        trouble: For how long then.
        deploy: How long it takes until the next version of the code is deployed.
    """

    life: float = 20.0
    killed: float = 0.7
    down: float = 2.0
    between: float = 8.0
    cut: float = 3.0
    slow: float = 3.0
    lost: float = 0.2
    still: float = 4.0
    skew: float = 1.0
    store: float = 20.0
    trouble: float = 2.0
    deploy: float = 10.0
