"""Bodies and headers of any sense, sealed with a member's key: the replica answers, and its views can always be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tests.fuzz.driving import Draw, imports, run

with imports():
    from crdtledger.errors import InvalidBatch
    from crdtledger.ledger import batch as batches
    from crdtledger.ledger.body import AccountEntry, Cursor, WireBody
    from crdtledger.ledger.drafting import draft_facts
    from crdtledger.ledger.facts import ORDER_KINDS, RIGHTS_KINDS, TABLES, Account, Fact, Instrument
    from crdtledger.ledger.noteform import STATUSES, Entry, encode_entry, update_of
    from crdtledger.ledger.reference import instrument_digest
    from crdtledger.ledger.replica import Replica
    from tests.crdtledger.worlds import INVERSE, SPOT, Pen, genesis, header_for, seal_raw, sign_raw

FOUNDED = genesis(3)
NAMES = ["A", "B", "USDT", "BTC", SPOT.name, INVERSE.name, "v", "trade", "", "x", "no such", "1", "0a" * 32]
ACCOUNTS: list[Fact] = [Account(name="A"), Account(name="B"), SPOT, INVERSE]
DIGESTS = [instrument_digest(SPOT), instrument_digest(INVERSE), bytes(16), b"short"]
BREAKS = ["0" * 16, "f" * 16, "x"]
ENCODE = msgspec.msgpack.Encoder().encode


def body_of(draw: Draw) -> WireBody:
    """A body whose every field is the fuzzer's."""
    tables = []
    group = draw.one_of((RIGHTS_KINDS, ORDER_KINDS, TABLES.keys() - RIGHTS_KINDS - ORDER_KINDS))
    kinds = [kind for kind in TABLES if kind in group]
    for _ in range(draw.integer(0, 3)):
        kind = draw.one_of(kinds if draw.integer(0, 15) else list(TABLES))
        rows = draw.integer(1, 4)
        columns: Mapping[str, Any] = TABLES[kind].fields or {}
        packed = bytearray(rows * TABLES[kind].itemsize)
        for row in range(rows):
            for dtype, offset, *_ in columns.values():
                if draw.integer(0, 5):  # mostly something that may hold
                    value = draw.integer(0, 3)
                elif dtype.itemsize == 1:
                    value = draw.integer(-1, 255) & 0xFF
                else:
                    value = draw.number() & ((1 << (8 * dtype.itemsize)) - 1)
                at = row * TABLES[kind].itemsize + offset
                packed[at : at + dtype.itemsize] = value.to_bytes(dtype.itemsize, "little")
        if draw.integer(0, 15) == 0:
            packed += b"?"
        number = int(kind) if draw.integer(0, 15) else draw.integer(0, 64)
        tables.append((number, memoryview(bytes(packed))))
    if draw.integer(0, 7):
        tables.sort(key=lambda table: table[0])
    strings = NAMES if draw.integer(0, 31) else NAMES[1:]
    scopes = [(6 - n, 7, 8, draw.integer(0, 1)) for n in range(4)]
    instruments = [(4, DIGESTS[0]), (5, draw.one_of(DIGESTS[:3]))]
    if draw.integer(0, 15) == 0:
        scopes.append((draw.integer(0, 20), draw.integer(0, 20), draw.integer(0, 20), draw.integer(0, 3)))
        instruments.append((draw.integer(0, 20), draw.one_of(DIGESTS)))
    definitions = [instrument_of(draw) for _ in range(draw.integer(0, 1))]
    entries = [AccountEntry(draw.one_of(NAMES), draw.one_of(NAMES)) for _ in range(draw.integer(0, 1))]
    cursors = [Cursor(draw.one_of(NAMES), draw.integer(0, 9), draw.integer(0, 9)) for _ in range(draw.integer(0, 1))]
    notes = [note_of(draw) for _ in range(draw.integer(0, 7) // 6)]
    return WireBody(strings, scopes, instruments, tables, definitions, entries, cursors, notes)


def note_of(draw: Draw) -> bytes:
    """An update near one that the board takes in some lane."""
    lane = Pen(FOUNDED, draw.integer(0, 1), draw.integer(2, 3)).lane.key
    field, text = draw.integer(-1, 4), draw.one_of((*NAMES, *STATUSES))
    over = tuple(bytes([n]) * 16 for n in range(draw.integer(0, 3)))
    update = update_of(lane, draw.integer(0, 3), encode_entry(Entry(draw.one_of(BREAKS), field, text, over)))
    if draw.integer(0, 3) == 0:
        at = draw.integer(0, len(update) - 1)
        update = update[:at] + draw.bytes(2) + update[at + draw.integer(0, 4) :]
    return update


def instrument_of(draw: Draw) -> Instrument:
    """A definition near one that stands."""
    base = draw.one_of((SPOT, INVERSE))
    names = ("price_decimals", "qty_decimals", "contract_size", "contract_decimals", "expiry_us", "strike")
    changed = {name: draw.integer(0, 18) for name in names if draw.integer(0, 3) == 0}
    if draw.integer(0, 7) == 0:
        changed[draw.one_of(names)] = max(-(1 << 63), min(draw.number(), (1 << 64) - 1))
    kind = draw.one_of(("spot", "perp", "future", "option"))
    made: Instrument = msgspec.structs.replace(base, type=kind, inverse=bool(draw.integer(0, 1)), **changed)
    return made


def one(data: bytes) -> None:
    """Some batches of two members, on any of a few lanes, in the order they are drawn."""
    draw = Draw(data)
    replica = Replica(FOUNDED, documents=False)
    opening = Pen(FOUNDED, 0)
    (reference,) = draft_facts(ACCOUNTS, lambda name: b"", lambda name: 0)
    replica.admit(opening.seal(reference).raw)
    pens = [Pen(FOUNDED, node, epoch) for node in (0, 1) for epoch in (2, 3)]
    for _ in range(draw.integer(1, 5)):
        pen = draw.one_of(pens)
        wire = body_of(draw)
        try:
            raw = ENCODE(wire)
        except (OverflowError, UnicodeEncodeError):
            continue
        if draw.integer(0, 7) == 0:
            at = draw.integer(0, len(raw) - 1)
            raw = raw[:at] + draw.bytes(4) + raw[at + draw.integer(0, 4) :]
        try:
            sealed = pen.seal(wire, clock=draw.one_of((1, 2, 3, 1 << 62, (1 << 63) - 1))).raw
        except InvalidBatch:
            sealed = seal_raw(pen, raw)
        if draw.integer(0, 31) == 0:
            field = draw.one_of(batches.Header.__struct_fields__)
            value = draw.one_of((0, 1, -1, b"", bytes(32), (1 << 63) - 1, (1 << 64) - 1, (0, b""), ((1, 1),), ((), ())))
            header = msgspec.to_builtins(header_for(pen, raw), builtin_types=(bytes,))
            header[batches.Header.__struct_fields__.index(field)] = value
            sealed = sign_raw(pen, ENCODE(header), raw)
        replica.admit(sealed)
        replica.admit_evidence(sealed)
    assert replica.break_count() == len(replica.breaks())
    replica.view.canonical()
    replica.check_invariants()


if __name__ == "__main__":
    run(one)
