"""Validators that lie: an honest core whose words are changed on their way out.

equivocate   says one thing to some and another to others, votes and proposals alike
withhold     says next to nothing of votes, cosignatures and certificates
garbage      proposes what is no checkpoint, and sends noise on every channel
wrong roots  proposes checkpoints with another state root, and puts its name to another log
replay       says again, at any time, what anybody said before
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from crdtledger.edge.core import NodeCore
from crdtledger.ledger.identity import Identity
from gossip import wire
from gossip.effects import Received, Send
from reconcile.checkpoint import Checkpoint, decode_checkpoint
from reconcile.quorum import committee_of
from reconcile.votes import NIL, NO_ROUND, Kind, Proposal, Vote, decode, encode, sign, value_id

LIES = ("equivocate", "withhold", "garbage", "wrong roots", "replay")


class Liar:
    """Passes for the core that it wraps."""

    def __init__(self, core: NodeCore, identity: Identity, lie: str, seed: Any) -> None:
        self._core = core
        self._identity = identity
        self._lie = lie
        self._draw = Random(f"{seed} {lie}")
        self._committee = committee_of(core.genesis)
        self._place = self._committee.places[identity.public_key]
        self._heard: list[bytes] = []
        self.lied = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def start(self, now_us: int) -> list[Any]:
        return self._twist(self._core.start(now_us))

    def step(self, event: Any, now_us: int) -> list[Any]:
        if isinstance(event, Received):
            self._heard = [*self._heard[-200:], bytes(event.frame)]
        return self._twist(self._core.step(event, now_us))

    def _twist(self, effects: Sequence[Any]) -> list[Any]:
        out: list[Any] = []
        for effect in effects:
            message = wire.decode(effect.frame) if isinstance(effect, Send) else None
            if isinstance(message, wire.App) and message.channel in ("vote", "checkpoint"):
                out += self._say(effect, message)
            else:
                out.append(effect)
        return out

    def _say(self, send: Send, app: wire.App) -> list[Send]:
        draw = self._draw
        if self._lie == "withhold":
            return [send] if draw.random() < 0.1 else []
        if self._lie == "replay" and self._heard and draw.random() < 0.2:
            self.lied += 1
            return [send, Send(send.peer, draw.choice(self._heard))]
        if self._lie == "garbage" and draw.random() < 0.05:
            self.lied += 1
            return [send, self._app(send, app.channel, draw.randbytes(draw.randrange(100)))]
        if app.channel == "checkpoint":
            return [self._app(send, app.channel, self._garbled(app.body)) if self._lie == "wrong roots" else send]
        said = decode(app.body)
        vote = said.vote if isinstance(said, Proposal) else said
        if not isinstance(vote, Vote) or vote.voter != self._place:
            return [send]
        told = self._other_proposal(said, send) if isinstance(said, Proposal) else self._other_vote(vote, send)
        self.lied += told is not None
        return [send if told is None else self._app(send, app.channel, encode(told))]

    def _other_vote(self, vote: Vote, send: Send) -> Vote | None:
        if self._lie != "equivocate" or vote.value_id == NIL or send.peer < "n1":
            return None
        return self._sign(vote, NIL, NO_ROUND)

    def _other_proposal(self, said: Proposal, send: Send) -> Proposal | None:
        if self._lie in ("replay", "withhold") or (self._lie == "equivocate" and send.peer < "n1"):
            return None
        value = b"garbage" if self._lie == "garbage" else self._other_root(said.value)
        return Proposal(self._sign(said.vote, value_id(value), said.vote.vr), value)

    def _sign(self, vote: Vote, id: bytes, vr: int) -> Vote:
        return sign(self._identity, self._committee, (Kind(vote.kind), vote.height, vote.round, id, vr, self._place))

    @staticmethod
    def _other_root(value: bytes) -> bytes:
        honest = decode_checkpoint(value)
        record = msgspec.structs.replace(honest.record, state_root=bytes(32))
        return Checkpoint(record, honest.cut, honest.evidence).encode()

    def _garbled(self, body: bytes) -> bytes:
        """A message with its last byte changed: in a cosignature, the signature's."""
        self.lied += 1
        return body[:-1] + bytes([body[-1] ^ 1])

    @staticmethod
    def _app(send: Send, channel: str, body: bytes) -> Send:
        return Send(send.peer, wire.encode(wire.App(channel, body)), send.after)
