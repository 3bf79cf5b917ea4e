"""How many facts a second can be joined: verified, deduplicated and folded, from batches in memory, on one core.

    python -m bench join

Two nodes record fills of 1,000 accounts in 100 instruments (100,000 cells); of each hundred facts that come in, one was told before, by
the other node. A replica that holds ten million other fills takes in the batches of both, lane by lane in turn: signature and hashes
checked, ids deduplicated, positions summed. The sums must be those of a plain numpy fold, or the bench fails. The same with fewer fills
held draws how the cost grows: there tables grow under the clock, again and again, while what holds ten million has room for a million
more. So what those ten million themselves took, from the first one, with all growing that this needs, is a row of its own.

Beside it, on the same fills: pycrdt and loro used plainly, a map entry for each fill, imported from updates of as many fills as a batch
has; they check no signature and sum nothing. And what cannot be avoided: sha256 of the same batches, Ed25519 of their headers, the sums
alone of columns that lie ready, and the bytes that these touch at the pace of a copy. ``open_batch`` is ours: it parses and checks as well.
"""

from __future__ import annotations

import functools
import hashlib
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.limits import moving
from bench.measured import OURS, Curve, Goal, Plan, Result, Row, Run, Wrong, figure, rounds, row, slope, timed
from crdtledger.ledger.batch import header_hash, open_batch
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Account, Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest, verify
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.replica import Applied, Replica

ACCOUNTS, INSTRUMENTS = 1_000, 100
BATCH = 4_000
SHA256, ED25519 = "sha256", "Ed25519"
LIMIT = "open_batch"
FOLD = "fold alone"
COPY = "as many bytes as that touches, copied"
FILLED = "filling up to what is held, growing included"
FOLD_BYTES = 3 * 8 + 1 + 2 * 2 * 8
"""Of a fact: its place, quantity, price and side are read, two sums are read and written."""
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


def fills_of(instrument: int, ids: npt.NDArray[np.uint64]) -> Fills:
    """A fill is a function of its id."""
    mixed = (ids * np.uint64(0x9E3779B97F4A7C15)).astype(np.int64)
    side = np.where(mixed & 1, 1, -1).astype(np.int8)
    account = (mixed >> 20) % ACCOUNTS
    return Fills(instrument, ids, 1 + (mixed >> 8) % 9_999, 1 + (mixed >> 30) % 9_999_999, side, account)


def chunks(facts: int, first: int) -> list[Fills]:
    """``facts`` fills with ids from ``first`` on, in columns of up to ``BATCH``, each of one instrument."""
    last = first + facts
    return [
        fills_of(start // BATCH % INSTRUMENTS, np.arange(start, min(start + BATCH, last), dtype=np.uint64))
        for start in range(first, last, BATCH)
    ]


def told_again(fills: Fills, first: int) -> Fills:
    """As many fills of the same instrument, with ids from ``first`` on; but of a hundred two are among the given ones."""
    again = fills.ids[:: 100 // 2]
    return fills_of(
        fills.instrument,
        np.concatenate((again, np.arange(first, first + len(fills.ids) - len(again), dtype=np.uint64))),
    )


def columns(fills: Fills) -> FillColumns:
    """As clients hand them over."""
    return FillColumns(
        venue="V",
        instrument=f"I{fills.instrument}",
        trade_id=fills.ids,
        price=fills.price,
        qty=fills.qty,
        side=fills.side,
        account=fills.account,
        accounts=NAMES,
    )


def names() -> list[Account | Instrument]:
    """The accounts and instruments that fills are of."""
    return [
        *(Account(name=name) for name in NAMES),
        *(Instrument(name=f"I{at}", **SPOT) for at in range(INSTRUMENTS)),
    ]


def record(ledger: Ledger, work: Sequence[Fills]) -> list[bytes]:
    """The batches that ``ledger`` makes of ``work``."""
    return [batch.raw for fills in work for batch in ledger.record_fills(columns(fills)).batches]


def cells(sums: npt.NDArray[np.int64]) -> dict[tuple[str, str], int]:
    """Sums of every cell by (account, instrument), zeros left out."""
    return {(NAMES[at // INSTRUMENTS], f"I{at % INSTRUMENTS}"): int(sums[at]) for at in np.flatnonzero(sums).tolist()}


class Work:
    """The batches to be joined, and those that are held before."""

    def __init__(self, facts: int, held: int) -> None:
        self.first, self.second, third = Ledger.cluster("one", "two", "three", assets={"USDT": 2})
        self.opening = [batch.raw for batch in third.record(*names()).batches]
        for ledger in (self.first, self.second):
            ledger.join(third)
        self.held = chunks(held, 1 << 40)
        self.before = [raw for fills in self.held for raw in record(third, [fills])]
        one = chunks(facts // 2, 0)
        other = [told_again(fills, 1 << 50 | int(fills.ids[0])) for fills in one]
        self.fills = [*one, *other]
        lanes = (record(self.first, one), record(self.second, other))
        self.batches = [raw for pair in zip(*lanes, strict=True) for raw in pair]
        self.facts = sum(len(fills.ids) for fills in self.fills)
        self.distinct = len(np.unique(np.concatenate([fills.ids for fills in self.fills])))

    def replica(self, held: int) -> tuple[Replica, float]:
        """A replica that holds ``held`` of what is held before, and how long it took to get there."""
        replica = Replica(self.first.genesis, salt=7, documents=False)

        def fill() -> None:
            for raw in (*self.opening, *self.before[: held // BATCH]):
                assert isinstance(replica.admit(raw), Applied)
            assert replica.view.facts

        return replica, timed(fill)

    def expected(self, held: int) -> dict[tuple[str, str], int]:
        """The quantity of every cell, folded plainly."""
        ids = np.concatenate([fills.ids for fills in self.fills])
        places = np.concatenate([fills.account * INSTRUMENTS + fills.instrument for fills in self.fills])
        signed = np.concatenate([fills.qty * fills.side for fills in self.fills])
        _, first = np.unique(ids, return_index=True)
        sums = np.zeros(ACCOUNTS * INSTRUMENTS, np.int64)
        np.add.at(sums, places[first], signed[first])
        for fills in self.held[: held // BATCH]:
            np.add.at(sums, fills.account * INSTRUMENTS + fills.instrument, fills.qty * fills.side)
        return cells(sums)


class Joined(NamedTuple):
    """One join: the seconds that it took, and those of filling the replica before."""

    seconds: float
    filled: float


def ours(work: Work, held: int) -> Joined:
    """One join, onto ``held`` facts."""
    replica, filled = work.replica(held)

    def join() -> None:
        for raw in work.batches:
            replica.admit(raw)
        assert replica.view.facts  # what came in is folded when somebody looks

    seconds = timed(join)
    got = {(row.account, row.instrument): row.bought - row.sold for row in replica.view.position_rows()}
    expected = work.expected(held)
    wrong = {cell for cell in got.keys() | expected.keys() if got.get(cell, 0) != expected.get(cell, 0)}
    if wrong:
        raise Wrong(f"{len(wrong)} cells are not what a plain fold gives, {sorted(wrong)[:3]} among them")
    return Joined(seconds, filled)


def sha256(batches: Sequence[bytes]) -> float:
    """The bytes of every batch hashed once: what no verified join can do without."""
    return timed(lambda: [hashlib.sha256(raw).digest() for raw in batches])


def ed25519(batches: Sequence[bytes], genesis: Genesis) -> float:
    """The signature of every batch verified, over bytes that lie ready."""
    signed = [
        (
            genesis.by_id[batch.lane.node].public_key,
            digest("batch-signature", header_hash(batch.header_bytes)),
            batch.signature,
        )
        for batch in (open_batch(raw, genesis) for raw in batches)
    ]

    def check() -> None:
        if not all(verify(*one) for one in signed):
            raise Wrong("a signature does not hold")

    return timed(check)


def hashes(batches: Sequence[bytes], genesis: Genesis) -> float:
    """Every batch opened, which parses and hashes it, and verifies its signature."""
    return timed(lambda: [open_batch(raw, genesis) for raw in batches])


def fold(work: Work) -> float:
    """The sums alone, over columns that lie ready."""
    places = [fills.account * INSTRUMENTS + fills.instrument for fills in work.fills]

    def add() -> None:
        sums = np.zeros((2, ACCOUNTS * INSTRUMENTS), np.int64)
        for at, fills in zip(places, work.fills, strict=True):
            np.add.at(sums[0], at, fills.qty * fills.side)
            np.add.at(sums[1], at, fills.qty * fills.price)

    return timed(add)


def entries(fills: Fills) -> list[tuple[str, bytes]]:
    """A key and 24 packed bytes for each fill."""
    said = (fills.qty, fills.price, fills.account)
    packed = np.stack([column.astype("<i8") for column in said], axis=1).tobytes()
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


def joined(work: Work, held: int) -> float:
    """Seconds of one join."""
    return ours(work, held).seconds


def together(rows: Sequence[Row], *names: str) -> Row:
    """What these took in each round, one after the other."""
    parts = [row(rows, name) for name in names]
    runs = tuple(map(sum, zip(*(part.runs for part in parts), strict=True)))
    median = statistics.median(runs)
    (first, *_) = parts
    return Row(" + ".join(names), runs, median, first.rate * first.median / median, first.ratio * median / first.median)


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    held = plan.size(10_000_000, 100_000)
    fewer = (held // 100, held // 10)
    work = Work(plan.size(1_000_000, 40_000), held)
    facts = work.facts
    filled = [0.0]

    def most() -> float:
        seconds, filled[0] = ours(work, held)
        return seconds

    rivals: dict[str, Run] = {
        OURS: most,
        FILLED: lambda: filled[0] * facts / held,
        **{f"{OURS}, {few:,} held": functools.partial(joined, work, few) for few in fewer},
        SHA256: lambda: sha256(work.batches),
        ED25519: lambda: ed25519(work.batches, work.first.genesis),
        LIMIT: lambda: hashes(work.batches, work.first.genesis),
        FOLD: lambda: fold(work),
        COPY: lambda: moving(FOLD_BYTES * facts),
        PYCRDT: with_pycrdt(work),
        LORO: with_loro(work),
    }
    rows = rounds(rivals, plan.runs, facts)
    mine = row(rows, OURS)
    least, parsed = together(rows, SHA256, ED25519, FOLD), together(rows, LIMIT, FOLD)
    rows = [*rows, least, parsed]
    goals = (
        Goal("facts joined", mine.rate, "least", 1_500_000, "facts/s"),
        Goal("over pycrdt used plainly", row(rows, PYCRDT).ratio, "least", 2.5, "times"),
        Goal("over loro used plainly", row(rows, LORO).ratio, "least", 2.5, "times"),
        Goal("stretch: over sha256 + Ed25519 + fold alone", mine.median / least.median, "most", 2.0, "times"),
    )
    costs = [row(rows, f"{OURS}, {few:,} held") for few in fewer] + [mine]
    points = tuple((float(at), cost.median / facts * 1e6) for at, cost in zip((*fewer, held), costs, strict=True))
    grows = Curve("a fact's join", "facts held", "microseconds", points, slope(points))
    told = {"facts": facts, "held before": held, "facts a batch": BATCH, "runs": plan.runs}
    told |= {"bytes a fact that the fold touches": FOLD_BYTES}
    told |= {
        f"GB/s {name}": figure(FOLD_BYTES * facts / row(rows, at).median / 1e9)
        for name, at in (("copied", COPY), ("folded", FOLD), ("joined", OURS))
    }
    what = "Join: verified, deduplicated, folded, from batches in memory, on one core"
    return Result("join", what, "facts", rows, goals, told, curves=(grows,))
