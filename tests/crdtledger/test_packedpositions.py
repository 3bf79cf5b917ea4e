"""Positions as rows: a row differs where its position does, and columns say what it says, or that they do not."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.packedpositions import MAX_FILLS, PackedPositions, pack_figures
from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.sharedmap import Pair
from tests.crdtledger.test_settledpositions import PAIRS, POSITIONS, fits

COLUMNS = ("value_bought", "value_sold", "cost", "realised", "bought", "sold", "fees", "fills")
HELD = st.dictionaries(PAIRS, POSITIONS | st.none(), max_size=6)


@given(HELD)
def test_what_is_packed_comes_back_and_can_be_chosen_from(held: dict[Pair, SettledPosition | None]) -> None:
    packed = PackedPositions.of(held)
    assert packed.by_pair() == held
    assert packed.there.tolist() == [position is not None for position in held.values()]
    some = packed.chosen(np.arange(len(held))[::2])
    assert some.by_pair() == dict([*held.items()][::2])


@given(HELD)
def test_columns_say_all_of_a_position_or_that_they_do_not(held: dict[Pair, SettledPosition | None]) -> None:
    columns, whole = PackedPositions.of(held).figures
    for position, figures, said in zip(held.values(), columns.T.tolist(), whole.tolist(), strict=True):
        plain = [getattr(position or SettledPosition(), name) for name in COLUMNS]
        short = all(-(1 << 63) <= figure < 1 << 63 for figure in plain)
        assert said == (position is None or (fits(position) and short))
        assert figures == plain or not said


@given(HELD)
def test_columns_are_packed_as_their_positions_are(held: dict[Pair, SettledPosition | None]) -> None:
    packed = PackedPositions.of(held)
    columns, whole = packed.figures
    told = whole & (np.abs(columns[-1]) <= MAX_FILLS) & columns.any(axis=0)  # all zero: none at all
    assert pack_figures(columns[:, told]).tobytes() == packed.records[told].tobytes()
    nothing = pack_figures(np.zeros((8, 3), np.int64))
    assert (
        nothing.tobytes() == PackedPositions.of(dict.fromkeys([("a", "a"), ("a", "b"), ("b", "a")])).records.tobytes()
    )
