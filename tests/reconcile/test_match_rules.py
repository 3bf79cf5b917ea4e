"""Single rules of matching, one story each: who gets what, to the unit, and what both sides are told."""

from __future__ import annotations

from typing import Any

from crdtledger.ledger.batch import Batch, fork_evidence
from crdtledger.ledger.facts import Accept, Account, Cancel, Deposit, Grant, Match, Order, Reserve, Share
from crdtledger.ledger.settled import SettledState
from reconcile.adjustments import BEYOND_HOLDER, BEYOND_MAKER, MAKERS_RESERVE, REFUSED, TAKERS_RESERVE
from reconcile.settlement import Settlement, settle
from tests.crdtledger.worlds import Pen, dep_on, genesis
from tests.reconcile.match_worlds import ALL, ASSETS, MEANT, PERP, SPOT
from tests.reconcile.settlement_worlds import Story, cut_at


class Bench:
    """Three nodes with an account each, A, B and C, who write on everything that was written before them."""

    def __init__(self, **reserved: int) -> None:
        self.genesis = genesis(3, ALL, ASSETS)
        self.pens = [Pen(self.genesis, node) for node in range(3)]
        self.written: list[Batch] = []
        self.state, self.height = SettledState.empty(self.genesis), 0
        self.write(0, SPOT, PERP, *(Account(name=name) for name in "ABCF"))
        self.write(0, *(Deposit(id=1, account=a, asset=s, amount=10_000) for a in "ABC" for s in ("USDT", "BTC")))
        given = [("B", "n1"), ("C", "n2")]
        grants = [
            Grant(id=f"{a}{s}", account=a, asset=s, amount=10_000, node=n) for a, n in given for s in ("USDT", "BTC")
        ]
        self.write(0, *grants)
        for node, account in enumerate("ABC"):
            amount = reserved.get(account, 5_000)
            self.write(node, *(Reserve(id=s[0], account=account, asset=s, amount=amount) for s in ("USDT", "BTC")))
        self.settle()

    def write(self, node: int, *facts: Any, blind: bool = False) -> Batch:
        pen = self.pens[node]
        heads = {batch.key: dep_on(batch) for batch in self.written if batch.key != pen.lane.key}
        self.written.append(pen.seal(pen.draft(facts, MEANT), [] if blind else list(heads.values())))
        return self.written[-1]

    def order(self, node: int, id: int, side: Any, qty: int, price: int, instrument: str = "S", **more: Any) -> None:
        reserve = "B" if (instrument, side) == ("S", "sell") else "U"
        terms = {"account": "ABC"[node], "instrument": instrument, "side": side, "qty": qty, "price": price, **more}
        self.write(node, Order(id=id, reserve=reserve, **terms))

    def match(self, node: int, id: int, taker: int, maker: tuple[int, int], qty: int, price: int, ask: int = 0) -> None:
        home, made = maker
        terms = {"taker": taker, "maker_home": f"n{home}", "maker": made, "qty": qty, "price": price}
        self.write(node, Match(id=id, survival=ask, **terms))

    def settle(self, evidence: Any = ()) -> Settlement:
        self.height += 1
        story = Story(self.genesis, self.written, list(evidence))
        ends = {pen.lane.key: len(self.written) for pen in self.pens}
        cut = cut_at(story, self.state, ends, evidence)
        digest = bytes([self.height]) * 32
        settled = settle(self.genesis, self.state, digest, cut.cut, cut.batches, cut.evidence, height=self.height)
        self.state = settled.state
        assert self.state.imbalance() == {}
        return settled

    def held(self, account: str, asset: str = "USDT") -> int:
        balance = self.state.collateral.get((account, asset))
        return balance.held if balance else 0

    def filled(self, node: int, id: int) -> int:
        return self.state.orders[f"n{node}", str(id)].tally.filled


def told(settled: Settlement) -> set[tuple[str, str]]:
    return {(one.effect, one.cause) for one in settled.adjustments if one.cause != "credit landed"}


def test_an_order_that_trades_in_a_hundred_parts_pays_what_it_would_have_paid_at_once() -> None:
    """33 at 1.1 are 0.363, so 4 of a currency of one decimal; a hundred times rounded up they would be 33."""
    bench = Bench()
    bench.order(0, 1, "sell", 33, 11)
    bench.order(1, 1, "buy", 33, 11)
    for part in range(33):
        bench.match(1, part, 1, (0, 1), 1, 11, ask=5)
        bench.write(0, Accept(id=part, match_home="n1", match=part, qty=1))
    assert told(bench.settle()) == set()
    fees = (1, 1)  # 0.1% for the maker, 3% for the taker, each rounded up once
    assert (bench.held("A"), bench.held("B")) == (10_000 + 4 - fees[0], 10_000 - 4 - fees[1])
    assert (bench.held("A", "BTC"), bench.held("B", "BTC")) == (10_000 - 4, 10_000 + 4)  # 0.33 of one decimal
    assert bench.held("F") == sum(fees)
    assert not bench.state.orders


def test_a_cancel_that_comes_first_in_the_homes_lane_wins_and_both_sides_are_told() -> None:
    bench = Bench()
    bench.order(0, 1, "sell", 50, 10)
    bench.order(1, 1, "buy", 50, 10)
    bench.match(1, 1, 1, (0, 1), 50, 10, ask=900_000)
    bench.write(0, Cancel(id=1, order=1), blind=True)
    bench.write(0, Accept(id=1, match_home="n1", match=1, qty=50))
    settled = bench.settle()
    assert ("voided", BEYOND_MAKER) in told(settled)
    (one,) = [one for one in settled.adjustments if one.cause == BEYOND_MAKER]
    assert (one.kind_name, one.detail) == ("match", "0.00 of 0.50: maker n0/1, taker n1/1")
    assert bench.state.orders["n1", "1"].open == ((1, 50),)  # free to trade again


def test_what_waits_for_its_answer_waits_for_heights_and_then_counts() -> None:
    bench = Bench()
    bench.order(0, 1, "sell", 50, 10)
    bench.order(1, 1, "buy", 80, 10)
    bench.match(1, 1, 1, (0, 1), 30, 10, ask=1)
    assert told(bench.settle()) == set()
    assert (bench.state.orders["n1", "1"].open, bench.state.pending["n1", "1"].held) == (((1, 50),), 30)
    bench.write(0, Accept(id=1, match_home="n1", match=1, qty=20))
    assert ("trimmed", "its maker's home accepted less") in told(bench.settle())
    assert (bench.filled(0, 1), bench.filled(1, 1), bench.state.orders["n1", "1"].open) == (20, 20, ((1, 60),))
    bench.match(1, 2, 1, (0, 1), 30, 10, ask=1)
    bench.settle()
    bench.write(0, Accept(id=2, match_home="n1", match=2, qty=0, reason="moved on"))
    assert told(bench.settle()) == {("voided", REFUSED)}
    assert bench.state.orders["n1", "1"].open == ((1, 60),)


def test_a_share_is_matched_where_it_is_held_and_no_further() -> None:
    bench = Bench()
    bench.order(0, 1, "sell", 50, 10)
    bench.order(2, 1, "buy", 50, 10)
    bench.write(0, Share(id=1, home="n0", order=1, node="n2", qty=20))
    bench.write(0, Cancel(id=1, order=1))
    bench.match(2, 1, 1, (0, 1), 30, 10)
    assert told(bench.settle()) == {("trimmed", BEYOND_HOLDER)}
    assert (bench.filled(2, 1), ("n0", "1") in bench.state.orders) == (20, False)


def test_nobody_pays_more_than_his_reserve_and_both_are_told_whose_it_was() -> None:
    for side, cause in (("A", MAKERS_RESERVE), ("B", TAKERS_RESERVE)):
        bench = Bench(**{side: 21})
        bench.order(0, 1, "sell", 9_00, 10)
        bench.order(1, 1, "buy", 9_00, 10)
        bench.match(1, 1, 1, (0, 1), 9_00, 10, ask=1)
        bench.write(0, Accept(id=1, match_home="n1", match=1, qty=9_00))
        assert ("trimmed", cause) in told(bench.settle())
        # 2.1 BTC of the seller's; or the most of which value and 3% are no more than 2.1 USDT of the buyer's
        assert bench.filled(0, 1) == (2_10 if side == "A" else 2_00)


def test_a_loss_beyond_margin_and_reserve_is_a_shortfall_and_winners_share_what_was_there() -> None:
    bench = Bench(A=101)
    bench.order(0, 1, "sell", 100, 100, "P")  # 10 at 10.0: a margin of 10.0
    for node in (1, 2):
        bench.order(node, 1, "buy", 50, 100, "P")
        bench.match(node, 1, 1, (0, 1), 50, 100, ask=1)
        bench.write(0, Accept(id=node, match_home=f"n{node}", match=1, qty=50))
    assert told(bench.settle()) == set()
    assert bench.state.carried["A", "P"].margin == 100
    bench.order(1, 7, "sell", 1, 500, "P")
    bench.order(2, 7, "buy", 1, 500, "P")
    bench.match(2, 7, 7, (1, 7), 1, 500, ask=1)
    bench.write(1, Accept(id=7, match_home="n2", match=7, qty=1))
    bench.settle()
    assert bench.state.prices == {"P": 500}
    owed = 10 * (500 - 100)  # ten contracts at 40.0 more, in tenths
    assert bench.state.collateral["A", "USDT"].shortfall == owed - 100
    assert bench.state.carried["A", "P"].margin == 0
    assert sum(bench.held(account) for account in "ABCF") == 30_000
    assert sum(carried.qty for carried in bench.state.carried.values()) == 0


def test_a_lane_that_forks_has_its_waiting_matches_decided_and_its_orders_ended() -> None:
    bench = Bench()
    bench.order(0, 1, "sell", 50, 10)
    for node in (1, 2):
        bench.order(node, 1, "buy", 40, 10)
        bench.match(node, 1, 1, (0, 1), 40, 10, ask=1)
    other = bench.pens[0].copy()
    proof = fork_evidence(bench.write(0, Cancel(id=3, order=1)), other.write(clock=1 << 40))
    settled = bench.settle([proof])
    assert {
        bench.state.orders[f"n{node}", "1"].tally.filled for node in (1, 2) if (f"n{node}", "1") in bench.state.orders
    } == {10}
    assert ("n0", "1") not in bench.state.orders
    assert not bench.state.pending
    assert BEYOND_MAKER in {cause for _, cause in told(settled)}
    bench.order(1, 9, "buy", 5, 10)
    bench.match(1, 9, 9, (0, 1), 5, 10, ask=1)
    assert told(bench.settle()) == {("voided", "no such order")}


def test_what_losers_pay_reaches_winners_to_the_unit_the_largest_remainder_first() -> None:
    bench = Bench()
    bench.order(0, 1, "sell", 3, 100, "P")
    for node, qty in ((1, 1), (2, 2)):
        bench.order(node, 1, "buy", qty, 100, "P")
        bench.match(node, 1, 1, (0, 1), qty, 100, ask=1)
        bench.write(0, Accept(id=node, match_home=f"n{node}", match=1, qty=qty))
    bench.settle()
    assert {at[0]: held.margin for at, held in bench.state.carried.items()} == {"A": 3, "B": 1, "C": 2}
    bench.order(1, 7, "sell", 1, 101, "P")
    bench.order(2, 7, "buy", 1, 101, "P")
    bench.match(2, 7, 7, (1, 7), 1, 101, ask=1)
    bench.write(1, Accept(id=7, match_home="n2", match=7, qty=1))
    bench.settle()
    # A owes 0.03, rounded up to 0.1. A third of it would be B's, two thirds are C's: the one unit goes to C, whose new contract took 2.
    assert {at[0]: held.margin for at, held in bench.state.carried.items()} == {"A": 2, "C": 2 + 2 + 1}
    assert sum(bench.held(account) for account in "ABCF") == 30_000


def test_an_order_told_again_in_other_words_is_a_conflict_and_a_break_and_in_the_same_words_neither() -> None:
    bench = Bench()
    bench.order(0, 1, "sell", 10, 10)
    bench.settle()
    bench.order(0, 1, "sell", 10, 10)
    assert told(bench.settle()) == {("deduplicated", "recorded before")}
    assert bench.state.breaks == ()
    bench.order(0, 1, "sell", 11, 10)
    assert told(bench.settle()) == {("conflict", "same id, other content")}
    assert [one.type for one in bench.state.breaks] == ["conflict"]
    assert "1" in bench.state.breaks[0].subject
    assert bench.filled(0, 1) == 0
