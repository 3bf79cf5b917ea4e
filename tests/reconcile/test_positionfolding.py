"""Trades taken into many positions at once: what the plain loop gives for each, or nothing."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.packedpositions import FILLS, MAX_FILLS, PackedPositions
from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.wide import LIMBS, from_ints, from_product
from reconcile import positionfolding
from reconcile.entries import Entry, after
from reconcile.positionfolding import ROOM, Trades, folded, whole_values
from tests.reconcile.settlement_worlds import stories, written
from tests.reconcile.test_settlement import heights

FIGURES = ("value_bought", "value_sold", "cost", "realised", "bought", "sold", "fees", "fills")
SMALL = st.integers(-9, 9) | st.integers(-(1 << 29), 1 << 29)
EDGES = st.builds(
    lambda bits, sign, beside: sign * (1 << bits) + beside,
    st.sampled_from([30, 31, 58, 59, 60, 61, 62, 63, 64, 79]),
    st.sampled_from([1, -1]),
    st.integers(-1, 1),
)
BROAD = st.builds(
    lambda bits, low, sign: sign * (1 << bits | low & (1 << bits) - 1),
    st.integers(0, 59),
    st.integers(0, 1 << 60),
    st.sampled_from([1, -1]),
)
"""Of any length, so that products of two are of any length too."""
LARGE = SMALL | EDGES | BROAD
AMOUNTS = LARGE.filter(lambda amount: abs(amount) <= 1 << 62)  # what a fact may say


class Trade(NamedTuple):
    side: int
    qty: int
    sign: int
    fee: int
    value: int
    """At the trade's price, all factors in."""


class Case(NamedTuple):
    """A position, whether its instrument is inverse, and its trades."""

    before: SettledPosition | None
    inverse: bool
    trades: list[Trade]


def cases(figures: st.SearchStrategy[int], values: st.SearchStrategy[int]) -> st.SearchStrategy[list[Case]]:
    trade = st.builds(Trade, SIGNS, figures.map(abs).filter(lambda qty: 0 < qty <= 1 << 62), SIGNS, figures, values)
    fills = st.integers(-9, 9) | st.sampled_from([(1 << 30) - 1, MAX_FILLS, -MAX_FILLS, 1 << 32])
    position = st.none() | st.builds(SettledPosition, **{**dict.fromkeys(FIGURES, values), "fills": fills})
    return st.lists(st.builds(Case, position, st.booleans(), st.lists(trade, min_size=1, max_size=5)), max_size=9)


SIGNS = st.sampled_from((1, -1))
BUY = Trade(1, 1, 1, 0, 1)


def plainly(case: Case) -> SettledPosition:
    """The position after its trades, over Python's integers."""
    held = case.before or SettledPosition()
    figures = {name: getattr(held, name) for name in FIGURES}
    for side, qty, sign, fee, value in case.trades:
        which = "bought" if side > 0 else "sold"
        figures[which] += sign * qty
        figures[f"value_{which}"] += sign * value
        figures["fees"] += sign * fee
        figures["fills"] += sign
    traded = [(side * sign * qty, value) for side, qty, sign, _, value in case.trades]
    entry = after(Entry(held.qty, held.cost, held.realised), traded, case.inverse)
    return SettledPosition(**{**figures, "cost": entry.cost, "realised": entry.realised})


def in_columns(told: list[Case], few: int) -> list[SettledPosition | None]:
    """The same by columns; None where those say nothing."""
    before = PackedPositions.of({(str(at), ""): case.before for at, case in enumerate(told)})
    rows = [trade for case in told for trade in case.trades]
    sides, quantities, signs, fees = (np.array([trade[column] for trade in rows], np.int64) for column in range(4))
    whole = np.array([abs(trade.value) < ROOM for trade in rows], np.bool_)
    values = np.array([trade.value if abs(trade.value) < ROOM else 0 for trade in rows], np.int64)
    counts = np.array([len(case.trades) for case in told], np.int64)
    inverse = np.array([case.inverse for case in told], np.bool_)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positionfolding, "FEW", few)
        after = folded(before.figures, Trades(sides, quantities, signs, fees, values, whole), counts, inverse)
    assert (np.abs(after.columns[FILLS]) <= MAX_FILLS).all()  # which a row has room for
    return [
        SettledPosition(**dict(zip(FIGURES, figures, strict=True))) if said else None
        for figures, said in zip(after.columns.T.tolist(), after.whole.tolist(), strict=True)
    ]


@given(cases(AMOUNTS, LARGE).filter(bool), st.integers(1, 4))
def test_what_columns_say_is_what_the_plain_loop_gives(told: list[Case], few: int) -> None:
    for case, position in zip(told, in_columns(told, few), strict=True):
        assert position in (None, plainly(case))


@given(cases(BROAD, BROAD).filter(bool))
def test_no_product_is_made_that_does_not_fit(told: list[Case]) -> None:
    for case, position in zip(told, in_columns(told, 1), strict=True):
        assert position in (None, plainly(case))


@pytest.mark.parametrize("trades", range(1, 40))
@pytest.mark.parametrize("trade", [Trade(1, 1, 1, 0, ROOM - 1), Trade(-1, 1 << 62, -1, -(1 << 62), 1 - ROOM)])
def test_no_sum_is_made_that_does_not_fit(trade: Trade, trades: int) -> None:
    case = Case(None, False, [trade] * trades)
    (position,) = in_columns([case], 1)
    assert position in (None, plainly(case))


def test_a_position_that_fills_64_bits_is_not_worked_on_in_them() -> None:
    most, least = (1 << 63) - 1, -(1 << 63)
    case = Case(SettledPosition(bought=5, cost=least, realised=most), False, [Trade(-1, 5, 1, 0, 9)])
    assert PackedPositions.of({("", ""): case.before}).figures.whole.all()
    assert in_columns([case], 1) == [None]


@given(cases(SMALL, SMALL).filter(bool))
def test_of_small_figures_columns_leave_out_no_position(told: list[Case]) -> None:
    small = [case for case in told if abs((case.before or SettledPosition()).fills) < 10] or [Case(None, False, [BUY])]
    assert in_columns(small, 1) == [plainly(case) for case in small]


@given(cases(SMALL, SMALL).filter(bool), st.integers(1, 9))
def test_turns_of_few_positions_are_left_to_the_loop(told: list[Case], few: int) -> None:
    longest = sorted((len(case.trades) for case in told), reverse=True)
    turns = longest[few - 1] if few <= len(longest) else 0
    for case, position in zip(told, in_columns(told, few), strict=True):
        assert position is None or len(case.trades) <= turns


@given(st.lists(st.tuples(AMOUNTS, AMOUNTS, st.integers(1, 9) | st.integers(1, 1 << 62)), max_size=6))
def test_values_are_products_of_integers_where_they_have_room(told: list[tuple[int, int, int]]) -> None:
    one, other, factors = (np.array([row[column] for row in told], np.int64) for column in range(3))
    values, whole = whole_values(from_product(one, other), factors)
    for (left, right, factor), value, said in zip(told, values.tolist(), whole.tolist(), strict=True):
        assert value == (left * right * factor if said else 0)
        assert said or abs(left * right * factor) >= ROOM >> 3
    assert not whole_values(from_ints([-1]).reshape(-1, LIMBS) * (1 << 40), np.array([1]))[1].any()


@given(drawn=stories, seed=st.integers(0, 1 << 30), count=st.integers(1, 3))
def test_a_height_settles_the_same_by_columns_and_by_the_loop(drawn: Any, seed: int, count: int) -> None:
    story = written(drawn)
    outcomes = []
    for few in (1, 1 << 40):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(positionfolding, "FEW", few)
            settled = [settlement for *_, settlement in heights(story, seed, count)]
        outcomes.append([(one.state.encode(), one.cells, one.adjustments) for one in settled])
    assert outcomes[0] == outcomes[1]
