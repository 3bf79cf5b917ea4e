"""What a node holds in memory: idle, for an unsettled fact, and for an open cell.

    python -m bench memory

All of it is resident memory, as the kernel counts it, of processes that did nothing else. Idle: the largest of four nodes that agree on
checkpoints of nothing. A fact: what a node grew by when it recorded a million fills, what another grew by that caught up with them, and
what the first holds when it starts again with them in its journal; each has shown all positions to a client. These fills are of 1,000
cells, so that cells do not count.

A cell: what two processes differ by, one of which has many of them. Either they hold equally many fills, in the view of what is
unsettled, or in a settled state, with the trees that its roots are made from, that ten heights have made, whose rows and trees have grown
and have room to grow on; each of those heights changes as many cells where they come to few, since what a height was worked out in stays
in part, and is of its changes, not of the cells held. Or they loaded a state that another process made, as a node does when it starts,
less its ids, which are of facts: of as many cells as the others have fills, since some MB stay of what it was read in.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from bench import nodes
from bench.checkpoint import Books
from bench.join import INSTRUMENTS, Fills, chunks, names, record
from bench.measured import Goal, Plan, Result, Row, Wrong
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.genesis import Genesis, Policies, load
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settled import SettledState, decode_state
from reconcile.checkpoint import LaneCut
from reconcile.commitments import Commitments
from reconcile.salts import Salts
from reconcile.settlement import Settlement, settle

MB = 1e6
IDLE_S = 3.0
IDLE = "an idle node, of four that agree"
FACT = "an unsettled fact, "
CELL = "an open cell, "
HEIGHTS = 10
SALTS = Salts(1, bytes(32))


def narrow(work: Sequence[Fills], instruments: int = 1) -> list[Fills]:
    """The same fills, all of one instrument, or of so many in turn."""
    return [fills._replace(instrument=at % instruments) for at, fills in enumerate(work)]


def idle() -> float:
    """What the largest of four idle nodes holds, in bytes."""
    with nodes.cluster(4, Policies(agreement="tendermint")) as cluster:
        cluster.start(1, 2, 3, 4)
        time.sleep(IDLE_S)
        for number in cluster.processes:
            with cluster.client(number) as node:
                node.query("status")
        return max(cluster.rss(number) for number in cluster.processes)


def a_fact(facts: int) -> dict[str, float]:
    """What an unsettled fact takes at the node that recorded it, at one that caught up, and at one that starts with it, in bytes."""
    work = narrow(chunks(facts, 0))
    with nodes.cluster(2) as cluster:
        cluster.start(1, 2)
        with cluster.client(1) as one, cluster.client(2) as two:
            nodes.define(one)
            nodes.wait_for(two, nodes.held(one))
            before = []
            for number, node in ((1, one), (2, two)):
                node.query("positions")
                before.append(cluster.rss(number))
            nodes.block(two, [1])
            nodes.record(one, work)
            nodes.block(two, [])
            nodes.wait_for(two, nodes.held(one))
            for node in (one, two):
                nodes.check_positions(node, work)
            grown = {"recorded": cluster.rss(1) - before[0], "caught up": cluster.rss(2) - before[1]}
        cluster.stop(1)
        cluster.start(1)
        with cluster.client(1) as one:
            nodes.check_positions(one, work)
            grown["started again"] = cluster.rss(1) - before[0]
    return {f"{FACT}{name}": size / facts for name, size in grown.items()}


def a_cell(what: str, fills: int) -> float:
    """What an open cell takes in the ``view``, in a settled ``state`` that was loaded, or in one that ``heights`` made, in bytes."""
    (many, cells), (few, fewer) = (fresh(what, fills, wide) for wide in (True, False))
    return (many - few) / (cells - fewer)


def fresh(what: str, fills: int, wide: bool) -> tuple[int, int]:
    """``held_by`` in a process that does nothing else; of a state that is ``loaded``, in one that did not make it either."""
    if what != "state":
        return told_by(f"held_by({what!r}, {fills}, {wide})")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        save(Path(folder), fills if wide else fills // 100)
        return told_by(f"loaded({folder!r})")


def told_by(call: str) -> tuple[int, int]:
    """What a call of this module returns in a process of its own."""
    script = f"from bench import memory; print(*memory.{call})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    grown, cells = done.stdout.split()
    return int(grown), int(cells)


def held_by(what: str, fills: int, wide: bool) -> tuple[int, int]:
    """What ``fills`` fills take in this process, in bytes, and how many cells they are of: many, or unless ``wide`` 1,000, or those of a
    single height, which every one changes."""
    work = chunks(fills, 0)
    if not wide:
        work = narrow(work, len(work) // HEIGHTS or 1 if what == "heights" else 1)
    (ledger,) = Ledger.cluster("one", assets={"USDT": 2})
    ledger.record(*names())
    record(ledger, work)
    count = cells(work)
    batches = list(ledger.replica.batches())
    before = resident()
    if what == "view":
        replica = Replica(ledger.genesis, 7, documents=False)
        for batch in batches:
            replica.admit_batch(batch)
        if replica.view.facts != ledger.replica.view.facts:  # looked at, it is there
            raise Wrong("facts are missing from a view")
        return resident() - before, count
    state = SettledState.empty(ledger.genesis)
    trees = Commitments.empty(ledger.genesis, SALTS)
    step = -(-len(batches) // HEIGHTS)
    for begin in range(0, len(batches), step):
        settlement = settled(ledger.genesis, state, batches[begin : begin + step], 1 + begin // step)
        state, trees = settlement.state, trees.advance(settlement)
    del settlement
    grown = resident() - before
    if len(state.positions) != count or not trees.state_root:
        raise Wrong(f"{len(state.positions)} cells are settled, not {count}")
    return grown, count


def save(folder: Path, cells: int) -> None:
    """Leave a settled state of so many cells in a folder, and its genesis."""
    books = Books(cells)
    (folder / "genesis").write_bytes(books.genesis.encode())
    (folder / "state").write_bytes(msgspec.structs.replace(books.state, fills=SeenIds()).encode())


def loaded(folder: str) -> tuple[int, int]:
    """What the state in a folder takes in this process, in bytes, with its trees; and how many cells it has."""
    genesis, raw = load((Path(folder) / "genesis").read_bytes()), (Path(folder) / "state").read_bytes()
    before = resident()
    state = decode_state(raw, genesis)
    trees = Commitments.rebuild(genesis, SALTS, state)
    grown = resident() - before
    if not trees.state_root:
        raise Wrong("a state was loaded without trees")
    return grown, len(state.positions)


def settled(genesis: Genesis, state: SettledState, batches: Sequence[Batch], height: int) -> Settlement:
    """One more height, of these batches of one lane."""
    cut = [LaneCut(batches[-1].key, batches[-1].seq, batches[-1].hash)]
    return settle(genesis, state, genesis.hash, cut, batches, (), height=height)


def cells(work: Sequence[Fills]) -> int:
    """How many cells fills are of."""
    return len(np.unique(np.concatenate([fills.account * INSTRUMENTS + fills.instrument for fills in work])))


def resident() -> int:
    """This process' resident memory, once what was let go of is back with the system."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return nodes.rss(os.getpid())


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts, fills = plan.size(1_000_000, 40_000), plan.size(400_000, 20_000)
    taken: dict[str, list[float]] = {}
    for _ in range(max(1, plan.runs // 2)):
        taken.setdefault(IDLE, []).append(idle() / MB)
        for name, size in a_fact(facts).items():
            taken.setdefault(name, []).append(size)
        for what in ("view", "state", "heights"):
            taken.setdefault(f"{CELL}{what}", []).append(a_cell(what, fills))
    rows = [Row(name, tuple(figures), median(figures)) for name, figures in taken.items()]
    goals = [Goal(IDLE, rows[0].median, "most", 80, "MB")]
    goals += [Goal(row.name, row.median, "most", 150 if FACT in row.name else 250, "B") for row in rows[1:]]
    told = {"facts": facts, "fills of many cells": fills, "runs": len(rows[0].runs)}
    return Result("memory", "Memory that nodes hold", "", rows, goals, told, unit_of_runs="B, MB")
