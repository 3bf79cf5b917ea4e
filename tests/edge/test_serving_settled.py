"""Ranges of settled batches come from the journal once no memory holds them, on the branch that was settled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.adapter import GossipReplica
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.facts import Account
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.retention import MERGED_BYTES, Retention
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SettledLane
from crdtledger.ledger.shelf import Shelf
from tests.crdtledger.worlds import Pen, genesis


@given(length=st.integers(1, 12), data=st.data())
def test_of_two_branches_the_journal_holds_the_settled_one_is_served(length: int, data: st.DataObject) -> None:
    founded = genesis()
    pen = Pen(founded, 0)
    settled: list[Batch] = []
    journal: list[Batch] = []
    for number in range(length):
        twin = pen.copy()
        settled.append(pen.write(Account(name=f"A{number}")))
        journal.append(settled[-1])
        if data.draw(st.booleans()):
            journal.append(twin.write(Account(name=f"B{number}")))
    journal.sort(key=lambda one: (one.seq, one.hash))
    lane = pen.lane.key
    state = SettledState.empty(founded)
    state = SettledState(
        cluster=founded.hash,
        lanes={lane: SettledLane(length, settled[-1].hash)},
        fills=state.fills,
        busts=state.busts,
        shared=state.shared,
    )

    def journaled(wanted: bytes, first: int, last: int, max_bytes: int) -> list[bytes]:
        assert wanted == lane
        return [one.raw for one in journal if first <= one.seq <= last]

    replica = Replica(founded, documents=False, state=state, base=(1, b"1" * 32), shelf=Shelf(0))
    gossiped = GossipReplica(replica, journaled)
    gossiped.replayed()
    first = data.draw(st.integers(1, length))
    last = data.draw(st.integers(first, length + 3))
    served = gossiped.read(lane, first, last, 1 << 20)
    expected = [one.raw for one in settled[first - 1 : last]]
    assert served == expected[: len(served)], "never a batch of the other branch"
    if last >= length or not any(one.seq == last and one not in settled for one in journal):
        assert served == expected
    assert not GossipReplica(replica).read(lane, first, last, 1 << 20), "without a journal there is nothing to serve"


@given(sizes=st.lists(st.integers(0, 3 * MERGED_BYTES), max_size=20), most=st.integers(1, 8 * MERGED_BYTES))
def test_the_journal_keeps_what_its_bytes_allow_and_always_the_newest(sizes: list[int], most: int) -> None:
    retention = Retention(most)
    lane = b"lane"
    for seq, size in enumerate(sizes, 1):
        retention.settled({lane: seq}, size)
    floor = retention.floor(lane)
    assert floor < max(len(sizes), 1), "the newest height stays"
    kept = sum(sizes[floor:])
    assert kept <= max(most, MERGED_BYTES + max(sizes, default=0)), "more than that would never end"
    if sum(sizes) <= most:
        assert floor == 0, "nothing goes before it has to"
