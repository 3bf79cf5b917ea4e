"""Timed ids: a dictionary that lets go of spans, at every height and on every branch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import InvalidProof
from crdtledger.ledger import timedids
from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.seenids import Contents, SeenIds
from crdtledger.ledger.timedids import BothIds, Spans, TimedIds, unpack_timed

Told = dict[int, tuple[int, int]]
"""Key -> (what it says, its span), in the order in which they were settled."""

grow = st.lists(st.tuples(st.integers(0, 40), st.tuples(st.integers(0, 5), st.integers(0, 6))), max_size=30)
steps = st.lists(st.tuples(st.integers(0, 3), grow, st.integers(0, 4)), max_size=10)


def columns(told: list[tuple[int, tuple[int, int]]]) -> tuple[Keys, Contents, Spans]:
    keys = np.array([key for key, _ in told], np.uint64)
    said = np.array([[value, key] for key, (value, _) in told], np.uint64).reshape(-1, 2)
    return (keys, keys * np.uint64(3)), said, np.array([span for _, (_, span) in told], np.int64)


def check(ids: TimedIds, expected: Told) -> None:
    keys, said, _ = columns(list(expected.items()))
    found = ids.find(keys)
    assert len(ids) == len(expected)
    assert (found >= 0).all()
    assert (ids.says(found) == said).all()
    absent = [(key, (0, 0)) for key in range(41) if key not in expected]
    assert (ids.find(columns(absent)[0]) == -1).all()
    spans = sorted({span for _, span in expected.values()})
    assert ids.spans() == spans
    for stop in range(8):
        assert ids.spans(stop) == [span for span in spans if span < stop]
    for span in range(8):
        here, says, _ = columns([(key, one) for key, one in expected.items() if one[1] == span])
        assert ids.count(span) == len(says)
        for after in (0, 2):
            (high, low), contents = ids.rows(span, after)
            assert high.tolist() == here[0][after:].tolist()
            assert low.tolist() == here[1][after:].tolist()
            assert (contents == says[after:]).all()


@pytest.mark.parametrize("idle", [0, 3, 1_024])
@given(told=steps, salt=st.integers(0, 99))
def test_they_are_kept_as_a_dictionary_would_at_every_height_and_on_every_branch(
    idle: int, told: list[tuple[int, list[tuple[int, tuple[int, int]]], int]], salt: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timedids, "_IDLE", idle)
        heights: list[tuple[TimedIds, Told, int]] = [(TimedIds(salt), {}, 0)]
        for parent, pairs, rise in told:
            ids, model, low = heights[min(parent, len(heights) - 1)]
            above = [(key, (value, max(span, low))) for key, (value, span) in pairs]
            later = dict(model)
            for key, one in above:
                later.setdefault(key, one)
            low += rise
            kept = {key: one for key, one in later.items() if one[1] >= low}
            heights.append((ids.extended(*columns(above)).without(low), kept, low))
            for known, expected, _ in heights:
                check(known, expected)
        for ids, expected, low in heights:
            again = unpack_timed(ids.pack(), low, salt + 1, "ids")
            check(again, {key: one for span in ids.spans() for key, one in expected.items() if one[1] == span})
            assert again == ids
            assert again.pack() == ids.pack()


def test_what_is_let_go_of_leaves_memory() -> None:
    ids = TimedIds()
    sizes = []
    for height in range(60):
        fresh = np.arange(height * 1_000, height * 1_000 + 1_000, dtype=np.uint64)
        spans = np.full(1_000, height)
        ids = ids.extended((fresh, fresh), np.zeros((1_000, 2), np.uint64), spans).without(max(0, height - 9))
        sizes.append(ids.nbytes)
    assert len(ids) == 10_000
    assert max(sizes[20:]) < 1.5 * max(sizes[:20])


BROKEN: list[Any] = [
    ((3, b"x" * 8, b"x" * 8, b"y" * 8),),
    ((3, b"x" * 8, b"x" * 16, b"y" * 16),),
    ((3, b"x" * 7, b"x" * 7, b"y" * 14),),
    ((3, b"", b"", b""),),
    ((1, b"x" * 8, b"x" * 8, b"y" * 16),),
    ((1 << 62, b"x" * 8, b"x" * 8, b"y" * 16),),
    ((3, b"x" * 16, b"x" * 16, b"y" * 32),),
    ((3, b"x" * 8, b"x" * 8, b"y" * 16), (4, b"x" * 8, b"x" * 8, b"y" * 16)),
]


@pytest.mark.parametrize("packed", BROKEN)
def test_what_nobody_packed_is_refused(packed: Any) -> None:
    assert len(unpack_timed(((3, b"x" * 8, b"x" * 8, b"y" * 16),), 2, 0, "ids")) == 1
    with pytest.raises(InvalidProof):
        unpack_timed(packed, 2, 0, "ids")


@given(kept=st.sets(st.integers(0, 20)), timed=st.sets(st.integers(0, 20)))
def test_both_sorts_are_looked_up_together(kept: set[int], timed: set[int]) -> None:
    timed -= kept
    keys, said, _ = columns([(key, (1, 0)) for key in sorted(kept)])
    both = BothIds(
        SeenIds().extended(keys, said), TimedIds().extended(*columns([(key, (2, 4)) for key in sorted(timed)]))
    )
    asked, _, _ = columns([(key, (0, 0)) for key in range(21)])
    found = both.find(asked)
    assert len(both) == len(kept) + len(timed)
    assert [key for key in range(21) if found[key] >= 0] == sorted(kept | timed)
    there = np.flatnonzero(found >= 0)
    assert both.says(found[there]).tolist() == [[1 if key in kept else 2, key] for key in there.tolist()]
