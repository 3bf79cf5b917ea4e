"""Settled positions in rows: every version says for ever what a dict of its own would, however large its figures are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.packedpositions import ROW_BYTES
from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.settledpositions import CHUNK, SettledPositions
from crdtledger.ledger.sharedmap import Pair

ACCOUNTS, INSTRUMENTS = ["a", "b", "ab", ""], ["a", "b", "ba"]
PAIRS = st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(INSTRUMENTS))
AMOUNTS = st.integers(-9, 9) | st.builds(
    lambda bits, sign, beside: sign * (1 << bits) + beside,
    st.sampled_from([30, 31, 32, 62, 63, 64, 65, 78, 79, 80, 200]),
    st.sampled_from([1, -1]),
    st.integers(-2, 2),
)
"""Small ones, and those beside which some figure's room ends."""
FIGURES = ("bought", "sold", "value_bought", "value_sold", "fees", "fills", "cost", "realised")
POSITIONS = st.builds(
    SettledPosition,
    other_fees=st.sampled_from([(), (), (("BTC", 5),), (("BTC", 1 << 70), ("USDT", -1))]),
    **dict.fromkeys(FIGURES, AMOUNTS),
)
CHANGES = st.dictionaries(PAIRS, POSITIONS | st.none(), max_size=5)

Plain = dict[Pair, SettledPosition]


def says(version: SettledPositions, plain: Plain) -> None:
    """``version`` is ``plain``, however one looks at it."""
    everything = [(account, instrument) for account in [*ACCOUNTS, "?"] for instrument in [*INSTRUMENTS, "?"]]
    assert version == plain
    assert len(version) == len(plain)
    assert len(version._beside) == sum(not fits(position) for position in plain.values())
    assert sorted(version) == sorted(plain)
    assert sorted(version.items()) == sorted(plain.items())
    assert version.found(everything) == [plain.get(at) for at in everything]
    for account in [*ACCOUNTS, "?"]:
        assert sorted(version.under(account)) == sorted(second for first, second in plain if first == account)
    for at in everything:
        assert version.get(at) == plain.get(at)
        assert (at in version) == (at in plain)


def fits(position: SettledPosition) -> bool:
    """Whether a row has room for all of it."""
    values = (position.value_bought, position.value_sold, position.cost, position.realised)
    sizes = (position.bought, position.sold, position.fees)
    return (
        not position.other_fees
        and all(-(1 << 79) <= value < 1 << 79 for value in values)
        and all(-(1 << 63) <= size < 1 << 63 for size in sizes)
        and 1 - (1 << 31) < position.fills < 1 << 31
    )


def changed(plain: Plain, changes: dict[Pair, SettledPosition | None]) -> Plain:
    return {at: position for at, position in {**plain, **changes}.items() if position is not None}


@given(
    st.dictionaries(PAIRS, POSITIONS), st.lists(st.tuples(st.integers(0, 9), CHANGES), max_size=8), st.integers(0, 9)
)
def test_every_version_says_for_ever_what_a_dict_of_its_own_would(
    first: Plain, story: list[tuple[int, dict[Pair, SettledPosition | None]]], salt: int
) -> None:
    versions = [(SettledPositions.of(first.items(), salt), first)]
    for which, changes in story:
        version, plain = versions[which % len(versions)]
        versions.append((version.replaced(changes), changed(plain, changes)))
        for one in versions:
            says(*one)
        everything = [(account, instrument) for account in [*ACCOUNTS, "?"] for instrument in [*INSTRUMENTS, "?"]]
        was, now = versions[-1][0].packed_since(version, everything)
        assert was.opened() == [plain.get(at) for at in everything]
        assert now.opened() == [versions[-1][1].get(at) for at in everything]


@given(POSITIONS)
def test_a_position_comes_back_as_it_was(position: SettledPosition) -> None:
    (back,) = SettledPositions.of([(("a", "b"), position)]).found([("a", "b")])
    assert back == position
    assert all(type(getattr(back, name)) is int for name in FIGURES)


@pytest.mark.parametrize("entries", [CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_many_are_entered_and_told_chunk_by_chunk(entries: int) -> None:
    plain = {(f"A{number % 7}", f"I{number}"): SettledPosition(bought=number) for number in range(entries)}
    late, wide = ("A0", "I0"), ("A1", "I1")
    plain[late] = SettledPosition(bought=1 << 70)  # each is told twice, and the last time counts
    held = SettledPositions.of([*plain.items(), (late, SettledPosition(sold=1)), (wide, SettledPosition(sold=1 << 70))])
    plain |= {late: SettledPosition(sold=1), wide: SettledPosition(sold=1 << 70)}
    assert list(held._beside.values()) == [plain[wide]]
    assert dict(held.items()) == plain
    assert set(held) == plain.keys()
    assert len(held.under("A3")) == sum(account == "A3" for account, _ in plain)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="b"):
        SettledPositions.of([(("a", "a"), SettledPosition())])["a", "b"]


def test_an_update_touches_what_changes_not_what_is_held() -> None:
    plain: dict[Any, Any] = {("a", str(number)): SettledPosition(bought=number) for number in range(1_000)}
    held = SettledPositions.of(plain.items())
    after = held.replaced({("a", "7"): SettledPosition(bought=8)})
    assert (held["a", "7"].bought, after["a", "7"].bought) == (7, 8)
    assert after._pairs is held._pairs
    assert held._rows._table is None  # there is one table for both
    assert after._rows._table is not None


def test_what_comes_to_none_stands_by_itself() -> None:
    none = SettledPositions()
    one, other = (none.replaced({("a", name): SettledPosition()}) for name in "xy")
    assert none._rows._table is not None  # which is everybody's: nothing is kept for its sake
    assert one._pairs is not other._pairs


def test_a_position_that_fits_is_its_row_alone() -> None:
    most = (1 << 79) - 1
    wide = SettledPosition(bought=-(1 << 63), value_bought=most, cost=-most - 1, realised=most, fills=(1 << 31) - 1)
    held = SettledPositions.of([(("a", "b"), wide)])
    assert not held._beside
    assert len(held._rows.one(0)) == ROW_BYTES
    assert held["a", "b"] == wide
