"""Statements held against a real node: FIX, positions, a custodian beside a venue, and what one cannot say."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtledger.ledger.genesis import Authority, Policies
from tests.edge.processes import Cluster, Ran, cluster, run
from tests.edge.statement_files import FIRST_MS, Line, fix, fix_message

pytestmark = pytest.mark.processes

PARTS = (Line("p1", "0.3", fee="0.05", order="o"), Line("p2", "0.7", fee="0.05", order="o"))


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node; A bought 1 twice, C holds 500 USDT, and F is flat."""
    with cluster(tmp_path_factory.mktemp("recon"), nodes=1) as made:
        assert run("define", made.node(1), "--preset", "binance-spot").code == 0
        with made.client(1) as node:
            node.record([{"kind": "account", "name": name} for name in ("A", "B", "C", "F")])
            node.record(
                [fill("1", "A"), fill("2", "A", side="sell", qty="3"), fill("8", "F"), fill("9", "F", side="sell")]
            )
            node.record([{"kind": "deposit", "id": "d", "account": "C", "asset": "USDT", "amount": "500"}])
            node.record([{"kind": "mark", "instrument": "BTCUSDT", "source": "venue", "price": "110", "ts_us": 1}])
        yield made


def fill(id_: str, account: str, side: str = "buy", qty: str = "1") -> dict[str, Any]:
    told = {
        "kind": "fill",
        "venue": "binance",
        "trade_id": id_,
        "instrument": "BTCUSDT",
        "account": account,
        "side": side,
    }
    return told | {"qty": qty, "price": "100", "fee": "0.1", "fee_asset": "USDT", "ts_us": FIRST_MS * 1000}


def recon(it: Cluster, file: Path, *arguments: object) -> Ran:
    return run("recon", it.node(1), file, "--format", "json", *arguments)


def logged(it: Cluster, file: Path, *lines: Line) -> Ran:
    fix(file, [fix_message(line, number) for number, line in enumerate(lines)])
    return recon(it, file, "--statement-format", "fix", "--venue", "binance")


def test_a_log_that_says_the_same_is_good(it: Cluster, tmp_path: Path) -> None:
    ran = logged(it, tmp_path / "s.fix", Line("1"), Line("2", "3", side="sell"))
    assert (ran.code, ran.json()) == (0, [])


def test_one_fill_that_the_venue_lists_in_parts_is_one_fill(it: Cluster, tmp_path: Path) -> None:
    assert logged(it, tmp_path / "s.fix", *PARTS, Line("2", "3", side="sell")).json() == []
    dearer = PARTS[0]._replace(fee="0.07")
    (row,) = logged(it, tmp_path / "s.fix", dearer, PARTS[1], Line("2", "3", side="sell")).json()
    assert (row["cause"], row["difference"]) == ("FEE", "-0.02000000 USDT")
    assert [fact["kind"] for fact in row["facts"]] == ["bust", "fill", "fill"]


def test_a_trade_that_no_node_told_comes_with_the_fill_to_record(it: Cluster, tmp_path: Path) -> None:
    (row,) = logged(it, tmp_path / "s.fix", Line("1"), Line("2", "3", side="sell"), Line("3", "0.5")).json()
    assert (row["cause"], row["a"], row["type"]) == ("EXTERNAL", None, "missing")
    (fact,) = row["facts"]
    assert (fact["kind"], fact["trade_id"], fact["qty"]) == ("fill", "3", "0.50000000")


def test_a_trade_outside_the_statements_period_is_none_of_its_business(it: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "s.fix"
    later = [fix_message(Line("2", "3", side="sell")).replace("22:13:20.000", "22:13:21.000").partition("10=")[0]]
    fix(file, later)
    arguments = ("--statement-format", "fix", "--venue", "binance")
    assert recon(it, file, *arguments).json() == []
    (row,) = recon(it, file, *arguments, "--since", "2023-11-14T22:13:20Z").json()
    assert (row["cause"], row["b"], row["facts"][0]["kind"]) == ("EXTERNAL", None, "bust")
    assert recon(it, file, *arguments, "--since", "2023-11-15T00:00:00Z").json() == []


def test_a_break_keeps_its_id_when_the_next_statement_shows_it(it: Cluster, tmp_path: Path) -> None:
    lines = (Line("1", fee="0.2"), Line("2", "3", side="sell"))
    ids = {logged(it, tmp_path / name, *lines).json()[0]["id"] for name in ("monday.fix", "tuesday.fix")}
    assert len(ids) == 1


def test_explain_follows_collateral_to_its_facts_too(it: Cluster) -> None:
    told = run("explain", it.node(1), "C", "USDT", "--format", "json").json()
    assert [(row["kind"], row["id"], row["terms"], row["state"]) for row in told["facts"]] == [
        ("deposit", "d", "500.00000000 USDT", "provisional")
    ]
    assert told["figures"][0]["held"] == "500.00000000"


def test_quantities_that_differ_come_with_the_trade_to_book_and_flat_is_not_missing(
    it: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "p.csv"
    file.write_text("account,instrument,qty\nA,BTCUSDT,-1.5\nB,BTCUSDT,0\nF,ETHUSDT,0\n")
    rows = {row["account"] + row["instrument"]: row for row in recon(it, file, "--venue", "binance").json()}
    (fact,) = rows["ABTCUSDT"]["facts"]
    assert (rows["ABTCUSDT"]["difference"], fact["side"], fact["qty"], fact["price"]) == (
        "-0.50000000",
        "buy",
        "0.50000000",
        "110.00",
    )
    assert fact["id_space"] == "correction"
    assert rows["FBTCUSDT"]["status"] == "noted"


def test_a_position_is_corrected_once_however_often_it_is_applied(it: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("account,instrument,qty\nB,BTCUSDT,2\n")
    assert recon(it, file, "--venue", "binance").code == 1
    with it.client(1) as node:
        node.record([fill("20", "B")])
    (row,) = recon(it, file, "--venue", "binance").json()
    assert row["difference"] == "-1.00000000"
    applied = recon(it, file, "--venue", "binance", "--apply")
    assert "1 facts recorded" in applied.err
    again = recon(it, file, "--venue", "binance", "--apply")
    assert (again.code, "0 facts recorded" in again.err) == (0, True)
    with it.client(1) as node:
        assert node.record(row["facts"]) == {"facts": 0, "duplicates": 1, "batches": 0, "seq": 0}


def test_a_correction_that_was_taken_back_comes_again_as_another_and_one_that_stands_does_not(
    it: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "p.csv"
    file.write_text("account,instrument,qty\nG,BTCUSDT,2\n")
    with it.client(1) as node:
        node.record([{"kind": "account", "name": "G"}, fill("30", "G")])
        ids = []
        for _ in range(3):
            (row,) = recon(it, file, "--venue", "binance").json()
            ids.append(row["facts"][0]["trade_id"])
            assert "1 facts recorded" in recon(it, file, "--venue", "binance", "--apply").err
            assert recon(it, file, "--venue", "binance").code == 0
            node.record([row["facts"][0] | {"kind": "bust"}])
        assert len(set(ids)) == 3
        assert "1 facts recorded" in recon(it, file, "--venue", "binance", "--apply").err
        node.record([fill("31", "G", side="sell")])
    (row,) = recon(it, file, "--venue", "binance").json()
    assert (row["difference"], row["facts"]) == ("-1.00000000", [])
    assert "nothing to record: recon-" in row["action"]
    assert "0 breaks corrected" in recon(it, file, "--venue", "binance", "--apply").err


def test_under_a_window_an_old_trade_is_unknown_and_a_position_can_still_be_corrected(tmp_path: Path) -> None:
    settling: dict[str, Any] = {"agreement": "tendermint", "checkpoint_interval_ms": 50, "id_window_ms": 3_600_000}
    silent = Authority("node-2", ())  # for whom the floor does not wait
    with cluster(tmp_path, nodes=2, policies=Policies(authorities=(silent,), **settling)) as it:
        assert run("define", it.node(1), "--preset", "binance-spot").code == 0
        with it.client(1) as node:
            node.record([{"kind": "account", "name": "A"}])
            node.record([{"kind": "mark", "instrument": "BTCUSDT", "source": "venue", "price": "110", "ts_us": 1}])
            node.record([fill("30", "A") | {"ts_us": time.time_ns() // 1_000}])  # so the floor is an hour ago
        it.wait(settled=True)
        (row,) = logged(it, tmp_path / "s.fix", Line("3", "0.5")).json()
        assert (row["status"], row["cause"], row["facts"]) == ("unknown", "EXTERNAL", [])
        file = tmp_path / "p.csv"
        file.write_text("account,instrument,qty\nA,BTCUSDT,3\n")
        applied = recon(it, file, "--venue", "binance", "--apply")
        assert "1 facts recorded" in applied.err
        it.wait(settled=True)
        assert recon(it, file, "--venue", "binance").code == 0


def test_ledger_venue_and_custodian_are_compared_with_each_other(it: Cluster, tmp_path: Path) -> None:
    venue, custodian = tmp_path / "v.csv", tmp_path / "c.csv"
    venue.write_text("account,instrument,qty\nC,USDT,500\n")
    custodian.write_text("acct,coin,total\nC,USDT,499.5\n")
    mapping = "account=acct,instrument=coin,qty=total"
    arguments = ("--custodian", custodian, "--custodian-mapping", mapping)
    ran = recon(it, venue, *arguments)
    (row,) = ran.json()
    assert (row["a"], row["b"], row["c"]) == ("500.00000000", "500.00000000", "499.50000000")
    assert (row["difference"], row["at_risk"], ran.code) == ("0.50000000", "0.50000000 USDT", 1)
    assert recon(it, venue, *arguments, "--tolerance", "qty=0.5").code == 0


def test_a_symbol_that_the_ledger_does_not_have_is_reference_data(it: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("account,instrument,qty\nA,XBTUSDT,-2\n")
    (row,) = recon(it, file).json()
    assert (row["cause"], row["facts"]) == ("REFERENCE_DATA", [])
    assert recon(it, file, "--symbol", "XBTUSDT=BTCUSDT").code == 0


def test_only_breaks_that_are_there_can_be_corrected(it: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("account,instrument,qty\nA,BTCUSDT,-1.5\n")
    ran = run("recon", it.node(1), file, "--apply", "--only", "0123456789abcdef")
    assert (ran.code, "no such break now" in ran.err) == (2, True)
