"""The planner of catch-up: who is asked for what, in which order, and what a liar can cost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip.catchup import Catchup, CatchupLimits
from gossip.replica import Head

SECOND = 1_000_000
PATIENT = CatchupLimits(timeout_us=2 * SECOND, backoff_us=SECOND)


def head(seq: int, mark: bytes = b"h") -> Head:
    return Head(seq, mark * 32)


def none(_: bytes) -> int:
    return 0


def test_small_gaps_come_first_and_three_are_under_way_at_once() -> None:
    catchup = Catchup(PATIENT)
    for lane, size in ((b"a", 900), (b"b", 5), (b"c", 70), (b"d", 1), (b"e", 3)):
        catchup.claim("one", lane, head(size))
    assert [want.lane for _, want in catchup.plan(0, none)] == [b"d", b"e", b"b"]
    assert catchup.plan(1, none) == []
    assert catchup.progress(none).outstanding == 3


def test_requests_are_spread_over_the_holders() -> None:
    catchup = Catchup(PATIENT)
    for lane in (b"a", b"b", b"c"):
        for peer in ("one", "two", "three"):
            catchup.claim(peer, lane, head(9))
    assert sorted(peer for peer, _ in catchup.plan(0, none)) == ["one", "three", "two"]


def test_a_peer_that_failed_gets_one_request_at_a_time() -> None:
    catchup = Catchup(PATIENT)
    for lane in (b"a", b"b", b"c", b"d"):
        catchup.claim("liar", lane, head(1))
    assert len(catchup.plan(0, none)) == 3
    assert len(catchup.plan(2 * SECOND, none)) == 1


def test_an_expired_request_is_not_answered_any_more_nor_by_another_peer() -> None:
    catchup = Catchup(PATIENT)
    catchup.claim("one", b"a", head(1))
    [(_, want)] = catchup.plan(0, none)
    assert catchup.answered("two", want.request) is None
    catchup.plan(2 * SECOND, none)
    assert catchup.answered("one", want.request) is None


def test_a_liar_cannot_keep_an_honest_gap_open() -> None:
    """The liar claims more of every lane, and of lanes that nobody has; it answers nothing."""
    catchup = Catchup(PATIENT)
    held = {bytes([lane]): 0 for lane in range(20)}
    for lane in held:
        catchup.claim("liar", lane, head(10**12, b"?"))
        catchup.claim("liar", b"ghost" + lane, head(1))
        catchup.claim("honest", lane, head(5))
    now_us = 0
    while any(count < 5 for count in held.values()) and now_us < 60 * SECOND:
        for peer, want in catchup.plan(now_us, lambda lane: held.get(lane, 0)):
            if peer == "honest":
                request = catchup.answered(peer, want.request)
                assert request is not None
                held[want.lane] = want.last
                catchup.served(request, now_us, progress=True)
        now_us += SECOND // 10
    assert set(held.values()) == {5}
    assert now_us < 30 * SECOND


def test_a_suspicion_is_asked_first_fetched_once_and_bounded_per_peer() -> None:
    catchup = Catchup(PATIENT)
    catchup.claim("one", b"a", head(1))
    catchup.suspect("one", b"z", head(7))
    [(_, want), _] = catchup.plan(0, none)
    assert (want.lane, want.first, want.last) == (b"z", 7, 7)
    request = catchup.answered("one", want.request)
    assert request is not None
    catchup.served(request, 0, progress=False)
    catchup.suspect("one", b"z", head(7))
    assert catchup.plan(1, none) == []
    for at in range(1_000):
        catchup.suspect("one", b"y", head(at))
    assert len(catchup._suspicions) == 64


def test_a_lying_suspicion_does_not_hold_up_the_gap_of_the_same_lane() -> None:
    catchup = Catchup(PATIENT)
    catchup.suspect("liar", b"a", head(1, b"?"))
    catchup.claim("honest", b"a", head(5))
    assert {peer for peer, _ in catchup.plan(0, none)} == {"liar", "honest"}


def test_remembered_lanes_are_bounded() -> None:
    catchup = Catchup(CatchupLimits(lanes=10))
    for lane in range(100):
        catchup.claim("one", lane.to_bytes(2, "big"), head(1))
    assert catchup.progress(none).lanes == 10


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("claim", "suspect", "drop", "answer", "refuse", "hold", "wait")),
            st.sampled_from(("one", "two", "three")),
            st.sampled_from((b"a", b"b", b"c", b"d", b"e")),
            st.integers(1, 30),
        ),
        max_size=60,
    )
)
def test_never_more_than_three_requests_and_never_two_for_one_gap(steps: list[tuple[str, str, bytes, int]]) -> None:
    catchup = Catchup(PATIENT)
    held: dict[bytes, int] = {}
    asked: dict[int, tuple[str, bytes]] = {}
    now_us = 0
    for what, peer, lane, number in steps:
        if what == "claim":
            catchup.claim(peer, lane, head(number))
        elif what == "suspect":
            catchup.suspect(peer, lane, head(number, b"?"))
        elif what == "drop":
            catchup.drop(peer)
        elif what == "hold":
            catchup.hold(peer, now_us + number * SECOND)
        elif what == "wait":
            now_us += number * SECOND // 10
        elif asked:
            request = catchup.answered(peer, min(asked))
            asked.pop(min(asked))
            if request is not None and what == "answer":
                held[request.lane] = max(held.get(request.lane, 0), request.last)
                catchup.served(request, now_us, progress=True)
            elif request is not None:
                catchup.refused(request, now_us)
        for to, want in catchup.plan(now_us, lambda lane: held.get(lane, 0)):
            asked[want.request] = (to, want.lane)
            assert want.first <= want.last
        under_way = list(catchup._requests.values())
        assert len(under_way) <= 3
        gaps = [request.lane for request in under_way if not request.suspicion]
        assert len(gaps) == len(set(gaps))
        wake_us = catchup.wake_us
        assert wake_us is None or wake_us > now_us
        if under_way:
            assert wake_us is not None, "nobody would notice that no answer comes"
