"""Orders on real nodes through the command line: entered, seen in a book, matched across a partition, settled and told why not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from crdtledger.ledger.genesis import Policies
from tests.edge.processes import Cluster, Ran, cluster, run

pytestmark = pytest.mark.processes

AGREES = Policies(agreement="tendermint", checkpoint_interval_ms=100)
UNITS = {"price_decimals": 2, "qty_decimals": 3}
PERP = {"type": "perp", "base": "BTC", "quote": "USDT", "settlement": "USDT", **UNITS, "margin_ppm": 100_000}
CALL = {**PERP, "type": "option", "option": "call", "strike": "100", "expiry_us": 1_900_000_000_000_000}
AUCTION = {**PERP, "mode": "auction", "auction_every": 1_000}


def order(id: str, account: str, side: str, qty: str, price: str, instrument: str = "P", **more: Any) -> dict[str, Any]:
    terms = {"account": account, "instrument": instrument, "side": side, "qty": qty, "price": price}
    return {"kind": "order", "id": id, **terms, **more}


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes; A trades on the first, B on the second, C on the fourth, each with 1000 USDT."""
    with cluster(tmp_path_factory.mktemp("orders"), nodes=4, policies=AGREES) as made:
        record(
            made,
            1,
            {"kind": "instrument", "name": "P", **PERP},
            {"kind": "instrument", "name": "P-100-C", **CALL},
            {"kind": "instrument", "name": "X", **AUCTION},
            *({"kind": "account", "name": name} for name in "ABC"),
            *({"kind": "deposit", "id": name, "account": name, "asset": "USDT", "amount": "1000"} for name in "ABC"),
            {"kind": "grant", "id": "gb", "account": "B", "asset": "USDT", "amount": "1000", "node": "node-2"},
            {"kind": "grant", "id": "gc", "account": "C", "asset": "USDT", "amount": "1000", "node": "node-4"},
        )
        settled(made)
        yield made


def record(it: Cluster, number: int, *facts: dict[str, Any]) -> None:
    with it.client(number) as node:
        node.record(list(facts))


def settled(it: Cluster) -> None:
    waited = run("wait", *it.paths, "--settled", "--timeout", 60)
    assert waited.code == 0, waited.err


def read(it: Cluster, command: str, number: int, *more: object) -> Any:
    ran = run(command, it.node(number), *more, "--format", "json")
    assert ran.code == 0, ran.err
    return ran.json()


def enter(it: Cluster, number: int, *facts: dict[str, Any], path: Any) -> Ran:
    file = path / "orders.jsonl"
    file.write_text("".join(json.dumps(fact) + "\n" for fact in facts))
    return run("record", it.node(number), file)


def test_both_sides_of_a_partition_trade_and_are_told_what_became_of_it(it: Cluster, tmp_path: Any) -> None:
    assert enter(it, 1, order("m1", "A", "sell", "4", "100"), path=tmp_path).code == 0
    assert run("wait", *it.paths, "--timeout", 60).code == 0
    (level,) = read(it, "book", 4, "P", "--account", "A")["levels"]
    assert level == {"side": "sell", "price": "100.00", "qty": "4.000", "orders": 1, "mine": "4.000"}
    assert run("drill", "partition", "node-1,node-2", "node-3,node-4", "--cluster", it.directory).code == 0
    assert enter(it, 2, order("t1", "B", "buy", "3", "101", tif="ioc"), path=tmp_path).code == 0
    assert enter(it, 4, order("t2", "C", "buy", "3", "101", tif="ioc"), path=tmp_path).code == 0
    (waits,) = read(it, "matches", 4)
    assert (waits["status"], waits["qty"], waits["taker_account"]) == ("tentative", "3.000", "C")
    assert 0 < waits["survival"] < 1_000_000
    shown = run("matches", it.node(4))
    assert "tentative" in shown.out
    assert "nothing older than" in shown.err
    assert run("drill", "heal", "--cluster", it.directory).code == 0
    settled(it)
    for number in (1, 2, 3, 4):
        told = {row["taker_account"]: row for row in read(it, "matches", number, "--instrument", "P")}
        assert (told["B"]["status"], told["B"]["stands"]) == ("settled", "3.000")
        assert (told["C"]["status"], told["C"]["stands"]) == ("trimmed", "1.000")
        assert "only a part was left" in told["C"]["reason"]
    (position,) = read(it, "positions", 3, "--account", "C")
    assert position["settled_qty"] == "1.000"
    assert read(it, "orders", 3, "--account", "C") == []


def test_an_order_is_amended_and_cancelled_and_shown_with_its_lineage(it: Cluster, tmp_path: Any) -> None:
    entered = enter(
        it,
        2,
        order("b1", "B", "buy", "2", "90"),
        {"kind": "amend", "id": "b2", "order": "b1", "price": "91"},
        path=tmp_path,
    )
    assert entered.code == 0, entered.err
    rows = {row["id"]: row for row in read(it, "orders", 2, "--account", "B")}
    assert (rows["b2"]["amends"], rows["b2"]["status"], rows["b2"]["open"]) == ("b1", "open", "2.000")
    seen = read(it, "book", 2, "P", "--account", "B")
    assert [(row["price"], row["mine"]) for row in seen["levels"] if row["side"] == "buy"] == [("91.00", "2.000")]
    assert [row["id"] for row in seen["mine"]] == ["b2"]
    assert enter(it, 2, {"kind": "cancel", "id": "cb", "order": "b2"}, path=tmp_path).code == 0
    assert read(it, "book", 2, "P")["levels"] == []


def test_what_an_order_lacks_is_named_in_one_line(it: Cluster, tmp_path: Any) -> None:
    refused = enter(it, 2, order("big", "B", "buy", "1000", "1000"), path=tmp_path)
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "this node may spend" in refused.err
    unknown = run("book", it.node(2), "Q")
    assert (unknown.code, "did you mean" in unknown.err or "'Q'" in unknown.err) == (2, True)
    assert run("book", it.node(2)).code == 2


def test_options_are_listed_as_a_chain_and_auctions_show_what_they_would_come_to(it: Cluster, tmp_path: Any) -> None:
    entered = enter(
        it,
        1,
        order("call", "A", "sell", "1", "5", "P-100-C"),
        order("xs", "A", "sell", "2", "99", "X"),
        path=tmp_path,
    )
    assert entered.code == 0, entered.err
    assert enter(it, 2, order("xb", "B", "buy", "1", "101", "X"), path=tmp_path).code == 0
    assert run("wait", *it.paths, "--timeout", 60).code == 0
    (strike,) = read(it, "book", 3, "--chain", "BTC")
    assert (strike["strike"], strike["call"], strike["call_ask"], strike["put"]) == ("100.00", "P-100-C", "5.00", "")
    seen = read(it, "book", 3, "X")
    assert (seen["mode"], seen["indicative"]["volume"], seen["indicative"]["orders"]) == ("auction", "1.000", 2)
    assert "Indicative: 1.000 at" in run("book", it.node(3), "X").out
