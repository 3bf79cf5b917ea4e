"""What a node holds in memory: idle, for an unsettled fact, and for an open cell.

    python -m bench memory

All of it is resident memory, as the kernel counts it, of processes that did nothing else. Idle: the largest of four nodes that agree on
checkpoints of nothing. A fact: what a node grew by when it recorded a million fills, what another grew by that caught up with them, and
what the first holds when it starts again with them in its journal; each has shown all positions to a client. These fills are of 1,000
cells, so that cells do not count, and come in batches of 4,000. A batch takes something, too, whatever is in it: so what a replica grows by
in a fresh process, bytes that came in included, is told of batches of 1, 10, 100 and 4,000.

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
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from bench import nodes
from bench.checkpoint import Books
from bench.join import BATCH, INSTRUMENTS, Fills, chunks, names, record
from bench.measured import Curve, Goal, Plan, Result, Row, Wrong, slope
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
ALONE = {1: 10_000, 10: 40_000, 100: 200_000, BATCH: 400_000}
"""How many facts a replica takes in, in batches of so many."""
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
    return {f"{FACT}{name}, {BATCH:,} a batch": size / facts for name, size in grown.items()}


def in_batches(facts: int, rows: int, folder: Path) -> float:
    """What an unsettled fact takes in a replica that got it in a batch of so many, in bytes."""
    if not (place := folder / f"batches of {rows}").exists():
        save_batches(place, facts, rows)
    grown, held = told_by(f"admitted({str(place)!r})")
    if held != facts:
        raise Wrong(f"a replica holds {held} facts, not {facts}")
    return grown / facts


def save_batches(folder: Path, facts: int, rows: int) -> None:
    """Leave batches of so many facts in a new folder, those of the names before them, and their genesis."""
    folder.mkdir()
    (ledger,) = Ledger.cluster("one", assets={"USDT": 2})
    ledger.record(*names())
    opening = [batch.raw for batch in ledger.replica.batches()]
    raws = opening + record(ledger, nodes.split(narrow(chunks(facts, 0)), rows))
    (folder / "genesis").write_bytes(ledger.genesis.encode())
    sizes = msgspec.json.encode([len(opening), *map(len, raws)])
    (folder / "batches").write_bytes(b"\n".join((sizes, b"".join(raws))))


def admitted(folder: str) -> tuple[int, int]:
    """What a replica grows by in this process, in bytes, that takes in a folder's batches after those of its opening; and how many facts
    those are."""
    replica = Replica(load((Path(folder) / "genesis").read_bytes()), 7, documents=False)
    with (Path(folder) / "batches").open("rb") as file:
        opening, *sizes = msgspec.json.decode(file.readline(), type=list[int])
        for size in sizes[:opening]:
            replica.admit(file.read(size))
        first, before = replica.view.facts, resident()
        for size in sizes[opening:]:
            replica.admit(file.read(size))
        held = replica.view.facts - first  # looked at, they are there
        return resident() - before, held


def a_cell(what: str, fills: int, folder: Path) -> float:
    """What an open cell takes in the ``view``, in a settled ``state`` that was loaded, or in one that ``heights`` made, in bytes."""
    (many, cells), (few, fewer) = (fresh(what, fills, wide, folder) for wide in (True, False))
    return (many - few) / (cells - fewer)


def fresh(what: str, fills: int, wide: bool, folder: Path) -> tuple[int, int]:
    """``held_by`` in a process that does nothing else; of a state that is ``loaded``, in one that did not make it either."""
    if what != "state":
        return told_by(f"held_by({what!r}, {fills}, {wide})")
    cells = fills if wide else fills // 100
    if not (place := folder / f"state of {cells}").exists():
        save(place, cells)
    return told_by(f"loaded({str(place)!r})")


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
    """Leave a settled state of so many cells in a new folder, and its genesis."""
    folder.mkdir()
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


def measured(plan: Plan, facts: int, fills: int, folder: Path) -> Iterator[tuple[str, float]]:
    """A round, by name. What processes load is made once, in a folder."""
    yield IDLE, idle() / MB
    yield from a_fact(facts).items()
    for what in ("view", "state", "heights"):
        yield f"{CELL}{what}", a_cell(what, fills, folder)
    for size, held in ALONE.items():
        yield (
            f"{FACT}in a replica, {size:,} a batch",
            in_batches(plan.size(held, max(size, held // 20)), size, folder),
        )


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts, fills, runs = plan.size(1_000_000, 40_000), plan.size(400_000, 20_000), plan.size(plan.runs, 1)
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as home:
        for _ in range(runs):
            for name, size in measured(plan, facts, fills, Path(home)):
                taken.setdefault(name, []).append(size)
    rows = [
        Row(name, tuple(figures), median(figures), unit="MB" if name == IDLE else "") for name, figures in taken.items()
    ]
    alone, nodes_hold = rows[-len(ALONE) :], rows[: -len(ALONE)]
    goals = [
        Goal(one.name, one.median, "most", 80 if one.unit else 150 if FACT in one.name else 250, one.unit or "B")
        for one in nodes_hold
    ]
    points = tuple((float(size), one.median) for size, one in zip(ALONE, alone, strict=True))
    by_batch = Curve("an unsettled fact in a replica", "facts a batch", "B", points, slope(points))
    told = {"facts": facts, "fills of many cells": fills, "runs": runs}
    return Result("memory", "Memory that nodes hold", "", rows, goals, told, unit_of_runs="B", curves=(by_batch,))
