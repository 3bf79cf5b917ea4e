"""Of a small batch its bytes are held: what is opened again is what was held, and nobody can tell from any figure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger import batch as opening
from crdtledger.ledger import bindings
from crdtledger.ledger import view as views
from crdtledger.ledger.batch import Batch, fork_evidence, open_batch
from crdtledger.ledger.catalog import Catalog, Place
from crdtledger.ledger.clock import MAX_TIMESTAMP
from crdtledger.ledger.facts import Account, Fill, Kind
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.view import View
from reconcile.settlement import settle
from tests.crdtledger.settling import any_order
from tests.crdtledger.test_convergence import POLICIES, Action, actions, batches_of, history
from tests.crdtledger.test_folding_together import FOUNDED, OTHER, shown, written
from tests.crdtledger.worlds import SPOT, Pen, World, exchange, genesis
from tests.reconcile.settlement_worlds import cut_at, stories, wants
from tests.reconcile.settlement_worlds import written as told_of


@contextmanager
def keeping_open(most: int) -> Iterator[deque[Batch]]:
    """So many small batches stay open of those that are opened meanwhile, and so many bindings are kept."""
    with (
        patch.object(opening, "OPEN_MOST", most),
        patch.object(opening, "_open_now", deque()) as open_now,
        patch.object(bindings, "KEPT_MOST", most),
        patch.object(views, "BATCHES_TOGETHER", 1 + most // 2),
    ):
        yield open_now


def closed(batches: Sequence[Batch]) -> Sequence[Batch]:
    """The same batches, of which nothing is held but their bytes."""
    for batch in batches:
        batch.inside = None
    return batches


def said(batch: Batch) -> dict[str, Any]:
    """All that is read of a batch."""
    tables = {kind: (table.dtype, table.tobytes()) for kind, table in batch.body.tables.items()}
    named = {name: getattr(batch, name) for name in ("raw", "hash", "key", "lane", "seq", "facts")}
    inside = (batch.header, batch.header_bytes, batch.signature, batch.body._replace(tables={}))
    return named | {"tables": tables, "inside": inside, "counts": batch.body.counts()}


def fill(number: int, account: str = "A") -> Fill:
    return Fill(venue="v", trade_id=number, instrument=SPOT.name, account=account, side="buy", qty=1, price=1)


@settings(max_examples=60)
@given(st.sampled_from(POLICIES), st.integers(2, 3), actions)
def test_what_is_opened_again_is_what_was_held(policies: Policies, nodes: int, steps: list[Action]) -> None:
    world = history(policies, nodes, steps)
    for batch in batches_of(world):
        held, copy = said(open_batch(batch.raw, world.genesis)), batch.kept_open()
        closed([batch])
        assert said(batch) == held == said(copy)
        closed([batch])
        assert said(batch.kept_open()) == held
        assert batch.inside is None, "a copy that stays open opens none but itself"


@settings(max_examples=60)
@given(st.sampled_from(POLICIES), st.integers(2, 3), actions, st.integers(0, 1 << 30), st.integers(0, 2), st.booleans())
def test_a_view_of_closed_batches_shows_what_one_of_open_batches_does(
    policies: Policies, nodes: int, steps: list[Action], seed: int, most: int, at_once: bool
) -> None:
    world = history(policies, nodes, steps)
    order = any_order(batches_of(world), seed)
    one = View(world.genesis, 1)
    one.apply_all(batch.kept_open() for batch in order)
    expected = shown(one)
    with keeping_open(most) as open_now:
        two = View(world.genesis, 2)
        if at_once:
            two.apply_all(closed(order))
        else:
            for batch in closed(order):
                two.apply(batch)
        assert shown(two) == expected
        assert len(open_now) <= most
        assert sum(batch.inside is not None for batch in order) <= most
        assert isinstance(two._bindings, bindings.Bindings)
        assert len(two._bindings._kept) <= most


@settings(max_examples=60)
@given(st.lists(written, min_size=2, max_size=9), st.integers(0, 1 << 30), st.integers(0, 2))
def test_ids_told_again_are_compared_with_closed_batches(
    told: list[tuple[int, list[Any]]], seed: int, most: int
) -> None:
    pens = [Pen(FOUNDED, node) for node in range(3)]
    batches = [pens[0].write(SPOT, *(Account(name=name) for name in ("A", "B", "Cc")))]
    names = {OTHER.name: bytes(16)}  # a definition that nobody knows: these wait
    batches += [pens[node].seal(pens[node].draft(facts, names)) for node, facts in told]
    order = any_order(batches, seed)
    one = View(FOUNDED, 1)
    one.apply_all(batch.kept_open() for batch in order)
    with keeping_open(most):
        two = View(FOUNDED, 2)
        two.apply_all(closed(order))
        assert shown(two) == shown(one)


def test_the_small_ones_that_were_opened_last_stay_open_and_large_ones_do() -> None:
    with keeping_open(3):
        pen = Pen(genesis(), 0)
        small = [pen.write(fill(number)) for number in range(8)]
        large = pen.write(*(fill(number) for number in range(100, 500)))
        assert len(large.raw) > opening.SMALL_BYTES >= len(small[0].raw)
        assert [batch.inside is not None for batch in small] == [False] * 5 + [True] * 3
        copy = small[0].kept_open()
        assert small[0].inside is None
        assert small[1].body is small[1].body, "whoever looks twice finds it open"
        assert [batch.seq for batch in small if batch.inside] == [2, 7, 8]
        pen.write(fill(9))
        assert [batch.seq for batch in small if batch.inside] == [2, 8]
        assert large.inside is not None
        assert copy.inside is not None


def test_names_and_lanes_stand_once_for_all_batches_that_are_opened_again() -> None:
    pen = Pen(genesis(), 0)
    one, two = (open_batch(batch.raw, pen.genesis) for batch in [pen.write(fill(1)), pen.write(fill(2))])
    closed([one, two])
    assert one.key is two.key
    assert one.lane is two.lane
    assert all(text is other for text, other in zip(one.body.strings, two.body.strings, strict=True))
    assert np.shares_memory(one.body.tables[Kind.FILL], np.frombuffer(one.raw, np.uint8))


def test_bindings_of_small_batches_are_made_again_and_are_the_same() -> None:
    pen = Pen(genesis(), 0)
    batches = [pen.write(fill(number, "ABC"[number % 3])) for number in range(6)]
    with keeping_open(2):
        catalog = Catalog(pen.genesis, SettledState.empty(pen.genesis))
        of = bindings.Bindings(catalog, batches)
        given = [catalog.bind(batch.body) for batch in batches]
        for binding in given:
            of.append(binding)
        assert [number for number in range(6) if of[number] is given[number]] == []  # each pushed the next one out
        for number, binding in enumerate(given):
            again = of[number]
            assert all(np.array_equal(one, other) for one, other in zip(again, binding, strict=True))
            assert of[number] is again


def test_places_go_on_above_the_highest_clock_that_a_header_may_have() -> None:
    """A lane's places rise with its batches, whatever clocks its author wrote."""
    pen = Pen(genesis(), 0)
    batches = [pen.write(fill(number), clock=MAX_TIMESTAMP) for number in range(3)]
    view = View(pen.genesis)
    view.apply_all(batches)
    assert [view._places[at] for at in range(3)] == [Place(MAX_TIMESTAMP + at, pen.lane.key, at + 1) for at in range(3)]
    assert view.facts == 3


def test_forks_are_proven_of_closed_batches() -> None:
    pen = Pen(genesis(), 0)
    pen.write(SPOT, Account(name="A"))
    one, two = pen.copy().write(fill(1)), pen.copy().write(fill(2))
    expected = fork_evidence(one, two)
    assert fork_evidence(*closed([one, two])) == expected


@settings(max_examples=20)
@given(actions, st.integers(0, 2))
def test_replicas_that_keep_little_open_agree_with_those_that_keep_much(steps: list[Action], most: int) -> None:
    world: World = history(POLICIES[0], 3, steps)
    expected = batches_of(world)
    with keeping_open(most):
        replica = Replica(world.genesis, 5)
        exchange([world.desks[0].replica, replica])
        replica.check_invariants()
        assert replica.digest() == world.desks[0].replica.digest()
    assert [batch.hash for batch in replica.batches()] == [batch.hash for batch in expected]


@settings(max_examples=30)
@given(stories, st.integers(0, 1 << 30), st.integers(1, 3), st.integers(0, 2))
def test_closed_batches_settle_to_what_open_ones_do(drawn: Any, seed: int, count: int, most: int) -> None:
    story = told_of(drawn)
    state, previous = SettledState.empty(story.genesis), bytes(32)
    for number, (wanted, evidence) in enumerate(wants(story, seed, count), 1):
        height = cut_at(story, state, wanted, evidence)
        kept = [batch.kept_open() for batch in height.batches]
        of_open = settle(story.genesis, state, previous, height.cut, kept, height.evidence, height=number)
        with keeping_open(most):
            given = closed(height.batches)
            of_closed = settle(story.genesis, state, previous, height.cut, given, height.evidence, height=number)
            assert all(batch.inside is None for batch in height.batches), "settling opens copies"
        assert of_closed.state.encode() == of_open.state.encode()
        assert of_closed._replace(state=of_open.state) == of_open
        state, previous = of_open.state, bytes([number]) * 32
