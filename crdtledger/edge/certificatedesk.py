"""From a settled height to its certificate, and from there to the store, the snapshot and those who are behind.

Cosignatures come in and go out, the certificate that they make is journaled and handed to the store, and served to whoever lacks it.
Whoever says its name to a height that is certified here is answered with the certificate: that is what it lacks. What each peer is
served is metered; one that asks for more asks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from crdtledger.edge import checkpointmessages as messages
from crdtledger.edge import checkpointrecords as records
from crdtledger.edge.certifying import Certifying
from crdtledger.edge.checkpointcatchup import Following
from crdtledger.edge.checkpointrecords import Snapshot
from crdtledger.edge.effects import Output, PruneJournal
from crdtledger.edge.heightbook import HeightBook, SettledHeight
from crdtledger.edge.journaling import Journaling
from crdtledger.edge.jumping import Jumping
from crdtledger.edge.setup import Setup
from crdtledger.edge.storefilling import StoreFilling
from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.replica import Replica
from gossip.effects import Notify
from gossip.meters import TokenBucket
from gossip.protocol import GossipEngine
from reconcile.checkpoint import decode_checkpoint
from reconcile.commitments import Commitments

CHANNEL: Final = "checkpoint"
SERVED_BYTES_PER_S: Final = 4 << 20
SERVED_BYTES_BURST: Final = 32 << 20
TIMINGS: Final = 16

Heard: TypeAlias = (
    messages.Standing
    | messages.CertifiedAsk
    | messages.CertifiedTell
    | messages.Cosigned
    | messages.RecordsAsk
    | messages.RecordsTell
    | messages.Transferring
)


def say(engine: GossipEngine, peer: str, message: messages.CheckpointMessage, after: int = 0) -> Sequence[Output]:
    """Send a message on the channel."""
    return engine.send_app(peer, CHANNEL, messages.encode_checkpoint_message(message), after)


class CertificateDesk:
    """The certificates of one node. ``others``: the validators that cosign beside it."""

    def __init__(
        self,
        setup: Setup,
        replica: Replica,
        engine: GossipEngine,
        journaling: Journaling,
        snapshot: Snapshot | None,
        commitments: Commitments,
        jumping: Jumping,
    ) -> None:
        self._setup = setup
        self.jumping = jumping
        self.filling = StoreFilling(setup.archive, snapshot.height if snapshot else 0)
        self.certifying = Certifying(setup.genesis, setup.name, setup.identity)
        self.following = Following(setup.archive)
        self.book = HeightBook()
        self.certified_us: dict[int, int] = {}
        self._replica = replica
        self._engine = engine
        self._journaling = journaling
        self._served = {peer: TokenBucket(SERVED_BYTES_PER_S, SERVED_BYTES_BURST) for peer in engine.peers}
        self._others = [
            member.name for member in setup.genesis.nodes if "validator" in member.roles and member.name != setup.name
        ]
        if snapshot:
            self.begin(snapshot, commitments)

    def begin(self, snapshot: Snapshot, commitments: Commitments) -> None:
        """Stand on ``snapshot``, which is the replica's base."""
        start = decode_checkpoint(snapshot.value)
        begun = SettledHeight(start, snapshot.value, self._replica.state, commitments, b"", 0, 0)
        setup = self._setup
        self.certifying = Certifying(setup.genesis, setup.name, setup.identity, snapshot.leaf_hashes())
        self.book = HeightBook.resumed(snapshot, begun)
        self.certifying.certificates[snapshot.height] = snapshot.certificate
        self.following.certified(snapshot.height, snapshot.value, snapshot.certificate)
        self.jumping.certified(begun, snapshot.certificate)

    def prune(self, snapshot: Snapshot, after: int) -> PruneJournal:
        """Let go of what ``snapshot``, durable at ``after``, stands for."""
        lanes = {lane: one.seq for lane, one in self._replica.state.lanes.items()}
        return PruneJournal(records.prunable(snapshot.height, lanes, self._replica.retention), after)

    def replayed(self, height: int, certificate: bytes) -> list[Output]:
        """The journal holds the certificate of a height. Raises BadInput when it is none."""
        if not self.certifying.waits_for(height):
            return []
        fault = self.certifying.fault(height, certificate)
        if fault:
            raise BadInput(what=f"certificate of height {height}", where="journal", why=fault)
        return self._certify(height, certificate, 0)

    # -- heights --------------------------------------------------------------------------------------------

    def settled(self, settled: SettledHeight, causes: dict[str, int]) -> None:
        """The next height is settled here."""
        self.certifying.settled(settled.checkpoint.record, settled.decided_us)
        self.book.settled(settled, causes)

    def announce(self, height: int, now_us: int) -> list[Output]:
        """Put this node's name to a height that it has just settled, as soon as that is durable."""
        return self._cosign([line for line in self.certifying.own_lines() if line[0] == height]) + self._assemble(
            height, now_us
        )

    def remind(self) -> list[Output]:
        """Say the own name again to every height that waits for its certificate."""
        return self._cosign(self.certifying.own_lines()[: messages.MAX_LINES])

    def certified(self, height: int, certificate: bytes, now_us: int) -> list[Output]:
        """The certificate of a settled height is found, and holds: keep it, hand it on, and take a snapshot if one is due."""
        self.certified_us[height] = now_us
        self.certified_us.pop(height - TIMINGS, None)
        record = records.checkpoint_record(height, self._replica.bases[height], records.Certificate(certificate))
        out = self._certify(height, certificate, self._journaling.put(record))
        signers = self.certifying.signers(height)
        return [*out, Notify("checkpoint.certified", {"height": height, "by": signers}), *self._snapshot()]

    def _certify(self, height: int, certificate: bytes, position: int) -> list[Output]:
        settled = self.book.get(height)
        assert settled is not None, "a height without a certificate is kept"
        self.certifying.certified(height, certificate)
        self.following.certified(height, settled.value, certificate)
        stored = self.filling.hand_on(self.book.certify(height, certificate, position))
        newest = self.book.get(self.book.certified)
        if newest is not None and newest is not settled:
            self.jumping.certified(newest, self.book.certificate)
        elif self.book.certified == height:
            self.jumping.certified(settled, certificate)
        self.certifying.forget(self.book.certified)
        return stored

    def _cosign(self, lines: list[tuple[int, bytes]]) -> list[Output]:
        if not lines:
            return []
        message = messages.Cosigned(tuple(lines))
        return [out for peer in self._others for out in say(self._engine, peer, message, self._journaling.needed)]

    def _assemble(self, height: int, now_us: int) -> list[Output]:
        certificate = self.certifying.assemble(height)
        return self.certified(height, certificate, now_us) if certificate else []

    def _snapshot(self) -> list[Output]:
        """Write down where this node stands, if it is time, and let go of what is older."""
        snapshot = self.book.snapshot(self.certifying.log)
        settled = self.book.get(self.book.certified)
        if snapshot is None or settled is None:
            return []
        position = [self._journaling.put(record) for record in records.snapshot_records(snapshot)][-1]
        lanes = {lane: one.seq for lane, one in settled.state.lanes.items()}
        return [PruneJournal(records.prunable(snapshot.height, lanes, self._replica.retention), position)]

    # -- messages -------------------------------------------------------------------------------------------

    def stand(self, peer: str) -> list[Output]:
        """Tell ``peer`` where this node stands."""
        standing = messages.Standing(self.certifying.log.size, self.book.certified)
        return [*say(self._engine, peer, standing, self._journaling.needed)]

    def look_ahead(self, now_us: int) -> list[Output]:
        """Ask for a settled state, if one is wanted."""
        return [*self.jumping.tick(self.certifying.log.size, self.following.standings, now_us)]

    def heard(self, peer: str, message: Heard, stopped: bool, now_us: int) -> list[Output]:
        """A message from ``peer``. ``stopped``: nothing is to be settled here any more, so no state is taken either."""
        match message:
            case messages.Standing():
                self.following.stands(peer, message)
                out = [] if stopped else self.look_ahead(now_us)
                # What it lacks is certified here: it need not wait for the next tick.
                return out + (self.stand(peer) if message.certified < self.book.certified else [])
            case messages.CertifiedAsk(first):
                return self.serve(peer, first, now_us)
            case messages.CertifiedTell():
                return self.told(peer, message, now_us)
            case messages.Cosigned(lines):
                return self.cosigned(peer, lines, now_us)
            case messages.RecordsAsk():
                return self.serve_records(peer, message, now_us)
            case messages.RecordsTell():
                return self.told_records(peer, message, now_us)
            case messages.StateOffer() | messages.PieceTell() if stopped:
                return []
        log, standings = self.certifying.log, self.following.standings
        return [*self.jumping.heard(peer, message, log, standings, self.book.counts, now_us)]

    def serve(self, peer: str, first: int, now_us: int) -> list[Output]:
        """``peer`` asks for certified heights from ``first`` on."""
        tell = self.following.serve(first)
        size = sum(len(value) + len(certificate) for value, certificate in tell.checkpoints)
        if not size or not self._served[peer].take(size, now_us):
            return []
        return [*say(self._engine, peer, tell)]

    def fill(self, now_us: int) -> list[Output]:
        """Ask for what the store lacks."""
        peer = self.filling.ask(self.book.certified, self.following.standings, now_us)
        return [*say(self._engine, peer, messages.RecordsAsk(self.filling.next, self.filling.held))] if peer else []

    def serve_records(self, peer: str, ask: messages.RecordsAsk, now_us: int) -> list[Output]:
        """``peer`` asks for what the store here has."""
        tell = self.filling.serve(ask.first, ask.held, now_us)
        size = sum(map(len, (part for record in tell.records for part in record)))
        if not size or not self._served[peer].take(size, now_us):
            return []
        return [*say(self._engine, peer, tell)]

    def told_records(self, peer: str, tell: messages.RecordsTell, now_us: int) -> list[Output]:
        """``peer`` tells what its store has."""
        try:
            out = self.filling.told(peer, tell, self.certifying, self.book.certified, now_us)
        except InvalidProof as fault:
            return [*self._engine.refuse(peer, f"records: {fault}", now_us, "checkpoint.refused")]
        return [*out, *self.fill(now_us)]

    def told(self, peer: str, tell: messages.CertifiedTell, now_us: int) -> list[Output]:
        """``peer`` tells of certified heights: those settled here may lack their certificate, the others are to be followed."""
        out: list[Output] = []
        self.following.told(peer, tell, self.certifying.log.size)
        for height, (_, certificate) in enumerate(tell.checkpoints, tell.first):
            if self.certifying.waits_for(height) and not self.certifying.fault(height, certificate):
                out += self.certified(height, certificate, now_us)
        return out

    def next_certified(self, height: int, now_us: int, out: list[Output]) -> records.Adopted | None:
        """``height``, the next one, as a peer told of it, if its certificate holds. Who told otherwise is refused, by ``out``."""
        while (told := self.following.next(height)) is not None:
            try:
                record = decode_checkpoint(told.value).record
                fault = "" if record.height == height else f"it is height {record.height}, not {height}"
                fault = fault or self.certifying.fault_of_next(record, told.certificate)
            except InvalidProof as invalid:
                fault = str(invalid)
            if not fault:
                return records.Adopted(told.value, told.certificate, now_us)
            self.following.refuse(height)
            out += self._engine.refuse(told.peer, f"certified: {fault}", now_us, "checkpoint.refused")
        return None

    def cosigned(self, peer: str, lines: Iterable[tuple[int, bytes]], now_us: int) -> list[Output]:
        """``peer`` puts its name to heights."""
        out: list[Output] = []
        lacking = [height for height, _ in lines if height <= self.book.certified]
        if lacking:
            out += self.serve(peer, min(lacking), now_us)
        for height, blob in lines:
            fault = self.certifying.heard(peer, height, blob)
            if fault:
                out += self._engine.refuse(peer, fault, now_us, "checkpoint.refused")
            else:
                out += self._assemble(height, now_us)
        return out
