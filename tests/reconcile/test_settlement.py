"""Settlement: the next state is a function of the last one and a cut, the same for everybody, exact, and never an exception."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycrdt import Array

from crdtledger.errors import BadCut
from crdtledger.ledger.batch import Batch, fork_evidence
from crdtledger.ledger.facts import Bust, Deposit, Fill, Grant, Post, Reserve, Transfer, Withdrawal
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.settled import SettledState, decode_state
from crdtledger.ledger.view import View
from reconcile.adjustments import adjustments_root, decode_adjustments, encode_adjustments
from reconcile.settlement import Settlement, settle
from tests.crdtledger.worlds import SPOT, Pen, World, dep_on, genesis
from tests.reconcile.settlement_model import Ledger
from tests.reconcile.settlement_worlds import RIVAL, Height, Story, cut_at, stories, wants, written

FIRST = bytes(32)
several = st.integers(1, 3)
seeds = st.integers(0, 1 << 30)


def heights(story: Story, seed: int, count: int) -> Iterator[tuple[SettledState, bytes, Height, Settlement]]:
    """The story settled in ``count`` heights: (state before, previous digest, what is settled, what it comes to)."""
    state, previous = SettledState.empty(story.genesis), FIRST
    for number, (wanted, evidence) in enumerate(wants(story, seed, count), 1):
        height = cut_at(story, state, wanted, evidence)
        settled = settle(story.genesis, state, previous, height.cut, height.batches, height.evidence, height=number)
        yield state, previous, height, settled
        state, previous = settled.state, bytes([number]) * 32


def told(state: SettledState) -> dict[str, Any]:
    """The figures of a state, as the model tells them."""
    names = [node.name for node in _members(state)]
    return {
        "positions": {
            at: {name: getattr(p, name) for name in _FIGURES} | {"other_fees": dict(p.other_fees)}
            for at, p in state.positions.items()
        },
        "collateral": {
            at: {
                "deposited": b.deposited,
                "withdrawn": b.withdrawn,
                "reserved": b.reserved,
                "rights": {names[index]: amount for index, amount in b.rights},
            }
            for at, b in state.collateral.items()
        },
        "definitions": {name: [one.digest for one in rivals] for name, rivals in state.definitions.items()},
        "labels": dict(state.labels),
        "marks": {at: (m.ts_us, m.sequence, m.price, tuple(m.instrument)) for at, m in state.marks.items()},
        "cursors": dict(state.cursors),
        "board": {lane: [one.entry for one in notes] for lane, notes in state.board.items()},
        "waiting": sum(len(waiting) for waiting in state.suspended),
    }


_FIGURES = ("bought", "sold", "value_bought", "value_sold", "fees", "fills", "cost", "realised")


def _members(state: SettledState) -> Any:
    return genesis(3).nodes


def plainly(model: Ledger) -> dict[str, Any]:
    """The same figures from the model, without what holds nothing."""
    positions = {}
    for at, position in model.positions.items():
        kept = {**position, "other_fees": {asset: fee for asset, fee in position["other_fees"].items() if fee}}
        if any(kept.values()):
            positions[at] = kept
    reserved: dict[Any, int] = {}
    for held in model.reserves.values():
        for cell, remaining in held.values():
            reserved[cell] = reserved.get(cell, 0) + remaining
    collateral = {}
    cells = {cell for rights in model.rights.values() for cell in rights} | model.deposited.keys() | reserved.keys()
    for cell in cells | model.withdrawn.keys():
        balance = {
            "deposited": model.deposited.get(cell, 0),
            "withdrawn": model.withdrawn.get(cell, 0),
            "reserved": reserved.get(cell, 0),
            "rights": {node: rights[cell] for node, rights in model.rights.items() if rights.get(cell)},
        }
        if any(balance.values()):
            collateral[cell] = balance
    return {
        "positions": positions,
        "collateral": collateral,
        "definitions": {name: [digest for digest, _ in rivals] for name, rivals in model.definitions.items()},
        "labels": model.labels,
        "marks": model.marks,
        "cursors": model.cursors,
        "board": {lane: list(map(bytes, doc.get("board", type=Array))) for lane, doc in model.board.items()},
        "waiting": len(model.waiting),
    }


@given(drawn=stories, seed=seeds, count=several)
def test_it_is_the_plain_telling_height_by_height(drawn: Any, seed: int, count: int) -> None:
    story = written(drawn)
    model = Ledger(story.genesis)
    for _, previous, height, settled in heights(story, seed, count):
        model.settle(previous, height.cut, height.batches, height.evidence)
        assert told(settled.state) == plainly(model)
        voided = {(one.lane, one.seq) for one in settled.adjustments if one.effect == "voided" and not one.kind}
        assert voided == set(model.void)
        model.void.clear()


@given(drawn=stories, seed=seeds, count=several, salt=st.integers(0, 1 << 60))
def test_neither_the_order_of_arrival_nor_a_secret_changes_anything(
    drawn: Any, seed: int, count: int, salt: int
) -> None:
    story, luck = written(drawn), random.Random(seed)
    for state, previous, height, settled in heights(story, seed, count):
        shuffled = luck.sample(height.batches, len(height.batches))
        proofs = luck.sample(height.evidence, len(height.evidence))
        again = settle(story.genesis, state, previous, height.cut, shuffled, proofs, salt, height=9)
        assert again.state.encode() == settled.state.encode()
        assert again._replace(state=settled.state) == settled


@given(drawn=stories, seed=seeds, count=several)
def test_conservation_holds_and_nobody_is_below_zero(drawn: Any, seed: int, count: int) -> None:
    for _, _, _, settled in heights(written(drawn), seed, count):
        assert settled.state.imbalance() == {}
        for balance in settled.state.collateral.values():
            amounts = [balance.deposited, balance.withdrawn, balance.reserved, balance.shortfall]
            assert min(amounts) >= 0
            assert all(amount > 0 for _, amount in balance.rights)
        assert all(held.remaining > 0 for lane in settled.state.reserves.values() for held in lane.values())


@given(drawn=stories, seed=seeds, count=several)
def test_settling_the_same_cut_again_does_nothing_and_loading_changes_nothing(
    drawn: Any, seed: int, count: int
) -> None:
    story = written(drawn)
    for state, previous, height, settled in heights(story, seed, count):
        raw = settled.state.encode()
        loaded = decode_state(raw, story.genesis, salt=seed)
        assert loaded.encode() == raw
        nothing = settle(story.genesis, loaded, previous, height.cut, [], [], height=9)
        assert nothing == (loaded, (), adjustments_root(()), {}, {}, ())
        before = decode_state(state.encode(), story.genesis, salt=seed)
        again = settle(story.genesis, before, previous, height.cut, height.batches, height.evidence, height=9)
        assert again.state.encode() == raw
        assert again._replace(state=settled.state) == settled


@given(drawn=stories, seed=seeds)
def test_adjustments_are_encoded_in_one_way_and_counted_by_cause(drawn: Any, seed: int) -> None:
    for before, _, height, settled in heights(written(drawn), seed, 2):
        told_raw = encode_adjustments(settled.adjustments)
        assert decode_adjustments(told_raw) == settled.adjustments
        assert adjustments_root(decode_adjustments(told_raw)) == settled.adjustments_root
        assert sum(settled.causes.values()) == sum(one.facts for one in settled.adjustments)
        told_of = {(batch.key, batch.seq) for batch in height.batches}
        told_of |= {(waiting.key, waiting.seq) for waiting in before.suspended}  # their definition came late
        for one in settled.adjustments:
            assert len(one.rows()) in (0, one.facts)
            assert one.effect in ("closed", "expired") or (one.lane, one.seq) in told_of


@given(drawn=stories, seed=seeds, count=several)
def test_a_view_on_the_settled_state_shows_its_figures(drawn: Any, seed: int, count: int) -> None:
    story = written(drawn)
    for _, _, _, settled in heights(story, seed, count):
        view = View(story.genesis, base=settled.state)
        rows = {(p.account, p.instrument): (p.bought, p.sold, p.fees, p.cost) for p in view.position_rows()}
        assert rows == {at: (p.bought, p.sold, p.fees, p.cost) for at, p in settled.state.positions.items()}
        assert {(b.account, b.asset): b.held for b in view.collateral_rows()} == {
            at: b.held for at, b in settled.state.collateral.items()
        }


# -- honest members -------------------------------------------------------------------------------------------


def busy_world(seed: int, steps: int = 40) -> list[Batch]:
    """What three honest members record, hearing from each other now and then, with ids of their own."""
    luck = random.Random(seed)
    world = World(3).furnish()
    world.desks[0].record(*(Deposit(id=f"d{a}", account=a, asset="USDT", amount=1000) for a in "AB"))
    world.sync()
    for step in range(steps):
        desk = world.desks[luck.randrange(3)]
        account, to = luck.sample("AB", 2)
        fact: Any = luck.choice(
            [
                Fill(venue="V", trade_id=step, instrument="BTCUSDT", account=account, side=luck.choice(("buy", "sell")),
                     qty=luck.randint(1, 9), price=luck.randint(1, 9)),
                Withdrawal(id=f"w{step}", account=account, asset="USDT", amount=luck.randint(1, 50)),
                Transfer(id=f"t{step}", account=account, asset="USDT", amount=luck.randint(1, 50), credit=to),
                Grant(id=f"g{step}", account=account, asset="USDT", amount=luck.randint(1, 200),
                      node=f"n{luck.randrange(3)}"),
                Reserve(id=f"r{step}", account=account, asset="USDT", amount=luck.randint(1, 50)),
                Post(id=f"p{step}", reserve=f"r{luck.randrange(step + 1)}", amount=luck.randint(1, 20), credit=to),
            ]
        )  # fmt: skip
        desk.tries(fact)
        if luck.random() < 0.4:
            world.send(luck.randrange(3), desk.node)
    world.sync()
    return list(world.desks[0].replica.batches())


@given(seed=seeds, count=st.integers(2, 5))
def test_honest_work_comes_to_the_same_however_it_is_cut(seed: int, count: int) -> None:
    story = Story(genesis(3), busy_world(seed), [])
    at_once = list(heights(story, seed, 1))[-1][3]
    in_parts = list(heights(story, seed, count))
    last = in_parts[-1][3].state
    assert not any(one.effect == "voided" for *_, settled in in_parts for one in settled.adjustments)
    assert last.collateral == at_once.state.collateral
    assert last.reserves == at_once.state.reserves
    order_free = ("bought", "sold", "value_bought", "value_sold", "fees", "fills", "qty")
    for at, position in at_once.state.positions.items():
        assert all(getattr(position, name) == getattr(last.positions[at], name) for name in order_free)
    replica = Replica(story.genesis)
    for batch in story.batches:
        replica.admit(batch.raw)
    assert {(b.account, b.asset): b.held + b.incoming - b.in_transit for b in replica.view.collateral_rows()} == {
        at: balance.held for at, balance in last.collateral.items()
    }


# -- single rules ---------------------------------------------------------------------------------------------

GENESIS = genesis(3)


class Bench:
    """Settles what pens write, height by height."""

    def __init__(self) -> None:
        self.genesis = GENESIS
        self.state = SettledState.empty(GENESIS)
        self.height = 0
        self.written: list[Batch] = []

    def settle(self, *batches: Batch, evidence: Any = ()) -> Settlement:
        self.height += 1
        self.written += batches
        heads = {lane: (held.seq, held.hash) for lane, held in self.state.lanes.items()}
        heads |= {batch.key: (batch.seq, batch.hash) for batch in batches}
        story = Story(GENESIS, self.written, list(evidence))
        height = cut_at(story, self.state, {lane: seq for lane, (seq, _) in heads.items()}, evidence)
        settled = settle(GENESIS, self.state, FIRST, height.cut, height.batches, height.evidence, height=self.height)
        self.state = settled.state
        return settled


def fill(trade: int, qty: int = 1, price: int = 100, side: Any = "buy", kind: type[Fill] = Fill) -> Fill:
    return kind(venue="V", trade_id=trade, instrument="BTCUSDT", account="A", side=side, qty=qty, price=price)


def effects(settled: Settlement) -> set[tuple[str, str]]:
    return {(one.effect, one.cause) for one in settled.adjustments}


def test_a_fill_that_waits_counts_at_the_height_at_which_its_definition_stands() -> None:
    bench, early, late = Bench(), Pen(GENESIS, 0), Pen(GENESIS, 1)
    assert effects(bench.settle(early.write(fill(1), fill(2)))) == {("suspended", "no such definition")}
    assert effects(bench.settle(early.write(fill(1)))) == {("deduplicated", "recorded before")}
    assert len(bench.state.suspended) == 1
    settled = bench.settle(late.write(SPOT))
    assert effects(settled) == {("counted", "its definition stands now")}
    assert bench.state.positions["A", "BTCUSDT"].bought == 2
    assert not bench.state.suspended


def test_a_fill_under_a_definition_that_lost_its_name_leaves_its_id_free() -> None:
    bench, loser, winner = Bench(), Pen(GENESIS, 0), Pen(GENESIS, 1)
    bench.settle(winner.write(SPOT))
    under = loser.draft([fill(1)], {"BTCUSDT": instrument_digest(RIVAL)})
    assert effects(bench.settle(loser.seal(under))) == {("suspended", "its definition lost its name")}
    assert effects(bench.settle(winner.write(fill(1)))) == set()
    assert bench.state.positions["A", "BTCUSDT"].fills == 1


def test_a_bust_that_comes_first_takes_its_fill_back() -> None:
    bench, pen = Bench(), Pen(GENESIS, 0)
    bench.settle(pen.write(SPOT), pen.write(fill(1, kind=Bust)))
    assert bench.state.positions["A", "BTCUSDT"].fills == -1
    bench.settle(pen.write(fill(1)))
    assert bench.state.positions == {}


def test_the_same_id_with_other_terms_is_a_conflict_within_a_height_and_across() -> None:
    bench, one, other = Bench(), Pen(GENESIS, 0), Pen(GENESIS, 1)
    settled = bench.settle(one.write(SPOT), one.write(fill(1)), other.write(fill(1, qty=5)))
    assert effects(settled) == {("conflict", "same id, other content")}
    first = bench.state.positions["A", "BTCUSDT"]
    assert effects(bench.settle(one.write(fill(1, qty=7)))) == {("conflict", "same id, other content")}
    assert bench.state.positions["A", "BTCUSDT"] == first
    assert [one.type for one in bench.state.breaks] == ["conflict", "conflict"]


def funded(bench: Bench) -> tuple[Pen, Pen]:
    """A custodian with 100 USDT of A settled, and another member."""
    custodian = Pen(GENESIS, 0)
    bench.settle(custodian.write(Deposit(id="d", account="A", asset="USDT", amount=100)))
    return custodian, Pen(GENESIS, 1)


def test_who_stands_on_a_void_grant_is_not_blamed_for_it() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    void = custodian.write(Grant(id="g", account="A", asset="USDT", amount=101, node="n1"))
    user = other.write(Withdrawal(id="w", account="A", asset="USDT", amount=5), deps=[dep_on(void)])
    settled = bench.settle(void, user)
    assert {(one.lane, one.cause) for one in settled.adjustments} == {
        (void.key, "overspends"),
        (user.key, "stands on a void grant"),
    }


def test_two_lanes_of_a_node_that_spend_the_same_are_divided_and_one_of_them_counts() -> None:
    bench = Bench()
    custodian, _ = funded(bench)
    second = Pen(GENESIS, 0, epoch=2)
    spends = [
        pen.write(Withdrawal(id=name, account="A", asset="USDT", amount=80))
        for pen, name in ((custodian, "w1"), (second, "w2"))
    ]
    settled = bench.settle(*spends)
    assert effects(settled) == {("voided", "divided")}
    assert bench.state.collateral["A", "USDT"].withdrawn == 80
    assert bench.state.collateral["A", "USDT"].rights == ((0, 20),)


def test_a_withdrawal_told_by_two_nodes_goes_out_once_and_the_second_is_refunded() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    grant = custodian.write(Grant(id="g", account="A", asset="USDT", amount=40, node="n1"))
    same = Withdrawal(id="w", account="A", asset="USDT", amount=30)
    settled = bench.settle(grant, custodian.write(same), other.write(same, deps=[dep_on(grant)]))
    assert effects(settled) == {("refunded", "recorded before")}
    assert bench.state.collateral["A", "USDT"].withdrawn == 30
    assert bench.state.collateral["A", "USDT"].held == 70
    assert effects(bench.settle(custodian.write(same))) == {("deduplicated", "recorded before")}
    again = other.write(Withdrawal(id="w2", account="A", asset="USDT", amount=40))
    bench.settle(again)
    taken = 70 if bench.state.collateral["A", "USDT"].withdrawn == 70 else 30
    assert bench.state.collateral["A", "USDT"].withdrawn == taken


def test_a_transfer_lands_and_a_closed_lane_sets_its_reserves_free() -> None:
    bench = Bench()
    custodian, _ = funded(bench)
    settled = bench.settle(
        custodian.write(
            Transfer(id="t", account="A", asset="USDT", amount=10, credit="B"),
            Reserve(id="r", account="A", asset="USDT", amount=30),
        )
    )
    assert effects(settled) == {("credited", "credit landed")}
    assert bench.state.collateral["B", "USDT"].rights == ((0, 10),)
    assert bench.state.collateral["A", "USDT"].reserved == 30
    twin = custodian.copy()
    mine = custodian.write(Withdrawal(id="x", account="A", asset="USDT", amount=1))
    proof = fork_evidence(mine, twin.write(Withdrawal(id="y", account="A", asset="USDT", amount=1), clock=1 << 30))
    settled = bench.settle(mine, evidence=[proof])
    assert [(one.effect, one.facts) for one in settled.adjustments] == [("closed", 0), ("expired", 1)]
    assert bench.state.collateral["A", "USDT"].reserved == 0
    assert bench.state.collateral["A", "USDT"].rights == ((0, 90),)
    assert bench.state.lanes[mine.key].closed == 3
    assert bench.state.breaks[-1].type == "fork"


def test_a_bad_cut_is_refused_before_anything_is_folded() -> None:
    batch = Pen(GENESIS, 0).write(SPOT)
    with pytest.raises(BadCut):
        settle(GENESIS, SettledState.empty(GENESIS), FIRST, (), [batch], [], height=1)
