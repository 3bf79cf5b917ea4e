"""Evidence of forks, on its way to everybody: relayed once when it is new here, offered again to whoever does not report it.

A relayed piece is remembered by its digest, so that it is not relayed again when it comes back; of those the oldest are forgotten beyond
``wire.MAX_EVIDENCE``. An offer goes out more and more rarely (``peers.Peer.may_offer``): who cannot use a piece is not flooded with it.

What it is not: a judge. Whether a piece proves anything is the replica's to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from gossip import wire
from gossip.effects import Effect, Notify, Send
from gossip.peers import Peer
from gossip.replica import Replica


class Forks:
    """What one engine knows of the evidence that its replica holds."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._relayed: dict[bytes, None] = {}  # in order of age

    def relay(
        self, piece: bytes, peers: Iterable[Peer], source: str, reason: str, extra: wire.Extra = ()
    ) -> list[Effect]:
        """Tell all ``peers``, if they have not been told. ``source``: whom it came from; ``extra``: what came with it and is passed on."""
        name = sha256(piece).digest()
        if not piece or name in self._relayed:
            return []
        self._relayed[name] = None
        if len(self._relayed) > wire.MAX_EVIDENCE:
            del self._relayed[next(iter(self._relayed))]
        frame = wire.encode(wire.Evidence((piece,), extra))
        return [*(peer.frame(frame) for peer in peers), Notify("gossip.forked", {"source": source, "reason": reason})]

    def offer(self, peer: Peer, heads_round: int) -> list[Send]:
        """Evidence that ``peer`` does not report, in frames; each piece more and more rarely."""
        held = self._replica.evidence()
        due = [held[piece] for piece in sorted(held) if peer.may_offer(piece, heads_round)]
        return [peer.send(wire.Evidence(run)) for run in wire.pack(due)]
