"""How long a checkpoint takes: what a height settles, the root over all of it, and four validators that agree on it.

    python -m bench checkpoint

A state of 1,000 accounts in 1,000 instruments holds a million positions. Then 10,000 of them, at random, change by a fill each: the cut
is settled and committed to, height after height, on one core. Figures and roots must be those of a plain recomputation, or the bench
fails. Beside it stands what cannot be avoided: the hashes of the changed leaves and of the nodes above them.

The same with more cells and with more changes says what the cost grows with.
"""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import Counter
from collections.abc import Sequence
from statistics import median

import numpy as np

from bench.join import SPOT
from bench.measured import OURS, Curve, Goal, Plan, Result, Wrong, rounds, row, slope, timed
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Account, Fill, Instrument
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.settled import SettledState
from reconcile.checkpoint import cut_digest, cut_of
from reconcile.commitments import Commitments
from reconcile.salts import Salts
from reconcile.settlement import settle

ACCOUNTS = 1_000
SETTLE, ROOT = "of it: settle", "of it: root"
HASHES = "its hashes alone"
HASHES_A_LEAF = 6
"""Of a cell's name, of its salt, of its value under that, and three of its leaf."""

Cell = tuple[str, str]


class Books:
    """A ledger's batches, settled height after height. ``qty``: what a plain sum gives for every cell."""

    def __init__(self, cells: int) -> None:
        accounts = min(ACCOUNTS, cells // 10)
        self.accounts = [f"A{at:03d}" for at in range(accounts)]
        self.instruments = [f"I{at:03d}" for at in range(cells // accounts)]
        (self.ledger,) = Ledger.cluster("one", assets={"USDT": 2})
        self.genesis = self.ledger.genesis
        self.state = SettledState.empty(self.genesis)
        self.salts = Salts(1, b"s" * 32)
        self.commitments = Commitments.empty(self.genesis, self.salts)
        self.qty: Counter[Cell] = Counter()
        self.took: dict[str, float] = {}
        self._draw = random.Random(7)
        self._ids = 0
        self._height = 0
        names = [
            *(Account(name=name) for name in self.accounts),
            *(Instrument(name=name, **SPOT) for name in self.instruments),
        ]
        self.settle(self.ledger.record(*names).batches)
        self.settle([batch for name in self.instruments for batch in self._opening(name)])

    def _opening(self, instrument: str) -> Sequence[Batch]:
        """A fill of every account in one instrument."""
        size = len(self.accounts)
        self._ids += size
        self.qty.update({(account, instrument): 5 for account in self.accounts})
        return self.ledger.record_fills(
            FillColumns(
                venue="V",
                instrument=instrument,
                trade_id=np.arange(self._ids - size, self._ids, dtype=np.uint64),
                price=np.full(size, 100_00),
                qty=np.full(size, 5),
                side=np.ones(size, np.int8),
                account=np.arange(size),
                accounts=self.accounts,
            )
        ).batches

    def changes(self, count: int) -> list[Batch]:
        """The batches of a fill in each of ``count`` cells."""
        cells = self._draw.sample(range(len(self.accounts) * len(self.instruments)), count)
        return [*self.ledger.record(*(self._fill(cell) for cell in cells)).batches]

    def _fill(self, cell: int) -> Fill:
        account, instrument = self.accounts[cell % len(self.accounts)], self.instruments[cell // len(self.accounts)]
        self._ids += 1
        qty, price, buy = self._draw.randrange(1, 9), self._draw.randrange(90_00, 110_00), self._draw.random() < 0.5
        self.qty[account, instrument] += qty if buy else -qty
        return Fill(
            venue="V",
            trade_id=self._ids,
            instrument=instrument,
            account=account,
            side="buy" if buy else "sell",
            qty=qty,
            price=price,
        )

    def settle(self, batches: Sequence[Batch]) -> float:
        """One more height of ``batches``; how long it took to settle it and to commit to it."""
        self._height += 1
        heads = {lane: (settled.seq, settled.hash) for lane, settled in self.state.lanes.items()}
        heads.update((batch.key, (batch.seq, batch.hash)) for batch in batches)
        cut = cut_of(heads)
        previous = cut_digest(cut_of({}))

        def work() -> None:
            begun = time.perf_counter()
            settlement = settle(self.genesis, self.state, previous, cut, batches, (), height=self._height)
            settled = time.perf_counter()
            self.commitments = self.commitments.advance(settlement)
            self.state = settlement.state
            self.cells = settlement.cells
            self.took = {SETTLE: settled - begun, ROOT: time.perf_counter() - settled}

        return timed(work)

    def check(self) -> None:
        """Figures and roots are those of a plain recomputation."""
        got = {cell: position.qty for cell, position in self.state.positions.items()}
        if got != dict(self.qty):
            raise Wrong("quantities are not what a plain sum gives")
        plain = Commitments.rebuild(self.genesis, self.salts, self.state)
        if plain.state_root != self.commitments.state_root or plain.liabilities != self.commitments.liabilities:
            raise Wrong("the root is not that of a plain recomputation")

    def hashes(self) -> int:
        """How many a height of as many changes cannot do without: those of its leaves, and of the nodes above them."""
        leaves, cells = len(self.cells), len(self.qty)
        shared = math.log2(max(leaves, 2))
        return int(leaves * (HASHES_A_LEAF + 2 + math.log2(cells) - shared))


def hash_alone(count: int) -> float:
    """Seconds for so many SHA-256 of what a node of the tree hashes."""
    node, sha256 = b"\x01" + bytes(64), hashlib.sha256
    return timed(lambda: [sha256(node).digest() for _ in range(count)])


def curve(name: str, across: str, points: Sequence[tuple[float, float]]) -> Curve:
    """Seconds a height by ``across``."""
    return Curve(name, across, "s", tuple(points), slope(points))


def measure(plan: Plan) -> Result:
    """Measure one core."""
    most, changes = plan.size(1_000_000, 40_000), plan.size(10_000, 1_000)
    fewer = (most // 10, most * 3 // 10)
    by_cells = []
    for cells in (*fewer, most):
        books = Books(cells)
        by_cells.append((float(cells), median(books.settle(books.changes(changes)) for _ in range(plan.runs))))
        books.check()
    large = books
    by_changes = [
        (float(some), median(large.settle(large.changes(some)) for _ in range(plan.runs)))
        for some in (changes // 10, changes, changes * (5 if plan.quick else 10))
    ]
    rows = rounds(
        {
            OURS: lambda: large.settle(large.changes(changes)),
            SETTLE: lambda: large.took[SETTLE],
            ROOT: lambda: large.took[ROOT],
            HASHES: lambda: hash_alone(large.hashes()),
        },
        plan.runs,
        changes,
    )
    large.check()
    curves = (
        curve(f"settle and root of {changes:,} changes", "cells", by_cells),
        curve(f"settle and root among {most:,} cells", "changes", by_changes),
    )
    goals = (
        Goal("settle and root", 1_000 * row(rows, OURS).median, "most", 300, "ms"),
        Goal("growth with the cells, as an exponent", curves[0].slope, "most", 0.2, "of 1"),
        Goal("growth with the changes, as an exponent", curves[1].slope, "most", 1.1, "of 1"),
    )
    told = {"cells": most, "changes": changes, "runs": plan.runs}
    what = f"Checkpoint of {changes:,} changed cells among {most:,}: settled, and the root over all"
    return Result("checkpoint", what, "cells", rows, goals, told, curves=curves)
