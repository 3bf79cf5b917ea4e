"""Whatever the order of arrival, what counts is the first statement of each id in canonical order."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.catalog import Place
from crdtledger.ledger.dedupe import TERMS, FillIndex, Spot

Statement = tuple[int, int]
"""An id, and what is said under it."""

statements = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=1, max_size=6)


class Told:
    """An index, and beside it which spots count by what the index says of each batch."""

    def __init__(self, batches: list[list[Statement]], places: list[Place]) -> None:
        self._batches = batches
        self.index = FillIndex(3, places, self._terms)
        self.spots: Counter[Spot] = Counter()
        self.folded: Counter[Statement] = Counter()

    def _terms(self, batch: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return np.array([[self._batches[batch][row][1]] * TERMS for row in rows.tolist()], np.int64).reshape(-1, TERMS)

    def take(self, batch: int) -> None:
        """One batch arrives. What only moves is not folded: it must say the same."""
        ids = np.array([id for id, _ in self._batches[batch]], np.uint64)
        taken = self.index.take(batch, (ids, ids), np.arange(len(ids)))
        for moved in taken.moved:
            for before, after in zip(moved.rows_before.tolist(), moved.rows.tolist(), strict=True):
                assert self._batches[moved.before][before] == self._batches[batch][after]
                self.spots[Spot(moved.before, before)] -= 1
                self.spots[Spot(batch, after)] += 1
        for row in taken.counted.tolist():
            self.spots[Spot(batch, row)] += 1
            self.folded[self._batches[batch][row]] += 1
        for spot in taken.withdrawn:
            self.spots[spot] -= 1
            self.folded[self._batches[spot.batch][spot.row]] -= 1


@given(st.lists(statements, min_size=1, max_size=4), st.data())
@settings(max_examples=400)
def test_the_first_in_canonical_order_counts_once_whatever_came_first(
    batches: list[list[Statement]], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(batches))))
    places = [Place(clock, b"lane", 1) for clock in order]
    told = Told(batches, places)
    for batch in data.draw(st.permutations(range(len(batches)))):
        told.take(batch)
    winners: dict[int, tuple[Place, int, Spot]] = {}
    said: dict[int, set[int]] = {}
    for batch, rows in enumerate(batches):
        for row, (id, terms) in enumerate(rows):
            entry = (places[batch], row, Spot(batch, row))
            winners[id] = min(winners.get(id, entry), entry)
            said.setdefault(id, set()).add(terms)
    assert +told.spots == Counter(spot for _, _, spot in winners.values())
    assert +told.folded == Counter(batches[spot.batch][spot.row] for _, _, spot in winners.values())
    assert not -told.spots
    assert not -told.folded
    assert sorted(map(len, told.index.variants.values())) == sorted(
        len(terms) for terms in said.values() if len(terms) > 1
    )
