"""Two engines, or one engine and a hand that plays its peer: what is taken from whom, and what is answered."""

from __future__ import annotations

from collections import deque
from typing import TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip import heads as frontiers
from gossip import wire
from gossip.catchup import CatchupLimits
from gossip.config import Config
from gossip.effects import Connected, Disconnected, Notify, Received, Send, TimerFired
from gossip.peers import PeerLimits
from gossip.protocol import CATCHUP_TIMER, HEADS_TIMER, AppReceived, GossipEngine, Output
from gossip.ranges import ServeLimits
from gossip.replica import BatchName, Head
from tests.gossip.toy import CLUSTER, SECOND, ToyReplica, chain, hash_of

M = TypeVar("M")
QUIET = PeerLimits(refusals_burst=1_000_000)


class Bench:
    """One engine called "us" with the peers "one" and "two", both played by the test."""

    def __init__(self, config: Config | None = None) -> None:
        self.replica = ToyReplica()
        self.engine = GossipEngine(config or Config(CLUSTER), self.replica, ["one", "two"], nonce=77)
        self.now_us = SECOND
        self.engine.start(self.now_us)

    def hold(self, raws: list[bytes]) -> None:
        for raw in raws:
            self.replica.admit(raw, "before")
        self.replica.all_synced()

    def connect(self, peer: str) -> list[Output]:
        return self.engine.step(Connected(peer), self.now_us)

    def hear(self, peer: str, message: wire.Message) -> list[Output]:
        return self.engine.step(Received(peer, wire.encode(message)), self.now_us)

    def hello(self, seen: int = 77, nonce: int = 5, version: int = 1, least: int = 1) -> wire.Hello:
        return wire.Hello(version, least, CLUSTER, 0, nonce, seen)

    def open(self, *peers: str) -> None:
        for peer in peers:
            self.connect(peer)
            self.hear(peer, self.hello())

    def fire(self, key: str, after_us: int = 0) -> list[Output]:
        self.now_us += after_us
        return self.engine.step(TimerFired(key), self.now_us)


def sent(outputs: list[Output], kind: type[M], peer: str | None = None) -> list[M]:
    found = [
        wire.decode(output.frame) for output in outputs if isinstance(output, Send) and peer in (None, output.peer)
    ]
    return [message for message in found if isinstance(message, kind)]


def notified(outputs: list[Output]) -> list[str]:
    return [output.topic for output in outputs if isinstance(output, Notify)]


def told(raws: list[bytes], lane: bytes = b"lane") -> wire.Heads:
    """The heads of somebody who holds ``raws``."""
    lanes = {lane: Head(len(raws), hash_of(raws[-1]))}
    return frontiers.messages(frontiers.digest(lanes, ()), lanes, complete=True)[0]


# Hello ------------------------------------------------------------------------------------------------------


def test_nothing_is_taken_from_a_peer_that_has_not_greeted() -> None:
    bench = Bench()
    bench.connect("one")
    outputs = bench.hear("one", wire.Push(tuple(chain(b"lane", 1))))
    assert bench.replica.lanes == {}
    assert bench.engine.peers["one"].early == 1
    assert not sent(outputs, wire.Heads)


def test_nothing_is_sent_but_a_hello_to_a_peer_that_has_not_greeted() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 1))
    assert [type(m) for m in sent(bench.connect("one"), object)] == [wire.Hello]
    assert not sent(bench.engine.recorded([(BatchName(b"lane", 1, b""), b"raw")], 1), wire.Push)
    assert [type(m) for m in sent(bench.fire(HEADS_TIMER), object)] == [wire.Hello]


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (wire.Hello(1, 1, b"x" * 32, 0, 5), "another cluster"),
        (wire.Hello(9, 2, CLUSTER, 0, 5), "no common version"),
    ],
)
def test_another_cluster_or_version_is_refused_counted_and_told(hello: wire.Hello, reason: str) -> None:
    bench = Bench()
    bench.connect("one")
    outputs = bench.hear("one", hello)
    [refusal] = sent(outputs, wire.Refused)
    assert refusal.request == 0
    assert reason in refusal.reason
    assert notified(outputs) == ["gossip.hello_refused"]
    bench.hear("one", wire.Push(tuple(chain(b"lane", 1))))
    status = bench.engine.peers["one"]
    assert (status.greeted, status.refusals, bench.replica.lanes) == (False, 1, {})
    assert reason in status.refusal


def test_a_newer_version_that_still_speaks_ours_is_welcome() -> None:
    bench = Bench()
    bench.connect("one")
    bench.hear("one", bench.hello(version=9))
    assert (bench.engine.peers["one"].greeted, bench.engine.peers["one"].version) == (True, 1)


def test_hellos_go_on_until_the_peer_says_that_it_holds_ours() -> None:
    bench = Bench()
    bench.connect("one")
    bench.hear("one", bench.hello(seen=0))
    assert sent(bench.fire(HEADS_TIMER), wire.Hello)
    bench.hear("one", bench.hello(seen=77))
    assert not sent(bench.fire(HEADS_TIMER), wire.Hello)


def test_a_new_incarnation_of_a_peer_is_told_everything_again() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 2))
    bench.open("one")
    bench.now_us += SECOND
    outputs = bench.hear("one", bench.hello(nonce=6))
    [heads] = sent(outputs, wire.Heads)
    assert heads.complete
    assert [row.seq for row in heads.lanes] == [2]


def test_a_name_that_is_no_peer_is_counted_and_ignored() -> None:
    bench = Bench()
    assert bench.hear("three", bench.hello()) == []
    assert bench.connect("three") == []
    assert bench.engine.strangers == 1


# Push and heads ---------------------------------------------------------------------------------------------


def test_what_is_recorded_goes_to_every_open_peer_after_it_is_durable() -> None:
    bench = Bench()
    bench.open("one", "two")
    raws = chain(b"lane", 3)
    named = [(BatchName(b"lane", at, hash_of(raw)), raw) for at, raw in enumerate(raws, start=1)]
    outputs = bench.engine.recorded(named, after=42)
    assert [(output.peer, output.after) for output in outputs if isinstance(output, Send)] == [("one", 42), ("two", 42)]
    assert [push.batches for push in sent(outputs, wire.Push)] == [tuple(raws)] * 2


def test_large_pushes_are_cut_into_frames() -> None:
    bench = Bench()
    bench.open("one")
    raws = chain(b"lane", 20, size=300_000)
    outputs = bench.engine.recorded([(BatchName(b"lane", 1, b""), raw) for raw in raws], 1)
    pushes = sent(outputs, wire.Push)
    assert len(pushes) == 2
    assert [raw for push in pushes for raw in push.batches] == raws


def test_heads_tell_only_what_is_durable_and_only_what_changed() -> None:
    bench = Bench()
    raws = chain(b"lane", 3)
    bench.hold(raws[:2])
    bench.open("one")
    bench.replica.admit(raws[2], "one")
    [heads] = sent(bench.fire(HEADS_TIMER), wire.Heads)
    assert [row.seq for row in heads.lanes] == [2]
    [heads] = sent(bench.fire(HEADS_TIMER), wire.Heads)
    assert heads.lanes == ()
    bench.replica.all_synced()
    [heads] = sent(bench.fire(HEADS_TIMER), wire.Heads)
    assert [row.seq for row in heads.lanes] == [3]
    assert not heads.complete


def test_a_peer_that_notices_a_gap_in_what_it_was_told_gets_everything() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 2))
    bench.open("one")
    bench.now_us += SECOND
    nothing = frontiers.digest({}, ())
    [heads] = sent(bench.hear("one", wire.Heads(nothing, asks=True)), wire.Heads)
    assert (heads.complete, [row.seq for row in heads.lanes]) == (True, [2])


def test_asking_for_everything_all_the_time_is_answered_once_per_round() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 2))
    bench.open("one")
    answers = [bench.hear("one", wire.Heads(bytes(32), asks=True)) for _ in range(50)]
    assert sum(heads.complete for outputs in answers for heads in sent(outputs, wire.Heads)) <= 1


def test_a_flood_of_incarnations_is_told_everything_once_per_round() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 2))
    bench.open("one")
    flood = [output for nonce in range(6, 50) for output in bench.hear("one", bench.hello(nonce=nonce))]
    assert not sent(flood, wire.Heads)
    [heads] = sent(bench.fire(HEADS_TIMER), wire.Heads)
    assert heads.complete


def test_a_picture_out_of_step_asks_once_per_round() -> None:
    bench = Bench()
    bench.open("one")
    asked = [sent(bench.hear("one", wire.Heads(b"?" * 32)), wire.Heads) for _ in range(5)]
    assert [len(messages) for messages in asked] == [1, 0, 0, 0, 0]
    assert asked[0][0].asks
    bench.fire(HEADS_TIMER)
    assert sent(bench.hear("one", wire.Heads(b"?" * 32)), wire.Heads)


# Repair -----------------------------------------------------------------------------------------------------


def test_a_peer_that_is_ahead_is_asked_for_the_gap_and_the_gap_is_filled() -> None:
    bench = Bench()
    raws = chain(b"lane", 5)
    bench.hold(raws[:2])
    bench.open("one")
    [want] = sent(bench.hear("one", told(raws)), wire.Want)
    assert (want.lane, want.first, want.last, want.head) == (b"lane", 3, 5, hash_of(raws[4]))
    bench.hear("one", wire.Range(want.request, b"lane", 3, tuple(raws[2:]), False))
    assert bench.replica.lanes[b"lane"] == raws
    assert bench.engine.progress.target == 0


def test_a_partial_answer_is_continued_where_it_ended() -> None:
    bench = Bench()
    raws = chain(b"lane", 5)
    bench.open("one")
    [want] = sent(bench.hear("one", told(raws)), wire.Want)
    assert (bench.engine.progress.have, bench.engine.progress.target) == (0, 5)
    [want] = sent(bench.hear("one", wire.Range(want.request, b"lane", 1, tuple(raws[:3]), True)), wire.Want)
    assert (want.first, want.last) == (4, 5)
    assert (bench.engine.progress.have, bench.engine.progress.target) == (3, 5)


def test_a_push_that_waits_for_others_makes_us_ask_for_them() -> None:
    bench = Bench()
    raws = chain(b"lane", 5)
    bench.open("one")
    [want] = sent(bench.hear("one", wire.Push((raws[4],))), wire.Want)
    assert (want.first, want.last, want.head) == (1, 4, hash_of(raws[3]))


def test_no_answer_makes_us_ask_another_holder() -> None:
    bench = Bench(Config(CLUSTER, catchup=CatchupLimits(timeout_us=1_000)))
    raws = chain(b"lane", 2)
    bench.open("one", "two")
    assert sent(bench.hear("one", told(raws)), wire.Want, "one")
    assert not sent(bench.hear("two", told(raws)), wire.Want)
    assert sent(bench.fire(CATCHUP_TIMER, 1_000), wire.Want, "two")


def test_a_late_answer_is_still_used() -> None:
    bench = Bench(Config(CLUSTER, catchup=CatchupLimits(timeout_us=1_000)))
    raws = chain(b"lane", 2)
    bench.open("one")
    [want] = sent(bench.hear("one", told(raws)), wire.Want)
    bench.fire(CATCHUP_TIMER, 5_000)
    bench.hear("one", wire.Range(want.request, b"lane", 1, tuple(raws), False))
    assert bench.replica.lanes[b"lane"] == raws
    assert bench.engine.peers["one"].late == 1


def test_a_busy_peer_is_asked_again_when_it_said() -> None:
    bench = Bench()
    raws = chain(b"lane", 2)
    bench.open("one")
    [want] = sent(bench.hear("one", told(raws)), wire.Want)
    assert not sent(bench.hear("one", wire.Busy(want.request, 50)), wire.Want)
    assert not sent(bench.fire(CATCHUP_TIMER, 49_000), wire.Want)
    assert sent(bench.fire(CATCHUP_TIMER, 1_000), wire.Want)


def test_a_refusing_peer_is_asked_more_and_more_rarely() -> None:
    bench = Bench()
    bench.open("one")
    [want] = sent(bench.hear("one", told(chain(b"lane", 2))), wire.Want)
    waits = []
    for _ in range(4):
        bench.hear("one", wire.Refused(want.request, "not held"))
        before = bench.now_us
        while not (again := sent(bench.fire(CATCHUP_TIMER, 100_000), wire.Want)):
            pass
        [want] = again
        waits.append(bench.now_us - before)
    assert waits == [200_000, 400_000, 800_000, 1_600_000]


def test_a_claim_dies_with_its_link_and_comes_back_with_it() -> None:
    bench = Bench()
    raws = chain(b"lane", 2)
    bench.open("one")
    bench.hear("one", told(raws))
    bench.engine.step(Disconnected("one"), bench.now_us)
    assert bench.engine.progress.target == 0
    assert sent(bench.connect("one"), wire.Want)


# Forks ------------------------------------------------------------------------------------------------------


def test_another_hash_at_the_same_height_is_fetched_and_becomes_evidence_for_everybody() -> None:
    bench = Bench()
    ours, theirs = chain(b"lane", 3), chain(b"lane", 3, salt=b"forked")
    bench.hold(ours)
    bench.open("one", "two")
    [want] = sent(bench.hear("one", told(theirs)), wire.Want)
    assert (want.first, want.last, want.head) == (3, 3, hash_of(theirs[2]))
    outputs = bench.hear("one", wire.Range(want.request, b"lane", 3, (theirs[2],), False))
    assert "gossip.forked" in notified(outputs)
    for peer in ("one", "two"):
        [evidence] = sent(outputs, wire.Evidence, peer)
        assert evidence.pieces == tuple(bench.replica.proofs.values())
    assert not sent(bench.hear("one", told(theirs)), wire.Want), "one look is enough"


def test_the_same_fork_shown_again_is_not_relayed_again() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 1))
    bench.open("one", "two")
    forked = wire.Push(tuple(chain(b"lane", 1, salt=b"forked")))
    assert sent(bench.hear("one", forked), wire.Evidence)
    assert not sent(bench.hear("one", forked), wire.Evidence)
    assert not sent(bench.hear("two", forked), wire.Evidence)


def test_the_other_branch_is_noticed_below_our_head_too() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 5))
    bench.open("one")
    [want] = sent(bench.hear("one", told(chain(b"lane", 3, salt=b"forked"))), wire.Want)
    assert (want.first, want.last) == (3, 3)


def test_evidence_is_relayed_once_with_the_fields_of_a_newer_version() -> None:
    bench = Bench()
    bench.open("one", "two")
    piece = msgspec.msgpack.encode(sorted([chain(b"lane", 1)[0], chain(b"lane", 1, salt=b"x")[0]]))
    newer = wire.Evidence((piece,), (msgspec.Raw(b"\xa5newer"),))
    outputs = bench.hear("one", newer)
    assert sent(outputs, wire.Evidence, "two") == [newer]
    assert not sent(bench.hear("two", newer), wire.Evidence)
    assert not sent(bench.hear("one", newer), wire.Evidence)


def test_evidence_is_sent_again_more_and_more_rarely_until_the_peer_reports_it() -> None:
    bench = Bench()
    piece = msgspec.msgpack.encode(sorted([chain(b"lane", 1)[0], chain(b"lane", 1, salt=b"x")[0]]))
    bench.replica.proofs[hash_of(piece)] = piece
    bench.open("one")
    rounds = [at for at in range(20) if sent(bench.fire(HEADS_TIMER), wire.Evidence)]
    assert rounds == [0, 2, 6, 14]
    digest = frontiers.digest({}, bench.replica.proofs)
    bench.hear("one", wire.Heads(digest, complete=True, evidence=tuple(bench.replica.proofs)))
    assert not any(sent(bench.fire(HEADS_TIMER), wire.Evidence) for _ in range(100))


# Bounds -----------------------------------------------------------------------------------------------------


def test_what_is_refused_is_counted_and_named() -> None:
    bench = Bench()
    bench.open("one")
    outputs = bench.engine.step(Received("one", b"junk"), bench.now_us)
    outputs += bench.hear("one", wire.Push((b"junk",)))
    outputs += bench.hear("one", wire.Evidence((b"junk",)))
    assert notified(outputs) == ["gossip.refused"] * 3
    assert bench.engine.peers["one"].refusals == 3


def test_a_peer_that_keeps_sending_junk_is_muted_for_a_while_and_heard_again() -> None:
    bench = Bench(Config(CLUSTER, peer=PeerLimits(refusals_burst=3, refusals_per_s=1, mute_us=SECOND)))
    bench.open("one", "two")
    outputs = [output for _ in range(10) for output in bench.engine.step(Received("one", b"junk"), bench.now_us)]
    assert notified(outputs) == ["gossip.refused"] * 3 + ["gossip.muted"]
    raws = chain(b"lane", 1)
    bench.hear("one", wire.Push(tuple(raws)))
    assert bench.replica.lanes == {}
    bench.now_us += SECOND
    bench.hear("one", wire.Push(tuple(raws)))
    assert bench.replica.lanes == {b"lane": raws}


def test_one_muted_peer_does_not_silence_another() -> None:
    bench = Bench(Config(CLUSTER, peer=PeerLimits(refusals_burst=1)))
    bench.open("one", "two")
    for _ in range(5):
        bench.engine.step(Received("one", b"junk"), bench.now_us)
    bench.hear("two", wire.Push(tuple(chain(b"lane", 1))))
    assert bench.replica.lanes


def test_a_peer_may_cost_so_many_batches_a_second_and_no_more() -> None:
    bench = Bench(Config(CLUSTER, peer=PeerLimits(batches_per_s=10, batches_burst=20)))
    bench.open("one")
    raws = chain(b"lane", 100)
    bench.hear("one", wire.Push(tuple(raws)))
    assert len(bench.replica.lanes[b"lane"]) == 20
    assert bench.engine.peers["one"].over_rate == 1
    assert not sent(bench.hear("one", told(raws)), wire.Want), "there is no room for what it would send"
    assert sent(bench.fire(CATCHUP_TIMER, SECOND), wire.Want)


def test_a_peer_that_asks_faster_than_it_is_served_is_told_to_wait() -> None:
    bench = Bench(Config(CLUSTER, serve=ServeLimits(slots=3, bytes_per_s=1_000)))
    raws = chain(b"lane", 2, size=1_000)
    bench.hold(raws)
    bench.open("one", "two")
    want = wire.Want(1, b"lane", 1, 2, b"", 1)
    answers = [sent(bench.hear("one", want), object)[-1] for _ in range(4)]
    assert [type(answer) for answer in answers] == [wire.Range] * 3 + [wire.Busy]
    assert isinstance(sent(bench.hear("two", want), object)[-1], wire.Range)
    busy = answers[-1]
    assert isinstance(busy, wire.Busy)
    bench.now_us += busy.retry_after_ms * 1000
    assert isinstance(sent(bench.hear("one", want), object)[-1], wire.Range)


@pytest.mark.parametrize(
    ("want", "reason"),
    [
        (wire.Want(1, b"nobody", 1, 2, b"", 1_000), "not held"),
        (wire.Want(1, b"lane", 3, 9, b"", 1_000), "not held"),
        (wire.Want(1, b"lane", 1, 2, b"x" * 32, 1_000), "another branch"),
        (wire.Want(1, b"lane", 2, 1, b"", 1_000), "empty range"),
    ],
)
def test_a_range_that_cannot_be_served_is_refused_with_the_reason(want: wire.Want, reason: str) -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 2))
    bench.open("one")
    [refused] = sent(bench.hear("one", want), wire.Refused)
    assert reason in refused.reason


def test_a_range_is_served_in_pieces_of_what_was_asked_for() -> None:
    bench = Bench()
    raws = chain(b"lane", 10, size=100)
    bench.hold(raws)
    bench.open("one")
    [answer] = sent(bench.hear("one", wire.Want(9, b"lane", 2, 10, hash_of(raws[9]), 400)), wire.Range)
    assert (answer.request, answer.first, answer.more) == (9, 2, True)
    assert list(answer.batches) == raws[1 : 1 + len(answer.batches)]
    assert sum(map(len, answer.batches)) <= 400


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("one", "two", "three")), st.binary(max_size=80)), max_size=20), st.booleans()
)
def test_no_frame_raises_or_changes_what_is_held(frames: list[tuple[str, bytes]], greeted: bool) -> None:
    bench = Bench(Config(CLUSTER, peer=QUIET))
    bench.hold(chain(b"lane", 2))
    if greeted:
        bench.open("one", "two")
    for peer, frame in frames:
        bench.engine.step(Received(peer, frame), bench.now_us)
        bench.engine.step(Received(peer, bytes([0x93, len(frame) % 10]) + frame), bench.now_us)
    assert bench.replica.lanes == {b"lane": chain(b"lane", 2)}


# The owner's own traffic ------------------------------------------------------------------------------------


def test_the_owner_s_messages_are_handed_up_and_sent() -> None:
    bench = Bench()
    assert bench.engine.send_app("one", "rights", b"?") == []
    bench.open("one")
    assert AppReceived("one", "rights", b"10 please") in bench.hear("one", wire.App("rights", b"10 please"))
    [output] = bench.engine.send_app("one", "rights", b"here", after=9)
    assert isinstance(output, Send)
    assert (output.peer, output.after, wire.decode(output.frame)) == ("one", 9, wire.App("rights", b"here"))


def test_the_status_says_who_lags_behind_whom() -> None:
    bench = Bench()
    bench.hold(chain(b"lane", 5))
    bench.open("one")
    bench.hear("one", told(chain(b"lane", 3)))
    bench.hear("one", told(chain(b"other", 2), b"other"))
    status = bench.engine.peers["one"]
    assert (status.connected, status.greeted, status.lag, status.ahead) == (True, True, 5, 2)
    assert status.bytes_in > 0
    assert status.bytes_out > 0
    assert status.last_heard_us == bench.now_us


# Two engines ------------------------------------------------------------------------------------------------


def test_two_engines_fill_each_other_s_gaps_without_a_timer() -> None:
    replicas = {"left": ToyReplica(), "right": ToyReplica()}
    engines = {
        "left": GossipEngine(Config(CLUSTER), replicas["left"], ["right"], 1),
        "right": GossipEngine(Config(CLUSTER), replicas["right"], ["left"], 2),
    }
    for name, replica in replicas.items():
        for raw in chain(name.encode(), 500, size=5_000):
            replica.admit(raw, "own")
        replica.all_synced()
    queue: deque[tuple[str, Output]] = deque()
    for name, engine in engines.items():
        queue += [(name, output) for output in engine.step(Connected("right" if name == "left" else "left"), 0)]
    now_us = 0
    while queue:
        name, output = queue.popleft()
        if isinstance(output, Send):
            now_us += 50_000
            queue += [(output.peer, made) for made in engines[output.peer].step(Received(name, output.frame), now_us)]
    assert replicas["left"].lanes == replicas["right"].lanes
