"""Versions of shared mappings: each says for ever what a dict of its own would, whichever is asked, and whichever is changed next."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.sharedmap import PairMap, SharedMap

NAMES = st.sampled_from(["a", "b", "ab"])
PAIRS = st.tuples(NAMES, NAMES)
VALUES = st.integers(0, 2)


def says(version: SharedMap[Any, int], plain: dict[Any, int]) -> None:
    """``version`` is ``plain``, however one looks at it."""
    assert version == plain
    assert len(version) == len(plain)
    assert sorted(version) == sorted(plain)
    assert dict(version.items()) == plain
    for one in ("a", "b", "ab"):
        for other in ("a", "b", "ab"):
            assert version.get((one, other)) == plain.get((one, other))
            assert version.get((one, other), -1) == plain.get((one, other), -1)
            assert ((one, other) in version) == ((one, other) in plain)
        if isinstance(version, PairMap):
            assert sorted(version.under(one)) == sorted(second for first, second in plain if first == one)


@pytest.mark.parametrize("kind", [SharedMap, PairMap])
@given(
    st.dictionaries(PAIRS, VALUES),
    st.lists(st.tuples(st.integers(0, 9), st.dictionaries(PAIRS, VALUES | st.none())), max_size=8),
)
def test_every_version_says_for_ever_what_a_dict_of_its_own_would(
    kind: type[SharedMap[Any, int]], first: dict[Any, int], story: list[tuple[int, dict[Any, int | None]]]
) -> None:
    versions = [(kind(first), first)]
    for which, changes in story:
        version, plain = versions[which % len(versions)]
        merged = {**plain, **changes}
        after = {key: value for key, value in merged.items() if value is not None}
        versions.append((version.replaced(changes), after))
        for one in versions:
            says(*one)


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(KeyError, match="a"):
        PairMap({("b", "b"): 1})["a", "b"]


def test_an_update_touches_what_changes_not_what_is_held() -> None:
    held = PairMap({("a", str(number)): number for number in range(1_000)})
    after = held.replaced({("a", "7"): 8})
    assert (held["a", "7"], after["a", "7"]) == (7, 8)
    assert after._table is not None
    assert held._otherwise == {("a", "7"): 7}
    assert held._table is None  # there is one table for both
