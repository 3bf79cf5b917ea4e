"""A note: what it says, and the Yjs update that carries it.

The board is one Yjs document: a root Array ``board`` with one element of bytes per note. Every lane writes as a client of its own, only
ever appends, and leans on nothing but its own notes before. So there is exactly one update that may come next in a lane with a given
note in it, and ``read`` takes that one and no other, byte for byte. An update that deletes, that writes under somebody else's client id,
that leaves a gap or leans on what nobody has is therefore none of ours. It is told apart here, by its bytes, and never reaches yrs:
what yrs makes of mutated updates (it accepts most, and panics at some) cannot matter, and neither can which version of it a node runs
(decision 0019). Encoding: Yjs update, version 1, one struct of ContentAny with one buffer.

What a note says is an ``Entry``, in one encoding: which break, which field, the text, and the names of the notes that it replaces.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from crdtledger.ledger.facts import MAX_TEXT
from crdtledger.ledger.identity import digest
from crdtledger.ledger.yjs import client_of, varint

MAX_NOTE_TEXT: Final = 4_000
"""Characters of a comment or a resolution."""
MAX_OVER: Final = 16
"""So many notes one note may replace; if more stand beside each other, it takes a second one."""
NAME_BYTES: Final = 16

ROOT: Final = "board"
COMMENT: Final = "comment"
FIELDS: Final = ("owner", "status", "resolution", COMMENT)
"""What is noted, by number in an entry. All but comments are replaced by a later note of the same break and field."""
STATUSES: Final = ("open", "acknowledged", "in progress", "resolved", "reopened")

_BREAK_ID: Final = re.compile(r"[0-9a-f]{16}")
_LINE: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]*")
_TEXT: Final = re.compile(r"[^\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]*")  # lines may break
_ROOT_PARENT: Final = b"\x01" + bytes([len(ROOT)]) + ROOT.encode()
_CONTENT_ANY: Final = 8
_HAS_ORIGIN: Final = 0x80
_ONE_BUFFER: Final = b"\x01\x74"
_NO_DELETIONS: Final = b"\x00"


class Entry(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a note says. ``field``: its number in ``FIELDS``. ``over``: names of the notes that it replaces, ascending."""

    break_id: str
    field: int
    text: str
    over: tuple[bytes, ...] = ()


_entries = msgspec.msgpack.Decoder(Entry)
_encoder = msgspec.msgpack.Encoder()


def fault(break_id: str, field: str, text: str) -> tuple[str, str] | None:
    """What is wrong with a note: the part of it, and the rule; None when it may stand."""
    if _BREAK_ID.fullmatch(break_id) is None:
        return "break_id", "the 16 hex digits that name a break in a report"
    if field == "status":
        return None if text in STATUSES else ("text", f"one of {', '.join(STATUSES)}")
    if field == "owner":
        short = len(text) <= MAX_TEXT and _LINE.fullmatch(text) is not None
        return None if short else ("text", f"at most {MAX_TEXT} printable characters")
    if len(text) > MAX_NOTE_TEXT or _TEXT.fullmatch(text) is None:
        return "text", f"at most {MAX_NOTE_TEXT} printable characters; lines may break"
    return ("text", "a comment says something") if field == COMMENT and not text.strip() else None


def encode_entry(entry: Entry) -> bytes:
    """An entry's one encoding."""
    return _encoder.encode(entry)


def decode_entry(raw: bytes) -> Entry | None:
    """The entry, or None for bytes that are none, or not in its one encoding, or that say what no note may."""
    try:
        entry = _entries.decode(raw)
        canonical = _encoder.encode(entry) == raw
    except (msgspec.DecodeError, UnicodeError, RecursionError, ValueError, OverflowError):
        return None
    if not canonical or not 0 <= entry.field < len(FIELDS):
        return None
    field = FIELDS[entry.field]
    most = 0 if field == COMMENT else MAX_OVER
    named = len(entry.over) <= most and all(len(name) == NAME_BYTES for name in entry.over)
    if not named or list(entry.over) != sorted(set(entry.over)):
        return None
    return entry if fault(entry.break_id, field, entry.text) is None else None


def note_name(lane: bytes, number: int, entry: bytes) -> bytes:
    """What other notes call the note ``number`` (from 0) of a lane. It covers what the note replaces, so no two replace each other."""
    return digest("note-name", lane, number.to_bytes(8, "big"), entry)[:NAME_BYTES]


# -- updates --------------------------------------------------------------------------------------------------


def board_client(lane: bytes) -> int:
    """The Yjs client id under which a lane writes on the board: 53 bits of its digest, never 0."""
    return client_of("board-client", lane)


def update_of(lane: bytes, number: int, entry: bytes) -> bytes:
    """The update that appends ``entry`` as the note ``number`` of its lane."""
    return _before(lane, number) + varint(len(entry)) + entry + _NO_DELETIONS


def read(lane: bytes, number: int, update: bytes) -> bytes | None:
    """The entry's bytes in the update that is to be the note ``number`` of a lane; None for any other bytes."""
    start = _before(lane, number)
    if not update.startswith(start):
        return None
    for width in (1, 2, 3):  # of the length: an update is short
        at = len(start) + width
        length = len(update) - len(_NO_DELETIONS) - at
        if length > 0 and update[len(start) : at] == varint(length) and update.endswith(_NO_DELETIONS):
            entry = update[at : at + length]
            return entry if decode_entry(entry) is not None else None
    return None


def _before(lane: bytes, number: int) -> bytes:
    """One client, one struct, and what the note hangs on: the note before it, or the root."""
    client = varint(board_client(lane))
    start = b"\x01\x01" + client + varint(number)
    if number == 0:
        return start + bytes([_CONTENT_ANY]) + _ROOT_PARENT + _ONE_BUFFER
    return start + bytes([_CONTENT_ANY | _HAS_ORIGIN]) + client + varint(number - 1) + _ONE_BUFFER
