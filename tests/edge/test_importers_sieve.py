"""Sifting many lines at once comes to what reading each of them comes to, whatever stands in lines that only begin like others."""

from __future__ import annotations

import itertools
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.importers import Importer, ImportSpec, importer
from crdtledger.edge.importers.sieve import Sieve
from tests.edge.test_importers_laws import rows

CLOCK = "1723161256172216566 "
DEPTH = '{"stream":"a@depth@0ms","data":{"e":"depthUpdate","E":1,"b":[["1","2"]]}}'
TICKER = '{"stream":"a@bookTicker","data":{"u":%d,"b":"1"}}'
LATE = '{"stream":"c@bookTicker","data":{"u":%d,"e":"bookTicker","b":"1"}}'
BARE = '{"e":"kline","E":1}'
TRADE = '{"stream":"a@trade","data":{"e":"trade","s":"S","t":%d,"p":"1.5","q":"0.25","T":1700000000000,"m":true}}'
KNOWN = (DEPTH, TICKER % 1, TICKER % 22, LATE % 333, LATE % 4, BARE, TRADE % 7)
ODD = (
    '{"stream":"a@bookTicker","data":{"e":"other","u":1}}',
    '{"stream":"a@bookTicker","data":{"u":1,"e":"bookTicker"}}',
    '{"stream":"c@bookTicker","data":{"u":1}}',
    '{"stream":"c@bookTicker","data":{"u":1,"e":"kline"}}',
    '{"stream":"c@bookTicker","data":{"u":1,"e":"kline","x":{"e":"bookTicker"}}}',
    '{"stream":"c@bookTicker","data":{"u":1,"e":"bookTicker","x":{"e":"kline"}}}',
    '{"stream":"a@depth@0ms","data":{"e":"depthUpdate","e":"trade","s":"S","t":9,"p":"1","q":"1","T":1700000000000,"m":true}}',
    '{"stream":"a@depth@0ms","data":{"e":"depthUpdate","x":"trade"}}',
    '{"stream":"a@depth@0ms","data":{"e":"depthUpdate"',
    '{"stream":"a@depth@0ms","data":{"e":"depthUpdate","b":1}}\r',
    '{"e":"kline"}',
    '{"e":"kline',
    '{"e":"klines"}',
    '{"e":"\\u0074rade","s":"S","t":5,"p":"1","q":"1","T":1700000000000,"m":true}',
    '{"stream":"a@bookTicker',
    '}"e":"x"}',
    "}",
    "",
    "\0",
)
CLOCKS = (
    CLOCK,
    "",
    "1723161256172216567 ",
    "172316125617221656 ",
    '{"e":"yy","x":123456',
    '1"stream":"q@r",1234',
    "12345}\n1234567890123",
)
likely = st.tuples(st.just(CLOCK), st.sampled_from(KNOWN))
lines = st.one_of(likely, likely, st.tuples(st.sampled_from(CLOCKS), st.sampled_from(KNOWN + ODD)))


def read(blocks: list[bytes], sifted_bytes: int) -> Importer:
    machine = importer("binance-stream", ImportSpec("f", 2, 3))
    with patch("crdtledger.edge.importers.binance_stream.SIFTED_BYTES", sifted_bytes):
        machine.found = rows([one for block in blocks for one in machine.feed(block)] + machine.finish())  # type: ignore[attr-defined]
    return machine


def same(first: str, texts: list[str]) -> None:
    """After every known kind was seen twice, blocks of these texts come to the same either way."""
    blocks = ["".join(f"{first}{line}\n" for line in KNOWN * 2).encode(), *(text.encode() for text in texts)]
    plain, sifted = read(blocks, 1 << 62), read(blocks, 1)
    assert sifted.found == plain.found  # type: ignore[attr-defined]
    assert sifted.summary == plain.summary
    assert sifted.position == plain.position
    assert list(sifted.summary.skipped) == list(plain.summary.skipped)


@given(first=st.sampled_from((CLOCK, "")), told=st.lists(st.lists(lines, max_size=12), max_size=4))
def test_lines_that_are_sifted_come_to_what_they_come_to_alone(first: str, told: list[list[tuple[str, str]]]) -> None:
    same(first, ["".join(f"{clock}{line}\n" for clock, line in block) for block in told])


@pytest.mark.parametrize("first", [CLOCK, ""])
@pytest.mark.parametrize("clock", CLOCKS)
def test_each_odd_line_is_read_as_if_none_had_been_like_it(first: str, clock: str) -> None:
    for line in KNOWN + ODD:
        same(first, [f"{clock}{line}\n{first}{KNOWN[0]}\n"])


def test_every_kind_that_was_seen_twice_is_sifted() -> None:
    sieve = Sieve()
    kinds = {
        b"depthUpdate": b"depthUpdate",
        b"bookTicker": b"bookTicker",
        b'"a@bookTicker': b"bookTicker",
        b"kline": b"kline",
    }
    sieve.learn([f"{CLOCK}{line}".encode() for line in KNOWN * 2], kinds)
    block = "".join(f"{CLOCK}{line}\n" for line in itertools.chain(KNOWN, ODD[:2])).encode()
    sifted = sieve.sift(block)
    assert (sifted.total, sifted.places) == (9, [6, 7, 8])
    assert sifted.kinds == {b"depthUpdate": 1, b"bookTicker": 4, b"kline": 1}
    assert sifted.rest == block.splitlines()[6:]
