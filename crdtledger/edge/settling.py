"""What a node makes of checkpoints itself: the one it would propose, and its own judgement on anybody else's.

Both come down to the same: collect the cut's batches, settle them on the last height's state, compare roots. A value is judged by
what it says alone, so that all honest nodes judge alike: that it follows the last height, settles something and not too much, and
gives the roots that it names. Who proposed it does not matter.

A proposal takes what is durable here in the order in which it was applied: so it is causally closed, whatever its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from crdtledger.edge.adapter import GossipReplica
from crdtledger.errors import BadCut, InvalidBatch, InvalidProof
from crdtledger.ledger.batch import Batch, ForkEvidence, open_evidence, parse_lane
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.outcome import Missing
from crdtledger.ledger.replica import Replica
from reconcile.checkpoint import (
    MAX_EVIDENCE,
    Checkpoint,
    LaneCut,
    cut_digest,
    cut_of,
    decode_checkpoint,
    evidence_digest,
)
from reconcile.commitments import Commitments
from reconcile.cuts import OPEN, fitting_evidence
from reconcile.heights import NONE, HeightRecord
from reconcile.salts import Salts
from reconcile.settlement import Settlement, settle

MAX_CUT_FACTS: Final = 100_000
"""Facts in a proposal. A single batch may have more."""

MAX_CUT_BATCHES: Final = 20_000
"""Batches in a proposal. Values with more are not valid: judging one must come to an end."""


class Settled(NamedTuple):
    """A checkpoint that holds, and what it comes to."""

    checkpoint: Checkpoint
    value: bytes
    settlement: Settlement
    commitments: Commitments


class Settling:
    """Stands on ``record`` (None: on the genesis) and ``commitments``, which are those of the replica's base."""

    def __init__(
        self,
        genesis: Genesis,
        salts: Salts,
        replica: Replica,
        gossiped: GossipReplica,
        record: HeightRecord | None,
        hash_salt: int,
    ) -> None:
        self.record = record
        if record is None:
            self.commitments = Commitments.empty(genesis, salts)
        else:
            self.commitments = Commitments.rebuild(genesis, salts, replica.state)
        self._genesis = genesis
        self._salts = salts
        self._replica = replica
        self._gossiped = gossiped
        self._hash_salt = hash_salt
        self._opened: dict[bytes, ForkEvidence] = {}  # evidence in force, by its digest

    @property
    def height(self) -> int:
        """The height that is settled here."""
        return self.record.height if self.record else 0

    def adopt(self, settled: Settled) -> None:
        """``settled`` is the next height."""
        self.record = settled.checkpoint.record
        self.commitments = settled.commitments

    def jump(self, record: HeightRecord, commitments: Commitments) -> None:
        """Stand on a height that was not settled here."""
        self.record, self.commitments = record, commitments

    # -- proposing ------------------------------------------------------------------------------------------

    def news(self) -> bool:
        """Whether there is anything durable here that no checkpoint has taken in."""
        if next(self._durable(), None) is not None:
            return True
        return bool(self._fitting(self._heads([])))

    def propose(self) -> Settled | None:
        """What this node would have the next height be; None when there is nothing to settle."""
        batches = list(self._durable())
        while True:
            settled = self._proposal(batches)
            if settled is not None or not batches:
                return settled
            # Deps beyond a fork whose evidence does not fit yet: what came before them does settle.
            batches = batches[: len(batches) // 2]

    def _durable(self) -> Iterator[Batch]:
        """Unsettled batches that are durable, in the order in which they were applied, as many as one cut may have."""
        heads = self._gossiped.heads()
        facts = 0
        for count, batch in enumerate(self._replica.batches()):
            head = heads.get(batch.key)
            facts += batch.facts
            if head is None or batch.seq > head.seq or count >= MAX_CUT_BATCHES or (count and facts > MAX_CUT_FACTS):
                return
            yield batch

    def _heads(self, batches: Sequence[Batch]) -> dict[bytes, tuple[int, bytes]]:
        heads = {lane: (settled.seq, settled.hash) for lane, settled in self._replica.state.lanes.items()}
        heads.update((batch.key, (batch.seq, batch.hash)) for batch in batches)
        return heads

    def _fitting(self, heads: Mapping[bytes, tuple[int, bytes]]) -> list[ForkEvidence]:
        held, lanes = self._replica.evidence(), self._replica.state.lanes
        self._opened = {name: self._opened.get(name) or open_evidence(raw, self._genesis) for name, raw in held.items()}
        open_lanes = [proof for proof in self._opened.values() if not lanes.get(proof.lane, OPEN).closed]
        if not open_lanes:
            return []
        return fitting_evidence(self._replica.state, cut_of(heads), open_lanes)[:MAX_EVIDENCE]

    def _proposal(self, batches: Sequence[Batch]) -> Settled | None:
        heads = self._heads(batches)
        evidence = self._fitting(heads)
        if not batches and not evidence:
            return None
        cut = cut_of(heads)
        try:
            settlement = self._settle(cut, batches, evidence)
        except BadCut:
            return None
        commitments = self.commitments.advance(settlement)
        proofs = tuple(proof.raw for proof in evidence)
        record = HeightRecord(
            cluster=self._genesis.hash,
            height=self.height + 1,
            previous=self._previous,
            cut=cut_digest(cut),
            evidence=evidence_digest(proofs),
            state_root=commitments.state_root,
            adjustments_root=settlement.adjustments_root,
            liabilities=commitments.liabilities,
            salt_version=self._salts.version,
        )
        checkpoint = Checkpoint(record, cut, proofs)
        return Settled(checkpoint, checkpoint.encode(), settlement, commitments)

    # -- judging --------------------------------------------------------------------------------------------

    def judge(self, value: bytes) -> Settled | Missing | str:
        """What ``value`` comes to as the next height; the batches that are missing to tell; or why it does not hold."""
        try:
            checkpoint = decode_checkpoint(value)
            evidence = [open_evidence(raw, self._genesis) for raw in checkpoint.evidence]
        except (InvalidProof, InvalidBatch) as fault:
            return str(fault)
        record = checkpoint.record
        if record.cluster != self._genesis.hash or not record.follows(self.record):
            return f"height {record.height} does not follow what is settled here"
        if record.salt_version != self._salts.version:
            return f"it is salted with version {record.salt_version} of the secret, here it is {self._salts.version}"
        cut_fault = self._cut_fault(checkpoint)
        if cut_fault:
            return cut_fault
        batches = self._replica.collect(checkpoint.cut)
        if isinstance(batches, Missing):
            return batches
        if len(batches) > 1 and sum(batch.facts for batch in batches) > MAX_CUT_FACTS:
            return f"it settles more than {MAX_CUT_FACTS} facts at a time"
        try:
            settlement = self._settle(checkpoint.cut, batches, evidence)
        except BadCut as bad:
            return str(bad)
        commitments = self.commitments.advance(settlement)
        roots = (commitments.state_root, settlement.adjustments_root, commitments.liabilities)
        if roots != (record.state_root, record.adjustments_root, record.liabilities):
            return "it does not settle to the roots that it names"
        return Settled(checkpoint, value, settlement, commitments)

    def _cut_fault(self, checkpoint: Checkpoint) -> str:
        """Why the cut cannot be collected, or settles nothing, or too much."""
        lanes = self._replica.state.lanes
        batches = 0
        for entry in checkpoint.cut:
            settled = lanes.get(entry.lane, OPEN)
            if parse_lane(entry.lane).node not in self._genesis.by_id or entry.seq < settled.seq:
                return "its cut names a stranger's lane, or goes back on one"
            if settled.closed and entry.seq != settled.seq:
                return "its cut moves a lane that is closed"
            batches += entry.seq - settled.seq
        if batches > MAX_CUT_BATCHES:
            return f"it settles {batches} batches, at most {MAX_CUT_BATCHES} at a time"
        return "" if batches or checkpoint.evidence else "it settles nothing"

    def _settle(
        self, cut: tuple[LaneCut, ...], batches: Sequence[Batch], evidence: Sequence[ForkEvidence]
    ) -> Settlement:
        parts = (self._genesis, self._replica.state, self._previous, cut, batches, evidence, self._hash_salt)
        return settle(*parts, height=self.height + 1)

    @property
    def _previous(self) -> bytes:
        return self.record.leaf_hash() if self.record else NONE
