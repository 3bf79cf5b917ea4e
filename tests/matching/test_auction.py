"""A call auction is a pure function of the set of orders: the same for everybody, within every limit, and at the volume that is most."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.commitment import Terms, check, commit
from crdtledger.ledger.facts import Order, Reveal
from crdtledger.matching.auction import Clearing, clear, priority
from crdtledger.matching.orders import BUY, SELL, OpenOrder

NONCE = "5a" * 32


def order(number: int, side: int, price: int, qty: int, account: str = "A", market: bool = False) -> OpenOrder:
    return OpenOrder(("n", number), account, side, price, qty, (number, b"lane", number, 0), market)


@st.composite
def order_sets(draw: st.DrawFn) -> list[OpenOrder]:
    terms = st.tuples(
        st.sampled_from([BUY, SELL]), st.integers(1, 9), st.integers(1, 12), st.sampled_from("ABC"), st.booleans()
    )
    drawn = draw(st.lists(terms, max_size=12))
    clocks = draw(st.lists(st.integers(0, 3), min_size=len(drawn), max_size=len(drawn)))
    return [
        OpenOrder((f"n{at % 2}", at), account, side, price, qty, (clock, b"lane", 1, at), market and clock == 0)
        for at, ((side, price, qty, account, market), clock) in enumerate(zip(drawn, clocks, strict=True))
    ]


def tradable(orders: list[OpenOrder], price: int) -> tuple[int, int]:
    bid = sum(o.qty for o in orders if o.side == BUY and o.price >= price)
    return bid, sum(o.qty for o in orders if o.side == SELL and o.price <= price)


references = st.none() | st.integers(1, 12)


@given(order_sets(), st.randoms(use_true_random=False), references)
def test_the_order_of_arrival_does_not_matter_to_a_byte(orders: list[OpenOrder], random, reference: int | None) -> None:
    shuffled = orders + orders[:3]
    random.shuffle(shuffled)
    assert clear(shuffled, reference).encode() == clear(orders, reference).encode()


@given(order_sets(), references)
def test_the_price_is_the_one_that_the_rules_name_among_all_prices(
    orders: list[OpenOrder], reference: int | None
) -> None:
    clearing = clear(orders, reference)
    at = {price: tradable(orders, price) for price in range(1, 14)}
    volume = max(min(both) for both in at.values())
    assert clearing.volume == volume
    if not volume:
        assert clearing == Clearing()
        return
    most = {price: bid - offered for price, (bid, offered) in at.items() if min(bid, offered) == volume}
    least = {price: over for price, over in most.items() if abs(over) == min(map(abs, most.values()))}
    assert clearing.price in least
    assert clearing.imbalance == least[clearing.price]
    if all(over > 0 for over in least.values()):
        assert clearing.price == max(least)
    elif all(over < 0 for over in least.values()):
        assert clearing.price == min(least)
    else:
        turn = {
            p
            for p, over in least.items()
            if over == 0 or least.get(p + 1, over) != over or least.get(p - 1, over) != over
        }
        assert clearing.price == min(turn, key=lambda p: (abs(p - reference) if reference else 0, p))


@given(order_sets(), references)
def test_nobody_trades_beyond_quantity_or_limit_and_both_sides_add_up(
    orders: list[OpenOrder], reference: int | None
) -> None:
    clearing = clear(orders, reference)
    by_name = {o.name: o for o in orders}
    for allocation in (*clearing.bought, *clearing.sold):
        of = by_name[allocation.name]
        assert clearing.price is not None
        assert 0 < allocation.qty <= of.qty
        assert of.side * (of.price - clearing.price) >= 0
    assert sum(a.qty for a in clearing.bought) == sum(a.qty for a in clearing.sold) == clearing.volume
    pairs = clearing.pairs()
    for side, named in ((clearing.bought, "buyer"), (clearing.sold, "seller")):
        for allocation in side:
            assert sum(p.qty for p in pairs if getattr(p, named) == allocation.name) == allocation.qty


@given(order_sets(), references)
def test_nobody_who_ranks_better_is_left_out_for_one_who_ranks_worse(
    orders: list[OpenOrder], reference: int | None
) -> None:
    clearing = clear(orders, reference)
    if clearing.price is None:
        return
    got = {a.name: a.qty for a in (*clearing.bought, *clearing.sold)}
    for side in (BUY, SELL):
        ranked = sorted((o for o in orders if o.side == side and side * (o.price - clearing.price) >= 0), key=priority)
        short = [at for at, o in enumerate(ranked) if got.get(o.name, 0) < o.qty]
        assert not short or not any(o.name in got for o in ranked[short[0] + 1 :])


@given(order_sets())
def test_what_an_account_would_trade_with_itself_is_named(orders: list[OpenOrder]) -> None:
    clearing = clear(orders)
    bought, sold = (
        {o: sum(a.qty for a in s if a.account == o) for o in "ABC"} for s in (clearing.bought, clearing.sold)
    )
    assert dict(clearing.own) == {a: min(bought[a], sold[a]) for a in "ABC" if min(bought[a], sold[a])}


@pytest.mark.parametrize(
    ("orders", "reference", "price", "volume", "imbalance"),
    [
        # Most volume decides.
        ([order(1, BUY, 100, 10), order(2, SELL, 98, 5), order(3, SELL, 99, 5)], None, 99, 10, 0),
        # The least imbalance decides: at 101 and above 5 are bid.
        ([order(1, BUY, 101, 5), order(2, BUY, 100, 7), order(3, SELL, 100, 5)], None, 101, 5, 0),
        # Buyers are left over at every price: the highest; sellers: the lowest.
        ([order(1, BUY, 100, 10), order(2, SELL, 90, 5)], 92, 100, 5, 5),
        ([order(1, BUY, 100, 5), order(2, SELL, 90, 10)], 97, 90, 5, -5),
        # Nobody is left over: the reference, if it is within, else the nearer end; without one the lowest.
        ([order(1, BUY, 100, 5), order(2, SELL, 90, 5)], 97, 97, 5, 0),
        ([order(1, BUY, 100, 5), order(2, SELL, 90, 5)], 200, 100, 5, 0),
        ([order(1, BUY, 100, 5), order(2, SELL, 90, 5)], None, 90, 5, 0),
        # Demand and supply meet only between two limits, where no order stands.
        ([order(1, BUY, 110, 5), order(2, BUY, 90, 5), order(3, SELL, 80, 5), order(4, SELL, 100, 5)], None, 91, 5, 0),
        ([order(1, BUY, 110, 5), order(2, BUY, 90, 5), order(3, SELL, 80, 5), order(4, SELL, 100, 5)], 200, 99, 5, 0),
        # Buyers are left over up to 100, as many sellers from 101 on: the reference chooses between these two.
        ([order(1, BUY, 105, 9), order(2, BUY, 100, 5), order(3, SELL, 95, 9), order(4, SELL, 101, 5)], 90, 100, 9, 5),
        (
            [order(1, BUY, 105, 9), order(2, BUY, 100, 5), order(3, SELL, 95, 9), order(4, SELL, 101, 5)],
            110,
            101,
            9,
            -5,
        ),
        # It does not cross.
        ([order(1, BUY, 90, 5), order(2, SELL, 91, 5)], 90, None, 0, 0),
    ],
)
def test_each_rule_decides_what_the_one_before_leaves_open(
    orders: list[OpenOrder], reference: int | None, price: int | None, volume: int, imbalance: int
) -> None:
    clearing = clear(orders, reference)
    assert (clearing.price, clearing.volume, clearing.imbalance) == (price, volume, imbalance)


def test_market_orders_come_first_but_not_beyond_their_worst_price() -> None:
    late = order(9, BUY, 100, 4, market=True)
    clearing = clear([order(1, BUY, 105, 4), late, order(3, SELL, 95, 4)], 99)
    assert [a.name for a in clearing.bought] == [("n", 1)], "at 105, where demand is 4, the market order is out"
    clearing = clear([order(1, BUY, 100, 4), late, order(3, SELL, 95, 4)], 99)
    assert [a.name for a in clearing.bought] == [late.name]


TERMS = Terms("n1", 7, "A", "BTC", "buy", 5, 100)
HIDDEN = Order(
    id=7, account="A", instrument="BTC", side="buy", qty=9, price=120, reserve=1, hidden=commit(TERMS, NONCE)
)


def test_a_commitment_opens_with_its_terms_and_nonce_and_nothing_else() -> None:
    reveal = Reveal(id=8, order=7, side="buy", qty=5, price=100, nonce=NONCE)
    assert check("n1", HIDDEN, reveal) == ""
    assert "not those committed" in check("n2", HIDDEN, reveal), "a copy of it under another name does not open"
    changes = [
        {"qty": 6},
        {"price": 101},
        {"nonce": "00" * 32},
        {"side": "sell"},
        {"qty": 10},
        {"nonce": "zz"},
        {"order": 6},
    ]
    for change in changes:
        fields = {"id": 8, "order": 7, "side": "buy", "qty": 5, "price": 100, "nonce": NONCE, **change}
        assert check("n1", HIDDEN, Reveal(**fields)) != "", change


@given(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3), st.text(max_size=3))
def test_no_two_terms_share_a_commitment(home: str, account: str, other_home: str, other_account: str) -> None:
    one, other = Terms(home, 1, account, "I", "buy", 1, 1), Terms(other_home, 1, other_account, "I", "buy", 1, 1)
    assert (commit(one, NONCE) == commit(other, NONCE)) == (one == other)
