"""A reserve that says when it ends is voided by its own lane, and by nothing else."""

from __future__ import annotations

from typing import Any

from crdtledger.edge import api
from crdtledger.edge.expiries import AGAIN_US
from crdtledger.edge.simulate.cluster import SECOND, Cluster
from crdtledger.edge.simulate.writing import account, deposit
from gossip.machine import EPOCH_US
from tests.edge.markets import Market, cancel, order


def reserve(name: str, amount: str, expires_us: int) -> dict[str, Any]:
    terms = {"account": "A", "asset": "USDT", "amount": amount}
    return {"kind": "reserve", "id": name, "expires_us": expires_us, **terms}


def balance(cluster: Cluster, node: str) -> dict[str, Any]:
    (row,) = cluster.ask(node, api.Query("collateral"))
    return {field: float(row[field]) for field in ("held", "free", "reserved")}


def opened() -> Cluster:
    cluster = Cluster()
    cluster.record("n0", account("A"), deposit("d", "A", "USDT", 10_000))
    return cluster


def test_what_is_left_of_a_reserve_is_free_again_after_its_end_everywhere() -> None:
    cluster = opened()
    end_us = EPOCH_US + cluster.sim.now_us + 2 * SECOND
    cluster.ask("n0", api.Record([reserve("r", "5", end_us)]))
    before = balance(cluster, "n0")
    assert before["reserved"] > 0
    cluster.sim.run_for(1 * SECOND)
    assert balance(cluster, "n0") == before, "not before its end"
    cluster.sim.run_for(4 * SECOND)
    for node in ("n0", "n1"):
        after = balance(cluster, node)
        assert after["reserved"] == 0
        assert after["free"] == after["held"] == before["held"]


def test_a_reserve_that_ended_while_its_node_was_down_is_voided_when_it_is_back() -> None:
    cluster = opened()
    end_us = EPOCH_US + cluster.sim.now_us + 2 * SECOND
    cluster.ask("n0", api.Record([reserve("r", "5", end_us), reserve("open", "1", 0)]))
    open_ended = 1.0
    cluster.sim.run_for(SECOND)
    cluster.sim.crash("n0")
    cluster.sim.run_for(5 * SECOND)
    assert balance(cluster, "n1")["reserved"] > open_ended, "nobody else infers it from a clock"
    cluster.sim.restart("n0")
    cluster.sim.run_for(3 * SECOND)
    assert balance(cluster, "n1")["reserved"] == open_ended


def test_a_reserve_that_orders_need_outlives_its_end_until_they_are_done_and_settled() -> None:
    market = Market(seed=3)
    market.open()
    end_us = EPOCH_US + market.sim.now_us + 2 * SECOND
    market.ask("n0", api.Record([reserve("s", "1", end_us + 1), reserve("r", "5", end_us)]))
    market.record("n0", order("o", "A", "buy", 100, 1_000, reserve="r"))
    market.sim.run_for(5 * SECOND)
    assert reserved(market) == 5, "the other one has ended, whatever was refused before it"
    market.record("n0", cancel("o"))
    market.sim.run_for(2 * AGAIN_US)
    assert reserved(market) == 0


def reserved(market: Market) -> float:
    (row,) = [row for row in market.rows("n1", "collateral") if row["account"] == "A"]
    return float(row["reserved"])
