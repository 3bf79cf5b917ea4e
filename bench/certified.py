"""How long four validators take over a height: settled by each of them, voted on, certified, and known to be, at all of them.

    python -m bench certified

Four node processes on this machine hold a state that came to them by gossip. One of them records 10,000 fills, each in a cell of its
own, and the next height settles them all; what counts is the time from when a node began to vote until it held the certificate, at the
slowest of the four. Each node settles for itself, the others when they have seen what the first proposes: on two cores that is one
settlement and then three. What agreement itself costs is what the same nodes take for a height of one fact after another one of one fact:
each node's interval starts when it has settled, so after a large height they begin one after the other, and the first waits for the last.
What that comes to, for a height of one fact right after the large one, is a row of its own.

All must end with the same certified checkpoints; the batches are settled once more, height by height, from a node's journal, and every root
must come out, the last one from a plain recomputation too, or the bench fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.join import ACCOUNTS, Fills
from bench.measured import OURS, Goal, Plan, Result, Wrong, rounds, row
from bench.nodes import PATIENCE_S, Cluster, cluster, define, journaled, record, split
from crdtledger.edge import folders
from crdtledger.edge.client import Client
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.outcome import Missing
from crdtledger.ledger.replica import Replica
from reconcile.checkpoint import decode_checkpoint
from reconcile.commitments import Commitments
from reconcile.heights import NONE
from reconcile.settlement import settle
from reconcile.stores.sqlite import SqliteStore

NODES = 4
ONE = "a height of one fact, after another one"
WAITED = "a height of one fact, right after the large one"
SETTLED = "of it: until settled"
OPENING_S = 600.0
"""Until all cells of the opening are settled: a million keep four nodes on two cores busy for a while."""


class Market:
    """Fills with ids that go on."""

    def __init__(self, instruments: int) -> None:
        self._instruments, self._id, self._turn = instruments, 0, 0

    def fills(self, instrument: int, count: int) -> Fills:
        """A fill of each of ``count`` accounts in one instrument."""
        self._id += count
        ids = np.arange(self._id - count, self._id, dtype=np.uint64)
        size = np.full(count, 5)
        return Fills(instrument, ids, size, size * 100, np.ones(count, np.int8), np.arange(count))

    def opening(self) -> list[Fills]:
        """A fill of every account in every instrument."""
        return [self.fills(at, ACCOUNTS) for at in range(self._instruments)]

    def changes(self, count: int) -> list[Fills]:
        """A fill in each of ``count`` cells, of a hundred accounts at a time."""
        each = max(1, count // self._instruments)
        return split([self.fills(at, each) for at in range(self._instruments)], 100)[: -(-count // min(each, 100))]


def status(client: Client) -> dict[str, Any]:
    """Where a node stands."""
    told: dict[str, Any] = client.query("status")
    return told


def settled(clients: list[Client], facts: int, patience_s: float = PATIENCE_S) -> list[dict[str, Any]]:
    """Wait until all have certified a height with so many facts; where they stand then."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        told = [status(client) for client in clients]
        heights = {
            (one["settled_facts"], one["checkpoints"]["certified_height"], one["base"]["height"]) for one in told
        }
        if len(heights) == 1 and told[0]["settled_facts"] == facts and told[0]["base"]["height"] == min(heights)[1]:
            return told
        time.sleep(0.05)
    raise Wrong(f"{facts} facts are not certified at all nodes after {patience_s:g} s: {heights}")


def height(clients: list[Client], work: Callable[[], int], facts: int) -> tuple[float, float, int]:
    """Seconds to certify and to settle what ``work`` records, at the slowest node, and how many facts are settled then."""
    before = status(clients[0])["base"]["height"]
    facts += work()
    told = settled(clients, facts)
    if told[0]["base"]["height"] != before + 1:
        raise Wrong(f"it took {told[0]['base']['height'] - before} heights: the nodes are slower than the interval")
    each = [one["checkpoints"] for one in told]
    return max(one["seconds_to_certify"][-1] for one in each), max(one["seconds_to_settle"][-1] for one in each), facts


def check(it: Cluster) -> None:
    """All have the same checkpoints, and every root is that of settling the batches again."""
    stored = [list(_stored(path)) for path in it.paths]
    if len({tuple(one.digest for one in each) for each in stored}) != 1:
        raise Wrong("the nodes certified different checkpoints")
    node = folders.open_node(it.paths[0])
    assert node.salts is not None, "they agree"
    replica = Replica(node.genesis, documents=False)
    standing: dict[int, list[Batch]] = {}  # by the height that they stand on: only so many may wait in a replica
    for batch in journaled(it.paths[0]):
        standing.setdefault(batch.header.base[0], []).append(batch)
    commitments, previous = Commitments.empty(node.genesis, node.salts), NONE
    for one in stored[0]:
        checkpoint = decode_checkpoint(one.body)
        for batch in standing.get(one.height - 1, ()):
            replica.admit_batch(batch)
        batches = replica.collect(checkpoint.cut)
        if isinstance(batches, Missing):
            raise Wrong(f"height {one.height} settles batches that are in no journal")
        settlement = settle(node.genesis, replica.state, previous, checkpoint.cut, batches, (), height=one.height)
        commitments, previous = commitments.advance(settlement), one.digest
        if commitments.state_root != checkpoint.record.state_root:
            raise Wrong(f"the root of height {one.height} is not that of its batches")
        replica.rebase(one.height, one.digest, settlement.state)
    if Commitments.rebuild(node.genesis, node.salts, replica.state).state_root != commitments.state_root:
        raise Wrong("the last root is not that of a plain recomputation")


def _stored(path: Path) -> Iterator[Any]:
    with SqliteStore.open(path / folders.CHECKPOINTS) as store:
        yield from store.entries()


def measure(plan: Plan) -> Result:
    """Measure four nodes."""
    return measured(plan, "certified", plan.size(100, 5))


def measured(plan: Plan, name: str, instruments: int) -> Result:
    """Measure four nodes that hold a thousand cells for each of so many instruments."""
    changes = plan.size(10_000, 500)
    market, taken = Market(instruments), {SETTLED: 0.0, WAITED: 0.0}
    interval_ms = plan.size(3_000, 1_000)  # what is recorded at once after a height is settled is all in the next
    with cluster(NODES, Policies(agreement="tendermint", checkpoint_interval_ms=interval_ms)) as it:
        it.start(*range(1, NODES + 1))
        clients = [it.client(number) for number in range(1, NODES + 1)]
        define(clients[0], instruments)
        facts = ACCOUNTS + instruments + record(clients[0], market.opening())
        settled(clients, facts, OPENING_S)

        def changed(count: int) -> float:
            nonlocal facts
            work = market.changes(count)
            seconds, taken[SETTLED], facts = height(clients, lambda: record(clients[0], work), facts)
            return seconds

        def alone() -> float:
            taken[WAITED] = changed(1)
            return changed(1)

        rows = rounds(
            {
                OURS: lambda: changed(changes),
                SETTLED: lambda: taken[SETTLED],
                ONE: alone,
                WAITED: lambda: taken[WAITED],
            },
            plan.runs,
            changes,
        )
        for client in clients:
            client.close()
        it.close()
        check(it)
    goals = (
        Goal("all certified", row(rows, OURS).median, "most", 1.0, "s"),
        Goal("the protocol's own share", 1_000 * row(rows, ONE).median, "most", 150, "ms"),
    )
    told = {"nodes": NODES, "cells": ACCOUNTS * instruments, "changes": changes, "runs": plan.runs}
    what = (
        f"Four validators certify {changes:,} changed cells of {ACCOUNTS * instruments:,}, on the cores of one machine"
    )
    rows = [one._replace(rate=0.0, ratio=0.0) for one in rows]
    return Result(name, what, "cells", rows, goals, told)
