"""The fills and busts of a cut, settled: what they leave to the next state, and what was adjusted.

Which of them count the settling view has said (``ledger.positions``). Its rules, for rows in canonical order:

1. A row for an account that its node may not record is void and takes no id.
2. A row under a definition that lost its name, or has another, is suspended and takes no id: it can be told again under the one
   that stands.
3. An id counts once. The first row takes it; equal content later is a duplicate, other content a conflict.
4. A row under a definition that is not settled yet waits with its id taken. It counts at the height at which its definition stands;
   if another one comes to stand under that name, it leaves, and its id stays taken: to book it takes another id.
5. The rest counts, what had waited first. A value or fee that cannot be carried is void. A bust counts as the opposite of its terms.

Whole columns throughout; the one loop over rows is that of ``entries``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.catalog import NO_ASSET
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.positions import ACCOUNT, FEE_AMOUNT, FEE_ASSET, QUANTITY, SIDE, Counted, Held
from crdtledger.ledger.reference import value_factor
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.settledparts import SettledPosition, SuspendedFills, cut_fills
from crdtledger.ledger.view import View

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

Rows = npt.NDArray[np.int64]
Pair = tuple[str, str]
_NOTHING = SettledPosition()


class SettledFills(NamedTuple):
    """What fills and busts of a cut have come to. ``positions``: those that changed, None where nothing is left of one.
    ``adjustments`` in no order."""

    positions: dict[Pair, SettledPosition | None]
    fills: SeenIds
    busts: SeenIds
    suspended: tuple[SuspendedFills, ...]
    adjustments: list[Adjustment]


def settle_fills(view: View) -> SettledFills:
    """What a finished settling view leaves of fills and busts."""
    return SettledFills(
        _positions(view),
        view.base.fills.extended(*view.positions.taken(Kind.FILL)),
        view.base.busts.extended(*view.positions.taken(Kind.BUST)),
        _suspended(view),
        _adjustments(view),
    )


# -- positions ------------------------------------------------------------------------------------------------


def _positions(view: View) -> dict[Pair, SettledPosition | None]:
    """The positions that change."""
    by_instrument: dict[int, list[Counted]] = {}
    for counted in view.positions.counted:
        by_instrument.setdefault(counted.instrument, []).append(counted)
    changed: dict[Pair, SettledPosition | None] = {}
    for number, parts in by_instrument.items():
        definition = view.catalog.meaning(number)
        assert definition is not None  # what counts has a meaning
        factor, own = value_factor(definition), view.catalog.asset(definition.settlement)
        terms = np.concatenate([part.terms for part in parts])
        signs = np.repeat([1 if part.kind is Kind.FILL else -1 for part in parts], [len(part.rows) for part in parts])
        worth = np.empty(len(terms), object)
        worth[:] = [value * factor for value in plain(np.concatenate([part.values for part in parts]))]
        order = np.argsort(terms[:, ACCOUNT], kind="stable")
        accounts, starts = np.unique(terms[order, ACCOUNT], return_index=True)
        for account, rows in zip(accounts.tolist(), np.split(order, starts[1:]), strict=True):
            at = (view.catalog.account_names[account], definition.name)
            before = view.base.positions.get(at, _NOTHING)
            fees = _fees(view, before, terms[rows], signs[rows], own)
            position = _position(before, terms[rows], signs[rows], worth[rows].tolist(), definition.inverse, fees)
            changed[at] = None if position == _NOTHING else position
    return changed


def _position(
    before: SettledPosition,
    terms: npt.NDArray[np.int64],
    signs: Rows,
    worth: Sequence[int],
    inverse: bool,
    fees: tuple[int, tuple[tuple[str, int], ...]],
) -> SettledPosition:
    sides, sizes = terms[:, SIDE] * signs, terms[:, QUANTITY]
    trades = zip((sides * sizes).tolist(), worth, strict=True)
    entry = after(Entry(before.qty, before.cost, before.realised), trades, inverse)
    values = np.empty(len(worth), object)
    values[:] = worth

    def sums(side: int) -> tuple[int, int]:
        mine = terms[:, SIDE] == side
        # Python's sums, of numbers within 2**62 each: a column of them would overflow.
        return sum((sizes[mine] * signs[mine]).tolist()), int((values[mine] * signs[mine]).sum())

    (bought, value_bought), (sold, value_sold) = sums(1), sums(-1)
    return SettledPosition(
        bought=before.bought + bought,
        sold=before.sold + sold,
        value_bought=before.value_bought + value_bought,
        value_sold=before.value_sold + value_sold,
        fees=fees[0],
        other_fees=fees[1],
        fills=before.fills + int(signs.sum()),
        cost=entry.cost,
        realised=entry.realised,
    )


def _fees(
    view: View, before: SettledPosition, terms: npt.NDArray[np.int64], signs: Rows, own: int
) -> tuple[int, tuple[tuple[str, int], ...]]:
    """(fees in the settlement asset, fees in others)."""
    fees, others = before.fees, dict(before.other_fees)
    amounts = terms[:, FEE_AMOUNT] * signs
    for asset in np.unique(terms[:, FEE_ASSET]).tolist():
        total = sum(amounts[terms[:, FEE_ASSET] == asset].tolist())
        if asset in (NO_ASSET, own):
            fees += total
        else:
            name = view.catalog.assets[asset]
            others[name] = others.get(name, 0) + total
    return fees, tuple(sorted((name, amount) for name, amount in others.items() if amount))


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

    positions, waited = view.positions, len(view.base.suspended)
    for held in positions.repeated:
        note("deduplicated", RECORDED_BEFORE, held)
    for held in positions.contradicted:
        note("conflict", OTHER_CONTENT, held)
    for held in positions.lost:
        note("suspended", LOST_NAME, held)
    for held in positions.waiting():
        if held.number >= waited:
            note("suspended", NO_DEFINITION, held)
    for counted in positions.counted:
        if counted.number < waited:
            note("counted", DEFINED_NOW, Held(counted.kind, counted.number, counted.rows))
    out = []
    for (effect, cause, number, kind), parts in rows.items():
        told, source = np.sort(np.concatenate(parts)), view.batches[number]
        adjustment = Adjustment(effect, cause, source.key, source.seq, int(kind), len(told), runs_of(told))
        out.append(adjustment)
    return out
