"""The ledger's replica as gossip sees it: opaque batches, durable heads, and a note of what came in.

Gossip calls ``admit`` while it handles a frame; the core afterwards takes what was applied (``take_fresh``) and persists
it. Heads and ranges speak of what is durable only: a batch counts from the moment its journal position was synced.

A rebase prunes what is settled, and loses no head by it: the cut of a lane is a head like any other, and ranges go on being served
across it for as long as the replica, or the journal, keeps settled batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

from crdtledger.errors import InvalidBatch
from crdtledger.ledger import replica as ledger
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.frontier import LaneHead
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.settled import SettledState
from gossip.replica import Admission, BatchName, Head, Status

MAX_BATCHES_PER_READ = 256
"""Small batches cost by the batch, not by the byte: a range of them must not hold up whoever receives it."""

JournaledBatches: TypeAlias = Callable[[bytes, int, int, int], Sequence[bytes]]
"""(lane, first, last, max bytes) -> the batches of a lane that the journal holds, in order of seq; two of one seq where a fork was
journaled."""


def none_journaled(lane: bytes, first: int, last: int, max_bytes: int) -> Sequence[bytes]:
    """The reader of a node whose journal cannot be read at any time."""
    return ()


class GossipReplica:
    """Satisfies ``gossip.replica.Replica`` over a ledger replica."""

    def __init__(
        self,
        replica: Replica,
        journaled: JournaledBatches = none_journaled,
        opened: Callable[[bytes, Genesis], Batch] = open_batch,
    ) -> None:
        self.replica = replica
        self._journaled = journaled
        self._opened = opened
        self._heads: dict[bytes, Head] = {}
        self._unsynced: deque[tuple[int, list[Batch]]] = deque()
        self._fresh: list[Batch] = []
        self._fresh_evidence: list[bytes] = []

    # -- what the core calls --------------------------------------------------------------------------------

    def take_fresh(self) -> tuple[list[Batch], list[bytes]]:
        """Batches and evidence that came in since the last call and are to be persisted, in order."""
        fresh, self._fresh = self._fresh, []
        evidence, self._fresh_evidence = self._fresh_evidence, []
        return fresh, evidence

    def note(self, batches: Sequence[Batch]) -> None:
        """Batches that were recorded here are to be persisted too."""
        self._fresh += batches

    def persisting(self, position: int, batches: list[Batch]) -> None:
        """These batches are being written at ``position``."""
        self._unsynced.append((position, batches))

    def durable(self, position: int) -> None:
        """Everything up to ``position`` is synced: advertise it, if it stands (a fork may have set it aside by now)."""
        while self._unsynced and self._unsynced[0][0] <= position:
            for batch in self._unsynced.popleft()[1]:
                if self.replica.hash_at(batch.key, batch.seq) == batch.hash:
                    self._advance(batch.key, batch.seq)

    def rebase(self, height: int, digest: bytes, state: SettledState) -> list[Batch]:
        """Move the replica's base. What is settled must be durable here; what could be applied then is to be persisted."""
        fleeting = {batch.hash for _, batches in self._unsynced for batch in batches} | {b.hash for b in self._fresh}
        for batch in self._settling(state):
            assert batch.hash not in fleeting, "a checkpoint settles only what is durable here"
        applied = self.replica.rebase(height, digest, state)
        self._fresh += applied
        for lane, settled in state.lanes.items():
            self._advance(lane, settled.seq)
        return applied

    def jump(self, height: int, digest: bytes, state: SettledState, bases: Mapping[int, bytes]) -> frozenset[bytes]:
        """Move the replica's base to a state that is durable here, without what led to it. Returns the lanes that are settled
        beyond what was held of them, or otherwise."""
        lanes = state.lanes.items()
        beyond = frozenset(lane for lane, one in lanes if one.seq and self.replica.hash_at(lane, one.seq) != one.hash)
        evidence = self.replica.evidence()
        self._fresh += self.replica.jump(height, digest, state, bases)
        self._fresh_evidence += [raw for name, raw in self.replica.evidence().items() if name not in evidence]
        for lane in [*self._heads, *state.lanes]:
            settled = state.lanes.get(lane)
            self._advance(lane, settled.seq if settled else 0)
        return beyond

    def _settling(self, state: SettledState) -> list[Batch]:
        """What lies between the base and ``state``."""
        cut = [ledger.Name(lane, settled.seq, settled.hash) for lane, settled in state.lanes.items()]
        found = self.replica.collect(cut)
        return found if isinstance(found, list) else []

    def durable_frontier(self) -> dict[bytes, LaneHead]:
        """What this node holds for good: its frontier as far as it is synced."""
        durable: dict[bytes, LaneHead] = {}
        for lane, held in self.replica.frontier().items():
            head = self._heads.get(lane)
            if head is not None:
                durable[lane] = LaneHead(head.seq, head.hash, held.fork_seq)
            elif held.fork_seq:
                durable[lane] = LaneHead(0, b"", held.fork_seq)
        return durable

    def replayed(self) -> None:
        """Everything held came from the journal: all of it is durable."""
        for lane, head in self.replica.frontier().items():
            self._advance(lane, head.seq)

    def _advance(self, lane: bytes, seq: int) -> None:
        """The lane is durable up to ``seq``, or up to where it ends by now if it was found to fork."""
        seq = min(max(seq, self._heads[lane].seq if lane in self._heads else 0), self.replica.head(lane).seq)
        name = self.replica.hash_at(lane, seq)
        if name is None:
            self._heads.pop(lane, None)
        else:
            self._heads[lane] = Head(seq, name)

    # -- what gossip calls ----------------------------------------------------------------------------------

    def heads(self) -> Mapping[bytes, Head]:
        """The durable head of every lane."""
        return self._heads

    def admitted(self, lane: bytes) -> int:
        """The highest seq held of a lane, durable or not."""
        return self.replica.head(lane).seq

    def hash_at(self, lane: bytes, seq: int) -> bytes | None:
        """The hash of the batch held at a place; the cut's is known even when its batch is gone."""
        return self.replica.hash_at(lane, seq)

    def read(self, lane: bytes, first: int, last: int, max_bytes: int) -> Sequence[bytes]:
        """Durable batches in order, at least one unless it is gone, within ``max_bytes``. Settled ones are served for a while: those
        that the replica holds no longer come from the journal."""
        durable = self._heads.get(lane)
        settled = self.replica.state.lanes.get(lane)
        if settled is not None and first <= settled.seq and self.replica.batch(lane, first) is None:
            return self._read_journal(lane, first, min(last, settled.seq, first + MAX_BATCHES_PER_READ - 1), max_bytes)
        out: list[bytes] = []
        size = 0
        for seq in range(first, min(last, durable.seq if durable else 0) + 1):
            batch = self.replica.batch(lane, seq)
            if batch is None or len(out) == MAX_BATCHES_PER_READ or (out and size + len(batch.raw) > max_bytes):
                break
            out.append(batch.raw)
            size += len(batch.raw)
        return out

    def _read_journal(self, lane: bytes, first: int, last: int, max_bytes: int) -> list[bytes]:
        """Settled batches from the journal. Where it holds two of one place, the one that the next batch, or the cut, names."""
        opened = [
            open_batch(raw, self.replica.genesis, check_signature=False)
            for raw in self._journaled(lane, first, last, max_bytes)
        ]
        out: list[bytes] = []
        wanted: bytes | None = self.replica.hash_at(lane, opened[-1].seq) if opened else None
        for branches in reversed([list(some) for _, some in groupby(opened, key=lambda one: one.seq)]):
            chosen = next((one for one in branches if one.hash == wanted), branches[0] if len(branches) == 1 else None)
            if chosen is None:
                out.clear()  # nothing tells which branch it is: what is below it does
            else:
                out.append(chosen.raw)
            wanted = chosen.header.prev if chosen else None
        return out[::-1]

    def admit(self, raw: bytes, source: str) -> Admission:
        """Take in a batch; never raises."""
        try:
            batch = self._opened(raw, self.replica.genesis)
        except InvalidBatch as error:
            return Admission(Status.REJECTED, reason=str(error))
        return self._answer(self.replica.admit_batch(batch))

    def evidence(self) -> Mapping[bytes, bytes]:
        """Evidence in force."""
        return self.replica.evidence()

    def admit_evidence(self, raw: bytes, source: str) -> Admission:
        """Take in evidence; never raises."""
        answer = self._answer(self.replica.admit_evidence(raw))
        if answer.status is Status.FORKED:  # gossip's word for evidence that was new and true
            return Admission(Status.APPLIED, answer.applied, evidence=answer.evidence, reason=answer.reason)
        return answer

    def _answer(self, outcome: ledger.Outcome) -> Admission:
        if isinstance(outcome, ledger.Applied):
            self._fresh += outcome.batches
            return Admission(Status.APPLIED, applied=_names(outcome.batches))
        if isinstance(outcome, ledger.Pending):
            missing = tuple(BatchName(name.lane, name.seq, name.hash) for name in outcome.missing)
            return Admission(Status.PENDING, missing=missing)
        if isinstance(outcome, ledger.Forked):
            if outcome.new:
                self._fresh_evidence.append(outcome.evidence.raw)
                self._fresh += outcome.batches
                self._advance(outcome.evidence.lane, 0)
            return Admission(
                Status.FORKED,
                applied=_names(outcome.batches),
                evidence=outcome.evidence.raw,
                reason=f"lane {outcome.evidence.lane.hex()} forks at seq {outcome.evidence.seq}",
            )
        if isinstance(outcome, ledger.Rejected):
            return Admission(Status.REJECTED, reason=outcome.reason)
        return Admission(Status.DUPLICATE if isinstance(outcome, ledger.Duplicate) else Status.SETTLED)


def _names(batches: Sequence[Batch]) -> tuple[BatchName, ...]:
    return tuple(BatchName(batch.key, batch.seq, batch.hash) for batch in batches)
