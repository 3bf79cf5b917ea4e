"""Comparing frontiers: the digest of one, what changed between two, and a picture of what a peer holds.

The rule that makes heads cheap and loss harmless: every ``Heads`` message carries the digest of the sender's
*whole* frontier, but only the lanes that changed. The receiver overwrites those lanes in its picture of the
sender; if the picture then has another digest, something was lost or came out of order, and it asks for
everything. A picture is a statement of what a peer said, never of what is true.

Pure: frontiers in, values out. Nothing here decides whom to ask for what (``gossip.catchup`` does).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from hashlib import sha256
from typing import Final

from gossip import wire
from gossip.replica import Head

_DOMAIN: Final = b"gossip frontier digest v1\x00"


def digest(heads: Mapping[bytes, Head], evidence: Iterable[bytes]) -> bytes:
    """32 bytes that two nodes have in common exactly when they hold the same heads and evidence ids.

    Empty lanes (seq 0) say nothing and are left out. Every variable part is preceded by its length.
    """
    state = sha256(_DOMAIN)
    for lane in sorted(heads):
        head = heads[lane]
        if head.seq:
            state.update(len(lane).to_bytes(2, "big") + lane + head.seq.to_bytes(8, "big"))
            state.update(len(head.hash).to_bytes(1, "big") + head.hash)
    state.update(b"\xff\xff")  # no lane is that long: here the evidence begins
    for piece in sorted(evidence):
        state.update(piece)
    return state.digest()


def changed(before: Mapping[bytes, Head], after: Mapping[bytes, Head]) -> dict[bytes, Head]:
    """The lanes of ``after`` whose head is not the one in ``before``, in the order of their names."""
    return {lane: after[lane] for lane in sorted(after) if before.get(lane) != after[lane]}


def messages(
    frontier_digest: bytes,
    lanes: Mapping[bytes, Head],
    *,
    complete: bool,
    evidence: Collection[bytes] = (),
    asks: bool = False,
) -> list[wire.Heads]:
    """The message that says ``lanes``, or several when they are more than one frame may carry.

    Only a lone message can be ``complete``: a receiver merges several, which is as good until a lane
    vanishes.
    """
    rows = [wire.LaneHead(lane, head.seq, head.hash) for lane, head in lanes.items() if head.seq]
    pieces = tuple(sorted(evidence)[: wire.MAX_EVIDENCE])
    if len(rows) <= wire.MAX_LANES:
        return [wire.Heads(frontier_digest, tuple(rows), complete, pieces, asks)]
    runs = [rows[at : at + wire.MAX_LANES] for at in range(0, len(rows), wire.MAX_LANES)]
    return [
        wire.Heads(frontier_digest, tuple(run), False, pieces if at == 0 else (), asks and at == 0)
        for at, run in enumerate(runs)
    ]


class Picture:
    """What one peer said that it holds. ``lanes`` at most, whatever it says."""

    def __init__(self, lanes: int) -> None:
        self._most = lanes
        self.heads: dict[bytes, Head] = {}
        self.evidence: set[bytes] = set()
        self.claimed = b""
        self._digest = b""

    def told(self, message: wire.Heads) -> bool:
        """Overwrite what ``message`` names; True when the picture now has the digest that it claims."""
        if message.complete:
            self.heads.clear()
            self.evidence.clear()
        if message.lanes or message.evidence or message.complete or not self._digest:
            for row in message.lanes:
                if row.lane in self.heads or len(self.heads) < self._most:
                    self.heads[row.lane] = row.head
            self.evidence.update(message.evidence[: max(0, wire.MAX_EVIDENCE - len(self.evidence))])
            self._digest = digest(self.heads, self.evidence)
        self.claimed = message.digest
        return self._digest == message.digest
