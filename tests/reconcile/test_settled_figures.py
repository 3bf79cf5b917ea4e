"""A position's settled figures, each told apart, added up within a height and across heights."""

from __future__ import annotations

import random

import msgspec

from crdtledger.ledger.facts import Bust, Fill, Transfer
from crdtledger.ledger.settledparts import SettledPosition
from reconcile.entries import FLAT, after
from tests.crdtledger.worlds import SPOT, Pen
from tests.reconcile.test_settlement import GENESIS, Bench, fill, funded


def paid(trade: int, fee: int, asset: str | None, kind: type[Fill] = Fill, side: str = "buy") -> Fill:
    return msgspec.structs.replace(fill(trade, kind=kind, side=side), fee=fee, fee_asset=asset)


def test_fees_in_the_settlement_asset_add_up_whether_it_is_named_or_not_and_others_stand_apart() -> None:
    bench, pen = Bench(), Pen(GENESIS, 0)
    bench.settle(
        pen.write(SPOT), pen.write(paid(1, 5, None), paid(2, 7, "USDT"), paid(3, 11, "BTC"), paid(4, 0, "BTC"))
    )
    position = bench.state.positions["A", "BTCUSDT"]
    assert (position.fees, position.other_fees) == (12, (("BTC", 11),))
    bench.settle(pen.write(paid(5, -2, "USDT"), paid(6, 30, None), paid(7, 4, "BTC")))
    position = bench.state.positions["A", "BTCUSDT"]
    assert (position.fees, position.other_fees) == (40, (("BTC", 15),))
    bench.settle(pen.write(paid(1, 5, None, Bust), paid(3, 11, "BTC", Bust), paid(7, 4, "BTC", Bust)))
    position = bench.state.positions["A", "BTCUSDT"]
    assert (position.fees, position.other_fees, position.fills) == (35, (), 4)


def test_what_was_bought_and_sold_is_told_apart_in_quantity_and_value_and_busts_take_it_back() -> None:
    bench, pen = Bench(), Pen(GENESIS, 0)
    trades = [fill(1, qty=5, price=10), fill(2, qty=3, price=20, side="sell"), fill(3, qty=4, price=30, side="sell")]
    bench.settle(pen.write(SPOT), pen.write(*trades))
    first = SettledPosition(bought=5, sold=7, value_bought=50, value_sold=180, fills=3, cost=60, realised=70)
    assert bench.state.positions["A", "BTCUSDT"] == first
    bench.settle(pen.write(fill(4, qty=6, price=7), fill(1, qty=5, price=10, kind=Bust)))
    after = bench.state.positions["A", "BTCUSDT"]
    assert (after.bought, after.sold, after.value_bought, after.value_sold, after.fills) == (6, 7, 42, 180, 3)
    bench.settle(
        *(pen.write(msgspec.structs.replace(fill(n, qty=q, price=p, kind=Bust), side=s)) for n, q, p, s in BUSTED)
    )
    assert bench.state.positions == {}


BUSTED = ((2, 3, 20, "sell"), (3, 4, 30, "sell"), (4, 6, 7, "buy"))


def test_accounts_and_instruments_stand_apart_in_one_batch() -> None:
    bench, pen = Bench(), Pen(GENESIS, 0)
    trades = [
        msgspec.structs.replace(fill(number, qty=number), account=account) for number, account in enumerate("BABAC", 1)
    ]
    bench.settle(pen.write(SPOT), pen.write(*trades))
    assert {account: held.bought for (account, _), held in bench.state.positions.items()} == {"A": 6, "B": 4, "C": 5}


def test_among_many_fills_of_one_batch_each_account_s_are_taken_in_their_order() -> None:
    bench, pen = Bench(), Pen(GENESIS, 0)
    luck = random.Random(7)
    trades = [
        msgspec.structs.replace(
            fill(number, qty=luck.randint(1, 9), price=luck.randint(1, 99), side=luck.choice(("buy", "sell"))),
            account=luck.choice("ABC"),
        )
        for number in range(300)
    ]
    bench.settle(pen.write(SPOT), pen.write(*trades))
    for account in "ABC":
        mine = [one for one in trades if one.account == account]
        entry = after(FLAT, [((1 if one.side == "buy" else -1) * one.qty, one.qty * one.price) for one in mine], False)
        held = bench.state.positions[account, "BTCUSDT"]
        assert (held.qty, held.cost, held.realised) == entry


def test_an_account_through_which_money_only_went_leaves_no_balance_behind() -> None:
    bench = Bench()
    custodian, _ = funded(bench)
    bench.settle(custodian.write(Transfer(id="there", account="A", asset="USDT", amount=10, credit="B")))
    assert bench.state.collateral["B", "USDT"].held == 10
    settled = bench.settle(custodian.write(Transfer(id="back", account="B", asset="USDT", amount=10, credit="A")))
    assert set(bench.state.collateral) == {("A", "USDT")}
    assert bench.state.collateral["A", "USDT"].held == 100
    assert settled.liabilities == {"USDT": {"A": 100, "B": None}}
