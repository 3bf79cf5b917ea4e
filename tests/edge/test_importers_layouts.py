"""Trades read many at once by how their lines are laid out come to what reading each of them comes to."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.importers import Importer, ImportSpec, importer
from crdtledger.edge.importers.layouts import MAX_LAYOUTS, Layouts
from tests.edge.test_importers_laws import rows

SPOT = '{clock}{{"stream":"a@trade","data":{{"e":"{e}","E":{E},"s":"{s}","t":{t},"p":"{p}","q":"{q}","T":{T},"m":{m},"M":true}}}}'
FUTURES = '{clock}{{"stream":"a@trade","data":{{"e":"{e}","E":{E},"T":{T},"s":"{s}","t":{t},"p":"{p}","q":"{q}","X":"MARKET","m":{m}}}}}'
BARE = '{clock}{{"e":"{e}","s":"{s}","t":{t},"p":"{p}","q":"{q}","T":{T},"m":{m},"E":{E}}}'
FORMS = (SPOT, FUTURES, BARE)
TICKER = '{"stream":"a@bookTicker","data":{"u":1}}'
NUMBERS = (
    "0",
    "00",
    "01",
    "7",
    "9" * 18,
    "9" * 19,
    str((1 << 64) - 1),
    "1" * 21,
    "-1",
    "1.5",
    "1e3",
    '"1"',
    "",
    " 5",
    "5 ",
    "1,1",
)
AMOUNTS = (
    "0",
    "0.00",
    "007.50",
    ".5",
    "5.",
    ".",
    "",
    "5",
    "1.005",
    "1.0050",
    "1.2.3",
    "1e1",
    "+1.5",
    "-1.5",
    "1 .5",
    "1,5",
    '1"5',
)
AMOUNTS += (
    "1.50" + "0" * 30,
    "9" * 14 + ".5",
    "9" * 15 + ".5",
    "9" * 16 + ".99",
    "9" * 17 + ".5",
    "46116860184273879.04",
    "/.5",
    ":.5",
)
AMOUNTS += ("1./", "1.:", "1.5\\u0030", "\u0661.5")
ODD: dict[str, tuple[str, ...]] = {
    "clock": (
        "",
        "1723161256172216566",
        "172316125617221656 ",
        "17231612561722x656 ",
        "                    ",
        " 723161256172216566 ",
    ),
    "e": ("trades", "trade ", "other", "trade\\u0020"),
    "E": NUMBERS,
    "s": ("R", "", "SS", 'S","s":"R'),
    "t": NUMBERS,
    "p": AMOUNTS,
    "q": AMOUNTS,
    "T": (*NUMBERS, "99999999999", "100000000000", "99999999999999", "100000000000000", "1700000000000000"),
    "m": ("null", "0", "tru", "truee", "True", '"true"', "false,", "fals", "xtrue", 'true,"m":false', 'true,"x":1'),
}
FIELDS = {
    "clock": st.just("1723161256172216566 "),
    "e": st.just("trade"),
    "E": st.integers(1, 10**14).map(str),
    "s": st.just("S"),
    "t": st.integers(1, 10**19).map(str),
    "p": st.integers(1, 10**15).map(lambda cents: f"{cents // 100}.{cents % 100:02}00"),
    "q": st.one_of(st.integers(1, 10**9).map(lambda units: f"{units / 8:.3f}"), st.sampled_from(("1", "20"))),
    "T": st.integers(10**11, 10**14 - 1).map(str),
    "m": st.sampled_from(("true", "false")),
}
PLAIN = {
    "clock": "1723161256172216566 ",
    "e": "trade",
    "E": "5",
    "s": "S",
    "t": "7",
    "p": "1.50",
    "q": "0.25",
    "T": "1700000000000",
    "m": "true",
}
odd = (
    st.sampled_from(sorted(ODD))
    .flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(ODD[name])))
    .map(lambda pair: dict([pair]))
)
changes: st.SearchStrategy[dict[str, str]] = st.one_of(st.just({}), st.just({}), odd)
lines = st.builds(
    lambda form, fields, change: form.format(**{**fields, **change}),
    st.sampled_from(FORMS),
    st.fixed_dictionaries(FIELDS),
    changes,
)


def read(blocks: list[bytes], layouts: int) -> Importer:
    machine = importer("binance-stream", ImportSpec("f", 2, 3))
    with (
        patch("crdtledger.edge.importers.binance_stream.SIFTED_BYTES", 1),
        patch("crdtledger.edge.importers.layouts.MAX_LAYOUTS", layouts),
    ):
        machine.found = rows([one for block in blocks for one in machine.feed(block)] + machine.finish())  # type: ignore[attr-defined]
    return machine


def same(texts: list[str]) -> None:
    """After trades of each form, blocks of these texts come to the same with layouts and without."""
    known = [
        f"{TICKER}\n{TICKER}\n",
        *(form.format(**{**PLAIN, "q": q}) + "\n" for form in FORMS for q in ("0.25", "3")),
    ]
    blocks = [text.encode() for text in (*known, *texts)]
    plain, laid = read(blocks, 0), read(blocks, 2 * len(FORMS))
    assert laid.found == plain.found  # type: ignore[attr-defined]
    assert laid.summary == plain.summary
    assert laid.position == plain.position
    assert list(laid.summary.skipped) == list(plain.summary.skipped)


@given(st.lists(st.lists(st.one_of(lines, st.just(TICKER)), max_size=12), max_size=4))
def test_trades_that_are_laid_out_alike_come_to_what_they_come_to_alone(told: list[list[str]]) -> None:
    same(["".join(f"{line}\n" for line in block) for block in told])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ODD)
def test_each_odd_value_is_read_as_if_it_stood_alone(form: str, name: str) -> None:
    for value in ODD[name]:
        line, plain = form.format(**{**PLAIN, name: value}), form.format(**PLAIN)
        same([f"{plain}\n{line}\n{plain}\n", f"{line}\n"])


@pytest.mark.parametrize("form", FORMS)
def test_a_text_that_differs_anywhere_is_read_as_if_it_stood_alone(form: str) -> None:
    line = form.format(**PLAIN)
    for at in range(len(line)):
        same([f"{line[:at]}{put}{line[at + 1 :]}\n{line}\n" for put in ("", "z", "7", '"', "\0", ".")])


@pytest.mark.parametrize("form", FORMS)
def test_trades_of_any_values_are_read_without_being_looked_at(form: str) -> None:
    layouts = Layouts(2, 3)
    layouts.learn(form.format(**PLAIN).encode())
    values: tuple[dict[str, str], ...] = (
        {},
        {"m": "false"},
        {"t": "12345678"},
        {"p": "61837.630000"},
        {"q": "1.000"},
        {"T": "1800000000000", "E": "9"},
    )
    found = layouts.read([form.format(**{**PLAIN, **change}).encode() for change in values], range(4, 10))
    assert found.rest == []
    assert rows([found.trades])[3:5] == [
        (6183763, 250, -1, 1700000000000000, 0, 7, "7", "", ""),
        (150, 1000, -1, 1700000000000000, 0, 8, "7", "", ""),
    ]
    assert found.trades.side.tolist() == [-1, 1, -1, -1, -1, -1]


def test_few_layouts_are_kept() -> None:
    layouts = Layouts(2, 3)
    texts = [SPOT.format(**{**PLAIN, "clock": "7" * digits + " "}).encode() for digits in range(1, MAX_LAYOUTS + 3)]
    for text in texts:
        layouts.learn(text)
    assert layouts.read(texts, range(len(texts))).rest == [MAX_LAYOUTS, MAX_LAYOUTS + 1]


@pytest.mark.parametrize(
    "line",
    [
        BARE.format(**{**PLAIN, "m": 'true,"m":false'}),
        BARE.format(**{**PLAIN, "m": 'true,"x":{"y":1}'}),
        BARE.format(**{**PLAIN, "m": 'true,"x":[1]'}),
        BARE.format(**{**PLAIN, "s": "a.b"}),
        BARE.format(**{**PLAIN, "s": "\\u0053"}),
        BARE.format(**{**PLAIN, "p": "1e1"}),
        BARE.format(**PLAIN) + "\r",
        TICKER,
        "",
    ],
)
def test_what_is_not_flat_and_plain_is_not_learned(line: str) -> None:
    layouts = Layouts(2, 3)
    layouts.learn(line.encode())
    assert layouts.read([line.encode()], [1]).rest == [0]
