"""Importing through real nodes: once is enough, twice changes nothing, and whatever is interrupted becomes whole."""

from __future__ import annotations

import gzip
import json
import random
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import importing
from crdtledger.edge.client import Client
from crdtledger.edge.importing import Plan, import_trades
from tests.edge.processes import Cluster, Ran, cluster, run, spawn_cli, start_cli

pytestmark = pytest.mark.processes

PRESETS = ("--preset", "binance-spot", "--preset", "binance-usdm", "--preset", "binance-coinm", "--preset", "okx-swap")
STREAM = ("--format", "binance-stream", "--output", "json")


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("import"), nodes=2) as made:
        assert run("define", made.node(1), *PRESETS).code == 0
        made.wait()
        yield made


def trade(number: int, qty: str = "", price: str = "") -> str:
    draw = random.Random(number)
    qty, price = qty or f"{draw.randint(1, 10**6) / 1000:.3f}", price or f"{draw.randint(10**6, 10**7) / 100:.2f}"
    event = {"e": "trade", "s": "SYM", "t": number, "p": price, "q": qty, "T": 1_723_161_255_000, "m": number % 3 == 0}
    return json.dumps({"stream": "sym@trade", "data": event}) + "\n"


def stream(path: Path, first: int, count: int, **changed: str) -> Path:
    text = "".join(changed.get(f"t{n}", trade(n)) for n in range(first, first + count))
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def fills(it: Cluster, number: int, instrument: str, *, accounts: str = "") -> int:
    """How many fills a node counts of an instrument, in the accounts whose names begin so (there need not be any)."""
    rows = run("positions", it.node(number), "--instrument", instrument, "--format", "json").json()
    return sum(row["fills"] for row in rows if row["account"].startswith(accounts))


def take_in(it: Cluster, number: int, file: Path, instrument: str, *more: object) -> Ran:
    return run("import", it.node(number), file, *STREAM, "--instrument", instrument, *more)


def test_importing_twice_changes_nothing_and_says_so(it: Cluster, tmp_path: Path) -> None:
    file = stream(tmp_path / "s.gz", 1, 300)
    first = take_in(it, 1, file, "BTCUSDT", "--accounts", 7)
    assert first.code == 0
    assert (first.json()["recorded"], first.json()["duplicates"], first.json()["lines"]) == (300, 0, 300)
    accounts = [
        row["account"] for row in run("positions", it.node(1), "--instrument", "BTCUSDT", "--format", "json").json()
    ]
    assert accounts == [f"A{n:03d}" for n in range(7)]
    shown = run("positions", it.node(1), "--format", "json").out
    frontier = run("frontier", it.node(1), "--format", "json").out
    again = take_in(it, 1, file, "BTCUSDT", "--accounts", 7)
    assert (again.code, again.err) == (0, "nothing changed: all 300 trades were recorded before\n")
    assert (again.json()["recorded"], again.json()["duplicates"], again.json()["resumed_at"]) == (0, 300, 300)
    plain = stream(tmp_path / "other name.txt", 1, 300)
    assert take_in(it, 1, plain, "BTCUSDT", "--accounts", 7).json()["resumed_at"] == 300, "a file is its content"
    assert run("frontier", it.node(1), "--format", "json").out == frontier
    assert run("positions", it.node(1), "--format", "json").out == shown


def test_the_same_trades_imported_at_two_nodes_at_once_count_once(tmp_path: Path) -> None:
    file = stream(tmp_path / "s.txt", 1, 3_000)
    what = (file, *STREAM, "--instrument", "BTCUSDT-PERP", "--accounts", 20)
    with cluster(tmp_path, nodes=2) as it:
        assert run("define", it.node(1), "--preset", "binance-usdm").code == 0
        it.wait()
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda n: spawn_cli("import", it.node(n), *what), (1, 2)))
        assert [(ran.code, ran.json()["trades"]) for ran in both] == [(0, 3_000)] * 2
        it.wait()
        assert [fills(it, number, "BTCUSDT-PERP") for number in (1, 2)] == [3_000] * 2
        assert run("diff", it.node(1), it.node(2)).code == 0
        assert run("breaks", it.node(1)).code == 0, "one trade told twice is no break"


def test_a_changed_quantity_under_one_id_is_a_conflict_that_counts_once_and_the_same_everywhere(tmp_path: Path) -> None:
    one = stream(tmp_path / "one.txt", 1, 200)
    other = stream(tmp_path / "other.txt", 1, 200, t77=trade(77, qty="999.001"))
    with cluster(tmp_path, nodes=2) as it:
        assert run("define", it.node(1), "--preset", "binance-spot").code == 0
        it.wait()
        it.partition("node-1", "node-2")
        for number, file in ((1, one), (2, other)):
            assert take_in(it, number, file, "ETHUSDT", "--accounts", 5).code == 0
            assert run("breaks", it.node(number)).code == 0, "cut off, neither can know"
        it.heal()
        it.wait()
        told = [run("breaks", it.node(number), "--format", "json") for number in (1, 2)]
        assert told[0].code == told[1].code == 1
        assert told[0].out == told[1].out
        (conflict,) = told[0].json()
        assert conflict["type"] == "conflict"
        assert conflict["subject"].endswith("/ETHUSDT/77")
        assert "999.001" in conflict["detail"]
        assert fills(it, 1, "ETHUSDT") == 200
        shown = [run("positions", it.node(number), "--format", "json").out for number in (1, 2)]
        assert shown[0] == shown[1]


def test_a_changed_file_is_not_taken_for_one_that_was_imported(it: Cluster, tmp_path: Path) -> None:
    """Not even far behind its beginning, where it has the same length and the same name."""
    file = stream(tmp_path / "s.txt", 50_000, 1_000)
    assert take_in(it, 2, file, "ETHUSDT", "--account", "ONE").code == 0
    stream(file, 50_000, 1_000, t50999=trade(50_999, qty="998.001"))
    again = take_in(it, 2, file, "ETHUSDT", "--account", "ONE").json()
    assert (again["resumed_at"], again["recorded"], again["duplicates"]) == (0, 1, 999)
    assert [row["subject"].rpartition("/")[2] for row in run("breaks", it.node(2), "--format", "json").json()] == [
        "50999"
    ]


def test_an_import_that_is_interrupted_says_how_far_it_came_and_resumes(
    it: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BLOCK_ROWS", 100)
    plan = Plan(
        file=stream(tmp_path / "s.txt", 10**6, 1_000), format="binance-stream", instrument="BTCUSDT-PERP", account="INT"
    )

    def stop_late(done: int, total: int) -> None:
        stop_late.calls += 1  # type: ignore[attr-defined]
        if stop_late.calls == 7:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    stop_late.calls = 0  # type: ignore[attr-defined]
    with Client(it.node(1)) as node:
        stopped = import_trades(node, plan, stop_late)
    assert stopped.interrupted
    assert stopped.acknowledged == 200, "the file was read, six blocks were sent, four of them are still under way"
    with Client(it.node(1)) as node:
        rest = import_trades(node, plan)
    assert not rest.interrupted
    assert stopped.acknowledged <= rest.resumed_at <= 700
    assert rest.recorded == 1_000 - rest.resumed_at
    assert fills(it, 1, "BTCUSDT-PERP", accounts="INT") == 1_000


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_whatever_ends_an_importing_client_the_next_run_makes_it_whole(
    it: Cluster, tmp_path: Path, how: signal.Signals
) -> None:
    instrument = {signal.SIGKILL: "ETHUSDT-PERP", signal.SIGINT: "ETHUSD-PERP"}[how]
    trades = 40_000
    lines = (trade(n, qty=str(n % 50 + 1)) for n in range(trades))
    file = tmp_path / "big.txt"
    file.write_text("".join(lines))
    what = ("--format", "binance-stream", "--instrument", instrument, "--accounts", 50)
    with Client(it.node(1)) as node:
        start = node.query("status")["facts"]
        importing_client = start_cli("import", it.node(1), file, *what)
        seen = b""
        while importing_client.poll() is None and node.query("status")["facts"] < start + 1_000:
            seen = node.watch(seen, 5.0)
        importing_client.send_signal(how)
    _, err = importing_client.communicate(timeout=60)
    assert importing_client.returncode in (-how, 130, 0), err
    assert "Traceback" not in err
    again = run("import", it.node(1), file, *what, "--output", "json")
    assert again.code == 0
    assert again.json()["resumed_at"] in (16_384, 32_768, trades), "whole blocks, and at least the first"
    assert again.json()["recorded"] + again.json()["duplicates"] == trades
    assert fills(it, 1, instrument) == trades


# -- what does not fit --------------------------------------------------------------------------------------


def test_lines_that_do_not_fit_are_refused_with_their_place_and_the_others_imported(
    it: Cluster, tmp_path: Path
) -> None:
    file = tmp_path / "s.txt"
    file.write_text(trade(800_001) + '{"stream":"a@trade","data":{"e":"trade"\n' + trade(800_002, qty="0.123456789"))
    ran = take_in(it, 1, file, "BTCUSDT", "--accounts", 7)
    assert ran.code == 1
    assert (ran.json()["recorded"], ran.json()["refused"], len(ran.json()["refusals"])) == (1, 2, 2)
    assert [line.split(": ")[1] for line in ran.err.splitlines()] == [f"{file}:2", f"{file}:3"]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--instrument", "BTCUSTD", "--accounts", 5), "did you mean 'BTCUSDT'?"),
        (("--instrument", "BTCUSTD", "--accounts", 5), "crdtledger define TARGET"),
        (("--instrument", "BTCUSDT"), "--accounts N, --account NAME"),
        (("--instrument", "BTCUSDT", "--accounts", 5, "--account", "X"), "exactly one"),
        (("--instrument", "BTCUSDT", "--accounts", -1), "--accounts"),
    ],
)
def test_a_plan_that_does_not_hold_is_one_line(
    it: Cluster, tmp_path: Path, more: tuple[Any, ...], complaint: str
) -> None:
    ran = run("import", it.node(1), stream(tmp_path / "s", 1, 1), "--format", "binance-stream", *more)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert complaint in ran.err


def test_a_damaged_archive_is_refused_whole(it: Cluster, tmp_path: Path) -> None:
    file = stream(tmp_path / "s.gz", 1, 500)
    frontier = run("frontier", it.node(1), "--format", "json").out
    content = file.read_bytes()
    for damaged in (content[:-30], content[:-8] + b"\0\0\0\0" + content[-4:], b"PK\x03\x04" + content):
        file.write_bytes(damaged)
        ran = take_in(it, 1, file, "ETHUSDT", "--accounts", 5)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
    missing = take_in(it, 1, tmp_path / "nowhere.gz", "ETHUSDT", "--accounts", 5)
    assert (missing.code, missing.err.count("\n")) == (2, 1)
    assert run("frontier", it.node(1), "--format", "json").out == frontier


# -- the other formats --------------------------------------------------------------------------------------


def test_statements_with_accounts_and_fees_keep_both(it: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "fills.csv"
    file.write_text(
        "Id,At,Px,Size,Way,Book,Comm,Ccy\nx1,1700000000,10.5,2,B,DESK,0.01,ETH\nx2,1700000001,11,1,S,DESK2,,\n"
    )
    mapping = "id=Id,time=At,unit=s,price=Px,qty=Size,side=Way,account=Book,fee=Comm,fee_asset=Ccy"
    what = ("import", it.node(1), file, "--format", "csv", "--instrument", "ETHUSDT", "--mapping", mapping)
    ran = run(*what, "--venue", "desk", "--output", "json")
    assert (ran.code, ran.json()["venue"], ran.json()["recorded"]) == (0, "desk", 2)
    (row,) = run("positions", it.node(1), "--account", "DESK", "--format", "json").json()
    assert (row["qty"], row["value_bought"], row["other_fees"]) == (
        "2.00000000",
        "21.0000000000",
        {"ETH": "0.01000000"},
    )
    (row,) = run("positions", it.node(1), "--account", "DESK2", "--format", "json").json()
    assert row["qty"] == "-1.00000000"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "tardis",
            "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nb,S,1700000000000000,1,{id},buy,10.5,2\n",
        ),
        ("binance-aggtrades", "{id},10.5,2,1,1,1700000000000,False,True\n"),
        ("ccxt", '[{{"id":"{id}","timestamp":1700000000000,"symbol":"S","side":"buy","price":10.5,"amount":2}}]'),
    ],
)
def test_every_other_format_arrives(it: Cluster, tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / "f"
    file.write_text(text.format(id=900_000_001))
    account = name.upper()
    ran = run(
        "import", it.node(2), file, "--format", name, "--instrument", "ETHUSDT", "--account", account, "--venue", name
    )
    assert ran.code == 0, ran.err
    (row,) = run("positions", it.node(2), "--account", account, "--format", "json").json()
    assert (row["qty"], row["value_bought"], row["fills"]) == ("2.00000000", "21.0000000000", 1)
