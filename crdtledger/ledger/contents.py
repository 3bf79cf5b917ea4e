"""What a fact says, as 128 bits that are the same wherever it was recorded.

    content = BLAKE2b-128 over BLAKE2b-128(the names it uses, each with its length) and its numbers

Two statements of one id are the same fact exactly when their contents are equal. Names go in by text, so the digest does not
depend on a batch's dictionary or a view's numbering; the recorder's clock, a venue's clock and a reserve's end are no part of it.
A cryptographic hash, row by row, because whoever records a fact chooses what it says: a mix of bijections, which is good
enough for ids, would let him choose two contents that look alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body
from crdtledger.ledger.factkeys import reserve_keys
from crdtledger.ledger.facts import NO_STRING, ORDER_KINDS, Kind
from crdtledger.ledger.identity import hash_each
from crdtledger.ledger.orderfacts import order_contents
from crdtledger.ledger.seenids import Contents

_NUMBERS: Final = {
    Kind.FILL: ("side", "qty", "price", "fee"),
    Kind.BUST: ("side", "qty", "price", "fee"),
    Kind.GRANT: ("amount", "node"),
    Kind.VOID: (),
}
_BEGUN: Final = hashlib.blake2b(digest_size=16)
_NAMES: Final = ("account", "asset", "credit", "fee_asset")


def fact_contents(body: Body, kind: Kind, rows: npt.NDArray[np.int64] | None = None) -> Contents:
    """What rows of ``kind`` say (all of them by default), shape (n, 2). For all facts with an id."""
    if kind in ORDER_KINDS:
        return order_contents(body, kind, rows)
    table = body.tables[kind] if rows is None else body.tables[kind][rows]
    if not len(table):
        return np.empty((0, 2), np.uint64)
    columns = [table[column].astype("<i8").view("<u8") for column in _NUMBERS.get(kind, ("amount",))]
    if kind in (Kind.POST, Kind.VOID):
        high, low = reserve_keys(body, kind)
        columns += [high, low] if rows is None else [high[rows], low[rows]]
    prefixes, which = _prefixes(body, kind, table)
    packed = np.empty((len(table), 2 + len(columns)), "<u8")
    packed[:, :2] = prefixes[which]
    for place, column in enumerate(columns, 2):
        packed[:, place] = column
    rows_told = packed.view(f"V{packed.shape[1] * 8}").reshape(-1).tolist()
    return _hashes(_BEGUN, rows_told)


def _prefixes(
    body: Body, kind: Kind, table: npt.NDArray[np.void]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The digest of each distinct set of names that the rows use, shape (m, 2), and which of them each row uses."""
    used = [column for column in _NAMES if column in (table.dtype.names or ())]
    parts = [table[column].astype(np.int64) for column in used]
    if "scope" in (table.dtype.names or ()):
        parts.append(np.array([scope.instrument for scope in body.scopes], np.int64)[table["scope"]])
    joined = np.zeros(len(table), np.int64)
    for part in parts:  # at most three, each an index of 16 bits
        joined = joined << 16 | part
    _, first, which = np.unique(joined, return_index=True, return_inverse=True)
    words = [_words(body, part[first].tolist()) for part in parts[: len(used)]]
    if len(parts) > len(used):
        names = [_sized(name.encode()) + _sized(definition) for name, definition in body.instruments]
        words.append([names[number] for number in parts[-1][first].tolist()])
    # One digest for a fill and for its bust: what is compared is whether they speak of the same terms.
    begun = hashlib.blake2b(digest_size=16, person=b"crdtledger/says")
    begun.update(_sized(b"fill" if kind is Kind.BUST else kind.name.lower().encode()))
    return _hashes(begun, map(b"".join, zip(*words, strict=True)) if words else [b""]), which.reshape(-1)


def _words(body: Body, numbers: Sequence[int]) -> list[bytes]:
    """The strings of these numbers, each with its length; of no string, that of none."""
    words = {n: _sized(b"" if n == NO_STRING else body.strings[n].encode()) for n in set(numbers)}
    return [words[number] for number in numbers]


def _sized(word: bytes) -> bytes:
    return len(word).to_bytes(4, "little") + word


def _hashes(begun: hashlib.blake2b, messages: Iterable[bytes]) -> Contents:
    """The digests of messages behind what is hashed already, shape (n, 2)."""
    return np.frombuffer(b"".join(hash_each(begun, messages)), "<u8").astype(np.uint64).reshape(-1, 2)
