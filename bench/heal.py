"""How long after a healed partition until all nodes agree.

    python -m bench heal

Eight node processes, linked all to all by CURVE over loopback, are cut into halves. The four of each half record 100,000 fills together,
of which one in a hundred was told to the other half, too. Then all links are let through, and the clock runs until the durable frontier
of every node is the union of both halves; frontiers, view digests and positions must be the same everywhere, and those of a plain fold.
A process a node is what users run; the machine's cores are shared by all eight, which each fold everything.

The goal counts in heads intervals, and in the time that the bytes that have to move take over loopback: every node lacks one half.
Told beside it: what was received over what had to be, and the batches that came more than once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

import numpy as np

from bench import nodes
from bench.catchup import carry
from bench.join import Fills, chunks
from bench.measured import OURS, Goal, Plan, Result, Row, Wrong
from crdtledger.edge.client import Client
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.frontier import LaneHead, frontier_digest
from gossip.catchup import CatchupLimits
from gossip.config import Config

HALVES = ((1, 2, 3, 4), (5, 6, 7, 8))
EVERYBODY = sum(HALVES, ())
BYTES = "the bytes that had to move, over CURVE"
SHOWN = "until all have told the digest of their view"


class Healed(NamedTuple):
    """One round. ``seconds`` until all agree, ``shown`` until all have answered; ``received`` bytes, and ``lacked`` ones; batches that
    were taken, and ``copies`` among them."""

    seconds: float
    shown: float
    received: int
    lacked: int
    batches: int
    copies: int


def shares(facts: int, batch: int) -> dict[int, list[Fills]]:
    """What each node records: both halves ``facts`` fills, in batches of up to ``batch``."""
    told_by_both = facts // 100
    found: dict[int, list[Fills]] = {}
    for half, first in zip(HALVES, (0, facts - told_by_both), strict=True):
        work = nodes.split(chunks(facts, first), batch)
        found |= {number: work[at :: len(half)] for at, number in enumerate(half)}
    return found


def union(clients: Sequence[Client]) -> bytes:
    """The digest of the frontier that holds what any of these hold."""
    heads: dict[bytes, LaneHead] = {}
    for client in clients:
        for row in client.query("frontier"):
            lane = bytes.fromhex(row["lane"])
            if lane not in heads or heads[lane].seq < row["seq"]:
                heads[lane] = LaneHead(row["seq"], bytes.fromhex(row["hash"]))
    return frontier_digest(heads)


def taken(clients: dict[int, Client]) -> tuple[int, int, int]:
    """Bytes that came in, batches, and copies among them, over all nodes."""
    rows = [row for client in clients.values() for row in client.query("members")]
    return tuple(sum(row[name] for row in rows) for name in ("bytes_in", "batches", "copies"))  # type: ignore[return-value]


def distinct(work: dict[int, list[Fills]]) -> list[Fills]:
    """The fills without those that a second node told."""
    seen: set[int] = set()
    found = []
    for fills in (one for number in EVERYBODY for one in work[number]):
        new = np.array([id not in seen for id in fills.ids.tolist()])
        seen.update(fills.ids.tolist())
        found.append(Fills(fills.instrument, *(column[new] for column in fills[1:])))
    return found


def heal(work: dict[int, list[Fills]]) -> Healed:
    """One round."""
    with nodes.cluster(len(EVERYBODY)) as cluster:
        cluster.start(*EVERYBODY)
        with ExitStack() as held, ThreadPoolExecutor(len(EVERYBODY)) as pool:
            clients = {number: held.enter_context(cluster.client(number)) for number in EVERYBODY}
            nodes.define(clients[1])
            for client in clients.values():
                nodes.wait_for(client, nodes.held(clients[1]))
                client.query("positions")
            for half, others in (HALVES, HALVES[::-1]):
                for number in half:
                    nodes.block(clients[number], others)
            list(pool.map(lambda number: nodes.record(clients[number], work[number]), EVERYBODY))
            for half in HALVES:
                within = union([clients[number] for number in half])
                for number in half:
                    nodes.wait_for(clients[number], within)
            wanted = union([clients[half[0]] for half in HALVES])
            before = taken(clients)
            begun = time.perf_counter()
            for client in clients.values():
                nodes.block(client, [])
            done = max(pool.map(lambda client: nodes.wait_for(client, wanted), clients.values()))
            digests = list(pool.map(lambda client: client.query("digest"), clients.values()))
            shown = time.perf_counter()
            if any(one != digests[0] for one in digests) or digests[0]["frontier"] != wanted.hex():
                raise Wrong(f"the nodes differ: {digests}")
            nodes.check_positions(clients[1], distinct(work))
            received, batches, copies = (now - then for now, then in zip(taken(clients), before, strict=True))
        cluster.stop(1)
        told = sum(len(batch.raw) for batch in nodes.journaled(cluster.paths[0]) if Kind.FILL in batch.body.tables)
    return Healed(done - begun, shown - begun, received, told * len(HALVES[0]), batches, copies)


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts, batch = plan.size(100_000, 4_000), 500
    work = shares(facts, batch)
    healed = [heal(work) for _ in range(plan.runs)]
    moved = int(median(one.lacked for one in healed))
    carried = [carry(moved, CatchupLimits().chunk_bytes) for _ in healed]
    heads_s = Config(b"").heads_interval_us / 1e6
    agreed = median(one.seconds for one in healed)
    rows = [
        Row(OURS, tuple(one.seconds for one in healed), agreed, 2 * facts / agreed),
        Row(SHOWN, tuple(one.shown for one in healed), median(one.shown for one in healed), ours=True),
        Row(BYTES, tuple(carried), median(carried)),
    ]
    bound = 2 * (median(carried) + 2 * heads_s)
    goals = [Goal(f"agreement after heal, {len(EVERYBODY)} nodes, {facts:,} facts a side", agreed, "most", bound, "s")]
    last = healed[-1]
    told = {
        "batches of": batch,
        "heads interval": f"{heads_s:g} s",
        "MB that nodes lacked": round(moved / 1e6, 1),
        "MB received": round(last.received / 1e6, 1),
        "batches taken": last.batches,
        "copies among them": last.copies,
        "runs": len(healed),
    }
    return Result("heal", "Agreement after a partition of eight nodes heals", "facts", rows, goals, told)
