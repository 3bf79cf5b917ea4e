"""The body of a batch: facts as columns, strings and scopes dictionary-coded.

On the wire a body is one msgpack array: the strings, the scopes of fill ids, the instruments used (name and digest of
the definition), one packed table per kind, the definitions and accounts recorded, import cursors, and, where there are any, notes
(updates of the board, ``noteform``; a body without them ends before them). ``decode`` turns
the bytes into read-only numpy views without copying a row, after checking every rule of form: what passes it can be
folded without a further look. It says nothing about meaning (authority, rights, clocks): views and settlement do.

An id that is a text and canonically writes a number *is* that number (``split_id``), so two importers cannot give one trade two identities;
what is made of ids is ``factkeys``' to say.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import InvalidBatch
from crdtledger.ledger.facts import (
    AMENDS,
    ID_IS_TEXT,
    MARKET,
    MAX_AMOUNT,
    MAX_NUMBER,
    MAX_TEXT,
    NO_STRING,
    ORDER_KINDS,
    OTHER_IS_TEXT,
    POST_ONLY,
    REDUCE_ONLY,
    REF_IS_TEXT,
    REFERENCES,
    RIGHTS_KINDS,
    TABLES,
    FactId,
    Instrument,
    Kind,
)
from crdtledger.ledger.orderform import Need, check_order_columns
from crdtledger.ledger.reference import INSTRUMENT_DIGEST_BYTES, instrument_digest, instrument_fault

MAX_FACTS: Final = 4_096
MAX_BODY_BYTES: Final = 256 * 1024
MAX_NOTE_BYTES: Final = 16 * 1024
"""Of one update of the board."""
TEXTS_SHARED: Final = 1 << 16
"""Texts that bodies share. The names of a desk's accounts would take a quarter as much room in each of its batches as what is said of
them."""


_KINDS: Final = {int(kind): kind for kind in Kind}
_COLUMNS: Final = {int(kind): (kind, dtype) for kind, dtype in TABLES.items()}
_NUMBER = re.compile(r"0|[1-9][0-9]{0,19}")
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_ALL_BITS: Final = {
    kind: ID_IS_TEXT | sum(flag for flag, _ in REFERENCES.get(kind, {}).values()) for kind in TABLES
} | {Kind.ORDER: ID_IS_TEXT | REF_IS_TEXT | OTHER_IS_TEXT | AMENDS | MARKET | POST_ONLY | REDUCE_ONLY}


class AccountEntry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An account definition inside a body."""

    name: str
    label: str


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far an import of ``source`` has come once this batch is in: ``position`` is a byte offset, ``line`` a line count."""

    source: str
    position: int
    line: int


class WireBody(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The msgpack layout. ``scopes``: (venue, id space, leg) as string indices and an index into ``instruments``."""

    strings: list[str]
    scopes: list[tuple[int, int, int, int]]
    instruments: list[tuple[int, bytes]]
    tables: list[tuple[int, memoryview]]  # decoded without a copy: the columns are views of the batch's own bytes
    definitions: list[Instrument]
    accounts: list[AccountEntry]
    cursors: list[Cursor]
    notes: list[bytes] = []


class Scope(NamedTuple):
    """What a fill's trade id is unique within."""

    venue: str
    id_space: str
    leg: str
    instrument: int


class Body(NamedTuple):
    """A decoded body. ``tables`` are read-only structured arrays; indices point into ``strings``, ``scopes``, ``instruments``."""

    strings: tuple[str, ...]
    scopes: tuple[Scope, ...]
    instruments: tuple[tuple[str, bytes], ...]
    tables: Mapping[Kind, npt.NDArray[np.void]]
    definitions: tuple[Instrument, ...]
    accounts: tuple[AccountEntry, ...]
    cursors: tuple[Cursor, ...]
    notes: tuple[bytes, ...]

    def counts(self) -> tuple[tuple[int, int], ...]:
        """(kind, facts) in ascending kind, as the header states them."""
        rows = {int(kind): len(table) for kind, table in self.tables.items()}
        return count_facts(rows, len(self.definitions), len(self.accounts), len(self.notes))


_texts: dict[str, str] = {}  # not sys.intern: that takes as long as all of the decoding
_decoder = msgspec.msgpack.Decoder(WireBody)
_encoder = msgspec.msgpack.Encoder()


def count_facts(rows: Mapping[int, int], definitions: int, accounts: int, notes: int) -> tuple[tuple[int, int], ...]:
    """(kind, facts) in ascending kind. ``rows``: of each table."""
    counts = dict(rows)
    if definitions:
        counts[int(Kind.INSTRUMENT)] = definitions
    if accounts:
        counts[int(Kind.ACCOUNT)] = accounts
    if notes:
        counts[int(Kind.NOTE)] = notes
    return tuple(sorted(counts.items()))


def encode(wire: WireBody) -> bytes:
    """The bytes of a body. What ``drafting`` builds always decodes again."""
    return _encoder.encode(wire if wire.notes else msgspec.structs.astuple(wire)[:-1])


def decode(raw: bytes | memoryview) -> Body:
    """Check every rule of form and open the columns. ``InvalidBatch`` names the first thing that does not hold."""
    if len(raw) > MAX_BODY_BYTES:
        raise InvalidBatch("body", f"{len(raw)} bytes, at most {MAX_BODY_BYTES}")
    try:
        wire = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InvalidBatch("body", f"not a body: {error}") from None
    strings = _checked_strings(wire.strings)
    instruments = _checked_instruments(wire, len(strings))
    scopes = _checked_scopes(wire, strings)
    tables: dict[Kind, npt.NDArray[np.void]] = {}
    facts = len(wire.definitions) + len(wire.accounts) + len(wire.notes)
    for number, packed in wire.tables:
        kind = _kind(number)
        if tables and kind <= max(tables):
            raise InvalidBatch("body.tables", f"{kind.name} is out of order or twice")
        dtype = TABLES[kind]
        if not packed or len(packed) % dtype.itemsize:
            raise InvalidBatch(kind.name.lower(), f"{len(packed)} bytes are not whole rows of {dtype.itemsize}")
        tables[kind] = np.frombuffer(packed, dtype)
        facts += len(tables[kind])
    if facts > MAX_FACTS:
        raise InvalidBatch("body", f"{facts} facts, at most {MAX_FACTS}")
    others = tables.keys() - RIGHTS_KINDS - ORDER_KINDS or wire.definitions or wire.accounts or wire.notes
    if bool(others) + bool(tables.keys() & RIGHTS_KINDS) + bool(tables.keys() & ORDER_KINDS) > 1:
        raise InvalidBatch("body.tables", "facts that move rights, and facts about orders, share no batch with others")
    for kind, table in tables.items():
        _check_table(kind, table, strings, len(scopes), len(instruments))
    _check_entries(wire)
    return _body(wire, strings, scopes, instruments, tables)


def opened(wire: WireBody) -> Body:
    """The columns of a body that ``drafting`` built, without a look at its form. What others made is for ``decode``."""
    return _opened(wire, tuple(wire.strings))


def packed_rows(table: npt.NDArray[np.void]) -> memoryview:
    """The bytes of rows that stand one behind the other, not copied. Nobody writes to them any more."""
    return table.view(np.uint8).data


def reopened(raw: memoryview) -> Body:
    """The same of the bytes that ``encode`` gave: the columns are views of them, and texts are those of other bodies."""
    wire = _decoder.decode(raw)
    return _opened(wire, _shared(wire.strings))


def _opened(wire: WireBody, strings: tuple[str, ...]) -> Body:
    instruments = [(strings[name], definition) for name, definition in wire.instruments]
    scopes = [
        Scope(strings[venue], strings[space], strings[leg], instrument) for venue, space, leg, instrument in wire.scopes
    ]
    tables = {
        kind: np.frombuffer(packed, dtype) for number, packed in wire.tables for kind, dtype in (_COLUMNS[number],)
    }
    return _body(wire, strings, tuple(scopes), tuple(instruments), tables)


def stated_counts(wire: WireBody) -> tuple[tuple[int, int], ...]:
    """What the header of a batch of this body states."""
    rows = {number: len(packed) // TABLES[_kind(number)].itemsize for number, packed in wire.tables}
    return count_facts(rows, len(wire.definitions), len(wire.accounts), len(wire.notes))


def _body(
    wire: WireBody,
    strings: tuple[str, ...],
    scopes: tuple[Scope, ...],
    instruments: tuple[tuple[str, bytes], ...],
    tables: Mapping[Kind, npt.NDArray[np.void]],
) -> Body:
    entries = (tuple(wire.definitions), tuple(wire.accounts), tuple(wire.cursors), tuple(wire.notes))
    return Body(strings, scopes, instruments, tables, *entries)


def _kind(number: int) -> Kind:
    kind = _KINDS.get(number)
    if kind is None:
        raise InvalidBatch("body.tables", f"unknown kind {number}")
    if kind not in TABLES:
        raise InvalidBatch("body.tables", f"{kind.name} has no table")
    return kind


def _checked_strings(strings: list[str]) -> tuple[str, ...]:
    if len(strings) >= NO_STRING or len(set(strings)) != len(strings):
        raise InvalidBatch("body.strings", "too many, or one twice")
    # All at once, as a long dictionary has to be; what a control character or a length hides is then found one by one.
    together = "".join(strings)
    plain = together.isprintable() or _PRINTABLE.fullmatch(together)  # the first is stricter, and quicker
    if not plain or max(map(len, strings), default=0) > MAX_TEXT:
        for i, text in enumerate(strings):
            if not is_text(text):
                raise InvalidBatch(f"body.strings[{i}]", f"at most {MAX_TEXT} printable characters")
    return _shared(strings)


def _shared(strings: list[str]) -> tuple[str, ...]:
    """The same texts, each once for all bodies."""
    if len(_texts) + len(strings) > TEXTS_SHARED:
        _texts.clear()
    return tuple(map(_texts.setdefault, strings, strings))


def is_text(text: str) -> bool:
    """Whether ``text`` may stand in a batch: at most ``MAX_TEXT`` characters, none of them a control character."""
    return len(text) <= MAX_TEXT and _PRINTABLE.fullmatch(text) is not None


def _checked_instruments(wire: WireBody, strings: int) -> tuple[tuple[str, bytes], ...]:
    seen = set()
    for i, (name, definition) in enumerate(wire.instruments):
        if not 0 <= name < strings or len(definition) != INSTRUMENT_DIGEST_BYTES or (name, definition) in seen:
            raise InvalidBatch(f"body.instruments[{i}]", "bad name, bad digest, or twice")
        seen.add((name, definition))
    return tuple((wire.strings[name], definition) for name, definition in wire.instruments)


def _checked_scopes(wire: WireBody, strings: tuple[str, ...]) -> tuple[Scope, ...]:
    scopes = []
    for i, (venue, space, leg, instrument) in enumerate(wire.scopes):
        texts = 0 <= venue < len(strings) and 0 <= space < len(strings) and 0 <= leg < len(strings)
        if not texts or not 0 <= instrument < len(wire.instruments):
            raise InvalidBatch(f"body.scopes[{i}]", "an index points nowhere")
        scopes.append(Scope(strings[venue], strings[space], strings[leg], instrument))
    if len(set(scopes)) != len(scopes):
        raise InvalidBatch("body.scopes", "one stands twice")
    return tuple(scopes)


def _check_table(
    kind: Kind, table: npt.NDArray[np.void], strings: tuple[str, ...], scopes: int, instruments: int
) -> None:
    if len(table) == 1 and kind in (Kind.FILL, Kind.BUST) and _is_plain_fill(table.tolist()[0], len(strings), scopes):
        return
    names = table.dtype.names or ()
    where = kind.name.lower()
    # A lone row is asked as plain integers: each question to numpy takes as long as all of them do then.
    lone = dict(zip(names, table.tolist()[0], strict=True)) if len(table) == 1 else None

    def need(holds: npt.NDArray[np.bool_], column: str, why: str) -> None:
        if not holds.all():
            row = int(np.argmin(holds))
            raise InvalidBatch(f"{where}[{row}].{column}", f"{table[column][row]}: {why}")

    def ends(column: str) -> tuple[int, int]:
        if lone is not None:
            return lone[column], lone[column]
        return int(table[column].min()), int(table[column].max())

    def within(column: str, least: int, most: int, why: str) -> None:
        low, high = ends(column)  # its ends first: two passes, and no column of answers
        if low < least or high > most:
            need((table[column] >= least) & (table[column] <= most), column, why)

    for column in ("account", "asset", "credit", "source"):
        if column in names:
            within(column, 0, len(strings) - 1, "points at no string")
    if "fee_asset" in names and ends("fee_asset")[0] != NO_STRING:  # some row names one
        need(
            (table["fee_asset"] < len(strings)) | (table["fee_asset"] == NO_STRING),
            "fee_asset",
            "points at no string",
        )
    if "scope" in names:
        within("scope", 0, scopes - 1, "points at no scope")
    if "instrument" in names:
        within("instrument", 0, instruments - 1, "points at no instrument")
    for column in ("amount", "qty"):
        if column in names:
            least = 0 if kind is Kind.ACCEPT else 1
            within(column, least, MAX_AMOUNT, f"not within {least} .. 2**62")
    for column in ("price", "fee"):
        if column in names:
            least = 1 if kind in ORDER_KINDS else -MAX_AMOUNT
            within(column, least, MAX_AMOUNT, f"not within {least} .. 2**62")
    for column in ("ts_us", "expires_us"):
        if column in names:
            within(column, 0, MAX_AMOUNT, "not within 0 .. 2**62")
    if "side" in names and (lone is None or abs(lone["side"]) != 1):
        need(np.abs(table["side"]) == 1, "side", "+1 or -1")
    if "flags" in names:
        bits = int(np.bitwise_or.reduce(table["flags"])) if lone is None else lone["flags"]
        if bits & ~_ALL_BITS[kind]:
            need(table["flags"] & ~np.uint8(_ALL_BITS[kind]) == 0, "flags", "unknown flag")
        for column, flag in (("id", ID_IS_TEXT), *((name, bit) for name, (bit, _) in REFERENCES.get(kind, {}).items())):
            if bits & flag:
                _check_ids(need, table, column, flag, strings)
    if kind in ORDER_KINDS:
        check_order_columns(need, kind, table, strings)


def _is_plain_fill(row: tuple[int, ...], strings: int, scopes: int) -> bool:
    """Whether a lone fill or bust holds at a glance, as almost all do. What is wrong with another one is for the long look to say."""
    _, price, qty, fee, ts_us, scope, account, fee_asset, side, flags = row
    return (
        not flags
        and 0 <= account < strings
        and (fee_asset == NO_STRING or 0 <= fee_asset < strings)
        and 0 <= scope < scopes
        and 0 < qty <= MAX_AMOUNT
        and -MAX_AMOUNT <= price <= MAX_AMOUNT
        and -MAX_AMOUNT <= fee <= MAX_AMOUNT
        and 0 <= ts_us <= MAX_AMOUNT
        and abs(side) == 1
    )


def _check_ids(need: Need, table: npt.NDArray[np.void], column: str, flag: int, strings: tuple[str, ...]) -> None:
    text = table["flags"] & flag != 0
    need(~text | (table[column] < len(strings)), column, "points at no string")
    for index in np.unique(table[column][text]).tolist():
        if not strings[index] or canonical_number(strings[index]) is not None:
            need(
                ~(text & (table[column] == index)),
                column,
                f"{strings[index]!r} must be written as a number, or is empty",
            )


def _check_entries(wire: WireBody) -> None:
    for i, definition in enumerate(wire.definitions):
        fault = instrument_fault(definition)
        if fault is not None:
            raise InvalidBatch(f"instrument[{i}]", fault)
    for i, account in enumerate(wire.accounts):
        if not account.name or not is_text(account.name) or not is_text(account.label):
            raise InvalidBatch(f"account[{i}]", f"a name, and at most {MAX_TEXT} printable characters each")
    for i, cursor in enumerate(wire.cursors):
        if not is_cursor(cursor):
            raise InvalidBatch(f"cursors[{i}]", "a short source and non-negative numbers")
    for i, note in enumerate(wire.notes):
        if not 0 < len(note) <= MAX_NOTE_BYTES:
            raise InvalidBatch(f"notes[{i}]", f"{len(note)} bytes, not 1 to {MAX_NOTE_BYTES}")


def is_cursor(cursor: Cursor) -> bool:
    """Whether an import cursor may stand in a batch."""
    return is_text(cursor.source) and 0 <= cursor.position <= MAX_AMOUNT and 0 <= cursor.line <= MAX_AMOUNT


# -- identities ---------------------------------------------------------------------------------------------


def canonical_number(text: str) -> int | None:
    """The number that ``text`` canonically writes, or None: ``"7"`` is 7, ``"07"`` and ``"-7"`` are text."""
    if _NUMBER.fullmatch(text) is None or int(text) > MAX_NUMBER:
        return None
    return int(text)


def split_id(value: FactId) -> int | str:
    """An id in its canonical form: a number where it is one."""
    if isinstance(value, int):
        return value
    number = canonical_number(value)
    return value if number is None else number


def fact_id(body: Body, kind: Kind, row: int, column: str = "id", flag: int = ID_IS_TEXT) -> int | str:
    """The id of one row as its author gave it: a number, or the text behind the index."""
    fact = body.tables[kind][row]
    number = int(fact[column])
    return body.strings[number] if fact["flags"] & flag else number


def stated(body: Body, kind: Kind, row: int) -> tuple[int | str, ...]:
    """What one row that moves rights says, its names resolved: must be equal for two rows of one id to be the same fact."""
    fact = body.tables[kind][row]
    said: list[int | str] = []
    for column in fact.dtype.names or ():
        if column in ("account", "asset", "credit"):
            said.append(body.strings[int(fact[column])])
        elif column == "reserve":
            said.append(fact_id(body, kind, row, "reserve", REF_IS_TEXT))
        elif column not in ("id", "flags", "expires_us"):
            said.append(int(fact[column]))
    return tuple(said)


def definition_digests(body: Body) -> tuple[bytes, ...]:
    """The digest of each definition recorded in this body."""
    return tuple(instrument_digest(definition) for definition in body.definitions)
