"""The gossip engine: a state machine that keeps one replica in step with its peers' replicas.

``step(event, now_us)`` takes what happened and returns what to do; nothing else goes in or out. The rules:

* **Hello first.** Whatever else a peer sends before a ``Hello`` of our cluster and of a version that both
  speak is counted and dropped. Hellos are repeated until the peer says that it holds ours.
* **Push is a hint.** What was recorded here goes to every open peer at once (``recorded``). Nobody relies
  on it. Where the peers are not everybody, it goes along a tree, and what the replica applied is passed on once
  it is durable here (``gossip.tree``).
* **Heads are the truth.** Every ``heads_interval_us`` each peer hears the digest of our frontier and the
  lanes that changed (``gossip.heads``); whoever is behind asks for ranges (``gossip.catchup``) and gets
  them (``gossip.ranges``). Heads and ranges speak of durable batches only, so these frames wait for nothing
  (``after=0``); pushes name the journal position that they need.
* **Forks are everybody's.** Evidence that is new here goes to every open peer at once, and again to every
  peer whose heads do not report it, more and more rarely.
* **Everything is bounded** per peer: batches per second, refusals per second, requests under way, lanes
  remembered.

What it is not: it does not persist (the replica's adapter notes what ``admit`` applied, and its driver
writes it), does not judge batches, and does not know who is alive beyond what the transport says. Frames of
other protocols on the same link (``wire.App``) come out as ``AppReceived``; ``send_app`` sends them.

Source: anti-entropy as in Demers et al., "Epidemic algorithms for replicated database maintenance" (PODC
1987), section 1.3, with checksums and recent updates first; here the recent updates are the changed heads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec

from gossip import heads as frontiers
from gossip import wire
from gossip.catchup import Catchup, Progress
from gossip.config import Config
from gossip.effects import (
    Connected,
    Disconnected,
    Durable,
    Effect,
    Event,
    Notify,
    Received,
    Send,
    StartTimer,
    TimerFired,
)
from gossip.peers import Peer, PeerStatus
from gossip.ranges import RangeServer
from gossip.replica import Admission, BatchName, Head, Replica, Status
from gossip.tree import Tree

HEADS_TIMER: Final = "gossip.heads"
CATCHUP_TIMER: Final = "gossip.catchup"


class AppReceived(msgspec.Struct, frozen=True):
    """A message of the engine's owner from ``peer``, who has greeted us. ``body`` is not trusted."""

    peer: str
    channel: str
    body: bytes


Output: TypeAlias = Effect | AppReceived


class GossipEngine:
    """One node's side of the gossip with ``peers``. ``nonce`` names this incarnation: any number from 1 to
    2**63-1, another one after every restart. ``branches``: where the peers are not everybody, those to which batches are
    pushed and passed on at first; None where they are."""

    def __init__(
        self,
        config: Config,
        replica: Replica,
        peers: Collection[str],
        nonce: int,
        branches: Collection[str] | None = None,
    ) -> None:
        self._config = config if branches is None else config.relaying()
        self._tree = None if branches is None else Tree(config.tree, branches)
        self._replica = replica
        self._nonce = nonce
        self._peers = {name: Peer(name, config.peer) for name in sorted(peers)}
        self._server = RangeServer(replica, config.serve)
        self._catchup = Catchup(config.catchup)
        self._round = 0
        self._own = frontiers.OwnFrontier(replica)
        self._wake_us: int | None = None
        self._relayed: dict[bytes, None] = {}  # in order of age
        self._strangers = 0

    # What the driver calls ------------------------------------------------------------------------------

    def start(self, now_us: int) -> list[Output]:
        """Call once, first."""
        return [StartTimer(HEADS_TIMER, self._config.heads_interval_us)]

    def step(self, event: Event, now_us: int) -> list[Output]:
        """What to do about ``event``. Events and timers of others are answered with nothing."""
        if isinstance(event, Received):
            out = self._received(event, now_us)
        elif isinstance(event, TimerFired):
            out = self._timer(event.key, now_us)
        elif isinstance(event, Connected):
            out = self._connected(event.peer, now_us)
        elif isinstance(event, Disconnected):
            out = self._disconnected(event.peer)
        else:
            out = self._pass_on(self._tree) if self._tree and isinstance(event, Durable) else []
        return out + self._plan(now_us)

    def recorded(self, batches: Sequence[tuple[BatchName, bytes]], after: int) -> list[Output]:
        """Push new local ``batches``, in lane order, to every open peer (of a tree: every eager one) once ``after`` is durable."""
        runs = wire.pack([raw for _, raw in batches])
        frames = [wire.encode(wire.Push(run)) for run in runs]
        return [self._frame(peer, frame, after) for peer in self._eager() for frame in frames]

    def send_app(self, peer: str, channel: str, body: bytes, after: int = 0) -> list[Output]:
        """Send ``body`` on ``channel`` (at most 64 characters) to ``peer``; to nobody if it is not open.

        ``body`` must fit a frame: at most ``wire.MAX_FRAME_BYTES - wire.FRAME_OVERHEAD_BYTES`` bytes.
        """
        known = self._peers.get(peer)
        if known is None or not known.open:
            return []
        return [self._send(known, wire.App(channel, body), after)]

    def want(self, name: BatchName, now_us: int) -> list[Output]:
        """The owner needs this batch, and the open peers may hold it: ask for it, also where another one stands here."""
        head = Head(name.seq, name.hash)
        self._catchup.look_again(name.lane, head)
        for peer in self._open():
            self._compare(peer, {name.lane: head}, now_us)
        return self._plan(now_us)

    def refuse(self, peer: str, reason: str, now_us: int, topic: str) -> list[Output]:
        """The owner refuses a message that it got from ``peer``: counted, noted, and too many mute it."""
        known = self._peers.get(peer)
        return self._refuse(known, reason, now_us, topic) if known else []

    @property
    def peers(self) -> dict[str, PeerStatus]:
        """Every peer, by name."""
        ours = self._replica.heads()
        return {name: peer.status(ours) for name, peer in self._peers.items()}

    @property
    def progress(self) -> Progress:
        """How far catch-up has come."""
        return self._catchup.progress(self._replica.admitted)

    @property
    def strangers(self) -> int:
        """Frames from names that are no peers of ours."""
        return self._strangers

    # Links ----------------------------------------------------------------------------------------------

    def _connected(self, name: str, now_us: int) -> list[Output]:
        peer = self._peers.get(name)
        if peer is None:
            return []
        peer.connected = True
        peer.knows_us = False
        peer.refusal = ""
        out: list[Output] = [self._hello(peer, now_us)]
        if peer.greeted:
            self._joined(peer)
            self._compare(peer, peer.picture.heads, now_us)
            out += self._tell_all(peer, now_us)
        return out

    def _disconnected(self, name: str) -> list[Output]:
        peer = self._peers.get(name)
        if peer is not None:
            peer.connected = False
            peer.told_all_us = None
            self._catchup.drop(name)
            self._server.forget(name)
            if self._tree:
                self._tree.left(name)
        return []

    def _received(self, event: Received, now_us: int) -> list[Output]:
        peer = self._peers.get(event.peer)
        if peer is None:
            self._strangers += 1
            return []
        peer.bytes_in += len(event.frame)
        if now_us < peer.muted_until_us:
            peer.over_rate += 1
            return []
        message = wire.decode(event.frame)
        if isinstance(message, wire.Malformed):
            return self._refuse(peer, f"malformed frame: {message}", now_us)
        peer.last_heard_us = now_us
        if isinstance(message, wire.Hello):
            return self._greeted(peer, message, now_us)
        if isinstance(message, wire.Refused) and message.request == 0:
            if not peer.may_be_noted(now_us):
                return []
            return [Notify("gossip.refused_by", {"peer": peer.name, "reason": message.reason})]
        if not peer.greeted:
            peer.early += 1
            return [] if peer.refusal or not self._hello_due(peer, now_us) else [self._hello(peer, now_us)]
        return self._dispatch(peer, message, event.frame, now_us)

    def _dispatch(self, peer: Peer, message: wire.Message, frame: bytes, now_us: int) -> list[Output]:
        if isinstance(message, wire.Heads):
            return self._on_heads(peer, message, now_us) if peer.may_tell_heads(now_us) else []
        if isinstance(message, wire.Push):
            return self._on_push(peer, message, frame, now_us)
        if isinstance(message, wire.Want):
            if self._tree and peer.connected:
                self._tree.grafted(peer.name)
            answer = self._server.answer(peer.name, message, now_us)
            return [self._send(peer, answer)] if peer.connected else []
        if isinstance(message, wire.Range):
            return self._on_range(peer, message, now_us)
        if isinstance(message, wire.Busy):
            if self._catchup.answered(peer.name, message.request) is not None:
                self._catchup.hold(peer.name, now_us + 1000 * min(message.retry_after_ms, 60_000))
            return []
        if isinstance(message, wire.Refused):
            request = self._catchup.answered(peer.name, message.request)
            if request is not None:
                self._catchup.refused(request, now_us)
            return []
        if isinstance(message, wire.Evidence):
            return self._on_evidence(peer, message, now_us)
        if isinstance(message, wire.Prune) and self._tree:
            self._tree.pruned(peer.name)
        if isinstance(message, wire.App) and peer.may_say(now_us):
            return [AppReceived(peer.name, message.channel, message.body)]
        return []

    # Hello ----------------------------------------------------------------------------------------------

    def _greeted(self, peer: Peer, hello: wire.Hello, now_us: int) -> list[Output]:
        reason = self._config.objection(hello)
        if reason:
            known, peer.refusal, peer.nonce = peer.refusal, reason, 0
            out = self._refuse(peer, reason, now_us, topic="gossip.hello_refused")
            if peer.connected and known != reason:
                out.append(self._send(peer, wire.Refused(0, reason[: wire.MAX_REASON_CHARS])))
            return out
        out = []
        is_new = hello.nonce != peer.nonce
        if is_new and not peer.may_be_noted(now_us):
            return []  # nobody restarts that often; if it is true, it will be said again
        if is_new:
            peer.greet(hello.nonce)
            self._joined(peer)
            peer.version = min(hello.version, self._config.version)
            peer.capabilities = hello.capabilities & self._config.capabilities
            self._catchup.drop(peer.name)
            self._server.forget(peer.name)
            out.append(Notify("gossip.greeted", {"peer": peer.name, "version": peer.version}))
        newly_known = not peer.knows_us and hello.seen == self._nonce
        peer.knows_us = hello.seen == self._nonce
        if peer.connected and (is_new or not peer.knows_us):
            out.append(self._hello(peer, now_us))
        if peer.connected and (is_new or newly_known):
            out += self._tell_all_or_owe(peer, now_us)
        return out

    def _hello(self, peer: Peer, now_us: int) -> Send:
        peer.hello_us = now_us
        return self._send(peer, self._config.hello(self._nonce, peer.nonce))

    def _hello_due(self, peer: Peer, now_us: int) -> bool:
        waited = peer.hello_us is None or now_us - peer.hello_us >= self._config.heads_interval_us // 2
        return peer.connected and waited

    # Heads ----------------------------------------------------------------------------------------------

    def _timer(self, key: str, now_us: int) -> list[Output]:
        if key == CATCHUP_TIMER:
            self._wake_us = None
            return []
        if key != HEADS_TIMER:
            return []
        self._round += 1
        digest, news = self._own.digest(), self._own.news()
        frames = [wire.encode(message) for message in news]
        out: list[Output] = []
        for peer in self._peers.values():
            peer.asked = False
            if peer.connected and not peer.refusal and not peer.knows_us:
                out.append(self._hello(peer, now_us))
            if not peer.open:
                continue
            differs = peer.picture.claimed != digest
            if peer.owed or (differs and self._round % self._config.complete_every == 0):
                out += self._tell_all(peer, now_us)
            else:
                peer.told_digest = digest
                out += [self._frame(peer, frame) for frame in frames]
                out += self._offer_evidence(peer)
        out.append(StartTimer(HEADS_TIMER, self._config.heads_interval_us))
        return out

    def _tell_all(self, peer: Peer, now_us: int) -> list[Output]:
        peer.owed = False
        peer.told_all_us = now_us
        return self._tell(peer, self._own.everything()) + self._offer_evidence(peer)

    def _tell_all_or_owe(self, peer: Peer, now_us: int) -> list[Output]:
        """Everything now, or with the next heads: nobody gets much out of us by asking little, often."""
        told_us = peer.told_all_us
        if told_us is None or now_us - told_us >= self._config.heads_interval_us // 4:
            return self._tell_all(peer, now_us)
        peer.owed = True
        return []

    def _tell(self, peer: Peer, messages: Sequence[wire.Heads]) -> list[Output]:
        peer.told_digest = messages[-1].digest
        return [self._send(peer, message) for message in messages]

    def _on_heads(self, peer: Peer, message: wire.Heads, now_us: int) -> list[Output]:
        in_step = peer.picture.told(message)
        if not peer.connected:
            return []
        out: list[Output] = []
        self._compare(peer, {row.lane: row.head for row in message.lanes}, now_us, patient=True)
        if message.asks:
            out += self._tell_all_or_owe(peer, now_us)
        if message.complete:
            out += self._offer_evidence(peer)
        if not in_step and not peer.asked:
            peer.asked = True
            if peer.told_digest:
                out += self._tell(peer, frontiers.messages(peer.told_digest, {}, complete=False, asks=True))
        return out

    def _compare(self, peer: Peer, heads: Mapping[bytes, Head], now_us: int, *, patient: bool = False) -> None:
        """What ``peer`` holds beyond us is to be fetched; what it holds instead of ours is to be looked at. ``patient``: what is
        beyond us may be on its way through the tree.
        """
        beyond: dict[bytes, Head] = {}
        ours = self._replica.heads()
        for lane, head in heads.items():
            if ours.get(lane) == head:
                continue
            if head.seq > self._replica.admitted(lane):
                beyond[lane] = head
            elif head.hash and self._replica.hash_at(lane, head.seq) not in (None, head.hash):
                self._catchup.suspect(peer.name, lane, head)
        if patient and beyond and self._tree:
            beyond = dict(self._tree.doubt(peer.name, beyond, now_us))
        for lane, head in beyond.items():
            self._catchup.claim(peer.name, lane, head)

    # Batches and evidence -------------------------------------------------------------------------------

    def _on_push(self, peer: Peer, message: wire.Push, frame: bytes, now_us: int) -> list[Output]:
        if not self._tree:
            return self._admit_all(peer, message.batches, now_us)
        taken, known = peer.batches, peer.known
        out = self._admit_all(peer, message.batches, now_us)
        known = peer.known - known
        stops = self._tree.pushed(peer.name, frame, peer.batches - taken - known, known)
        if stops and peer.connected and peer.capabilities & wire.CAN_PRUNE:
            out.append(self._send(peer, wire.Prune()))
        return out

    def _on_range(self, peer: Peer, message: wire.Range, now_us: int) -> list[Output]:
        request = self._catchup.answered(peer.name, message.request)
        if request is None:
            # It may be an answer that outlived our patience: over a slow link that is the only kind there is.
            peer.late += 1
            return self._admit_all(peer, message.batches, now_us)
        before = self._replica.admitted(request.lane)
        out = self._admit_all(peer, message.batches, now_us)
        progress = self._replica.admitted(request.lane) > before
        self._catchup.served(request, now_us, progress=progress)
        return out

    def _admit_all(self, peer: Peer, batches: Sequence[bytes], now_us: int) -> list[Output]:
        out: list[Output] = []
        for raw in batches:
            if not peer.may_take(now_us):
                # The rest is dropped, not queued: heads will tell of it when there is room for it again.
                self._catchup.hold(peer.name, peer.takes_again_us(now_us))
                break
            out += self._judge(peer, self._replica.admit(raw, peer.name), now_us)
            if now_us < peer.muted_until_us:
                break
        return out

    def _judge(self, peer: Peer, admission: Admission, now_us: int) -> list[Output]:
        for name in admission.applied:
            self._catchup.advanced(name.lane, name.seq)
        if self._tree:
            self._tree.applied(admission.applied, peer.name)
        if admission.status in (Status.DUPLICATE, Status.SETTLED):
            peer.known += 1
            return []
        # Whoever sends a batch holds what it stands on: that is a claim, even before its heads say so.
        for name in admission.missing:
            self._compare(peer, {name.lane: Head(name.seq, name.hash)}, now_us, patient=True)
        if admission.status is Status.REJECTED:
            return self._refuse(peer, f"batch: {admission.reason}", now_us)
        if admission.status is Status.FORKED:
            out = self._relay(admission.evidence, peer, admission.reason)
            if not out or peer.proved(now_us):
                return out
            return [*out, *self._refuse(peer, f"too many forks: {admission.reason}", now_us)]
        return []

    def _on_evidence(self, peer: Peer, message: wire.Evidence, now_us: int) -> list[Output]:
        out: list[Output] = []
        for piece in message.pieces:
            if not peer.may_take(now_us) or not peer.may_prove(now_us):
                break
            admission = self._replica.admit_evidence(piece, peer.name)
            if admission.status is Status.APPLIED:
                peer.proved(now_us)
                out += self._relay(piece, peer, admission.reason, message.extra)
            elif admission.status is Status.REJECTED:
                out += self._refuse(peer, f"evidence: {admission.reason}", now_us)
        return out

    def _relay(self, piece: bytes, source: Peer, reason: str, extra: wire.Extra = ()) -> list[Output]:
        name = sha256(piece).digest()
        if not piece or name in self._relayed:
            return []
        self._relayed[name] = None
        if len(self._relayed) > wire.MAX_EVIDENCE:
            del self._relayed[next(iter(self._relayed))]
        frame = wire.encode(wire.Evidence((piece,), extra))
        out: list[Output] = [self._frame(peer, frame) for peer in self._open()]
        return [*out, Notify("gossip.forked", {"source": source.name, "reason": reason})]

    def _offer_evidence(self, peer: Peer) -> list[Output]:
        """Evidence that ``peer`` does not report, in frames; each piece more and more rarely."""
        held = self._replica.evidence()
        due = [held[piece] for piece in sorted(held) if peer.may_offer(piece, self._round)]
        return [self._send(peer, wire.Evidence(run)) for run in wire.pack(due)]

    # The tree -------------------------------------------------------------------------------------------

    def _joined(self, peer: Peer) -> None:
        if self._tree and peer.connected:
            self._tree.joined(peer.name)

    def _eager(self) -> list[Peer]:
        """Whom to push to."""
        return [self._peers[name] for name in self._tree.eager] if self._tree else self._open()

    def _pass_on(self, tree: Tree) -> list[Output]:
        """Push what came from others and is durable by now to eager peers that are not known to hold it."""
        heads = self._replica.heads()
        due: list[tuple[BatchName, str, bytes]] = []
        for name, source in tree.due(lambda lane: heads[lane].seq if lane in heads else 0):
            held = self._replica.read(name.lane, name.seq, name.seq, wire.MAX_FRAME_BYTES)
            due += [(name, source, raw) for raw in held]
        out: list[Output] = []
        for peer in self._eager() if due else ():
            lacking = [
                raw for name, source, raw in due if source != peer.name and peer.picture.seq(name.lane) < name.seq
            ]
            out += [self._send(peer, wire.Push(run)) for run in wire.pack(lacking)]
        return out

    # Small parts ----------------------------------------------------------------------------------------

    def _plan(self, now_us: int) -> list[Output]:
        out: list[Output] = []
        for name, heads in self._tree.overdue(now_us) if self._tree else ():
            if self._peers[name].open:
                self._compare(self._peers[name], heads, now_us)
        for name, want in self._catchup.plan(now_us, self._replica.admitted):
            peer = self._peers[name]
            if peer.connected:
                if self._tree:
                    self._tree.grafted(name)
                out.append(self._send(peer, want))
        wakes = [self._catchup.wake_us, self._tree.wake_us if self._tree else None]
        wake_us = min((wake for wake in wakes if wake is not None), default=None)
        if wake_us is not None and (self._wake_us is None or wake_us < self._wake_us):
            self._wake_us = wake_us
            out.append(StartTimer(CATCHUP_TIMER, max(1, wake_us - now_us)))
        return out

    def _refuse(self, peer: Peer, reason: str, now_us: int, topic: str = "gossip.refused") -> list[Output]:
        fields: dict[str, Any] = {"peer": peer.name, "reason": reason}
        if peer.refuse(now_us):
            return [Notify(topic, fields)]
        return [Notify("gossip.muted", {**fields, "for_us": peer.muted_until_us - now_us})]

    def _open(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if peer.open]

    def _send(self, peer: Peer, message: wire.Message, after: int = 0) -> Send:
        return self._frame(peer, wire.encode(message), after)

    @staticmethod
    def _frame(peer: Peer, frame: bytes, after: int = 0) -> Send:
        peer.bytes_out += len(frame)
        return Send(peer.name, frame, after)
