"""Histories that never ran: a founded cluster's checkpoints, cut, settled and certified out of thin air, as a store keeps them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from crdtledger.ledger.batch import Lane
from crdtledger.ledger.genesis import Asset, Genesis, Member
from reconcile.adjustments import Adjustment, adjustments_root, encode_adjustments
from reconcile.certificate import LogHead, assemble, cosign
from reconcile.checkpoint import Checkpoint, LaneCut, cut_digest, evidence_digest
from reconcile.founding import log_origin, policy_of
from reconcile.heights import NONE, HeightRecord
from reconcile.log import MerkleLog
from reconcile.stores import StoredCheckpoint, stored_checkpoint

from .signers import NODES, NOON_S, identity

CURVES = tuple(digit * 40 for digit in "1234")
MEMBERS = tuple(
    Member(name, identity(name).public_key.hex(), curve, f"inproc://{name}")
    for name, curve in zip(NODES, CURVES, strict=True)
)
GENESIS = Genesis("desk", "0" * 32, MEMBERS, (Asset("USDT", 8),))
VOIDED = Adjustment("voided", "overspends", Lane(MEMBERS[0].id, 1, b"n" * 8).key, 1, 0, 3)


def lane(node: int = 0, epoch: int = 1) -> bytes:
    """A lane of the node at this place."""
    return Lane(MEMBERS[node].id, epoch, b"n" * 8).key


def batch_name(which: bytes, seq: int) -> bytes:
    """The hash of a batch that nobody wrote."""
    return (which + seq.to_bytes(10, "big"))[-32:].rjust(32, b"h")


def cut_at(*ends: tuple[bytes, int]) -> tuple[LaneCut, ...]:
    """A cut of these lanes."""
    return tuple(LaneCut(which, seq, batch_name(which, seq)) for which, seq in sorted(ends))


class Chain:
    """Checkpoints one upon the other. ``add`` settles another height and certifies it."""

    def __init__(self, genesis: Genesis = GENESIS, salt_version: int = 1) -> None:
        self.genesis = genesis
        self.log = MerkleLog()
        self.records: list[HeightRecord] = []
        self.stored: list[StoredCheckpoint] = []
        self._salt_version = salt_version

    def checkpoint(
        self,
        cut: tuple[LaneCut, ...],
        evidence: Sequence[bytes] = (),
        adjustments: Sequence[Adjustment] = (),
        state_root: bytes = b"s" * 32,
        liabilities: bytes = b"l" * 32,
    ) -> Checkpoint:
        """The next height, not added yet."""
        record = HeightRecord(
            self.genesis.hash,
            len(self.records) + 1,
            self.records[-1].leaf_hash() if self.records else NONE,
            cut_digest(cut),
            evidence_digest(sorted(evidence)),
            state_root,
            adjustments_root(adjustments),
            liabilities,
            self._salt_version,
        )
        return Checkpoint(record, cut, tuple(sorted(evidence)))

    def add(
        self, checkpoint: Checkpoint, adjustments: Sequence[Adjustment] = (), names: Sequence[str] = NODES[:3]
    ) -> StoredCheckpoint:
        """Certify ``checkpoint`` by ``names`` and append it."""
        self.log.append(checkpoint.record.encode())
        self.records.append(checkpoint.record)
        head = LogHead(log_origin(self.genesis), self.log.size, self.log.root())
        lines = [cosign(head, name, identity(name), NOON_S + place) for place, name in enumerate(names)]
        certificate = assemble(head, lines, policy_of(self.genesis))
        raw = encode_adjustments(adjustments)
        self.stored.append(stored_checkpoint(checkpoint.encode(), raw, certificate, NOON_S * 1_000_000))
        return self.stored[-1]

    def grow(self, heights: int = 1, adjustments: Sequence[Adjustment] = (VOIDED,)) -> Chain:
        """Settle so many more heights, a batch of the first two nodes' lanes each; itself."""
        for _ in range(heights):
            seq = len(self.records) + 1
            cut = cut_at((lane(0), seq), (lane(1), seq))
            self.add(self.checkpoint(cut, adjustments=adjustments), adjustments)
        return self


def changed(stored: StoredCheckpoint, **fields: object) -> StoredCheckpoint:
    """The same with other fields."""
    return msgspec.structs.replace(stored, **fields)
