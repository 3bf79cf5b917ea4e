"""The examples run as they stand, each in a process of its own, and say what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def _output(name: str) -> str:
    command = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout


def test_every_example_has_a_test() -> None:
    tested = {"client.py", "columns.py", "market_maker.py", "partition.py", "taker.py"}
    assert {path.name for path in EXAMPLES.glob("*.py")} == tested


def test_two_offices_spend_apart_and_agree_afterwards() -> None:
    out = _output("partition.py")
    assert "tokyo: account FUND needs 600.00 USDT but this node may spend 400.00; london holds 600.00" in out
    assert "fills: 3 net: 0.010 BTC" in out
    assert "deposited: 1000.00 withdrawn: 850.00 rights: {'tokyo': '150.00'}" in out


def test_columns_are_recorded_once() -> None:
    out = _output("columns.py")
    assert "recorded 100,000 fills in" in out
    assert "then 0 of 100,000" in out
    counts = [int(line.rpartition(" ")[2]) for line in out.splitlines()[1:]]
    assert sum(counts) == 100_000


@pytest.mark.processes
def test_a_client_records_at_one_node_and_reads_at_another() -> None:
    out = _output("client.py")
    assert "FUND USDT held 500.00000000 reserved 120.00000000 rights {'node-1': '380.00000000'}" in out
    assert "members: node-1, node-2" in out


def test_a_taker_that_is_cut_off_is_told_how_little_its_matches_are_worth() -> None:
    out = _output("taker.py")
    said = [int(word) for word in out.partition("in ppm: ")[2].splitlines()[0].split()]
    assert len(said) > 3
    assert said == sorted(said, reverse=True), "in a partition survival falls"
    for when in ("before", "after"):
        (line,) = [line for line in out.splitlines() if line.startswith(f"matched {when} the cut")]
        tentative, predicted, survived = (float(word) for word in re.findall(r"[0-9.]+", line))
        assert tentative > 3
        assert abs(predicted - survived) < 1


@pytest.mark.processes
def test_a_market_maker_keeps_within_its_limit_through_a_partition() -> None:
    out = _output("market_maker.py")
    matches, firm = re.findall(r"matches: (\d+) firm: (\d+)", out)[0]
    assert int(matches) > int(firm) > 0
    held = re.findall(r"holds (-?\d+) (-?\d+) of at most 30", out)[0]
    assert all(abs(int(one)) <= 30 for one in held)
