"""How many facts a second can be joined: verified, deduplicated and folded, from batches in memory, on one core.

    python -m bench join

Two nodes record fills of 1,000 accounts in 100 instruments (100,000 cells); of each hundred facts one was told by both. A replica that
holds ten million other fills takes in the batches of both, lane by lane in turn: signature and hashes checked, ids deduplicated, positions
summed. The sums must be those of a plain numpy fold, or the bench fails.

Beside it, on the same fills: pycrdt and loro used plainly, a map entry for each fill, imported from updates of as many fills as a batch
has; they check no signature and sum nothing. And what cannot be avoided: sha256 and Ed25519 of the same batches, and the fold alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.measured import OURS, Goal, Plan, Result, Run, Wrong, rounds, row, timed
from crdtledger.ledger.batch import open_batch
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Account, Instrument
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.replica import Applied, Replica

ACCOUNTS, INSTRUMENTS = 1_000, 100
BATCH = 4_000
LIMIT = "sha256 + Ed25519 + decode"
FOLD = "fold alone"
PYCRDT = "pycrdt, a map entry a fill"
LORO = "loro, a map entry a fill"
NAMES = tuple(f"A{number:03d}" for number in range(ACCOUNTS))
SPOT = {"type": "spot", "base": "BTC", "quote": "USDT", "settlement": "USDT", "price_decimals": 2, "qty_decimals": 5}


class Fills(NamedTuple):
    """Columns of fills of one instrument."""

    instrument: int
    ids: npt.NDArray[np.uint64]
    qty: npt.NDArray[np.int64]
    price: npt.NDArray[np.int64]
    side: npt.NDArray[np.int8]
    account: npt.NDArray[np.int64]


def chunks(facts: int, first: int) -> list[Fills]:
    """``facts`` fills with ids from ``first`` on, in columns of up to ``BATCH``. A fill is a function of its id."""
    found = []
    start, end = first, first + facts
    while start < end:
        ids = np.arange(start, min((start // BATCH + 1) * BATCH, end), dtype=np.uint64)
        mixed = (ids * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64)
        side = np.where(mixed & 1, 1, -1).astype(np.int8)
        account = (mixed >> 20) % ACCOUNTS
        terms = (1 + (mixed >> 8) % 9_999, 1 + (mixed >> 30) % 9_999_999, side, account)
        found.append(Fills(start // BATCH % INSTRUMENTS, ids, *terms))
        start += len(ids)
    return found


def record(ledger: Ledger, work: Sequence[Fills]) -> list[bytes]:
    """The batches that ``ledger`` makes of ``work``."""
    return [
        batch.raw
        for fills in work
        for batch in ledger.record_fills(
            FillColumns(
                venue="V",
                instrument=f"I{fills.instrument}",
                trade_id=fills.ids,
                price=fills.price,
                qty=fills.qty,
                side=fills.side,
                account=fills.account,
                accounts=NAMES,
            )
        ).batches
    ]


class Work:
    """The batches to be joined, and those that are held before."""

    def __init__(self, facts: int, held: int) -> None:
        self.first, self.second, third = Ledger.cluster("one", "two", "three", assets={"USDT": 2})
        names = [
            *(Account(name=name) for name in NAMES),
            *(Instrument(name=f"I{at}", **SPOT) for at in range(INSTRUMENTS)),
        ]
        self.opening = [batch.raw for batch in third.record(*names).batches]
        for ledger in (self.first, self.second):
            ledger.join(third)
        share = facts // 2
        told_by_both = facts // 100
        self.held = chunks(held, 1 << 40)
        before = [batch for fills in self.held for batch in record(third, [fills])] if held else []
        told = (chunks(share, 0), chunks(facts - share, share - told_by_both))
        self.fills = [*told[0], *told[1]]
        lanes = (record(self.first, told[0]), record(self.second, told[1]))
        self.before = before
        self.batches = [raw for pair in zip(*lanes, strict=False) for raw in pair]
        longest = max(lanes, key=len)
        self.batches += longest[min(map(len, lanes)) :]
        self.distinct = facts - told_by_both

    def replica(self) -> Replica:
        """A replica that holds what is held before."""
        replica = Replica(self.first.genesis, salt=7, documents=False)
        for raw in (*self.opening, *self.before):
            assert isinstance(replica.admit(raw), Applied)
        assert replica.view.facts  # it is there from now on, and kept up with every batch
        return replica

    @functools.cached_property
    def expected(self) -> dict[tuple[str, str], int]:
        """The quantity of every cell, folded plainly."""
        ids = np.concatenate([fills.ids for fills in self.fills])
        cells = np.concatenate([fills.account * INSTRUMENTS + fills.instrument for fills in self.fills])
        signed = np.concatenate([fills.qty * fills.side for fills in self.fills])
        _, first = np.unique(ids, return_index=True)
        sums = np.zeros(ACCOUNTS * INSTRUMENTS, np.int64)
        np.add.at(sums, cells[first], signed[first])
        for fills in self.held:
            np.add.at(sums, fills.account * INSTRUMENTS + fills.instrument, fills.qty * fills.side)
        return {
            (NAMES[at // INSTRUMENTS], f"I{at % INSTRUMENTS}"): int(sums[at]) for at in np.flatnonzero(sums).tolist()
        }


def ours(work: Work) -> float:
    """One join."""
    replica = work.replica()

    def join() -> None:
        for raw in work.batches:
            replica.admit(raw)

    seconds = timed(join)
    got = {(held.account, held.instrument): held.bought - held.sold for held in replica.view.position_rows()}
    wrong = {cell for cell in got.keys() | work.expected.keys() if got.get(cell, 0) != work.expected.get(cell, 0)}
    if wrong:
        raise Wrong(f"{len(wrong)} cells are not what a plain fold gives, {sorted(wrong)[:3]} among them")
    return seconds


def hashes(work: Work) -> float:
    """Every batch opened, which hashes it and verifies its signature: what no verified join can do without."""

    def check() -> None:
        for raw in work.batches:
            open_batch(raw, work.first.genesis)

    return timed(check)


def fold(work: Work) -> float:
    """The sums alone, over columns that lie ready."""
    cells = [fills.account * INSTRUMENTS + fills.instrument for fills in work.fills]

    def add() -> None:
        sums = np.zeros((2, ACCOUNTS * INSTRUMENTS), np.int64)
        for at, fills in zip(cells, work.fills, strict=True):
            np.add.at(sums[0], at, fills.qty * fills.side)
            np.add.at(sums[1], at, fills.qty * fills.price)

    return timed(add)


def entries(fills: Fills) -> list[tuple[str, bytes]]:
    """A key and 24 packed bytes for each fill."""
    columns = (fills.qty, fills.price, fills.account)
    packed = np.stack([column.astype("<i8") for column in columns], axis=1).tobytes()
    return [(str(id), packed[at * 24 : (at + 1) * 24]) for at, id in enumerate(fills.ids.tolist())]


def with_pycrdt(work: Work) -> Run:
    """A map entry a fill, in pycrdt."""
    from pycrdt import Doc, Map

    updates = []
    for fills in work.fills:
        source: Doc[Map[bytes]] = Doc()
        held = source.get("fills", type=Map)
        with source.transaction():
            for key, value in entries(fills):
                held[key] = value
        updates.append(source.get_update())

    def run() -> float:
        target: Doc[Map[bytes]] = Doc()
        held = target.get("fills", type=Map)

        def join() -> None:
            for update in updates:
                target.apply_update(update)

        seconds = timed(join)
        assert len(held) == work.distinct
        return seconds

    return run


def with_loro(work: Work) -> Run:
    """A map entry a fill, in loro."""
    from loro import ExportMode, LoroDoc

    updates = []
    for fills in work.fills:
        source = LoroDoc()
        held = source.get_map("fills")
        for key, value in entries(fills):
            held.insert(key, value)
        source.commit()
        updates.append(source.export(ExportMode.Updates(source.oplog_vv.__class__())))

    def run() -> float:
        target = LoroDoc()

        def join() -> None:
            for update in updates:
                target.import_(update)

        seconds = timed(join)
        assert len(target.get_map("fills")) == work.distinct
        return seconds

    return run


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts, held = plan.size(1_000_000, 40_000), plan.size(10_000_000, 100_000)
    work = Work(facts, held)
    rivals: dict[str, Run] = {
        OURS: lambda: ours(work),
        LIMIT: lambda: hashes(work),
        FOLD: lambda: fold(work),
        PYCRDT: with_pycrdt(work),
        LORO: with_loro(work),
    }
    rows = rounds(rivals, plan.runs, facts)
    mine = row(rows, OURS)
    least = row(rows, LIMIT).median + row(rows, FOLD).median
    goals = (
        Goal("facts joined", mine.rate, "least", 1_500_000, "facts/s"),
        Goal("over pycrdt used plainly", row(rows, PYCRDT).ratio, "least", 2.5, "times"),
        Goal("over loro used plainly", row(rows, LORO).ratio, "least", 2.5, "times"),
        Goal("stretch: over sha256 + Ed25519 + fold alone", mine.median / least, "most", 2.0, "times"),
    )
    told = {"facts": facts, "held before": held, "batches": len(work.batches), "runs": plan.runs}
    what = "Join: verified, deduplicated, folded, from batches in memory, on one core"
    return Result("join", what, "facts", rows, goals, told)
