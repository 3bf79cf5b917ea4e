"""The bare replica keeps what gossip asks of a replica: durable heads only, lanes without gaps, and never an exception."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip import BareReplica, Status

LANE = b"a"


def written(count: int) -> list[bytes]:
    replica = BareReplica()
    return [replica.write(LANE, b"%d" % at).raw for at in range(count)]


@given(st.permutations(range(5)))
def test_only_what_continues_its_lane_is_taken_in_and_only_what_is_durable_is_told(order: list[int]) -> None:
    raws, replica, due = written(5), BareReplica(), 0
    for at in order:
        status = replica.admit(raws[at], "b").status
        assert status is (Status.APPLIED if at == due else Status.PENDING)
        due += status is Status.APPLIED
    assert replica.admitted(LANE) == due
    assert replica.heads() == {}
    assert list(replica.read(LANE, 1, 5, 1_000)) == []
    replica.synced(replica.fresh)
    assert replica.heads()[LANE].seq == due
    assert list(replica.read(LANE, 1, 5, 1_000)) == raws[:due]


def test_another_batch_in_the_same_place_and_one_that_continues_another_are_refused() -> None:
    replica, (first, second) = BareReplica(), written(2)
    replica.write(LANE, b"mine")
    assert replica.admit(first, "b").status is Status.REJECTED
    assert replica.admit(second, "b").status is Status.REJECTED
    assert replica.admit(replica.fresh[0].raw, "b").status is Status.DUPLICATE


@given(st.binary(max_size=60))
def test_no_bytes_raise(raw: bytes) -> None:
    assert BareReplica().admit(raw, "b").status in (Status.REJECTED, Status.PENDING)
