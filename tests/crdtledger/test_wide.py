"""Wide columns are Python integers in another dress."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger import wide

BOUND = 1 << 62
amounts = st.one_of(
    st.integers(-BOUND, BOUND), st.sampled_from([-BOUND, BOUND, -1, 0, 1, (1 << 32) - 1, 1 << 32, -(1 << 32)])
)
pairs = st.lists(st.tuples(amounts, amounts), min_size=1, max_size=30)


@given(pairs)
def test_a_product_is_the_product_of_the_integers(numbers: list[tuple[int, int]]) -> None:
    a, b = (np.array(column, np.int64) for column in zip(*numbers, strict=True))
    assert wide.to_ints(wide.from_product(a, b)) == [x * y for x, y in numbers]


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1))
def test_a_64_bit_number_is_itself(numbers: list[int]) -> None:
    assert wide.to_ints(wide.from_int64(np.array(numbers, np.int64))) == numbers


@given(st.lists(st.integers(-(1 << 158), 1 << 158), min_size=1))
def test_a_big_number_is_itself_and_normalising_does_not_change_it(numbers: list[int]) -> None:
    columns = wide.from_ints(numbers)
    assert wide.to_ints(columns) == numbers
    wide.normalise(columns)
    assert wide.to_ints(columns) == numbers
    assert (columns[:, :-1] >= 0).all()
    assert (columns[:, :-1] <= wide.MASK).all()


@given(pairs, st.integers(1, 4_096), st.sampled_from([1, -1]))
def test_a_batch_of_extreme_products_sums_without_wrapping(
    numbers: list[tuple[int, int]], repeat: int, sign: int
) -> None:
    a, b = (np.repeat(np.array(column, np.int64), repeat) for column in zip(*numbers, strict=True))
    total = wide.from_product(a, b).sum(axis=0, keepdims=True) * sign
    expected = sign * repeat * sum(x * y for x, y in numbers)
    for _ in range(3):  # sums of normalised sums stay exact too
        wide.normalise(total)
        assert wide.to_ints(total) == [expected]
        total = total + total
        expected *= 2


@given(st.lists(st.tuples(st.integers(-5, 5), amounts), max_size=200))
def test_a_sum_by_key_is_what_a_dict_adds_up(rows: list[tuple[int, int]]) -> None:
    expected: dict[int, int] = {}
    for key, amount in rows:
        expected[key] = expected.get(key, 0) + amount
    keys, numbers = ([row[i] for row in rows] for i in (0, 1))
    assert wide.sum_by(np.array(keys, np.int64), np.array(numbers, np.int64)) == expected
