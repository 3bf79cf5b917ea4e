"""The examples run as they stand, each in a process of its own, and say what they promise."""

from __future__ import annotations

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
    assert {path.name for path in EXAMPLES.glob("*.py")} == {"client.py", "columns.py", "partition.py"}


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
