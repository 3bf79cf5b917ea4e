"""Average entry and realised profit: exact, order by order, and nothing lost or made up."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.wide import from_ints, from_product
from reconcile.entries import FLAT, Entry, after, plain

BIG = 1 << 62
quantities = st.integers(1, 50) | st.integers(1, BIG)
prices = st.integers(-5, 100) | st.integers(-BIG, BIG)
trades = st.lists(st.tuples(quantities, st.sampled_from((1, -1)), prices), max_size=30)


def signed(told: list[tuple[int, int, int]]) -> list[tuple[int, int]]:
    return [(qty * side, qty * price) for qty, side, price in told]


@given(told=trades, inverse=st.booleans())
def test_what_closing_brought_and_what_is_open_add_up_to_what_was_paid_and_received(
    told: list[tuple[int, int, int]], inverse: bool
) -> None:
    entry = after(FLAT, signed(told), inverse)
    received = sum(-side * qty * price for qty, side, price in told)
    assert entry.qty == sum(side * qty for qty, side, _ in told)
    open_value = entry.cost if entry.qty > 0 else -entry.cost
    assert entry.realised == (-1 if inverse else 1) * (received + open_value)
    assert entry.qty or not entry.cost


@given(told=trades, inverse=st.booleans(), at=st.integers(0, 30))
def test_stopping_in_between_changes_nothing(told: list[tuple[int, int, int]], inverse: bool, at: int) -> None:
    moves = signed(told)
    assert after(after(FLAT, moves[:at], inverse), moves[at:], inverse) == after(FLAT, moves, inverse)


@given(told=trades)
def test_it_is_the_average_cost_method_rounded_down_at_every_reduction(told: list[tuple[int, int, int]]) -> None:
    """Told lot by lot with fractions: a reduction takes its share of the cost at the average entry, whole minor units at a time."""
    qty, cost, realised = 0, 0, 0
    for size, side, price in told:
        if qty * side >= 0:
            qty, cost = qty + side * size, cost + size * price
            continue
        average = Fraction(cost, abs(qty))
        closing = min(size, abs(qty))
        taken = cost if closing == abs(qty) else (average * closing).__floor__()
        came = size * price if closing == size else (Fraction(size * price, size) * closing).__floor__()
        realised += (came - taken) * (1 if qty > 0 else -1)
        cost = cost - taken + (size * price - came)
        qty += side * size
    assert after(FLAT, signed(told), False) == Entry(qty, cost, realised)


def test_a_long_that_is_sold_dearer_has_gained_and_one_turned_short_starts_anew() -> None:
    bought = after(FLAT, [(2, 200), (2, 240)], False)
    assert bought == Entry(4, 440, 0)
    assert after(bought, [(-1, 130)], False) == Entry(3, 330, 20)
    assert after(bought, [(-6, 660)], False) == Entry(-2, 220, 0)
    assert after(Entry(-3, 300, 0), [(1, 90)], False) == Entry(-2, 200, 10)


def test_an_inverse_long_gains_when_its_value_falls() -> None:
    """A hundred contracts bought at 1.0 BTC are sold at 0.8 BTC: dearer in dollars, so the long has gained."""
    assert after(Entry(100, 1000, 0), [(-100, 800)], True) == Entry(0, 0, 200)
    assert after(Entry(-100, 1000, 0), [(100, 800)], True) == Entry(0, 0, -200)


def test_a_busted_fill_leaves_no_trace_where_nothing_else_was_traded() -> None:
    assert after(FLAT, [(5, 505), (-5, 505)], False) == FLAT


@given(
    pairs=st.lists(st.tuples(st.integers(-BIG, BIG), st.integers(-BIG, BIG)), max_size=8),
    others=st.lists(st.integers(-(1 << 157), 1 << 157) | st.integers(-(1 << 70), 1 << 70), max_size=8),
)
def test_wide_columns_are_the_integers_they_stand_for(pairs: list[tuple[int, int]], others: list[int]) -> None:
    left, right = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    assert plain(from_product(left, right)) == [a * b for a, b in pairs]
    assert plain(from_ints(others)) == others
    small = np.array([a % 1000 for a, _ in pairs], np.int64)
    assert plain(from_product(small, -small)) == [-a * a for a in small.tolist()]
