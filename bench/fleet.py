"""Thousands of nodes in one process: from nothing through a partition to agreement, and what that took.

    python -m bench.fleet                      1,000 whole node cores
    python -m bench.fleet --engine             5,000 nodes of the gossip engine alone

The drill: links come up; a hundred of the nodes write; all agree. The network is cut in two, one third here and two thirds there; they
write again on both sides, for two seconds, and some nodes lose their power and are started again. The network heals; all agree.

Times are of this process; ``copies`` is how often a batch that a node lacked came to it, by push or by request, on the mean: 1 is the
least. Agreement means that every node durably holds every batch, by hash.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from crdtledger.edge.simulate.fleet import Fleet
from gossip.bare import BareNode, Write, bare_nodes
from gossip.config import Config
from gossip.network import Faults
from gossip.overlay import Place, places
from gossip.protocol import GossipEngine
from gossip.replica import Head
from gossip.simulation import Simulation

SECOND = 1_000_000
CLUSTER = b"a fleet of engines".ljust(32, b".")
LOOK_US = 50_000
CRASHES = 10


class Nodes(Protocol):
    """What the drill needs of its nodes."""

    names: Sequence[str]
    sim: Simulation[Any]

    def write(self, names: Iterable[str]) -> None: ...

    def engines(self) -> list[GossipEngine]: ...

    def heads(self, name: str) -> Mapping[bytes, Head]: ...


class Engines:
    """``fleets`` of ``nodes`` each, of the gossip engine alone, in one simulation. No fleet is linked to another one: several have the
    processor's caches, and the simulator's queue, as full as one that is as large as all of them."""

    def __init__(self, nodes: int, seed: int, faults: Faults, fleets: int = 1) -> None:
        self.names = tuple(f"n{at}" for at in range(nodes * fleets))
        self.fleets = tuple(self.names[at : at + nodes] for at in range(0, len(self.names), nodes))
        linked: dict[str, Place] = {}
        for fleet in self.fleets:
            linked |= places(fleet) or {}
        links = {name: place.peers for name, place in linked.items()} if linked else None
        make = bare_nodes(self.names, Config(CLUSTER), linked or None)
        self.sim: Simulation[BareNode] = Simulation(self.names, make, faults, seed, links)

    def write(self, names: Iterable[str]) -> None:
        for name in names:
            self.sim.submit(name, Write(name.encode()))

    def engines(self) -> list[GossipEngine]:
        return [self.sim.core(name).engine for name in self.sim.up()]

    def heads(self, name: str) -> Mapping[bytes, Head]:
        return self.sim.core(name).replica.heads()


class Step(msgspec.Struct, frozen=True):
    """What had come by the end of one step of the drill."""

    step: str
    virtual_s: float
    wall_s: float
    cpu_s: float
    frames: int
    batches: int
    copies: float
    peak_mb: int


class NoAgreement(RuntimeError):
    """The nodes did not come to hold the same in time."""


def drill(
    nodes: Nodes, writers: int, limit_s: int = 120, fleets: Sequence[Sequence[str]] | None = None
) -> Iterator[Step]:
    """Run the drill, a step at a time. ``fleets``: of as many names each, where nodes are not all linked: it is then a drill of each, at
    the same time. Raises ``NoAgreement``."""
    began, sim = time.monotonic(), nodes.sim
    each = fleets or (nodes.names,)
    writing = [name for names in each for name in names[:: max(1, len(names) // writers)][:writers]]
    crashing = [name for names in each for name in names[7 :: max(1, len(names) // CRASHES)][:CRASHES]]
    few = [name for names in each for at, name in enumerate(names) if at % 3 == 0]
    many = [name for names in each for at, name in enumerate(names) if at % 3]

    def agree(batches: int) -> None:
        end_us = sim.now_us + limit_s * SECOND
        while not all(_agreed(nodes, names, batches // len(each)) for names in each):
            if sim.now_us >= end_us:
                raise NoAgreement(f"no agreement after {limit_s} s of virtual time")
            sim.run_for(LOOK_US)

    def step(what: str, action: Callable[[], None], batches: int) -> Step:
        action()
        taken = sum(engine.taken for engine in nodes.engines())
        lacking = batches * (len(each[0]) - 1)  # whoever wrote it has it
        return Step(
            what,
            sim.now_us / SECOND,
            time.monotonic() - began,
            time.process_time(),
            sim.frames_sent,
            batches,
            taken / lacking if lacking else 0.0,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        )

    def first() -> None:
        nodes.write(writing)
        agree(len(writing))

    def cut() -> None:
        sim.partition([few, many])
        sim.run_for(SECOND)
        nodes.write(writing)
        sim.run_for(2 * SECOND)

    def crash() -> None:
        for name in crashing:
            sim.crash(name)
        sim.run_for(SECOND)
        for name in crashing:
            sim.restart(name)

    def heal() -> None:
        sim.heal()
        agree(2 * len(writing))

    yield step("linked", lambda: sim.run_for(SECOND), 0)
    yield step("first agreement", first, len(writing))
    yield step("cut in two", cut, 2 * len(writing))
    yield step("some restarted", crash, 2 * len(writing))
    yield step("healed, all agree", heal, 2 * len(writing))


def _agreed(nodes: Nodes, names: Sequence[str], batches: int) -> bool:
    first = nodes.heads(names[0])
    return sum(head.seq for head in first.values()) == batches and all(nodes.heads(name) == first for name in names)


def main(words: Sequence[str]) -> int:
    """Run the drill and print a line a step."""
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", action="store_true", help="the gossip engine alone instead of whole node cores")
    parser.add_argument("--nodes", type=int, help="how many; default 1000, or 5000 engines")
    parser.add_argument("--writers", type=int, default=100, help="how many of them write")
    parser.add_argument("--loss-ppm", type=int, default=0, help="of a million frames so many are lost")
    parser.add_argument("--seed", type=int, default=7, help="the same seed gives the same run")
    given = parser.parse_args(words)
    count = given.nodes or (5_000 if given.engine else 1_000)
    writers = min(given.writers, count)
    faults = Faults(loss_ppm=given.loss_ppm, trace_lines=0)
    nodes: Nodes = Engines(count, given.seed, faults) if given.engine else Fleet(count, given.seed, faults)
    print(f"{count} {'engines' if given.engine else 'whole nodes'}, {writers} write, seed {given.seed}")
    print(
        f"{'step':20} {'virtual s':>9} {'wall s':>8} {'cpu s':>8} {'frames':>10} {'batches':>8} {'copies':>7} {'peak MB':>8}"
    )
    for row in drill(nodes, writers):
        times = f"{row.virtual_s:9.2f} {row.wall_s:8.1f} {row.cpu_s:8.1f}"
        print(f"{row.step:20} {times} {row.frames:10,} {row.batches:8,} {row.copies:7.2f} {row.peak_mb:8,}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
