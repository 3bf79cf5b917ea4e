"""Recording and reading through the command line, on real nodes: what is printed, and what errors say."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import folders
from tests.edge.processes import CLI, Cluster, cluster, free_addresses, run, spawn_cli

pytestmark = pytest.mark.processes

INSTRUMENT = """
[[instrument]]
name = "XYZ-PERP"
type = "perp"
base = "XYZ"
quote = "USDT"
settlement = "USDT"
price_decimals = 2
qty_decimals = 3
contract_size = "0.1"
"""


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes with BTCUSDT and the account BASE."""
    with cluster(tmp_path_factory.mktemp("cli"), nodes=2) as made:
        assert run("define", made.node(1), "--preset", "binance-spot").code == 0
        record(made, 1, {"kind": "account", "name": "BASE"})
        made.wait()
        yield made


def record(it: Cluster, number: int, *facts: dict[str, Any]) -> dict[str, int]:
    with it.client(number) as node:
        return node.record(list(facts))


def lines(path: Path, *facts: object) -> Path:
    path.write_text("".join(fact if isinstance(fact, str) else json.dumps(fact) + "\n" for fact in facts))
    return path


def deposit(name: str, account: str = "BASE", amount: Any = "1.5") -> dict[str, Any]:
    return {"kind": "deposit", "id": name, "account": account, "asset": "USDT", "amount": amount}


def fill(trade: int, account: str = "BASE", qty: str = "0.5", price: str = "100.25") -> dict[str, Any]:
    terms = {"instrument": "BTCUSDT", "account": account, "side": "buy", "qty": qty, "price": price, "fee": "0.1"}
    return {"kind": "fill", "venue": "test", "trade_id": trade, **terms}


# -- recording ----------------------------------------------------------------------------------------------


def test_recording_a_file_twice_changes_nothing_and_says_so(it: Cluster, tmp_path: Path) -> None:
    file = lines(tmp_path / "f.jsonl", {"kind": "account", "name": "TWICE"}, "\n", deposit("t1", "TWICE"))
    first, second = (run("record", it.node(1), file, "--format", "json") for _ in range(2))
    assert (first.code, first.json()) == (0, {"facts": 2, "duplicates": 0, "lines": 3})
    assert (second.code, second.json()) == (0, {"facts": 0, "duplicates": 2, "lines": 3})


def test_facts_are_read_from_standard_input_in_blocks(it: Cluster) -> None:
    text = '{"kind":"account","name":"PIPE"}\n' + "".join(json.dumps(fill(n, "PIPE")) + "\n" for n in range(4_500))
    ran = spawn_cli("record", it.node(1), "-", "--format", "json", stdin=text)
    assert (ran.code, ran.err) == (0, "")
    assert ran.json() == {"facts": 4_501, "duplicates": 0, "lines": 4_501}
    (row,) = run("positions", it.node(1), "--account", "PIPE", "--format", "json").json()
    assert (row["qty"], row["fills"], row["value_bought"]) == ("2250.00000000", 4_500, "225562.5000000000")


@pytest.mark.parametrize(
    ("bad", "place", "why"),
    [
        ("{not json\n", ":2", "not JSON"),
        ("[1]\n", ":2", "one JSON object per line"),
        ('{"kind":"account","name":"\\ud800"}\n', ":2", "not JSON"),
        ({"kind": "depoist"}, ":2", "one of accept, account, bust"),
        (deposit("e1", amount=1.5), ":2", "decimal text in quotes"),
        (deposit("e1", amount="1.123456789"), ":2", "deposit.amount"),
        (deposit("e1", amount=10**40), ":2", "deposit.amount"),
        (deposit("e1", amount="0"), ":2", "deposit.amount"),
        (deposit("e1", account="BSAE"), ":2", "unknown account 'BSAE'; did you mean 'BASE'?"),
        ({**deposit("e1"), "asset": "USDTT"}, ":2", "unknown asset 'USDTT'; did you mean 'USDT'?"),
        ({**fill(1), "instrument": "BTCUSD"}, ":2", "unknown instrument 'BTCUSD'; did you mean 'BTCUSDT'?"),
        ({**deposit("e1"), "kind": "withdrawal", "amount": "900"}, ":2", "this node may spend"),
        ({"kind": "void", "id": "v", "reserve": "none"}, ":2", "voids a reserve"),
    ],
)
def test_a_line_that_does_not_fit_is_named_and_nothing_is_recorded(
    it: Cluster, tmp_path: Path, bad: object, place: str, why: str
) -> None:
    file = lines(tmp_path / "bad.jsonl", deposit("kept-out"), bad, deposit("after"))
    before = run("frontier", it.node(1), "--format", "json").out
    ran = run("record", it.node(1), file)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.count("\n") == 1
    assert f"{file}{place}: " in ran.err
    assert why in ran.err
    assert run("frontier", it.node(1), "--format", "json").out == before


def test_what_was_recorded_before_the_bad_line_is_said(it: Cluster, tmp_path: Path) -> None:
    many = [{"kind": "account", "name": "MANY"}, *(fill(n, "MANY") for n in range(10**6, 10**6 + 1_999))]
    ran = run("record", it.node(1), lines(tmp_path / "f", *many, {"kind": "account"}))
    assert ran.code == 2
    assert ":2001: " in ran.err
    assert "lines 1-2000 are recorded, the rest is not: mend it and repeat" in ran.err


def test_only_the_custodian_takes_deposits_and_the_line_says_who_that_is(it: Cluster, tmp_path: Path) -> None:
    ran = run("record", it.node(2), lines(tmp_path / "f", deposit("c1")))
    assert ran.code == 2
    assert f"{tmp_path / 'f'}:1: " in ran.err
    assert "node-1" in ran.err


def test_definitions_come_from_a_file_and_bad_ones_are_placed(it: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text(INSTRUMENT + '\n[[account]]\nname = "TOML"\n')
    assert run("define", it.node(1), file, "--format", "json").json() == {"facts": 2, "duplicates": 0}
    assert run("define", it.node(1), file, "--format", "json").json() == {"facts": 0, "duplicates": 2}
    (row,) = run("instruments", it.node(1), "--instrument", "XYZ-PERP", "--format", "json").json()
    assert (row["contract_size"], row["settlement"], row["inverse"]) == ("0.1", "USDT", False)
    for old, new, why in (
        ('"USDT"\nprice', '"USDX"\nprice', f"{file}:2: instrument"),
        ("= 2", '= "two"', f"{file}:2: instrument"),
        ("contract_size = ", "contract_sizes = ", f"{file}:2: instrument"),
        ("qty_decimals = 3", "qty_decimals = 4", "immutable"),
        ("[[instrument]]", "[instrument]", "[[instrument]]"),
        ("= 2", "= ", "not TOML"),
        ("[[instrument]]", "[[instruments]]", "only [[instrument]]"),
    ):
        file.write_text(INSTRUMENT.replace(old, new))
        ran = run("define", it.node(1), file)
        assert (ran.code, ran.err.count("\n")) == (2, 1), ran
        assert why in ran.err


def test_presets_are_listed_and_an_unknown_one_names_the_nearest(it: Cluster) -> None:
    rows = run("define", it.node(1), "--list-presets", "--format", "json").json()
    assert {"binance-spot", "binance-usdm", "binance-coinm"} <= {row["preset"] for row in rows}
    everything = [word for name in {row["preset"] for row in rows} for word in ("--preset", name)]
    assert run("define", it.node(1), *everything).code == 0, "every preset can be defined, all in one cluster"
    assert len({row["instrument"] for row in rows}) == len(rows)
    ran = run("define", it.node(1), "--preset", "binance-spto")
    assert (ran.code, "did you mean 'binance-spot'?" in ran.err) == (2, True)


# -- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("view", ["positions", "collateral", "instruments", "frontier", "status", "members"])
def test_every_read_has_three_formats_with_the_same_rows(it: Cluster, view: str) -> None:
    record(it, 1, deposit("formats"), fill(424_242))
    as_json, as_csv, as_table = (run(view, it.node(1), "--format", f) for f in ("json", "csv", "table"))
    assert [ran.code for ran in (as_json, as_csv, as_table)] == [0, 0, 0]
    decoded = as_json.json()
    rows = decoded if isinstance(decoded, list) else [decoded]
    table = list(csv.DictReader(io.StringIO(as_csv.out)))
    assert rows
    assert len(rows) == len(table)
    assert next(iter(rows[0])) == next(iter(table[0]))
    for row, cells in zip(rows, table, strict=True):
        assert all(cells[key] == value for key, value in row.items() if isinstance(value, str))
    assert str(next(iter(rows[0].values()))) in as_table.out
    assert "\x1b" not in as_table.out, "no colours where nobody looks"


def test_amounts_are_decimal_strings_and_every_figure_tells_its_state(it: Cluster) -> None:
    record(it, 1, {"kind": "account", "name": "STATE"}, deposit("s1", "STATE"), fill(5_000_099, "STATE"))
    (row,) = run("collateral", it.node(1), "--account", "STATE", "--format", "json").json()
    assert (row["held"], row["rights"], row["state"]) == ("1.50000000", {"node-1": "1.50000000"}, "provisional")
    (row,) = run("positions", it.node(1), "--account", "STATE", "--instrument", "BTCUSDT", "--format", "json").json()
    assert row == {
        "account": "STATE",
        "instrument": "BTCUSDT",
        "qty": "0.50000000",
        "bought": "0.50000000",
        "sold": "0.00000000",
        "value_bought": "50.1250000000",
        "value_sold": "0.0000000000",
        "fees": "0.10000000",
        "fills": 1,
        "settled_qty": "0.00000000",
        "avg_entry": "",
        "realised": "0.0000000000",
        "state": "provisional",
    }


def test_a_filter_that_names_nobody_is_refused_with_the_nearest_name(it: Cluster) -> None:
    ran = run("positions", it.node(1), "--account", "BAES")
    assert (ran.code, ran.err) == (2, "crdtledger: unknown account 'BAES'; did you mean 'BASE'?\n")


def test_an_address_is_a_target_where_the_clusters_keys_are(it: Cluster, tmp_path: Path) -> None:
    address = folders.open_node(it.node(2)).member.address
    it.wait()
    by_folder = run("positions", it.node(2), "--format", "json")
    by_address = run("positions", address, "--cluster", it.directory, "--format", "json")
    assert by_address.out == by_folder.out
    by_variable = spawn_cli("positions", address, "--format", "json", env={"CRDTLEDGER_CLUSTER": str(it.directory)})
    assert by_variable.out == by_folder.out
    elsewhere = run("positions", address, "--cluster", tmp_path)
    assert (elsewhere.code, "--cluster" in elsewhere.err) == (2, True)
    unknown = run("positions", "tcp://127.0.0.1:1", "--cluster", it.directory)
    assert (unknown.code, "unknown address" in unknown.err) == (2, True)


def test_output_that_nobody_reads_any_more_is_no_error(it: Cluster) -> None:
    command = [*CLI, "instruments", str(it.node(1)), "--format", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


# -- who is not there, and who may not ----------------------------------------------------------------------


def test_a_node_that_does_not_run_is_unreachable_at_once(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1, start=False) as stopped:
        ran = run("status", stopped.node(1))
    assert ran.code == 3
    assert ran.err.count("\n") == 1
    assert f"start it with `crdtledger node {stopped.node(1)}`" in ran.err


def test_no_folder_and_no_address_is_unreachable(tmp_path: Path) -> None:
    assert run("status", tmp_path).code == 3


def test_a_strangers_key_is_turned_away(it: Cluster, tmp_path: Path) -> None:
    """The stranger knows the genesis, and so where everybody listens and their public keys; its own key nobody knows."""
    folders.found(tmp_path / "own", free_addresses(1))
    shutil.copy(it.directory / folders.GENESIS, tmp_path / "own" / folders.GENESIS)
    address = folders.open_node(it.node(1)).member.address
    ran = run("positions", address, "--cluster", tmp_path / "own")
    assert (ran.code, ran.out) == (3, "")
    assert "does not let this key in" in ran.err
    assert "link.denied" in (it.node(1) / folders.LOG).read_text()


@pytest.mark.parametrize(
    ("file", "change", "path"),
    [
        ("genesis.json", lambda c: c["nodes"][1].update(address="tcp://nowhere"), "$.nodes[1].address"),
        ("genesis.json", lambda c: c["assets"][0].update(decimals=99), "$.assets[0].decimals"),
        ("genesis.json", lambda c: c.update(colour="red"), "colour"),
        ("node.json", lambda c: c.update(name="node-9"), "$.name"),
        ("secrets.json", lambda c: c.update(seed="00" * 32), "$.seed"),
    ],
)
def test_a_bad_configuration_is_one_line_with_its_path(tmp_path: Path, file: str, change: Any, path: str) -> None:
    with cluster(tmp_path, nodes=2, start=False) as made:
        place = made.node(1) / file
        content = json.loads(place.read_text())
        change(content)
        place.write_text(json.dumps(content))
        for command in (["node"], ["status"], ["doctor"]):
            ran = run(*command, made.node(1))
            assert (ran.code, ran.err.count("\n")) == (2, 1)
            assert f"{place}: " in ran.err
            assert path in ran.err
