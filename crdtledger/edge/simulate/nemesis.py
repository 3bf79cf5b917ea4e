"""What goes wrong in a simulated run, and when: drawn from a seed, one mean time per kind of event.

Partitions split the nodes at random, or cut one off; one direction of a link falls silent; a link grows slow; clocks are set; the
power fails at a node (its unsynced writes are lost, perhaps all but a prefix) and comes back; an old backup is put under a node, which
knows that it was. Nodes write so seldom that a power cut at any moment loses nothing: every other one waits for a write. Losing,
repeating and reordering frames is the network's own doing (``gossip.network.Faults``).

It does nothing that no ledger could bear: of the disks at most one at a time is an old one that has not caught up yet, since what was
on it alone is lost, and a node whose disk is lost answers for its votes by abstaining, which a quorum can bear of f nodes.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random

from crdtledger.edge.abstaining import UNKNOWN
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.edge.simulate.scenario import Nemesis
from crdtledger.edge.simulate.watch import Watch

SKEWS_US = (-3_600 * SECOND, -50_000, 0, 700_000, 3_600 * SECOND)
SLOW_US = (200_000, 4_000_000)


class Mischief:
    """The nemesis of one run. ``events``: how often each kind of event happened."""

    def __init__(self, cluster: Cluster, watch: Watch, options: Nemesis, draw: Random) -> None:
        self._cluster, self._watch, self._options, self._draw = cluster, watch, options, draw
        self._backups: dict[str, tuple[bytes, ...]] = {}
        self._restored = ""
        self._due: list[tuple[int, int, Callable[[], str]]] = []
        self._number = 0
        self.events: dict[str, int] = {}
        acts: dict[str, Callable[[], str]] = {
            "partition": self._partition,
            "isolate": self._isolate,
            "cut": self._cut,
            "clog": self._clog,
            "crash": self._crash,
            "skew": self._skew,
            "restore": self._restore,
        }
        for kind, act in acts.items():
            mean_s = getattr(options, f"{kind}_s")
            if mean_s:
                self._again(kind, act, mean_s)

    def due_us(self) -> int | None:
        """When the next thing goes wrong, or None."""
        return self._due[0][0] if self._due else None

    def act(self) -> str:
        """Let it happen; in words, nothing if nothing did."""
        return heapq.heappop(self._due)[2]()

    def stop(self) -> None:
        """From here on nothing goes wrong any more."""
        self._due.clear()
        for name in self._cluster.names:
            self._cluster.sim.in_next_sync(name, None)

    # -- when -----------------------------------------------------------------------------------------------

    def _after(self, mean_s: int, act: Callable[[], str]) -> None:
        self._number += 1
        wait_us = int(self._draw.expovariate(1 / (mean_s * SECOND))) + 1
        heapq.heappush(self._due, (self._cluster.sim.now_us + wait_us, self._number, act))

    def _again(self, kind: str, act: Callable[[], str], mean_s: int) -> None:
        def happen() -> str:
            self._again(kind, act, mean_s)
            told = act()
            self.events[kind] = self.events.get(kind, 0) + bool(told)
            return told

        self._after(mean_s, happen)

    # -- what -----------------------------------------------------------------------------------------------

    def _partition(self) -> str:
        groups: tuple[list[str], list[str], list[str]] = ([], [], [])
        most = self._draw.choice((2, 2, 3))
        for name in self._cluster.names:
            groups[self._draw.randrange(most)].append(name)
        split = [group for group in groups if group]
        self._cluster.sim.partition(split)
        self._after(self._options.heal_s, self._heal)
        return "cut into " + " | ".join(",".join(group) for group in split)

    def _isolate(self) -> str:
        name = self._draw.choice(self._cluster.names)
        self._cluster.sim.isolate(name)
        self._after(self._options.heal_s, self._heal)
        return f"{name} is cut off"

    def _heal(self) -> str:
        self._cluster.sim.heal()
        return "the network is whole"

    def _pair(self) -> tuple[str, str] | None:
        names = self._cluster.names
        if len(names) < 2:
            return None
        one, other = self._draw.sample(names, 2)
        return one, other

    def _cut(self) -> str:
        pair = self._pair()
        if pair is None:
            return ""
        self._cluster.sim.cut(*pair)
        self._after(self._options.heal_s, self._heal)
        return f"nothing gets from {pair[0]} to {pair[1]}"

    def _clog(self) -> str:
        pair = self._pair()
        if pair is None:
            return ""
        extra_us = self._draw.choice(SLOW_US)
        self._cluster.sim.clog(*pair, self._options.heal_s * SECOND, extra_us)
        return f"from {pair[0]} to {pair[1]} everything takes {extra_us / SECOND:g} s longer"

    def _skew(self) -> str:
        name, offset_us = self._draw.choice(self._cluster.names), self._draw.choice(SKEWS_US)
        self._cluster.sim.skew(name, offset_us)
        return f"the clock of {name} is set to {offset_us / SECOND:+g} s"

    def _crash(self) -> str:
        up = self._cluster.sim.up()
        if not up:
            return ""
        name = self._draw.choice(up)
        if self._draw.random() < 0.5:
            self._cluster.sim.in_next_sync(name, lambda: self._power_off(name))
            return f"{name} will crash while it writes"
        self._power_off(name)
        return f"{name} crashes"

    def _power_off(self, name: str) -> None:
        if name not in self._cluster.sim.up():
            return
        self._backups[name] = self._cluster.sim.durable_records(name)
        self._off(name)
        self._after(self._options.down_s, lambda: self._start(name))

    def _off(self, name: str) -> None:
        self._cluster.sim.crash(name)
        self._watch.check_disk(name)

    def _start(self, name: str) -> str:
        if name in self._cluster.sim.up():
            return ""
        self._cluster.sim.restart(name)
        return f"{name} starts"

    def _restore(self) -> str:
        """An old disk goes under a node, unless another one's has not caught up yet."""
        if self._restored and not caught_up(self._cluster, self._restored):
            return ""
        names = [name for name in sorted(self._backups) if name in self._cluster.sim.up()]
        if not names:
            return ""
        name = self._draw.choice(names)
        self._off(name)
        self._cluster.replace_disk(name, self._backups[name])
        self._watch.disk_replaced(name)
        self._cluster.sim.restart(name)
        self._restored = name
        return f"an old disk is put under {name}"


def caught_up(cluster: Cluster, name: str) -> bool:
    """Whether a node whose disk was put back may spend and vote again: until then no second disk may be lost."""
    if name not in cluster.sim.up():
        return False
    core = cluster.core(name)
    voting = core.checkpoints.voting if core.checkpoints else None
    votes_from = voting.abstaining.votes_from if voting else 1
    return not core.epochs.state.locked and votes_from != UNKNOWN and core.replica.base[0] + 1 >= votes_from
