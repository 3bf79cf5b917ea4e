"""The demo: its market, its script and its books are exact, its verdict can fail, and the whole of it ends well."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from crdtledger import Ledger
from crdtledger.edge.demo import curtain, run
from crdtledger.edge.demo.books import Books
from crdtledger.edge.demo.feeds import Consignment, Feed, accounts_of, deal, select
from crdtledger.edge.demo.market import generate
from crdtledger.edge.demo.performance import instrument_fact
from crdtledger.edge.demo.picture import Picture
from crdtledger.edge.demo.pit import FAR, NEAR, PIT, SELLER, judge_pit
from crdtledger.edge.demo.record import Record
from crdtledger.edge.demo.replay import detect, read
from crdtledger.edge.demo.scene import Scene
from crdtledger.edge.demo.script import HEIST, VAULT, VAULT_HOLDS, Move, write
from crdtledger.edge.demo.stage import NodeLost, Stage
from crdtledger.edge.demo.verdict import Verdict, judge
from crdtledger.edge.folders import read_run
from crdtledger.errors import BadInput, InsufficientRights
from crdtledger.ledger.outcome import Missing
from crdtledger.ledger.text import break_json, instrument_json
from reconcile.checkpoint import cut_digest, cut_of
from reconcile.heights import NONE
from reconcile.settlement import settle

NODES = ["node-1", "node-2", "node-3", "node-4"]
REQUIRED = (
    *("nodes", "facts", "facts_lost", "overdrafts", "replicas_identical"),
    *("heal_to_agreement_s", "facts_per_s", "seed"),
    *("checkpoint_height", "certified_by", "settled_facts", "adjustments", "seconds_per_checkpoint"),
)


# -- the market, the script, the books ----------------------------------------------------------------------


def _columns(feed: Feed) -> list[bytes]:
    fills = feed.fills
    columns = (fills.trade_id, fills.price, fills.qty, fills.side, fills.account, fills.ts_us, fills.fee)
    return [np.asarray(column).tobytes() for column in columns]


@given(seed=st.integers(0, 2**32), facts=st.integers(1, 400))
def test_the_same_seed_makes_the_same_market_to_the_last_bit(seed: int, facts: int) -> None:
    first, second = generate(seed, facts, 5), generate(seed, facts, 5)
    assert [_columns(feed) for feed in first] == [_columns(feed) for feed in second]
    assert sum(len(feed.fills) for feed in first) == max(facts, 3)


def test_another_seed_makes_another_market() -> None:
    assert [_columns(feed) for feed in generate(1, 50, 5)] != [_columns(feed) for feed in generate(2, 50, 5)]


@given(seed=st.integers(0, 2**32), nodes=st.integers(2, 9))
def test_the_same_seed_writes_the_same_script(seed: int, nodes: int) -> None:
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    script = write(seed, names, names[: (nodes + 1) // 2])
    assert script == write(seed, names, names[: (nodes + 1) // 2])
    ids = [move.id for move in script.opening]
    ids += [move.id for act in script.acts.values() for moves in act.values() for move in moves if move.id != "twice"]
    assert len(ids) == len(set(ids)), "no two moves share an id but the one that is meant to"
    given_away = sum(move.amount for move in script.opening if move.kind == "grant" and move.account == VAULT)
    assert HEIST <= VAULT_HOLDS - given_away < 2 * HEIST, "the vault can be raided once"


@given(sizes=st.lists(st.integers(0, 3_000), min_size=1, max_size=5), nodes=st.integers(2, 7))
def test_every_trade_is_handed_over_once_and_echoes_are_marked(sizes: list[int], nodes: int) -> None:
    names = [f"node-{number}" for number in range(1, nodes + 1)]
    feeds = [_numbered(number, size) for number, size in enumerate(sizes)]
    dealt = deal(feeds, names)
    for number, size in enumerate(sizes):
        mine = [one for one in dealt if one.fills.venue == f"v{number}"]
        ids = [trade for one in mine if not one.echo for trade in one.fills.trade_id.tolist()]
        assert sorted(ids) == list(range(size))
    for echo in (one for one in dealt if one.echo):
        told = [one for one in dealt if not one.echo and one.fills.venue == echo.fills.venue and one.node == echo.node]
        heard = {trade for one in told for trade in one.fills.trade_id.tolist()}
        assert not heard & set(echo.fills.trade_id.tolist()), "an echo comes from another node"


def _numbered(number: int, size: int) -> Feed:
    [feed, *_] = generate(0, 3, 2)
    rows = np.zeros(size, np.int64)
    fills = msgspec.structs.replace(select(feed.fills, slice(0, 1)), venue=f"v{number}")
    repeated = {name: getattr(fills, name)[rows] for name in ("price", "qty", "side", "account", "ts_us", "fee")}
    return Feed(feed.instrument, msgspec.structs.replace(fills, trade_id=np.arange(size, dtype=np.uint64), **repeated))


def test_the_books_add_up_a_generated_market_as_plain_decimals_do() -> None:
    feeds = generate(11, 900, 4)
    books = _books(feeds)
    expected: dict[tuple[str, str], dict[str, Decimal]] = {}
    for feed in feeds:
        terms, fills = feed.instrument, feed.fills
        assert fills.fee is not None
        for row in range(len(fills)):
            price = Decimal(int(fills.price[row])).scaleb(-terms.price_decimals)
            qty = Decimal(int(fills.qty[row])).scaleb(-terms.qty_decimals)
            value = qty * price
            if terms.inverse:
                value = (qty * 100 / price).quantize(Decimal("1e-8"), ROUND_HALF_EVEN)
            side = "bought" if fills.side[row] > 0 else "sold"
            cell = expected.setdefault((fills.accounts[int(fills.account[row])], terms.name), {})
            for name, amount in ((side, qty), (f"value_{side}", value), ("fees", Decimal(int(fills.fee[row])) / 10**8)):
                cell[name] = cell.get(name, Decimal(0)) + amount
    rows = books.positions(*books.trades())
    assert rows.keys() == expected.keys()
    for cell_name, cell in expected.items():
        [position] = rows[cell_name]
        for field, amount in cell.items():
            assert getattr(position, field) == amount, (cell_name, field)


def _books(feeds: list[Feed]) -> Books:
    books = Books()
    books.defined([feed.instrument for feed in feeds], accounts_of(feeds))
    for feed in feeds:
        books.report(Consignment("node-1", "trade", feed.instrument.name, feed.fills))
    return books


# -- replay -------------------------------------------------------------------------------------------------


def _capture(path: Path, symbol: str, price: str, qty: str, **more: object) -> Path:
    """Three trades and something else, as the recorder writes them."""
    lines = [f'1 {{"stream":"{symbol.lower()}@bookTicker","data":{{"u":1,"s":"{symbol}"}}}}']
    for number in range(3):
        trade = {"e": "trade", "s": symbol, "t": 100 + number, "p": price, "q": qty, "T": 1_723_161_255_342, "m": True}
        lines.append(f"{number} " + json.dumps({"stream": f"{symbol.lower()}@trade", "data": {**trade, **more}}))
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_a_capture_says_itself_which_market_it_is(tmp_path: Path) -> None:
    spot = detect(_capture(tmp_path / "a.gz", "BTCUSDT", "61837.63000000", "0.02000000", M=True))
    linear = detect(_capture(tmp_path / "b", "BTCUSDT", "61800.30", "0.006", X="MARKET"))
    inverse = detect(_capture(tmp_path / "c.gz", "BTCUSD_PERP", "61804.8", "4", X="MARKET"))
    assert (spot.name, spot.type, spot.price_decimals, spot.qty_decimals) == ("BTCUSDT", "spot", 2, 2)
    assert (linear.name, linear.type, linear.inverse, linear.price_decimals) == ("BTCUSDT-PERP", "perp", False, 1)
    assert (inverse.name, inverse.inverse, inverse.contract_size, inverse.settlement) == (
        "BTCUSD-PERP",
        True,
        100,
        "BTC",
    )


def test_a_capture_that_does_not_say_is_told_by_its_name(tmp_path: Path) -> None:
    assert detect(_capture(tmp_path / "binance-usdm.txt", "ETHUSDT", "2600.1", "1")).type == "perp"
    assert detect(_capture(tmp_path / "whatever.txt", "ETHUSDT", "2600.1", "1")).type == "spot"


def test_captures_become_feeds_of_every_trade_in_them(tmp_path: Path) -> None:
    paths = [
        _capture(tmp_path / "a", "BTCUSDT", "61837.63", "0.02", M=True),
        _capture(tmp_path / "b", "BTCUSD_PERP", "61804.8", "4", X="MARKET"),
    ]
    spot, inverse = read(paths, 12, None)
    assert (len(spot.fills), spot.fills.price.tolist(), spot.fills.qty.tolist()) == (3, [6_183_763] * 3, [2] * 3)
    assert inverse.fills.trade_id.tolist() == [100, 101, 102]
    assert [len(feed.fills) for feed in read(paths, 12, 2)] == [1, 1]


@pytest.mark.parametrize("content", [b"", b"not a capture\n", b'{"e":"depth"}\n', b"\xff\xfe\n", b'{"e":"trade"}\n'])
def test_a_file_that_is_no_capture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd").write_bytes(content)
    with pytest.raises(BadInput, match="odd"):
        read([tmp_path / "odd"], 12, None)


def test_two_files_may_not_define_one_instrument_in_two_ways(tmp_path: Path) -> None:
    paths = [
        _capture(tmp_path / "a", "BTCUSDT", "1.5", "1", M=True),
        _capture(tmp_path / "b", "BTCUSDT", "1.55", "1", M=True),
    ]
    with pytest.raises(BadInput, match="other decimals"):
        read(paths, 12, None)


# -- the verdict --------------------------------------------------------------------------------------------

Views = dict[str, dict[str, Any]]


def _views(ledger: Ledger) -> dict[str, Any]:
    catalog = ledger.replica.view.catalog
    instruments = [(catalog.definition(name), catalog.standing(name)) for name in catalog.names()]
    return {
        "positions": ledger.positions_json(),
        "collateral": ledger.collateral_json(),
        "breaks": [break_json(item) for item in ledger.replica.breaks()],
        "digest": {"view": ledger.replica.view.digest().hex()},
        "frontier": [],
        "accounts": [{"account": name} for name in catalog.labels],
        "instruments": [
            instrument_json(one, name) for one, name in instruments if one is not None and name is not None
        ],
        "status": _status(ledger),
    }


def _status(ledger: Ledger) -> dict[str, Any]:
    height, digest = ledger.replica.base
    return {
        "base": {"height": height, "digest": digest.hex()},
        "settled_facts": ledger.replica.state.facts,
        "unsettled_batches": ledger.replica.unsettled(),
        "checkpoints": {
            "agreement": "running",
            "certified_height": height,
            "certified_by": NODES[:3],
            "adjusted": {"credit landed": 1},
            "seconds_to_certify": [0.5, 0.25, 1.0],
        },
    }


def _settle(ledgers: Collection[Ledger]) -> None:
    """Everything that these ledgers hold becomes their first checkpoint."""
    for ledger in ledgers:
        replica = ledger.replica
        cut = cut_of({lane: (head.seq, head.hash) for lane, head in replica.frontier().items()})
        batches = replica.collect(cut)
        assert not isinstance(batches, Missing)
        settlement = settle(replica.genesis, replica.state, NONE, cut, batches, (), height=1)
        replica.rebase(1, cut_digest(cut), settlement.state)


@pytest.fixture(scope="module")
def good() -> tuple[Books, Record, Views]:
    """The story in two in-process ledgers: books, record and views that deserve a good verdict."""
    ledgers = dict(
        zip(NODES[:2], Ledger.cluster(*NODES[:2], assets={"USDT": 8, "USD": 8, "BTC": 8, "ETH": 8}), strict=True)
    )
    first, second = ledgers.values()
    feeds = generate(3, 600, 4)
    script = write(3, NODES[:2], NODES[:1])
    books, record = Books(), Record(lanes=("a", "a"), flow_s=1.0, apart=True)
    instruments, accounts = [feed.instrument for feed in feeds], sorted({*accounts_of(feeds), *script.accounts})
    first.record(*map(instrument_fact, instruments), *({"kind": "account", "name": name} for name in accounts))
    books.defined(instruments, accounts)
    first.record(*(move.json() for move in script.opening))
    for move in script.opening:
        books.acknowledge("node-1", move)
    second.join(first)
    for consignment in deal(feeds, NODES[:2]):
        ledgers[consignment.node].record_fills(consignment.fills)
        books.report(consignment)
    for name, ledger in ledgers.items():
        for move in script.acts["cut"][name]:
            if not move.reserve or move.reserve in books.moves:
                _try(ledger, name, move, books, record)
    record.paid, record.traded = {"left": 1, "right": 1}, {"left": 1, "right": 1}
    first.join(second)
    second.join(first)
    _settle(ledgers.values())
    return books, record, {name: _views(ledger) for name, ledger in ledgers.items()}


def _try(ledger: Ledger, name: str, move: Move, books: Books, record: Record) -> None:
    try:
        ledger.record(move.json())
    except InsufficientRights:
        record.refusals += 1
        return
    books.acknowledge(name, move)
    record.heists += move.amount == HEIST
    record.twice += move.id == "twice"


def _judge(books: Books, record: Record, views: Views) -> Verdict:
    return judge(books, record, views, kills=1, seed=3, seconds=1.0)


def test_a_ledger_that_kept_everything_gets_a_good_verdict(good: tuple[Books, Record, Views]) -> None:
    verdict = _judge(*good)
    assert [check.detail for check in verdict.checks if not check.ok] == []
    assert verdict.good
    assert (verdict.facts_lost, verdict.overdrafts, verdict.conflicts) == (0, 0, 1)
    assert (verdict.checkpoint_height, verdict.certified_by) == (1, tuple(NODES[:3]))
    assert verdict.settled_facts >= verdict.facts
    assert (verdict.adjustments, verdict.seconds_per_checkpoint) == ({"credit landed": 1}, 0.5)


def _lose_a_trade(views: Views) -> None:
    views["node-2"]["positions"][0]["fills"] -= 1


def _lose_a_position(views: Views) -> None:
    del views["node-1"]["positions"][-1]


def _shift_a_digit(views: Views) -> None:
    row = views["node-2"]["positions"][1]
    row["value_sold"] = str(Decimal(row["value_sold"]) + Decimal("1e-7"))


def _invent_a_position(views: Views) -> None:
    views["node-1"]["positions"].append({**views["node-1"]["positions"][0], "account": "A999"})


def _lose_a_deposit(views: Views) -> None:
    views["node-1"]["collateral"][0]["deposited"] = "0.00000000"


def _overdraw(views: Views) -> None:
    views["node-2"]["collateral"][0]["rights"]["node-1"] = "-0.00000001"


def _hide_the_conflict(views: Views) -> None:
    for answers in views.values():
        answers["breaks"] = [item for item in answers["breaks"] if item["type"] != "conflict"]


def _void_a_batch(views: Views) -> None:
    for answers in views.values():
        answers["breaks"].append({"type": "void_batch", "subject": "x", "detail": "y"})


def _differ(views: Views) -> None:
    views["node-2"]["digest"]["view"] = "00"


def _lose_an_account(views: Views) -> None:
    views["node-2"]["accounts"].pop()


def _leave_a_batch_unsettled(views: Views) -> None:
    views["node-2"]["status"]["unsettled_batches"] = 1


def _settle_too_little(views: Views) -> None:
    for answers in views.values():
        answers["status"]["settled_facts"] //= 2


def _stand_on_another_root(views: Views) -> None:
    views["node-2"]["status"]["base"]["digest"] = "00"


def _lack_a_certificate(views: Views) -> None:
    views["node-1"]["status"]["checkpoints"]["certified_height"] = 0


def _settle_nothing_at_all(views: Views) -> None:
    for answers in views.values():
        answers["status"]["checkpoints"] = {"agreement": "off"}


SABOTAGE: list[tuple[Callable[[Views], None], str]] = [
    (_lose_a_trade, "no acknowledged fact is lost"),
    (_lose_a_position, "no acknowledged fact is lost"),
    (_lose_a_deposit, "no acknowledged fact is lost"),
    (_lose_an_account, "no acknowledged fact is lost"),
    (_lose_a_trade, "positions are exact"),
    (_shift_a_digit, "positions are exact"),
    (_invent_a_position, "positions are exact"),
    (_lose_a_deposit, "collateral is exact"),
    (_overdraw, "collateral is exact"),
    (_overdraw, "nothing is overdrawn"),
    (_differ, "replicas are identical"),
    (_shift_a_digit, "replicas are identical"),
    (_hide_the_conflict, "a trade counts once"),
    (_void_a_batch, "a trade counts once"),
    (_leave_a_batch_unsettled, "everything is settled under one root"),
    (_settle_too_little, "everything is settled under one root"),
    (_stand_on_another_root, "everything is settled under one root"),
    (_lack_a_certificate, "everything is settled under one root"),
    (_settle_nothing_at_all, "everything is settled under one root"),
]


@pytest.mark.parametrize(("sabotage", "check"), SABOTAGE, ids=[f"{f.__name__}-{name}" for f, name in SABOTAGE])
def test_the_verdict_sees_what_is_wrong_with_a_node(
    good: tuple[Books, Record, Views], sabotage: Callable[[Views], None], check: str
) -> None:
    books, record, views = good
    broken = msgspec.msgpack.decode(msgspec.msgpack.encode(views))
    sabotage(broken)
    verdict = _judge(books, record, broken)
    assert not verdict.good
    assert check in [one.name for one in verdict.checks if not one.ok]
    assert check in curtain.words(verdict)


SPOILED: list[tuple[dict[str, Any], str]] = [
    ({"heists": 2}, "one vault, two raids, one success"),
    ({"heists": 0}, "one vault, two raids, one success"),
    ({"twice": 1}, "one order given to both sides"),
    ({"refusals": 0}, "refused when rights ran out"),
    ({"lanes": ("a", "b")}, "kill -9 loses nothing"),
    ({"apart": False}, "both sides went on"),
    ({"paid": {"left": 3}}, "both sides went on"),
    ({"surprises": ["x"]}, "every other answer was yes"),
]


@pytest.mark.parametrize(("change", "check"), SPOILED)
def test_the_verdict_sees_a_story_that_proved_nothing(
    good: tuple[Books, Record, Views], change: dict[str, Any], check: str
) -> None:
    books, record, views = good
    verdict = _judge(books, msgspec.structs.replace(record, **change), views)
    assert [one.name for one in verdict.checks if not one.ok] == [check]


def test_more_spent_than_ever_came_in_is_an_overdraft() -> None:
    books = Books()
    books.acknowledge("node-1", Move(kind="deposit", id="d", account="A", asset="USDT", amount=5))
    books.acknowledge("node-1", Move(kind="reserve", id="r", account="A", asset="USDT", amount=3))
    books.acknowledge("node-2", Move(kind="withdrawal", id="w", account="A", asset="USDT", amount=2))
    assert books.overdrawn() == []
    books.acknowledge("node-3", Move(kind="withdrawal", id="w", account="A", asset="USDT", amount=2))
    assert books.overdrawn() == [], "a repeated order is given back when it settles"
    books.acknowledge("node-3", Move(kind="withdrawal", id="another", account="A", asset="USDT", amount=1))
    assert books.overdrawn() == [("A", "USDT")]


def test_what_was_in_transit_has_arrived_once_everything_is_settled() -> None:
    books = Books()
    books.acknowledge("node-1", Move(kind="deposit", id="d", account="A", asset="USDT", amount=9))
    books.acknowledge("node-1", Move(kind="reserve", id="r", account="A", asset="USDT", amount=4))
    books.acknowledge("node-1", Move(kind="post", id="p", account="A", asset="USDT", amount=3, other="B", reserve="r"))
    books.acknowledge("node-1", Move(kind="transfer", id="t", account="A", asset="USDT", amount=2, other="B"))
    books.acknowledge("node-2", Move(kind="transfer", id="t", account="A", asset="USDT", amount=2, other="B"))
    settled = books.settled()
    nothing = {"withdrawn": 0, "in_transit": 0, "incoming": 0, "refundable": 0}
    assert settled["A", "USDT"] == {**nothing, "deposited": 9, "reserved": 1, "held": 4, "free": 3}
    assert settled["B", "USDT"] == {**nothing, "deposited": 0, "reserved": 0, "held": 5, "free": 5}


# -- the picture --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_picture_fits_its_terminal(width: int) -> None:
    scene = Scene(NODES, 7)
    scene.watched = [("A000", name) for name in ("BTC-USD-PERP", "BTC-USDT", "BTC-USDT-PERP")]
    for node, state, side in zip(
        scene.nodes.values(), ["up", "up", "up", "killed"], ["left", "left", "right", "right"], strict=True
    ):
        node.state, node.side, node.facts, node.lacks, node.spendable = state, side, 123_456, 45_678, "1,234,567"
        node.height, node.unsettled = 12, 3
    scene.enter("cut")
    console = Console(file=io.StringIO(), width=width, height=24, color_system=None, force_terminal=True)
    console.print(Picture(scene))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    lines = text.rstrip("\n").split("\n")
    assert len(lines) <= 24
    assert max(map(len, lines)) <= min(width, 80)
    assert "Act 3 of 7" in text
    assert "#12" in text or width < 80
    assert "killed" in text


# -- the whole of it ----------------------------------------------------------------------------------------


def _run(capsys: pytest.CaptureFixture[str], **arguments: Any) -> tuple[int, dict[str, Any]]:
    code = run(format="json", **arguments)
    out = capsys.readouterr().out
    assert out.count("\n") == 1, "exactly one object, on one line"
    return code, json.loads(out)


@pytest.mark.processes
def test_the_demo_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, verdict = _run(capsys, facts=4_000, seed=9)
    assert [check for check in verdict["checks"] if not check["ok"]] == []
    assert (code, verdict["verdict"]) == (0, "good")
    assert set(REQUIRED) <= verdict.keys()
    assert (verdict["nodes"], verdict["facts_lost"], verdict["overdrafts"]) == (4, 0, 0)
    assert (verdict["seed"], verdict["replicas_identical"], verdict["kills"]) == (9, True, 1)
    assert verdict["facts"] > 4_000
    assert verdict["settled_facts"] >= verdict["facts"]
    assert verdict["checkpoint_height"] > 0
    assert len(verdict["certified_by"]) >= 3
    assert verdict["adjustments"]["same id, other content"] == 1
    assert 0 < verdict["heal_to_agreement_s"] < 30


@pytest.mark.processes
def test_the_demo_ends_badly_when_a_fact_was_acknowledged_that_no_node_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Books.acknowledge

    def with_a_phantom(self: Books, node: str, move: Move) -> None:
        honest(self, node, move)
        if move.id == "twice":
            honest(self, node, msgspec.structs.replace(move, id="phantom", amount=1))

    monkeypatch.setattr(Books, "acknowledge", with_a_phantom)
    code, verdict = _run(capsys, nodes=2, facts=600, seed=1)
    assert (code, verdict["verdict"]) == (1, "bad")
    assert verdict["facts_lost"] > 0


@pytest.mark.processes
def test_the_demo_ends_badly_when_a_killed_node_comes_back_without_its_journal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Stage.kill

    async def and_lose_the_disk(self: Stage, name: str) -> None:
        await honest(self, name)
        for path in self.seats[name].folder.glob("journal*"):
            path.unlink()

    monkeypatch.setattr(Stage, "kill", and_lose_the_disk)
    code, verdict = _run(capsys, nodes=2, facts=600, seed=1)
    assert (code, verdict["verdict"]) == (1, "bad")
    assert verdict["facts_lost"] > 0
    assert not next(check["ok"] for check in verdict["checks"] if check["name"] == "kill -9 loses nothing")


@pytest.mark.processes
def test_a_killed_node_that_cannot_come_back_ends_the_demo_and_names_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    honest = Stage.start

    async def but_not_twice(self: Stage, names: Collection[str]) -> None:
        if self.kills:
            raise self.seats[next(iter(names))].lost("did not start")
        await honest(self, names)

    monkeypatch.setattr(Stage, "start", but_not_twice)
    with pytest.raises(NodeLost, match=r"node-2: did not start; see .*node-2/node.log"):
        run(nodes=2, facts=600, seed=1, keep=tmp_path / "c", format="json")
    assert [path for path in (tmp_path / "c").glob("node-*") if read_run(path) is not None] == []


@pytest.mark.processes
def test_an_interrupted_demo_leaves_no_process_behind(tmp_path: Path) -> None:
    command = f"import sys; from crdtledger.edge.demo import run; sys.exit(run(seed=1, format='json', keep={str(tmp_path / 'c')!r}))"
    with subprocess.Popen([sys.executable, "-c", command], stderr=subprocess.PIPE, text=True) as demo:
        assert demo.stderr is not None
        for line in demo.stderr:
            if "cut:" in line:
                break
        pids = [json.loads(path.read_text())["pid"] for path in (tmp_path / "c").glob("node-*/run.json")]
        assert len(pids) == 4
        demo.send_signal(signal.SIGINT)
        rest = demo.stderr.read()
        assert demo.wait(60) == 130
    assert "interrupted" in rest
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert left == []


def _alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("wrong", [{"nodes": 1}, {"nodes": 99}, {"facts": 0}, {"format": "xml"}])
def test_wrong_use_is_refused_before_anything_starts(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        run(**wrong)


def test_a_folder_that_holds_something_is_not_kept_in(tmp_path: Path) -> None:
    (tmp_path / "something").write_text("mine")
    with pytest.raises(BadInput, match="empty"):
        run(keep=tmp_path)


# -- the pit --------------------------------------------------------------------------------------------------


def _pit_rows() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Two matches on one quote: the first stands, of the second a quarter; and what a node should show of it."""
    row = {"instrument": PIT.name, "maker": "q", "maker_account": SELLER, "qty": "0.300", "survival": 900_000}
    rows = [
        {**row, "taker": "n", "taker_account": NEAR, "status": "settled", "stands": "0.300"},
        {**row, "taker": "f", "taker_account": FAR, "status": "trimmed", "stands": "0.100"},
    ]
    held = {SELLER: "-0.400", NEAR: "0.300", FAR: "0.100"}
    return rows, {"positions": [{"account": a, "instrument": PIT.name, "qty": qty} for a, qty in held.items()]}


def test_the_pit_is_judged_by_what_became_of_its_matches() -> None:
    rows, answers = _pit_rows()
    calibration, amiss = judge_pit(rows, {"node-1": answers})
    assert amiss == ""
    assert (calibration.tentative, calibration.survived, calibration.trimmed, calibration.voided) == (2, 1, 1, 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stands": "0.200"}, "beyond its quantity"),
        ({"status": "tentative", "stands": "0.000"}, "wait for an answer"),
        ({"stands": "0.000"}, "node-1 shows"),
    ],
)
def test_a_pit_that_does_not_add_up_is_named(change: dict[str, str], why: str) -> None:
    rows, answers = _pit_rows()
    _, amiss = judge_pit([rows[0], {**rows[1], **change}], {"node-1": answers})
    assert why in amiss
