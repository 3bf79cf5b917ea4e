"""Rows in versions against lists of bytes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.growing import MAPPED
from crdtledger.ledger.sharedrows import NO_ROWS, SharedRows

ROUNDS = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 4), st.sets(st.integers(0, 20), max_size=4), st.booleans()),
    max_size=8,
)


@given(ROUNDS, st.randoms(use_true_random=False))
def test_every_version_keeps_what_it_held(rounds: list[tuple[int, int, set[int], bool]], random: st.DataObject) -> None:
    versions: list[tuple[SharedRows, dict[int, bytes]]] = [(SharedRows(2), {})]
    for number, (base, added, picked, free) in enumerate(rounds):
        rows, held = versions[base % len(versions)]
        fresh = rows.room(added)
        assert not held.keys() & set(fresh.tolist())
        assert len(set(fresh.tolist())) == added
        old = sorted({sorted(held)[at % len(held)] for at in picked} if held else set())
        freed = np.array(old[: len(old) // 2] if free else [], np.int64)
        kept = [row for row in old if row not in freed.tolist()]
        at = np.concatenate([fresh, np.array(kept, np.int64)])
        records = [bytes([number, int(row)]) for row in at]
        later = rows.replaced(at, np.frombuffer(b"".join(records), np.uint8).reshape(-1, 2), added, freed)
        after = {**held, **dict(zip(at.tolist(), records, strict=True))}
        versions.append((later, {row: record for row, record in after.items() if row not in freed.tolist()}))
    random.shuffle(versions)  # type: ignore[attr-defined]
    for rows, held in versions:
        assert [rows.one(row) for row in held] == list(held.values())
        assert rows.take(np.array(list(held), np.int64)).tobytes() == b"".join(held.values())


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-3, 3), st.integers(0, 3)), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_versions_stand_side_by_side_while_their_table_moves(
    rounds: list[tuple[int, int, int]], random: st.DataObject
) -> None:
    """Each round grows past the next size at which rows move, and changes some of those that were there."""
    width = 64
    versions = [(SharedRows(width), np.empty((0, width), np.uint8))]
    for number, (base, beside, changed) in enumerate(rounds, 1):
        rows, held = versions[base % len(versions)]
        size = max(len(held), (MAPPED << number) // (2 * width) + beside)
        at = np.concatenate([np.arange(0, len(held), 1 + len(held) // (changed + 1)), np.arange(len(held), size)])
        records = np.full((len(at), width), number, np.uint8)
        records[:, :8] = at.astype("<i8").view(np.uint8).reshape(-1, 8)
        after = np.concatenate([held, np.empty((size - len(held), width), np.uint8)])
        after[at] = records
        versions.append((rows.replaced(at, records, size - len(held), NO_ROWS), after))
    random.shuffle(versions)  # type: ignore[attr-defined]
    for rows, held in versions:
        assert np.array_equal(rows.take(np.arange(len(held))), held)
