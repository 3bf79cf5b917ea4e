"""What holds for every importer, whatever the file: exact round trips, any chunking, any bytes, any resumption."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crdtledger.edge.importers import (
    FORMATS,
    Importer,
    ImportSpec,
    Position,
    Trades,
    concatenate,
    importer,
    parse_mapping,
)
from crdtledger.errors import BadInput, decimal_text
from tests.edge.test_importers_formats import FIXTURES

PRICE_DECIMALS, QTY_DECIMALS, FEE_DECIMALS = 4, 6, 8


class Given(NamedTuple):
    """A trade as the test means it; amounts in minor units, time in milliseconds."""

    id: str
    price: int
    qty: int
    side: int
    ts_ms: int
    fee: int


def trades_with(ids: st.SearchStrategy[str], fees: bool) -> st.SearchStrategy[list[Given]]:
    amounts = st.one_of(st.integers(1, 10**6), st.integers(1, 1 << 62))
    fee = st.integers(-(10**12), 10**12) if fees else st.just(0)
    return st.lists(
        st.builds(Given, ids, amounts, amounts, st.sampled_from([1, -1]), st.integers(10**11, 10**14 - 1), fee),
        max_size=12,
    )


numbers = st.integers(0, (1 << 64) - 1).map(str)
any_ids = st.one_of(numbers, st.uuids().map(str), st.from_regex(r"[0-9]{1,22}|[a-zA-Z][\w./:-]{0,20}", fullmatch=True))


def price(trade: Given) -> str:
    return decimal_text(trade.price, PRICE_DECIMALS)


def qty(trade: Given) -> str:
    return decimal_text(trade.qty, QTY_DECIMALS)


def fee(trade: Given) -> str:
    return decimal_text(trade.fee, FEE_DECIMALS)


def word(trade: Given) -> str:
    return "buy" if trade.side > 0 else "sell"


def as_stream(trades: list[Given]) -> str:
    lines = []
    for n, t in enumerate(trades):
        event = f'{{"e":"trade","s":"S","t":{t.id},"p":"{price(t)}","q":"{qty(t)}","T":{t.ts_ms},"m":{str(t.side < 0).lower()}}}'
        lines.append(f'{n} {{"stream":"s@depth","data":{{"e":"depthUpdate"}}}}')
        lines.append(event if n % 2 else f'{n} {{"stream":"s@trade","data":{event}}}')
    return "".join(line + "\n" for line in lines)


def as_aggtrades(trades: list[Given]) -> str:
    return "".join(f"{t.id},{price(t)},{qty(t)},1,2,{t.ts_ms},{str(t.side < 0).lower()}\n" for t in trades)


def ccxt_objects(trades: list[Given]) -> list[str]:
    return [
        f'{{"info": {{"odd": "}}]\\\\\\"["}}, "id": {json.dumps(t.id)}, "timestamp": {t.ts_ms}, "symbol": "S", '
        f'"side": "{word(t)}", "price": {price(t)}, "amount": {qty(t)}, "fee": {{"cost": {fee(t)}, "currency": "C"}}}}'
        for t in trades
    ]


def as_ccxt_array(trades: list[Given]) -> str:
    return "[" + ",\n ".join(ccxt_objects(trades)) + "]\n"


def as_ccxt_lines(trades: list[Given]) -> str:
    return "".join(line + "\n" for line in ccxt_objects(trades))


def as_ccxt_table(trades: list[Given]) -> str:
    rows = [f"{t.id},{t.ts_ms},S,{word(t)},{price(t)},{qty(t)},{fee(t)},C\n" for t in trades]
    return "id,timestamp,symbol,side,price,amount,fee.cost,fee.currency\n" + "".join(rows)


def as_tardis(trades: list[Given]) -> str:
    rows = [f"x,S,{t.ts_ms}000,{t.ts_ms}000,{t.id},{word(t)},{price(t)},{qty(t)}\n" for t in trades]
    return "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n" + "".join(rows)


def as_csv(trades: list[Given]) -> str:
    rows = [
        f'"{t.id}";{t.ts_ms};{"B" if t.side > 0 else "S"};{price(t)};"{qty(t)}";acc {n % 3};{fee(t)};C\r\n'
        for n, t in enumerate(trades)
    ]
    return "\ufeffi;t;s;p;q;a;f;c\r\n" + "".join(rows)


class Shape(NamedTuple):
    format: str
    render: Callable[[list[Given]], str]
    ids: st.SearchStrategy[str] = any_ids
    fees: bool = True


SHAPES = {
    "stream": Shape("binance-stream", as_stream, numbers, False),
    "aggtrades": Shape("binance-aggtrades", as_aggtrades, numbers, False),
    "ccxt array": Shape("ccxt", as_ccxt_array),
    "ccxt lines": Shape("ccxt", as_ccxt_lines),
    "ccxt table": Shape("ccxt", as_ccxt_table),
    "tardis": Shape("tardis", as_tardis, any_ids, False),
    "csv": Shape("csv", as_csv),
}
SPEC = ImportSpec(
    file="f",
    price_decimals=PRICE_DECIMALS,
    qty_decimals=QTY_DECIMALS,
    asset_decimals={"C": FEE_DECIMALS, "USDT": FEE_DECIMALS},
    mapping=parse_mapping("id=i,time=t,side=s,price=p,qty=q,account=a,fee=f,fee_asset=c"),
)

every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(machine: Importer, data: bytes, cuts: list[int] | None = None) -> list[Trades]:
    edges = [0, *sorted(c % (len(data) + 1) for c in cuts or []), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    return [block for piece in pieces for block in machine.feed(piece)] + machine.finish()


def rows(blocks: list[Trades]) -> list[tuple[object, ...]]:
    whole = concatenate(blocks)
    columns = (whole.price, whole.qty, whole.side, whole.ts_us, whole.fee, whole.line)
    count = len(whole)
    texts = (whole.id_texts(), whole.fee_asset or [""] * count, whole.account or [""] * count)
    return list(zip(*(column.tolist() for column in columns), *texts, strict=True))


def outcome(name: str, data: bytes, cuts: list[int] | None = None) -> object:
    """Everything a caller can see of an import."""
    machine = importer(name, SPEC)
    try:
        found = rows(read(machine, data, cuts))
    except BadInput as error:
        return str(error)
    return found, machine.summary


@every_shape
@few
@given(data=st.data())
def test_trades_written_in_a_format_come_back_exactly(shape: Shape, data: st.DataObject) -> None:
    trades = data.draw(trades_with(shape.ids, shape.fees))
    machine = importer(shape.format, SPEC)
    whole = concatenate(read(machine, shape.render(trades).encode()))
    assert machine.summary.refused == 0
    assert machine.summary.trades == len(trades)
    assert whole.id_texts() == [t.id for t in trades]
    assert whole.price.tolist() == [t.price for t in trades]
    assert whole.qty.tolist() == [t.qty for t in trades]
    assert whole.side.tolist() == [t.side for t in trades]
    assert whole.ts_us.tolist() == [t.ts_ms * 1000 for t in trades]
    assert whole.fee.tolist() == [t.fee for t in trades]
    assert [d.str for d in (whole.trade_id.dtype, whole.price.dtype, whole.side.dtype)] == ["<u8", "<i8", "|i1"]
    if whole.text_ids is not None:
        assert np.array_equal(whole.trade_id, np.arange(len(trades)))
    if shape.format == "csv" and trades:
        assert whole.account == [f"acc {n % 3}" for n in range(len(trades))]


def broken(data: st.DataObject, text: bytes) -> bytes:
    """The text with a few bytes replaced, dropped or inserted."""
    edits = data.draw(
        st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 3), st.binary(max_size=4)), max_size=3)
    )
    for at, drop, put in edits:
        at %= len(text) + 1
        text = text[:at] + put + text[at + drop :]
    return text


@every_shape
@few
@given(data=st.data())
def test_how_the_bytes_are_cut_changes_nothing(shape: Shape, data: st.DataObject) -> None:
    text = broken(data, shape.render(data.draw(trades_with(shape.ids, shape.fees))).encode())
    cuts = data.draw(st.lists(st.integers(0, 1 << 20), max_size=8))
    assert outcome(shape.format, text, cuts) == outcome(shape.format, text)


@every_shape
@few
@given(data=st.data())
def test_an_import_resumed_in_the_middle_is_the_whole_import(shape: Shape, data: st.DataObject) -> None:
    text = broken(data, shape.render(data.draw(trades_with(shape.ids, shape.fees))).encode())
    cut = data.draw(st.integers(0, len(text)))
    whole, first, second = (importer(shape.format, SPEC) for _ in range(3))
    try:
        expected = rows(read(whole, text))
    except BadInput:
        return
    before = first.feed(text[:cut])
    position = first.position
    assert position.offset <= cut
    second.resume(position)
    after = read(second, text[position.offset :])
    assert rows([*before, *after]) == expected
    assert first.summary.refused + second.summary.refused == whole.summary.refused
    assert second.position == whole.position


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_bytes_raise_anything_but_bad_input(name: str, data: st.DataObject) -> None:
    files = sorted(path.read_bytes() for path in FIXTURES.iterdir())
    text = data.draw(st.one_of(st.binary(max_size=300), st.sampled_from(files).map(lambda t: broken(data, t))))
    cuts = data.draw(st.lists(st.integers(0, 1 << 12), max_size=5))
    assert outcome(name, text, cuts) == outcome(name, text)


@pytest.mark.parametrize("name", ["binance-stream", "ccxt"])
@pytest.mark.parametrize("opening", [b"[", b"{", b'{"data":'])
def test_deep_nesting_is_refused(name: str, opening: bytes) -> None:
    machine = importer(name, SPEC)
    assert read(machine, b'{"e":"trade","x":' + opening * 100_000 + b"\n") == []
    assert machine.summary.refused == 1


@pytest.mark.parametrize("name", ["binance-stream", "ccxt"])
@pytest.mark.parametrize("chunk", [1 << 20, 9 << 20])
def test_a_line_without_end_is_refused_in_bounded_memory(name: str, chunk: int) -> None:
    good = (
        ccxt_objects([Given("7", 10, 10, 1, 10**12, 0)])[0]
        if name == "ccxt"
        else as_stream([Given("7", 1, 1, 1, 10**12, 0)])
    )
    text = b'{"e":"trade"' + b" " * (5 << 20) + b"\n" + good.strip().encode() + b"\n"
    machine = importer(name, SPEC)
    blocks = [
        block for i in range(0, len(text), chunk) for block in machine.feed(text[i : i + chunk])
    ] + machine.finish()
    assert concatenate(blocks).trade_id.tolist() == [7]
    assert [(r.line, r.reason) for r in machine.summary.refusals] == [(1, "a line of more than 4194304 bytes")]
    assert machine.position.offset == len(text) == machine.summary.bytes_read


def test_resuming_after_the_first_chunk_is_a_mistake_of_the_program() -> None:
    machine = importer("binance-stream", SPEC)
    machine.feed(b"x")
    with pytest.raises(RuntimeError):
        machine.resume(Position(5, 1))


_EVENTS = (
    '{"stream":"a@depth@0ms","data":{"e":"depthUpdate","u":1}}',
    '{"stream":"a@bookTicker","data":{"u":1}}',
    '{"stream":"a@depthUpdate","data":{"u":1}}',
    '7 {"stream":"a@bookTicker","data":{"u":1}}',
    '{"e":"bookTicker"}',
    '{"e":"bookTicker"',
    '{"e":""a@bookTicker"}',
    '{"e":"a@bookTicker"}',
    '{"e":"x y"}',
    '{"stream":"bookTicker","data":{"s":"a@b"}}',
    '{"stream":"bookTicker","data":{"s":"c@d"}}',
    '{"abcde":"a@bookTicker"}',
    '{"stream":"a@x',
    "[]",
    "",
)


@given(st.lists(st.sampled_from(_EVENTS), max_size=12))
def test_a_line_is_counted_alike_whichever_lines_came_before_it(lines: list[str]) -> None:
    def counted(text: str) -> tuple[Counter[str], int]:
        machine = importer("binance-stream", ImportSpec("f", 2, 3))
        machine.feed(text.encode())
        machine.finish()
        return Counter(machine.summary.skipped), machine.summary.refused

    alone = [counted(line + "\n") for line in lines]
    together = counted("".join(line + "\n" for line in lines))
    assert together == (sum((kinds for kinds, _ in alone), Counter()), sum(refused for _, refused in alone))
