"""Real processes, killed with -9 under load: what was acknowledged is there afterwards, at every node.

The check asks the ledger itself: recording an acknowledged fact again must change nothing, at any node.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import folders, process
from crdtledger.edge.client import Client
from crdtledger.errors import InsufficientRights, Unreachable
from tests.edge.processes import free_addresses

pytestmark = pytest.mark.processes

ROUNDS = 20
ACCOUNT = "A001"
PAUSE_S = 0.1  # between two calls of one load: three nodes and their writers share two cores


def fill(number: int) -> dict[str, Any]:
    side = "buy" if number % 3 else "sell"
    terms = {"instrument": "BTCUSDT", "account": ACCOUNT, "side": side, "qty": f"0.{number % 97 + 1:04d}"}
    return {"kind": "fill", "venue": "x", "trade_id": number, "price": "60000.5", **terms}


def withdrawal(name: str) -> dict[str, Any]:
    return {"kind": "withdrawal", "id": name, "account": ACCOUNT, "asset": "USDT", "amount": "0.01"}


class Load(threading.Thread):
    """Records fills and withdrawals at one node, one call after the other, and remembers what was acknowledged."""

    def __init__(self, folder: Path, numbers: Iterator[int]) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.numbers = numbers
        self.acknowledged: list[dict[str, Any]] = []
        self.failure: BaseException | None = None
        self.flowing = threading.Event()
        self._over = threading.Event()

    def run(self) -> None:
        try:
            with Client(self.folder, timeout_s=3.0) as node:
                while not self._over.wait(PAUSE_S):
                    self._record(node, [fill(next(self.numbers)) for _ in range(10)])
                    self._record(node, [withdrawal(f"w{next(self.numbers)}")])
        except BaseException as error:
            self.failure = error

    def _record(self, node: Client, facts: list[dict[str, Any]]) -> None:
        try:
            node.record(facts)
        except (Unreachable, InsufficientRights):
            return
        self.acknowledged += facts
        self.flowing.set()

    def finish(self) -> list[dict[str, Any]]:
        self._over.set()
        self.join(30)
        assert self.failure is None
        return self.acknowledged


def agree(nodes: list[Client]) -> None:
    """Wait until all durable frontiers are equal."""
    for _ in range(200):
        digests = [node.query("digest")["frontier"] for node in nodes]
        if len(set(digests)) == 1:
            return
        nodes[0].watch(bytes.fromhex(digests[0]), 0.1)
    pytest.fail(f"no agreement: {digests}")


@pytest.mark.timeout(240)
def test_twenty_kills_under_load_lose_nothing_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(20)
    folders.found(tmp_path / "c", free_addresses(3))
    paths = folders.node_folders(tmp_path / "c")
    with process.running(*paths) as nodes:
        with Client(paths[0]) as first:
            instrument = {"kind": "instrument", "name": "BTCUSDT", "type": "spot", "base": "BTC", "quote": "USDT"}
            instrument |= {"settlement": "USDT", "price_decimals": 2, "qty_decimals": 8}
            deposit = {"kind": "deposit", "id": "d", "account": ACCOUNT, "asset": "USDT", "amount": "1000000"}
            first.record([instrument, {"kind": "account", "name": ACCOUNT}, deposit])
        with ExitStack() as clients:
            agree([clients.enter_context(Client(path)) for path in paths])
        numbers = itertools.count(1)
        loads = [Load(path, numbers) for path in paths]
        for load in loads:
            load.start()
        for _ in range(ROUNDS):
            victim = chance.randrange(3)
            loads[victim].flowing.clear()
            assert loads[victim].flowing.wait(30), "the load flows before each kill"
            threading.Event().wait(chance.uniform(0, 0.2))  # the random instant itself
            name = paths[victim].name
            assert process.stop(nodes[name], signal.SIGKILL) == -signal.SIGKILL
            nodes[name] = process.spawn(paths[victim])
        acknowledged = [fact for load in loads for fact in load.finish()]
        assert len(acknowledged) > 10 * ROUNDS
        with ExitStack() as clients:
            everyone = [clients.enter_context(Client(path)) for path in paths]
            agree(everyone)
            positions = [node.query("positions") for node in everyone]
            assert positions[0] == positions[1] == positions[2]
            for node in everyone:
                for start in range(0, len(acknowledged), 1_000):
                    again = node.record(acknowledged[start : start + 1_000])
                    assert again["facts"] == 0, "an acknowledged fact was lost"
            assert all(node.query("status")["epoch"] == 1 for node in everyone)
            assert not any(node.query("breaks") for node in everyone)
