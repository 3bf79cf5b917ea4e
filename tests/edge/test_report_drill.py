"""The drill: six things go wrong at once on four real nodes, and the report names all six, with cause and correction, and no seventh."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crdtledger.ledger.genesis import Policies
from tests.edge.processes import Cluster, cluster, run
from tests.edge.statement_files import CSV_MAPPING, FIRST_MS, Line, csv_trades

pytestmark = pytest.mark.processes

AGREES = Policies(agreement="tendermint", checkpoint_interval_ms=100)
SILENT_S = 2.5
LOOKS = 40
TRADES = tuple(Line(str(number)) for number in range(1, 7))


class Drill(NamedTuple):
    """The broken cluster, the statement, and the report on node-1 as JSON. ``arguments`` name the statement."""

    it: Cluster
    statement: Path
    arguments: tuple[object, ...]
    told: dict[str, Any]


def fill(line: Line, account: str) -> dict[str, Any]:
    told = {"kind": "fill", "venue": "binance", "instrument": "BTCUSDT", "account": account, "trade_id": line.id}
    terms = {"side": line.side, "qty": line.qty, "price": line.price, "fee": line.fee, "fee_asset": "USDT"}
    return told | terms | {"ts_us": FIRST_MS * 1000 + int(line.id)}


def record(it: Cluster, number: int, *facts: dict[str, Any]) -> None:
    with it.client(number) as node:
        node.record(list(facts))


def report(it: Cluster, *arguments: object) -> dict[str, Any]:
    ran = run("report", it.node(1), "--format", "json", "--silent", SILENT_S, *arguments)
    assert ran.code in (0, 1), ran.err
    told: dict[str, Any] = ran.json()
    return told


def plant(it: Cluster) -> None:
    """Everything but the statement's two."""
    assert run("define", it.node(1), "--preset", "binance-spot").code == 0
    with it.client(1) as node:
        now_us = node.query("heard")["now_us"]
    marks = (("desk", "90", now_us - 3_600_000_000), ("venue", "101", now_us))
    record(it, 1, *({"kind": "account", "name": name} for name in "ACD"), *(fill(line, "A") for line in TRADES))
    record(
        it,
        1,
        *(
            {"kind": "mark", "instrument": "BTCUSDT", "source": source, "price": price, "ts_us": at}
            for source, price, at in marks
        ),
        fill(Line("900"), "C"),
    )
    it.wait()
    record(it, 3, fill(Line("900", qty="2"), "C"))
    assert run("drill", "fork", it.node(2)).code == 0
    it.wait(settled=True)
    it.partition("node-1,node-2,node-3", "node-4")
    record(it, 4, fill(Line("700"), "D"))


@contextlib.contextmanager
def drilled(directory: Path) -> Iterator[Drill]:
    """A cluster with all six, and what its report says."""
    listed = [line._replace(fee="0.25") if line.id == "2" else line for line in TRADES if line.id != "4"]
    statement = csv_trades(directory / "venue statement.csv", listed)
    named = ("--statement-format", "csv-trades", "--account", "A", "--instrument", "BTCUSDT", "--mapping", CSV_MAPPING)
    with cluster(directory, nodes=4, policies=AGREES) as it:
        plant(it)
        told: dict[str, Any] = {}
        for _ in range(
            LOOKS
        ):  # until node-4 has been silent for long enough; a watch ends with news, or after half a second
            told = report(it, "--statement", statement, *named)
            if any(problem["cause"] == "PARTITIONED" for problem in told["problems"]):
                break
            with it.client(1) as node:
                node.watch(node.watch(b"", 0), 0.5)
        yield Drill(it, statement, named, told)


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    """To be looked at: whoever mends something has a drill of its own, for nobody says which test comes first."""
    with drilled(tmp_path_factory.mktemp("drill")) as made:
        yield made


def row_of(drill: Drill, cause: str) -> dict[str, Any]:
    (problem,) = [problem for problem in drill.told["problems"] if problem["cause"] == cause]
    row: dict[str, Any] = next(row for row in drill.told["breaks"] if row["id"] == problem["breaks"][0])
    return row


def test_the_report_names_all_six_and_no_seventh(drill: Drill) -> None:
    assert sorted(problem["cause"] for problem in drill.told["problems"]) == sorted(
        ("PARTITIONED", "FORK", "DUPLICATE_ID_CONFLICT", "STALE_MARK", "FEE", "EXTERNAL")
    )


def test_each_problem_comes_with_what_would_close_it(drill: Drill) -> None:
    facts = {cause: row_of(drill, cause)["correction"]["facts"] for cause in ("PARTITIONED", "FORK")}
    assert facts == {"PARTITIONED": [], "FORK": []}
    assert row_of(drill, "PARTITIONED")["correction"]["action"].startswith("restore the link")
    assert row_of(drill, "FORK")["field"].startswith("fork node-2/1.")
    bust, again = row_of(drill, "DUPLICATE_ID_CONFLICT")["correction"]["facts"]
    assert (bust["kind"], again["kind"], {bust["trade_id"], again["trade_id"]}) == ("bust", "fill", {"900"})
    assert {bust["qty"], again["qty"]} == {"1.00000000", "2.00000000"}
    (mark,) = row_of(drill, "STALE_MARK")["correction"]["facts"]
    assert (mark["kind"], mark["source"], mark["price"]) == ("mark", "desk", "101.00")
    bust, again = row_of(drill, "FEE")["correction"]["facts"]
    assert [(fact["trade_id"], fact["fee"]) for fact in (bust, again)] == [("2", "0.10000000"), ("2", "0.25000000")]
    (bust,) = row_of(drill, "EXTERNAL")["correction"]["facts"]
    assert (bust["kind"], bust["trade_id"], bust["account"]) == ("bust", "4", "A")


def test_what_the_other_side_holds_is_told_with_the_batch_that_is_missing_here(drill: Drill) -> None:
    (row,) = [row for row in drill.told["breaks"] if row["account"] == "D"]
    assert (row["cause"], row["a"], row["b"]) == ("PARTITIONED", None, "1.00000000")
    assert [name.partition("/")[0] for name in row["missing"]] == ["node-4"]
    assert row["missing"][0].endswith(" at node-1")


REACHED = {
    "PARTITIONED": "PARTITIONED",
    "FORK": "forked node-2/1.",
    "DUPLICATE_ID_CONFLICT": "DUPLICATE_ID_CONFLICT",
    "STALE_MARK": "STALE_MARK",
    "FEE": "FEE",
    "EXTERNAL": "EXTERNAL",
}


@pytest.mark.parametrize("cause", REACHED)
def test_the_commands_that_are_printed_reach_the_cause_within_two(drill: Drill, cause: str) -> None:
    (problem,) = [problem for problem in drill.told["problems"] if problem["cause"] == cause]
    assert 1 <= len(problem["commands"]) <= 2
    printed = []
    for command in problem["commands"]:
        program, *arguments = shlex.split(command)
        assert program == "crdtledger"
        ran = run(*arguments)
        assert ran.code in (0, 1), ran.err
        printed.append(ran.out)
    assert any(REACHED[cause] in out for out in printed)


def test_the_same_breaks_have_the_same_ids_and_corrections_when_looked_at_again(drill: Drill) -> None:
    again = report(drill.it, "--statement", drill.statement, *drill.arguments)
    kept = ("id", "cause", "correction", "a", "b", "first_seen_us", "first_height")

    def lasting(told: dict[str, Any]) -> list[dict[str, Any]]:
        return [{key: row[key] for key in kept} for row in told["breaks"] if row["cause"] != "PARTITIONED"]

    assert lasting(again) == lasting(drill.told)


def test_explain_goes_from_the_figure_to_facts_batches_nodes_and_who_lacks_them(drill: Drill) -> None:
    drill.it.wait(1, 2, 3)  # nothing is on its way between those that reach each other
    ran = run("explain", drill.it.node(1), "A", "BTCUSDT", "--silent", SILENT_S, "--format", "json")
    told = ran.json()
    assert [fact["id"] for fact in told["facts"]] == [line.id for line in TRADES]
    assert {fact["node"] for fact in told["facts"]} == {"node-1"}
    assert all(fact["state"].startswith("settled") for fact in told["facts"])
    assert [(row["node"], row["cause"]) for row in told["unseen"]] == [("node-4", "PARTITIONED")]
    assert ran.code == 1


def test_a_bad_line_stops_everything_and_nothing_is_applied(drill: Drill, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(drill.statement.read_text() + "77,yesterday,100,1,buy,0,USDT\n")
    before = run("positions", drill.it.node(1), "--format", "json").out
    ran = run("recon", drill.it.node(1), bad, *drill.arguments, "--apply")
    assert (ran.code, ran.out) == (2, "")
    assert f"{bad}:7: time: 'yesterday'" in ran.err
    assert "nothing recorded" in ran.err
    assert run("positions", drill.it.node(1), "--format", "json").out == before


def test_a_statements_breaks_are_mended_once_and_what_was_in_flight_closes_by_itself(tmp_path: Path) -> None:
    with drilled(tmp_path) as drill:
        mend(drill)
        drill.it.heal()
        drill.it.wait()
        told = report(drill.it)
        assert "PARTITIONED" not in {problem["cause"] for problem in told["problems"]}
        assert not [row for row in told["breaks"] if row["account"] == "D" and row["status"] == "break"]


def mend(drill: Drill) -> None:
    """What the statement shows: a dry run records nothing, and applying twice changes nothing."""
    it = drill.it
    before = run("positions", it.node(1), "--format", "json").out
    dry = run("recon", it.node(1), drill.statement, *drill.arguments, "--format", "json")
    assert (dry.code, len(dry.json())) == (1, 2)
    assert run("positions", it.node(1), "--format", "json").out == before
    fee = next(row["id"] for row in dry.json() if row["cause"] == "FEE")
    some = run("recon", it.node(1), drill.statement, *drill.arguments, "--apply", "--only", fee)
    assert "1 breaks corrected: 2 facts recorded" in some.err
    rest = run("recon", it.node(1), drill.statement, *drill.arguments, "--apply")
    assert "1 breaks corrected: 1 facts recorded" in rest.err
    after = json.loads(run("positions", it.node(1), "--account", "A", "--format", "json").out)
    assert [(row["qty"], row["fees"], row["fills"]) for row in after] == [("5.00000000", "0.65000000", 5)]
    twice = run("recon", it.node(1), drill.statement, *drill.arguments, "--apply")
    assert (twice.code, "0 facts recorded" in twice.err) == (0, True)
    assert json.loads(run("positions", it.node(1), "--account", "A", "--format", "json").out)[0]["fills"] == 5
