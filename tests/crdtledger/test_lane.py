"""A lane's document is a function of its batches: the same bytes at every replica, however they came to be there."""

from __future__ import annotations

import random

import pycrdt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InvalidBatch
from crdtledger.ledger import lane as lanes
from crdtledger.ledger.facts import Account
from crdtledger.ledger.lane import LaneDocument, client_id, read_dump, rebuild
from crdtledger.ledger.replica import Applied, Replica
from crdtledger.ledger.yjs import CLIENT_ID_BITS
from tests.crdtledger.worlds import Pen, documents, genesis

LANE = bytes(range(22))
elements = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=30)


@given(elements, st.data())
def test_the_dump_does_not_show_how_appends_were_grouped(raw: list[bytes], data: st.DataObject) -> None:
    document = LaneDocument(LANE)
    rest = list(raw)
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        document.append(rest[:size])
        rest = rest[size:]
        document.dump()
    assert document.dump() == rebuild(LANE, raw).dump()
    assert document.elements() == raw == read_dump(document.dump())
    assert len(document) == len(raw)


@given(elements, st.binary(max_size=22).map(lambda end: LANE[: 22 - len(end)] + end))
def test_each_lane_has_its_own_client(raw: list[bytes], other: bytes) -> None:
    assert 0 < client_id(other) < 1 << CLIENT_ID_BITS
    assert (client_id(other) == client_id(LANE)) == (other == LANE)
    assert (rebuild(other, raw).dump() == rebuild(LANE, raw).dump()) == (other == LANE)


def test_more_appends_than_one_transaction_takes_leave_the_same_bytes() -> None:
    raw = [number.to_bytes(4, "big") for number in range(2 * lanes.MAX_APPENDS + 7)]
    single = LaneDocument(LANE)
    for one in raw:
        single.append([one])
    assert rebuild(LANE, raw).dump() == single.dump()


@settings(max_examples=25)
@given(st.integers(2, 4), st.integers(1, 25), st.integers(0, 1 << 30))
def test_any_arrival_above_yrs_gives_the_same_documents(nodes: int, count: int, seed: int) -> None:
    """Per-lane order is restored above yrs, which loses data when updates arrive out of order (y-crdt 582, 628, 632)."""
    founded = genesis(nodes)
    batches = [
        pen.write(Account(name=f"A{number}"))
        for pen in (Pen(founded, n) for n in range(nodes))
        for number in range(count)
    ]
    expected = {
        pen_lane: rebuild(pen_lane, [b.raw for b in batches if b.key == pen_lane]).dump()
        for pen_lane in {b.key for b in batches}
    }
    rng = random.Random(seed)
    for _ in range(2):
        order = batches + rng.choices(batches, k=count)
        rng.shuffle(order)
        replica = Replica(founded)
        for batch in order:
            replica.admit(batch.raw)
        assert documents(replica) == expected


def test_a_stock_yjs_client_follows_a_lane_read_only() -> None:
    founded = genesis(1)
    pen, replica = Pen(founded, 0), Replica(founded)
    follower: pycrdt.Doc[pycrdt.Array[bytes]] = pycrdt.Doc()
    seen = follower.get("batches", type=pycrdt.Array)
    for number in range(5):
        batch = pen.write(Account(name=f"A{number}"))
        assert isinstance(replica.admit(batch.raw), Applied)
        follower.apply_update(replica.lane_document(batch.key).dump())
        assert [bytes(element) for element in seen] == [one.raw for one in replica.batches()]
    joiner = Replica(founded)
    for raw in read_dump(follower.get_update()):
        assert isinstance(joiner.admit(raw), Applied)
    assert joiner.digest() == replica.digest()
    assert documents(joiner) == documents(replica)


def opened(update: bytes) -> list[bytes] | None:
    try:
        return read_dump(update)
    except InvalidBatch:
        return None


@given(st.binary(max_size=200))
def test_garbage_is_no_dump_or_an_empty_one(update: bytes) -> None:
    opened(update)


@settings(max_examples=400)
@given(elements, st.data())
def test_a_mutated_dump_is_refused_or_yields_bytes_to_be_verified(raw: list[bytes], data: st.DataObject) -> None:
    update = bytearray(rebuild(LANE, raw).dump())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(update) - 1))
        if data.draw(st.booleans()):
            update[at] = data.draw(st.integers(0, 255))
        else:
            update[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        if not update:
            return
    found = opened(bytes(update))
    assert found is None or all(type(element) is bytes for element in found)


class _Panicking:
    """A document whose yrs panics, as some mutated updates make it do; the panic is a real one."""

    def apply_update(self, update: bytes) -> None:
        real: pycrdt.Doc[pycrdt.Array[int]] = pycrdt.Doc()
        real.get("numbers", type=pycrdt.Array).append(1 << 70)


def test_a_panic_inside_yrs_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BaseException, match="int") as caught:
        _Panicking().apply_update(b"")
    assert not isinstance(caught.value, Exception), "else there would be nothing to guard against"
    monkeypatch.setattr(lanes, "Doc", _Panicking)
    with pytest.raises(InvalidBatch, match="PanicException"):
        read_dump(b"\x00\x00")


def test_a_dump_of_something_else_is_refused() -> None:
    for value in (1, "text", None, pycrdt.Array([b"x"]), pycrdt.Map({"a": b"x"})):
        other: pycrdt.Doc[pycrdt.Array[object]] = pycrdt.Doc()
        other.get("batches", type=pycrdt.Array).append(value)
        with pytest.raises(InvalidBatch, match="not bytes"):
            read_dump(other.get_update())
    text: pycrdt.Doc[pycrdt.Text] = pycrdt.Doc()
    text.get("batches", type=pycrdt.Text).insert(0, "words")
    assert opened(text.get_update()) in (None, [])
    with pytest.raises(InvalidBatch, match="at most"):
        read_dump(_Huge())


class _Huge(bytes):
    def __len__(self) -> int:
        return lanes.MAX_DUMP_BYTES + 1
