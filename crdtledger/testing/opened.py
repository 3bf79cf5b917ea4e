"""Clusters in which the opening is recorded already: every example of a machine begins with one, and none pays for it again.

The opening is recorded once, on a calm network, by cores as they are. What is on the disks then is put under the nodes of the next
cluster of the same nodes, opening and options before they start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.edge.simulate.watch import Watch
from crdtledger.edge.simulate.witness import Slots, Witness
from crdtledger.edge.simulate.writing import Json
from gossip.network import Faults
from reconcile.stores import StoredCheckpoint

Opening: TypeAlias = Sequence[tuple[str, Sequence[Json]]]
"""(node, facts of one call), in order: everybody has heard of one before the next."""
Dress: TypeAlias = Callable[[str, NodeCore], Any]

LIMIT_US = 60 * SECOND
KEPT = 16
"""Openings that are remembered; a machine has one."""


class Disks(NamedTuple):
    """What every node has: its journal, and its store of checkpoints."""

    records: dict[str, tuple[bytes, ...]]
    stores: dict[str, list[StoredCheckpoint]]


_known: dict[str, Disks] = {}


class Opened(Cluster):
    """A cluster after its opening. Its cores go through ``dress`` before they start, and what a validator says is heard by a witness."""

    def __init__(
        self, dress: Dress, faults: Faults, seed: int, names: tuple[str, ...], opening: Opening, options: dict[str, Any]
    ) -> None:
        self._dress: Dress = lambda _, core: core
        self._slots: Slots = {}
        super().__init__(faults, seed, names, **options)
        disks = _disks(names, opening, options)
        self._dress = dress
        for name in names:
            self.sim.crash(name)
            self.sim.replace_disk(name, disks.records[name])
            self.stores[name] += disks.stores[name]
        for name in names:
            self.sim.restart(name)

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        core = super()._start(name, records, incarnation)
        return Witness(core, records, self._slots) if core.checkpoints else core

    def build(self, name: str, *arguments: Any) -> Any:
        return self._dress(name, super().build(name, *arguments))


def all_settled(cluster: Cluster) -> bool:
    """Whether all agree, on one height and with nothing above it if they certify checkpoints."""
    if not cluster.in_step():
        return False
    cores = [cluster.core(name) for name in cluster.names]
    if cores[0].checkpoints is None:
        return True
    return len({core.replica.base for core in cores}) == 1 and not any(core.replica.unsettled() for core in cores)


def watch_over(cluster: Opened) -> Watch:
    """A watch over a cluster before its first step, to which everything of the opening is owed."""
    watch = Watch(cluster)
    for name in cluster.names:
        watch.kept[name] |= watch.said[name]
        watch.owed |= watch.said[name]
    return watch


def _disks(names: tuple[str, ...], opening: Opening, options: dict[str, Any]) -> Disks:
    key = repr((names, opening, sorted(options.items())))
    if key not in _known:
        if len(_known) == KEPT:
            _known.clear()
        cluster = Cluster(Faults(latency_mean_us=200, trace_lines=0), 0, names, **options)
        cluster.sim.run_for(500_000)
        for node, facts in opening:
            cluster.record(node, *facts)
            cluster.sim.run_until(cluster.in_step, LIMIT_US)  # the next one may stand on it, at another node
        if not cluster.sim.run_until(lambda: all_settled(cluster), LIMIT_US):
            raise ValueError("the nodes do not agree on the opening")
        _known[key] = Disks({name: cluster.sim.durable_records(name) for name in names}, cluster.stores)
    return _known[key]
