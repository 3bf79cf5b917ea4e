"""Canonical order: the one order in which a cut's batches are settled, the same for everybody and steered by no clock.

Kahn's algorithm ("Topological sorting of large networks", CACM 1962) over the cut's batches with a min-heap: among the batches
whose predecessors are out, the one with the least ``digest(seed, lane, seq)`` comes next. What precedes a batch: the one
before it in its lane, and the batches inside the cut that its deps name. Within a batch, facts keep their row order.

- The seed binds the previous checkpoint and the cut, so that no recorder can know a batch's place when it writes it.
- What a proposer can still choose is the cut. Who proposes may try several frontiers that it holds and keep the one whose order it
  likes; it cannot do so for one batch alone, and what order decides is only which of two contradicting facts counts.
- A dep beyond the end of a closed lane stands on the lane's last batch: of what comes after nothing counts.

It says nothing about whether the cut holds: ``cuts`` does.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from crdtledger.errors import BadCut
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.identity import digest

from .checkpoint import LaneCut, cut_digest


def order_seed(previous: bytes, cut: Iterable[LaneCut]) -> bytes:
    """32 bytes that fix the order: of the previous checkpoint's digest and this cut."""
    return digest("seed", previous, cut_digest(cut))


def canonical_order(batches: Sequence[Batch], ends: Mapping[bytes, int], seed: bytes) -> list[Batch]:
    """The batches in canonical order. ``ends``: the last seq of every lane of the cut. Raises BadCut when deps go in circles.

    Circles need lanes that fork below the fork that is known, so whoever proposes such a cut has more evidence to wait for.
    """
    at = {(batch.key, batch.seq): batch for batch in batches}
    open_edges: dict[tuple[bytes, int], int] = {}
    followers: dict[tuple[bytes, int], list[Batch]] = {}
    ready: list[tuple[bytes, bytes, int]] = []
    for batch in batches:
        stands_on = {(dep.lane, min(dep.seq, ends.get(dep.lane, 0))) for dep in batch.header.deps}
        stands_on = {name for name in {*stands_on, (batch.key, batch.seq - 1)} if name in at}
        open_edges[batch.key, batch.seq] = len(stands_on)
        for name in stands_on:
            followers.setdefault(name, []).append(batch)
        if not stands_on:
            heapq.heappush(ready, _ticket(batch, seed))
    ordered: list[Batch] = []
    while ready:
        _, lane, seq = heapq.heappop(ready)
        ordered.append(at[lane, seq])
        for follower in followers.get((lane, seq), ()):
            name = (follower.key, follower.seq)
            open_edges[name] -= 1
            if not open_edges[name]:
                heapq.heappush(ready, _ticket(follower, seed))
    if len(ordered) < len(at):
        raise BadCut(why=f"the deps of {len(at) - len(ordered)} batches go in circles")
    return ordered


def _ticket(batch: Batch, seed: bytes) -> tuple[bytes, bytes, int]:
    return digest("canonical", seed, batch.key, batch.seq.to_bytes(8, "big")), batch.key, batch.seq
