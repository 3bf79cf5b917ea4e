"""What an example of a cluster machine does to its cluster: operations, each a plain tuple.

All that touches the cluster goes through ``perform``, so a list of operations on a seeded cluster is the whole example and
gives the same run again, byte for byte.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from crdtledger.edge.simulate.cluster import Cluster

Operation: TypeAlias = tuple[Any, ...]
"""("run", us), ("submit", node, request), ("backup", node), ("replace", node, which backup, noticed), ("lose" or "repeat", source, sink,
frames), or the name of a method of ``gossip.simulation.Simulation`` and its arguments."""
Backups: TypeAlias = dict[str, list[tuple[bytes, ...]]]
"""Copies of each node's disk, oldest first."""


def perform(cluster: Cluster, backups: Backups, operation: Operation) -> Any:
    """Carry out one operation; a submitted request gives the handle of its answer."""
    sim = cluster.sim
    match operation:
        case ("submit", name, request):
            return cluster.submit(name, request)
        case ("run", us):
            sim.run_for(us)
        case ("backup", name):
            backups[name].append(sim.durable_records(name))
        case ("replace", name, at, noticed):
            cluster.replace_disk(name, backups[name][at], noticed)
        case ("lose", source, sink, frames):
            sim.network.lose_next(source, sink, frames)
        case ("repeat", source, sink, frames):
            sim.network.repeat_next(source, sink, frames)
        case (what, *arguments):
            getattr(sim, what)(*arguments)
    return None
