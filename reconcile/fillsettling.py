"""The fills and busts of a cut, settled: what they leave to the next state, and what was adjusted.

Which of them count the settling view has said (``ledger.positions``). Its rules, for rows in canonical order:

1. A row for an account that its node may not record is void and takes no id; nor does one that happened before the floor of ids.
2. A row under a definition that lost its name, or has another, is suspended and takes no id: it can be told again under the one
   that stands.
3. An id counts once. The first row takes it; equal content later is a duplicate, other content a conflict.
4. A row under a definition that is not settled yet waits with its id taken. It counts at the height at which its definition stands;
   if another one comes to stand under that name, it leaves, and its id stays taken: to book it takes another id.
5. The rest counts, what had waited first. A value or fee that cannot be carried is void. A bust counts as the opposite of its terms.

Whole columns, but for positions that outgrow 64 bits, have fees in other assets or are among the few with very many rows: those are
taken one by one, over plain integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.catalog import NO_ASSET
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.fillterms import ACCOUNT, FEE_AMOUNT, FEE_ASSET, INSTRUMENT, QUANTITY, SIDE
from crdtledger.ledger.packedpositions import PackedPositions, pack_figures
from crdtledger.ledger.positions import Held
from crdtledger.ledger.reference import value_factor
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settledparts import SettledPosition, SuspendedFills, cut_fills
from crdtledger.ledger.view import View
from crdtledger.ledger.wide import Limbs

from .adjustments import (
    DEFINED_NOW,
    LOST_NAME,
    NO_DEFINITION,
    OTHER_CONTENT,
    RECORDED_BEFORE,
    Adjustment,
    Effect,
    runs_of,
)
from .entries import Entry, after, plain
from .positionfolding import Trades, folded, whole_values
from .windowsettling import TimedTaken, taken_ids

Rows = npt.NDArray[np.int64]
_NOTHING = SettledPosition()


class SettledFills(NamedTuple):
    """What fills and busts of a cut have come to. ``positions``: those that changed, and which of them are no more. ``fills``, ``busts``:
    the ids that are kept for good; ``timed``: those taken now that are not. ``adjustments`` in no order."""

    positions: PackedPositions
    fills: SeenIds
    busts: SeenIds
    timed: tuple[TimedTaken, ...]
    suspended: tuple[SuspendedFills, ...]
    adjustments: list[Adjustment]


def settle_fills(view: View) -> SettledFills:
    """What a finished settling view leaves of fills and busts."""
    fills, busts = taken_ids(view, Kind.FILL), taken_ids(view, Kind.BUST)
    return SettledFills(
        _positions(view),
        view.base.fills.extended(*fills.kept),
        view.base.busts.extended(*busts.kept),
        tuple(ids.timed for ids in (fills, busts) if ids.timed is not None),
        _suspended(view),
        _adjustments(view),
    )


# -- positions ------------------------------------------------------------------------------------------------


class _Meaning(NamedTuple):
    """What an instrument's definition says of its fills: ``factor`` of their values, and the ``asset`` of fees that name none."""

    name: str
    inverse: bool
    factor: int
    asset: int


Row = tuple[int, int, int, int, int, int]
"""A fill, or with ``sign`` -1 a bust, in the order of its position's: side, quantity, sign, fee, fee asset, value before the factor."""


class _Counted(NamedTuple):
    """What counts, the rows of a cell side by side and in order; ``starts``: the first row of each cell."""

    terms: npt.NDArray[np.int64]
    signs: Rows
    worth: Limbs
    starts: Rows

    def rows(self, of: slice) -> list[Row]:
        """Some of them one by one."""
        columns = (self.terms[of, column].tolist() for column in (SIDE, QUANTITY, FEE_AMOUNT, FEE_ASSET))
        sides, sizes, fees, assets = columns
        return list(zip(sides, sizes, self.signs[of].tolist(), fees, assets, plain(self.worth[of]), strict=True))


def _positions(view: View) -> PackedPositions:
    """The positions that change."""
    if not view.settled_fills.counted:
        return PackedPositions.of({})
    counted = _counted(view)
    starts = counted.starts
    numbers, accounts = (counted.terms[starts, column].tolist() for column in (INSTRUMENT, ACCOUNT))
    meanings = {number: _meaning(view, number) for number in set(numbers)}
    told = [meanings[number] for number in numbers]
    names = view.catalog.account_names
    before = view.base.positions.packed(
        [(names[account], meaning.name) for account, meaning in zip(accounts, told, strict=True)]
    )
    counts = np.diff(starts, append=len(counted.terms))
    inverse = np.fromiter((meaning.inverse for meaning in told), np.bool_, len(told))
    figures = folded(before.figures, _trades(counted, told, counts), counts, inverse)
    records, beside = pack_figures(figures.columns), {}
    others = np.flatnonzero(~figures.whole)
    for row, held in zip(others.tolist(), before.chosen(others).opened(), strict=True):
        mine = slice(int(starts[row]), int(starts[row] + counts[row]))
        position = _position(view, held or _NOTHING, counted.rows(mine), told[row])
        one = PackedPositions.of({before.pairs[row]: None if position == _NOTHING else position})
        records[row] = one.records[0]
        if one.beside:
            beside[row] = position
    return PackedPositions(before.pairs, records, beside)


def _counted(view: View) -> _Counted:
    parts = view.settled_fills.counted
    terms, worth = np.concatenate([part.terms for part in parts]), np.concatenate([part.values for part in parts])
    signs = np.repeat([1 if part.kind is Kind.FILL else -1 for part in parts], [len(part.rows) for part in parts])
    cells = terms[:, INSTRUMENT] * len(view.catalog.account_names) + terms[:, ACCOUNT]
    order = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[order], prepend=-1))
    return _Counted(terms[order], signs[order], worth[order], starts)


def _trades(counted: _Counted, told: Sequence[_Meaning], counts: Rows) -> Trades:
    terms = counted.terms
    factors = np.repeat(np.array([meaning.factor for meaning in told], np.int64), counts)
    assets = np.repeat(np.array([meaning.asset for meaning in told], np.int64), counts)
    values, whole = whole_values(counted.worth, factors)
    whole &= (terms[:, FEE_ASSET] == NO_ASSET) | (terms[:, FEE_ASSET] == assets)
    return Trades(terms[:, SIDE], terms[:, QUANTITY], counted.signs, terms[:, FEE_AMOUNT], values, whole)


def _meaning(view: View, number: int) -> _Meaning:
    definition = view.catalog.meaning(number)
    assert definition is not None  # what counts has a meaning
    asset = view.catalog.asset(definition.settlement)
    return _Meaning(definition.name, definition.inverse, value_factor(definition), asset)


def _position(view: View, before: SettledPosition, rows: Sequence[Row], meaning: _Meaning) -> SettledPosition:
    # What ``positionfolding`` does in columns where they have room: the rule, for whatever integers.
    bought, sold, fees = before.bought, before.sold, before.fees
    value_bought, value_sold, fills = before.value_bought, before.value_sold, before.fills
    others = dict(before.other_fees)
    trades = []
    for side, size, sign, fee, asset, worth in rows:
        qty, value = sign * size, worth * meaning.factor
        trades.append((side * qty, value))
        if side > 0:
            bought += qty
            value_bought += sign * value
        else:
            sold += qty
            value_sold += sign * value
        fills += sign
        if asset in (NO_ASSET, meaning.asset):
            fees += sign * fee
        else:
            name = view.catalog.assets[asset]
            others[name] = others.get(name, 0) + sign * fee
    entry = after(Entry(before.qty, before.cost, before.realised), trades, meaning.inverse)
    return SettledPosition(
        bought=bought,
        sold=sold,
        value_bought=value_bought,
        value_sold=value_sold,
        fees=fees,
        other_fees=tuple(sorted((name, amount) for name, amount in others.items() if amount)) if others else (),
        fills=fills,
        cost=entry.cost,
        realised=entry.realised,
    )


# -- what waits, and what was adjusted --------------------------------------------------------------------------


def _suspended(view: View) -> tuple[SuspendedFills, ...]:
    """What waits for a definition, sorted by lane, seq and kind."""
    waiting: dict[tuple[int, Kind], list[Rows]] = {}
    for held in view.positions.waiting():
        waiting.setdefault((held.number, held.kind), []).append(held.rows)
    out = []
    for (number, kind), parts in waiting.items():
        rows, source = np.sort(np.concatenate(parts)), view.batches[number]
        if isinstance(source, SuspendedFills) and len(rows) == len(source):
            out.append((kind, source))
        else:
            told = tuple(_told(view, Held(kind, number, rows)).tolist())
            out.append((kind, cut_fills(source.key, source.seq, source.body, kind, rows, told)))
    return tuple(entry for kind, entry in sorted(out, key=lambda one: (one[1].key, one[1].seq, one[0])))


def _told(view: View, held: Held) -> Rows:
    """Which rows of the batch that recorded them these are."""
    source = view.batches[held.number]
    rows: Rows = np.array(source.rows, np.int64)[held.rows] if isinstance(source, SuspendedFills) else held.rows
    return rows


def _adjustments(view: View) -> list[Adjustment]:
    rows: dict[tuple[Effect, str, int, Kind], list[Rows]] = {}

    def note(effect: Effect, cause: str, held: Held) -> None:
        rows.setdefault((effect, cause, held.number, held.kind), []).append(_told(view, held))

    fills, waited = view.settled_fills, len(view.base.suspended)
    for held in fills.repeated:
        note("deduplicated", RECORDED_BEFORE, held)
    for held in fills.contradicted:
        note("conflict", OTHER_CONTENT, held)
    for held in fills.lost:
        note("suspended", LOST_NAME, held)
    for held in fills.waiting():
        if held.number >= waited:
            note("suspended", NO_DEFINITION, held)
    for counted in fills.counted:
        if counted.number < waited:
            note("counted", DEFINED_NOW, Held(counted.kind, counted.number, counted.rows))
    out = []
    for (effect, cause, number, kind), parts in rows.items():
        told, source = np.sort(np.concatenate(parts)), view.batches[number]
        adjustment = Adjustment(effect, cause, source.key, source.seq, int(kind), len(told), runs_of(told))
        out.append(adjustment)
    return out
