"""Whether a cut extends the settled state, and with what: the part of settlement that can say no.

A cut holds when

- every lane with a settled batch stands in it, at its settled place or further, and every batch from there on names the hash
  of the one before it, up to the cut's hash; a closed lane stands where it was closed;
- it is causally closed: what a batch's deps name is settled, or inside the cut with exactly that hash, or at or above the fork of
  a lane that is closed, where nothing counts;
- no batch stands on a checkpoint from this height on, or on an earlier one than the batch before it;
- evidence is against members' open lanes, one piece a lane, and each such lane ends right before its fork, or at the previous
  cut if that is later. A lane that is not here up to its fork is not closed yet: its earlier batches count like any others.

Whoever proposes takes what ``fitting_evidence`` leaves; the rest waits for a height whose cut reaches the forks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from crdtledger.errors import BadCut
from crdtledger.ledger.batch import FIRST_PREV, Batch, ForkEvidence, lane_text
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SettledLane

from .checkpoint import LaneCut

OPEN = SettledLane(0, FIRST_PREV)
"""A lane of which nothing is settled."""


class Extension(NamedTuple):
    """A cut that holds: ``ends`` (lane -> last seq, of every lane that anything is known of), ``grown`` (lane -> its new batches, in
    seq order) and ``closed`` (lane -> the evidence that closes it now)."""

    ends: dict[bytes, int]
    grown: dict[bytes, list[Batch]]
    closed: dict[bytes, ForkEvidence]


def ends_at(settled: SettledLane, fork_seq: int) -> int:
    """The last seq of a lane that forks at ``fork_seq``: right before, or where it is settled already."""
    return max(fork_seq - 1, settled.seq)


def fitting_evidence(
    state: SettledState, cut: Iterable[LaneCut], evidence: Iterable[ForkEvidence]
) -> list[ForkEvidence]:
    """What a checkpoint with this cut can take in of ``evidence``, sorted by its bytes: one piece for each lane that the cut ends right."""
    ends = {entry.lane: entry.seq for entry in cut}
    fitting: dict[bytes, ForkEvidence] = {}
    for proof in sorted(evidence, key=lambda one: (one.seq, one.raw)):
        settled = state.lanes.get(proof.lane, OPEN)
        if not settled.closed and ends.get(proof.lane, 0) == ends_at(settled, proof.seq):
            fitting.setdefault(proof.lane, proof)
    return sorted(fitting.values(), key=lambda one: one.raw)


def extend(
    genesis: Genesis,
    state: SettledState,
    cut: Sequence[LaneCut],
    batches: Sequence[Batch],
    evidence: Sequence[ForkEvidence],
    height: int,
) -> Extension:
    """How the cut of ``height`` extends ``state``.

    Raises BadCut, naming the lane, when it does not hold or ``batches`` are not exactly what it adds.
    """
    reached = {entry.lane: entry for entry in cut}
    if len(reached) != len(cut):
        raise BadCut(why="a lane stands in it twice")
    closed = _closed(genesis, state, reached, evidence)
    for lane, settled in state.lanes.items():
        if settled.seq and lane not in reached:
            raise BadCut(why=f"lane {lane_text(lane, genesis)} is settled up to {settled.seq} and missing")
    grown: dict[bytes, list[Batch]] = {}
    for batch in sorted(batches, key=lambda one: (one.key, one.seq)):
        grown.setdefault(batch.key, []).append(batch)
    for lane in grown.keys() - reached.keys():
        raise BadCut(why=f"a batch of lane {lane_text(lane, genesis)} is not in it")
    for lane, entry in reached.items():
        fault = _chain_fault(state.lanes.get(lane, OPEN), entry, grown.get(lane, []), height)
        if fault:
            raise BadCut(why=f"lane {lane_text(lane, genesis)} {fault}")
    ends = {lane: settled.seq for lane, settled in state.lanes.items()} | {lane: e.seq for lane, e in reached.items()}
    extension = Extension(ends, grown, closed)
    for batch in batches:
        fault = _deps_fault(genesis, state, extension, batch)
        if fault:
            raise BadCut(why=f"batch {lane_text(batch.key, genesis)}#{batch.seq} {fault}")
    return extension


def _closed(
    genesis: Genesis, state: SettledState, reached: Mapping[bytes, LaneCut], evidence: Sequence[ForkEvidence]
) -> dict[bytes, ForkEvidence]:
    closed: dict[bytes, ForkEvidence] = {}
    for proof in evidence:
        name = lane_text(proof.lane, genesis)
        settled = state.lanes.get(proof.lane, OPEN)
        if settled.closed or proof.lane in closed:
            raise BadCut(why=f"lane {name} is closed without this evidence")
        end = reached[proof.lane].seq if proof.lane in reached else 0
        if end != ends_at(settled, proof.seq):
            raise BadCut(why=f"lane {name} ends at {end}, its fork is at {proof.seq} and {settled.seq} was settled")
        closed[proof.lane] = proof
    return closed


def _chain_fault(settled: SettledLane, entry: LaneCut, batches: Sequence[Batch], height: int) -> str:
    """Why a lane's new batches do not lead from where it is settled to where the cut has it, or nothing."""
    if settled.closed and entry.seq != settled.seq:
        return f"was closed at {settled.seq} and moves to {entry.seq}"
    if entry.seq - settled.seq != len(batches):
        return f"goes from {settled.seq} to {entry.seq} with {len(batches)} batches"
    head, base = settled.hash, settled.base_height
    for seq, batch in enumerate(batches, settled.seq + 1):
        if batch.seq != seq or batch.header.prev != head:
            return f"does not go on from {seq - 1} as it was"
        if not base <= batch.header.base[0] < height:
            return f"stands on checkpoint {batch.header.base[0]} at {seq}: not within {base}..{height - 1}"
        head, base = batch.hash, batch.header.base[0]
    return "" if head == entry.hash else f"has another batch at {entry.seq}"


def _deps_fault(genesis: Genesis, state: SettledState, extension: Extension, batch: Batch) -> str:
    """Why a batch stands on what is not settled with it, or nothing."""
    for dep in batch.header.deps:
        settled = state.lanes.get(dep.lane, OPEN)
        proof = extension.closed.get(dep.lane)
        fork_seq = proof.seq if proof else settled.closed
        if (fork_seq and dep.seq >= fork_seq) or dep.seq <= settled.seq:
            continue  # nothing counts beyond a fork; what is settled gives nothing more than the state already holds
        grown = extension.grown.get(dep.lane, [])
        index = dep.seq - settled.seq - 1
        if index >= len(grown) or grown[index].hash != dep.hash:
            return f"depends on {lane_text(dep.lane, genesis)}#{dep.seq}, which is not in it"
    return ""
