"""A node put back from an old backup, as real processes: a new epoch, no fork, nothing spent twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import api, folders, process
from crdtledger.edge.client import Client
from crdtledger.errors import InsufficientRights
from crdtledger.ledger.backup import restore
from tests.edge.processes import free_addresses
from tests.edge.test_crashes import agree

pytestmark = pytest.mark.processes

A = "A001"


def deposit(name: str, amount: str) -> dict[str, Any]:
    return {"kind": "deposit", "id": name, "account": A, "asset": "USDT", "amount": amount}


def withdrawal(name: str, amount: str) -> dict[str, Any]:
    return {"kind": "withdrawal", "id": name, "account": A, "asset": "USDT", "amount": amount}


class Cluster:
    """Three nodes of which the first, the custodian, has a backup that misses its last withdrawal."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        folders.found(directory / "c", free_addresses(3))
        self.paths = folders.node_folders(directory / "c")
        self.backup = directory / "old.db"
        self.nodes = stack.enter_context(process.running(*self.paths))
        with Client(self.paths[0]) as first:
            first.record([{"kind": "account", "name": A}, deposit("d1", "100")])
            self.agree()
            first.request(api.Backup(str(self.backup)))
            first.record([withdrawal("w1", "80")])
            first.record([deposit("d2", "5")])
            self.agree()

    def agree(self) -> None:
        with ExitStack() as clients:
            agree([clients.enter_context(Client(path)) for path in self.paths])

    def stop(self, *numbers: int) -> None:
        for number in numbers:
            process.stop(self.nodes[self.paths[number].name])

    def start(self, *numbers: int) -> None:
        for number in numbers:
            self.nodes[self.paths[number].name] = process.spawn(self.paths[number])

    def until_unlocked(self) -> dict[str, Any]:
        with Client(self.paths[0]) as first:
            for _ in range(200):
                status: dict[str, Any] = first.query("status")
                if not status["locked"]:
                    return status
                first.watch(bytes.fromhex(status["frontier"]), 0.1)
        pytest.fail(f"still locked: {status['locked_until']}")

    def check_nothing_spent_twice(self, spent: str) -> None:
        self.agree()
        rows = []
        for path in self.paths:
            with Client(path) as node:
                assert [item for item in node.query("breaks") if item["type"] in ("fork", "void_batch")] == []
                rows.append(node.query("collateral"))
        assert rows[0] == rows[1] == rows[2]
        assert rows[0][0]["deposited"] == "105.00000000"
        assert rows[0][0]["withdrawn"] == spent


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


def test_a_restored_node_opens_a_new_epoch_and_gets_its_own_batches_back(cluster: Cluster) -> None:
    cluster.stop(0)
    restore(cluster.backup, cluster.paths[0] / folders.JOURNAL, aside="test")
    cluster.start(0)
    assert cluster.until_unlocked()["epoch"] == 2
    with Client(cluster.paths[0]) as first:
        assert first.record([withdrawal("w1", "80")])["duplicates"] == 1, "its own later batch is back"
        with pytest.raises(InsufficientRights):
            first.record([withdrawal("w2", "26")])
        first.record([withdrawal("w2", "25")])
    cluster.check_nothing_spent_twice("105.00000000")


def test_a_restored_node_that_starts_alone_records_but_does_not_spend(cluster: Cluster) -> None:
    cluster.stop(0, 1, 2)
    restore(cluster.backup, cluster.paths[0] / folders.JOURNAL, aside="test")
    cluster.start(0)
    with Client(cluster.paths[0]) as first:
        status = first.query("status")
        assert status["epoch"] == 2
        assert "a copy" in status["locked"] or "backup" in status["locked"]
        assert status["locked_until"] == ["node-2 has not been heard", "node-3 has not been heard"]
        with pytest.raises(InsufficientRights, match="epoch 2"):
            first.record([withdrawal("w9", "1")])
        first.record([deposit("d2", "5")])  # a client that repeats what it was not told of
        with pytest.raises(InsufficientRights):
            first.record([withdrawal("w9", "1")])
    cluster.start(1)
    with Client(cluster.paths[0]) as first:
        assert first.query("status")["locked"], "one member has not been heard"
    cluster.start(2)
    cluster.until_unlocked()
    with Client(cluster.paths[0]) as first:
        with pytest.raises(InsufficientRights):
            first.record([withdrawal("w2", "26")])
        first.record([withdrawal("w2", "25")])
    cluster.check_nothing_spent_twice("105.00000000")


def test_a_backup_copied_over_the_journal_by_hand_is_noticed(cluster: Cluster) -> None:
    cluster.stop(0)
    journal = cluster.paths[0] / folders.JOURNAL
    for leftover in journal.parent.glob("journal.db-*"):
        leftover.unlink()
    shutil.copy(cluster.backup, journal)
    cluster.start(0)
    assert cluster.until_unlocked()["epoch"] == 2
    cluster.check_nothing_spent_twice("80.00000000")


def test_a_lost_journal_comes_back_from_peers_under_a_new_epoch(cluster: Cluster) -> None:
    cluster.stop(0)
    for file in cluster.paths[0].glob("journal.db*"):
        file.unlink()
    cluster.start(0)
    assert cluster.until_unlocked()["epoch"] == 2
    cluster.check_nothing_spent_twice("80.00000000")
