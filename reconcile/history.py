"""Judging kept checkpoints: from height 1 on, one after the other, with nothing but the genesis.

What is shown of every height, in this order:

1. its body is a checkpoint in its one encoding, whose record binds the cut and the evidence beside it, and the store names it rightly;
2. the record is this cluster's and follows the one before;
3. each piece of evidence proves that a member's lane forks, and closes it for ever: right before the fork, or where it was settled;
4. the cut names members' lanes only and goes back on none, nor on, where one is closed;
5. the adjustments are those that the record commits to;
6. a quorum of the genesis' validators cosigned the log of exactly this many leaves, with the root that all records up to here give.
   So the log of every height is a prefix of the next one's, and no height can be replaced or left out.

What is *not* shown: that the batches of a cut settle to the state root. That takes the batches; every node did it before it put its
name to the height. Nor that there is no later height. ``decided_us`` is a node's own word and is taken as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from crdtledger.errors import InvalidBatch, InvalidProof
from crdtledger.ledger.batch import ForkEvidence, lane_text, open_evidence, parse_lane
from crdtledger.ledger.genesis import Genesis

from .adjustments import Adjustment, adjustments_root, decode_adjustments
from .certificate import Certificate, open_certificate
from .checkpoint import Checkpoint, LaneCut, decode_checkpoint
from .founding import log_origin, policy_of
from .heights import HeightRecord
from .log import MerkleLog
from .stores import StoredCheckpoint


class CertifiedCheckpoint(msgspec.Struct, frozen=True):
    """One height that holds: what was agreed on, what settling it did, who certified it, and as what it was kept."""

    checkpoint: Checkpoint
    adjustments: tuple[Adjustment, ...]
    certificate: Certificate
    stored: StoredCheckpoint

    @property
    def height(self) -> int:
        """Which height this is, from 1."""
        return self.checkpoint.height


class History:
    """The heights judged so far, of the cluster that ``genesis`` founds. Raises BadInput when it has no validator."""

    def __init__(self, genesis: Genesis) -> None:
        self.genesis = genesis
        self.log = MerkleLog()
        self._origin = log_origin(genesis)
        self._policy = policy_of(genesis)
        self._last: HeightRecord | None = None
        self._cut: dict[bytes, LaneCut] = {}
        self._closed: set[bytes] = set()

    @property
    def height(self) -> int:
        """The newest height that was judged; 0 when none was."""
        return self.log.size

    def extend(self, stored: StoredCheckpoint) -> CertifiedCheckpoint:
        """Judge the next height. Raises InvalidProof, naming the height and what does not hold; nothing has happened then."""
        try:
            return self._judge(stored)
        except InvalidProof as fault:
            raise InvalidProof(f"height {self.height + 1}: {fault.where}", fault.why) from None

    def _judge(self, stored: StoredCheckpoint) -> CertifiedCheckpoint:
        checkpoint = decode_checkpoint(stored.body)
        record = checkpoint.record
        if record.cluster != self.genesis.hash:
            raise InvalidProof("record", f"it is not of the cluster {self.genesis.cluster!r} that this genesis founds")
        if not record.follows(self._last):
            raise InvalidProof("record", f"it is of height {record.height} and does not follow height {self.height}")
        if (stored.height, stored.digest, stored.previous) != (record.height, checkpoint.digest, record.previous):
            raise InvalidProof("store", "its height, digest or predecessor is not what its body says")
        closed = self._closed_by(checkpoint.evidence)
        cut = {entry.lane: entry for entry in checkpoint.cut}
        self._check_cut(cut, closed)
        adjustments = decode_adjustments(stored.adjustments)
        if adjustments_root(adjustments) != record.adjustments_root:
            raise InvalidProof("adjustments", "they are not those that the record commits to")
        certificate = open_certificate(stored.certificate, self._policy, self._origin)
        if (certificate.head.size, certificate.head.root) != (record.height, self.log.root_with(record.encode())):
            raise InvalidProof("certificate", f"it certifies another log than the one of these {record.height} heights")
        self.log.append_hash(checkpoint.digest)
        self._last, self._cut = record, cut
        self._closed |= closed.keys()
        return CertifiedCheckpoint(checkpoint, adjustments, certificate, stored)

    def _closed_by(self, evidence: Iterable[bytes]) -> dict[bytes, ForkEvidence]:
        closed: dict[bytes, ForkEvidence] = {}
        for number, raw in enumerate(evidence, 1):
            where = f"evidence {number}"
            try:
                proof = open_evidence(raw, self.genesis)
            except InvalidBatch as fault:
                raise InvalidProof(where, fault.describe()) from None
            if proof.lane in self._closed or proof.lane in closed:
                raise InvalidProof(where, f"lane {lane_text(proof.lane, self.genesis)} is closed without it")
            closed[proof.lane] = proof
        return closed

    def _check_cut(self, cut: Mapping[bytes, LaneCut], closed: Mapping[bytes, ForkEvidence]) -> None:
        for lane in {**self._cut, **cut, **closed}:
            if parse_lane(lane).node not in self.genesis.by_id:
                raise InvalidProof("cut", f"no member has the lane {lane.hex()}")
            before, now, fork = self._cut.get(lane), cut.get(lane), closed.get(lane)
            settled, ends = (before.seq if before else 0), (now.seq if now else 0)
            name = lane_text(lane, self.genesis)
            if ends < settled or (ends == settled and before != now):
                raise InvalidProof("cut", f"lane {name} goes back on what is settled up to {settled}")
            if lane in self._closed and ends != settled:
                raise InvalidProof("cut", f"lane {name} was closed at {settled} and goes on to {ends}")
            if fork is not None and ends != max(fork.seq - 1, settled):
                raise InvalidProof("cut", f"lane {name} forks at {fork.seq} and counts up to {ends}")
