"""Validators that are killed with -9 again and again: one history all the same, no vote cast twice, nothing lost.

What is held against each other: every node's own checkpoint file, read as a stranger reads it; and every node's log, for a
validator that cast two votes in one place would be seen, and named, by all who hear both.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import folders
from crdtledger.edge.client import Client
from crdtledger.errors import Unreachable
from crdtledger.ledger.genesis import Policies
from reconcile.history import History
from reconcile.stores.sqlite import SqliteStore
from tests.edge.processes import Cluster, cluster, run
from tests.edge.test_crashes import ACCOUNT, Load

pytestmark = pytest.mark.processes

HEIGHTS = 50
VALIDATORS = 4
OPENING = [
    {"kind": "account", "name": ACCOUNT},
    {"kind": "deposit", "id": "d-1", "account": ACCOUNT, "asset": "USDT", "amount": "1000"},
    *(
        {"kind": "grant", "id": f"g-{n}", "account": ACCOUNT, "asset": "USDT", "amount": "200", "node": f"node-{n}"}
        for n in range(2, VALIDATORS + 1)
    ),
]


def height(folder: Path) -> int:
    """The height of the checkpoint that a node stands on; 0 for one that does not answer just now."""
    try:
        with Client(folder, timeout_s=5.0) as node:
            stands_on: int = node.query("status")["base"]["height"]
            return stands_on
    except Unreachable:
        return 0


def digests(folder: Path) -> list[bytes]:
    """Every height's digest by a node's own file, judged with the genesis alone."""
    history = History(folders.open_node(folder).genesis)
    with SqliteStore.open(folder / folders.CHECKPOINTS) as store:
        return [history.extend(entry).checkpoint.digest for entry in store.entries()]


def kill_on(it: Cluster, draw: random.Random) -> int:
    """Through all heights, kill one validator or two at a random instant and start them again; how many died."""
    killed = 0
    while (sealed := seen(it, 1)) < HEIGHTS:
        seen(it, sealed + 2)
        threading.Event().wait(draw.uniform(0, 0.3))  # the random instant itself
        victims = draw.sample(range(1, VALIDATORS + 1), draw.choice((1, 1, 2)))
        for victim in victims:
            it.kill(victim)
        killed += len(victims)
        it.start(*victims)
    return killed


def seen(it: Cluster, least: int) -> int:
    """Wait until a node stands on height ``least``; the highest that any stands on."""
    for _ in range(600):
        highest = max(height(path) for path in it.paths)
        if highest >= least:
            return highest
        threading.Event().wait(0.1)
    pytest.fail(f"no height {least}: the highest is {highest}")


@pytest.mark.timeout(280)
def test_validators_killed_through_fifty_heights_leave_one_history_and_no_double_vote(tmp_path: Path) -> None:
    policies = Policies(agreement="tendermint", checkpoint_interval_ms=100)
    numbers: Iterator[int] = itertools.count(1)
    with cluster(tmp_path, VALIDATORS, policies=policies) as it, ExitStack() as held:
        assert run("define", it.node(1), "--preset", "binance-spot").code == 0
        with it.client(1) as first:
            first.record(OPENING)
        it.wait()
        loads = [Load(path, numbers) for path in it.paths[::3]]
        for load in loads:
            load.start()
            held.callback(load.finish)
        killed = kill_on(it, random.Random(4))
        acknowledged = [fact for load in loads for fact in load.finish()]
        it.wait(settled=True)
        _nothing_is_lost(it, acknowledged)
        histories = [digests(path) for path in it.paths]
        assert killed >= 10
        assert len(histories[0]) >= HEIGHTS
        assert all(history == histories[0] for history in histories)
        for path in it.paths:
            log = (path / folders.LOG).read_text()
            assert "checkpoint.evidence" not in log, "somebody voted twice in one place"
            assert "checkpoint.stopped" not in log


def _nothing_is_lost(it: Cluster, acknowledged: list[dict[str, Any]]) -> None:
    """Recording what was acknowledged once more changes nothing, at any node."""
    for path in it.paths:
        with Client(path, timeout_s=30.0) as node:
            for first in range(0, len(acknowledged), 500):
                part = [fact for fact in acknowledged[first : first + 500] if fact["kind"] == "fill"]
                assert node.record(part)["facts"] == 0
