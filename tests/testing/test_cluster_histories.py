"""Histories of a simulated cluster's clients: its collateral is a bank, its fills are a grow-only set, whatever is cut off or crashes."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.maelstrom.workloads import fills_held
from crdtledger.edge.simulate import writing
from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster
from crdtledger.edge.simulate.run import QUICK
from crdtledger.edge.simulate.writing import Json
from crdtledger.ledger.genesis import Custodian, Policies
from crdtledger.testing.checkers import check_bank, check_set, check_set_full
from crdtledger.testing.recording import ClusterRecorder
from gossip.network import Faults

ACCOUNTS = ("A", "B", "C")
OPENING = 9_000
CLIENTS = [f"c{number}" for number in range(5)]
ROUGH = Faults(latency_mean_us=5_000, loss_ppm=20_000, duplicate_ppm=20_000, reorder=True, torn=True, trace_lines=0)


def balances(core: NodeCore) -> dict[str, int]:
    """What each account is owed by the checkpoint that a node stands on."""
    settled = core.replica.state.collateral
    return {name: settled[name, "USDT"].held for name in ACCOUNTS if (name, "USDT") in settled}


def trades(core: NodeCore) -> list[int]:
    """The fills that a node holds, once each."""
    return sorted(map(int, fills_held(core.replica)))


def hinder(cluster: Cluster, draw: Random) -> None:
    """Sometimes a partition, a crash, or an end to them."""
    sim = cluster.sim
    kind = draw.randrange(12)
    if kind == 0:
        names = draw.sample(NAMES, len(NAMES))
        at = draw.randrange(1, len(names))
        sim.partition([names[:at], names[at:]])
    elif kind == 1:
        sim.heal()
    elif kind == 2 and len(sim.up()) > 2:
        sim.crash(draw.choice(sim.up()))
    elif kind == 3:
        for name in NAMES:
            sim.restart(name)


def bank(seed: int) -> tuple[Cluster, ClusterRecorder]:
    """A cluster that agrees on checkpoints, all accounts rich and every node entitled, all of it settled."""
    custodians = (Custodian(node="n1", asset="BTC"),)
    policies = Policies(custodians=custodians, agreement="tendermint", checkpoint_interval_ms=300)
    cluster = Cluster(ROUGH, seed, policies=policies, timeouts=QUICK)
    deposits = [writing.deposit(f"d-{name}", name, "USDT", OPENING) for name in ACCOUNTS]
    cluster.record("n0", *map(writing.account, ACCOUNTS), *deposits)
    grants = [writing.grant(f"g-{a}-{n}", a, "USDT", OPENING // 4, n) for a in ACCOUNTS for n in NAMES[1:]]
    cluster.record("n0", *grants)
    assert cluster.sim.run_until(lambda: all(at_rest(cluster.core(name)) for name in NAMES), 60 * SECOND)
    return cluster, ClusterRecorder(cluster)


def at_rest(core: NodeCore) -> bool:
    return len(balances(core)) == len(ACCOUNTS) and not core.replica.unsettled()


@pytest.mark.parametrize("seed", range(3))
def test_collateral_is_a_bank_at_every_settled_height(seed: int) -> None:
    cluster, clients = bank(seed)
    draw = Random(seed)
    for number in range(120):
        hinder(cluster, draw)
        client, node = draw.choice(CLIENTS), draw.choice(NAMES)
        if not clients.idle(client):
            pass
        elif draw.random() < 0.5:
            source, target = draw.sample(ACCOUNTS, 2)
            amount = draw.choice((1, 700, 2_000, 5_000))
            moved = {"from": source, "to": target, "amount": amount}
            fact = writing.transfer(f"t{number}", source, "USDT", amount, target)
            clients.begin(client, node, "transfer", moved, api.Record([fact]))
        else:
            clients.look(client, node, "read", balances)
        clients.run_for(draw.choice((5_000, 100_000, 400_000)))
    assert cluster.settle()
    clients.run_for(10 * SECOND)
    assert cluster.sim.run_until(lambda: all(at_rest(cluster.core(name)) for name in NAMES), 60 * SECOND)
    for name in NAMES:
        clients.look(f"last {name}", name, "final", balances)
    history = clients.history()
    verdict = check_bank(history, OPENING * 3, ACCOUNTS, opening=dict.fromkeys(ACCOUNTS, OPENING))
    assert verdict, verdict.story
    moved_at_all = verdict.found["transfers"]
    assert moved_at_all["ok"] > 10
    assert moved_at_all["fail"] + moved_at_all["info"] > 0
    heights = {tuple(call.answer.values()) for call in history.of("read", "final") if call.answer}
    assert len(heights) > 3, "the balances that were read should differ now and then"


def fill(number: int) -> Json:
    return {
        "kind": "fill",
        "venue": "V",
        "trade_id": number,
        "instrument": "PERP",
        "account": "A",
        "side": "buy",
        "qty": "1.000",
        "price": "50000.00",
    }


def set_of_fills(seed: int, forgetful: bool = False) -> Any:
    """The history of clients that report trades, some of them to two nodes. ``forgetful``: one node shows less than it has."""
    cluster = Cluster(ROUGH, seed)
    opening = [writing.account("A"), writing.linear("PERP")]
    for name in NAMES:
        cluster.record(name, *opening)
    clients, draw = ClusterRecorder(cluster, patience_us=2 * SECOND), Random(seed)
    for number in range(150):
        hinder(cluster, draw)
        client, node = draw.choice(CLIENTS), draw.choice(NAMES)
        if clients.idle(client):
            if draw.random() < 0.6:
                trade = number - draw.choice((0, 0, 1))
                clients.begin(client, node, "add", trade, api.Record([fill(trade)]))
            else:
                clients.look(client, node, "read", trades)
        clients.run_for(draw.choice((500, 20_000, 300_000)))
    assert cluster.settle()
    clients.run_for(3 * SECOND)
    for name in NAMES:
        less = forgetful and name == "n2"
        clients.look(f"last {name}", name, "final", lambda core, less=less: trades(core)[less:])
    return clients.history()


@pytest.mark.parametrize("seed", range(3))
def test_fills_are_a_grow_only_set(seed: int) -> None:
    history = set_of_fills(seed)
    verdict = check_set(history)
    assert verdict, verdict.story
    assert verdict.found["acknowledged"] > 20
    full = check_set_full(history, fresh=False)
    assert full, full.story
    assert full.found["stale"], "nothing was ever cut off from anything"


def test_a_node_that_shows_less_than_it_has_is_found() -> None:
    verdict = check_set(set_of_fills(1, forgetful=True))
    assert verdict.valid == "no"
    assert "last n2" in verdict.story
