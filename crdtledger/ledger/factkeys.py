"""Identities: 128 bits of each fact's id, as two u64 columns.

    high, low = fact_keys(body, Kind.FILL)

A fill's identity is derived from (venue, id space, instrument, leg, trade id). Numeric ids, which venues mostly use, are mixed into a
hashed prefix by two bijections, column at a time; text ids are hashed one by one.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body, split_id
from crdtledger.ledger.facts import ID_IS_TEXT, REFERENCES, FactId, Kind

U64: Final = np.uint64
Keys: TypeAlias = tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]

_WORD: Final = (1 << 64) - 1
_HALVES = struct.Struct("<QQ")


def mix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A bijection of u64 that spreads every bit (the finaliser of SplitMix64, Steele et al., OOPSLA 2014, fig. 15)."""
    x = x ^ (x >> U64(30))
    x *= U64(0xBF58476D1CE4E5B9)
    x ^= x >> U64(27)
    x *= U64(0x94D049BB133111EB)
    x ^= x >> U64(31)
    return x


def _mixed(x: int) -> int:
    """``mix64`` of one number."""
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ x >> 27) * 0x94D049BB133111EB & _WORD
    return x ^ x >> 31


@functools.lru_cache(16_384)
def _hash128(*parts: str) -> bytes:
    """Length-prefixed BLAKE2b: no two lists of parts share an input. Remembered: batches name the same scopes over and over."""
    state = hashlib.blake2b(digest_size=16, person=b"crdtledger/id")
    for part in parts:
        raw = part.encode()
        state.update(len(raw).to_bytes(4, "little") + raw)
    return state.digest()


def fact_keys(body: Body, kind: Kind) -> Keys:
    """The 128-bit identity of every row of ``kind``, as two u64 columns.

    A fill's id is unique within its scope, a deposit's within its (account, asset), every other id within its kind.
    """
    table = body.tables[kind]
    if kind in (Kind.FILL, Kind.BUST):
        return _keys(body, table, "id", ID_IS_TEXT, _fill_prefixes(body), table["scope"])
    if kind is Kind.DEPOSIT:
        pairs, which = np.unique(table["account"].astype(np.int64) << 16 | table["asset"], return_inverse=True)
        prefixes = [_hash128("deposit", body.strings[p >> 16], body.strings[p & 0xFFFF]) for p in pairs.tolist()]
        return _keys(body, table, "id", ID_IS_TEXT, prefixes, which)
    return _keys(body, table, "id", ID_IS_TEXT, [_hash128(kind.name.lower())], None)


def fill_keys(bodies: Sequence[Body], kind: Kind) -> Keys:
    """``fact_keys`` of fills, or of busts, of several bodies, one after the other."""
    prefixes = np.frombuffer(b"".join(prefix for body in bodies for prefix in _fill_prefixes(body)), "<u8").reshape(
        -1, 2
    )
    sizes: list[int] = []  # of runs of rows, each of one scope
    runs: list[npt.NDArray[np.uint64]] = []
    first = 0
    for body in bodies:
        scopes = body.tables[kind]["scope"]
        own = prefixes[first : first + len(body.scopes)]
        runs.append(own[scopes] if len(own) > 1 else own)
        sizes += [1] * len(scopes) if len(own) > 1 else [len(scopes)]
        first += len(own)
    halves = [np.repeat(half, sizes) for half in np.concatenate(runs).T]
    keys = _mixed_columns(halves, np.concatenate([body.tables[kind]["id"] for body in bodies]))
    start = 0
    for body in bodies:
        table = body.tables[kind]
        if np.bitwise_or.reduce(table["flags"]) & ID_IS_TEXT:
            for half, own in zip(keys, fact_keys(body, kind), strict=True):
                half[start : start + len(table)] = own
        start += len(table)
    return keys


def _fill_prefixes(body: Body) -> list[bytes]:
    """What the ids of a body's fills are unique within, scope by scope."""
    return [_hash128("fill", s.venue, s.id_space, body.instruments[s.instrument][0], s.leg) for s in body.scopes]


def _mixed_columns(halves: Any, numbers: npt.NDArray[np.uint64]) -> Keys:
    """The identities of ids that are numbers. ``halves``: of the prefixes, one for all rows or one for each."""
    return mix64(halves[0] + numbers), mix64(halves[1] + mix64(numbers))


def reserve_keys(body: Body, kind: Kind) -> Keys:
    """The identity of the reserve that each row of ``kind`` names: its own for RESERVE, the one it uses for POST and VOID."""
    return fact_keys(body, kind) if kind is Kind.RESERVE else reference_keys(body, kind, "reserve")


def reference_keys(body: Body, kind: Kind, column: str) -> Keys:
    """The identity of the fact that ``column`` of each row of ``kind`` names."""
    flag, of = REFERENCES[kind][column]
    return _keys(body, body.tables[kind], column, flag, [_hash128(of.name.lower())], None)


def key_of(kind: Kind, id: FactId) -> tuple[int, int]:
    """The identity of one fact whose id is unique within its kind: the two halves of what ``fact_keys`` gives for it."""
    return _key(_hash128(kind.name.lower()), split_id(id))


def _key(prefix: bytes, id: int | str) -> tuple[int, int]:
    """What ``_keys`` gives for one id."""
    if isinstance(id, str):
        prefix = hashlib.blake2b(prefix + id.encode(), digest_size=16).digest()
    high, low = _HALVES.unpack(prefix)
    return (high, low) if isinstance(id, str) else (_mixed(high + id & _WORD), _mixed(low + _mixed(id) & _WORD))


def lone_fill_key(body: Body) -> tuple[int, int]:
    """The halves of what ``fact_keys`` gives for the only fill of a body."""
    ((number, *_, scope, _, _, _, flags),) = body.tables[Kind.FILL].tolist()
    venue, space, leg, instrument = body.scopes[scope]
    prefix = _hash128("fill", venue, space, body.instruments[instrument][0], leg)
    return _key(prefix, body.strings[number] if flags & ID_IS_TEXT else number)


def _keys(
    body: Body,
    table: npt.NDArray[np.void],
    column: str,
    flag: int,
    prefixes: list[bytes],
    which: npt.NDArray[Any] | None,
) -> Keys:
    if len(table) == 1:  # as plain integers: a column costs thirty numpy calls however short it is
        number, is_text = int(table[column][0]), int(table["flags"][0]) & flag
        prefix = prefixes[0 if which is None else int(which[0])]
        one = _key(prefix, body.strings[number] if is_text else number)
        return np.array(one[:1], np.uint64), np.array(one[1:], np.uint64)
    pairs = np.frombuffer(b"".join(prefixes), "<u8").reshape(-1, 2)
    halves = pairs[which].T if which is not None and len(pairs) > 1 else pairs[0]
    numbers = table[column].astype(np.uint64)
    high, low = _mixed_columns(halves, numbers)
    text = np.flatnonzero(table["flags"] & flag)
    if len(text):
        picked = [prefixes[index] for index in which[text].tolist()] if which is not None else [prefixes[0]] * len(text)
        hashes = b"".join(
            hashlib.blake2b(prefix + body.strings[index].encode(), digest_size=16).digest()
            for prefix, index in zip(picked, table[column][text].tolist(), strict=True)
        )
        pairs = np.frombuffer(hashes, "<u8").reshape(-1, 2)
        high[text], low[text] = pairs[:, 0], pairs[:, 1]
    return high, low
