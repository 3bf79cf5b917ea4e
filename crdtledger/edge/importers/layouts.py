"""Trades whose lines are laid out alike, made columns many at once, without an object for each of them.

A recorder writes the trades of a stream in one form: the same keys in the same order, and only some of the values differ. ``Layouts.read``
finds by numpy the lines that are, but for these values, byte for byte like a trade that was read alone before (``learn``), and makes
them what reading them alone makes them. Whatever else a line holds it is left to be read alone:

1. Alike means: the recorder's clock has as many digits; what is neither a number, nor the price, quantity or side is the same text.
2. Numbers have no sign, no leading zero, and at most ``MAX_DIGITS`` digits; amounts are digits with a point in them or none, as the
   trade had, and exact at the instrument's decimals.
3. Price and quantity are above zero, and the time is in milliseconds.

Pure. A form is learned only if it is flat JSON without escapes in which no key stands twice: then nothing but its values can differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crdtledger.edge.importers.sieve import windows
from crdtledger.edge.importers.timestamps import MILLISECONDS
from crdtledger.edge.importers.trades import Integers, Trades

MAX_LAYOUTS: Final = 4
MAX_DIGITS: Final = 18
"""So many fit into 64 bits with a sign, whichever they are."""

_READ: Final = {b"t", b"p", b"q", b"T", b"m"}
_FIELD: Final = rb'"[A-Za-z]+":(?:[1-9][0-9]*|"[0-9]+\.[0-9]+"|"[^"\\.]*"|true|false)'
_FIELDS: Final = rb"\{" + _FIELD + rb"(?:," + _FIELD + rb")*\}"
_FORM: Final = re.compile(rb'((?:[0-9]+ )?)(?:\{"stream":"[^"\\.]*","data":' + _FIELDS + rb"\}|" + _FIELDS + rb")")
_NUMBER: Final = re.compile(rb'"([A-Za-z]+)":(?:([1-9][0-9]*)|"([0-9]+(?:\.[0-9]+)?)"|(true|false))')
_KEY: Final = re.compile(rb'"([A-Za-z]+)":')
_TEN_TO: Final = 10 ** np.arange(MAX_DIGITS + 1, dtype=np.int64)
_ROOM: Final = 32
_ZERO, _POINT, _QUOTE, _SPACE = b'0." '

_Fits = NDArray[np.bool_]


class _Value(NamedTuple):
    """``pointed``: whether there is a point in it."""

    key: bytes
    pointed: bool


class _Layout(NamedTuple):
    """``texts``: what stands before, between and behind the ``values``; ``clock``: bytes in front of the first."""

    clock: int
    texts: list[bytes]
    values: list[_Value]


class Found(NamedTuple):
    """``trades`` of the lines that were laid out like others; the places of the ``rest`` among the lines."""

    trades: Trades
    rest: list[int]


class Layouts:
    """See the module. ``price_decimals`` and ``qty_decimals`` are the instrument's."""

    def __init__(self, price_decimals: int, qty_decimals: int) -> None:
        self._decimals = {b"p": price_decimals, b"q": qty_decimals}
        self._layouts: list[_Layout] = []

    def learn(self, line: bytes) -> None:
        """Take in how this line is laid out, a trade that was read alone and whose symbol, kind and market are those wanted."""
        layout = _layout(line) if len(self._layouts) < MAX_LAYOUTS else None
        if layout is not None and layout not in self._layouts:
            self._layouts.append(layout)

    def read(self, lines: Sequence[bytes], numbers: Sequence[int]) -> Found:
        """The trades of those ``lines`` that are laid out as one before; ``numbers`` are the lines' in the file."""
        left = np.arange(len(lines))
        line = np.array(numbers, np.int64)
        blocks: list[NDArray[np.int64]] = [np.empty((6, 0), np.int64)]
        for layout in self._layouts:
            if len(left):
                fits, columns = _Reading(layout, [lines[place] for place in left.tolist()]).columns(self._decimals)
                blocks.append(np.array([*columns, line[left[fits]]]))
                left = left[~fits]
        whole = np.concatenate(blocks, axis=1)
        ids, price, qty, side, ts_us, line = whole[:, np.argsort(whole[5], kind="stable")]
        trades = Trades(
            trade_id=ids.astype(np.uint64),
            text_ids=None,
            price=price,
            qty=qty,
            side=side.astype(np.int8),
            ts_us=ts_us,
            fee=np.zeros(len(ids), np.int64),
            line=line,
        )
        return Found(trades, left.tolist())


def _layout(line: bytes) -> _Layout | None:
    """How a line is laid out; None if it is in a form that is not learned."""
    form = _FORM.fullmatch(line)
    if form is None:
        return None
    keys = _KEY.findall(line)
    if len(set(keys)) < len(keys):
        return None
    values: list[_Value] = []
    texts: list[bytes] = []
    clock = at = form.end(1)
    for found in _NUMBER.finditer(line, clock):
        key, group = found[1], found.lastindex or 0
        if group == (3 if key in (b"p", b"q") else 4 if key == b"m" else 2):
            values.append(_Value(key, b"." in found[group]))
            texts.append(line[at : found.start(group)])
            at = found.end(group)
    texts.append(line[at:])
    if not {value.key for value in values} >= _READ or any(b"." in text for text in texts):
        return None
    return _Layout(clock, texts, values)


class _Reading:
    """Lines held against a layout."""

    def __init__(self, layout: _Layout, lines: Sequence[bytes]) -> None:
        self._layout = layout
        room = bytes(_ROOM + max(map(len, layout.texts)) + layout.clock)
        self._text = room + b"\n".join(lines) + room
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        self._ends = len(room) + np.cumsum(lengths + 1) - 1
        self._starts = self._ends - lengths

    def columns(self, decimals: dict[bytes, int]) -> tuple[_Fits, list[Integers]]:
        """Which lines fit, and of these: id, price, quantity, side, time in microseconds."""
        quotes, alike = self._places(_QUOTE, sum(text.count(b'"') for text in self._layout.texts))
        points, pointed = self._places(_POINT, sum(value.pointed for value in self._layout.values))
        alike &= pointed
        kept = np.flatnonzero(alike)
        fits = np.ones(len(kept), np.bool_)
        begins = self._begins(quotes[kept], kept, fits)
        found: dict[bytes, Integers] = {}
        point = iter(points[kept].T)
        for at, value in enumerate(self._layout.values):
            begin, end = begins[at] + len(self._layout.texts[at]), begins[at + 1]
            if value.key == b"m":
                found[b"m"] = self._sides(begin, end, fits)
            elif value.key in decimals:
                found[value.key] = self._amounts(
                    begin, end, next(point) if value.pointed else end, decimals[value.key], fits
                )
            else:
                fits &= self._bytes()[begin] != _ZERO
                found[value.key] = self._numbers(begin, end, fits)
        fits &= (found[b"T"] >= MILLISECONDS.start) & (found[b"T"] < MILLISECONDS.stop)
        fits &= (found[b"p"] > 0) & (found[b"q"] > 0)
        alike[kept] = fits
        return alike, [found[key][fits] * (1000 if key == b"T" else 1) for key in (b"t", b"p", b"q", b"m", b"T")]

    def _bytes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self._text, np.uint8)

    def _places(self, byte: int, count: int) -> tuple[Integers, _Fits]:
        """By line where its first ``count`` such bytes are, and whether there are just so many."""
        at = np.flatnonzero(self._bytes() == byte)
        first = np.searchsorted(at, self._starts)
        fits: _Fits = np.searchsorted(at, self._ends) - first == count
        places = np.concatenate((at, np.zeros(count, np.int64)))
        return places[first[:, None] + np.arange(count)], fits

    def _begins(self, quotes: Integers, kept: Integers, fits: _Fits) -> list[Integers]:
        """Where in the lines ``kept`` each text begins; clears ``fits`` where it does not stand there, or no clock in front of it."""
        layout = self._layout
        starts = self._starts[kept]
        if layout.clock:
            clock = _cells(self._text, starts, layout.clock)
            fits &= (clock[:, :-1] <= 9).all(axis=1) & (clock[:, -1] == (_SPACE - _ZERO) % 256)
        begins: list[Integers] = []
        passed = 0
        for at, text in enumerate(layout.texts):
            if not at:
                begins.append(starts + layout.clock)
            elif at == len(layout.values):
                begins.append(self._ends[kept] - len(text))
            else:
                begins.append(quotes[:, passed] - text.index(b'"'))
            passed += text.count(b'"')
            fits &= windows(self._text, f"S{len(text)}")[begins[-1]] == text
        return begins

    def _numbers(self, begin: Integers, end: Integers, fits: _Fits) -> Integers:
        """The digits from ``begin`` to ``end`` as numbers; clears ``fits`` where they are not digits, or too many or none."""
        count = end - begin
        fits &= (count > 0) & (count <= MAX_DIGITS)
        width = min(max(1, int(count.max(initial=1))), MAX_DIGITS)
        cells = _cells(self._text, end - width, width)
        cells[np.arange(width) < (width - count)[:, None]] = 0
        fits &= (cells <= 9).all(axis=1)
        numbers: Integers = cells.astype(np.int64) @ _TEN_TO[width - 1 :: -1]
        return numbers

    def _amounts(self, begin: Integers, end: Integers, point: Integers, decimals: int, fits: _Fits) -> Integers:
        """Decimal numbers in minor units; ``point`` is ``end`` if they have none. Clears ``fits`` where they are not exact or too large."""
        fits &= point - begin + decimals <= MAX_DIGITS
        amounts: Integers = self._numbers(begin, point, fits) * _TEN_TO[min(decimals, MAX_DIGITS)]
        if point is end:
            return amounts
        behind = np.clip(end - point - 1, 0, MAX_DIGITS)
        fraction = self._numbers(point + 1, end, fits)
        over = _TEN_TO[np.maximum(behind - decimals, 0)]
        fits &= fraction % over == 0
        amounts += fraction // over * _TEN_TO[np.clip(decimals - behind, 0, MAX_DIGITS)]
        return amounts

    def _sides(self, begin: Integers, end: Integers, fits: _Fits) -> Integers:
        """-1 where the buyer was the maker, else 1; clears ``fits`` where it says neither."""
        maker = (end - begin == 4) & (windows(self._text, "S4")[begin] == b"true")
        fits &= maker | ((end - begin == 5) & (windows(self._text, "S5")[begin] == b"false"))
        sides: Integers = np.where(maker, -1, 1)
        return sides


def _cells(text: bytes, at: Integers, width: int) -> NDArray[np.uint8]:
    """The bytes from each place on, less what a zero is: digits come to at most 9."""
    cells: NDArray[np.uint8] = windows(text, f"V{width}")[at].view(np.uint8).reshape(-1, width) - np.uint8(_ZERO)
    return cells
