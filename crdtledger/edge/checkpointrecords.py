"""What a journal remembers of checkpoints: decisions, certificates, snapshots of the settled state.

    KIND_CHECKPOINT, seq = height, hash = the checkpoint's digest:
        Decided(value, precommits, decided_us)      this node saw the validators decide it
        Adopted(value, certificate, decided_us)     this node learnt of it by its certificate
        Certificate(certificate)                    the certificate of a height that is journaled already
    KIND_STATE, seq = height, hash = the checkpoint's digest:
        one part of a snapshot: the height, certified, the log's leaf hashes and the settled state, so that what is older can go
    KIND_VOTE, seq = height: what this validator signed (``reconcile.votejournal``)

Records are this node's own words, under the journal's checksums. What they say of a height is settled anew all the same when they
are read, and its roots are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from crdtledger.errors import BadInput
from crdtledger.ledger.journalrecord import KIND_CHECKPOINT, KIND_STATE, KIND_VOTE, JournalRecord, Prune
from crdtledger.ledger.retention import Retention
from reconcile.log import HASH_BYTES
from reconcile.votes import Vote

PART_BYTES: Final = 512 * 1024


class Decided(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A quorum precommitted ``value``, as this node saw at ``decided_us``."""

    value: bytes
    precommits: tuple[Vote, ...]
    decided_us: int


class Adopted(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """``value`` came with a certificate at ``decided_us``."""

    value: bytes
    certificate: bytes
    decided_us: int


class Certificate(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The certificate of a height that is in the journal already."""

    certificate: bytes


CheckpointBody: TypeAlias = Decided | Adopted | Certificate


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """Where a node stood after ``height``: the height's value and certificate, every leaf hash of the log up to it, how many facts were
    adjusted so far by cause, the settled state."""

    height: int
    digest: bytes
    value: bytes
    certificate: bytes
    leaves: bytes
    counts: dict[str, int]
    state: bytes

    def leaf_hashes(self) -> list[bytes]:
        """The log's leaf hashes, which are the checkpoints' digests, from height 1 on."""
        return [self.leaves[at : at + HASH_BYTES] for at in range(0, len(self.leaves), HASH_BYTES)]


class _Part(msgspec.Struct, frozen=True, array_like=True):
    number: int
    of: int
    content: bytes


_encode = msgspec.msgpack.Encoder().encode
_bodies: msgspec.msgpack.Decoder[CheckpointBody] = msgspec.msgpack.Decoder(CheckpointBody)
_parts = msgspec.msgpack.Decoder(_Part)
_snapshots = msgspec.msgpack.Decoder(Snapshot)


def checkpoint_record(height: int, digest: bytes, body: CheckpointBody) -> JournalRecord:
    """The record of a height's decision or certificate."""
    return JournalRecord(KIND_CHECKPOINT, b"", height, digest, _encode(body))


def read_checkpoint(record: JournalRecord) -> CheckpointBody:
    """What a record of KIND_CHECKPOINT says. Raises BadInput."""
    try:
        return _bodies.decode(record.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(what=f"checkpoint {record.seq}", where="journal", why=str(error)) from None


def snapshot_records(snapshot: Snapshot) -> list[JournalRecord]:
    """The snapshot in parts of ``PART_BYTES``."""
    raw = _encode(snapshot)
    parts = [raw[at : at + PART_BYTES] for at in range(0, len(raw), PART_BYTES)]
    return [
        JournalRecord(KIND_STATE, b"", snapshot.height, snapshot.digest, _encode(_Part(number, len(parts), part)))
        for number, part in enumerate(parts)
    ]


def prunable(height: int, lanes: Mapping[bytes, int], retention: Retention) -> Prune:
    """What a snapshot of ``height``, where lanes were settled up to ``lanes``, lets go of: its heights, and of its batches those that
    need not be served any more. The newest of each lane stays: it is what proves a fork right above the cut."""
    gone = {lane: min(retention.floor(lane), seq - 1) for lane, seq in lanes.items()}
    below = {KIND_CHECKPOINT: height + 1, KIND_VOTE: height + 1, KIND_STATE: height}
    return Prune({lane: seq for lane, seq in gone.items() if seq > 0}, below)


def snapshot_to_start_from(records: Sequence[JournalRecord], stored: Callable[[int], bool]) -> Snapshot | None:
    """The newest snapshot of which all parts are there, and whose height is ``stored``. Raises BadInput when its parts do not make one.

    Heights reach the store after the journal. A power cut in between leaves a snapshot of heights that the store lacks, and what is below a
    snapshot is not settled again. So an older one is taken, or none, as long as the journal still holds every height above it: nothing is
    pruned before the store has it."""
    parts: dict[int, dict[int, _Part]] = {}
    kept: set[int] = set()
    try:
        for record in records:
            if record.kind == KIND_STATE:
                part = _parts.decode(record.body)
                if not part.number:
                    parts.pop(record.seq, None)  # written anew: what was torn off before may have been cut otherwise
                parts.setdefault(record.seq, {})[part.number] = part
            elif record.kind == KIND_CHECKPOINT:
                kept.add(record.seq)
        whole = [height for height, found in parts.items() if len(found) == next(iter(found.values())).of]
        if not whole:
            return None
        height = max(whole)
        reached = max((one for one in whole if stored(one)), default=0)
        if kept.issuperset(range(reached + 1, height + 1)):
            height = reached
        if not height:
            return None
        found = parts[height]
        return _snapshots.decode(b"".join(found[number].content for number in range(len(found))))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise BadInput(what="snapshot", where="journal", why=str(error)) from None
