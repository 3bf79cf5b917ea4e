"""Real nodes that are cut off from the others: they catch up, in order or by the state; or, two and two, nobody certifies."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import folders
from crdtledger.edge.client import Client
from crdtledger.edge.setup import JUMP_HEIGHTS
from crdtledger.ledger.genesis import Policies
from reconcile.stores.sqlite import SqliteStore
from tests.edge.processes import Cluster, cluster, run

pytestmark = pytest.mark.processes

POLICIES = Policies(agreement="tendermint", checkpoint_interval_ms=20)
MISSED = 20


def digests(folder: Path) -> list[bytes]:
    """Every height's digest, as a node's own file has it."""
    with SqliteStore.open(folder / folders.CHECKPOINTS) as store:
        return [entry.digest for entry in store.entries()]


def status(it: Cluster, number: int) -> dict[str, Any]:
    with it.client(number) as node:
        told: dict[str, Any] = node.query("status")
        return told


def account(node: Client, number: int) -> None:
    node.record([{"kind": "account", "name": f"A{number:04d}"}])


def leave_behind(it: Cluster, missed: int) -> int:
    """Cut the fourth node off, with an account of its own, while the others settle so many heights; where it stands."""
    with it.client(1) as first:
        account(first, 0)
        it.wait(settled=True)
        it.partition("node-1,node-2,node-3", "node-4")
        with it.client(4) as away:
            account(away, 9_999)  # nothing is lost on the other side either
        start: int = status(it, 1)["base"]["height"]
        for number in range(1, missed + 1):
            account(first, number)
            it.wait(1, 2, 3, settled=True)
    return start


@pytest.mark.timeout(240)
def test_a_node_that_missed_twenty_heights_settles_them_in_order(tmp_path: Path) -> None:
    with cluster(tmp_path, 4, policies=POLICIES) as it:
        start = leave_behind(it, MISSED)
        behind, ahead = status(it, 4), status(it, 1)
        assert behind["base"]["height"] == start
        assert behind["unsettled_batches"] == 1
        assert ahead["base"]["height"] >= start + MISSED
        it.heal()
        it.wait(settled=True)
        filled(it)
        assert status(it, 4)["settled_facts"] == status(it, 1)["settled_facts"] == MISSED + 2
        verified = run("checkpoint", "verify", *it.paths, "--genesis", it.directory / folders.GENESIS)
        assert verified.code == 0, verified.err


@pytest.mark.timeout(240)
def test_a_node_that_missed_forty_heights_takes_the_state_and_its_store_gets_them_all(tmp_path: Path) -> None:
    missed = JUMP_HEIGHTS + 8
    with cluster(tmp_path, 4, policies=POLICIES) as it:
        leave_behind(it, missed)
        it.heal()
        it.wait(settled=True)
        assert "checkpoint.jumped" in (it.node(4) / folders.LOG).read_text()
        assert status(it, 4)["settled_facts"] == status(it, 1)["settled_facts"] == missed + 2
        filled(it)
        it.kill(4)
        it.start(4)
        with it.client(4) as back:
            account(back, 10_000)
        it.wait(settled=True)
        filled(it)
        verified = run("checkpoint", "verify", *it.paths, "--genesis", it.directory / folders.GENESIS)
        assert verified.code == 0, verified.err


def filled(it: Cluster) -> None:
    """Wait until all stores have every height on which the nodes stand: a store takes what the journal has, a moment later."""
    height = status(it, 1)["base"]["height"]
    for _ in range(200):
        stored = [digests(path) for path in it.paths]
        if len(stored[0]) == height and stored == [stored[0]] * len(stored):
            return
        threading.Event().wait(0.1)
    pytest.fail("the store is not filled")


@pytest.mark.timeout(240)
def test_two_and_two_certify_nothing_lose_nothing_and_go_on_when_they_meet_again(tmp_path: Path) -> None:
    with cluster(tmp_path, 4, policies=POLICIES) as it, it.client(1) as left, it.client(4) as right:
        account(left, 0)
        it.wait(settled=True)
        filled(it)
        before = digests(it.node(1))
        it.partition("node-1,node-2", "node-3,node-4")
        for number in range(1, 11):
            account(left, number)
            account(right, 100 + number)
        it.wait(1, 2)
        it.wait(3, 4)
        assert [status(it, number)["unsettled_batches"] for number in (1, 2, 3, 4)] == [10] * 4
        assert [digests(path) for path in it.paths] == [before] * 4
        it.heal()
        it.wait(settled=True)
        filled(it)
        after = digests(it.node(1))
        assert after[: len(before)] == before
        assert len(after) > len(before)
        assert status(it, 2)["settled_facts"] == 21
