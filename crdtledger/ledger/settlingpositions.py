"""The fold of fills and busts when a height is settled: what counts, row by row, and what became of every other one.

    settling.apply_each(Kind.FILL, told)
    settling.counted, settling.repeated, settling.contradicted, settling.lost

What is settled is told of each fact, and in canonical order: a position's average entry depends on it. So rows are kept as they count, and
are summed only when somebody looks. All definitions are in by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        bindings: Sequence[Binding],
        places: Sequence[Place],
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

    def apply_each(self, kind: Kind, told: Iterable[tuple[int, Rows]]) -> None:
        """``apply`` rows of many batches in their order, small ones side by side where that says the same."""
        together: list[tuple[int, Rows]] = []
        for number, rows in told:
            if not self._waits_in_base(number) and self._are_plain(self._bindings[number].scopes.tolist()):
                together.append((number, rows))
                continue
            self._settle_together(kind, together)
            together = []
            self.apply(number, kind, rows)
        self._settle_together(kind, together)

    def _are_plain(self, numbers: list[int]) -> bool:
        """Whether rows of all these instruments compete for their ids and are valued together."""
        return len(self._alike(numbers)) == 1 and all(self._linear[n] and not self._is_lost(n) for n in numbers)

    def _settle_together(self, kind: Kind, together: Sequence[tuple[int, Rows]]) -> None:
        if not together:
            return
        numbers = np.repeat([number for number, _ in together], [len(rows) for _, rows in together])
        rows = np.concatenate([rows for _, rows in together])
        for part, body in joined(kind, self._batches, numbers, rows):
            self._settle_joined(kind, numbers[part], rows[part], body)

    def _settle_joined(self, kind: Kind, numbers: Rows, rows: Rows, body: Body) -> None:
        keys, terms = fact_keys(body, kind), fill_terms(body.tables[kind], self._catalog.bind(body))
        found = self.seen(kind).find(keys)
        settled, left = np.flatnonzero(found >= 0), np.flatnonzero(found < 0)
        for number, of in runs(numbers[settled]):
            mine = settled[of]
            self._note_settled(kind, number, rows[mine], (keys[0][mine], keys[1][mine]), found[mine])
        if len(settled):
            numbers, rows, terms, keys = numbers[left], rows[left], terms[left], (keys[0][left], keys[1][left])
        new, contradicted = self.indexes[kind].take_in_order(numbers, keys, rows)
        again = np.flatnonzero(~new)
        for number, of in runs(numbers[again]):
            mine = again[of]
            self._note(kind, number, rows[mine[~contradicted[mine]]], rows[mine[contradicted[mine]]])
        contents = fact_contents(body, kind)
        self._said[kind].append(contents[left][new])
        if len(again):
            numbers, rows, terms = numbers[new], rows[new], terms[new]
        if len(rows):
            self._count_each(kind, numbers, rows, terms)

    def _count_each(self, kind: Kind, numbers: Rows, rows: Rows, terms: npt.NDArray[np.int64]) -> None:
        """Rows of linear instruments of many batches count."""
        definition = self._catalog.meaning(int(terms[0, INSTRUMENT]))
        assert definition is not None, "it is known to be linear"
        values, valid = fold_values(definition, terms[:, QUANTITY], terms[:, PRICE], self._catalog.genesis)
        valid &= terms[:, FEE_ASSET] != UNKNOWN_ASSET
        if not valid.all():
            for number, of in runs(numbers[~valid]):
                self._note_out_of_range(kind, number, rows[~valid][of], 1 if kind is Kind.FILL else -1)
            numbers, rows, terms, values = numbers[valid], rows[valid], terms[valid], values[valid]
        self.counted += [Counted(kind, number, rows[of], terms[of], values[of]) for number, of in runs(numbers)]

    def _count(self, kind: Kind, batch: int, rows: Rows, sign: int) -> None:
        """What counts is kept as it is, and summed when somebody asks."""
        terms = self.terms(kind, batch, rows)
        numbers = np.unique(terms[:, INSTRUMENT]).tolist()
        for alike in self._alike(numbers):
            if len(alike) == len(numbers):  # the usual case, and no copies
                self._count_alike(kind, batch, alike, rows, terms, sign)
            else:
                mine = np.isin(terms[:, INSTRUMENT], alike)
                self._count_alike(kind, batch, alike, rows[mine], terms[mine], sign)

    def _alike(self, numbers: list[int]) -> list[list[int]]:
        """Instruments whose rows are valued together: each by itself, but all linear ones, whose values take no definition."""
        linear: list[int] = []
        others: list[list[int]] = []
        for number in numbers:
            is_linear = self._linear.get(number)
            if is_linear is None:
                meaning = self._catalog.meaning(number)
                is_linear = self._linear[number] = meaning is not None and not meaning.inverse
            if is_linear:
                linear.append(number)
            else:
                others.append([number])
        return [linear, *others] if linear else others

    def _count_alike(
        self, kind: Kind, batch: int, alike: list[int], rows: Rows, terms: npt.NDArray[np.int64], sign: int
    ) -> None:
        definition = self._meaning(alike[0], kind, batch, rows, sign)
        if definition is None:
            return
        values, valid = fold_values(definition, terms[:, QUANTITY], terms[:, PRICE], self._catalog.genesis)
        valid &= terms[:, FEE_ASSET] != UNKNOWN_ASSET
        if not valid.all():
            self._note_out_of_range(kind, batch, rows[~valid], sign)
            values, terms, rows = values[valid], terms[valid], rows[valid]
        if len(rows):
            self.counted.append(Counted(kind, batch, rows, terms, values))

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

    def rows(self) -> list[Position]:
        self._sum_counted()
        return super().rows()
