"""A thousand real node cores in one process, linked by the overlay, that all record something and come to hold the same.

    fleet = Fleet(nodes=1000, seed=7)
    fleet.sim.run_for(SECOND)                       # until the links are up
    fleet.write(fleet.names)
    assert fleet.converge(limit_us=60 * SECOND)

What makes it affordable, and changes nothing that a core decides: links are those of the overlay; the genesis is shared; a batch is
opened and its signature checked once in this process instead of once a node (``Setup.opened``); no lane documents; no agreement.

What it is not: ``cluster.Cluster``, which has clients, checkpoints, backups and a judge at every step, for few nodes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.effects import ClientRequest
from crdtledger.edge.links import overlay
from crdtledger.edge.setup import Completeness, Setup
from crdtledger.edge.simulate.cluster import found, identity
from crdtledger.edge.simulate.writing import Json, account
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.genesis import Genesis, Policies
from gossip.network import Faults
from gossip.protocol import GossipEngine
from gossip.replica import Head
from gossip.simulation import Simulation


class SharedBatches:
    """Opens each batch once, for all replicas of this process. What was refused is looked at again each time."""

    def __init__(self) -> None:
        self._opened: dict[bytes, Batch] = {}

    def __call__(self, raw: bytes, genesis: Genesis) -> Batch:
        """As ``open_batch``, which it calls for bytes it has not seen."""
        batch = self._opened.get(raw)
        if batch is None:
            batch = open_batch(raw, genesis)
            self._opened[batch.raw] = batch
        return batch


class Fleet:
    """``nodes`` whole node cores, up from virtual time 0."""

    def __init__(self, nodes: int, seed: int, faults: Faults | None = None) -> None:
        self.names = tuple(f"n{at}" for at in range(nodes))
        self.genesis = found(self.names, Policies(agreement="none"))
        self.places = overlay(self.genesis)
        self._seed = seed
        self._opened = SharedBatches()
        self._requests = 0
        links = {name: place.peers for name, place in self.places.items()} if self.places else None
        self.sim: Simulation[NodeCore] = Simulation(
            self.names, self._start, faults or Faults(trace_lines=0), seed, links
        )

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> NodeCore:
        draw = random.Random(f"{self._seed} {name} {incarnation}").randbytes
        place = self.places[name] if self.places else None
        completeness: Completeness = "complete" if records else "fresh"
        setup = Setup(self.genesis, identity(name), name, draw, completeness, documents=False, place=place)
        return NodeCore(msgspec.structs.replace(setup, opened=self._opened), records)

    def record(self, name: str, *facts: Json) -> None:
        """Let ``name`` record facts, now, without waiting."""
        self._requests += 1
        self.sim.submit(name, ClientRequest(self._requests, api.encode_request(api.Record(list(facts)))))

    def write(self, names: Iterable[str]) -> None:
        """Let each of ``names`` record an account of its own, all at this moment."""
        for name in names:
            self.record(name, account(f"A{self._requests}"))

    def engines(self) -> list[GossipEngine]:
        """The engines of the nodes that are up."""
        return [self.sim.core(name).engine for name in self.sim.up()]

    def heads(self, name: str) -> Mapping[bytes, Head]:
        """What a node that is up durably holds."""
        return self.sim.core(name).gossiped.heads()

    def in_step(self) -> bool:
        """Whether every node is up and durably holds every batch that any holds."""
        up = self.sim.up()
        first = self.heads(up[0])
        return len(up) == len(self.names) and all(self.heads(name) == first for name in up[1:])

    def converge(self, limit_us: int, every_us: int = 50_000) -> bool:
        """Run until all hold the same, looking every ``every_us``; whether they did within ``limit_us``."""
        end_us = self.sim.now_us + limit_us
        while self.sim.now_us < end_us:
            self.sim.run_for(every_us)
            if self.in_step():
                return True
        return False
