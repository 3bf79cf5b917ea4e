"""A window for ids: what is forgotten never counts twice, and what an honest node recorded is never too old."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from crdtledger.errors import BelowFloor
from crdtledger.ledger.batch import Batch, fork_evidence, parse_lane
from crdtledger.ledger.clock import COUNTER_BITS
from crdtledger.ledger.facts import Account, Bust, Fact, Fill, Kind
from crdtledger.ledger.genesis import Authority, Genesis, Policies
from crdtledger.ledger.idwindow import BY_HAND, CORRECTION, ENDED, IdWindow
from crdtledger.ledger.settled import SettledState, decode_state
from crdtledger.ledger.view import BELOW_FLOOR, View
from reconcile.commitments import Commitments
from reconcile.salts import Salts
from reconcile.settlement import Settlement, settle
from reconcile.statecells import cells_of
from tests.crdtledger.worlds import SPOT, Desk, Pen, dep_on, genesis, rows
from tests.reconcile.settlement_worlds import Height, Story, cut_at, wants

MS = 1_000
SPAN = 10 * MS
WINDOW = 16 * SPAN
WINDOWED = Policies(agreement="tendermint", id_window_ms=WINDOW // MS)
START = 1_000 * MS
FIRST = bytes(32)
SALTS = Salts(1, b"s" * 32)
NAMES = (SPOT, Account(name="A"))

seeds = st.integers(0, 1 << 30)


def clock(us: int) -> int:
    return us // MS << COUNTER_BITS


def window_of(state: SettledState) -> IdWindow:
    assert state.window is not None
    return state.window


def told(trade: int, ts_us: int, kind: type[Fill] = Fill, id_space: str = "trade", qty: int = 0) -> Fill:
    """A trade whose terms follow from its id."""
    terms: dict[str, Any] = {"instrument": SPOT.name, "account": "A", "side": "buy", "price": 1}
    return kind(venue="V", trade_id=trade, qty=qty or 1 << trade, ts_us=ts_us, id_space=id_space, **terms)


# -- any story ----------------------------------------------------------------------------------------------

_statement = st.tuples(
    st.integers(0, 40),  # which trade: it happened so many spans after the start
    st.integers(0, SPAN - 1),  # by how much the statement's time is off
    st.sampled_from((Fill, Fill, Bust)),
    st.sampled_from(("trade", "trade", "trade", BY_HAND)),
)
_step = st.tuples(
    st.integers(0, 3),  # who writes: n0, n1, n1 in a later epoch, n2
    st.integers(-3, 12),  # how many spans its clock moves first
    st.lists(_statement, max_size=4),
    st.booleans(),  # whether a later epoch takes the earlier one over
)
stories = st.lists(_step, min_size=1, max_size=24)


class Statement(NamedTuple):
    kind: Kind
    trade: int
    by_hand: bool
    ts_us: int


def written(steps: Sequence[tuple[int, int, list[Any], bool]]) -> Story:
    founded = genesis(3, WINDOWED)
    pens = [Pen(founded, 0), Pen(founded, 1), Pen(founded, 1, epoch=2), Pen(founded, 2)]
    times = [START] * 4
    batches = [pens[0].write(*NAMES, clock=clock(START))]
    newest: dict[bytes, Batch] = {}
    for who, moved, statements, takes in steps:
        times[who] += moved * SPAN
        facts = [told(trade, START + trade * SPAN + off, kind, space) for trade, off, kind, space in statements]
        old = newest.get(pens[1].lane.key)
        if who == 2 and takes and old is not None:
            batches.append(pens[2].write(deps=[dep_on(old)], clock=clock(times[who])))
        batches.append(pens[who].write(*facts, clock=clock(times[who])))
        newest[batches[-1].key] = batches[-1]
    return Story(founded, batches, [])


class Plain:
    """The same with a memory that forgets nothing: an id counts once, and nothing that it does not know counts below the floor."""

    def __init__(self, founded: Genesis) -> None:
        self.genesis = founded
        self.floor, self.newest = 1, 0
        self.counted: set[tuple[Kind, int, bool]] = set()
        self.heard: dict[bytes, int] = {}
        self.ended: set[bytes] = set()
        self.below = self.perhaps = 0
        """How many were too old that never counted, and how many in all: those that did may be remembered still."""

    def settle(self, batches: Sequence[Batch]) -> None:
        told = [(batch, one) for batch in batches for one in statements(batch)]
        fresh = [(b, s) for b, s in told if s[:3] not in self.counted]
        self.below += sum(s.ts_us < self.floor and not s.by_hand for _, s in fresh)
        self.perhaps += sum(s.ts_us < self.floor and not s.by_hand for _, s in told)
        fresh = [(b, s) for b, s in fresh if s.by_hand or s.ts_us >= self.floor]
        for _, one in fresh:
            self.counted.add(one[:3])
        for batch in batches:
            self.heard[batch.key] = max(self.heard.get(batch.key, 0), time_of(batch))
            self.ended |= {dep.lane for dep in batch.header.deps}
        # Of statements that differ in their times any may be the one that takes the id: the newest bounds the others.
        seen = [min(s.ts_us, time_of(b)) for b, s in fresh if not s.by_hand]
        self.newest = max([self.newest, *seen])

    def bound(self) -> int:
        """Where the floor is at most: below what was last heard of every member, and below the newest fill."""
        held = []
        for member in self.genesis.nodes:
            lanes = [lane for lane in self.heard if parse_lane(lane).node == member.id]
            held.append(
                min((self.heard[lane] for lane in lanes if lane not in self.ended), default=0 if not lanes else ENDED)
            )
        return max(1, min(*held, self.newest) - WINDOW)

    def qty(self) -> int:
        return sum((1 if kind is Kind.FILL else -1) << trade for kind, trade, _ in self.counted)


def statements(batch: Batch) -> list[Statement]:
    return [
        Statement(kind, row["id"], row["id_space"] == BY_HAND, row["ts_us"])
        for kind in (Kind.FILL, Kind.BUST)
        for row in rows(batch, kind)
    ]


def time_of(batch: Batch) -> int:
    return (batch.header.clock >> COUNTER_BITS) * MS


def heights(story: Story, seed: int, count: int) -> Iterator[tuple[SettledState, Height, Settlement]]:
    """The story settled in ``count`` heights, and one before them that defines the names."""
    state, previous = SettledState.empty(story.genesis), FIRST
    first = ({story.batches[0].key: 1}, list[Any]())
    for number, (wanted, evidence) in enumerate([first, *wants(story, seed, count)], 1):
        height = cut_at(story, state, wanted, evidence)
        settled = settle(story.genesis, state, previous, height.cut, height.batches, height.evidence, height=number)
        yield state, height, settled
        state, previous = settled.state, bytes([number]) * 32


def quantity(state: SettledState) -> int:
    position = state.positions.get(("A", SPOT.name))
    return position.bought - position.sold if position else 0


@given(steps=stories, seed=seeds, count=st.integers(1, 8))
def test_a_trade_counts_once_however_much_is_forgotten(steps: Any, seed: int, count: int) -> None:
    story = written(steps)
    model = Plain(story.genesis)
    below = 0
    for _, height, settled in heights(story, seed, count):
        model.floor = window_of(settled.state).floor_us if not height.batches else model.floor
        model.settle(height.batches)
        below += sum(one.facts for one in settled.adjustments if one.cause == BELOW_FLOOR)
        window = window_of(settled.state)
        assert quantity(settled.state) == model.qty()
        assert model.below <= below <= model.perhaps
        assert model.floor <= window.floor_us <= max(model.floor, model.bound())
        model.floor = window.floor_us
        for kind in (Kind.FILL, Kind.BUST):
            kept = len(settled.state.fills if kind is Kind.FILL else settled.state.busts)
            assert kept == sum(of is kind and by_hand for of, _, by_hand in model.counted)
            near = [
                t
                for of, t, by_hand in model.counted
                if of is kind and not by_hand and START + t * SPAN >= window.floor_us
            ]
            assert len(near) <= len(window.ids(kind)) <= len(model.counted)
            assert all(span * SPAN >= window.floor_us - 2 * SPAN for span in window.ids(kind).spans())


@given(steps=stories, seed=seeds, count=st.integers(1, 8))
def test_everybody_comes_to_the_same_state_and_root(steps: Any, seed: int, count: int) -> None:
    story = written(steps)
    commitments = Commitments.empty(story.genesis, SALTS)
    draw = random.Random(seed)
    for number, (state, height, settled) in enumerate(heights(story, seed, count), 1):
        previous = bytes([number - 1]) * 32 if number > 1 else FIRST
        shuffled = draw.sample(height.batches, len(height.batches))
        taken_over = decode_state(state.encode(), story.genesis, salt=number)
        again = settle(story.genesis, taken_over, previous, height.cut, shuffled, [], salt=number, height=number)
        assert again.state.encode() == settled.state.encode()
        assert again.adjustments == settled.adjustments
        assert again.cells == settled.cells
        commitments = commitments.advance(settled)
        assert commitments.state_root == Commitments.rebuild(story.genesis, SALTS, settled.state).state_root
        assert decode_state(settled.state.encode(), story.genesis).encode() == settled.state.encode()


@given(steps=stories, seed=seeds, count=st.integers(1, 8))
def test_a_view_shows_what_the_next_height_settles(steps: Any, seed: int, count: int) -> None:
    """Terms follow from ids here, so there is nothing that settlement could decide otherwise than a view."""
    for state, height, settled in heights(written(steps), seed, count):
        view = View(genesis(3, WINDOWED), base=state)
        for batch in height.batches:
            view.apply(batch)
        shown = {(row.account, row.instrument): row.bought - row.sold for row in view.position_rows()}
        assert shown.get(("A", SPOT.name), 0) == quantity(settled.state)
        told = sum(void.facts for void in view.void_facts() if void.reason == BELOW_FLOOR)
        assert told == sum(one.facts for one in settled.adjustments if one.cause == BELOW_FLOOR)


@given(steps=stories, seed=seeds, count=st.integers(1, 8))
def test_without_a_window_nothing_is_forgotten_and_nothing_too_old(steps: Any, seed: int, count: int) -> None:
    story = written(steps)
    kept = genesis(3)
    assert "id_window" not in kept.encode().decode()
    pens = {
        lane: Pen(kept, kept.nodes.index(kept.by_id[parse_lane(lane).node]), parse_lane(lane).epoch)
        for lane in story.lanes
    }
    same: dict[bytes, Batch] = {}
    for batch in story.batches:
        facts = [
            told(s.trade, s.ts_us, Fill if s.kind is Kind.FILL else Bust, BY_HAND if s.by_hand else "trade")
            for s in statements(batch)
        ]
        if batch is story.batches[0]:
            facts = list(NAMES)  # type: ignore[arg-type]
        deps = [dep_on(same[dep.hash]) for dep in batch.header.deps]
        same[batch.hash] = pens[batch.key].write(*facts, deps=deps, clock=batch.header.clock)
    other = Story(kept, list(same.values()), [])
    model = Plain(kept)
    for _, height, settled in heights(other, seed, count):
        model.settle(height.batches)
        assert quantity(settled.state) == model.qty()
        assert settled.state.window is None
        ids = len(settled.state.fills) + len(settled.state.busts)
        assert ids == len(model.counted)


# -- honest nodes -------------------------------------------------------------------------------------------

_work = st.tuples(
    st.integers(0, 2),  # who
    st.integers(1, 60),  # how many milliseconds later, by its clock
    st.integers(0, WINDOW // MS + 20),  # how old the fill is
    st.integers(0, 3),  # what is settled then: everything of some lanes
)


@given(work=st.lists(_work, min_size=1, max_size=40), seed=seeds)
def test_what_an_honest_node_records_is_never_below_the_floor_when_it_is_settled(work: Any, seed: int) -> None:
    """However long it is cut off, and whatever the others settle meanwhile."""
    founded = genesis(3, WINDOWED)
    desks = [Desk(founded, node) for node in range(3)]
    batches: list[Batch] = []
    for desk in desks:
        desk.now_us = START
        batches += desk.record(*NAMES).batches
    state, previous, number = SettledState.empty(founded), FIRST, 0
    recorded = 0
    draw = random.Random(seed)
    for trade, (who, later, age, settles) in enumerate(work):
        desk = desks[who]
        desk.now_us += later * MS
        fill = told(trade, desk.now_us - age * MS, qty=1)
        refusal = desk.tries(fill)
        if refusal is None:
            batches.append(desk.replica.batch(desk.lane.key, desk.replica.head(desk.lane.key).seq))  # type: ignore[arg-type]
            recorded += 1
        else:
            assert isinstance(refusal, BelowFloor)
            assert age * MS + 2 * MS > WINDOW
        if settles == 3:
            story = Story(founded, batches, [])
            wanted = {lane: len(held) for lane, held in story.lanes.items() if draw.random() < 0.7}
            number += 1
            height = cut_at(story, state, wanted, [])
            settled = settle(founded, state, previous, height.cut, height.batches, [], height=number)
            assert not [one for one in settled.adjustments if one.cause == BELOW_FLOOR]
            state, previous = settled.state, number.to_bytes(32, "big")
    story = Story(founded, batches, [])
    height = cut_at(story, state, {lane: len(held) for lane, held in story.lanes.items()}, [])
    settled = settle(founded, state, previous, height.cut, height.batches, [], height=number + 1)
    assert not [one for one in settled.adjustments if one.cause == BELOW_FLOOR]
    assert quantity(settled.state) == recorded


# -- examples -----------------------------------------------------------------------------------------------


class Writing:
    """Three members, each with a lane, settled together whenever it is asked for."""

    def __init__(self, policies: Policies = WINDOWED) -> None:
        self.genesis = genesis(3, policies)
        self.pens = [Pen(self.genesis, node) for node in range(3)]
        self.batches: list[Batch] = []
        self.state, self.height = SettledState.empty(self.genesis), 0
        self.write(0, START, *NAMES)

    def write(self, who: int, at_us: int, *facts: Fact, deps: Any = ()) -> Batch:
        self.batches.append(self.pens[who].write(*facts, deps=deps, clock=clock(at_us)))
        return self.batches[-1]

    def settle(self, evidence: Any = ()) -> Settlement:
        self.height += 1
        story = Story(self.genesis, self.batches, list(evidence))
        wanted = {lane: len(held) for lane, held in story.lanes.items()}
        height = cut_at(story, self.state, wanted, list(evidence))
        settled = settle(self.genesis, self.state, bytes([self.height]) * 32, *height, height=self.height)
        self.state = settled.state
        return settled

    def at(self, at_us: int, *facts: Fact) -> Settlement:
        """All three write at that time, and are settled."""
        self.write(0, at_us, *facts)
        self.write(1, at_us)
        self.write(2, at_us)
        return self.settle()

    @property
    def floor(self) -> int:
        return window_of(self.state).floor_us


LATER = START + 3 * WINDOW


def test_an_old_id_is_forgotten_and_its_cell_with_it() -> None:
    all_of = Writing()
    first = all_of.at(START, told(0, START))
    cell = next(name for name in first.cells if name.kind == "timed fills")
    assert len(window_of(all_of.state).fills) == 1
    then = all_of.at(LATER, told(1, LATER))
    assert all_of.floor == LATER - WINDOW
    assert len(window_of(all_of.state).fills) == 1
    assert then.cells[cell] is None
    assert cell not in cells_of(all_of.state, all_of.genesis)
    again = all_of.at(LATER + MS, told(0, START))
    assert {one.cause: (one.effect, one.facts, one.seq) for one in again.adjustments} == {BELOW_FLOOR: ("voided", 1, 4)}
    assert quantity(all_of.state) == 0b11
    assert [one.type for one in all_of.state.breaks] == ["void_fact"]


def test_a_repeat_above_the_floor_is_told_as_one_and_one_that_is_still_remembered_too() -> None:
    all_of = Writing()
    all_of.at(START, told(0, START))
    all_of.at(START + WINDOW, told(1, START + WINDOW))
    again = all_of.at(START + WINDOW + SPAN, told(0, START), told(1, START + WINDOW))
    assert [one.effect for one in again.adjustments] == ["deduplicated"]
    all_of.at(START + WINDOW + SPAN, told(2, START + WINDOW + SPAN))
    assert all_of.floor > START
    again = all_of.at(START + WINDOW + SPAN, told(0, START))
    assert [one.effect for one in again.adjustments] == ["deduplicated"]


@pytest.mark.parametrize("space", [BY_HAND, CORRECTION])
def test_a_fill_without_a_time_counts_for_nothing_and_one_that_is_booked_by_hand_for_good(space: str) -> None:
    all_of = Writing()
    without = all_of.at(START, told(0, 0))
    assert [one.cause for one in without.adjustments] == [BELOW_FLOOR]
    all_of.at(START, told(1, 0, id_space=space))
    all_of.at(LATER, told(2, LATER))
    all_of.at(LATER, told(1, 0, id_space=space), told(3, START, id_space=space))
    assert quantity(all_of.state) == 0b1110
    assert len(all_of.state.fills) == 2
    assert len(window_of(all_of.state).fills) == 1


def test_a_bust_of_a_fill_that_is_forgotten_takes_it_back() -> None:
    all_of = Writing()
    all_of.at(START, told(0, START))
    all_of.at(LATER, told(1, LATER))
    late = all_of.at(LATER + MS, told(0, LATER, Bust))
    assert late.adjustments == ()
    assert quantity(all_of.state) == 0b10
    all_of.at(LATER + MS, told(0, LATER, Bust))
    assert quantity(all_of.state) == 0b10


def test_whoever_was_not_heard_holds_the_floor() -> None:
    all_of = Writing()
    for at in (LATER, 2 * LATER):
        all_of.write(0, at, told(at // LATER, at))
        all_of.write(1, at)
        all_of.settle()
        assert all_of.floor == 1
    all_of.write(2, LATER)
    all_of.settle()
    assert all_of.floor == LATER - WINDOW


def test_who_may_record_nothing_holds_nothing() -> None:
    authorities = (Authority("n2", ()),)
    founded = genesis(3, msgspec.structs.replace(WINDOWED, authorities=authorities))
    assert [member.name for member in founded.recorders] == ["n0", "n1"]
    all_of = Writing(founded.policies)
    all_of.write(0, LATER, told(1, LATER))
    all_of.write(1, LATER)
    all_of.settle()
    assert all_of.floor == LATER - WINDOW


def test_a_lane_that_a_later_epoch_took_over_holds_the_floor_no_longer() -> None:
    all_of = Writing()
    all_of.at(START, told(0, START))
    last = all_of.batches[-2]
    assert parse_lane(last.key).node == all_of.genesis.nodes[1].id
    all_of.pens[1] = Pen(all_of.genesis, 1, epoch=2)
    all_of.at(LATER, told(1, LATER))
    assert all_of.floor == START - WINDOW
    all_of.write(1, LATER, deps=[dep_on(last)])
    all_of.settle()
    assert all_of.floor == LATER - WINDOW
    assert window_of(all_of.state).heard[last.key].until_us == ENDED


def test_a_lane_that_is_closed_holds_the_floor_no_longer() -> None:
    all_of = Writing()
    all_of.at(START, told(0, START))
    other = all_of.pens[2].copy()
    proof = fork_evidence(all_of.write(2, START), other.write(clock=1 << 60))
    all_of.write(0, LATER, told(1, LATER))
    all_of.write(1, LATER)
    all_of.settle()
    assert all_of.floor == START - WINDOW
    all_of.settle([proof])
    assert all_of.floor == LATER - WINDOW


def test_clocks_that_run_ahead_forget_nothing_that_venues_still_speak_of() -> None:
    all_of = Writing()
    all_of.at(START + 1_000 * WINDOW, told(0, START + WINDOW))
    assert all_of.floor == START
    all_of.at(START + 1_000 * WINDOW, told(1, START))
    assert quantity(all_of.state) == 0b11


def test_a_venues_time_that_is_wrong_forgets_nothing() -> None:
    all_of = Writing()
    all_of.at(START, told(0, START), told(1, 1 << 60))
    assert all_of.floor == START - WINDOW
    all_of.at(START + WINDOW, told(0, START))
    assert quantity(all_of.state) == 0b11


def test_a_recorder_says_what_is_too_old_and_what_to_do() -> None:
    desk = Desk(genesis(3, WINDOWED), 0)
    desk.now_us = LATER
    desk.record(*NAMES)
    known = told(0, LATER - WINDOW // 2)
    desk.record(known)
    desk.now_us = LATER + WINDOW
    before = desk.replica.digest()
    assert desk.record(known).duplicates == 1
    for old in (told(1, START), told(2, 0), told(3, START, Bust)):
        with pytest.raises(BelowFloor, match='"id_space": "by-hand"') as refusal:
            desk.record(told(9, desk.now_us), old)
        assert (refusal.value.name.rpartition("/")[2], refusal.value.ts_us) == (str(old.trade_id), old.ts_us)
    assert desk.replica.digest() == before
    desk.record(told(1, START, id_space=BY_HAND), told(2, 0, id_space=BY_HAND))
    assert sum(row.fills for row in desk.replica.view.position_rows()) == 3


def test_the_floor_is_under_the_root() -> None:
    all_of = Writing()
    all_of.at(LATER, told(0, LATER))
    window = window_of(all_of.state)
    roots = {Commitments.rebuild(all_of.genesis, SALTS, all_of.state).state_root}
    lane = next(iter(window.heard))
    changes: list[dict[str, Any]] = [
        {"floor_us": window.floor_us - 1},
        {"newest_us": window.newest_us + 1},
        {"heard": {**window.heard, lane: window.heard[lane]._replace(said_us=7)}},
        {"heard": {**window.heard, lane: window.heard[lane]._replace(until_us=7)}},
        {"heard": {at: us for at, us in window.heard.items() if at != lane}},
        {"fills": window.busts},
        {"busts": window.fills},
    ]
    for changed in changes:
        state = msgspec.structs.replace(all_of.state, window=msgspec.structs.replace(window, **changed))
        roots.add(Commitments.rebuild(all_of.genesis, SALTS, state).state_root)
    assert len(roots) == 1 + len(changes)


@given(steps=stories, seed=seeds)
def test_a_state_of_another_window_is_refused(steps: Any, seed: int) -> None:
    story = written(steps)
    *_, (_, _, settled) = heights(story, seed, 2)
    assume(settled.state.lanes)
    bare = msgspec.structs.replace(settled.state, window=None)
    with pytest.raises(Exception, match="ids for another while"):
        decode_state(bare.encode(), story.genesis)
