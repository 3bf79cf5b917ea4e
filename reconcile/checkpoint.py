"""A checkpoint as validators agree on it: the height's record, the cut it settles, and the evidence it takes in.

    value = msgpack [record, cut, evidence]      what is proposed, voted on, journaled and served to those who come later
    record  = the height's record (``heights``), the only thing that is certified; it binds the rest by digest
    cut     = [[lane, seq, hash], ...] sorted by lane: every lane that has a settled batch, and how far
    evidence = [bytes, ...] sorted: proofs against lanes that this height takes in (``crdtledger.ledger.batch``)

A value has one encoding; ``decode_checkpoint`` refuses any other, and a record that does not bind what is beside it. It judges form
alone: whether the cut extends the one before and settles to these roots is for who settles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec

from crdtledger.errors import InvalidProof
from crdtledger.ledger.batch import LANE_BYTES, MAX_SEQ
from crdtledger.ledger.identity import DIGEST_BYTES, digest

from .heights import HeightRecord, decode_record
from .votes import MAX_VALUE_BYTES

MAX_EVIDENCE: Final = 32
"""Pieces of evidence in one checkpoint; what is over waits for the next."""


class LaneCut(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, order=True):
    """A lane is settled up to ``seq``, whose batch has ``hash``."""

    lane: Annotated[bytes, msgspec.Meta(min_length=LANE_BYTES, max_length=LANE_BYTES)]
    seq: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)]
    hash: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]


class Checkpoint(msgspec.Struct, frozen=True):
    """One height: its record, its cut (sorted by lane) and its evidence (sorted)."""

    record: HeightRecord
    cut: tuple[LaneCut, ...]
    evidence: tuple[bytes, ...] = ()

    @property
    def height(self) -> int:
        """Which height this is, from 1."""
        return self.record.height

    @property
    def digest(self) -> bytes:
        """The 32 bytes by which batches and the next record name this checkpoint: the record's leaf hash in the log."""
        return self.record.leaf_hash()

    def encode(self) -> bytes:
        """The checkpoint's one encoding."""
        return msgspec.msgpack.encode((self.record.encode(), self.cut, self.evidence))


_decoder = msgspec.msgpack.Decoder(tuple[bytes, tuple[LaneCut, ...], tuple[bytes, ...]])


def cut_of(heads: Mapping[bytes, tuple[int, bytes]]) -> tuple[LaneCut, ...]:
    """A cut from (seq, hash) by lane; lanes without a batch are left out."""
    return tuple(LaneCut(lane, seq, hash) for lane, (seq, hash) in sorted(heads.items()) if seq)


def cut_digest(cut: Iterable[LaneCut]) -> bytes:
    """32 bytes that stand for a cut."""
    return digest("cut", msgspec.msgpack.encode(tuple(cut)))


def evidence_digest(evidence: Iterable[bytes]) -> bytes:
    """32 bytes that stand for a checkpoint's evidence."""
    return digest("checkpoint-evidence", msgspec.msgpack.encode(tuple(evidence)))


def decode_checkpoint(raw: bytes) -> Checkpoint:
    """A checkpoint from its bytes. Raises InvalidProof unless they are its one encoding and its record binds the rest."""
    where = "checkpoint"
    if len(raw) > MAX_VALUE_BYTES:
        raise InvalidProof(where, f"{len(raw)} bytes are more than {MAX_VALUE_BYTES}")
    try:
        record, cut, evidence = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as fault:
        raise InvalidProof(where, f"it is not a record, a cut and evidence: {fault}") from None
    checkpoint = Checkpoint(decode_record(record), cut, evidence)
    lanes = [entry.lane for entry in cut]
    if lanes != sorted(set(lanes)):
        raise InvalidProof(where, "its cut is not sorted by lane, or a lane stands in it twice")
    if list(evidence) != sorted(set(evidence)) or len(evidence) > MAX_EVIDENCE:
        raise InvalidProof(where, f"its evidence is not sorted, stands twice, or is more than {MAX_EVIDENCE} pieces")
    if checkpoint.record.cut != cut_digest(cut) or checkpoint.record.evidence != evidence_digest(evidence):
        raise InvalidProof(where, "its record is of another cut or other evidence")
    if checkpoint.encode() != raw:
        raise InvalidProof(where, "it is not in its one encoding")
    return checkpoint
