"""Matches, settled: nobody trades more than an order says or its reserve pays for, whatever anybody writes; honest work stands."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InvalidProof
from crdtledger.ledger import ordercodec
from crdtledger.ledger.batch import parse_lane
from crdtledger.ledger.orderfacts import Terms
from crdtledger.ledger.settled import SettledState, decode_state
from crdtledger.ledger.settledparts import Carried, PendingMatch, SettledOrder
from crdtledger.ledger.view import View
from reconcile.adjustments import adjustments_root
from reconcile.commitments import Commitments
from reconcile.salts import Salts
from reconcile.settlement import Settlement, settle
from tests.reconcile.match_model import TradingLedger
from tests.reconcile.match_worlds import ALL, stories, written
from tests.reconcile.settlement_worlds import Height, Story, cut_at, wants
from tests.reconcile.test_settlement import plainly, told

FIRST = bytes(32)
several = st.integers(1, 4)
seeds = st.integers(0, 1 << 30)


def heights(story: Story, seed: int, count: int) -> Iterator[tuple[SettledState, bytes, Height, Settlement, int]]:
    """The story settled in ``count`` heights: (state before, previous digest, what is settled, what it comes to, which height)."""
    state, previous = SettledState.empty(story.genesis), FIRST
    for number, (wanted, evidence) in enumerate(wants(story, seed, count), 1):
        height = cut_at(story, state, wanted, evidence)
        settled = settle(story.genesis, state, previous, height.cut, height.batches, height.evidence, height=number)
        yield state, previous, height, settled, number
        state, previous = settled.state, bytes([number]) * 32


def check_bounds(state: SettledState, filled: dict[Any, int]) -> None:
    """No order beyond its quantity, no account beyond its collateral, no unit made or lost, as many contracts bought as sold."""
    assert state.imbalance() == {}
    for balance in state.collateral.values():
        assert min(balance.reserved, balance.margin, balance.shortfall) >= 0
        assert all(amount > 0 for _, amount in balance.rights)
    assert all(held.remaining > 0 for lane in state.reserves.values() for held in lane.values())
    asking: dict[Any, int] = {}
    for match in state.pending.values():
        asking[match.taker] = asking.get(match.taker, 0) + match.held
    for name, order in state.orders.items():
        assert order.tally.filled + asking.get(name, 0) + sum(qty for _, qty in order.open) <= order.terms.qty
        assert order.tally.filled >= filled.get(name, 0)
        filled[name] = order.tally.filled
    contracts: dict[str, int] = {}
    for (_, instrument), carried in state.carried.items():
        assert carried.margin >= 0
        contracts[instrument] = contracts.get(instrument, 0) + carried.qty
    assert not any(contracts.values())


@settings(max_examples=200)
@given(drawn=stories, seed=seeds, count=several)
def test_no_order_goes_beyond_its_quantity_and_no_account_beyond_its_collateral(
    drawn: Any, seed: int, count: int
) -> None:
    filled: dict[Any, int] = {}
    for _, _, _, settled, _ in heights(written(drawn), seed, count):
        check_bounds(settled.state, filled)


@given(drawn=stories, seed=seeds, count=several)
def test_it_is_the_plain_telling_of_the_rules(drawn: Any, seed: int, count: int) -> None:
    story = written(drawn, auctions=False)
    model = TradingLedger(story.genesis)
    for _, previous, height, settled, _ in heights(story, seed, count):
        model.settle(previous, height.cut, height.batches, height.evidence)
        state, nodes = settled.state, story.genesis.nodes
        assert {
            name: (order.tally.filled, {nodes[m].name: qty for m, qty in order.open}, order.closed)
            for name, order in state.orders.items()
        } == {
            name: (one["filled"], {node: qty for node, qty in one["open"].items() if qty}, one["closed"])
            for name, one in model.orders.items()
        }
        assert {name: match.held for name, match in state.pending.items()} == {
            name: match["held"] for name, match in model.waiting_matches.items()
        }
        assert {at: (held.qty, held.margin) for at, held in state.carried.items()} == {
            at: (held["qty"], held["margin"]) for at, held in model.carried.items()
        }
        assert state.prices == model.prices
        plain = plainly(model)
        assert told(state) == plain
        margins = {at: held for at, held in model.margin.items() if held}
        assert {at: b.margin for at, b in state.collateral.items() if b.margin} == margins
        short = {at: missing for at, missing in model.shortfall.items() if missing}
        assert {at: b.shortfall for at, b in state.collateral.items() if b.shortfall} == short


@given(drawn=stories, seed=seeds, count=several, salt=seeds)
def test_neither_arrival_nor_a_secret_nor_loading_changes_anything(
    drawn: Any, seed: int, count: int, salt: int
) -> None:
    story, luck = written(drawn), random.Random(seed)
    salts = Salts(1, b"s" * 32)
    trees = Commitments.empty(story.genesis, salts)
    for state, previous, height, settled, number in heights(story, seed, count):
        raw = settled.state.encode()
        assert decode_state(raw, story.genesis).encode() == raw
        loaded = decode_state(state.encode(), story.genesis, salt)
        shuffled = luck.sample(height.batches, len(height.batches))
        again = settle(story.genesis, loaded, previous, height.cut, shuffled, height.evidence, salt, height=number)
        assert again.state.encode() == raw
        assert again._replace(state=settled.state) == settled
        trees = trees.advance(settled)
        assert trees.state_root == Commitments.rebuild(story.genesis, salts, settled.state).state_root
        nothing = settle(story.genesis, settled.state, previous, height.cut, [], [], height=number)
        assert (nothing.state.encode(), nothing.adjustments) == (raw, ())
        assert nothing.adjustments_root == adjustments_root(())


@given(drawn=stories, seed=seeds, count=several, salt=seeds)
def test_views_of_the_same_facts_show_the_same_orders_in_whatever_order_they_came(
    drawn: Any, seed: int, count: int, salt: int
) -> None:
    story = written(drawn)
    luck = random.Random(seed)
    for state, _, height, _, _ in heights(story, seed, count):
        views = []
        for order in (height.batches, luck.sample(height.batches, len(height.batches))):
            view = View(story.genesis, salt, base=state)
            left = sorted(order, key=lambda batch: luck.random())
            done = {lane: held.seq for lane, held in state.lanes.items()}
            while left:  # any order that respects lanes and deps
                batch = next(
                    b
                    for b in left
                    if done.get(b.key, 0) == b.seq - 1
                    and all(done.get(d.lane, 0) >= d.seq for d in b.header.deps if _within(d, height))
                )
                left.remove(batch)
                done[batch.key] = batch.seq
                view.apply(batch)
            assert view.break_count() == len(view.breaks())
            views.append(view)
        assert views[0].canonical() == views[1].canonical()


def _within(dep: Any, height: Height) -> bool:
    return any((batch.key, batch.seq) == (dep.lane, dep.seq) for batch in height.batches)


def test_bytes_that_are_no_state_of_orders_are_refused_and_nothing_else_happens() -> None:
    luck = random.Random(3)
    for seed in range(400):  # a story that leaves orders, waiting matches and contracts
        story = written((ALL, seed, 24))
        state = list(heights(story, seed, 2))[-1][3].state
        if state.orders and state.pending and state.carried:
            break
    assert state.orders
    assert state.pending
    assert state.carried
    raw = state.encode()
    start = len(raw) - len(msgspec.msgpack.encode(ordercodec.encode(state)))
    for at in range(start, len(raw)):
        for byte in {0, 255, raw[at] ^ 1, luck.randrange(256)} - {raw[at]}:
            changed = raw[:at] + bytes([byte]) + raw[at + 1 :]
            try:
                assert decode_state(changed, story.genesis).encode() == changed
            except InvalidProof:
                continue


def test_a_state_in_which_orders_do_not_add_up_is_refused() -> None:
    story = written((ALL, 1, 1))
    genesis = story.genesis
    state = next(iter(heights(story, 0, 1)))[3].state
    lane = next(iter(state.lanes))
    digest = state.definitions["P"][0].digest
    home = genesis.by_id[parse_lane(lane).node].name
    terms = Terms("A", "P", digest, 1, 5, 7, "u")
    order = SettledOrder(terms=terms, place=(3, lane, 1, 0), height=1, open=((0, 5),))
    match = PendingMatch(
        taker=(home, "1"),
        maker=("n9", "1"),
        held=1,
        qty=1,
        price=7,
        height=1,
        number=1,
        place=(lane, 1, 0),
        survival=5,
    )
    replace = msgspec.structs.replace
    orders = {(home, "1"): order}
    assert decode_state(replace(state, orders=orders).encode(), genesis).orders == orders
    wrong: dict[str, dict[str, Any]] = {
        "more than its quantity": {"orders": {(home, "1"): replace(order, open=((0, 6),))}},
        "of nobody": {"orders": {("n9", "1"): order}},
        "does not stand": {"orders": {(home, "1"): replace(order, terms=replace(terms, definition=bytes(16)))}},
        "what no order may": {"orders": {(home, "1"): replace(order, terms=replace(terms, side=2))}},
        "held by nobody": {"orders": {(home, "1"): replace(order, open=((7, 5),))}},
        "does not hide": {"orders": {(home, "1"): replace(order, shown=(1, 1))}},
        "has no orders": {"orders": orders, "pending": {(home, "2"): match}},
        "more contracts are bought": {"carried": {("A", "P"): Carried(1, 0)}, "prices": {"P": 1}},
        "at no price": {"carried": {("A", "P"): Carried(1, 0), ("B", "P"): Carried(-1, 0)}},
        "margin is of no balance": {"carried": {("Q", "O"): Carried(1, 1), ("B", "O"): Carried(-1, 0)}},
        "no derivative": {"carried": {("A", "S"): Carried(1, 0)}},
        "a price of nothing": {"prices": {"S": 1}},
    }
    for says, fields in wrong.items():
        with pytest.raises(InvalidProof, match=says):
            decode_state(replace(state, **fields).encode(), genesis)
