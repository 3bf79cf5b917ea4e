"""The sums of positions are what Python's integers add up to, whatever is added, taken back, carried or not carried."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger import positionsums
from crdtledger.ledger.positionsums import COUNT, FEE, QTY, VALUE, PositionSums
from crdtledger.ledger.wide import MASK, biggest, spread, spread_product, to_int

BOUND = 1 << 62
EDGES = [1, 2, MASK, MASK + 1, (1 << 41) - 1, 1 << 41, 1 << 53, BOUND]
quantities = st.one_of(st.integers(1, BOUND), st.sampled_from(EDGES), st.integers(1, 9))
signed = st.one_of(st.just(0), quantities, quantities.map(lambda n: -n))


class Added(NamedTuple):
    """One call: rows of (index of the account, side, quantity, price, fee)."""

    instrument: int
    rows: list[tuple[int, int, int, int, int]]
    sign: int
    repeat: int


ACCOUNTS = np.array([7, -1, 0, 3], np.int64)  # a batch's strings: the second is no account, and no row uses it
rows = st.tuples(st.sampled_from([0, 2, 3]), st.sampled_from([1, -1]), quantities, signed, signed)
calls = st.builds(
    Added,
    st.integers(0, 2),
    st.lists(rows, min_size=1, max_size=8),
    st.sampled_from([1, -1]),
    st.sampled_from([1, 1, 4_096 // 8]),
)


def add(sums: PositionSums, call: Added) -> None:
    if call.repeat == 1 and len(call.rows) == 1:
        ((at, side, quantity, amount, paid),) = call.rows
        sums.add_one(call.instrument, int(ACCOUNTS[at]), side, (quantity, quantity * amount, paid), call.sign)
        return
    which, sides, qty, price, fee = (np.array(column * call.repeat) for column in zip(*call.rows, strict=True))
    values = spread_product(qty, price)
    sums.add(call.instrument, ACCOUNTS, which.astype(np.uint16), sides.astype(np.int8), qty, values, fee, call.sign)


@given(st.lists(calls, max_size=8), st.integers(1, 4), st.integers(0, 30))
def test_sums_are_those_of_integers(added: list[Added], carry_every: int, near: int) -> None:
    sums = PositionSums(5, 1)
    expected: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    with patch.multiple(positionsums, CARRY_EVERY=carry_every, NEAR_CELLS=near % 3, NEAR_LEAST=near):
        for call in added:
            add(sums, call)
            for at, side, qty, price, fee in call.rows:
                cell = expected[int(ACCOUNTS[at]), call.instrument, side]
                for place, amount in enumerate((qty, qty * price, fee, 1)):
                    cell[place] += call.sign * call.repeat * amount
    got = {
        (account, instrument, side): [to_int(row[QTY]), to_int(row[VALUE]), to_int(row[FEE]), row[COUNT]]
        for (account, instrument), pair in sums.sides().items()
        for side, row in pair.items()
        if any(row)
    }
    assert got == {cell: row for cell, row in expected.items() if any(row)}
    counts: dict[int, int] = defaultdict(int)
    for (_, instrument, _), row in expected.items():
        counts[instrument] += abs(row[3])
    assert dict(sums.counts()) == counts


@given(st.lists(calls, min_size=1, max_size=4))
def test_what_is_taken_back_leaves_nothing(added: list[Added]) -> None:
    sums = PositionSums(5, 1)
    for call in added:
        add(sums, call)
    for call in added:
        add(sums, call._replace(sign=-call.sign))
    assert not any(any(row) for pair in sums.sides().values() for row in pair.values())


@given(st.lists(st.tuples(signed, signed), min_size=1, max_size=20), st.sampled_from([1, 100]))
def test_spread_columns_add_up_and_are_summed_exactly_in_floats(pairs: list[tuple[int, int]], repeat: int) -> None:
    a, b = (np.array(column * repeat, np.int64) for column in zip(*pairs, strict=True))
    for columns, numbers in ((spread(a), [x for x, _ in pairs]), (spread_product(a, b), [x * y for x, y in pairs])):
        assert [to_int(row) for row in zip(*(column.tolist() for column in columns), strict=True)] == numbers * repeat
        for column in columns:
            assert int(column.astype(np.float64).sum()) == sum(column.tolist())
            assert biggest(column) == max(abs(number) for number in column.tolist())
            assert biggest(column) * len(column) < 1 << 53


def test_few_cells_of_far_accounts_take_little_memory() -> None:
    sums = PositionSums(5, 1)
    accounts = np.array([1 << 40], np.int64)
    for instrument in range(100):
        one = np.ones(1, np.int64)
        sums.add(instrument, accounts, one * 0, one, one, (one,), one * 0, 1)
        sums.add(instrument, np.array([200 + instrument]), one * 0, one, one, (one,), one * 0, 1)
    assert len(sums.sides()) == 200
    assert sums.nbytes < 1 << 18
