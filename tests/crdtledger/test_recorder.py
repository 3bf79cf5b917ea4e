"""What a recorder refuses, it refuses whole, by name, and without a trace; what it takes twice changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import (
    AmountOutOfRange,
    BadInput,
    CallerError,
    Conflict,
    InsufficientRights,
    NotAllowed,
    UnknownName,
    UnknownReserve,
    decimal_text,
)
from crdtledger.ledger.batch import fork_evidence, open_batch
from crdtledger.ledger.body import MAX_FACTS, Cursor
from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import (
    MAX_AMOUNT,
    MAX_NUMBER,
    TABLES,
    Account,
    Bust,
    Deposit,
    Fact,
    Fill,
    Grant,
    Kind,
    Mark,
    Note,
    Post,
    Reserve,
    Transfer,
    Void,
    Withdrawal,
)
from crdtledger.ledger.genesis import Authority, Custodian, Policies
from tests.crdtledger.worlds import INVERSE, SPOT, Desk, Pen, World, rows

FILL = Fill(venue="v", trade_id="t", instrument=SPOT.name, account="A", side="buy", qty=1, price=1)
PAY = Withdrawal(id="w", account="A", asset="USDT", amount=5)
POLICIES = Policies(
    authorities=(Authority("n1", ("A*",)),),
    custodians=(Custodian("n1", "A2"), Custodian("n0")),
    grant_finality="settled",
)


def but(fact: Any, **fields: Any) -> Any:
    return msgspec.structs.replace(fact, **fields)


def world(policies: Policies | None = None) -> World:
    made = World(2, policies).furnish(("A", "A2", "B"))
    made.desks[0].record(Deposit(id="d", account="A", asset="USDT", amount=100))
    made.desks[0].record(Grant(id="g", account="A", asset="USDT", amount=30, node="n1"))
    made.desks[0].record(Reserve(id="r", account="A", asset="USDT", amount=20), but(PAY, id="paid"))
    made.sync()
    return made


REFUSALS: list[tuple[int, Fact, type[CallerError], str]] = [
    (0, but(FILL, account="a"), UnknownName, "unknown account 'a'"),
    (0, but(FILL, account="A22"), UnknownName, "did you mean 'A2'"),
    (0, but(FILL, instrument="BTCUSD"), UnknownName, "did you mean 'BTCUSDT'"),
    (0, but(FILL, fee_asset="USDC"), UnknownName, "did you mean 'USDT'"),
    (0, but(PAY, asset="EUR"), UnknownName, "unknown asset 'EUR'"),
    (0, Grant(id=1, account="A", asset="USDT", amount=1, node="n2"), UnknownName, "unknown node 'n2'"),
    (0, Grant(id=1, account="A", asset="USDT", amount=1, node="n0"), BadInput, "cannot grant to itself"),
    (0, Transfer(id=1, account="A", asset="USDT", amount=1, credit="Z"), UnknownName, "unknown account 'Z'"),
    (0, Post(id=1, reserve="r", amount=1, credit="Z"), UnknownName, "unknown account 'Z'"),
    (0, Mark(instrument="X", price=1, ts_us=1, source="s"), UnknownName, "unknown instrument 'X'"),
    (0, but(FILL, qty=0), AmountOutOfRange, "facts[0].qty: 0 is outside 1.."),
    (0, but(FILL, price=MAX_AMOUNT + 1), AmountOutOfRange, "facts[0].price"),
    (0, but(FILL, fee=-MAX_AMOUNT - 1), AmountOutOfRange, "facts[0].fee"),
    (0, but(FILL, ts_us=-1), AmountOutOfRange, "facts[0].ts_us"),
    (0, but(FILL, trade_id=-1), AmountOutOfRange, "facts[0].trade_id"),
    (0, but(FILL, trade_id=MAX_NUMBER + 1), AmountOutOfRange, "facts[0].trade_id"),
    (0, but(FILL, trade_id=""), BadInput, "facts[0].trade_id"),
    (0, but(FILL, venue="v\n"), BadInput, "facts[0].venue"),
    (0, but(FILL, venue="\ud800"), BadInput, "facts[0].venue"),
    (0, but(FILL, leg="x" * 129), BadInput, "facts[0].leg"),
    (0, but(FILL, side="hold"), BadInput, "facts[0].side"),
    (0, but(FILL, qty=1.5), BadInput, "facts[0].qty"),
    (0, but(FILL, qty=True), BadInput, "facts[0].qty"),
    (0, but(FILL, account=None), BadInput, "facts[0].account"),
    (0, but(PAY, amount=0), AmountOutOfRange, "facts[0].amount"),
    (0, but(PAY, amount="5"), BadInput, "facts[0].amount"),
    (0, Reserve(id=1, account="A", asset="USDT", amount=1, expires_us=-1), AmountOutOfRange, "facts[0].expires_us"),
    (0, Mark(instrument=SPOT.name, price=1, ts_us=1, source="s", sequence=-1), AmountOutOfRange, "facts[0].sequence"),
    (0, but(SPOT, name="NEW", qty_decimals=19), BadInput, "qty_decimals"),
    (0, but(SPOT, name="NEW", settlement="EUR"), BadInput, "no asset of this cluster"),
    (0, but(SPOT, qty_decimals=7), Conflict, "instrument 'BTCUSDT' is recorded already"),
    (0, Account(name="A", label="other"), Conflict, "account 'A' is recorded already"),
    (1, but(FILL, account="B"), NotAllowed, "n1 may not record a fill for B: the genesis leaves that to n0"),
    (1, but(PAY, account="B"), NotAllowed, "n1 may not record a withdrawal for B"),
    (
        1,
        Deposit(id=9, account="A", asset="USDT", amount=1),
        NotAllowed,
        "n1 may not deposit for A USDT: the genesis leaves that to n0",
    ),
    (0, Deposit(id=9, account="A2", asset="USDT", amount=1), NotAllowed, "the genesis leaves that to n1"),
    (0, Deposit(id="d", account="A", asset="USDT", amount=1), Conflict, "deposit 'd' is recorded already"),
    (0, but(PAY, id="paid", amount=1), Conflict, "withdrawal 'paid' is recorded already"),
    (1, but(PAY, id="paid", amount=1), Conflict, "withdrawal 'paid' is recorded already"),
    (0, Grant(id="g", account="A", asset="USDT", amount=31, node="n1"), Conflict, "grant 'g' is recorded already"),
    (0, Reserve(id="r", account="A", asset="USDT", amount=21), Conflict, "reserve 'r' is recorded already"),
    (0, Post(id=1, reserve="none", amount=1, credit="B"), UnknownReserve, "does not hold"),
    (1, Post(id=1, reserve="r", amount=1, credit="B"), UnknownReserve, "does not hold"),
    (0, Post(id=1, reserve="r", amount=21, credit="B"), UnknownReserve, "more than is left"),
    (1, Void(id=1, reserve="r"), UnknownReserve, "does not hold"),
    (0, but(PAY, amount=46), InsufficientRights, "this node may spend 0.000045; n1 holds 0.000030"),
    (0, but(PAY, account="B"), InsufficientRights, "no other node holds any"),
    (1, but(PAY, amount=1), InsufficientRights, "this node may spend 0.000000; n0 holds 0.000045"),
]


@pytest.mark.parametrize(("node", "fact", "error", "says"), REFUSALS)
def test_each_refusal_names_what_is_wrong_and_leaves_no_trace(
    node: int, fact: Fact, error: type[CallerError], says: str
) -> None:
    desk = world(POLICIES).desks[node]
    before = desk.replica.digest()
    company: list[list[Fact]] = [[], [Account(name="N"), but(SPOT, name="OTHER"), but(FILL, trade_id=9)]]
    if node == 0:
        company.append([Deposit(id="more", account="A", asset="BTC", amount=1), Account(name="N")])
    for others in company:
        with pytest.raises(error) as caught:
            desk.record(fact, *others)
        assert says in str(caught.value)
        assert desk.replica.digest() == before
    desk.replica.check_invariants()


def test_a_refused_spend_says_who_holds_the_rest() -> None:
    refused = world(POLICIES).desks[0].tries(but(PAY, amount=46))
    assert isinstance(refused, InsufficientRights)
    assert (refused.requested, refused.held_here, refused.held_elsewhere) == (46, 45, {"n1": 30})
    assert (refused.account, refused.asset, refused.decimals) == ("A", "USDT", 6)


EVERYTHING: list[Fact] = [
    Account(name="C", label="third"),
    but(INVERSE, name="NEW"),
    FILL,
    but(FILL, trade_id=7, instrument="NEW", account="C", fee=-3, fee_asset="USDT"),
    Bust(venue="v", trade_id="b", instrument=SPOT.name, account="A", side="sell", qty=1, price=1),
    Mark(instrument=SPOT.name, price=-1, ts_us=5, source="s", sequence=2),
    Deposit(id=77, account="A", asset="USDT", amount=40),
    Grant(id=5, account="A", asset="USDT", amount=1, node="n1"),
    Reserve(id="new", account="A", asset="USDT", amount=3, expires_us=9),
    Post(id=2, reserve="new", amount=1, credit="B"),
    Post(id="x", reserve="r", amount=1, credit="C"),
    Transfer(id=3, account="A", asset="USDT", amount=1, credit="B"),
    but(PAY, id="w2"),
    Note(break_id="0" * 16, field="owner", text="kim"),
    Note(break_id="0" * 16, field="comment", text="seen"),
]


@given(st.lists(st.sampled_from(EVERYTHING), min_size=1, unique_by=id), st.integers(1, 3))
def test_recording_twice_changes_nothing(facts: list[Fact], times: int) -> None:
    desk = world().desks[0]
    needed = [EVERYTHING[0], EVERYTHING[1], EVERYTHING[8]]
    desk.record(*needed)
    first = desk.record(*facts * times)
    digest = desk.replica.digest()
    again = desk.record(*facts * times)
    assert (again.batches, again.facts, again.duplicates) == ((), 0, times * len(facts))
    assert desk.replica.digest() == digest
    fresh = [fact for fact in facts if fact not in needed]
    assert (first.facts, first.duplicates) == (len(fresh), times * len(facts) - len(fresh))
    desk.replica.check_invariants()


def test_what_is_recorded_decodes_to_the_same_facts() -> None:
    desk = world().desks[0]
    recorded = desk.record(*EVERYTHING).batches
    read = {kind: [row for batch in recorded for row in rows(batch, kind)] for kind in TABLES}
    members = [member.name for member in desk.genesis.nodes]
    for fact in EVERYTHING[2:-2]:
        wanted = msgspec.structs.asdict(fact)
        kind = Kind[type(fact).__name__.upper()]
        if "trade_id" in wanted:
            wanted["id"] = wanted.pop("trade_id")
            wanted["side"] = 1 if wanted["side"] == "buy" else -1
        if "node" in wanted:
            wanted["node"] = members.index(wanted["node"])
        assert any(wanted.items() <= row.items() for row in read[kind]), fact
    assert [d for batch in recorded for d in batch.body.definitions] == [EVERYTHING[1]]
    assert [(a.name, a.label) for batch in recorded for a in batch.body.accounts] == [("C", "third")]
    noted = desk.replica.view.board.notes()
    assert sorted((one.break_id, one.field, one.text) for one in noted) == sorted(
        map(msgspec.structs.astuple, EVERYTHING[-2:])
    )


def test_a_name_that_stands_in_many_batches_is_held_once() -> None:
    desk = world().desks[0]
    desk.record(SPOT)
    fills = [
        Fill(venue="v", trade_id=at, instrument=SPOT.name, account="A", side="buy", qty=1, price=1) for at in (1, 2)
    ]
    bodies = [open_batch(desk.record(fill).batches[0].raw, desk.genesis).body for fill in fills]
    assert len(bodies[0].strings) > 2
    assert all(one is other for one, other in zip(bodies[0].strings, bodies[1].strings, strict=True))


@pytest.mark.parametrize(
    "pair",
    [
        (but(SPOT, name="N"), but(SPOT, name="N", qty_decimals=3)),
        (Account(name="N", label="x"), Account(name="N", label="y")),
        (but(PAY, id=1), but(PAY, id="1", amount=6)),
        (Deposit(id=1, account="A", asset="USDT", amount=1), Deposit(id=1, account="A", asset="USDT", amount=2)),
        (Reserve(id=1, account="A", asset="USDT", amount=1), Reserve(id=1, account="A", asset="USDT", amount=2)),
        (Void(id=1, reserve="r"), Void(id=1, reserve="q")),
    ],
)
def test_one_call_cannot_contradict_itself(pair: tuple[Fact, Fact]) -> None:
    desk = world().desks[0]
    desk.record(Reserve(id="q", account="A", asset="USDT", amount=1))
    before = desk.replica.digest()
    assert isinstance(desk.tries(*pair), Conflict)
    assert desk.replica.digest() == before


def test_two_statements_of_a_venue_are_both_kept_and_the_first_counts() -> None:
    desk = world().desks[0]
    recorded = desk.record(FILL, but(FILL, qty=9), FILL)
    assert (recorded.facts, recorded.duplicates) == (2, 1)
    assert [row.bought for row in desk.replica.view.position_rows()] == [1]
    assert [one.type for one in desk.replica.breaks()] == ["conflict"]
    assert desk.record(but(FILL, qty=9), FILL).facts == 0


def test_a_contradiction_tells_every_amount_with_its_decimals_and_every_fee_with_its_asset() -> None:
    desk = world().desks[0]
    desk.record(but(FILL, fee=3, fee_asset="BTC"), but(FILL, fee=12))
    [told] = desk.replica.breaks()
    btc, usdt = (decimal_text(fee, desk.genesis.asset_decimals[name]) for fee, name in ((3, "BTC"), (12, "USDT")))
    assert "." in btc + usdt
    assert f"0.00000001@0.01 BTCUSDT fee {btc} BTC at" in told.detail
    assert f"0.00000001@0.01 BTCUSDT fee {usdt} USDT at" in told.detail


def test_an_older_mark_changes_nothing_and_is_not_recorded() -> None:
    desk = world().desks[0]
    mark = Mark(instrument=SPOT.name, price=5, ts_us=10, source="s")
    assert desk.record(mark).facts == 1
    assert desk.record(mark, but(mark, ts_us=9)).facts == 0
    assert desk.record(but(mark, ts_us=11, price=6), but(mark, ts_us=12)).facts == 2
    assert desk.record(but(mark, ts_us=12), but(mark, source="other")).facts == 1


def test_facts_beyond_a_batch_are_split_but_rights_stand_together() -> None:
    desk = world().desks[0]
    many = desk.record(*(but(FILL, trade_id=n) for n in range(MAX_FACTS + 10)))
    assert [batch.facts for batch in many.batches] == [(MAX_FACTS + 10) // 2] * 2
    wordy = desk.record(*(but(FILL, trade_id=f"{n:04d}" + "é" * 120) for n in range(2000)))
    assert len(wordy.batches) > 1
    assert wordy.facts == 2000
    before = desk.replica.digest()
    refused = desk.tries(*(but(PAY, id=n, amount=1) for n in range(MAX_FACTS + 1)))
    assert isinstance(refused, BadInput)
    assert "stand or fall together" in str(refused)
    assert desk.replica.digest() == before


# -- columns -----------------------------------------------------------------------------------------------


def columns(n: int = 3, **fields: Any) -> FillColumns:
    usual: dict[str, Any] = {
        "venue": "v",
        "instrument": SPOT.name,
        "trade_id": np.arange(n, dtype=np.uint64),
        "price": np.full(n, 5, np.int64),
        "qty": np.arange(1, n + 1, dtype=np.int64),
        "side": np.ones(n, np.int8),
        "account": np.zeros(n, np.int64),
        "accounts": ("A", "B"),
    }
    return FillColumns(**usual | fields)


def ints(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"qty": ints(1, 0, 1)}, AmountOutOfRange, "fills[1].qty: 0"),
        ({"price": ints(1, 1, MAX_AMOUNT + 1)}, AmountOutOfRange, "fills[2].price"),
        ({"fee": ints(0, -(1 << 63), 0)}, AmountOutOfRange, "fills[1].fee"),
        ({"ts_us": ints(0, 0, -1)}, AmountOutOfRange, "fills[2].ts_us"),
        ({"trade_id": ints(0, -1, 2)}, AmountOutOfRange, "fills[1].trade_id"),
        ({"price": np.full(3, 1.5)}, BadInput, "price"),
        ({"qty": np.array([1, 2, 1 << 70], object)}, BadInput, "qty"),
        ({"side": ints(1, 0, -1)}, BadInput, "side"),
        ({"side": np.ones(2, np.int8)}, BadInput, "side"),
        ({"account": ints(0, 0)}, BadInput, "account"),
        ({"account": ints(0, 0, 2)}, UnknownName, "account"),
        ({"account": ints(0, -1, 0)}, UnknownName, "account"),
        ({"accounts": ("A", "Z"), "account": ints(0, 0, 1)}, UnknownName, "unknown account 'Z'"),
        ({"trade_id": np.arange(2, dtype=np.uint64)}, BadInput, "trade_id"),
        ({"text_ids": ("a", "b")}, BadInput, "text_ids"),
        ({"text_ids": ("a", "", "b")}, BadInput, "fills[1].text_ids"),
        ({"text_ids": ("a", "b", "\n")}, BadInput, "fills[2].text_ids"),
        ({"fee": ints(1, 1, 1), "fee_asset": ints(0, 1, -1), "fee_assets": ("USDT",)}, UnknownName, "asset"),
        (
            {"fee": ints(1, 1, 1), "fee_asset": ints(0, 0, -1), "fee_assets": ("EUR",)},
            UnknownName,
            "unknown asset 'EUR'",
        ),
        ({"instrument": "X"}, UnknownName, "unknown instrument 'X'"),
        ({"venue": ""}, BadInput, "venue"),
        ({"leg": "\n"}, BadInput, "leg"),
        ({"id_space": "x" * 129}, BadInput, "id_space"),
    ],
)
def test_columns_are_checked_whole_before_anything_is_recorded(
    fields: dict[str, Any], error: type[CallerError], says: str
) -> None:
    desk = world().desks[0]
    before = desk.replica.digest()
    with pytest.raises(error) as caught:
        desk.recorder.record_fills(columns(**fields), 5)
    assert says in str(caught.value)
    assert desk.replica.digest() == before


def test_columns_and_single_facts_are_one_language() -> None:
    by_column, by_fact = world().desks[0], world().desks[0]
    ids = ("7", "x", "07")
    by_column.recorder.record_fills(
        columns(text_ids=ids, fee=ints(1, -2, 0), fee_asset=ints(-1, 0, 0), fee_assets=("BTC",)), 5
    )
    fees = [(1, None), (-2, "BTC"), (0, "BTC")]
    singles = [
        but(FILL, trade_id=id, qty=n + 1, price=5, fee=fee, fee_asset=asset)
        for n, (id, (fee, asset)) in enumerate(zip(ids, fees, strict=True))
    ]
    by_fact.record(*singles)
    assert by_column.replica.view.position_rows() == by_fact.replica.view.position_rows()
    assert by_column.record(*singles).facts == 0
    assert (
        by_fact.recorder.record_fills(
            columns(text_ids=ids, fee=ints(1, -2, 0), fee_asset=ints(-1, 0, 0), fee_assets=("BTC",)), 5
        ).facts
        == 0
    )


def test_an_import_s_cursor_goes_with_its_last_batch_and_only_forward() -> None:
    desk = world().desks[0]
    recorded = desk.recorder.record_fills(columns(2 * MAX_FACTS), 5, Cursor("file", 100, 10))
    assert [len(batch.body.cursors) for batch in recorded.batches] == [0, 1]
    assert desk.recorder.record_fills(columns(2 * MAX_FACTS), 5, Cursor("file", 100, 10)).batches == ()
    onward = desk.recorder.record_fills(columns(2), 5, Cursor("file", 200, 20))
    assert (onward.facts, onward.duplicates, len(onward.batches)) == (0, 2, 1)
    before = desk.replica.digest()
    with pytest.raises(BadInput, match="cursor"):
        desk.recorder.record_fills(columns(2 * MAX_FACTS, venue="w"), 5, Cursor("f" * 129, 0, 0))
    assert desk.replica.digest() == before


def test_nothing_is_spendable_of_what_nobody_knows() -> None:
    desk = world().desks[0]
    assert desk.recorder.spendable("A", "USDT") == 45
    assert desk.recorder.spendable("nobody", "USDT") == 0
    with pytest.raises(UnknownName, match="EUR"):
        desk.recorder.spendable("B", "EUR")


def test_a_node_whose_lane_is_forked_is_told_so() -> None:
    made = world()
    desk: Desk = made.desks[0]
    held = list(desk.replica.batches())[-1]
    ghost = Pen(made.genesis, 0)  # an earlier state of the same machine, brought back to life
    ghost.seq, ghost.head, ghost.clock = held.seq - 1, held.header.prev, 1
    twin = ghost.write(FILL)
    desk.replica.admit_evidence(fork_evidence(held, twin).raw)
    refusals: list[Callable[[], object]] = [
        lambda: desk.record(but(FILL, trade_id=8)),
        lambda: desk.recorder.record_fills(columns(), 5),
    ]
    for call in refusals:
        with pytest.raises(NotAllowed, match="forked"):
            call()
