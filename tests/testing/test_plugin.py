"""The fixture ``cluster``: a cluster as the marker says, that must agree when the test is over; and nothing for whoever does not use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from crdtledger.errors import InvariantBroken
from crdtledger.testing import Watched
from gossip.network import Faults

A = {"kind": "account", "name": "A"}
DEPOSIT = {"kind": "deposit", "id": "d", "account": "A", "asset": "USDT", "amount": "100"}


def spend(id: str, amount: str) -> dict[str, str]:
    return {"kind": "withdrawal", "id": id, "account": "A", "asset": "USDT", "amount": amount}


def test_a_cluster_has_four_nodes_unless_it_is_told_otherwise(cluster: Watched) -> None:
    cluster.record("n0", A, DEPOSIT)
    assert len(cluster.names) == 4
    assert cluster.watch.accepted


@pytest.mark.cluster(nodes=3, seed=7, faults=Faults(loss_ppm=50_000, duplicate_ppm=50_000, reorder=True))
def test_it_may_be_left_cut_and_crashed(cluster: Watched) -> None:
    cluster.record(
        "n0", A, DEPOSIT, {"kind": "grant", "id": "g", "account": "A", "asset": "USDT", "amount": "40", "node": "n2"}
    )
    assert cluster.sim.run_until(lambda: cluster.spendable("n2") == 4_000, 10_000_000)
    cluster.sim.partition([["n0", "n1"], ["n2"]])
    cluster.record("n2", spend("w", "40.00"))
    assert cluster.try_record("n0", spend("v", "60.01")) is not None
    cluster.sim.crash("n1")


@pytest.mark.cluster(nodes=4, agreement=True)
def test_with_agreement_all_is_settled_in_the_end(cluster: Watched) -> None:
    cluster.record("n0", A, DEPOSIT)
    cluster.conclude()
    assert cluster.core("n3").replica.base[0] > 0


@pytest.mark.cluster(nodes=["london", "tokyo"])
def test_nodes_have_the_names_that_they_are_given(cluster: Watched) -> None:
    cluster.record("london", A)
    assert cluster.names == ("london", "tokyo")


def test_what_was_acknowledged_and_is_missing_is_found() -> None:
    watched = Watched(2)
    watched.record("n0", A, DEPOSIT)
    watched.watch.owed.add(("account", "ghost", ()))
    with pytest.raises(InvariantBroken, match="ghost") as caught:
        watched.conclude()
    told = "\n".join(caught.value.__notes__)
    assert "seed 0, nodes n0,n1" in told
    assert "Its last messages" in told


def test_every_fact_that_is_acknowledged_is_owed() -> None:
    """In whatever words it was written: 100 and 100.00 are the same."""
    watched = Watched(2)
    fill = {
        "kind": "fill",
        "venue": "V",
        "trade_id": 7,
        "instrument": "P",
        "account": "A",
        "side": "buy",
        "qty": "1",
        "price": "2",
        "fee": "0.1",
    }
    named = {
        "type": "perp",
        "base": "BTC",
        "quote": "USDT",
        "settlement": "USDT",
        "price_decimals": 2,
        "qty_decimals": 3,
    }
    reserve = {"kind": "reserve", "id": 9, "account": "A", "asset": "USDT", "amount": "3"}
    watched.record(
        "n0", A, {"kind": "account", "name": "B"}, {"kind": "instrument", "name": "P", **named}, DEPOSIT, fill
    )
    watched.record("n0", {**fill, "kind": "bust", "leg": "x", "id_space": "y", "fee_asset": "BTC"}, reserve)
    watched.record("n0", {"kind": "post", "id": "p", "reserve": 9, "asset": "USDT", "amount": "1", "credit": "B"})
    watched.record(
        "n0",
        {"kind": "void", "id": "q", "reserve": "9"},
        spend("w", "1"),
        {**spend("t", "2.5"), "kind": "transfer", "credit": "B"},
    )
    watched.record("n0", {**spend("g", "5"), "kind": "grant", "node": "n1"})
    watched.record("n0", {"kind": "mark", "instrument": "P", "price": "3", "ts_us": 1, "source": "x"})
    kinds = [said[0] for said in watched.watch.owed]
    assert sorted(kinds) == sorted(
        [
            "account",
            "account",
            "instrument",
            "deposit",
            "fill",
            "bust",
            "reserve",
            "post",
            "void",
            "withdrawal",
            "transfer",
            "grant",
        ]
    )
    watched.conclude()


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--strict-markers",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        *options,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)


def test_whoever_uses_it_needs_to_import_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("""
import sys

import pytest

import hypothesis


def test_nothing_is_loaded_by_then():
    assert not {"numpy", "pycrdt", "crdtledger.testing.watched"} & sys.modules.keys()


@pytest.mark.cluster(nodes=2, seed=3)
def test_holds(cluster):
    cluster.record("n1", {"kind": "account", "name": "A"})
    cluster.sim.isolate("n0")


def test_breaks_at_the_end(cluster):
    cluster.watch.owed.add(("account", "ghost", ()))


def test_has_failed_already(cluster):
    cluster.watch.owed.add(("account", "ghost", ()))
    assert False


@pytest.mark.cluster(colour="red")
def test_is_marked_with_what_there_is_not(cluster): ...
""")
    ran = run(tmp_path)
    assert "1 failed, 3 passed, 2 errors" in ran.stdout, ran.stdout + ran.stderr
    assert "ERROR test_theirs.py::test_breaks_at_the_end" in ran.stdout
    assert "colour" in ran.stdout
    assert "cluster(nodes=4, seed=0" in run(tmp_path, "--markers").stdout


def test_whoever_does_not_use_it_loads_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text("""
import sys


def test_mine():
    assert not [name for name in sys.modules if name.startswith(("numpy", "msgspec", "pycrdt", "hypothesis.", "crdtledger.edge"))]
""")
    ran = run(tmp_path, "-p", "no:hypothesispytest")
    assert "1 passed" in ran.stdout, ran.stdout + ran.stderr
