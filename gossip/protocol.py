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

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

import msgspec

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
from gossip.fetching import CATCHUP_TIMER, Fetching
from gossip.forks import Forks
from gossip.passing import pass_on
from gossip.peers import Peer, PeerStatus
from gossip.ranges import RangeServer
from gossip.replica import Admission, BatchName, Head, Replica, Status
from gossip.telling import Telling
from gossip.tree import Tree

HEADS_TIMER: Final = "gossip.heads"


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
        self._fetching = Fetching(replica, self._catchup, self._tree, self._peers)
        self._forks = Forks(replica)
        self._telling = Telling(replica, self._forks, config.heads_interval_us, config.complete_every)
        self.strangers = 0  # frames from names that are no peers of ours

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
            out = (
                [*pass_on(self._tree, self._replica, self._eager())]
                if self._tree and isinstance(event, Durable)
                else []
            )
        return out + self._fetching.plan(now_us)

    def recorded(self, batches: Sequence[tuple[BatchName, bytes]], after: int) -> list[Send]:
        """Push new local ``batches``, in lane order, to every open peer (of a tree: every eager one) once ``after`` is durable."""
        runs = wire.pack([raw for _, raw in batches])
        frames = [wire.encode(wire.Push(run)) for run in runs]
        return [peer.frame(frame, after) for peer in self._eager() for frame in frames]

    def send_app(self, peer: str, channel: str, body: bytes, after: int = 0) -> list[Output]:
        """Send ``body`` on ``channel`` (at most 64 characters) to ``peer``; to nobody if it is not open.

        ``body`` must fit a frame: at most ``wire.MAX_FRAME_BYTES - wire.FRAME_OVERHEAD_BYTES`` bytes.
        """
        known = self._peers.get(peer)
        if known is None or not known.open:
            return []
        return [known.send(wire.App(channel, body), after)]

    def want(self, name: BatchName, now_us: int) -> list[Output]:
        """The owner needs this batch, and the open peers may hold it: ask for it, also where another one stands here."""
        head = Head(name.seq, name.hash)
        self._catchup.look_again(name.lane, head)
        for peer in self._open():
            self._fetching.compare(peer, {name.lane: head}, now_us)
        return [*self._fetching.plan(now_us)]

    def rest(self, until_us: int) -> None:
        """Fetch nothing before ``until_us``: the owner gets what is missing in another way."""
        self._catchup.rest(until_us)

    def refuse(self, peer: str, reason: str, now_us: int, topic: str) -> list[Output]:
        """The owner refuses a message that it got from ``peer``: counted, noted, and too many mute it."""
        known = self._peers.get(peer)
        return [known.refuse(reason, now_us, topic)] if known else []

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
    def taken(self) -> int:
        """Batches that peers sent, new or not."""
        return sum(peer.batches for peer in self._peers.values())

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
            self._fetching.compare(peer, peer.picture.heads, now_us)
            out += self._telling.everything(peer, now_us)
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
            self.strangers += 1
            return []
        peer.bytes_in += len(event.frame)
        if now_us < peer.muted_until_us:
            peer.over_rate += 1
            return []
        message = wire.decode(event.frame)
        if isinstance(message, wire.Malformed):
            return [peer.refuse(f"malformed frame: {message}", now_us)]
        peer.heard(now_us)
        if isinstance(message, wire.Hello):
            return self._greeted(peer, message, now_us)
        if isinstance(message, wire.Refused) and message.request == 0:
            if not peer.may_be_noted(now_us):
                return []
            return [Notify("gossip.refused_by", {"peer": peer.name, "reason": message.reason})]
        if not peer.greeted:
            peer.early += 1
            return (
                []
                if peer.refusal or not peer.hello_due(self._config.heads_interval_us // 2, now_us)
                else [self._hello(peer, now_us)]
            )
        return self._dispatch(peer, message, event.frame, now_us)

    def _dispatch(self, peer: Peer, message: wire.Message, frame: bytes | memoryview, now_us: int) -> list[Output]:
        if isinstance(message, wire.Heads):
            return self._on_heads(peer, message, now_us) if peer.may_tell_heads(now_us) else []
        if isinstance(message, wire.Push):
            return self._on_push(peer, message, frame, now_us)
        if isinstance(message, wire.Want):
            if self._tree and peer.connected:
                self._tree.grafted(peer.name)
            answer = self._server.answer(peer.name, message, now_us)
            return [peer.send(answer)] if peer.connected else []
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
            out: list[Output] = [peer.refuse(reason, now_us, topic="gossip.hello_refused")]
            if peer.connected and known != reason:
                out.append(peer.send(wire.Refused(0, reason[: wire.MAX_REASON_CHARS])))
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
            out += self._telling.everything_or_owe(peer, now_us)
        return out

    def _hello(self, peer: Peer, now_us: int) -> Send:
        peer.hello_us = now_us
        return peer.send(self._config.hello(self._nonce, peer.nonce))

    # Heads ----------------------------------------------------------------------------------------------

    def _timer(self, key: str, now_us: int) -> list[Output]:
        if key == CATCHUP_TIMER:
            self._fetching.woken()
            return []
        if key != HEADS_TIMER:
            return []
        self._telling.begin()
        out: list[Output] = []
        for peer in self._peers.values():
            peer.asked = False
            if peer.connected and not peer.refusal and not peer.knows_us:
                out.append(self._hello(peer, now_us))
            if peer.open:
                out += self._telling.turn(peer, now_us)
        out.append(StartTimer(HEADS_TIMER, self._config.heads_interval_us))
        return out

    def _on_heads(self, peer: Peer, message: wire.Heads, now_us: int) -> list[Output]:
        in_step = peer.picture.told(message)
        if not peer.connected:
            return []
        out: list[Output] = []
        self._fetching.compare(peer, {row.lane: row.head for row in message.lanes}, now_us, patient=True)
        if message.asks:
            out += self._telling.everything_or_owe(peer, now_us)
        if message.complete:
            out += self._telling.evidence(peer)
        if not in_step and not peer.asked:
            peer.asked = True
            out += self._telling.ask(peer)
        return out

    # Batches and evidence -------------------------------------------------------------------------------

    def _on_push(self, peer: Peer, message: wire.Push, frame: bytes | memoryview, now_us: int) -> list[Output]:
        if not self._tree:
            return self._admit_all(peer, message.batches, now_us)
        taken, known = peer.batches, peer.known
        out = self._admit_all(peer, message.batches, now_us)
        known = peer.known - known
        stops = self._tree.pushed(peer.name, frame, peer.batches - taken - known, known)
        if stops and peer.connected and peer.capabilities & wire.CAN_PRUNE:
            out.append(peer.send(wire.Prune()))
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
            self._fetching.compare(peer, {name.lane: Head(name.seq, name.hash)}, now_us, patient=True)
        if admission.status is Status.REJECTED:
            return [peer.refuse(f"batch: {admission.reason}", now_us)]
        if admission.status is Status.FORKED:
            out = self._forks.relay(admission.evidence, self._open(), peer.name, admission.reason)
            if not out or peer.proved(now_us):
                return [*out]
            return [*out, peer.refuse(f"too many forks: {admission.reason}", now_us)]
        return []

    def _on_evidence(self, peer: Peer, message: wire.Evidence, now_us: int) -> list[Output]:
        out: list[Output] = []
        for piece in message.pieces:
            if not peer.may_take(now_us) or not peer.may_prove(now_us):
                break
            admission = self._replica.admit_evidence(piece, peer.name)
            if admission.status is Status.APPLIED:
                peer.proved(now_us)
                out += self._forks.relay(piece, self._open(), peer.name, admission.reason, message.extra)
            elif admission.status is Status.REJECTED:
                out.append(peer.refuse(f"evidence: {admission.reason}", now_us))
        return out

    # Who is there ---------------------------------------------------------------------------------------

    def _joined(self, peer: Peer) -> None:
        if self._tree and peer.connected:
            self._tree.joined(peer.name)

    def _eager(self) -> list[Peer]:
        """Whom to push to."""
        return [self._peers[name] for name in self._tree.eager] if self._tree else self._open()

    def _open(self) -> list[Peer]:
        return [peer for peer in self._peers.values() if peer.open]
