"""Comparing frontiers: the digest of one, what changed between two, and a picture of what a peer holds.

The rule that makes heads cheap and loss harmless: every ``Heads`` message carries the digest of the sender's
*whole* frontier, but only the lanes that changed. The receiver overwrites those lanes in its picture of the
sender; if the picture then has another digest, something was lost or came out of order, and it asks for
everything. A picture is a statement of what a peer said, never of what is true.

A frontier of a thousand lanes is digested every time a peer tells of a change, so what a row looks like in the digest is made
once (``_row``) and kept in the order of the lanes: a digest then costs one hash over rows that are there.

Pure: frontiers in, values out. Nothing here decides whom to ask for what (``gossip.catchup`` does).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final, NamedTuple

from gossip import wire
from gossip.replica import Head, Replica

_DOMAIN: Final = b"gossip frontier digest v1\x00"
_ROWS_KEPT: Final = 1 << 14


class _Row(NamedTuple):
    """A lane and its head, and how the digest reads them. Equal rows are one object, whoever told them."""

    lane: bytes
    head: Head
    encoded: bytes


@lru_cache(maxsize=_ROWS_KEPT)
def _row(lane: bytes, seq: int, name: bytes) -> _Row:
    if not seq:
        return _Row(lane, Head(seq, name), b"")
    encoded = b"".join((len(lane).to_bytes(2, "big"), lane, seq.to_bytes(8, "big"), len(name).to_bytes(1, "big"), name))
    return _Row(lane, Head(seq, name), encoded)


class Frontier:
    """lane -> head, with its digest at hand."""

    def __init__(self) -> None:
        self._rows: dict[bytes, _Row] = {}
        self._order: list[bytes] = []
        self._in_order = True

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, lane: object) -> bool:
        return lane in self._rows

    def seq(self, lane: bytes) -> int:
        """How far ``lane`` goes, 0 if it is not there."""
        row = self._rows.get(lane)
        return row.head.seq if row else 0

    @property
    def heads(self) -> dict[bytes, Head]:
        """A copy of it all."""
        return {lane: row.head for lane, row in self._rows.items()}

    def put(self, lane: bytes, seq: int, name: bytes) -> None:
        """``lane`` ends at batch ``seq`` with the hash ``name``."""
        row = _row(lane, seq, name)
        if lane not in self._rows:
            lane = row.lane
            self._in_order = self._in_order and (not self._order or self._order[-1] < lane)
            self._order.append(lane)
        self._rows[lane] = row

    def clear(self) -> None:
        """No lanes."""
        self._rows.clear()
        self._order.clear()
        self._in_order = True

    def digest(self, evidence: Iterable[bytes]) -> bytes:
        """32 bytes that two nodes have in common exactly when they hold the same heads and evidence ids.

        Empty lanes (seq 0) say nothing and are left out. Every variable part is preceded by its length.
        """
        if not self._in_order:
            self._order.sort()
            self._in_order = True
        rows = self._rows
        state = sha256(_DOMAIN)
        state.update(b"".join([rows[lane].encoded for lane in self._order]))
        state.update(b"\xff\xff")  # no lane is that long: here the evidence begins
        for piece in sorted(evidence):
            state.update(piece)
        return state.digest()


def digest(heads: Mapping[bytes, Head], evidence: Iterable[bytes]) -> bytes:
    """The digest of a frontier that is not kept."""
    frontier = Frontier()
    for lane, head in heads.items():
        frontier.put(lane, head.seq, head.hash)
    return frontier.digest(evidence)


def changed(before: Mapping[bytes, Head], after: Mapping[bytes, Head]) -> dict[bytes, Head]:
    """The lanes of ``after`` whose head is not the one in ``before``, in the order of their names."""
    return {lane: after[lane] for lane in sorted(lane for lane in after if before.get(lane) != after[lane])}


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


class Picture(Frontier):
    """What one peer said that it holds. ``lanes`` at most, whatever it says."""

    def __init__(self, lanes: int) -> None:
        super().__init__()
        self._most = lanes
        self.evidence: set[bytes] = set()
        self.claimed = b""
        self._digest = b""

    def told(self, message: wire.Heads) -> bool:
        """Overwrite what ``message`` names; True when the picture now has the digest that it claims."""
        if message.complete:
            self.clear()
            self.evidence.clear()
        if message.lanes or message.evidence or message.complete or not self._digest:
            for row in message.lanes:
                if row.lane in self or len(self) < self._most:
                    self.put(row.lane, row.seq, row.hash)
            self.evidence.update(message.evidence[: max(0, wire.MAX_EVIDENCE - len(self.evidence))])
            self._digest = self.digest(self.evidence)
        self.claimed = message.digest
        return self._digest == message.digest


class OwnFrontier:
    """What is told of the replica that we hold: its digest, what is new since the last round, and everything."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._told: dict[bytes, Head] = {}
        self._digested: dict[bytes, Head] = {}
        self._frontier = Frontier()
        self._evidence: tuple[bytes, ...] = ()
        self._digest = self._frontier.digest(())

    def digest(self) -> bytes:
        """Of what is held now. Only what changed since it was asked for last is encoded again."""
        heads, evidence = self._replica.heads(), tuple(sorted(self._replica.evidence()))
        if heads == self._digested and evidence == self._evidence:
            return self._digest
        if not self._digested.keys() <= heads.keys():  # a lane vanished: its last durable batch was set aside
            self._frontier.clear()
            self._digested = {}
        for lane, head in heads.items():
            if self._digested.get(lane) != head:
                self._frontier.put(lane, head.seq, head.hash)
        self._digested, self._evidence = dict(heads), evidence
        self._digest = self._frontier.digest(evidence)
        return self._digest

    def news(self) -> list[wire.Heads]:
        """What to tell in a heads round: the lanes whose heads are not those of the round before."""
        before, self._told = self._told, dict(self._replica.heads())
        return messages(self.digest(), changed(before, self._told), complete=False)

    def everything(self) -> list[wire.Heads]:
        """What to tell whoever knows nothing."""
        heads = self._replica.heads()
        lanes = {lane: heads[lane] for lane in sorted(heads)}
        return messages(self.digest(), lanes, complete=True, evidence=self._replica.evidence())
