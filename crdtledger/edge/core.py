"""The node core: everything a node decides, without a clock, a socket or a disk.

``step(event, now_us) -> list[Effect]`` as in ``gossip.effects``; besides those events it takes ``ClientRequest``. The same
core runs on ZeroMQ and SQLite (``edge.runtime``) and in the simulator (``gossip.simulation``).

What it joins: the gossip engine (which admits other nodes' batches), the recorder (which writes this node's lane), the
epochs (which lane that is), the rights desk (who asks whom for rights) and the checkpointer (what is settled, and who says
so). Whatever came in or was recorded during a step becomes one ``Persist``; answers and pushes name its position, so
nothing is acknowledged or sent that a crash could undo.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from crdtledger.edge import api, checkpointing, drilling, matchingdesk, messages, orderreading, reading, restart
from crdtledger.edge.adapter import GossipReplica
from crdtledger.edge.beating import BEAT_TIMER, Beating
from crdtledger.edge.checkpointing import Checkpointer
from crdtledger.edge.checkpointrecords import Snapshot, snapshot_to_start_from
from crdtledger.edge.effects import ClientRequest, Effect, Event, Output
from crdtledger.edge.epochs import EPOCH_RECORD, Epochs, EpochState, LaneAsk, LaneTell
from crdtledger.edge.expiries import Expiries
from crdtledger.edge.journaling import Journaling
from crdtledger.edge.matchingdesk import OrderDesk
from crdtledger.edge.ordering import Ordering
from crdtledger.edge.rightsdesk import RIGHTS_TIMER, RightsDesk
from crdtledger.edge.setup import Setup
from crdtledger.edge.watching import WATCH_TIMER, Watchers
from crdtledger.errors import BadInput, InsufficientRights, LedgerError
from crdtledger.ledger.batch import MAX_DEPS, Batch, Dep
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.frontier import frontier_digest
from crdtledger.ledger.identity import digest
from crdtledger.ledger.journalrecord import KIND_BATCH, KIND_EVIDENCE, KIND_META, JournalRecord
from crdtledger.ledger.recorder import Recorded, Recorder
from crdtledger.ledger.rightsmanager import RightsManager, RightsPolicy
from gossip.config import Config
from gossip.effects import Connected, Disconnected, Durable, Notify, Received, Reply, StartTimer, TimerFired
from gossip.protocol import AppReceived, GossipEngine
from gossip.replica import BatchName

EPOCH_TIMER = "epoch"
EPOCH_INTERVAL_US = 500_000
SOON_US = 50_000  # after the start: peers are there by then, if they are
EXPIRY_TIMER = "expiry"
AFTER_THIS_STEP = -1

_encode = msgspec.msgpack.Encoder().encode


class NodeCore:
    """One node. ``records`` are the journal's, in order."""

    def __init__(self, setup: Setup, records: Iterable[bytes] = ()) -> None:
        self._setup = setup
        self.genesis = setup.genesis
        self.name = setup.name
        self._member = setup.genesis.member(setup.name)
        salt = int.from_bytes(setup.draw(8), "little")
        journal = restart.read_records(records)
        snapshot = snapshot_to_start_from(journal, lambda height: setup.archive(height) is not None)
        self.replica = restart.open_replica(setup, salt, snapshot)
        self.gossiped = GossipReplica(self.replica, setup.journaled, setup.opened)
        others = [member.name for member in setup.genesis.nodes if member.name != setup.name]
        self.epochs = Epochs(self._member.id, others, self.replica, setup.draw)
        self._clock = HybridClock()
        config = msgspec.structs.replace(setup.gossip or Config(b""), cluster=setup.genesis.hash)
        nonce = int.from_bytes(setup.draw(8), "little") >> 1 or 1
        peers, branches = (setup.place.peers, setup.place.branches) if setup.place else (others, None)
        self.engine = GossipEngine(config, self.gossiped, peers, nonce, branches)
        self.journaling = Journaling()
        self._meta: list[EpochState] = []
        self._arrived: list[Batch] = []  # during this step, and not yet looked at
        self._persisting: list[Batch] = []
        self._watchers = Watchers()
        self._written: set[bytes] = set()
        self._unpushed: deque[tuple[int, list[tuple[BatchName, bytes]]]] = deque()  # by the position that they wait for
        self._expiries = Expiries()
        self._expiry_us: int | None = None
        self.checkpoints = self._checkpointer(snapshot, salt)
        restart.replay(journal, self.replica, self.checkpoints, self.epochs, self._clock, self._member.id)
        self.gossiped.replayed()
        self.recorder = Recorder(self.replica, setup.identity, self.epochs.lane, self._clock)
        self._beating = Beating(self.recorder, self._note, lambda: self.epochs.quiet)
        policy = setup.rights or RightsPolicy(share_ppm=setup.genesis.policies.grant_share_ppm)
        self._rights = RightsDesk(self.recorder, self.engine, RightsManager(policy), self._note, self.epochs.silent)
        self.orders = OrderDesk(
            self.recorder, self.engine, self.journaling, self._note, setup.sharing, self.epochs.silent
        )

    def _checkpointer(self, snapshot: Snapshot | None, salt: int) -> Checkpointer | None:
        setup = self._setup
        if setup.salts is None or setup.genesis.policies.agreement == "none":
            return None
        parts = (self.replica, self.gossiped, self.engine, self.journaling, self._absorb)
        return Checkpointer(setup, setup.salts, *parts, snapshot, salt)

    @property
    def position(self) -> int:
        """The position of the last ``Persist``."""
        return self.journaling.position

    @property
    def durable(self) -> int:
        """Up to which position the journal is durable."""
        return self.journaling.durable

    # -- start ----------------------------------------------------------------------------------------------

    def start(self, now_us: int) -> list[Effect]:
        """Call once, first."""
        restored = self._setup.completeness == "restored"
        if restored:
            self._open_epoch(self._setup.reason or "its journal may be incomplete")
        elif not self.epochs.state.epoch:
            self._open_epoch("")
        self.orders.replayed()
        lane = self.epochs.lane.key
        self._expiries.note_settled(self.replica.state.reserves.get(lane, {}))
        for batch in self.replica.batches():
            if batch.key == lane:
                self._expiries.note(batch)
        out: list[Output] = [*self.engine.start(now_us), *self._own_lane()]
        if self.checkpoints:
            out += self.checkpoints.start(now_us, restored)
        if self.epochs.silent():
            out.append(StartTimer(EPOCH_TIMER, SOON_US))
        out += self._beating.start()
        return self._finish(out, now_us)

    def _open_epoch(self, reason: str) -> None:
        self._meta.append(self.epochs.open(reason))

    def _new_epoch(self, reason: str) -> list[Output]:
        """Leave the lane for a new one, and ask the others how far the old ones go."""
        self._open_epoch(reason)
        return [*self._own_lane(), StartTimer(EPOCH_TIMER, EPOCH_INTERVAL_US), *self._ask_lanes()]

    def _own_lane(self) -> list[Output]:
        """Write on in the lane that the epochs name; say so when it is a new one."""
        state = self.epochs.state
        self.recorder.lane = self.epochs.lane
        self.recorder.locked = state.locked
        if state not in self._meta:
            return []
        return [Notify("epoch.opened", {"node": self.name, "epoch": state.epoch, "locked": state.locked})]

    # -- step -----------------------------------------------------------------------------------------------

    def step(self, event: Event, now_us: int) -> list[Effect]:
        """What to do about ``event``."""
        if isinstance(event, ClientRequest):
            return self._finish(self._serve(event, now_us), now_us)
        if isinstance(event, Durable):
            self.journaling.durable = event.position
            self.gossiped.durable(event.position)
            settled = self.checkpoints.durable(now_us) if self.checkpoints else []
            pushes = self.push(event.position)
            return self._finish([*pushes, *self.engine.step(event, now_us), *self._news(now_us), *settled], now_us)
        out: list[Output] = [*self.engine.step(event, now_us)]
        if isinstance(event, TimerFired):
            out += self._timer(event.key, now_us)
        elif isinstance(event, Connected):
            out += self._ask_lanes()
        elif isinstance(event, Disconnected) and self.checkpoints:
            self.checkpoints.desk.following.gone(event.peer)
            self.checkpoints.desk.jumping.gone(event.peer)
        if isinstance(event, Received):
            out = self._apps(out, now_us)
        return self._finish(out, now_us)

    def _finish(self, outputs: Sequence[Output], now_us: int) -> list[Effect]:
        """Persist whatever came in during this step, and let everything that needs it wait for it."""
        out: list[Output] = list(outputs)
        self._absorb()
        if self.checkpoints and self.checkpoints.jumped is not None:
            overtaken, self.checkpoints.jumped = self.recorder.lane.key in self.checkpoints.jumped, None
            self.orders.replayed()
            if overtaken:
                out += self._new_epoch("more of this node's lane is settled than the node itself holds")
        while True:
            arrived, self._arrived = self._arrived, []
            out += self._react(arrived, now_us)
            if arrived and self.checkpoints:
                out += self.checkpoints.arrived(arrived, now_us)
            out += self.orders.arrived(arrived, now_us)
            self._absorb()
            if not self._arrived:
                break
        for state in self._meta:
            self.journaling.put(JournalRecord(KIND_META, b"", 0, EPOCH_RECORD, _encode(state)))
        self._meta.clear()
        persist = self.journaling.take()
        if persist:
            fresh, self._persisting = self._persisting, []
            self.gossiped.persisting(persist.position, fresh)
            written = [(BatchName(b.key, b.seq, b.hash), b.raw) for b in fresh if b.hash in self._written]
            self._written.clear()
            if written:
                self._unpushed.append((persist.position, written))
            out.insert(0, persist)
        next_us = self._expiries.next_us()
        if next_us != self._expiry_us:
            self._expiry_us = next_us
            out += [StartTimer(EXPIRY_TIMER, max(0, next_us - now_us))] if next_us is not None else []
        return [self._after(effect) for effect in out if not isinstance(effect, AppReceived)]

    def push(self, durable: int) -> list[Effect]:
        """Push what this node recorded and is durable by now; ``step`` does so too, and a driver in haste sooner. What shared a sync shares
        a frame: each frame wakes a thread here and another one at each peer, and everything that waits there then shares a sync again."""
        ready: list[tuple[BatchName, bytes]] = []
        while self._unpushed and self._unpushed[0][0] <= durable:
            ready += self._unpushed.popleft()[1]
        return [*self.engine.recorded(ready, durable)] if ready else []

    def _absorb(self) -> None:
        """Have what came in by now written down, before anything that builds on it."""
        fresh, evidence = self.gossiped.take_fresh()
        for batch in fresh:
            self.journaling.put(JournalRecord(KIND_BATCH, batch.key, batch.seq, batch.hash, batch.raw))
        for raw in evidence:
            self.journaling.put(JournalRecord(KIND_EVIDENCE, b"", 0, digest("evidence-id", raw), raw))
        self._arrived += fresh
        self._persisting += fresh

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
        lane = self.recorder.lane.key
        # Own batches never wait: one that does was written before a rollback, and a batch recorded now would clash with it.
        foreign = self.replica.waits_in(lane) or any(self._is_foreign(batch) for batch in fresh)
        if foreign or self.replica.head(lane).fork_seq:
            out += self._new_epoch("a peer holds more of this node's lane than the node itself")
        inheritance = self.epochs.inheritance()
        if inheritance is not None:
            out += self._unlock(inheritance, now_us)
        if fresh:
            out += self._rights.arrived(now_us)
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
            self._note([self.recorder.claim(inheritance[:MAX_DEPS], now_us)])
        state = self.epochs.unlock()
        self._meta.append(state)
        return [Notify("epoch.unlocked", {"node": self.name, "epoch": state.epoch})]

    def _note(self, batches: Sequence[Batch]) -> None:
        self._written.update(batch.hash for batch in batches)
        self.gossiped.note(batches)
        for batch in batches:
            self._expiries.note(batch)

    # -- timers and messages between cores ------------------------------------------------------------------

    def _timer(self, key: str, now_us: int) -> list[Output]:
        if key == EPOCH_TIMER:
            self.epochs.tick(now_us)
            again = self.epochs.silent()
            return [*self._ask_lanes(), StartTimer(EPOCH_TIMER, EPOCH_INTERVAL_US)] if again else []
        if key == RIGHTS_TIMER:
            return [*self._rights.timer(now_us)]
        if key == EXPIRY_TIMER:
            return self._expire(now_us)
        if key == BEAT_TIMER:
            return [*self._beating.timer(now_us)]
        if key in checkpointing.TIMERS and self.checkpoints:
            return [*self.checkpoints.timer(key, now_us)]
        if key in matchingdesk.TIMERS:
            return [*self.orders.timer(key, now_us)]
        return self._news(now_us) if key == WATCH_TIMER else []

    def _expire(self, now_us: int) -> list[Output]:
        """The reserves of this lane that have ended, unless a peer may know more of the lane than is here."""
        if self.epochs.quiet:
            return [StartTimer(EXPIRY_TIMER, EPOCH_INTERVAL_US)]
        self._expiry_us = None
        return [*self._expiries.void_ended(self.recorder, self._note, now_us)]

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
                    out += self._rights.received(output.peer, messages.decode_rights(output.body), now_us)
                elif output.channel == matchingdesk.CHANNEL:
                    out += self.orders.received(output.peer, messages.decode_orders(output.body), now_us)
                elif output.channel in checkpointing.CHANNELS and self.checkpoints:
                    out += self.checkpoints.received(output, now_us)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                out += self.engine.refuse(output.peer, f"{output.channel}: {error}", now_us, "app.refused")
        return out

    def _on_epoch(self, peer: str, message: LaneAsk | LaneTell) -> Sequence[Output]:
        if isinstance(message, LaneAsk):
            tell = self.epochs.tell(self.genesis.member(peer).id, message)
            # What is told must survive a crash here: the asker will wait for it.
            return self.engine.send_app(peer, "epoch", _encode(tell), self.position)
        self.epochs.told(peer, message)
        return []

    # -- clients --------------------------------------------------------------------------------------------

    def _serve(self, event: ClientRequest, now_us: int) -> list[Output]:
        try:
            request = api.decode_request(event.body)
            if isinstance(request, api.Watch):
                return list(self._watchers.add(event.request, request, self._durable_digest(), now_us))
            if isinstance(request, api.Fork):
                return self._fork(event.request, request, now_us)
            return [Reply(event.request, api.encode_answer(self._answer(request, now_us)), AFTER_THIS_STEP)]
        except InsufficientRights as error:
            return [Reply(event.request, api.encode_error(error)), *self._rights.refused(error, now_us)]
        except LedgerError as error:
            return [Reply(event.request, api.encode_error(error))]

    def _fork(self, client: Any, request: api.Fork, now_us: int) -> list[Output]:
        """For a drill: break this node's word, and go on in a new epoch at once, as a node does that was found out."""
        drilled = drilling.fork(self, request, now_us)
        self._open_epoch("it forked its lane in a drill")
        told = Reply(client, api.encode_answer(drilled.answer), AFTER_THIS_STEP)
        return [*drilled.sends, *self._own_lane(), StartTimer(EPOCH_TIMER, EPOCH_INTERVAL_US), *self._ask_lanes(), told]

    def _answer(self, request: api.Request, now_us: int) -> Any:
        if isinstance(request, api.Query):
            return reading.query(self, request, now_us)
        if isinstance(request, api.Book):
            return orderreading.book(self, request, now_us)
        if isinstance(request, api.Chain):
            return orderreading.chain(self, request)
        if isinstance(request, api.Prove):
            return reading.prove(self, request)
        if isinstance(request, api.Trace):
            return reading.traced(self, request)
        if isinstance(request, api.Told):
            return reading.told(self, request)
        if isinstance(request, api.Notes):
            return reading.noted(self, request)
        if isinstance(request, api.BoardDocument):
            return self.replica.view.board.dump()
        if isinstance(request, api.CursorOf):
            return reading.cursor(self.replica.view, self._member.id, request.source)
        if isinstance(request, api.Columns):
            recorded = self.recorder.record_fills(api.unpack_fills(request), now_us, request.cursor)
            self._note(recorded.batches)
            return _told(recorded)
        if isinstance(request, api.Record):
            return _told(self._record(request, now_us))
        raise BadInput(what=type(request).__name__, where="client", why="this driver does not serve it")

    def _record(self, request: api.Record, now_us: int) -> Recorded:
        recorded, facts = Ordering(self.recorder, self._note).record(request.facts, now_us)
        self._rights.spent(facts, now_us)
        return recorded

    def _news(self, now_us: int) -> list[Output]:
        return list(self._watchers.news(self._durable_digest(), now_us)) if self._watchers else []

    def _durable_digest(self) -> bytes:
        return frontier_digest(self.gossiped.durable_frontier())

    def fold(self) -> None:
        """Bring the figures up to date with what came in, if anybody looked at them before: work for when nobody waits. Whoever asks
        for them sooner waits for just this."""
        if self.replica.folded is not None:
            _ = self.replica.view

    # -- checking -------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Assert what must hold after every step (docs/explanation/guarantees.md)."""
        self.replica.check_invariants()
        for lane, head in self.gossiped.heads().items():
            assert self.gossiped.hash_at(lane, head.seq) == head.hash, "a durable head names a batch that is held"
        if self.checkpoints:
            self.checkpoints.check_invariants()
        self.orders.check_invariants()


def _told(recorded: Recorded) -> dict[str, Any]:
    """The answer to who recorded."""
    last = recorded.batches[-1].seq if recorded.batches else 0
    return {
        "facts": recorded.facts,
        "duplicates": recorded.duplicates,
        "batches": len(recorded.batches),
        "seq": last,
    }
