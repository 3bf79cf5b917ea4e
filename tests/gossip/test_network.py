"""A frame's fate can be ordered: so many are lost, so many arrive twice, and no others."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gossip.network import Faults, Network

counts = st.integers(0, 5)


@given(lost=counts, repeated=counts)
def test_exactly_the_next_frames_are_lost_and_those_after_them_repeated(lost: int, repeated: int) -> None:
    network = Network("ab", Faults(), Random(0))
    network.lose_next("a", "b", lost)
    network.repeat_next("a", "b", repeated)
    fates = [len(network.fate("a", "b", 0)) for _ in range(20)]
    assert fates == [0] * lost + [2] * repeated + [1] * (20 - lost - repeated)
    assert len(network.fate("b", "a", 0)) == 1, "the other way is another way"


def test_healing_forgets_what_was_still_to_be_lost() -> None:
    network = Network("ab", Faults(), Random(0))
    network.lose_next("a", "b", 1)
    network.repeat_next("a", "b", 1)
    network.heal()
    assert len(network.fate("a", "b", 0)) == 1
