"""The sums of positions are what Python's integers add up to, whatever is added, taken back, carried or not carried."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger import positionsums
from crdtledger.ledger.positionsums import COUNT, FEE, QTY, VALUE, Page, PositionSums
from crdtledger.ledger.wide import MASK, biggest, product, spread, to_int

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
    add_together(sums, [call])


def add_together(sums: PositionSums, together: list[Added]) -> None:
    """Calls of one sign, in one pass; beside their rows as many that are left out."""
    pages = [Page(call.instrument, ACCOUNTS) for call in together]
    told = [
        (page * len(ACCOUNTS) + at, side, quantity, amount, paid)
        for page, call in enumerate(together)
        for at, side, quantity, amount, paid in call.rows * call.repeat
    ]
    told += [(len(pages) * len(ACCOUNTS), *rest) for _, *rest in told]
    which, sides, qty, price, fee = (np.array(column) for column in zip(*told, strict=True))
    sums.add(pages, which, sides.astype(np.int8), qty, product(qty, price), fee, together[0].sign)


@given(st.lists(calls, max_size=8), st.integers(1, 4), st.integers(0, 30), st.booleans())
def test_sums_are_those_of_integers(added: list[Added], carry_every: int, near: int, together: bool) -> None:
    sums = PositionSums(5, 1)
    expected: dict[tuple[int, int, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    with patch.multiple(positionsums, CARRY_EVERY=carry_every, NEAR_CELLS=near % 3, NEAR_LEAST=near):
        for sign in (1, -1) if together else ():
            if alike := [call for call in added if call.sign == sign]:
                add_together(sums, alike)
        for call in added:
            if not together:
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
    for whole, numbers in (((a,), [x for x, _ in pairs]), (product(a, b), [x * y for x, y in pairs])):
        added = [0] * len(a)
        for first, column in enumerate(whole):
            for limb, piece in enumerate(spread(column, len(column)), first):
                assert int(piece.astype(np.float64).sum()) == sum(piece.tolist())
                assert biggest(piece) == max(abs(number) for number in piece.tolist())
                assert biggest(piece) * len(piece) < 1 << 53
                added = [sum_ + (one << 32 * limb) for sum_, one in zip(added, piece.tolist(), strict=True)]
        assert added == numbers * repeat


def test_few_cells_of_far_accounts_take_little_memory() -> None:
    sums = PositionSums(5, 1)
    accounts = np.array([1 << 40], np.int64)
    for instrument in range(100):
        one = np.ones(1, np.int64)
        for page in (Page(instrument, accounts), Page(instrument, np.array([200 + instrument]))):
            sums.add([page], one * 0, one, one, (one,), one * 0, 1)
    assert len(sums.sides()) == 200
    assert sums.nbytes < 1 << 18
