"""Three nodes, cut off from one another, each import another venue's stream; healed, they show the same positions to the
last byte, and the right ones: those of a plain Decimal script over the raw files."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from crdtledger.ledger.genesis import Policies
from tests.edge.processes import Cluster, Ran, cluster, run, spawn_cli
from tests.edge.reference_positions import positions

CAPTURES = Path(os.environ.get("CRDTLEDGER_CAPTURES") or Path(__file__).parents[3] / "shared" / "data")
ACCOUNTS = 50
KEYS = ["account", "instrument", "qty", "bought", "sold", "value_bought", "value_sold", "fees", "fills"]
KEYS += ["settled_qty", "avg_entry", "realised", "state"]


class Stream(NamedTuple):
    """A recorded stream and what its instrument is."""

    path: Path
    instrument: str
    kind: str
    contract_size: int
    price_decimals: int
    qty_decimals: int


def streams(folder: Path, spot: str, usdm: str, coinm: str) -> list[Stream]:
    return [
        Stream(folder / spot, "BTCUSDT", "linear", 1, 2, 8),
        Stream(folder / usdm, "BTCUSDT-PERP", "linear", 1, 2, 3),
        Stream(folder / coinm, "BTCUSD-PERP", "inverse", 100, 1, 0),
    ]


@pytest.mark.captures
@pytest.mark.processes
def test_three_nodes_that_import_the_captures_apart_agree_to_the_byte_and_with_plain_decimals(tmp_path: Path) -> None:
    given = streams(
        CAPTURES,
        "binance-spot-btcusdt_20240808.gz",
        "binance-usdm-btcusdt_20240808.gz",
        "binance-cm-btcusd_perp_20240808.gz",
    )
    absent = [str(stream.path) for stream in given if not stream.path.exists()]
    if absent:
        pytest.skip(f"the captures are not here: no {', '.join(absent)} (set CRDTLEDGER_CAPTURES to their folder)")
    rows = import_apart_and_heal(tmp_path, given)
    assert sum(row["fills"] for row in rows) == 9_757 + 21_313 + 2_286


@pytest.mark.processes
def test_three_nodes_that_import_small_streams_apart_agree_to_the_byte_and_with_plain_decimals(tmp_path: Path) -> None:
    given = streams(tmp_path, "spot.gz", "usdm.txt", "coinm.txt")
    for seed, stream in enumerate(given):
        write_stream(stream, trades=400, seed=seed)
    rows = import_apart_and_heal(tmp_path, given)
    assert sum(row["fills"] for row in rows) == 3 * 400


def write_stream(stream: Stream, trades: int, seed: int) -> None:
    """A small capture with everything a real one has: other events, markers, both sides, numbers of many lengths."""
    draw = random.Random(seed)
    lines = []
    for number in range(trades):
        clock = 1_723_161_255_000 + number
        price = f"{draw.randint(1, 10**7) / 10:.1f}" if draw.random() < 0.5 else str(draw.randint(1, 70_000))
        qty = str(draw.randint(1, 5_000)) if not stream.qty_decimals else f"{draw.randint(1, 10**6) / 1000:.3f}"
        maker = draw.choice(("true", "false"))
        event = f'"E":{clock},"T":{clock},"s":"SYM","t":{7_000_000 + number},"p":"{price}","q":"{qty}","m":{maker}'
        lines.append(f'{clock}000000 {{"stream":"sym@trade","data":{{"e":"trade",{event}}}}}')
        if draw.random() < 0.3:
            lines.append(f'{clock}000000 {{"stream":"sym@bookTicker","data":{{"e":"bookTicker","u":{number}}}}}')
        if draw.random() < 0.1:
            marker = event.replace(f'"p":"{price}"', '"p":"0"').replace(f'"q":"{qty}"', '"q":"0"')
            lines.append(f'{clock}000000 {{"stream":"sym@trade","data":{{"e":"trade",{marker},"X":"NA"}}}}')
    content = ("\n".join(lines) + "\n").encode()
    stream.path.write_bytes(gzip.compress(content) if stream.path.suffix == ".gz" else content)


def import_apart_and_heal(folder: Path, given: Sequence[Stream]) -> list[dict[str, Any]]:
    """The story; what all three nodes show at its end, compared with the reference row by row."""
    with cluster(folder, nodes=3, policies=Policies(agreement="tendermint")) as it:
        presets = ["--preset", "binance-spot", "--preset", "binance-usdm", "--preset", "binance-coinm"]
        assert run("define", it.node(1), *presets).code == 0
        it.wait()
        it.partition("node-1", "node-2", "node-3")
        with ThreadPoolExecutor(3) as pool:
            imports = list(pool.map(lambda n: import_at(it, n, given[n - 1]), (1, 2, 3)))
        assert [(ran.code, ran.err) for ran in imports] == [(0, "")] * 3
        for number, stream in enumerate(given, 1):
            seen = {row["instrument"] for row in shown(it, number)[1]}
            assert seen == {stream.instrument}, "cut off, a node knows its own flow only"
        it.heal()
        it.wait()
        texts, rows = zip(*(shown(it, number) for number in (1, 2, 3)), strict=True)
        assert texts[0] == texts[1] == texts[2], "equal frontiers show equal bytes"
        check(rows[0], given)
        assert run("diff", it.node(1), it.node(3)).code == 0
        return list(rows[0])


def import_at(it: Cluster, number: int, stream: Stream) -> Ran:
    what = ["--format", "binance-stream", "--instrument", stream.instrument, "--accounts", ACCOUNTS]
    return spawn_cli("import", it.node(number), stream.path, *what)


def shown(it: Cluster, number: int) -> tuple[str, list[dict[str, Any]]]:
    ran = run("positions", it.node(number), "--format", "json")
    assert (ran.code, ran.err) == (0, "")
    return ran.out, ran.json()


def check(rows: Sequence[dict[str, Any]], given: Sequence[Stream]) -> None:
    assert [(row["account"], row["instrument"]) for row in rows] == sorted(
        (row["account"], row["instrument"]) for row in rows
    )
    found = {(row["account"], row["instrument"]): row for row in rows}
    expected = 0
    for stream in given:
        reference = positions(
            stream.path,
            kind=stream.kind,
            accounts=ACCOUNTS,
            price_decimals=stream.price_decimals,
            qty_decimals=stream.qty_decimals,
            contract_size=Decimal(stream.contract_size),
        )
        expected += len(reference)
        for account, want in reference.items():
            row = found[account, stream.instrument]
            assert list(row) == KEYS
            for key in ("bought", "sold", "value_bought", "value_sold"):
                assert Decimal(row[key]) == getattr(want, key), (account, stream.instrument, key)
            assert Decimal(row["qty"]) == want.bought - want.sold
            assert (row["fees"], row["fills"]) == ("0.00000000", want.fills)
            assert row["state"].startswith("settled(")
            assert row["settled_qty"] == row["qty"]
    assert len(rows) == expected, "and nothing beside"
