"""Each format by example: what becomes a trade, what is skipped, what is refused and with which words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from crdtledger.edge.importers import (
    Importer,
    ImportSpec,
    Trades,
    account_name,
    assign_accounts,
    concatenate,
    importer,
    parse_mapping,
)
from crdtledger.errors import BadInput

FIXTURES = Path(__file__).parents[1] / "fixtures" / "importers"
MAPPING = (
    "id=Exec ID,time=When,unit=iso,side=Way,buy=BOT,sell=SLD,price=Px,qty=Size,account=Book,fee=Comm,fee_asset=Ccy"
)


def spec(symbol: str | None = None, mapping: Mapping[str, str] | None = None) -> ImportSpec:
    return ImportSpec(
        file="f",
        price_decimals=2,
        qty_decimals=3,
        symbol=symbol,
        asset_decimals={"USDT": 6},
        mapping=mapping or {},
    )


def read(name: str, data: bytes, given: ImportSpec | None = None) -> tuple[Trades, Importer]:
    machine = importer(name, given or spec())
    return concatenate([*machine.feed(data), *machine.finish()]), machine


def read_file(name: str, file: str, given: ImportSpec | None = None) -> tuple[Trades, Importer]:
    return read(name, (FIXTURES / file).read_bytes(), given)


def refusals(machine: Importer) -> list[tuple[int, str, str]]:
    return [(r.line, r.column, r.reason) for r in machine.summary.refusals]


def test_a_stream_gives_its_market_trades_and_accounts_for_every_other_line() -> None:
    trades, machine = read_file("binance-stream", "stream.txt", spec("XYZUSDT"))
    assert trades.trade_id.tolist() == [101, 102, 103]
    assert trades.price.tolist() == [1010, 1020, 1015]
    assert trades.qty.tolist() == [500, 1250, 2000]
    assert trades.side.tolist() == [1, -1, -1], "a buyer who is the maker means that the taker sold"
    assert trades.ts_us.tolist() == [1700000000001000, 1700000000002000, 1700000000003000]
    assert trades.line.tolist() == [2, 3, 4]
    assert machine.summary.skipped == {
        "depthUpdate": 1,
        "trade X=NA": 1,
        "trade X=INSURANCE_FUND": 1,
        "trade of zero": 1,
        "bookTicker": 1,
        "depth snapshot": 1,
        "other symbol": 1,
        "aggTrade": 1,
    }
    assert refusals(machine)[0] == (11, "p", "'10.123': needs 3 decimals, instrument has 2")
    assert refusals(machine)[1][0] == 12
    assert refusals(machine)[1][2].startswith("not JSON")
    summary = machine.summary
    assert summary.lines == 13 == summary.trades + sum(summary.skipped.values()) + summary.refused


def test_a_stream_of_two_symbols_is_not_added_up_unless_one_is_named() -> None:
    trades, machine = read_file("binance-stream", "stream.txt")
    assert trades.trade_id.tolist() == [101, 102, 103]
    assert refusals(machine)[0][:2] == (10, "symbol")
    assert "say which one to import" in machine.summary.refusals[0].reason


@pytest.mark.parametrize(
    ("event", "column"),
    [
        (b'{"e":"trade","s":"X","t":1,"p":1.5,"q":"1","T":1700000000000,"m":true}', "p"),
        (b'{"e":"trade","s":"X","t":1,"p":"1","q":"1","T":1700000000000}', "m"),
        (b'{"e":"trade","s":"X","t":-1,"p":"1","q":"1","T":1700000000000,"m":true}', "id"),
        (b'{"e":"trade","s":"X","t":18446744073709551616,"p":"1","q":"1","T":1700000000000,"m":true}', "id"),
        (b'{"e":"trade","s":"X","t":1,"p":"1","q":"-1","T":1700000000000,"m":true}', "q"),
        (b'{"e":"trade","s":"X","t":1,"p":"1","q":"1","T":1700000000,"m":true}', "T"),
        (b'12:30 {"e":"trade","s":"S","t":1,"p":"1","q":"1","T":1700000000000,"m":true}', "1"),
        (b'{"e":"trade","s":"X","t":1,"p":"1","q":"1","T":1700000000000,"m":true} tail', "1"),
        (b'{"stream":"x@trade","da17 {"stream":"x@bookTicker","data":{"e":"bookTicker"}}', "1"),
    ],
)
def test_a_trade_that_does_not_fit_is_refused_by_field(event: bytes, column: str) -> None:
    trades, machine = read("binance-stream", event + b"\n")
    assert len(trades) == 0
    assert [r[:2] for r in refusals(machine)] == [(1, column)]


def test_what_stands_before_a_trade_is_a_clock_or_nothing() -> None:
    event = b'{"e":"trade","s":"X","t":%d,"p":"1","q":"1","T":1700000000000,"m":true}\n'
    lines = [event % 1, b"17 " + event % 2, b'17 {"s":1}17 ' + event % 3, b"x " + event % 4, b"17" + event % 5]
    trades, machine = read("binance-stream", b"".join(lines))
    assert trades.trade_id.tolist() == [1, 2]
    assert [line for line, _, _ in refusals(machine)] == [3, 4, 5]


def test_a_trade_hidden_behind_json_escapes_is_still_a_trade() -> None:
    event = rb'{"e":"tr\u0061de","s":"X","t":1,"p":"1","q":"1","T":1700000000000,"m":true}'
    assert len(read("binance-stream", event)[0]) == 1


@pytest.mark.parametrize(("file", "time"), [("aggtrades_futures.csv", 17000), ("aggtrades_spot.csv", 17357)])
def test_aggregate_trades_have_ids_of_their_own(file: str, time: int) -> None:
    trades, machine = read_file("binance-aggtrades", file)
    assert machine.id_space == "aggtrade"
    assert trades.trade_id.tolist() == [7001, 7002]
    assert trades.price.tolist() == [1010, 1020]
    assert trades.qty.tolist() == [500, 1250]
    assert trades.side.tolist() == [1, -1]
    assert (trades.ts_us // 10**11).tolist() == [time, time]


def test_aggregate_trades_of_zero_are_skipped_and_unknown_booleans_refused() -> None:
    _, machine = read_file("binance-aggtrades", "aggtrades_futures.csv")
    assert machine.summary.skipped == {"trade of zero": 1}
    assert refusals(machine) == [(5, "is_buyer_maker", "'perhaps' is neither true nor false")]


@pytest.mark.parametrize("file", ["ccxt.json", "ccxt.jsonl", "ccxt.csv"])
def test_ccxt_trades_are_the_same_in_each_shape(file: str) -> None:
    trades, _ = read_file("ccxt", file)
    assert trades.id_texts() == ["a-1", "102"]
    assert trades.trade_id.tolist() == [0, 1]
    assert trades.price.tolist() == [1010, 1020]
    assert trades.qty.tolist() == [500, 1250]
    assert trades.side.tolist() == [1, -1], "the side is the account's own and is kept as given"
    assert trades.ts_us.tolist() == [1700000000001000, 1700000000002000]
    assert trades.fee.tolist() == [5050, -200], "a negative cost is a rebate; two fees in one currency add up"
    assert trades.fee_asset == ["USDT", "USDT"]


def test_a_fee_in_an_unknown_asset_is_refused_with_the_nearest_name() -> None:
    _, machine = read_file("ccxt", "ccxt.json")
    assert refusals(machine) == [
        (7, "fee", "a fee in the unknown asset 'USTD'; did you mean 'USDT'?"),
        (9, "timestamp", "'': not a number of ms since 1970"),
    ]


def test_fees_in_two_assets_are_refused() -> None:
    fill = b'{"id":"1","timestamp":1700000000000,"side":"buy","price":1,"amount":1,"fees":[%s,%s]}'
    given = ImportSpec(file="f", price_decimals=0, qty_decimals=0, asset_decimals={"A": 1, "B": 1})
    _, machine = read("ccxt", fill % (b'{"cost":1,"currency":"A"}', b'{"cost":1,"currency":"B"}'), given)
    assert refusals(machine)[0][1] == "fees"


@pytest.mark.parametrize("identity", [b'"102.0"', b"102.0", b'"1.02e+20"', b"{}", b"-5", b"null", b'""', b'" 1"'])
def test_an_id_that_is_none_or_went_through_a_float_is_refused(identity: bytes) -> None:
    fill = b'{"id":%s,"timestamp":1700000000000,"side":"buy","price":1,"amount":1}' % identity
    trades, machine = read("ccxt", fill)
    assert len(trades) == 0
    assert refusals(machine)[0][1] == "id"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'[{"id":1', "the array does not end"),
        (b"[] []", "something behind the end of the array"),
        (b"[1, 2]", "something other than an object in the array"),
        (b"", "the array does not end"),
    ],
)
def test_a_broken_array_is_one_refusal(text: bytes, reason: str) -> None:
    trades, machine = read("ccxt", text)
    assert len(trades) == 0
    assert [r[2] for r in refusals(machine)] == ([reason] if text else [])


def test_a_price_or_quantity_of_zero_is_no_trade() -> None:
    fill = b'{"id":"1","timestamp":1700000000000,"side":"buy","price":%s,"amount":%s}\n'
    trades, machine = read("ccxt", fill % (b"0.00", b"1") + fill % (b"1", b"0"))
    assert len(trades) == 0
    assert refusals(machine) == [(1, "price", "must be above zero"), (2, "amount", "must be above zero")]


def test_an_id_too_long_for_64_bits_stays_text() -> None:
    fill = b'{"id":"%d","timestamp":1700000000000,"side":"buy","price":1,"amount":1}\n'
    assert read("ccxt", fill % (2**64 - 1))[0].trade_id.tolist() == [2**64 - 1]
    assert read("ccxt", fill % 2**64)[0].text_ids == [str(2**64)]
    assert read("ccxt", fill % (2**64 - 1))[0].text_ids is None


def test_tardis_trades_need_an_id_and_a_side() -> None:
    trades, machine = read_file("tardis", "tardis.csv", spec("XYZUSDT"))
    assert trades.id_texts() == ["101", "5f1c-77"]
    assert trades.price.tolist() == [1010, 1020]
    assert trades.side.tolist() == [1, -1]
    assert trades.ts_us.tolist() == [1700000000001000, 1700000000002000]
    assert [r[:2] for r in refusals(machine)] == [(4, "side"), (5, "id")]
    assert machine.summary.skipped == {"other symbol": 1}


def test_any_csv_is_read_through_a_column_mapping() -> None:
    trades, machine = read_file("csv", "mapped.csv", spec(mapping=parse_mapping(MAPPING)))
    assert trades.trade_id.tolist() == [101, 102]
    assert trades.price.tolist() == [1010, 1020]
    assert trades.qty.tolist() == [500, 1250]
    assert trades.side.tolist() == [1, -1]
    assert trades.ts_us.tolist() == [1700000000001000, 1700000000002000]
    assert trades.account == ['fund "A"; main', "fund B"]
    assert trades.fee.tolist() == [5050, -200]
    assert [r[:2] for r in refusals(machine)] == [(4, "Px"), (5, ""), (6, ""), (7, "Way")]


def test_without_a_side_column_the_quantity_carries_the_sign() -> None:
    given = spec(mapping={"id": "i", "time": "t", "price": "p", "qty": "q", "unit": "s"})
    trades, machine = read("csv", b"i|t|p|q\n1|1700000000|10|-2\n2|1700000000|10|3\n3|1700000000|10|0\n", given)
    assert trades.side.tolist() == [-1, 1]
    assert trades.qty.tolist() == [2000, 3000]
    assert refusals(machine) == [(4, "q", "must not be zero")]


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        ("id=i,time=t,price=p", "the column for qty is not given"),
        ("id=i,time=t,price=p,qty=q,prize=x", "no such role"),
        ("id=i,time=t,price=p,qty=q,unit=weeks", "a unit is one of"),
        ("id=i,time=t,price=p,qty=q,fee=f", "say which asset"),
        ("id=i,id=j", "given twice"),
        ("id", "each part is role=column"),
    ],
)
def test_a_mapping_that_does_not_hold_is_said_at_once(mapping: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        parse_mapping(mapping)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("tardis", b"exchange,symbol,timestamp,id,price,amount\n"),
        ("tardis", b""),
        ("tardis", b"\xff\xfea\0b\0"),
        ("binance-stream", b"date,open,close\n" + b"1,2,3\n" * 100),
        ("binance-aggtrades", b"1,2,3\n"),
        ("binance-aggtrades", b"date,open,close\n"),
        ("ccxt", b'{"open": 1}\n' * 100),
        ("csv", b"i,t,p,q,q\n"),
        ("csv", b"i,t,p\n"),
    ],
)
def test_a_file_in_another_format_is_one_clear_error(name: str, data: bytes) -> None:
    given = spec(mapping={"id": "i", "time": "t", "price": "p", "qty": "q"})
    with pytest.raises(BadInput) as raised:
        read(name, data, given)
    assert raised.value.where == "f:1"
    assert f"not {name}" in raised.value.what


def test_an_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="binance-stream, binance-aggtrades, ccxt, tardis, csv"):
        importer("fix", spec())


def test_accounts_follow_from_the_trade_id_alone() -> None:
    trades, _ = read_file("ccxt", "ccxt.jsonl")
    stream, _ = read_file("binance-stream", "stream.txt", spec("XYZUSDT"))
    assert [account_name(i) for i in assign_accounts(stream, 7).tolist()] == ["A003", "A004", "A005"]
    mixed = assign_accounts(trades, 7).tolist()
    assert mixed[1] == 102 % 7, "a number is taken as one even beside text"
    assert mixed[0] == 0x2F8FE63A6224321D % 7, "text goes by the start of its SHA-256"
