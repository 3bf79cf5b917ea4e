"""Cutting a JSON array that arrives in pieces into its objects, without decoding it.

The bytes are looked at as columns: quotes that no backslash escapes split them into inside and outside of strings, and a
running sum over the brackets outside gives the depth. An object ends where the depth returns to zero; the array ends
where it falls below. Whether an object is well formed is the decoder's question, so brackets of both kinds count alike.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec
import numpy as np

_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_STEP: Final = np.zeros(256, np.int64)
_STEP[[ord("{"), ord("[")]] = 1
_STEP[[ord("}"), ord("]")]] = -1


class Cut(msgspec.Struct, frozen=True):
    """``spans``: (start, end) of each complete bracketed element. ``close``: the index of the bracket that ends the array,
    or -1 if it is not among these bytes."""

    spans: list[tuple[int, int]]
    close: int


def cut(data: bytes) -> Cut:
    """The complete elements of ``data``, which starts between two elements of the array."""
    column = np.frombuffer(data, np.uint8)
    quotes = np.flatnonzero(column == ord('"'))
    if b"\\" in data:
        escaped = [match.start() + 1 for match in _ESCAPE.finditer(data)]
        quotes = quotes[~np.isin(quotes, escaped)]
    brackets = np.flatnonzero(_STEP[column])
    brackets = brackets[np.searchsorted(quotes, brackets) % 2 == 0]
    depth = np.cumsum(_STEP[column[brackets]])
    below = np.flatnonzero(depth < 0)
    close = -1
    if len(below):
        close = int(brackets[below[0]])
        brackets, depth = brackets[: below[0]], depth[: below[0]]
    ends = np.flatnonzero(depth == 0)
    starts = np.concatenate(([0], ends[:-1] + 1)) if len(ends) else ends
    spans = list(zip(brackets[starts].tolist(), (brackets[ends] + 1).tolist(), strict=True))
    return Cut(spans, close)
