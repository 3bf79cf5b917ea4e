"""Call auctions at their heights: one price, hidden orders that were opened in time, and bonds of those that were not."""

from __future__ import annotations

from typing import Any

import pytest

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.facts import Account, Cancel, Deposit, Match, Order, Reserve
from crdtledger.ledger.settled import SettledState
from reconcile.adjustments import ENTRIES_CLOSED, FORFEITED, ITS_MODE, NOT_REVEALED, REVEALED_LATE
from reconcile.settlement import Settlement, settle
from tests.crdtledger.worlds import Pen, genesis
from tests.reconcile.match_worlds import ALL, ASSETS, AUCTION, MEANT, hidden, opened
from tests.reconcile.settlement_worlds import Story, cut_at


class Bench:
    """One node that writes, and heights of what it wrote. The first settles the opening."""

    def __init__(self) -> None:
        self.genesis = genesis(3, ALL, ASSETS)
        self.pen = Pen(self.genesis, 0)
        self.state, self.height = SettledState.empty(self.genesis), 0
        self.written: list[Batch] = []
        self.ids = 100
        money = [Deposit(id="d", account=account, asset="USDT", amount=1_000) for account in "AB"]
        self.write(AUCTION, *(Account(name=name) for name in "ABF"))
        self.write(*money)
        self.write(*(Reserve(id=f"u{account}", account=account, asset="USDT", amount=100) for account in "AB"))
        self.settle()

    def write(self, *facts: Any) -> None:
        self.written.append(self.pen.seal(self.pen.draft(facts, MEANT)))

    def settle(self, on: int | None = None) -> Settlement:
        """The next height. ``on``: the height that what is written from now on stands on."""
        self.height += 1
        story = Story(self.genesis, self.written, [])
        cut = cut_at(story, self.state, {self.pen.lane.key: len(self.written)}, [])
        settled = settle(self.genesis, self.state, bytes(32), cut.cut, cut.batches, [], height=self.height)
        self.state = settled.state
        if on is not None:
            self.pen.base = (on, bytes([on]) * 32)
        return settled

    def pass_by(self, on: int | None = None) -> Settlement:
        """A height in which nothing about orders is said."""
        self.ids += 1
        self.write(Deposit(id=self.ids, account="F", asset="BTC", amount=1))
        return self.settle(on)

    def left(self, account: str) -> int:
        return sum(r.remaining for lane in self.state.reserves.values() for r in lane.values() if r.account == account)

    def held(self, account: str) -> int:
        return self.state.collateral[account, "USDT"].held


def order(id: int, account: str, side: Any, qty: int, price: int) -> Order:
    return Order(id=id, account=account, instrument="X", side=side, qty=qty, price=price, reserve=f"u{account}")


def secret(account: str, side: Any, id: int) -> Order:
    sealed = hidden("n0", account, side, id)
    return Order(
        id=id, account=account, instrument="X", side=side, qty=9, price=10, reserve=f"u{account}", hidden=sealed.hidden
    )


def causes(settled: Settlement) -> set[str]:
    return {one.cause for one in settled.adjustments if one.effect != "credited"}


def test_orders_meet_at_one_price_at_the_heights_of_their_auction_and_at_no_other() -> None:
    bench = Bench()
    bench.write(order(1, "A", "buy", 30, 12), order(2, "B", "sell", 20, 8))
    bench.write(Match(id=1, taker=1, maker_home="n0", maker=2, qty=1, price=8))
    assert causes(bench.settle()) == {ITS_MODE}  # height 2: entries closed before they came
    assert not bench.state.carried
    bench.pass_by()
    assert not bench.state.carried  # height 3 is nobody's
    bench.pass_by()
    assert {at: held.qty for at, held in bench.state.carried.items()} == {("A", "X"): 20, ("B", "X"): -20}
    assert bench.state.orders["n0", "1"].tally.filled == 20
    assert ("n0", "2") not in bench.state.orders
    assert bench.state.imbalance() == {}


def test_a_hidden_order_takes_part_with_what_it_is_revealed_to_be() -> None:
    bench = Bench()
    bench.write(secret("A", "buy", 1), order(2, "B", "sell", 20, 9))
    bench.settle()
    bench.pass_by()
    bench.write(opened(3, 1, "buy"))
    bench.settle()
    assert bench.state.carried["A", "X"].qty == 5
    assert bench.state.orders["n0", "1"].shown == (5, 10)


@pytest.mark.parametrize(("on", "forfeits"), [(4, True), (3, False)])
def test_a_bond_is_forfeited_once_the_lane_itself_shows_that_it_knew_the_window_was_over(
    on: int, forfeits: bool
) -> None:
    bench = Bench()
    bench.write(secret("A", "buy", 1))
    bench.settle()
    bench.pass_by()
    bench.pass_by(on)  # height 4, its auction: nothing is revealed
    assert ("n0", "1") in bench.state.orders
    settled = bench.pass_by()
    assert (FORFEITED in causes(settled)) == forfeits
    assert (("n0", "1") in bench.state.orders) != forfeits
    bond = 1 if forfeits else 0  # 10% of 0.9 at 1.0, rounded up in a currency of one decimal
    assert (bench.left("A"), bench.state.imbalance()) == (100 - bond, {})
    assert bench.state.collateral.get(("F", "USDT")) is None or bench.held("F") == bond
    assert bench.held("A") == 1_000 - bond


def test_a_late_reveal_ends_the_order_and_costs_nothing() -> None:
    bench = Bench()
    bench.write(secret("A", "buy", 1), order(2, "B", "sell", 20, 9))
    bench.settle()
    bench.pass_by()
    bench.pass_by(3)
    bench.write(opened(3, 1, "buy"))
    assert causes(bench.settle()) == {REVEALED_LATE}
    assert ("n0", "1") not in bench.state.orders
    assert (bench.left("A"), bench.held("A")) == (100, 1_000)


def test_a_hidden_order_can_be_cancelled_until_entries_close_and_not_opened_with_other_terms() -> None:
    early, late = Bench(), Bench()
    for bench in (early, late):
        bench.write(secret("A", "buy", 1))
        bench.settle()
    early.write(Cancel(id=9, order=1))
    assert causes(early.settle()) == set()  # height 3: entries close
    assert not early.state.orders
    late.pass_by()
    late.write(opened(8, 1, "sell"), Cancel(id=9, order=1))
    assert causes(late.settle()) == {ENTRIES_CLOSED, NOT_REVEALED}
    assert late.state.orders["n0", "1"].open
