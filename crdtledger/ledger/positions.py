"""Positions per (account, instrument): bought, sold, value bought, value sold, fees, fill count.

All of them are sums, so they do not depend on the order in which fills arrive. Each (account, instrument, side) is a cell
of wide columns (``positionsums``); what comes in together is folded together, whole columns at a time. What
depends on order (average entry, realised profit) is derived at checkpoints, in canonical order; a row shows it of its settled part.

A fill under a definition that is not known yet, or that is not the one standing for its name, is *suspended*: kept,
named, not counted. It counts from the moment its definition stands. Once another definition of its name is settled it never
can: then it does not compete for its id either.

On a base, figures are the base's plus what is not settled. An id that the base has settled changes nothing any more: the
same terms again are a duplicate, others a conflict that the settled statement has won.

"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import NO_ASSET, UNKNOWN_ASSET, Binding, Catalog, Place
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.dedupe import FillIndex, Moved, Rows, Spot, Taken
from crdtledger.ledger.factkeys import Keys, fact_keys, fill_keys
from crdtledger.ledger.facts import NO_STRING, Instrument, Kind
from crdtledger.ledger.fillterms import (
    INSTRUMENT,
    fee_assets,
    fill_terms,
)
from crdtledger.ledger.gathered import gather, has_small_pages
from crdtledger.ledger.keytable import Ordinals
from crdtledger.ledger.places import ByNumber
from crdtledger.ledger.positionrow import Position, position_of, says_something
from crdtledger.ledger.positionsums import VALUE, Page, PositionSums
from crdtledger.ledger.reference import fold_values
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settledparts import SettledPosition, SuspendedFills
from crdtledger.ledger.timedids import BothIds
from crdtledger.ledger.wide import Limbs, product


class Suspended(NamedTuple):
    """Facts that do not count for want of a definition: how many, under which name and digest, and why. ``final``: no definition
    that may still come can change it."""

    instrument: str
    digest: bytes
    facts: int
    reason: str
    final: bool


class Mismatch(NamedTuple):
    """A fill and a bust of one id that speak of different terms: a row of kind ``kind`` at ``spot``, and the ``other`` one, which
    is a fill, or is settled (None)."""

    kind: Kind
    spot: Spot
    other: Spot | None


_NO_POSITION = SettledPosition()


class Held(NamedTuple):
    """Rows of one batch, by its local number."""

    kind: Kind
    number: int
    rows: Rows


class Positions:
    """The fold of fills and busts of one view. ``batches`` and ``bindings`` are the view's, by local batch number."""

    def __init__(
        self,
        catalog: Catalog,
        batches: Sequence[Batch | SuspendedFills],
        bindings: ByNumber[Binding],
        places: ByNumber[Place],
        salt: int,
    ) -> None:
        self._catalog = catalog
        self._base = catalog.base
        self._batches = batches
        self._bindings = bindings
        self._places = places
        self._sums = PositionSums(salt, len(catalog.assets))
        self._waiting: dict[int, list[tuple[Kind, int, Rows, int]]] = {}
        self._waiting_under: dict[bytes, list[int]] = {}
        self.out_of_range: dict[tuple[Kind, int, int], None] = {}
        self.indexes = {
            kind: FillIndex(salt, places, _terms(kind, batches, bindings)) for kind in (Kind.FILL, Kind.BUST)
        }
        self.overruled: dict[tuple[Kind, int, int], dict[bytes, tuple[Place, Spot]]] = {}
        """Settled ids that unsettled facts contradict: (kind, the id's halves) -> for each of their terms, as bytes, where it is
        first stated."""
        self.lost: list[Held] = []
        """Facts under a definition that lost its name for good."""

    def terms(self, kind: Kind, batch: int, rows: Rows) -> npt.NDArray[np.int64]:
        """What is compared when an id repeats: shape (len(rows), TERMS)."""
        return _terms(kind, self._batches, self._bindings)(batch, rows)

    def apply(self, number: int, kind: Kind, rows: Rows) -> None:
        """Take in rows of a batch's FILL or BUST table (those that its node may record)."""
        keys = fact_keys(self._batches[number].body, kind)
        open_rows = self._without_settled(number, kind, rows, keys)
        if len(open_rows) < len(keys[0]):
            keys = (keys[0][open_rows], keys[1][open_rows])
        taken = self.indexes[kind].take(number, keys, open_rows)
        self._note_taken(kind, number, taken)
        sign = 1 if kind is Kind.FILL else -1
        self._bring_in(kind, number, taken, sign)

    def apply_all(self, held: Sequence[Held]) -> None:
        """``apply`` of each. All rows of several batches are folded in one pass where nothing is to be told of any of them."""
        if len(held) == 1:  # as a lone fact is: nothing is looked at twice
            self.apply(held[0].number, held[0].kind, held[0].rows)
            return
        together: dict[Kind, list[Held]] = {}
        for one in held:
            if self._is_plain(one):
                together.setdefault(one.kind, []).append(one)
            else:
                self.apply(one.number, one.kind, one.rows)
        for kind, plain in together.items():
            self._apply_together(kind, plain)

    def _is_plain(self, held: Held) -> bool:
        """Whether these are all rows of their table, under linear definitions that are known and stand, with fees in no other asset."""
        body, scopes = self._batches[held.number].body, self._bindings[held.number].scopes.tolist()
        table = body.tables[held.kind]
        whole = len(held.rows) == len(table) and not self._waits_in_base(held.number)
        if not whole or not has_small_pages(body, held.kind):
            return False
        return self._are_linear(scopes) and bool(table["fee_asset"].min() == NO_STRING)

    def _are_linear(self, instruments: Sequence[int]) -> bool:
        """Whether rows of all these instruments compete for their ids, and are valued without a look at their definitions."""
        return all(self._is_linear(number) and not self._is_lost(number) for number in set(instruments))

    def _apply_together(self, kind: Kind, held: Sequence[Held]) -> None:
        bodies = [self._batches[one.number].body for one in held]
        sizes = np.array([len(one.rows) for one in held])
        keys, seen = fill_keys(bodies, kind), self.seen(kind)
        if len(seen):
            told = np.flatnonzero(seen.find(keys) >= 0)
            batches = set(np.searchsorted(np.cumsum(sizes), told, "right").tolist())
            for at in batches:
                self.apply(held[at].number, kind, held[at].rows)
            if batches:
                rest = [one for at, one in enumerate(held) if at not in batches]
                if rest:
                    self._apply_together(kind, rest)
                return
        numbers = [one.number for one in held]
        rows = np.concatenate([one.rows for one in held])
        new, again = self.indexes[kind].take_all(np.repeat(numbers, sizes), keys, rows)
        sign = 1 if kind is Kind.FILL else -1
        gathered = gather(kind, bodies, [self._bindings[number] for number in numbers], new)
        values = product(gathered.qty, gathered.price)
        self._sums.add(gathered.pages, gathered.places, gathered.side, gathered.qty, values, gathered.fee, sign)
        for number, taken in again.items():
            self._bring_in(kind, number, taken, sign)

    def _bring_in(self, kind: Kind, number: int, taken: Taken, sign: int) -> None:
        """Have the sums say what a batch changed."""
        for moved in taken.moved:
            self._move(kind, number, moved, sign)
        self._add(kind, number, taken.counted, sign)
        losers: dict[int, list[int]] = {}
        for spot in taken.withdrawn:
            losers.setdefault(spot.batch, []).append(spot.row)
        for batch, lost in losers.items():
            self._add(kind, batch, np.array(lost, np.int64), -sign)

    def _note_taken(self, kind: Kind, number: int, taken: Taken) -> None:
        """What became of rows that competed for their ids. Nobody asks before they are settled."""

    def _note(self, kind: Kind, number: int, repeated: Rows, contradicted: Rows) -> None:
        """Rows that say what is known, the same or something else under its ids. Nobody asks before they are settled."""

    def seen(self, kind: Kind) -> SeenIds | BothIds:
        """The settled ids of fills, or of busts, as far as they are remembered."""
        kept, window = self._base.fills if kind is Kind.FILL else self._base.busts, self._base.window
        return kept if window is None else BothIds(kept, window.ids(kind))

    def _without_settled(self, number: int, kind: Kind, rows: Rows, keys: Keys) -> Rows:
        """The rows that compete for their ids: under no definition that lost its name, and with an id that is not settled."""
        lost = [instrument for instrument in self._instruments(kind, number, rows) if self._is_lost(instrument)]
        if lost:
            by_instrument = self._by_instrument(kind, number, rows)
            losing = np.isin(rows, np.concatenate([by_instrument[instrument] for instrument in lost]))
            self.lost.append(Held(kind, number, rows[losing]))
            rows = rows[~losing]
        seen = self.seen(kind)
        if not len(seen) or not len(rows) or self._waits_in_base(number):
            return rows
        mine = (keys[0][rows], keys[1][rows])
        found = seen.find(mine)
        settled = np.flatnonzero(found >= 0)
        if not len(settled):
            return rows
        self._note_settled(kind, number, rows[settled], (mine[0][settled], mine[1][settled]), found[settled])
        return rows[found < 0]

    def _note_settled(self, kind: Kind, number: int, rows: Rows, keys: Keys, found: Ordinals) -> None:
        """Rows of a batch whose ids are settled, by the settled ids' ordinals: they count no more, whatever they say."""
        says = self.seen(kind).says(found)
        differs = (fact_contents(self._batches[number].body, kind, rows) != says).any(axis=1)
        for at in np.flatnonzero(differs).tolist():
            row = int(rows[at])
            variants = self.overruled.setdefault((kind, int(keys[0][at]), int(keys[1][at])), {})
            place = (self._places[number], Spot(number, row))
            stated = self.terms(kind, number, np.array([row]))[0].tobytes()
            variants[stated] = min(variants.get(stated, place), place)
        self._note(kind, number, rows[~differs], rows[differs])

    def _waits_in_base(self, number: int) -> bool:
        """Whether a batch is one of the base's that wait for a definition: their ids are settled, and theirs."""
        return number < len(self._base.suspended)

    def _is_linear(self, instrument: int) -> bool:
        """Whether an instrument's definition is known, and linear."""
        meaning = self._catalog.meaning(instrument)
        return meaning is not None and not meaning.inverse

    def _is_lost(self, instrument: int) -> bool:
        """Whether an instrument's definition lost its name for good."""
        return self._catalog.lost(instrument)

    def heard(self, kind: Kind, keys: Keys) -> npt.NDArray[np.bool_]:
        """Which of these ids are settled or recorded, with whatever terms."""
        seen, held = self.seen(kind), self.indexes[kind].holds(keys)
        return held | (seen.find(keys) >= 0) if len(seen) else held

    def known(
        self, kind: Kind, body: Body, rows: Rows, keys: Keys, terms: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.bool_]:
        """Which of some ``rows`` of a table, of which these are the ids and the terms, would change nothing: their id is settled or
        recorded with exactly these terms."""
        known = self.indexes[kind].known(keys, terms)
        found = self.seen(kind).find(keys)
        settled = np.flatnonzero(found >= 0)
        if len(settled):
            said = fact_contents(body, kind, rows[settled])
            known[settled] = (said == self.seen(kind).says(found[settled])).all(axis=1)
        for at in settled[~known[settled]].tolist():
            stated = self.overruled.get((kind, int(keys[0][at]), int(keys[1][at])), {})
            known[at] = terms[at].tobytes() in stated
        return known

    def heard_of(self, kind: Kind, high: int, low: int) -> bool:
        """Whether one id, in its halves, is settled or recorded, with whatever terms."""
        seen = self.seen(kind)
        if self.indexes[kind].holds_one(high, low):
            return True
        return bool(len(seen)) and bool((seen.find((np.array([high], np.uint64), np.array([low], np.uint64))) >= 0)[0])

    def define(self, digest: bytes) -> None:
        """A definition became known: fold what waited for it."""
        for number in self._waiting_under.pop(digest, ()):
            if self._catalog.meaning(number) is None:
                self._waiting_under.setdefault(digest, []).append(number)  # the same definition, under another name
                continue
            for kind, batch, rows, sign in self._waiting.pop(number):
                self._add(kind, batch, rows, sign)

    def _instruments(self, kind: Kind, batch: int, rows: Rows) -> list[int]:
        """The local numbers of the instruments of rows of a batch."""
        scopes = self._bindings[batch].scopes
        if len(rows) and len(scopes) > 1:
            scopes = np.unique(scopes[self._batches[batch].body.tables[kind]["scope"][rows]])
        numbers: list[int] = scopes[: len(rows)].tolist()
        return numbers

    def _by_instrument(self, kind: Kind, batch: int, rows: Rows) -> dict[int, Rows]:
        """The rows of a batch, by the local number of their instrument."""
        scopes = self._bindings[batch].scopes
        if not len(rows):
            return {}
        if len(scopes) == 1:  # the usual case
            return {int(scopes[0]): rows}
        numbers = scopes[self._batches[batch].body.tables[kind]["scope"][rows]]
        order = np.argsort(numbers, kind="stable")
        distinct, starts = np.unique(numbers[order], return_index=True)
        return dict(zip(distinct.tolist(), np.split(rows[order], starts[1:]), strict=True))

    def _move(self, kind: Kind, batch: int, moved: Moved, sign: int) -> None:
        """Sums do not change where the same is said elsewhere; what is kept by its place (it is out of range, or may be) does."""
        instruments = self._by_instrument(kind, batch, moved.rows)
        if self.out_of_range or any(self._catalog.meaning(number) is None for number in instruments):
            self._add(kind, moved.before, moved.rows_before, -sign)
            self._add(kind, batch, moved.rows, sign)

    def _add(self, kind: Kind, batch: int, rows: Rows, sign: int) -> None:
        """Have rows count, or count no more (``sign`` is then the other one)."""
        for number, mine in self._by_instrument(kind, batch, rows).items():
            self._sum_up(kind, batch, number, mine, sign)

    def _meaning(self, number: int, kind: Kind, batch: int, rows: Rows, sign: int) -> Instrument | None:
        """What an instrument means; rows under one of which nobody knows it wait for it."""
        definition = self._catalog.meaning(number)
        if definition is not None:
            return definition
        if number not in self._waiting:
            self._waiting[number] = []
            self._waiting_under.setdefault(self._catalog.instrument_keys[number].digest, []).append(number)
        self._waiting[number].append((kind, batch, rows, sign))
        return None

    def _sum_up(self, kind: Kind, batch: int, number: int, rows: Rows, sign: int) -> None:
        """Add rows of one instrument to its cells."""
        definition = self._meaning(number, kind, batch, rows, sign)
        if definition is None:
            return
        binding, table = self._bindings[batch], self._batches[batch].body.tables[kind]
        if len(rows) == 1 and not definition.inverse:
            fill = table[rows[0]]
            if fill["fee_asset"] == NO_STRING:
                account, qty = int(binding.accounts[fill["account"]]), int(fill["qty"])
                self._sums.add_one(
                    number, account, int(fill["side"]), (qty, qty * int(fill["price"]), int(fill["fee"])), sign
                )
                return
        if len(rows) == len(table):
            rows = np.arange(len(table))  # all of them, in an order that makes no difference
        assets = fee_assets(table, binding, rows)
        limbs, valid = None, None if assets is None else assets != UNKNOWN_ASSET
        if definition.inverse:
            limbs, in_range = fold_values(definition, table["qty"][rows], table["price"][rows], self._catalog.genesis)
            valid = in_range if valid is None else valid & in_range
        if valid is not None and not valid.all():
            self._note_out_of_range(kind, batch, rows[~valid], sign)
            rows = rows[valid]
            limbs = None if limbs is None else limbs[valid]
            assets = None if assets is None else assets[valid]
            if not len(rows):
                return
        picked = {column: table[column][rows] for column in ("account", "side", "qty", "fee")}
        values = product(picked["qty"], table["price"][rows]) if limbs is None else columns_of(limbs)
        self._sum(number, definition, binding.accounts, picked["account"], picked, values, assets, sign)

    def _sum(
        self,
        number: int,
        definition: Instrument,
        accounts: npt.NDArray[np.int64],
        which: npt.NDArray[np.integer],
        table: Mapping[str, npt.NDArray[np.int64]],
        values: Sequence[npt.NDArray[np.int64]],
        assets: npt.NDArray[np.int64] | None,
        sign: int,
    ) -> None:
        """Rows of one instrument whose accounts are ``accounts[which]``; ``assets``: of their fees, None where all are its own."""
        fees = table["fee"]
        if assets is not None:
            foreign = (assets != NO_ASSET) & (assets != self._catalog.asset(definition.settlement))
            if foreign.any():
                self._sums.add_fees(number, accounts[which[foreign]], assets[foreign], fees[foreign], sign)
                fees = np.where(foreign, 0, fees)
        page = Page(number, accounts)
        self._sums.add([page], which.astype(np.intp), table["side"], table["qty"], values, fees, sign)

    def _note_out_of_range(self, kind: Kind, batch: int, rows: Rows, sign: int) -> None:
        counted = 1 if kind is Kind.FILL else -1
        for row in rows.tolist():
            entry = (kind, batch, row)
            if sign == counted:
                self.out_of_range[entry] = None
            else:
                del self.out_of_range[entry]

    # -- reading --------------------------------------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """Memory held by cells and dedupe indexes."""
        return self._sums.nbytes + sum(index.nbytes for index in self.indexes.values())

    def rows(self, account: str = "") -> list[Position]:
        """Every position under a standing definition, or those of one account, sorted by account, then instrument."""
        base, sums = self._base.positions, self._sums
        if account:
            settled = {(account, instrument): base[account, instrument] for instrument in base.under(account)}
            unsettled = sums.sides(self._catalog.seen_account(account))
        else:
            settled, unsettled = dict(base.items()), sums.sides()
        rows: dict[tuple[str, str], Position] = {}
        for (holder, number), pair in unsettled.items():
            name = (self._catalog.account_names[holder], self._catalog.instrument_keys[number].name)
            fees = sums.fees(holder, number)
            # All zero: withdrawn altogether, as if it had never been.
            if self._stands(number) and (fees or any(any(sums) for sums in pair.values())):
                rows[name] = position_of(self._catalog, *name, settled.pop(name, _NO_POSITION), pair, fees)
        for name, held in settled.items():
            rows[name] = position_of(self._catalog, *name, held, {}, {})
        return [row for _, row in sorted(rows.items()) if says_something(row)]

    def _stands(self, number: int) -> bool:
        key = self._catalog.instrument_keys[number]
        return self._catalog.meaning(number) is not None and self._catalog.standing(key.name) == key.digest

    def suspended(self) -> list[Suspended]:
        """Facts that wait for a definition or stand under one that lost its name, sorted."""
        catalog = self._catalog
        out = []
        for number, waiting in self._waiting.items():
            key = catalog.instrument_keys[number]
            facts = sum(
                len(rows) if (kind is Kind.FILL) == (sign > 0) else -len(rows) for kind, _, rows, sign in waiting
            )
            final = key.digest in catalog.definitions
            reason = "the definition has another name" if final else "no such definition"
            if facts:
                out.append(Suspended(key.name, key.digest, facts, reason, final))
        losing: dict[int, int] = {}
        for number, count in self._sums.counts():
            key = catalog.instrument_keys[number]
            if count and catalog.standing(key.name) != key.digest:
                losing[number] = count
        for held in self.lost:
            numbers, counts = np.unique(self.terms(*held)[:, INSTRUMENT], return_counts=True)
            for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
                losing[number] = losing.get(number, 0) + count
        for number, facts in losing.items():
            key = catalog.instrument_keys[number]
            out.append(Suspended(key.name, key.digest, facts, "another definition of this name stands", True))
        return sorted(out)

    def waiting(self) -> Iterator[Held]:
        """Facts that wait for a definition, batch by batch; those that wait in the base too."""
        for waiting in self._waiting.values():
            for kind, number, rows, _ in waiting:
                yield Held(kind, number, rows)

    def mismatches(self) -> Iterator[Mismatch]:
        """Busts whose terms are not those of the fill they take back, at least one of the two not settled."""
        keys, batches, rows = self.indexes[Kind.BUST].winners()
        fills = self.indexes[Kind.FILL].find(keys)
        for batch, row, fill in zip(batches.tolist(), rows.tolist(), fills, strict=True):
            if fill is None or (self._waits_in_base(batch) and self._waits_in_base(fill.batch)):
                continue
            mine = self.terms(Kind.BUST, batch, np.array([row]))
            if (mine != self.terms(Kind.FILL, fill.batch, np.array([fill.row]))).any():
                yield Mismatch(Kind.BUST, Spot(batch, row), fill)
        for kind, other in ((Kind.BUST, Kind.FILL), (Kind.FILL, Kind.BUST)):
            seen = self.seen(other)
            keys, batches, rows = self.indexes[kind].winners()
            found = seen.find(keys)
            for at in np.flatnonzero(found >= 0).tolist():
                one: Keys = (keys[0][at : at + 1], keys[1][at : at + 1])
                spot = Spot(int(batches[at]), int(rows[at]))
                if self._waits_in_base(spot.batch) or self.indexes[other].find(one) != [None]:
                    continue  # both settled; or the other one waits in the base, and was compared above
                said = fact_contents(self._batches[spot.batch].body, kind, rows[at : at + 1])
                if (said != seen.says(found[at : at + 1])).any():
                    yield Mismatch(kind, spot, None)


def _terms(
    kind: Kind, batches: Sequence[Batch | SuspendedFills], bindings: ByNumber[Binding]
) -> Callable[[int, Rows], npt.NDArray[np.int64]]:
    """The terms of rows of a batch, by its local number. It knows no ``Positions``, so that a view that is let go is gone at once, and
    nobody has to look for it."""

    def terms(batch: int, rows: Rows) -> npt.NDArray[np.int64]:
        return fill_terms(batches[batch].body.tables[kind][rows], bindings[batch])

    return terms


def columns_of(limbs: Limbs) -> tuple[npt.NDArray[np.int64], ...]:
    """Values as the columns that ``positionsums`` sums."""
    return tuple(limbs[:, : VALUE.stop - VALUE.start].T)
