"""How many facts a second get from one node to another: recorded at A, durable at A, over CURVE, verified, durable and visible at B.

    python -m bench endtoend

A client hands columns of fills to A as importers do: blocks of one instrument, a few on their way at once; of each hundred fills one was
told before. A and B are node processes as users run them, on loopback, each with its own journal. The clock stops when A has acknowledged
everything (durable), B says that what it holds for good is what A holds, and B has told an account's positions; all of B's positions must
then be those of a plain fold.

Beside it, the same fills, as many a transaction, the same ids refused a second time, synced to the same disk: what people use instead
(``bench.upserts``). It replicates nothing. And what cannot be avoided: the batches' bytes over CURVE, and each of them synced.
"""

from __future__ import annotations

import time

import numpy as np

from bench.documents import documents
from bench.join import NAMES, Fills
from bench.limits import curve_throughput, syncs
from bench.measured import OURS, Goal, Plan, Result, Run, rounds, row
from bench.nodes import check_positions, cluster, define, held, record, wait_for
from bench.upserts import SQLITE, stores, totals
from crdtledger.edge.importing import BLOCK_ROWS
from crdtledger.ledger.body import MAX_FACTS
from crdtledger.ledger.facts import TABLES, Kind

INSTRUMENTS = 4
ACCOUNTS = 100
AGAIN = BLOCK_ROWS // 100
CURVE = "the batches' bytes over CURVE"
SYNC = "the batches' bytes, a sync each"


def blocks(facts: int) -> list[Fills]:
    """``facts`` fills in blocks as importers send them. The first hundredth of each repeats the last one of its instrument."""
    found: list[Fills] = []
    for number in range(-(-facts // BLOCK_ROWS)):
        rows = min(BLOCK_ROWS, facts - number * BLOCK_ROWS)
        instrument = number % INSTRUMENTS
        start = (number // INSTRUMENTS) * (BLOCK_ROWS - AGAIN)
        ids = np.arange(start, start + rows, dtype=np.uint64)
        mixed = (ids * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64) ^ instrument
        side = np.where(mixed & 1, 1, -1).astype(np.int8)
        terms = (1 + (mixed >> 8) % 9_999, 1 + (mixed >> 30) % 9_999_999, side, (mixed >> 20) % ACCOUNTS)
        found.append(Fills(instrument, ids, *terms))
    return found


def distinct(work: list[Fills]) -> list[Fills]:
    """The same without what is told again."""
    return [
        Fills(fills.instrument, *(column[AGAIN if at >= INSTRUMENTS else 0 :] for column in fills[1:]))
        for at, fills in enumerate(work)
    ]


def ours(work: list[Fills]) -> float:
    """Two new nodes."""
    once = distinct(work)
    with cluster(2) as it:
        it.start(1, 2)
        with it.client(1) as a, it.client(2) as b:
            define(a, INSTRUMENTS)
            wait_for(b, held(a))
            b.query("positions")  # somebody looks at B, so that it keeps its figures up with every batch
            begun = time.perf_counter()
            record(a, work)
            wait_for(b, held(a))
            b.query("positions", account=NAMES[0])
            seconds = time.perf_counter() - begun
            check_positions(b, once)
    return seconds


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts = plan.size(1_000_000, 6 * BLOCK_ROWS)
    work = blocks(facts)
    once = distinct(work)
    count = totals(once)[0]
    frame = bytes(MAX_FACTS * TABLES[Kind.FILL].itemsize)
    frames = [frame] * -(-facts // MAX_FACTS)
    used, missing = stores(work, once)
    libraries, absent = documents(work, count)
    rivals: dict[str, Run] = {
        OURS: lambda: ours(work),
        **used,
        **libraries,
        CURVE: lambda: curve_throughput(frames),
        SYNC: lambda: sum(syncs(frames)),
    }
    rows = rounds(rivals, plan.runs, facts)
    mine = row(rows, OURS)
    goals = (
        Goal("facts recorded, durable at both, visible at the other", mine.rate, "least", 500_000, "facts/s"),
        Goal("over SQLite upserts, which replicate nothing", row(rows, SQLITE).ratio, "least", 3.0, "times"),
    )
    told = {
        "facts": facts,
        "accounts": ACCOUNTS,
        "instruments": INSTRUMENTS,
        "a block": BLOCK_ROWS,
        "told twice": facts - count,
        "runs": plan.runs,
    }
    told |= {"not installed": ", ".join([*missing, *absent]) or "none"}
    what = "End to end: recorded and durable at A, over CURVE, verified, durable and visible at B; two processes"
    return Result("endtoend", what, "facts", rows, goals, told)
