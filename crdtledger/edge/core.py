"""The node core: everything a node decides, without a clock, a socket or a disk.

``step(event, now_us) -> list[Effect]`` as in ``gossip.effects``; besides those events it takes ``ClientRequest``. The same
core runs on ZeroMQ and SQLite (``edge.runtime``) and in the simulator (``gossip.simulation``).

What it joins: the gossip engine (which admits other nodes' batches), the recorder (which writes this node's lane), the
epochs (which lane that is) and the rights manager (who asks whom for rights). Whatever came in or was recorded during a
step becomes one ``Persist``; answers and pushes name its position, so nothing is acknowledged or sent that a crash could
undo.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from crdtledger.edge import api, messages, reading
from crdtledger.edge.adapter import GossipReplica
from crdtledger.edge.epochs import Epochs, EpochState, LaneAsk, LaneTell
from crdtledger.edge.expiries import Expiries
from crdtledger.edge.messages import RightsAsk, RightsDenied
from crdtledger.edge.watching import WATCH_TIMER, Watchers
from crdtledger.errors import BadInput, CallerError, InsufficientRights, LedgerError
from crdtledger.ledger.batch import MAX_DEPS, Batch, Dep
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.facts import MAX_TEXT, Fact, Grant, Instrument, Reserve, Transfer, Void, Withdrawal
from crdtledger.ledger.frontier import frontier_digest
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import Identity, digest
from crdtledger.ledger.journalrecord import (
    KIND_BATCH,
    KIND_EVIDENCE,
    KIND_META,
    JournalRecord,
    UnreadableRecord,
    decode_record,
    encode_record,
)
from crdtledger.ledger.recorder import Recorded, Recorder
from crdtledger.ledger.replica import Applied, Forked, Replica
from crdtledger.ledger.rightsmanager import RightsManager, RightsPolicy
from crdtledger.ledger.text import fact_from_json
from gossip.config import Config
from gossip.effects import Connected, Durable, Effect, Event, Notify, Persist, Received, Reply, StartTimer, TimerFired
from gossip.protocol import AppReceived, GossipEngine, Output
from gossip.replica import BatchName

EPOCH_TIMER = "epoch"
EPOCH_INTERVAL_US = 500_000
RIGHTS_TIMER = "rights"
RIGHTS_INTERVAL_US = 100_000
EPOCH_RECORD = b"epoch"
EXPIRY_TIMER = "expiry"
AFTER_THIS_STEP = -1


class ClientRequest(msgspec.Struct, frozen=True):
    """A client asks. ``request`` is whatever the driver needs to route the reply; ``body`` is an ``edge.api`` request."""

    request: Any
    body: bytes


_encode = msgspec.msgpack.Encoder().encode

Completeness = Literal["fresh", "complete", "restored"]


class Setup(msgspec.Struct, frozen=True):
    """What a core is built from. ``draw(n)`` gives n random bytes. ``completeness`` is the journal's verdict on itself
    and ``reason`` its words; ``gossip`` may be tuned, its cluster is always the genesis'. ``documents``: keep a pycrdt
    document per lane up to date at all times."""

    genesis: Genesis
    identity: Identity
    name: str
    draw: Callable[[int], bytes]
    completeness: Completeness = "complete"
    reason: str = ""
    gossip: Config | None = None
    rights: RightsPolicy | None = None
    documents: bool = True


class NodeCore:
    """One node. ``records`` are the journal's, in order."""

    def __init__(self, setup: Setup, records: Sequence[bytes] = ()) -> None:
        self._setup = setup
        self.genesis = setup.genesis
        self.name = setup.name
        self._member = setup.genesis.member(setup.name)
        salt = int.from_bytes(setup.draw(8), "little")
        self.replica = Replica(setup.genesis, salt, setup.documents)
        self.gossiped = GossipReplica(self.replica)
        others = [member.name for member in setup.genesis.nodes if member.name != setup.name]
        self.epochs = Epochs(self._member.id, others, self.replica, setup.draw)
        self._clock = HybridClock()
        config = msgspec.structs.replace(setup.gossip or Config(b""), cluster=setup.genesis.hash)
        nonce = int.from_bytes(setup.draw(8), "little") >> 1 or 1
        self.engine = GossipEngine(config, self.gossiped, others, nonce)
        policy = setup.rights or RightsPolicy(share_ppm=setup.genesis.policies.grant_share_ppm)
        self.manager = RightsManager(policy)
        self.position = 0
        self.durable = 0
        self._meta: list[EpochState] = []
        self._watchers = Watchers()
        self._written: set[bytes] = set()
        self._rights_timer = False
        self._expiries = Expiries()
        self._expiry_us: int | None = None
        self._replay(records)
        self.recorder = Recorder(self.replica, setup.identity, self.epochs.lane, self._clock)

    # -- start ----------------------------------------------------------------------------------------------

    def _replay(self, records: Sequence[bytes]) -> None:
        for raw in records:
            record = decode_record(raw)
            if isinstance(record, UnreadableRecord):
                raise BadInput(what="record", where="journal", why=record.reason)
            if record.kind == KIND_BATCH:
                outcome = self.replica.admit(record.body, check_signature=False)
                if not isinstance(outcome, Applied | Forked):
                    raise BadInput(what=f"batch {record.seq}", where="journal", why=f"does not apply again: {outcome}")
                if isinstance(outcome, Applied):
                    # Others' clocks do not count: unclamped, one wrong machine's would be this node's from now on.
                    own = [b.header.clock for b in outcome.batches if b.lane.node == self._member.id]
                    self._clock.last = max([self._clock.last, *own])
            elif record.kind == KIND_EVIDENCE:
                self.replica.admit_evidence(record.body)
            elif record.kind == KIND_META and record.hash == EPOCH_RECORD:
                self.epochs.resume(msgspec.msgpack.decode(record.body, type=EpochState))
        self.gossiped.replayed()

    def start(self, now_us: int) -> list[Effect]:
        """Call once, first."""
        if self._setup.completeness == "restored":
            self._open_epoch(self._setup.reason or "its journal may be incomplete")
        elif not self.epochs.state.epoch:
            self._open_epoch("")
        for batch in self.replica.batches():
            if batch.key == self.epochs.lane.key:
                self._expiries.note(batch)
        out: list[Output] = self.engine.start(now_us)
        out += self._own_lane()
        if self.epochs.state.locked:
            out.append(StartTimer(EPOCH_TIMER, EPOCH_INTERVAL_US))
        return self._finish(out, now_us)

    def _open_epoch(self, reason: str) -> None:
        self._meta.append(self.epochs.open(reason))

    def _own_lane(self) -> list[Output]:
        """Write on in the lane that the epochs name; say so when it is a new one."""
        state = self.epochs.state
        self.recorder.lane = self.epochs.lane
        self.recorder.locked = state.locked
        if state not in self._meta:
            return []
        return [Notify("epoch.opened", {"node": self.name, "epoch": state.epoch, "locked": state.locked})]

    # -- step -----------------------------------------------------------------------------------------------

    def step(self, event: Event | ClientRequest, now_us: int) -> list[Effect]:
        """What to do about ``event``."""
        if isinstance(event, ClientRequest):
            return self._finish(self._serve(event, now_us), now_us)
        if isinstance(event, Durable):
            self.durable = event.position
            self.gossiped.durable(event.position)
            return self._finish(self._news(now_us), now_us)
        out = self.engine.step(event, now_us)
        if isinstance(event, TimerFired):
            out += self._timer(event.key, now_us)
        elif isinstance(event, Connected) and self.epochs.state.locked:
            out += self._ask_lanes()
        if isinstance(event, Received):
            out = self._apps(out, now_us)
        return self._finish(out, now_us)

    def _finish(self, outputs: Sequence[Output], now_us: int) -> list[Effect]:
        """Persist whatever came in during this step, and let everything that needs it wait for it."""
        out: list[Output] = list(outputs)
        fresh, evidence = self.gossiped.take_fresh()
        out += self._react(fresh, now_us)
        fresh += self.gossiped.take_fresh()[0]
        records = [JournalRecord(KIND_BATCH, b.key, b.seq, b.hash, b.raw) for b in fresh]
        records += [JournalRecord(KIND_EVIDENCE, b"", 0, digest("evidence-id", raw), raw) for raw in evidence]
        records += [JournalRecord(KIND_META, b"", 0, EPOCH_RECORD, _encode(state)) for state in self._meta]
        self._meta.clear()
        if records:
            self.position += 1
            self.gossiped.persisting(self.position, fresh)
            written = [(BatchName(b.key, b.seq, b.hash), b.raw) for b in fresh if b.hash in self._written]
            self._written.clear()
            if written:
                out += self.engine.recorded(written, self.position)
            out.insert(0, Persist(self.position, tuple(encode_record(record) for record in records)))
        next_us = self._expiries.next_us()
        if next_us != self._expiry_us:
            self._expiry_us = next_us
            out += [StartTimer(EXPIRY_TIMER, max(0, next_us - now_us))] if next_us is not None else []
        return [self._after(effect) for effect in out if not isinstance(effect, AppReceived)]

    def _after(self, effect: Effect) -> Effect:
        """A reply made during this step waits for what the step persists."""
        if isinstance(effect, Reply) and effect.after < 0:
            return Reply(effect.request, effect.body, self.position)
        return effect

    def _react(self, fresh: Sequence[Batch], now_us: int) -> list[Output]:
        """To what came in: clocks, our own lane in others' hands, a lock that can open, rights that were asked for."""
        out: list[Output] = []
        for batch in fresh:
            self._clock.observe(batch.header.clock, now_us)
        foreign = any(self._is_foreign(batch) for batch in fresh)
        if foreign or self.replica.head(self.recorder.lane.key).fork_seq:
            self._open_epoch("a peer holds more of this node's lane than the node itself")
            out += [*self._own_lane(), StartTimer(EPOCH_TIMER, EPOCH_INTERVAL_US), *self._ask_lanes()]
        inheritance = self.epochs.inheritance()
        if inheritance is not None:
            out += self._unlock(inheritance, now_us)
        if fresh and self.manager.wanted:
            for cell in self.manager.wanted:
                self.manager.held(cell, self.recorder.spendable(*cell))
            out += self._ask_rights(now_us)
        return out

    def _is_foreign(self, batch: Batch) -> bool:
        """Whether this node wrote the batch and does not know it: in its present epoch or a later one. (An earlier
        epoch's batches that come back are what a restored node waits for.)"""
        ours = batch.lane.node == self._member.id and batch.lane.epoch >= self.epochs.state.epoch
        return ours and batch.hash not in self._written

    # -- epochs ---------------------------------------------------------------------------------------------

    def _ask_lanes(self) -> list[Output]:
        ask = _encode(LaneAsk(self.epochs.state.epoch))
        return [send for peer in self.epochs.to_ask() for send in self.engine.send_app(peer, "epoch", ask)]

    def _unlock(self, inheritance: Sequence[Dep], now_us: int) -> list[Output]:
        """Everything this node ever wrote is here: take over what its old lanes left, and spend again."""
        self.recorder.locked = ""
        if inheritance:
            self._note(self.recorder.claim(inheritance[:MAX_DEPS], now_us))
        state = self.epochs.unlock()
        self._meta.append(state)
        return [Notify("epoch.unlocked", {"node": self.name, "epoch": state.epoch})]

    def _note(self, *batches: Batch) -> None:
        self._written.update(batch.hash for batch in batches)
        self.gossiped.note(batches)
        for batch in batches:
            self._expiries.note(batch)

    # -- timers and messages between cores ------------------------------------------------------------------

    def _timer(self, key: str, now_us: int) -> list[Output]:
        if key == EPOCH_TIMER and self.epochs.state.locked:
            return [*self._ask_lanes(), StartTimer(EPOCH_TIMER, EPOCH_INTERVAL_US)]
        if key == RIGHTS_TIMER:
            self._rights_timer = False
            return self._ask_rights(now_us)
        if key == EXPIRY_TIMER:
            return self._expire(now_us)
        return self._news(now_us) if key == WATCH_TIMER else []

    def _expire(self, now_us: int) -> list[Output]:
        """Void what is left of the reserves of this lane that have ended. Time is the reason; the void is the fact."""
        self._expiry_us = None
        lane, rights = self.recorder.lane.key, self.replica.view.rights
        ended = [e for e in self._expiries.due(now_us) if (rights.reserve(lane, e.keys) or (0, 0))[1] > 0]
        voids = [Void(id=f"expired {expiry.reserve}"[:MAX_TEXT], reserve=expiry.reserve) for expiry in ended]
        for void in voids:
            try:
                self._note(*self.recorder.record([void], now_us).batches)
            except CallerError as error:
                return [Notify("reserve.kept", {"reserve": void.reserve, "why": str(error)})]
        return [Notify("reserve.expired", {"reserves": [void.reserve for void in voids]})] if voids else []

    def _apps(self, outputs: Sequence[Output], now_us: int) -> list[Output]:
        """Answer what other cores sent along with the gossip. Nothing in it is trusted; what does not fit is counted."""
        out: list[Output] = []
        for output in outputs:
            if not isinstance(output, AppReceived):
                out.append(output)
                continue
            try:
                if output.channel == "epoch":
                    out += self._on_epoch(output.peer, messages.decode_epoch(output.body))
                elif output.channel == "rights":
                    out += self._on_rights(output.peer, messages.decode_rights(output.body), now_us)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                out += self.engine.refuse(output.peer, f"{output.channel}: {error}", now_us, "app.refused")
        return out

    def _on_epoch(self, peer: str, message: LaneAsk | LaneTell) -> list[Output]:
        if isinstance(message, LaneAsk):
            tell = self.epochs.tell(self.genesis.member(peer).id, message)
            # What is told must survive a crash here: the asker will wait for it.
            return self.engine.send_app(peer, "epoch", _encode(tell), self.position)
        self.epochs.told(peer, message)
        return []

    # -- rights ---------------------------------------------------------------------------------------------

    def _ask_rights(self, now_us: int) -> list[Output]:
        if not self.manager.wanted:
            return []
        collateral, rights = self.replica.view.collateral, self.replica.view.rights
        holders = {cell: collateral.rights_of(rights.cell(*cell)) for cell in self.manager.wanted}
        reachable = [name for name, peer in self.engine.peers.items() if peer.connected and peer.greeted]
        out: list[Output] = []
        available = {cell: self.recorder.spendable(*cell) for cell in self.manager.wanted}
        for ask in self.manager.asks(available, holders, reachable, now_us):
            body = _encode(RightsAsk(ask.account, ask.asset, ask.amount, ask.demand))
            out += self.engine.send_app(ask.peer, "rights", body)
        return out + self._watch_rights()

    def _watch_rights(self) -> list[Output]:
        if not self.manager.wanted or self._rights_timer:
            return []
        self._rights_timer = True
        return [StartTimer(RIGHTS_TIMER, RIGHTS_INTERVAL_US)]

    def _on_rights(self, peer: str, message: RightsAsk | RightsDenied, now_us: int) -> list[Output]:
        cell = (message.account, message.asset)
        if isinstance(message, RightsDenied):
            self.manager.denied(peer, cell)
            return self._ask_rights(now_us)
        known = message.account in self.replica.view.catalog.labels and message.asset in self.genesis.asset_decimals
        amount = 0
        if known:
            available = self.recorder.spendable(*cell)
            amount = self.manager.gift(cell, message.amount, message.demand, available, now_us)
        if amount:
            head = self.replica.head(self.recorder.lane.key)
            name = f"{self.name}/{self.epochs.state.epoch}/{head.seq + 1}"
            grant = Grant(id=name, account=message.account, asset=message.asset, amount=amount, node=peer)
            try:
                self._note(*self.recorder.record([grant], now_us).batches)
            except CallerError:
                amount = 0  # not this node's account to move: the genesis says so
        if amount:
            return []
        return self.engine.send_app(peer, "rights", _encode(RightsDenied(message.account, message.asset)))

    # -- clients --------------------------------------------------------------------------------------------

    def _serve(self, event: ClientRequest, now_us: int) -> list[Output]:
        try:
            request = api.decode_request(event.body)
            if isinstance(request, api.Watch):
                return list(self._watchers.add(event.request, request, self._durable_digest(), now_us))
            return [Reply(event.request, api.encode_answer(self._answer(request, now_us)), AFTER_THIS_STEP)]
        except InsufficientRights as error:
            self.manager.refused((error.account, error.asset), int(error.requested), now_us)
            return [Reply(event.request, api.encode_error(error)), *self._ask_rights(now_us)]
        except LedgerError as error:
            return [Reply(event.request, api.encode_error(error))]

    def _answer(self, request: api.Request, now_us: int) -> Any:
        if isinstance(request, api.Query):
            return reading.query(self, request)
        if isinstance(request, api.CursorOf):
            return reading.cursor(self.replica.view, self._member.id, request.source)
        if isinstance(request, api.Columns):
            return self._recorded(self.recorder.record_fills(api.unpack_fills(request), now_us, request.cursor))
        if isinstance(request, api.Record):
            return self._recorded(self._record(request, now_us))
        raise BadInput(what=type(request).__name__, where="client", why="this driver does not serve it")

    def _record(self, request: api.Record, now_us: int) -> Recorded:
        defined: dict[str, Instrument] = {}
        facts: list[Fact] = []
        for number, item in enumerate(request.facts, 1):
            fact = fact_from_json(item, self.replica.view.catalog, f"line {number}", defined)
            if isinstance(fact, Instrument):
                defined[fact.name] = fact
            facts.append(fact)
        recorded = self.recorder.record(facts, now_us)
        for fact in facts:
            if isinstance(fact, Withdrawal | Transfer | Reserve | Grant):
                cell = (fact.account, fact.asset)
                self.manager.spent(cell, fact.amount, self.recorder.spendable(*cell), now_us)
        return recorded

    def _recorded(self, recorded: Recorded) -> dict[str, Any]:
        self._note(*recorded.batches)
        last = recorded.batches[-1].seq if recorded.batches else 0
        return {
            "facts": recorded.facts,
            "duplicates": recorded.duplicates,
            "batches": len(recorded.batches),
            "seq": last,
        }

    def _news(self, now_us: int) -> list[Output]:
        return list(self._watchers.news(self._durable_digest(), now_us)) if self._watchers else []

    def _durable_digest(self) -> bytes:
        return frontier_digest(self.gossiped.durable_frontier())

    # -- checking -------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Assert what must hold after every step (docs/explanation/guarantees.md)."""
        self.replica.check_invariants()
        for lane, head in self.gossiped.heads().items():
            assert self.gossiped.hash_at(lane, head.seq) == head.hash, "a durable head names a batch that is held"
