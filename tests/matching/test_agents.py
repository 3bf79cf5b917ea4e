"""Agents: a market maker keeps its part of the inventory limit whatever trades and whenever it hears of it; takers trade with what they
see."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.matching.agents import Enter, MakerConfig, MarketMaker, Taker, TakerConfig, View, Withdraw
from crdtledger.matching.book import Book
from crdtledger.matching.orders import BUY, SELL, Name, OpenOrder


def quotes(maker: MarketMaker, belief: float, open_orders=None, pending=()) -> list:
    return maker.act(View(0, Book(), open_orders or {}, pending, belief))


def prices(actions: list, side: str) -> list[int]:
    return [action.price for action in actions if isinstance(action, Enter) and action.side == side]


@given(st.lists(st.tuples(st.floats(90.0, 110.0), st.integers(0, 99), st.integers(1, 9), st.booleans()), max_size=40))
def test_a_maker_stays_within_its_limit_even_if_every_order_trades_at_once(script) -> None:
    maker = MarketMaker(MakerConfig(limit=12, lot=5, levels=3))
    standing: dict[Name, tuple[int, int, int]] = {}
    number = 0
    for belief, which, most, withdraws in script:
        for action in quotes(maker, belief, dict(standing)):
            if isinstance(action, Withdraw):
                if withdraws:  # it may take a while until a cancel counts
                    del standing[action.order]
            else:
                number += 1
                standing["n", number] = (BUY if action.side == "buy" else SELL, action.qty, action.price)
        for sign in (BUY, SELL):
            assert abs(maker.inventory + sign * sum(q for s, q, _ in standing.values() if s == sign)) <= 12 or (
                sign * maker.inventory < 0
            )
        if standing:
            name = list(standing)[which % len(standing)]
            sign, qty, price = standing[name]
            traded = min(qty, most)
            maker.filled(sign, traded, price)
            if traded == qty:
                del standing[name]
            else:
                standing[name] = sign, qty - traded, price
        assert abs(maker.inventory) <= 12


def test_quotes_lean_against_the_inventory_and_count_what_is_likely_to_come() -> None:
    flat, long = MarketMaker(MakerConfig()), MarketMaker(MakerConfig())
    long.filled(BUY, 20, 100)
    assert max(prices(quotes(flat, 100.0), "buy")) < 100 < min(prices(quotes(flat, 100.0), "sell"))
    assert max(prices(quotes(long, 100.0), "buy")) < max(prices(quotes(flat, 100.0), "buy"))
    sure, unlikely = ((BUY, 40, 950_000),), ((BUY, 40, 50_000),)
    lean = [max(prices(quotes(flat, 100.0, pending=pending), "buy")) for pending in ((), unlikely, sure)]
    assert lean[0] >= lean[1] > lean[2]


def test_what_is_where_it_should_be_stays_and_the_rest_is_withdrawn() -> None:
    maker = MarketMaker(MakerConfig(levels=1))
    first = quotes(maker, 100.0)
    standing = {("n", at): (BUY if a.side == "buy" else SELL, a.qty, a.price) for at, a in enumerate(first)}
    assert quotes(maker, 100.0, standing) == []
    moved = quotes(maker, 120.0, standing)
    assert {action.order for action in moved if isinstance(action, Withdraw)} == set(standing)


def test_a_taker_takes_what_it_believes_to_be_cheap_and_nothing_else() -> None:
    book = Book(
        [OpenOrder(("n", 1), "A", SELL, 100, 5, (1, b"", 1, 0)), OpenOrder(("n", 2), "A", BUY, 98, 5, (2, b"", 1, 0))]
    )
    taker = Taker(TakerConfig(informed=1.0, min_survival=300_000), iter([0.0, 0.0, 0.5] * 9).__next__)
    (buys,) = taker.act(View(0, book, {}, (), 105.0))
    assert (buys.side, buys.price, buys.tif, buys.min_survival) == ("buy", 100, "ioc", 300_000)
    taker = Taker(TakerConfig(informed=1.0), iter([0.0] * 9).__next__)
    assert taker.act(View(0, book, {}, (), 99.0)) == []
    assert Taker(TakerConfig(), iter([0.0, 0.9] * 9).__next__).act(View(0, Book(), {}, (), 99.0)) == []
