"""Frontiers compared: equal digests mean equal frontiers, and lost or reordered heads never go unnoticed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip import heads, wire
from gossip.replica import Head

frontiers = st.dictionaries(
    st.binary(min_size=1, max_size=3),
    st.builds(Head, st.integers(0, 3), st.sampled_from([bytes(32), b"1" * 32])),
    max_size=5,
)
evidence = st.sets(st.sampled_from([bytes([n]) * 32 for n in range(3)]))


@given(frontiers, evidence, frontiers, evidence)
def test_digests_are_equal_exactly_when_frontiers_are(
    one: dict[bytes, Head], proofs: set[bytes], other: dict[bytes, Head], other_proofs: set[bytes]
) -> None:
    def held(frontier: dict[bytes, Head]) -> dict[bytes, Head]:
        return {lane: head for lane, head in frontier.items() if head.seq}

    same = held(one) == held(other) and proofs == other_proofs
    assert (heads.digest(one, proofs) == heads.digest(other, other_proofs)) == same


@given(st.lists(frontiers, min_size=2, max_size=5), st.data())
def test_a_picture_is_in_step_exactly_when_it_shows_the_frontier(
    history: list[dict[bytes, Head]], data: st.DataObject
) -> None:
    """Whatever was lost: a picture whose digest agrees is right, and a complete telling always makes it so."""
    picture = heads.Picture(lanes=100)
    before: dict[bytes, Head] = {}
    for step in history:
        now = {**before, **{lane: head for lane, head in step.items() if head.seq}}
        digest = heads.digest(now, ())
        [message] = heads.messages(digest, heads.changed(before, now), complete=False)
        if data.draw(st.booleans()):
            assert picture.told(message) == (picture.heads == now)
        before = now
    [all_of_it] = heads.messages(heads.digest(before, ()), before, complete=True)
    assert picture.told(all_of_it)
    assert picture.heads == before


def test_a_picture_is_bounded_whatever_a_peer_says() -> None:
    picture = heads.Picture(lanes=2)
    rows = tuple(wire.LaneHead(bytes([at + 1]), 1, bytes(32)) for at in range(5))
    assert not picture.told(wire.Heads(bytes(32), rows, complete=True))
    assert len(picture.heads) == 2


def test_a_complete_telling_ends_what_it_does_not_mention() -> None:
    picture = heads.Picture(lanes=10)
    for lane in (b"pruned", b"kept"):
        held = {lane: Head(1, bytes(32))}
        [message] = heads.messages(heads.digest(held, ()), held, complete=True)
        assert picture.told(message)
    assert set(picture.heads) == {b"kept"}


def test_a_frontier_too_large_for_one_frame_goes_in_several() -> None:
    lanes = {at.to_bytes(4, "big"): Head(1, bytes(32)) for at in range(wire.MAX_LANES + 1)}
    digest = heads.digest(lanes, ())
    told = heads.messages(digest, lanes, complete=True)
    assert len(told) == 2
    picture = heads.Picture(lanes=100_000)
    assert [picture.told(message) for message in told] == [False, True]
