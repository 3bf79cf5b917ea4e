"""Whatever the order, the duplication and the grouping: equal batches, equal ledgers, and equal to plain arithmetic."""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import CallerError
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import (
    Account,
    Bust,
    Deposit,
    Fact,
    Fill,
    Grant,
    Instrument,
    Mark,
    Note,
    Post,
    Reserve,
    Transfer,
    Void,
    Withdrawal,
)
from crdtledger.ledger.genesis import Authority, Custodian, Policies
from crdtledger.ledger.noteform import STATUSES
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.replica import Replica
from tests.crdtledger import model
from tests.crdtledger.worlds import INVERSE, SPOT, Desk, Pen, World, deliver, documents, exchange, genesis

POLICIES = [
    Policies(),
    Policies(grant_finality="settled"),
    Policies(authorities=(Authority("n1", ("A", "C*")),), custodians=(Custodian("n1", "A", "BTC"), Custodian("n0"))),
    Policies(custodians=(Custodian("n1", "B"), Custodian("n0", "A", "USDT"), Custodian("n1"))),
]
ACCOUNTS = ("A", "B", "Cc")
RIVAL = msgspec.structs.replace(SPOT, qty_decimals=6)

small = st.integers(0, 3)
WORDS = [
    *["fill"] * 3,
    *["deposit", "grant", "withdraw", "send"] * 2,
    *["bust", "column", "define", "rival", "account", "mark", "reserve", "post", "void", "transfer", "restore", "note"],
]
Action = tuple[str, int, int, int, int, int]
actions = st.lists(
    st.tuples(
        st.sampled_from(WORDS),
        small,
        small,
        small,
        small,
        st.integers(1, 400),
    ),
    min_size=4,
    max_size=45,
)


def fact(word: str, node: int, a: int, b: int, c: int, amount: int) -> Fact:
    """One fact out of a few small numbers: few ids, so that they meet again."""
    account, credit = ACCOUNTS[a % 3], ACCOUNTS[b % 3]
    asset = ("USDT", "BTC")[c % 2]
    terms: dict[str, Any] = {
        "venue": "v",
        "trade_id": (7, "7", "x", amount)[c],
        "instrument": (SPOT.name, INVERSE.name)[b % 2],
        "account": account,
        "side": ("buy", "sell")[a % 2],
        "qty": 1 + amount % 3,
        "price": 1 + amount % 2,
        "fee": amount % 2,
        "fee_asset": (None, "USDT", "BTC", None)[b],
    }
    made: dict[str, Fact] = {
        "fill": Fill(**terms),
        "bust": Bust(**terms),
        "mark": Mark(instrument=SPOT.name, price=amount, ts_us=a, source="xy"[b % 2], sequence=c),
        "account": Account(name=account, label=f"{amount % 3}"),
        "define": INVERSE,
        "rival": (SPOT, RIVAL)[node % 2],
        "deposit": Deposit(id=c, account=account, asset=asset, amount=amount),
        "grant": Grant(id=f"g{node}{amount}", account=account, asset=asset, amount=1 + amount % 90, node=f"n{b % 2}"),
        "reserve": Reserve(id=a, account=account, asset=asset, amount=1 + amount % 50),
        "post": Post(id=amount, reserve=a, amount=1 + amount % 20, credit=credit),
        "void": Void(id=amount, reserve=a),
        "transfer": Transfer(id=c, account=account, asset="USDT", amount=1 + amount % 50, credit=credit),
        "note": note(a, b, c, amount),
        "withdraw": Withdrawal(id=c, account=account, asset="USDT", amount=1 + amount % 50),
    }
    return made[word]


def note(a: int, b: int, c: int, amount: int) -> Note:
    texts = (("kim", "lee", "")[b % 3], STATUSES[b], ("booked", "")[b % 2], f"comment {amount % 3}")
    return Note(break_id=f"{a % 2:016x}", field=("owner", "status", "resolution", "comment")[c], text=texts[c])


def column(a: int, b: int, c: int, amount: int) -> FillColumns:
    n = amount % 5
    return FillColumns(
        venue="v",
        instrument=SPOT.name,
        trade_id=np.arange(6, 6 + n, dtype=np.uint64),
        price=np.full(n, 1 + amount % 2, np.int64),
        qty=np.arange(1, n + 1, dtype=np.int64),
        side=np.full(n, 1 if a % 2 else -1, np.int8),
        account=np.full(n, b % 2, np.int64),
        accounts=ACCOUNTS,
        fee=np.full(n, c, np.int64),
    )


def history(policies: Policies, nodes: int, steps: list[Action]) -> World:
    """Play the steps at honest nodes that hear of each other only through ``send``; refusals leave no trace and are passed over."""
    world = World(nodes, policies)
    for desk in world.desks:
        desk.record(*(Account(name=name) for name in ACCOUNTS))
    world.desks[0].record(SPOT)
    for word, node, a, b, c, amount in steps:
        desk = world.desks[node % nodes]
        if word == "send":
            world.send(node % nodes, a % nodes)
        elif word == "restore":
            restore(world, node % nodes, forgetful=a % 2 == 0)
        elif word == "column":
            with contextlib.suppress(CallerError):
                desk.recorder.record_fills(column(a, b, c, amount), desk.now_us)
        else:
            desk.tries(fact(word, node, a, b, c, amount))
        desk.replica.check_invariants()
    return world


def restore(world: World, node: int, forgetful: bool) -> None:
    """A node loses its disk. It records deposits again before it hears of its past, or hears of it first; then it claims."""
    old = world.desks[node]
    for other in world.desks:
        deliver(old.replica, other.replica)  # what it had acknowledged had left it
    fresh: Desk = old.restored()
    world.desks[node] = fresh
    fresh.record(*(Account(name=name) for name in ACCOUNTS))
    if forgetful:
        for number in range(3):
            fresh.tries(Deposit(id=number, account="A", asset="USDT", amount=1 + number))
    world.sync()
    fresh.claim()


def batches_of(world: World) -> list[Batch]:
    world.sync()
    return list(world.desks[0].replica.batches())


def shuffled(seed: int, batches: list[Batch]) -> list[Batch]:
    """Every batch once or twice, in any order at all."""
    rng = random.Random(seed)
    order = batches + [batch for batch in batches if rng.random() < 0.3]
    rng.shuffle(order)
    return order


@settings(max_examples=80)
@given(st.sampled_from(POLICIES), st.integers(2, 4), actions, st.integers(0, 1 << 30))
def test_any_order_of_delivery_gives_the_same_ledger(
    policies: Policies, nodes: int, steps: list[Action], seed: int
) -> None:
    world = history(policies, nodes, steps)
    batches = batches_of(world)
    reference = world.desks[0].replica
    for salt in (seed, seed + 1):
        replica = Replica(world.genesis, salt=salt, documents=salt % 2 == 0)
        for batch in shuffled(salt, batches):
            replica.admit(batch.raw)
            replica.check_invariants()
        assert replica.waiting() == 0
        assert replica.view.canonical() == reference.view.canonical()
        assert replica.digest() == reference.digest()
        assert documents(replica) == documents(reference)
    for desk in world.desks:
        assert desk.replica.digest() == reference.digest()
        assert documents(desk.replica) == documents(reference)


@settings(max_examples=80)
@given(st.sampled_from(POLICIES), st.integers(2, 3), actions)
def test_figures_equal_plain_arithmetic_over_the_facts(policies: Policies, nodes: int, steps: list[Action]) -> None:
    world = history(policies, nodes, steps)
    batches = batches_of(world)
    view = world.desks[0].replica.view
    expected = model.positions(world.genesis, batches)
    got = {
        (p.account, p.instrument): {
            **{field: getattr(p, field) for field in ("bought", "sold", "value_bought", "value_sold", "fees", "fills")},
            "other_fees": {asset: amount for asset, amount, _ in p.other_fees},
        }
        for p in view.position_rows()
    }
    assert got == expected
    slow = model.Collateral(world.genesis, batches)
    assert {(v.lane, v.seq) for v in view.void_batches} == {(b.key, b.seq) for b in batches if b.hash in slow.void}
    assert balances(view.collateral_rows()) == slow.balances()
    for lane in world.desks[0].replica.frontier():
        for (account, asset), amount in slow.spendable(lane).items():
            assert view.rights.available(lane, view.rights.cell(account, asset)) == amount


def balances(collateral: Any) -> dict[tuple[str, str], dict[str, Any]]:
    parts = ("deposited", "withdrawn", "reserved", "in_transit", "incoming", "refundable")
    return {
        (row.account, row.asset): {**{part: getattr(row, part) for part in parts}, "rights": dict(row.rights)}
        for row in collateral
    }


@settings(max_examples=30)
@given(actions, st.data())
def test_replicas_that_met_on_the_way_agree_with_one_built_from_scratch(
    steps: list[Action], data: st.DataObject
) -> None:
    world = history(POLICIES[0], 3, steps)
    scratch = Replica(world.genesis)
    for batch in batches_of(world):
        scratch.admit(batch.raw)
    half = Replica(world.genesis, salt=9)
    other = Replica(world.genesis, salt=10)
    for batch in batches_of(world):
        (half if data.draw(st.booleans()) else other).admit(batch.raw)
    exchange([half, other, scratch])
    assert half.digest() == other.digest() == scratch.digest()


def test_a_mark_s_name_and_source_cannot_be_mistaken_for_another_s() -> None:
    founded = genesis(2)
    digests = {name: instrument_digest(SPOT) for name in ("a", "a b")}
    pens = [Pen(founded, 0), Pen(founded, 1)]
    marks = [
        Mark(instrument="a b", price=1, ts_us=1, source="c"),
        Mark(instrument="a", price=2, ts_us=1, source="b c"),
    ]
    batches = [pen.seal(pen.draft([mark], digests)) for pen, mark in zip(pens, marks, strict=True)]
    one, two = Replica(founded), Replica(founded)
    for forth, back in zip(batches, reversed(batches), strict=True):
        one.admit(forth.raw)
        two.admit(back.raw)
    assert one.view.canonical() == two.view.canonical()


def test_a_bust_with_another_fee_leaves_the_fee_in_sight() -> None:
    desk = World(1).furnish().desks[0]
    terms: dict[str, Any] = {"venue": "v", "trade_id": 1, "instrument": SPOT.name, "account": "A", "side": "buy"}
    desk.record(
        Fill(**terms, qty=1, price=1, fee=5, fee_asset="BTC"), Bust(**terms, qty=1, price=1, fee=2, fee_asset="BTC")
    )
    assert [(row.fills, row.qty, row.other_fees) for row in desk.replica.view.position_rows()] == [
        (0, 0, (("BTC", 3, 8),))
    ]
    assert [one.type for one in desk.replica.breaks()] == ["bust"]


statements = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(0, 2), st.integers(0, 6), st.integers(1, 3)),
    min_size=2,
    max_size=12,
)


@given(statements, st.booleans(), st.sampled_from([SPOT, INVERSE]), st.integers(0, 1 << 30))
@settings(max_examples=200)
def test_the_first_statement_of_an_id_counts_whichever_came_first(
    told: list[tuple[int, int, int, int, int]], bust: bool, instrument: Instrument, seed: int
) -> None:
    """Four nodes state a few terms of two ids under clocks of their choice, one to three rows a batch. Of an inverse instrument some
    have no value."""
    founded = genesis(4)
    pens = [Pen(founded, node) for node in range(4)]
    batches = [pens[3].write(instrument, clock=1)]
    for node, trade, qty, clock, count in told:
        facts = [
            (Bust if bust and row == 2 else Fill)(
                venue="v",
                trade_id=(trade + row // 2) % 2,
                instrument=instrument.name,
                account="A",
                side="buy",
                qty=1 + (qty + row) % 3,
                price=-1 if instrument.inverse and (qty + row) % 3 == 1 else 1,
            )
            for row in range(count)
        ]
        batches.append(pens[node].write(*facts, clock=(1 << 20) + clock))
    expected = model.positions(founded, batches)
    views = []
    for salt in range(3):
        replica = Replica(founded, salt=salt)
        for batch in shuffled(seed + salt, batches):
            replica.admit(batch.raw)
        views.append(replica.view.canonical())
        assert {(p.account, p.instrument): (p.bought, p.fills) for p in replica.view.position_rows()} == {
            cell: (position["bought"], position["fills"]) for cell, position in expected.items()
        }
    assert len(set(views)) == 1
