"""An array that grows keeps what was written, whether it lies in the heap or in a mapping, and whoever looks at a part of it keeps that."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.growing import MAPPED, Growing

PAGE = 4_096
Words = npt.NDArray[np.uint64]


def words(start: int, stop: int) -> Words:
    return np.arange(start, stop, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


# Sizes in bytes beside which something else happens: an empty one, a page, the first mapping, the second of twice its size.
SIZES = st.builds(
    lambda size, beside: max(0, size + 8 * beside),
    st.sampled_from([0, 64, PAGE, MAPPED, 2 * MAPPED, 4 * MAPPED, 20 * MAPPED]),
    st.integers(-2, 2),
)


@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=6), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_it_keeps_what_was_written_however_it_grows(steps: list[tuple[int, bool]], width: int) -> None:
    held, used = Growing(np.uint64, width), 0
    looked: list[tuple[Words, int]] = []
    for size, look in steps:
        count = size // (8 * width)
        held.reserve(count, used)
        assert len(held.items) >= count
        if count > used:
            held.items[used:count] = words(used * width, count * width).reshape(-1, width)
            used = count
        if look:
            looked.append((held.items[:used], used))
        for items, upto in [(held.items[:used], used), *looked]:
            assert np.array_equal(items.reshape(-1), words(0, upto * width))


def test_a_mapping_that_nobody_looks_at_grows_where_it_lies() -> None:
    held = Growing("V68")
    held.reserve(MAPPED // 68 + 1, 0)
    held.items[:3] = np.frombuffer(bytes(range(204)), "V68")
    mapping = held._map
    held.reserve(len(held.items) + 1, 3)
    assert held._map is mapping
    assert len(held.items) > MAPPED // 34
    assert held.items[:3].tobytes() == bytes(range(204))


def test_room_of_a_small_one_is_a_quarter_at_most() -> None:
    held, most = Growing(np.uint64), MAPPED // 8 - 1
    for count in range(1, 2_000):
        held.reserve(count, count - 1)
        assert count <= len(held.items) <= max(1, count * 5 // 4)
    held.reserve(most, 1_999)
    assert len(held.items) == most
    assert held._map is None
