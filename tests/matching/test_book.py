"""A book is a function of the set of its orders: price, then time, whatever the order of arrival and whatever came and went meanwhile."""

from __future__ import annotations

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.facts import Instrument
from crdtledger.matching.book import Book, Depth
from crdtledger.matching.chain import Chain, Strike, chains
from crdtledger.matching.orders import BUY, SELL, OpenOrder


@st.composite
def resting_sets(draw: st.DrawFn, most: int = 14) -> list[OpenOrder]:
    """Orders with unique names and places that may tie."""
    terms = st.tuples(
        st.sampled_from([BUY, SELL]), st.integers(1, 5), st.integers(1, 9), st.sampled_from("AB"), st.integers(0, 4)
    )
    return [
        OpenOrder((f"n{at % 2}", at), account, side, price, qty, (clock, b"lane", 1, clock))
        for at, (side, price, qty, account, clock) in enumerate(draw(st.lists(terms, max_size=most)))
    ]


def ranked(orders: list[OpenOrder], side: int) -> list[OpenOrder]:
    """The naive book: sort everything."""
    mine = [order for order in orders if order.side == side]
    return sorted(mine, key=lambda o: (-side * o.price, o.place, o.name[0], str(o.name[1])))


@given(resting_sets(), st.randoms(use_true_random=False))
def test_the_same_orders_give_the_same_book_to_a_byte(orders: list[OpenOrder], random) -> None:
    shuffled = list(orders)
    random.shuffle(shuffled)
    assert Book(shuffled).encode() == Book(orders).encode()
    assert Book(orders).orders() == ranked(orders, BUY) + ranked(orders, SELL)


@given(resting_sets(), resting_sets(most=60), st.data())
def test_what_came_and_went_leaves_no_trace(
    orders: list[OpenOrder], others: list[OpenOrder], data: st.DataObject
) -> None:
    passing = [OpenOrder(("gone", o.name[1]), o.account, o.side, o.price, o.qty, o.place) for o in others]
    book = Book()
    pending = data.draw(st.permutations([*orders, *passing]))
    for order in pending:
        book.add(order)
        assert book.best(order.side) is not None
    for order in data.draw(st.permutations(passing)):
        book.reduce(order.name, 1)
        if order.name in book:
            book.remove(order.name)
    assert book.encode() == Book(orders).encode()
    for side in (BUY, SELL):
        prices = [order.price for order in ranked(orders, side)]
        assert book.best(side) == (prices[0] if prices else None)


@given(resting_sets(), st.integers(0, 4))
def test_levels_and_queue_positions_are_those_of_the_sorted_orders(orders: list[OpenOrder], depth: int) -> None:
    book = Book(orders)
    for side in (BUY, SELL):
        levels = [(p, list(g)) for p, g in groupby(ranked(orders, side), key=lambda o: o.price)]
        assert book.levels(side, depth) == [Depth(p, sum(o.qty for o in g), len(g)) for p, g in levels][:depth]
        for _, group in levels:
            for at, order in enumerate(group):
                assert book.ahead(order.name) == sum(o.qty for o in group[:at])
    assert book.orders("A") == [o for o in book.orders() if o.account == "A"]


def test_an_order_is_in_once_and_never_gives_more_than_it_has() -> None:
    one = OpenOrder(("n", 1), "A", BUY, 5, 3, (1, b"", 1, 0))
    book = Book([one])
    with pytest.raises(ValueError, match="in the book already"):
        book.add(one)
    with pytest.raises(ValueError, match="less than 4"):
        book.reduce(one.name, 4)
    book.reduce(one.name, 3)
    assert (len(book), book.open(one.name), book.best(BUY)) == (0, 0, None)
    with pytest.raises(KeyError):
        book.remove(one.name)


def option(name: str, strike: int, kind, expiry_us: int = 9) -> Instrument:
    terms = {"base": "BTC", "quote": "USD", "settlement": "USD", "price_decimals": 0, "qty_decimals": 0}
    return Instrument(name=name, type="option", strike=strike, option=kind, expiry_us=expiry_us, **terms)


def test_options_are_listed_by_expiry_and_strike_calls_beside_puts() -> None:
    listed = [option("c2", 2, "call"), option("p1", 1, "put"), option("c1", 1, "call"), option("far", 1, "put", 10)]
    spot = Instrument(
        name="s", type="spot", base="BTC", quote="USD", settlement="USD", price_decimals=0, qty_decimals=0
    )
    near = Chain("BTC", "USD", 9, (Strike(1, "c1", "p1"), Strike(2, "c2")))
    assert chains([*listed, spot]) == (near, Chain("BTC", "USD", 10, (Strike(1, "", "far"),)))
