"""What one journal entry says: the record that the node core persists and gets back at the next start.

The core (pure) emits ``Persist(position, records)`` with each record encoded by ``encode_record``; the journal (impure)
decodes it to have an index, stores it, and yields it again in order as an ``Entry``. Encoding is deterministic, so
``encode_record(decode_record(raw)) == raw`` for whatever ``encode_record`` made. ``Prune`` names records that nobody needs
any more.

Rules: records are opaque to the journal but for their names; a kind that this version does not know is stored and
replayed like any other. Not here: files, SQLite, locks (``journalfile``, ``journal``).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Annotated

import msgspec

KIND_BATCH = 1
"""``body`` is a batch of ``lane`` at ``seq``; ``hash`` is its hash."""

KIND_EVIDENCE = 2
"""``body`` is transferable proof about ``lane``; ``hash`` is its digest."""

KIND_META = 3
"""Whatever else the core wants to find again (an epoch it opened)."""

KIND_CHECKPOINT = 4
"""A checkpoint that this node adopted: ``seq`` is its height, ``hash`` its digest, ``lane`` empty."""

KIND_VOTE = 5
"""A vote of this node, written down before it is sent: ``seq`` is its height, ``lane`` empty."""

KIND_STATE = 6
"""The settled state at a checkpoint, or a piece of it: ``seq`` is its height, ``hash`` the checkpoint's digest, ``lane`` empty.
A start needs the newest whole one, and the records after it."""

KIND_PRUNED = -1
"""Not a record: what the journal's file puts in place of rows that were pruned (decision 0014)."""

BODY_BYTES_MAX = 512 * 1024 * 1024
"""SQLite takes blobs below 10^9 bytes, and a record is in memory as a whole: what is large comes in pieces."""

INTEGER_MAX = 2**63 - 1
"""SQLite's integers are signed 64 bits: the bound of positions, kinds and seqs."""

CHAIN_BYTES = 8
CHAIN_START = bytes(CHAIN_BYTES)

_Natural = Annotated[int, msgspec.Meta(ge=0, le=INTEGER_MAX)]
_LINK = struct.Struct(">QQQQQQQ")
_PRUNED = struct.Struct(">QQQQ")


class JournalRecord(msgspec.Struct, frozen=True, array_like=True):
    """One record. ``kind`` and ``seq`` are 0 .. 2**63-1; ``lane`` and ``hash`` may be empty when a kind has none."""

    kind: _Natural
    lane: bytes
    seq: _Natural
    hash: bytes
    body: bytes


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """A record where the journal holds it. Records that were persisted together share one position."""

    position: int
    record: JournalRecord


class Prune(msgspec.Struct, frozen=True):
    """Records that are needed no more. ``batches``: of each lane those up to and including a seq. ``kinds``: of each kind
    those below a seq (a height); only records that name no lane."""

    batches: Mapping[bytes, int] = {}
    kinds: Mapping[int, int] = {}


class UnreadableRecord(msgspec.Struct, frozen=True):
    """The refusal of ``decode_record``: what is wrong, and where in the bytes."""

    reason: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(JournalRecord)


def encode_record(record: JournalRecord) -> bytes:
    """The record as the opaque bytes of ``Persist.records``."""
    return _encoder.encode(record)


def decode_record(raw: bytes) -> JournalRecord | UnreadableRecord:
    """The record in ``raw``, or why there is none. Never raises, whatever the bytes."""
    try:
        return _decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        return UnreadableRecord(str(error))


def link(previous: bytes, row: int, position: int, remaining: int, record: JournalRecord) -> bytes:
    """The 8-byte checksum of a row, chained to the row before it.

    It covers every column, with lengths, so that an altered, exchanged or missing row breaks the chain from there
    on. It finds accidents, not attackers: the batches' own signatures do that.
    """
    digest = hashlib.blake2b(previous, digest_size=CHAIN_BYTES)
    lengths = (len(record.lane), len(record.hash), len(record.body))
    digest.update(_LINK.pack(row, position, remaining, record.kind, record.seq, lengths[0], lengths[1]))
    digest.update(record.lane)
    digest.update(record.hash)
    digest.update(record.body)
    return digest.digest()


def pruned_seal(first: int, last: int, position: int, remaining: int, chain: bytes) -> bytes:
    """The 8-byte checksum of the row that stands for rows ``first..last``, and goes on with what the last of them said."""
    digest = hashlib.blake2b(chain, digest_size=CHAIN_BYTES, person=b"pruned")
    digest.update(_PRUNED.pack(first, last, position, remaining))
    return digest.digest()
