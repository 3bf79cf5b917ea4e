"""What a node refuses to write about orders, in words that say what to do, and what it leans on when it writes."""

from __future__ import annotations

from typing import Any

import pytest

from crdtledger import Ledger
from crdtledger.errors import (
    BadInput,
    CallerError,
    Conflict,
    InsufficientOpen,
    InsufficientReserve,
    ReserveInUse,
    UnknownName,
    UnknownOrder,
    UnknownReserve,
)
from crdtledger.ledger.facts import TABLES, Kind
from crdtledger.ledger.genesis import Policies

PERP = {
    "kind": "instrument",
    "name": "P",
    "type": "perp",
    "base": "BTC",
    "quote": "USDT",
    "settlement": "USDT",
    "price_decimals": 1,
    "qty_decimals": 2,
    "margin_ppm": 100_000,
    "taker_fee_ppm": 1_000,
}


def desks(policies: Policies | None = None) -> tuple[Ledger, Ledger]:
    """London with A, Tokyo with B, each with a reserve of 1,000.00 called ``r``."""
    london, tokyo = Ledger.cluster("london", "tokyo", assets={"USDT": 2, "BTC": 8}, policies=policies)
    london.record({"kind": "account", "name": "A"}, {"kind": "account", "name": "B"}, PERP)
    for account in "AB":
        london.record({"kind": "deposit", "id": 1, "account": account, "asset": "USDT", "amount": "5000"})
    grant = {"kind": "grant", "id": "g", "account": "B", "asset": "USDT", "amount": "5000", "node": "tokyo"}
    london.record(grant)
    tokyo.join(london)
    for desk, account in ((london, "A"), (tokyo, "B")):
        desk.record({"kind": "reserve", "id": "r", "account": account, "asset": "USDT", "amount": "1000"})
    return london, tokyo


def order(id: Any, account: str, side: str, qty: str = "2", price: str = "100", **more: Any) -> dict[str, Any]:
    terms = {"account": account, "instrument": "P", "side": side, "qty": qty, "price": price, "reserve": "r"}
    return {"kind": "order", "id": id, **terms, **more}


def match(id: Any, taker: Any, maker_home: str, maker: Any, qty: str, **more: Any) -> dict[str, Any]:
    terms = {"taker": taker, "maker_home": maker_home, "maker": maker, "qty": qty, "price": "100", "instrument": "P"}
    return {"kind": "match", "id": id, **terms, **more}


def test_a_match_at_a_better_price_may_cost_more_than_the_order_and_is_refused_beyond_the_reserve() -> None:
    """Who sells a contract at more than it asked for lays aside more margin. Settlement would void what is not refused here."""
    london, tokyo = desks()
    london.record(order(1, "A", "sell", "99"))  # a margin of 990.00
    tokyo.record(order(1, "B", "buy", "20", price="110"))
    london.join(tokyo)
    with pytest.raises(InsufficientReserve) as refusal:
        london.record(match(1, 1, "tokyo", 1, "20", price="110", survival=5))
    assert (refusal.value.needed, refusal.value.left) == (79_000 + 22_000, 100_000)
    london.record(match(1, 1, "tokyo", 1, "10", price="110", survival=5))


def test_an_order_takes_a_reserve_that_suffices_for_all_orders_on_it() -> None:
    london, _ = desks()
    london.record(order(1, "A", "sell", "99"))  # a margin of 990.00
    with pytest.raises(InsufficientReserve) as refusal:
        london.record(order(2, "A", "buy"))  # 20.00; nobody is named to take fees
    assert (refusal.value.needed, refusal.value.left) == (99_000 + 2_000, 100_000)
    london.record({"kind": "cancel", "id": 1, "order": 1})
    london.record(order(2, "A", "buy"))
    with pytest.raises(UnknownReserve, match="no such reserve"):
        london.record(order(3, "A", "buy", reserve="none"))
    with pytest.raises(UnknownReserve, match="draws USDT of B"):
        london.record(order(3, "B", "buy"))
    for call in ({"kind": "void", "id": "v", "reserve": "r"},):
        with pytest.raises(ReserveInUse, match="cancel them"):
            london.record(call)


def test_what_is_not_held_here_is_refused_with_who_holds_it() -> None:
    london, tokyo = desks()
    london.record(order(1, "A", "sell", "5"))
    tokyo.join(london)
    tokyo.record(order(1, "B", "buy", "5"))
    with pytest.raises(InsufficientOpen) as refusal:
        tokyo.record(match(1, 1, "london", 1, "3"))
    assert (refusal.value.held_here, refusal.value.held_elsewhere) == (0, {"london": 500})
    assert "london holds 5.00" in str(refusal.value)
    london.record(
        {"kind": "share", "id": 1, "home": "london", "order": 1, "node": "tokyo", "qty": "2", "instrument": "P"}
    )
    tokyo.join(london)
    tokyo.record(match(1, 1, "london", 1, "2"))
    with pytest.raises(InsufficientOpen):
        tokyo.record(match(2, 1, "london", 1, "0.01"))
    with pytest.raises(InsufficientOpen):
        tokyo.record(match(2, 1, "london", 1, "3.01", survival=5))  # london holds 3 itself
    tokyo.record(match(2, 1, "london", 1, "3", survival=5))
    london.join(tokyo)
    london.record({"kind": "accept", "id": 1, "match_home": "tokyo", "match": 2, "qty": "3", "instrument": "P"})
    tokyo.join(london)
    assert london.digest() == tokyo.digest()
    states = {row.id: (row.state, row.stands) for row in tokyo.replica.view.match_rows()}
    assert states == {"1": ("firm", 200), "2": ("accepted", 300)}
    assert {(row.home, row.state, row.matched) for row in tokyo.replica.view.order_rows()} == {
        ("london", "filled", 500),
        ("tokyo", "filled", 500),
    }


def test_a_match_leans_on_the_lane_of_its_maker_and_on_the_share_that_it_uses() -> None:
    london, tokyo = desks()
    london.record(order(1, "A", "sell", "5"))
    tokyo.join(london)
    tokyo.record(order(1, "B", "buy", "5"))
    london.record(
        {"kind": "share", "id": 1, "home": "london", "order": 1, "node": "tokyo", "qty": "2", "instrument": "P"}
    )
    tokyo.join(london)
    (asked,) = tokyo.record(match(1, 1, "london", 1, "1", survival=5)).batches
    (firm,) = tokyo.record(match(2, 1, "london", 1, "1")).batches
    newest = london.frontier()[firm.header.deps[0].lane].seq
    assert [dep.seq for dep in asked.header.deps] == [newest - 1]
    assert [dep.seq for dep in firm.header.deps] == [newest]
    assert tokyo.spendable("B", "USDT") == 400_000  # what it leans on for orders claims no grants


@pytest.mark.parametrize(
    ("fact", "says"),
    [
        (match(1, 1, "london", 2, "1", survival=5), UnknownOrder),
        (match(1, 7, "london", 1, "1", survival=5), UnknownOrder),
        (match(1, 1, "london", 1, "1", survival=5, price="99"), BadInput),
        (match(1, 1, "tokyo", 1, "1"), BadInput),
        (match(1, 1, "tokyo", 2, "1", survival=5), BadInput),
        ({"kind": "accept", "id": 1, "match_home": "london", "match": 1, "qty": "1", "instrument": "P"}, UnknownOrder),
        ({"kind": "cancel", "id": 1, "order": 9}, UnknownOrder),
        (
            {"kind": "share", "id": 1, "home": "tokyo", "order": 1, "node": "tokyo", "qty": "1", "instrument": "P"},
            BadInput,
        ),
        (
            {
                "kind": "reveal",
                "id": 1,
                "order": 1,
                "side": "buy",
                "qty": "1",
                "price": "1",
                "nonce": "0" * 64,
                "instrument": "P",
            },
            BadInput,
        ),
        (order(1, "B", "sell"), Conflict),
        (order(3, "B", "sell", hidden="0" * 64), BadInput),
        (order(3, "B", "sell", tif="gtt"), BadInput),
        (order(3, "B", "sell", price="0"), CallerError),
        (order(3, "B", "sell", instrument="Q"), UnknownName),
        (order(3, "B", "sell", amends=9), UnknownOrder),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_trace(fact: dict[str, Any], says: type[CallerError]) -> None:
    london, tokyo = desks()
    london.record(order(1, "A", "sell", "5"))
    tokyo.join(london)
    tokyo.record(order(1, "B", "buy", "5"), order(2, "B", "sell", "1"))
    before = tokyo.digest()
    with pytest.raises(says):
        tokyo.record(fact)
    assert tokyo.digest() == before


def test_recording_the_same_words_again_changes_nothing() -> None:
    london, _ = desks()
    london.record(order(1, "A", "sell", "5"))
    before = london.digest()
    assert london.record(order("1", "A", "sell", "5")).duplicates == 1
    assert london.digest() == before


def test_a_plain_order_is_small() -> None:
    assert TABLES[Kind.ORDER].itemsize < 100


def test_orders_and_matches_are_read_in_the_units_they_were_written_in() -> None:
    london, tokyo = desks()
    london.record(order(1, "A", "sell", "5", post_only=True))
    tokyo.join(london)
    tokyo.record(order("t1", "B", "buy", "5.50", price="100.5"))
    tokyo.record(match(1, "t1", "london", 1, "2.25", survival=700_000))
    sold, bought = tokyo.orders_json()
    assert (sold["home"], sold["open"], sold["asked"], sold["post_only"]) == ("london", "5.00", "2.25", True)
    assert (bought["id"], bought["qty"], bought["price"], bought["held"]) == ("t1", "5.50", "100.5", {"tokyo": "3.25"})
    (told,) = tokyo.matches_json()
    assert (told["status"], told["qty"], told["stands"], told["survival"]) == ("tentative", "2.25", "0.00", 700_000)
