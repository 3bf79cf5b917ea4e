"""The fold of fills and busts when a height is settled: what counts, row by row, and what became of every other one.

    settling.apply_all(held)
    settling.counted, settling.repeated, settling.contradicted, settling.lost

What is settled is told of each fact, and in canonical order: a position's average entry depends on it. So rows are kept as they count, and
are summed only when somebody looks. All definitions are in by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import UNKNOWN_ASSET, Binding, Catalog, Place
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.dedupe import Flags, Rows, Taken
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.fillterms import (
    ACCOUNT,
    FEE_AMOUNT,
    FEE_ASSET,
    INSTRUMENT,
    PRICE,
    QUANTITY,
    SIDE,
    fill_terms,
)
from crdtledger.ledger.idwindow import booked_by_hand, clock_us
from crdtledger.ledger.joinedfills import joined, runs
from crdtledger.ledger.places import ByNumber
from crdtledger.ledger.positionrow import Position
from crdtledger.ledger.positions import Held, Positions, columns_of
from crdtledger.ledger.reference import fold_values
from crdtledger.ledger.seenids import Contents
from crdtledger.ledger.settledparts import SuspendedFills
from crdtledger.ledger.wide import Limbs


class Counted(NamedTuple):
    """Rows of one batch that count, in the order in which they were folded. ``terms``, ``values`` are aligned with ``rows``: what each
    adds to its side's value before ``reference.value_factor``, as wide columns."""

    kind: Kind
    number: int
    rows: Rows
    terms: npt.NDArray[np.int64]
    values: Limbs


class TakenAt(NamedTuple):
    """Times of ids, in microseconds: as the facts say, and as the clocks of their batches do; and which of them are booked by hand."""

    said: Rows
    recorded: Rows
    by_hand: npt.NDArray[np.bool_]


class SettlingPositions(Positions):
    """``Positions`` of a settling view."""

    def __init__(
        self,
        catalog: Catalog,
        batches: Sequence[Batch | SuspendedFills],
        bindings: ByNumber[Binding],
        places: ByNumber[Place],
        salt: int,
    ) -> None:
        super().__init__(catalog, batches, bindings, places, salt)
        self._losing: dict[int, bool] = {}
        self._linear: dict[int, bool] = {}
        """Of every instrument that was asked for, whether it is lost, and whether it is known and linear."""
        self.counted: list[Counted] = []
        """What counts; of each instrument in order. It is summed up when somebody looks at the rows."""
        self._summed = 0
        self._said: dict[Kind, list[Contents]] = {Kind.FILL: [], Kind.BUST: []}
        """What is said under the ids that were taken, in the order of first sight."""
        self.repeated: list[Held] = []
        """Facts that say again what is settled or came before."""
        self.contradicted: list[Held] = []
        """Facts that say something else under an id that is taken."""

    def apply_all(self, held: Sequence[Held]) -> None:
        """``apply`` of each in its order, fills of small batches side by side where that says the same. What busts take back keeps its
        place among the fills."""
        together: list[Held] = []
        for one in held:
            scopes = self._bindings[one.number].scopes.tolist()
            if one.kind is Kind.FILL and not self._waits_in_base(one.number) and self._are_linear(scopes):
                together.append(one)
                continue
            self._settle_together(together)
            together = []
            self.apply(one.number, one.kind, one.rows)
        self._settle_together(together)

    def _settle_together(self, fills: Sequence[Held]) -> None:
        if not fills:
            return
        numbers = np.repeat([one.number for one in fills], [len(one.rows) for one in fills])
        rows = np.concatenate([one.rows for one in fills])
        for part, body in joined(Kind.FILL, self._batches, numbers, rows):
            self._settle_joined(Kind.FILL, numbers[part], rows[part], body)

    def _settle_joined(self, kind: Kind, numbers: Rows, rows: Rows, body: Body) -> None:
        keys, terms = fact_keys(body, kind), fill_terms(body.tables[kind], self._catalog.bind(body))
        found = self.seen(kind).find(keys)
        settled, left = np.flatnonzero(found >= 0), np.flatnonzero(found < 0)
        for number, of in runs(numbers[settled]):
            mine = settled[of]
            self._note_settled(kind, number, rows[mine], (keys[0][mine], keys[1][mine]), found[mine])
        if len(settled):
            numbers, rows, terms, keys = numbers[left], rows[left], terms[left], (keys[0][left], keys[1][left])
        new, again = self.indexes[kind].take_all(numbers, keys, rows)
        for number, taken in again.items():
            assert not len(taken.counted), "the first in canonical order came first"
            self._note(kind, number, taken.repeated, taken.contradicted)
        self._said[kind].append(fact_contents(body, kind)[left][new])
        if again:
            numbers, rows, terms = numbers[new], rows[new], terms[new]
        if len(rows):
            self._count_alike(kind, numbers, int(terms[0, INSTRUMENT]), rows, terms, 1 if kind is Kind.FILL else -1)

    def _count(self, kind: Kind, batch: int, rows: Rows, sign: int) -> None:
        """What counts is kept as it is, and summed when somebody asks."""
        terms = self.terms(kind, batch, rows)
        numbers = np.unique(terms[:, INSTRUMENT]).tolist()
        for alike in self._alike(numbers):
            mine = slice(None) if len(alike) == len(numbers) else np.isin(terms[:, INSTRUMENT], alike)
            told = rows[mine]  # in the usual case all, and no copies
            if self._meaning(alike[0], kind, batch, told, sign) is not None:
                self._count_alike(kind, np.full(len(told), batch), alike[0], told, terms[mine], sign)

    def _alike(self, numbers: list[int]) -> list[list[int]]:
        """Instruments whose rows are valued together: each by itself, but all linear ones, whose values take no definition."""
        linear = [number for number in numbers if self._is_linear(number)]
        others = [[number] for number in numbers if not self._is_linear(number)]
        return [linear, *others] if linear else others

    def _count_alike(
        self, kind: Kind, batches: Rows, instrument: int, rows: Rows, terms: npt.NDArray[np.int64], sign: int
    ) -> None:
        """Rows of ``batches`` count, which are valued as those of ``instrument`` are. Rows of one batch stand side by side."""
        definition = self._catalog.meaning(instrument)
        assert definition is not None, "what counts has a meaning"
        values, valid = fold_values(definition, terms[:, QUANTITY], terms[:, PRICE], self._catalog.genesis)
        valid &= terms[:, FEE_ASSET] != UNKNOWN_ASSET
        if not valid.all():
            for number, of in runs(batches[~valid]):
                self._note_out_of_range(kind, number, rows[~valid][of], sign)
            batches, rows, terms, values = batches[valid], rows[valid], terms[valid], values[valid]
        self.counted += [Counted(kind, number, rows[of], terms[of], values[of]) for number, of in runs(batches)]

    def _sum_counted(self) -> None:
        """Add up what counts and is not summed yet."""
        for counted in self.counted[self._summed :]:
            sign = 1 if counted.kind is Kind.FILL else -1
            for number in np.unique(counted.terms[:, INSTRUMENT]).tolist():
                definition = self._catalog.meaning(number)
                assert definition is not None, "what counts has a meaning"
                mine = counted.terms[:, INSTRUMENT] == number
                terms, values = counted.terms[mine], columns_of(counted.values[mine])
                accounts, which = np.unique(terms[:, ACCOUNT], return_inverse=True)
                table = {"qty": terms[:, QUANTITY], "side": terms[:, SIDE], "fee": terms[:, FEE_AMOUNT]}
                self._sum(number, definition, accounts, which, table, values, terms[:, FEE_ASSET], sign)
        self._summed = len(self.counted)

    def taken(self, kind: Kind) -> tuple[Keys, Contents]:
        """The ids that unsettled fills (or busts) take, whether they count or wait, and what they say; by first sight, which while
        settling is canonical order."""
        keys, fresh, _, _ = self._taking(kind)
        return keys, np.concatenate([np.empty((0, 2), np.uint64), *self._said[kind]])[fresh]

    def taken_at(self, kind: Kind) -> TakenAt:
        """When that which takes those ids happened; aligned with ``taken``."""
        _, _, batches, rows = self._taking(kind)
        said, recorded, by_hand = (
            np.empty(len(rows), np.int64),
            np.empty(len(rows), np.int64),
            np.empty(len(rows), np.bool_),
        )
        for number, mine in runs(batches):
            batch = self._batches[number]
            assert isinstance(batch, Batch)  # what waits in the base took its id when it was settled
            said[mine] = batch.body.tables[kind]["ts_us"][rows[mine]]
            recorded[mine] = clock_us(batch.header.clock)
            by_hand[mine] = booked_by_hand(batch.body, kind, rows[mine])
        return TakenAt(said, recorded, by_hand)

    def _taking(self, kind: Kind) -> tuple[Keys, Flags, Rows, Rows]:
        """Ids that are taken and not settled, which of all ids these are, and the batch number and row of each one's winner."""
        keys, batches, rows = self.indexes[kind].winners()
        fresh = batches >= len(self._base.suspended)
        return (keys[0][fresh], keys[1][fresh]), fresh, batches[fresh], rows[fresh]

    # -- what a settling fold does otherwise ----------------------------------------------------------------

    def _note_taken(self, kind: Kind, number: int, taken: Taken) -> None:
        self._said[kind].append(fact_contents(self._batches[number].body, kind, taken.counted))
        self._note(kind, number, taken.repeated, taken.contradicted)

    def _note(self, kind: Kind, number: int, repeated: Rows, contradicted: Rows) -> None:
        for held, rows in ((self.repeated, repeated), (self.contradicted, contradicted)):
            if len(rows):
                held.append(Held(kind, number, rows))

    def _is_linear(self, instrument: int) -> bool:
        linear = self._linear.get(instrument)
        if linear is None:
            linear = self._linear[instrument] = super()._is_linear(instrument)
        return linear

    def _is_lost(self, instrument: int) -> bool:
        losing = self._losing.get(instrument)
        if losing is None:
            key = self._catalog.instrument_keys[instrument]
            standing = self._catalog.standing(key.name)
            # With none of that name it is lost if it is known, which it then is under another one.
            losing = standing != key.digest if standing is not None else key.digest in self._catalog.definitions
            self._losing[instrument] = losing
        return losing

    def _add(self, kind: Kind, batch: int, rows: Rows, sign: int) -> None:
        self._count(kind, batch, rows, sign)

    def rows(self, account: str = "") -> list[Position]:
        self._sum_counted()
        return super().rows(account)
