"""The board on real nodes: noted on both sides of a cut, the same everywhere afterwards, and beside the break in the report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pycrdt import Array, Doc

from crdtledger.ledger.genesis import Policies
from tests.edge.processes import Cluster, cluster, run

pytestmark = pytest.mark.processes

AGREES = Policies(agreement="tendermint", checkpoint_interval_ms=100)
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to" / "on-duty.md"
IN_THE_TEXT = "5f0c9d1e2a3b4c6d"
BREAK = "0123456789abcdef"


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("board"), nodes=4, policies=AGREES) as running:
        yield running


def board(it: Cluster, number: int, *arguments: object) -> list[dict[str, Any]]:
    ran = run("board", it.node(number), *arguments, "--format", "json")
    assert ran.code == 0, ran.err
    rows: list[dict[str, Any]] = ran.json()
    return rows


def said(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what moves as checkpoints come."""
    return [{key: value for key, value in row.items() if key != "state"} for row in rows]


def test_two_sides_of_a_cut_note_about_one_break_and_everybody_has_both(it: Cluster, tmp_path: Path) -> None:
    it.partition("node-1,node-2,node-3", "node-4")
    board(it, 1, BREAK, "--owner", "kim", "--status", "acknowledged", "--comment", "the cable?")
    (here,) = board(it, 4, BREAK, "--owner", "lee", "--status", "acknowledged", "--comment", "no, the venue")
    assert (here["owner"], here["comments"], here["state"]) == ("lee", 1, "provisional")
    it.heal()
    it.wait(settled=True)
    boards = [board(it, number) for number in (1, 2, 3, 4)]
    histories = [board(it, number, BREAK) for number in (1, 2, 3, 4)]
    assert all(said(rows) == said(boards[0]) for rows in boards)
    assert all(said(rows) == said(histories[0]) for rows in histories)
    (row,) = [row for row in boards[0] if row["break"] == BREAK]
    with it.client(1) as node:
        assert abs(node.query("heard")["now_us"] - row["noted_us"]) < 600_000_000
    assert (set(row["owner"].split(" | ")), row["contested"], row["status"]) == (
        {"kim", "lee"},
        ["owner"],
        "acknowledged",
    )
    assert row["state"].startswith("settled(")
    assert sorted(one["text"] for one in histories[3] if one["field"] == "comment") == ["no, the venue", "the cable?"]

    (decided,) = board(
        it, 2, BREAK, "--owner", "lee", "--status", "resolved", "--resolution", "booked", "--yjs", tmp_path / "y"
    )
    assert (decided["owner"], decided["contested"], decided["resolution"]) == ("lee", [], "booked")
    stock: Doc[Any] = Doc()
    stock.apply_update((tmp_path / "y").read_bytes())
    entries = [bytes(entry) for entry in stock.get("board", type=Array)]
    assert len([entry for entry in entries if BREAK.encode() in entry]) == 9
    assert len(board(it, 2, BREAK)) == 9
    it.kill(2)
    it.start(2)
    it.wait(settled=True)
    assert [row for row in said(board(it, 2)) if row["break"] == BREAK] == said([decided])
    assert {one["text"] for one in board(it, 2, BREAK) if not one["stands"]} == {"kim", "lee", "acknowledged"}


def test_noting_it_again_changes_nothing_and_a_bad_id_is_refused(it: Cluster) -> None:
    before = board(it, 3, "f" * 16, "--comment", "twice")
    assert said(board(it, 3, "f" * 16, "--comment", "twice")) == said(before)
    ran = run("board", it.node(3), "F00", "--owner", "kim")
    assert (ran.code, ran.out) == (2, "")
    assert "16 hex digits" in ran.err


def test_the_report_shows_what_was_noted_by_the_commands_of_the_how_to(it: Cluster, monkeypatch: Any) -> None:
    fill = {
        "kind": "fill",
        "venue": "v",
        "instrument": "BTCUSDT",
        "account": "A",
        "trade_id": 1,
        "side": "buy",
        "price": "9",
    }
    assert run("define", it.node(1), "--preset", "binance-spot").code == 0
    with it.client(1) as node:
        node.record([{"kind": "account", "name": "A"}, {**fill, "qty": "1"}, {**fill, "qty": "2"}])
    broken = report(it)
    (row,) = [row for row in broken["breaks"] if row["cause"] == "DUPLICATE_ID_CONFLICT"]
    monkeypatch.chdir(it.directory.parent)
    text = HOW_TO.read_text().partition("## The board")[2].partition("\n## ")[0]
    commands = [line.strip() for line in text.splitlines() if line.startswith("    crdtledger ")]
    printed = [run(*shlex.split(line.replace(IN_THE_TEXT, row["id"]))[1:]) for line in commands]
    assert [ran.code for ran in printed] == [0, 0, 0, 0]
    assert all(word in printed[2].out for word in ("acknowledged", "resolved", "the venue is asked"))
    assert row["id"] in printed[3].out
    (noted,) = [one for one in report(it)["breaks"] if one["id"] == row["id"]]
    assert (noted["owner"], noted["progress"], noted["comment"]) == ("kim", "resolved", "the venue is asked (node-1)")
    page = run("report", it.node(1)).out
    assert "kim, resolved: theirs was wrong; nothing to record" in page


def report(it: Cluster) -> dict[str, Any]:
    ran = run("report", it.node(1), "--format", "json")
    assert ran.code == 1, ran.err
    told: dict[str, Any] = ran.json()
    return told
