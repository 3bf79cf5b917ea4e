"""Lines that are like lines seen before, counted many at once, without looking at each of them.

Most lines of a recorded stream are of few kinds that nobody wants, and those of a kind begin alike: the recorder's clock, then the same
bytes up to where the kind is told, or the stream. ``Sieve.sift`` finds them in a whole block by numpy and leaves the rest to be read one
by one. A line is counted by its beginning, its *head*, only where reading it alone counts it under the same kind:

1. It ends in ``}`` and nowhere holds the word that may mean a trade.
2. The clock before the head holds no quote, so that nothing is told there.
3. The head tells an event; or it tells a stream, and the line's first event is the one that such lines had, or there is none, as in them.

Pure. The heads are learned from lines that were read one by one before (``learn``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

TRADE: Final = b'trade"'
"""A line without it is no trade."""

EVENT: Final = b'"e":"'
STREAM: Final = b'"stream":'
MAX_HEADS: Final = 16
MAX_HEAD_BYTES: Final = 160

_Places: TypeAlias = NDArray[np.int64]
_SAMPLE: Final = 64
_LINE_END, _QUOTE, _BRACE = b'\n"}'


class Told(NamedTuple):
    """``words``: what in a line tells its kind; they begin with a quote if they name a stream, as no event's type does. ``end``: where
    the quote behind them stands, -1 if none does."""

    words: bytes
    end: int


class Sifted(NamedTuple):
    """``total`` lines, of which ``kinds`` were known by their heads; the others are ``rest``, their places among the lines ``places``."""

    total: int
    kinds: Mapping[bytes, int]
    rest: list[bytes]
    places: list[int]


class _Head(NamedTuple):
    """``event``: what stands behind it in the line's first event, quote included; empty if there is no event; None if it is in the head."""

    text: bytes
    kind: bytes
    event: bytes | None


def told(line: bytes) -> Told:
    """The words of the first event in a line, else of its stream; empty where there is neither."""
    at = line.find(EVENT) + len(EVENT)
    if at < len(EVENT):
        at = line.find(STREAM) + len(STREAM)
        if at < len(STREAM):
            return Told(b"", -1)
        end = line.find(b'"', at + 1)
    else:
        end = line.find(b'"', at)
    return Told(line[at:end], end)


class Sieve:
    """See the module."""

    def __init__(self) -> None:
        self._clock = 0
        self._heads: list[_Head] = []

    def __bool__(self) -> bool:
        return bool(self._heads)

    # -- what lines begin like ------------------------------------------------------------------------------

    def learn(self, lines: Sequence[bytes], kinds: Mapping[bytes, bytes]) -> None:
        """Take in what some of ``lines`` begin like, if at least two of them do and their words are in ``kinds``, by which lines are
        counted that hold no trade."""
        if len(self._heads) >= MAX_HEADS:
            return
        sample = [line for line in lines[:: len(lines) // _SAMPLE + 1] if TRADE not in line]
        clocks = Counter(line.find(b"{") for line in sample)
        if not self._heads and clocks:
            self._clock = max(0, clocks.most_common(1)[0][0])
        seen = Counter(head for line in sample if (head := self._head(line, kinds)))
        fresh = [head for head, count in seen.items() if count > 1 and head not in self._heads]
        self._heads = [*self._heads, *fresh][:MAX_HEADS]

    def _head(self, line: bytes, kinds: Mapping[bytes, bytes]) -> _Head | None:
        words, end = told(line)
        if words not in kinds:
            return None
        stream = line.find(STREAM, self._clock, end)
        event: bytes | None = None
        if words.startswith(b'"'):
            event = b""
        elif stream >= 0 and line.find(b'"data":{' + EVENT, stream, end) < 0:
            event = words + b'"'
            end = line.find(b'"', stream + len(STREAM) + 1)
        text = line[self._clock : end + 1]
        if not text.startswith(b"{") or b"\0" in text or len(text) > MAX_HEAD_BYTES:
            return None
        return _Head(text, kinds[words], event)

    # -- a block of lines -----------------------------------------------------------------------------------

    def sift(self, block: bytes) -> Sifted:
        """The lines of ``block``, which is not empty; the last may have no end."""
        data = np.frombuffer(block, np.uint8)
        ends = np.flatnonzero(data == _LINE_END)
        if data[-1] != _LINE_END:
            ends = np.append(ends, len(block))
        starts = np.concatenate((np.zeros(1, np.int64), ends[:-1] + 1))
        unread = data[ends - 1] == _BRACE
        unread[_lines_of(block, TRADE, ends)[0]] = False
        left = np.flatnonzero(unread)
        known: list[tuple[bytes, _Places]] = []
        events: _Events | None = None
        for head in self._heads:
            fits = self._begin(block, head.text, starts[left], ends[left])
            places, left = left[fits], left[~fits]
            if head.event is not None and len(places):
                events = events or _first_events(block, ends)
                fits = events.are(places, head.event)
                left = np.concatenate((left, places[~fits]))
                places = places[fits]
            known.append((head.kind, places))
        if self._clocks_tell(block, starts, known):
            known = []
        return _sifted(block, starts, ends, known)

    def _begin(self, block: bytes, head: bytes, starts: _Places, ends: _Places) -> NDArray[np.bool_]:
        """Which of the lines have ``head`` behind the clock."""
        if len(block) < len(head):
            return np.zeros(len(starts), np.bool_)
        at = starts + self._clock
        within = at + len(head) <= ends
        fits: NDArray[np.bool_] = np.logical_and(
            within, windows(block, f"S{len(head)}")[np.where(within, at, 0)] == head
        )
        return fits

    def _clocks_tell(self, block: bytes, starts: _Places, known: Sequence[tuple[bytes, _Places]]) -> bool:
        """Whether there is a quote before the head of any of these lines."""
        if not self._clock or not known:
            return False
        clocks = windows(block, f"V{self._clock}")
        return any((clocks[starts[places]].view(np.uint8) == _QUOTE).any() for _, places in known)


def windows(block: bytes, dtype: str) -> NDArray[Any]:
    """At every place of ``block`` the bytes from there on, as many as ``dtype`` has. A view."""
    return np.ndarray((len(block) - np.dtype(dtype).itemsize + 1,), dtype, block, strides=(1,))


def _lines_of(block: bytes, word: bytes, ends: _Places) -> tuple[_Places, _Places]:
    """The lines that hold a word of four bytes or more, once for each time, and where in the block it begins."""
    start = np.frombuffer(word, np.uint32, 1)
    # Four bytes at a time, from each of the four places where they may be aligned: half of what a search byte by byte takes.
    lanes = [
        np.ndarray((max(0, len(block) - lane) // 4,), np.uint32, block, min(lane, len(block))) for lane in range(4)
    ]
    at = np.sort(np.concatenate([np.flatnonzero(cells == start) * 4 + lane for lane, cells in enumerate(lanes)]))
    at = at[at + len(word) <= len(block)]
    if len(at):
        at = at[windows(block, f"S{len(word)}")[at] == word]
    return np.searchsorted(ends, at), at


class _Events(NamedTuple):
    """``behind``: by line, where the type of its first event begins in ``block``, 0 if there is none."""

    block: bytes
    behind: _Places

    def are(self, places: _Places, event: bytes) -> NDArray[np.bool_]:
        """Which of the lines have this as their first event, or none if it is empty."""
        at = self.behind[places]
        if not event:
            return np.equal(at, 0)
        last = len(self.block) - len(event)
        same: NDArray[np.bool_] = windows(self.block, f"S{len(event)}")[np.minimum(at, last)] == event
        return same & (at > 0) & (at <= last)


def _first_events(block: bytes, ends: _Places) -> _Events:
    lines, at = _lines_of(block, EVENT, ends)
    behind = np.zeros(len(ends), np.int64)
    behind[lines[::-1]] = at[::-1] + len(EVENT)  # of the places given for one line the last is kept, which is its first
    return _Events(block, behind)


def _sifted(block: bytes, starts: _Places, ends: _Places, known: Sequence[tuple[bytes, _Places]]) -> Sifted:
    kinds: Counter[bytes] = Counter()
    rest = np.ones(len(ends), np.bool_)
    for kind, places in known:
        if len(places):
            kinds[kind] += len(places)
            rest[places] = False
    lines = [block[start:end] for start, end in zip(starts[rest].tolist(), ends[rest].tolist(), strict=True)]
    return Sifted(len(ends), kinds, lines, np.flatnonzero(rest).tolist())
