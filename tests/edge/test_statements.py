"""Statements as venues and custodians write them: what is read, and what becomes of a line that does not fit."""

from __future__ import annotations

import contextlib
import json
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.importers.trades import UnfitError
from crdtledger.edge.statements.fix import SOH, FixReports
from crdtledger.edge.statements.reading import Reference, StatementPlan, read_statement
from crdtledger.errors import BadInput, BadStatement, LedgerError
from reconcile.divergence.corrections import Units
from reconcile.divergence.figures import Figures
from tests.edge.statement_files import CSV_MAPPING, FIRST_MS, Line, csv_trades, fix, fix_message

UNITS = {"BTCUSDT": Units(2, 8, {"USDT": 8})}
DECIMALS = {"qty": 8, "fees": 8, "mark": 2, "bought": 8, "sold": 8}
KNOWN = Reference(UNITS, lambda subject, field: DECIMALS[field] if subject in (*UNITS, "USDT") else None)
TRADES = (Line("1"), Line("2", "0.5", "101.5", "-0.25"), Line("3", side="sell"))


def plan(file: Path, format_: Any, **more: Any) -> StatementPlan:
    return StatementPlan(file=file, format=format_, venue="binance", account="A", instrument="BTCUSDT", **more)


def table(read: Figures) -> dict[tuple[str, str], dict[str, Any]]:
    out = {}
    for row in range(len(read)):
        key = read.accounts[read.account[row]], read.subjects[read.subject[row]]
        told = {f: (int(c.values[row]), int(c.decimals[row])) for f, c in read.columns.items() if c.known[row]}
        out[key] = told
    return out


def test_every_format_of_trades_says_the_same(tmp_path: Path) -> None:
    csv = read_statement(plan(csv_trades(tmp_path / "t.csv", TRADES), "csv-trades", mapping=CSV_MAPPING), KNOWN)
    log = fix(tmp_path / "t.fix", [fix_message(line, n) for n, line in enumerate(TRADES)])
    soh = tmp_path / "soh.fix"
    soh.write_text(log.read_text().replace("|", SOH))
    ccxt = tmp_path / "t.json"
    rows = [
        {"id": o.id, "timestamp": FIRST_MS + n, "symbol": "BTC/USDT", "side": o.side, "price": float(o.price)}
        | {"amount": float(o.qty), "fee": {"cost": float(o.fee), "currency": "USDT"}}
        for n, o in enumerate(TRADES)
    ]
    ccxt.write_text(json.dumps(rows))
    others = [
        read_statement(plan(log, "fix"), KNOWN),
        read_statement(plan(soh, "fix"), KNOWN),
        read_statement(plan(ccxt, "ccxt-trades", symbols={"BTC/USDT": "BTCUSDT"}), KNOWN),
    ]

    def terms(statement: Any) -> list[tuple[Any, ...]]:
        return [(t.id, t.account, t.side, t.qty, t.price, t.fee, t.fee_asset, t.ts_us) for t in statement.trades]

    assert [terms(other) for other in others] == [terms(csv)] * 3
    assert terms(csv)[1] == ("2", "A", 1, 50_000_000, 10_150, -25_000_000, "USDT", (FIRST_MS + 1) * 1000)


def test_a_bust_and_a_correction_take_the_execution_back_whichever_comes_first(tmp_path: Path) -> None:
    told = [fix_message(line) for line in TRADES]
    bust = fix_message(Line("x"), execution="H", reference="1")
    corrected = fix_message(Line("9", "2"), execution="G", reference="3")
    for order in ([*told, bust, corrected], [bust, *told, corrected]):
        read = read_statement(plan(fix(tmp_path / "b.fix", order), "fix"), KNOWN)
        assert read.trades is not None
        assert [(trade.id, trade.qty) for trade in read.trades] == [("2", 50_000_000), ("9", 200_000_000)]


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (fix_message(Line("1")).replace("32=1", "32=7"), "10: the checksum is"),
        ("8=FIX.4.4|35=8|17=1|150=F|55=BTCUSDT|54=9|32=1|31=1|60=20231114-22:13:20|", "54: side '9'"),
        ("8=FIX.4.4|35=8|17=1|150=F|55=BTCUSDT|54=1|32=1|31=1|60=yesterday|", "60: 'yesterday' is no time"),
        ("8=FIX.4.4|35=8|17=1|150=F|55=ETHUSDT|54=1|32=1|31=1|60=20231114-22:13:20|", "55: no instrument 'ETHUSDT'"),
        ("8=FIX.4.4|35=8|17=1|150=F|55=BTCUSDT|54=1|31=1|60=20231114-22:13:20|", "32: missing"),
        ("8=FIX.4.4|35=8|oops|", "'oops' is no tag=value"),
        ("hello", "8: no FIX message"),
    ],
)
def test_a_bad_report_is_named_with_file_line_and_reason(tmp_path: Path, message: str, complaint: str) -> None:
    symbolic = StatementPlan(file=fix(tmp_path / "t.fix", []), format="fix", venue="v", account="A")
    symbolic.file.write_text(fix_message(TRADES[0]) + "\n" + message + "\n")
    with pytest.raises(BadStatement) as caught:
        read_statement(symbolic, KNOWN)
    assert str(caught.value).startswith(f"{symbolic.file}:2: ")
    assert complaint in str(caught.value)
    assert "nothing was compared" in str(caught.value)


def test_one_execution_told_in_two_ways_is_no_statement(tmp_path: Path) -> None:
    log = fix(tmp_path / "t.fix", [fix_message(Line("1")), fix_message(Line("1")), fix_message(Line("1", "2"))])
    with pytest.raises(BadStatement, match=r"reported otherwise at t\.fix:1"):
        read_statement(plan(log, "fix"), KNOWN)


@given(
    st.lists(
        st.sampled_from(("8=FIX", "35=8", "|", "=", SOH, "17=1", "150=F", "32=1e9", "10=000", "20=1", "é")), max_size=30
    )
)
def test_whatever_a_line_holds_it_is_a_trade_or_a_reason(parts: list[str]) -> None:
    reports = FixReports(lambda symbol: symbol, UNITS.get, "A", "v")
    with contextlib.suppress(UnfitError):
        reports.take("".join(parts), "f:1")


def test_positions_keep_digits_beyond_the_ledgers_and_leave_out_what_is_not_told(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("Acct,Sym,Side,Pos,Fee\nA,BTCUSDT,LONG,1.5,0.123456789\nB,BTCUSDT,short,2,\n")
    mapping = "account=Acct,instrument=Sym,side=Side,qty=Pos,fees=Fee"
    read = read_statement(StatementPlan(file=file, format="csv-positions", mapping=mapping), KNOWN)
    assert read.figures is not None
    assert table(read.figures) == {
        ("A", "BTCUSDT"): {"qty": (150_000_000, 8), "fees": (123_456_789, 9)},
        ("B", "BTCUSDT"): {"qty": (-200_000_000, 8)},
    }


def test_ccxt_positions_are_read_from_their_text(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('[{"symbol": "BTC/USDT:USDT", "contracts": 1e-7, "side": "short", "markPrice": 61800.30}]')
    read = read_statement(plan(file, "ccxt-positions", symbols={"BTC/USDT:USDT": "BTCUSDT"}), KNOWN)
    assert read.figures is not None
    assert table(read.figures) == {("A", "BTCUSDT"): {"qty": (-10, 8), "mark": (6_180_030, 2)}}


@pytest.mark.parametrize("lines", [True, False])
def test_a_bad_ccxt_position_is_named_by_its_line(tmp_path: Path, lines: bool) -> None:
    file = tmp_path / "p.json"
    items = ('{"symbol": "X", "contracts": 1}', '{"symbol": "Y", "side": "up"}')
    file.write_text("\n\n".join(items) if lines else "[\n" + ",\n".join(items) + "\n]")
    with pytest.raises(BadStatement, match=r"p\.json:3: side: 'up' is neither"):
        read_statement(StatementPlan(file=file, format="ccxt-positions", account="A"), KNOWN)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("A,BTCUSDT,1\nA,BTCUSDT,1\n", ":3: instrument: A BTCUSDT stands on line 2 too"),
        ("A,BTCUSDT,many\n", ":2: qty: 'many'"),
        ("A,BTCUSDT\n", ":2: 2 fields where the header has 3"),
        (",BTCUSDT,1\n", ":2: account: not told"),
    ],
)
def test_a_bad_row_of_positions_is_named(tmp_path: Path, rows: str, complaint: str) -> None:
    file = tmp_path / "p.csv"
    file.write_text("account,instrument,qty\n" + rows)
    with pytest.raises(BadStatement) as caught:
        read_statement(StatementPlan(file=file, format="csv-positions"), KNOWN)
    assert complaint in str(caught.value)


def test_a_file_of_another_kind_is_one_error(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_text("what is this\n")
    for format_, mapping in (("csv-positions", ""), ("csv-trades", CSV_MAPPING), ("ccxt-positions", "")):
        with pytest.raises(BadInput):
            read_statement(plan(file, format_, mapping=mapping), KNOWN)


@given(
    st.binary(max_size=200), st.sampled_from(("csv-positions", "csv-trades", "ccxt-positions", "ccxt-trades", "fix"))
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, raw: bytes, format_: str) -> None:
    file = tmp_path_factory.getbasetemp() / "any"
    file.write_bytes(raw)
    mapping = CSV_MAPPING if format_ == "csv-trades" else ""
    with contextlib.suppress(LedgerError):
        read_statement(plan(file, format_, mapping=mapping), KNOWN)


def test_the_measurement_finds_what_it_planted(capsys: pytest.CaptureFixture[str]) -> None:
    measure = runpy.run_path(str(Path(__file__).parents[2] / "bench" / "recon.py"))["main"]
    assert measure(3_000) == 9
    assert "{'value': 3, 'missing': 6, 'null': 0}" in capsys.readouterr().out
