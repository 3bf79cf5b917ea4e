"""How many facts a second get from one node to another: recorded at A, durable at A, over CURVE, verified, durable and visible at B.

    python -m bench endtoend

A client hands columns of fills to A as importers do: requests of 16,384 rows of one instrument, a few on their way at once; of each
hundred fills one was told before. A and B are node processes as users run them, on loopback, each with its own journal. The clock stops
when A has acknowledged everything (durable), B says that what it holds for good is what A holds, and B has told an account's positions; all
of B's positions must then be those of a plain fold.

Beside it, the same fills, as many a transaction, the same ids refused a second time, synced to the same disk: what people use instead
(``bench.upserts``). It replicates nothing. And what cannot be avoided: the batches' bytes over CURVE, and each of them synced.

A request costs something, too, whatever is in it. So the same is told, of fewer fills, in requests of 1, 10, 100 and 1,000 rows, beside
SQLite with a transaction for each of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from bench.documents import documents
from bench.join import NAMES, Fills
from bench.limits import curve_throughput, syncs
from bench.measured import OURS, Curve, Goal, Plan, Result, Row, Run, rounds, row, slope
from bench.nodes import check_positions, cluster, define, held, record, split, wait_for
from bench.upserts import SQLITE, sqlite, stores, totals
from crdtledger.edge.importing import BLOCK_ROWS
from crdtledger.ledger.body import MAX_FACTS
from crdtledger.ledger.facts import TABLES, Kind

INSTRUMENTS = 4
ACCOUNTS = 100
AGAIN = 100
"""Of so many fills one is told again."""
SMALL = {1: 2_000, 10: 10_000, 100: 50_000, 1_000: 200_000}
"""How many fills are told in requests of so many rows."""
WHOLE = f"{OURS}, {BLOCK_ROWS:,} rows a request"
CURVE = "the batches' bytes over CURVE"
SYNC = "the batches' bytes, a sync each"


def blocks(facts: int, most: int = BLOCK_ROWS) -> list[Fills]:
    """``facts`` fills in blocks of up to ``most``, as importers send them. The first hundredth of each repeats the last one of its
    instrument."""
    found: list[Fills] = []
    for number in range(-(-facts // most)):
        rows = min(most, facts - number * most)
        instrument = number % INSTRUMENTS
        start = (number // INSTRUMENTS) * (most - most // AGAIN)
        ids = np.arange(start, start + rows, dtype=np.uint64)
        mixed = (ids * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64) ^ instrument
        side = np.where(mixed & 1, 1, -1).astype(np.int8)
        terms = (1 + (mixed >> 8) % 9_999, 1 + (mixed >> 30) % 9_999_999, side, (mixed >> 20) % ACCOUNTS)
        found.append(Fills(instrument, ids, *terms))
    return found


def distinct(work: list[Fills]) -> list[Fills]:
    """The same without what is told again."""
    again = len(work[0].ids) // AGAIN
    return [
        Fills(fills.instrument, *(column[again if at >= INSTRUMENTS else 0 :] for column in fills[1:]))
        for at, fills in enumerate(work)
    ]


def ours(work: list[Fills], once: list[Fills]) -> float:
    """Two new nodes. ``once``: the work without what is told again."""
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


def requests(rows: int, facts: int, runs: int) -> list[Row]:
    """Ours and SQLite, in requests and transactions of so many rows."""
    work = blocks(facts, max(rows, AGAIN))
    once = distinct(work)
    asked, expected = split(work, rows), totals(once)
    said = f"{rows:,} rows" if rows > 1 else "1 row"
    name = f"{OURS}, {said} a request"
    beside = {name: lambda: ours(asked, once), f"{SQLITE}, {said}": lambda: sqlite(asked, expected)}
    return rounds(beside, runs, facts, name)


def by_rows(name: str, rows: Sequence[Row], sizes: Sequence[int]) -> Curve:
    """What a fact costs by the rows of a request."""
    points = tuple((float(size), 1e6 / one.rate) for size, one in zip(sizes, rows, strict=True))
    return Curve(f"{name}, a fact", "rows a request", "us", points, slope(points))


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
        WHOLE: lambda: ours(work, once),
        **used,
        **libraries,
        CURVE: lambda: curve_throughput(frames),
        SYNC: lambda: sum(syncs(frames)),
    }
    small = {
        size: requests(size, plan.size(fills, fills // 20), plan.size(plan.runs, 1)) for size, fills in SMALL.items()
    }
    rows = rounds(rivals, plan.runs, facts, WHOLE)
    mine, theirs = row(rows, WHOLE), row(rows, SQLITE)
    sizes = (*SMALL, BLOCK_ROWS)
    curves = [
        by_rows(name, [*(pair[at] for pair in small.values()), last], sizes)
        for at, (name, last) in enumerate(((OURS, mine), (SQLITE, theirs)))
    ]
    asked = f"in requests of {BLOCK_ROWS:,} rows"
    goals = (
        Goal(f"facts recorded, durable at both, visible at the other, {asked}", mine.rate, "least", 500_000, "facts/s"),
        Goal(f"over SQLite upserts, which replicate nothing, {asked}", theirs.ratio, "least", 3.0, "times"),
    )
    told = {
        "facts": facts,
        "accounts": ACCOUNTS,
        "instruments": INSTRUMENTS,
        "rows a request, where none are named": BLOCK_ROWS,
        "told twice": facts - count,
        "runs": plan.runs,
    }
    what = "End to end: recorded and durable at A, over CURVE, verified, durable and visible at B; two processes"
    rows += [one for pair in small.values() for one in pair]
    return Result("endtoend", what, "facts", rows, goals, told, curves=curves, left_out=[*missing, *absent])
