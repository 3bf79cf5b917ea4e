"""The board: what people noted, apart and together, is there at every node, whoever means harm; and what was noted is never gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Array, Doc

from crdtledger.errors import BadInput
from crdtledger.ledger import body as columns
from crdtledger.ledger.batch import open_batch
from crdtledger.ledger.board import NOT_NEXT, BoardRow
from crdtledger.ledger.body import MAX_NOTE_BYTES, WireBody
from crdtledger.ledger.facts import Deposit, Note
from crdtledger.ledger.noteform import (
    FIELDS,
    MAX_NOTE_TEXT,
    MAX_OVER,
    NAME_BYTES,
    STATUSES,
    Entry,
    board_client,
    decode_entry,
    encode_entry,
    read,
    update_of,
)
from crdtledger.ledger.replica import Replica
from tests.crdtledger.worlds import Desk, Pen, World, genesis, shuffled_admits

BREAK, OTHER = "0123456789abcdef", "fedcba9876543210"
GENESIS = genesis(3)
LANE = Pen(GENESIS, 0).lane.key


def note(field: Any, text: str, break_id: str = BREAK) -> Note:
    return Note(break_id=break_id, field=field, text=text)


def entry(text: str = "seen", field: str = "comment", over: tuple[bytes, ...] = ()) -> bytes:
    return encode_entry(Entry(BREAK, FIELDS.index(field), text, over))


def row(desk: Desk, break_id: str = BREAK) -> BoardRow:
    (found,) = [one for one in desk.replica.view.board.rows() if one.break_id == break_id]
    return found


texts = st.sampled_from(("kim", "lee", "", "\U0001f600" * 30, "a\nb"))
notes = st.one_of(
    st.builds(note, st.just("owner"), st.sampled_from(("kim", "lee", "")), st.sampled_from((BREAK, OTHER))),
    st.builds(note, st.just("status"), st.sampled_from(STATUSES)),
    st.builds(note, st.just("resolution"), texts),
    st.builds(note, st.just("comment"), texts.filter(bool), st.sampled_from((BREAK, OTHER))),
)
calls = st.tuples(st.integers(0, 2), st.lists(notes, max_size=3))
meetings = st.tuples(st.integers(0, 2), st.integers(0, 2))
scripts = st.lists(calls | meetings | calls, max_size=14)


def played(script: Sequence[tuple[int, Any]]) -> World:
    world = World(3)
    for who, what in script:
        if isinstance(what, list):
            world.desks[who].record(*what)
        else:
            world.send(who, what)
    return world


@given(scripts, st.integers(0, 1 << 30))
def test_notes_made_apart_come_to_the_same_board_in_whatever_order_they_arrive(script: list[Any], seed: int) -> None:
    world = played(script)
    world.sync()
    held = list(world.desks[0].replica.batches())
    late = Replica(world.genesis)
    shuffled_admits(late, [*held, *held], seed)
    boards = [replica.view.board for replica in (*(desk.replica for desk in world.desks), late)]
    assert all(board.notes() == boards[0].notes() and board.rows() == boards[0].rows() for board in boards)
    assert all(board.dump() == boards[0].dump() for board in boards)
    assert late.breaks() == []


@given(scripts)
def test_nothing_that_was_noted_is_ever_gone_and_every_comment_stands(script: list[Any]) -> None:
    world = World(3)
    seen: list[set[Any]] = [set(), set(), set()]
    for who, what in script:
        if isinstance(what, list):
            world.desks[who].record(*what)
        else:
            world.send(who, what)
        for desk, before in zip(world.desks, seen, strict=True):
            board = desk.replica.view.board
            now = {(one.name, one.text) for one in board.notes()}
            assert now >= before
            before |= now
            comments = [one for one in board.notes() if one.field == "comment"]
            assert all(one in board.standing(one.break_id, "comment") for one in comments)


@given(scripts)
def test_a_stock_yjs_client_reads_every_note_off_the_updates_in_any_order_of_the_lanes(script: list[Any]) -> None:
    world = played(script)
    world.sync()
    replica = world.desks[0].replica
    by_lane: dict[bytes, list[bytes]] = {}
    for batch in replica.batches():
        by_lane.setdefault(batch.key, []).extend(batch.body.notes)
    dumped: Doc[Any] = Doc()
    dumped.apply_update(replica.view.board.dump())
    read_off = sorted(map(bytes, dumped.get("board", type=Array)))
    for lanes in (sorted(by_lane), sorted(by_lane, reverse=True)):
        stock: Doc[Any] = Doc()
        for lane in lanes:
            for update in by_lane[lane]:
                stock.apply_update(update)
        assert sorted(map(bytes, stock.get("board", type=Array))) == read_off
    assert len(read_off) == len(replica.view.board.notes()) == sum(map(len, by_lane.values()))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=6))
def test_an_update_is_byte_for_byte_the_one_that_pycrdt_makes(lengths: list[int]) -> None:
    doc: Doc[Any] = Doc(client_id=board_client(LANE))
    array = doc.get("board", type=Array)
    for number, length in enumerate([*lengths, 3_999]):
        before, said = doc.get_state(), entry("x" * (length + 1))
        array.append(said)
        assert update_of(LANE, number, said) == doc.get_update(before)
        assert read(LANE, number, update_of(LANE, number, said)) == said


@given(scripts)
def test_noting_twice_notes_once(script: list[Any]) -> None:
    for desk in played(script).desks:
        board = desk.replica.view.board
        for one in (*board.notes(),):
            alone = [other.text for other in board.standing(one.break_id, one.field)] == [one.text]
            if one.node == desk.recorder._name and (one.field == "comment" or alone):
                again = desk.record(note(one.field, one.text, one.break_id))
                assert (again.batches, again.facts, again.duplicates) == ((), 0, 1)


def test_what_was_noted_apart_stands_side_by_side_until_somebody_who_sees_it_decides() -> None:
    world = World(2)
    left, right = world.desks
    left.record(note("owner", "kim"), note("status", "acknowledged"), note("comment", "cable?"))
    right.record(note("owner", "lee"), note("status", "acknowledged"), note("comment", "no, the venue"))
    world.sync()
    for desk in world.desks:
        found = row(desk)
        assert set(found.owner.split(" | ")) == {"kim", "lee"}
        assert (found.status, found.contested, found.comments) == ("acknowledged", ("owner",), 2)
        assert (found.last, found.last_by) in (("cable?", "n0"), ("no, the venue", "n1"))
    right.record(note("owner", "lee"))
    world.sync()
    assert all((row(desk).owner, row(desk).contested) == ("lee", ()) for desk in world.desks)
    assert [one.text for one in left.replica.view.board.history(BREAK) if one.field == "owner"].count("lee") == 2


def test_one_call_may_replace_what_it_has_just_noted_and_a_field_can_be_cleared() -> None:
    (desk,) = World(1).desks
    desk.record(note("owner", "kim"), note("owner", "lee"), note("status", "resolved"))
    assert (row(desk).owner, row(desk).status, row(desk).contested) == ("lee", "resolved", ())
    desk.record(note("owner", ""), note("status", "reopened"))
    assert (row(desk).owner, row(desk).status) == ("", "reopened")
    assert desk.record(note("owner", "", OTHER)).duplicates == 1  # nobody had it


def test_what_one_call_says_twice_it_notes_once() -> None:
    (desk,) = World(1).desks
    done = desk.record(note("owner", "kim"), note("owner", "lee"), note("owner", "lee"), note("owner", "kim"))
    assert (done.facts, done.duplicates) == (3, 1)
    assert [len(one.over) for one in desk.replica.view.board.history(BREAK)] == [0, 1, 1]


def test_two_people_may_say_the_same() -> None:
    world = World(2)
    world.desks[0].record(note("comment", "seen"))
    world.sync()
    assert world.desks[1].record(note("comment", "seen")).facts == 1
    assert row(world.desks[1]).comments == 2


def test_a_note_replaces_what_is_noted_of_its_own_break_and_field_and_nothing_else() -> None:
    replica, pen = Replica(GENESIS), Pen(GENESIS, 0)
    replica.admit(pen.write(note("owner", "kim"), note("comment", "seen")).raw)
    names = tuple(sorted(one.name for one in replica.view.board.notes()))
    over = [
        encode_entry(Entry(BREAK, FIELDS.index("status"), "resolved", names)),
        encode_entry(Entry(OTHER, FIELDS.index("owner"), "lee", names)),
    ]
    updates = [update_of(pen.lane.key, 2 + number, said) for number, said in enumerate(over)]
    replica.admit(pen.seal(WireBody([], [], [], [], [], [], [], updates)).raw)
    found = [one for one in replica.view.board.rows() if one.break_id == BREAK]
    assert [(one.owner, one.status, one.comments) for one in found] == [("kim", "resolved", 1)]
    assert replica.breaks() == []


def test_more_than_a_note_may_replace_takes_two_notes() -> None:
    founded = genesis(1)
    desk = Desk(founded, 0)
    for epoch in range(2, MAX_OVER + 6):
        desk.replica.admit(Pen(founded, 0, epoch).write(note("owner", f"o{epoch}")).raw)
    desk.record(note("owner", "kim"))
    assert len(row(desk).owner.split(" | ")) == 5
    desk.record(note("owner", "kim"))
    assert row(desk).owner == "kim"


def test_a_clock_far_ahead_gives_nobody_the_last_word() -> None:
    world = World(2)
    liar = Pen(world.genesis, 1, epoch=9)
    liar.clock = (1 << 63) - 9
    world.desks[0].replica.admit(liar.write(note("owner", "mallory")).raw)
    world.desks[0].record(note("owner", "kim"))
    assert row(world.desks[0]).owner == "kim"


# -- members who mean harm ------------------------------------------------------------------------------------


def harmed(update: bytes, of: Pen, others: Sequence[bytes]) -> Replica:
    """A replica that holds a note of n0 and one of n1, and then ``update`` in n1's lane. It must leave the others' alone."""
    replica = Replica(of.genesis)
    for raw in others:
        replica.admit(raw)
    before = replica.view.board.notes()
    wire = WireBody([], [], [], [], [], [], [], [update])
    batch = of.copy().seal(wire)
    replica.admit(batch.raw)
    after = replica.view.board.notes()
    assert [one for one in after if one in before] == before
    again = Replica(of.genesis)
    for raw in (*others, batch.raw):
        again.admit(raw)
    assert again.digest() == replica.digest()
    assert replica.break_count() == len(replica.breaks())
    return replica


def two_lanes() -> tuple[Pen, Pen, list[bytes]]:
    victim, liar = Pen(GENESIS, 0), Pen(GENESIS, 1)
    return victim, liar, [victim.write(note("comment", "mine")).raw, liar.write(note("comment", "too")).raw]


def stock(*updates: bytes, client: int) -> Doc[Any]:
    doc: Doc[Any] = Doc(client_id=client)
    doc.get("board", type=Array)
    for update in updates:
        doc.apply_update(update)
    return doc


def forged(victim: Pen, liar: Pen, raw: Sequence[bytes]) -> dict[str, bytes]:
    """Updates that stock Yjs would take, and that take from others, lean on others, or are not the next ones."""
    theirs = [open_batch(one, GENESIS).body.notes[0] for one in raw]
    client = board_client(liar.lane.key)
    made: dict[str, bytes] = {}
    doc = stock(*theirs, client=client)
    before = doc.get_state()
    del doc.get("board", type=Array)[0:2]
    made["deletes everything"] = doc.get_update(before)
    doc = stock(*theirs, client=client)
    before = doc.get_state()
    doc.get("board", type=Array).insert(0, entry("leans on another's"))
    made["stands before others'"] = doc.get_update(before)
    doc = stock(theirs[1], client=client)
    before = doc.get_state()
    doc.get("board", type=Array).append(7.0)
    made["a number"] = doc.get_update(before)
    doc = stock(theirs[1], client=client)
    before = doc.get_state()
    doc.get("boards", type=Array).append(entry())
    made["another root"] = doc.get_update(before)
    return made | {
        "another's name": update_of(victim.lane.key, 1, entry()),
        "another's note": theirs[0],
        "again": theirs[1],
        "a gap": update_of(liar.lane.key, 2, entry()),
        "two bytes": b"\x00\x00",
        "cut short": update_of(liar.lane.key, 1, entry())[:-30],
        "cut to nothing": update_of(liar.lane.key, 1, b"x")[:-2],
        "no entry": update_of(liar.lane.key, 1, b"\xc1"),
        "no break": update_of(liar.lane.key, 1, encode_entry(Entry("x", 0, "kim"))),
        "over one twice": update_of(liar.lane.key, 1, entry("kim", "owner", (bytes(NAME_BYTES),) * 2)),
        "over more than it may": update_of(
            liar.lane.key, 1, entry("kim", "owner", tuple(bytes([n]) * 16 for n in range(17)))
        ),
        "a comment over others": update_of(liar.lane.key, 1, entry(over=(bytes(NAME_BYTES),))),
        "a status of its own": update_of(liar.lane.key, 1, entry("fine", "status")),
        "too much": update_of(liar.lane.key, 1, entry("x" * (MAX_NOTE_TEXT + 1))),
        "a field that is none": update_of(liar.lane.key, 1, encode_entry(Entry(BREAK, 9, "x"))),
    }


@pytest.mark.parametrize("name", [*forged(*two_lanes())])
def test_an_update_that_is_not_the_next_of_its_lane_is_void_and_a_break(name: str) -> None:
    victim, liar, others = two_lanes()
    replica = harmed(forged(victim, liar, others)[name], liar, others)
    assert [(one.type, one.detail) for one in replica.breaks()] == [("void_fact", f"1 x note: {NOT_NEXT}")]
    assert sorted(one.text for one in replica.view.board.history(BREAK)) == ["mine", "too"]


@given(st.data())
def test_no_bytes_in_a_lane_take_anything_from_another(data: st.DataObject) -> None:
    victim, liar, others = two_lanes()
    whole = update_of(liar.lane.key, 1, entry("three", "resolution", (bytes(NAME_BYTES),)))
    known = [whole, *forged(victim, liar, others).values()]
    raw = bytearray(data.draw(st.sampled_from(known) | st.binary(min_size=1, max_size=200)))
    for _ in range(data.draw(st.integers(0, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    harmed(bytes(raw), liar, others)


def test_after_a_void_note_a_lane_goes_on() -> None:
    pen = Pen(GENESIS, 0)
    replica = Replica(GENESIS)
    for text in ("one", "forged", "two"):
        replica.admit(pen.write(note("comment", text)).raw)
    assert [one.text for one in replica.view.board.history(BREAK)] == ["one", "two"]


@given(st.binary(max_size=60) | st.builds(entry, texts, st.sampled_from(FIELDS)))
def test_an_entry_has_one_encoding_and_other_bytes_are_none(raw: bytes) -> None:
    found = decode_entry(raw)
    assert found is None or encode_entry(found) == raw


# -- bodies ---------------------------------------------------------------------------------------------------


def test_a_body_without_notes_has_the_bytes_that_it_had_before_there_were_notes() -> None:
    pen = Pen(GENESIS, 0)
    wire = pen.draft([Deposit(id=1, account="A", asset="USDT", amount=5)])
    plain = columns.encode(wire)
    assert len(msgspec.msgpack.decode(plain)) == 7
    assert columns.decode(plain).notes == ()
    noted = columns.encode(pen.draft([note("comment", "seen")]))
    assert len(msgspec.msgpack.decode(noted)) == 8
    assert columns.decode(noted).counts() == ((40, 1),)


def test_the_longest_note_fits_its_bound_and_many_go_into_several_batches() -> None:
    (desk,) = World(1).desks
    longest = "\U0001f600" * MAX_NOTE_TEXT
    assert len(update_of(LANE, 1 << 20, entry(longest, "resolution", (bytes(NAME_BYTES),) * MAX_OVER))) < MAX_NOTE_BYTES
    done = desk.record(*(note("comment", f"{number}{longest[:-9]}") for number in range(40)))
    assert len(done.batches) > 1
    assert row(desk).comments == 40


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        (note("owner", "kim", "12"), "break_id"),
        (note("owner", "a\nb"), "text"),
        (note("status", "done"), "text"),
        (note("comment", " "), "text"),
        (note("comment", "x" * (MAX_NOTE_TEXT + 1)), "text"),
        (note("colour", "red"), "field"),
    ],
)
def test_what_cannot_be_noted_is_refused_by_name(wrong: Note, part: str) -> None:
    (desk,) = World(1).desks
    with pytest.raises(BadInput) as caught:
        desk.record(wrong)
    assert caught.value.attributes["where"] == f"facts[0].{part}"
    assert not list(desk.replica.batches())


def test_a_restored_node_notes_on_under_another_client() -> None:
    world = World(2)
    world.desks[0].record(note("comment", "before"), note("owner", "kim"))
    world.sync()
    fresh = world.desks[0].restored()
    fresh.record(note("comment", "after"))
    world.desks[0] = fresh
    world.sync()
    assert all(row(desk).comments == 2 for desk in world.desks)
    clients = {board_client(one.lane) for one in fresh.replica.view.board.notes()}
    assert len(clients) == 2
