"""`Cluster`: several workers, clients and a store in one process, on virtual time, with faults.

The theory. Everything by which a distributed run differs from another one is taken from a seed: the
order in which the loop runs tasks, how long each call of the store takes, and when which fault
comes. Workers, engine, client and store are the real ones. Between a worker and the store stands a
`Link`, which can be slow, cut, or lose an answer after the store has done what was asked; a worker
is killed, which leaves its row in the store until its lease runs out, or drained. The clock jumps
whenever every task waits. So a minute with a dozen crashes takes a fraction of a second, and the
same seed gives the same run, byte for byte.

At the end the faults stop. Then everything has to come to an end, and what is stored is checked;
see `trioflow.testing.cluster.invariants`.
"""

from __future__ import annotations

from trioflow.testing.cluster.cluster import Cluster, ClusterReport
from trioflow.testing.cluster.faults import Faults
from trioflow.testing.cluster.invariants import BrokenInvariant

__all__ = ["BrokenInvariant", "Cluster", "ClusterReport", "Faults"]
