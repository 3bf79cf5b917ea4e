"""Values under judgement: what they come to, what is missing to tell, and whether what they settle is durable here.

Each value is judged once, however often it is asked about; while batches are missing they are asked for, and nothing is said. A cut
may settle what no lane here holds (batches that wait, the agreed branch of a lane that forks): that is journaled too before it counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from crdtledger.edge.adapter import GossipReplica
from crdtledger.edge.effects import Output
from crdtledger.edge.journaling import Journaling
from crdtledger.edge.settling import Settled, Settling
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord
from crdtledger.ledger.outcome import Missing, Name
from crdtledger.ledger.replica import Replica
from gossip.protocol import GossipEngine
from gossip.replica import BatchName


class Judging:
    """The judge of values for the height after ``settling``'s. ``absorb`` has whatever came in put into ``journaling`` at once."""

    def __init__(
        self,
        settling: Settling,
        replica: Replica,
        gossiped: GossipReplica,
        journaling: Journaling,
        absorb: Callable[[], None],
    ) -> None:
        self._settling = settling
        self._replica = replica
        self._gossiped = gossiped
        self._journaling = journaling
        self._absorb = absorb
        self._settled: dict[bytes, Settled] = {}
        self._durable_at: dict[bytes, int] = {}
        self._missing: dict[bytes, tuple[Name, ...]] = {}
        self._kept: set[bytes] = set()  # batches that were journaled although no lane holds them

    def judge(self, id: bytes, value: bytes) -> Settled | Missing | str:
        """What the value called ``id`` comes to as the next height; what is missing to tell; or why it does not hold."""
        if id in self._settled:
            return self._settled[id]
        if id in self._missing:
            return Missing(self._missing[id])
        outcome = self._settling.judge(value)
        if isinstance(outcome, Missing):
            self._missing[id] = outcome.names
        elif isinstance(outcome, Settled):
            for proof in outcome.checkpoint.evidence:
                self._gossiped.admit_evidence(proof, "")
            self._absorb()
            self._keep(outcome)
            self._settled[id], self._durable_at[id] = outcome, self._journaling.needed
        return outcome

    def proposed(self, id: bytes, settled: Settled) -> None:
        """A value of this node's own, of what is durable here."""
        self._settled[id], self._durable_at[id] = settled, 0

    def is_durable(self, id: bytes) -> bool:
        """Whether everything that a value which holds settles is on disk."""
        return self._durable_at[id] <= self._journaling.durable

    def moved(self) -> None:
        """The next height is another one: nothing said of values counts any more."""
        for memory in (self._settled, self._durable_at, self._missing, self._kept):
            memory.clear()

    # -- what is missing ------------------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a verdict waits for batches."""
        return bool(self._missing)

    def waits_for(self, batches: Iterable[Batch]) -> bool:
        """Whether a verdict waits for one of these."""
        wanted = {name.hash for names in self._missing.values() for name in names}
        return bool(wanted) and any(batch.hash in wanted for batch in batches)

    def look_again(self) -> None:
        """Judge the values that wait anew, when they are asked about next."""
        self._missing.clear()

    def ask(self, engine: GossipEngine, now_us: int) -> list[Output]:
        """Ask the others for what is missing."""
        out: list[Output] = []
        for names in self._missing.values():
            for name in names:
                out += engine.want(BatchName(name.lane, name.seq, name.hash), now_us)
        return out

    def _keep(self, settled: Settled) -> None:
        found = self._replica.collect(settled.checkpoint.cut)
        for batch in found if isinstance(found, list) else []:
            held = self._replica.batch(batch.key, batch.seq)
            if (held is None or held.hash != batch.hash) and batch.hash not in self._kept:
                self._kept.add(batch.hash)
                self._journaling.put(JournalRecord(KIND_BATCH, batch.key, batch.seq, batch.hash, batch.raw))
