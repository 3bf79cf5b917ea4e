"""A toy replica (hash-chained lanes without signatures) and a toy node around the gossip engine, for tests.

A toy batch is ``[lane, seq, hash of the one before, deps, payload]``; its hash is that of its bytes.
``deps`` are ``[lane, seq]`` pairs that must be held before it. A fork is two batches of one lane and seq,
and its evidence is both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from gossip.config import Config
from gossip.effects import Durable, Effect, Persist, Reply
from gossip.protocol import AppReceived, GossipEngine, Output
from gossip.replica import Admission, BatchName, Head, Status
from gossip.simulation import Simulation

CLUSTER = b"toy cluster".ljust(32, b".")
SECOND = 1_000_000


class Toy(msgspec.Struct, frozen=True, array_like=True):
    lane: bytes
    seq: int
    prev: bytes
    deps: list[tuple[bytes, int]] = []
    payload: bytes = b""


class Record(msgspec.Struct, frozen=True):
    """A client's wish: one more batch on the node's own lane."""

    request: Any
    payload: bytes


def hash_of(raw: bytes) -> bytes:
    return sha256(raw).digest()


def chain(lane: bytes, count: int, salt: bytes = b"", size: int = 0) -> list[bytes]:
    """``count`` batches of one lane, from its beginning."""
    return extend(lane, [], salt, count, size)


def extend(lane: bytes, before: list[bytes], salt: bytes, count: int, size: int = 0) -> list[bytes]:
    """The next ``count`` batches of a lane that begins with ``before``; another ``salt`` makes another branch."""
    raws: list[bytes] = []
    prev = hash_of(before[-1]) if before else bytes(32)
    for seq in range(len(before) + 1, len(before) + count + 1):
        raws.append(msgspec.msgpack.encode(Toy(lane, seq, prev, [], salt + bytes(size))))
        prev = hash_of(raws[-1])
    return raws


class ToyReplica:
    def __init__(self) -> None:
        self.lanes: dict[bytes, list[bytes]] = {}
        self.synced: dict[bytes, int] = {}
        self.waiting: dict[bytes, Toy] = {}
        self.proofs: dict[bytes, bytes] = {}
        self.fresh: list[bytes] = []  # applied and not yet handed to the journal
        self.refused = 0

    def heads(self) -> Mapping[bytes, Head]:
        return {lane: Head(count, hash_of(self.lanes[lane][count - 1])) for lane, count in self.synced.items() if count}

    def admitted(self, lane: bytes) -> int:
        return len(self.lanes.get(lane, ()))

    def hash_at(self, lane: bytes, seq: int) -> bytes | None:
        held = self.lanes.get(lane, [])
        return hash_of(held[seq - 1]) if 1 <= seq <= len(held) else None

    def admit(self, raw: bytes, source: str) -> Admission:
        try:
            toy = msgspec.msgpack.decode(raw, type=Toy)
        except (msgspec.MsgspecError, RecursionError) as refusal:
            self.refused += 1
            return Admission(Status.REJECTED, reason=str(refusal))
        if toy.seq < 1:
            return Admission(Status.REJECTED, reason="seq")
        held = self.hash_at(toy.lane, toy.seq)
        if held == hash_of(raw):
            return Admission(Status.DUPLICATE)
        if held is not None:
            ours = self.lanes[toy.lane][toy.seq - 1]
            proof = msgspec.msgpack.encode(sorted([ours, raw]))
            self.proofs[hash_of(proof)] = proof
            return Admission(Status.FORKED, evidence=proof)
        missing = self._missing(toy)
        if missing:
            self.waiting[raw] = toy
            return Admission(Status.PENDING, missing=tuple(missing))
        applied = [self._apply(toy, raw)]
        while ready := [(raw, toy) for raw, toy in self.waiting.items() if not self._missing(toy)]:
            for raw2, toy2 in ready:
                del self.waiting[raw2]
                if self.admitted(toy2.lane) == toy2.seq - 1:
                    applied.append(self._apply(toy2, raw2))
        return Admission(Status.APPLIED, applied=tuple(applied))

    def _missing(self, toy: Toy) -> list[BatchName]:
        stands = toy.seq == 1 or self.hash_at(toy.lane, toy.seq - 1) == toy.prev
        missing = [] if stands else [BatchName(toy.lane, toy.seq - 1, toy.prev)]
        missing += [BatchName(lane, seq, b"") for lane, seq in toy.deps if self.admitted(lane) < seq]
        return missing

    def _apply(self, toy: Toy, raw: bytes) -> BatchName:
        self.lanes.setdefault(toy.lane, []).append(raw)
        self.fresh.append(raw)
        return BatchName(toy.lane, toy.seq, hash_of(raw))

    def read(self, lane: bytes, first: int, last: int, max_bytes: int) -> Sequence[bytes]:
        chosen: list[bytes] = []
        for raw in self.lanes.get(lane, [])[first - 1 : min(last, self.synced.get(lane, 0))]:
            if chosen and sum(map(len, chosen)) + len(raw) > max_bytes:
                break
            chosen.append(raw)
        return chosen

    def evidence(self) -> Mapping[bytes, bytes]:
        return self.proofs

    def admit_evidence(self, raw: bytes, source: str) -> Admission:
        if hash_of(raw) in self.proofs:
            return Admission(Status.DUPLICATE)
        try:
            one, two = (msgspec.msgpack.decode(side, type=Toy) for side in msgspec.msgpack.decode(raw))
        except (msgspec.MsgspecError, RecursionError, ValueError, TypeError) as refusal:
            return Admission(Status.REJECTED, reason=str(refusal))
        if (one.lane, one.seq) != (two.lane, two.seq) or one == two:
            return Admission(Status.REJECTED, reason="no contradiction")
        self.proofs[hash_of(raw)] = raw
        return Admission(Status.APPLIED)

    def all_synced(self) -> None:
        self.synced = {lane: len(raws) for lane, raws in self.lanes.items()}


class ToyNode:
    """Records on its own lane, persists what it holds, and gossips: a node core in forty lines."""

    def __init__(self, name: str, peers: Sequence[str], records: Sequence[bytes], nonce: int, config: Config):
        self.name = name
        self.lane = name.encode()
        self.replica = ToyReplica()
        for raw in records:
            assert self.replica.admit(raw, "journal").status is Status.APPLIED
        self.replica.fresh.clear()
        self.replica.all_synced()
        self.engine = GossipEngine(config, self.replica, peers, nonce)
        self.position = 0
        self.unsynced: list[tuple[int, dict[bytes, int]]] = []
        self.app: list[AppReceived] = []

    def start(self, now_us: int) -> list[Effect]:
        return self._effects(self.engine.start(now_us))

    def step(self, event: Any, now_us: int) -> list[Effect]:
        if isinstance(event, Record):
            return self._record(event)
        if isinstance(event, Durable):
            while self.unsynced and self.unsynced[0][0] <= event.position:
                self.replica.synced.update(self.unsynced.pop(0)[1])
        return self._effects(self.engine.step(event, now_us))

    def _record(self, wish: Record) -> list[Effect]:
        seq = self.replica.admitted(self.lane) + 1
        prev = self.replica.hash_at(self.lane, seq - 1) or bytes(32)
        lanes = self.replica.lanes.items()
        deps = [(lane, len(raws)) for lane, raws in lanes if lane != self.lane and len(raws) % 2]
        raw = msgspec.msgpack.encode(Toy(self.lane, seq, prev, deps, wish.payload))
        admission = self.replica.admit(raw, self.name)
        assert admission.status is Status.APPLIED
        persisted = self._effects([])
        pushes = self.engine.recorded([(admission.applied[0], raw)], self.position)
        return persisted + self._effects(pushes) + [Reply(wish.request, raw, self.position)]

    def _effects(self, outputs: list[Output]) -> list[Effect]:
        effects: list[Effect] = []
        if self.replica.fresh:
            self.position += 1
            counts = {lane: len(raws) for lane, raws in self.replica.lanes.items()}
            self.unsynced.append((self.position, counts))
            effects.append(Persist(self.position, tuple(self.replica.fresh)))
            self.replica.fresh.clear()
        for output in outputs:
            if isinstance(output, AppReceived):
                self.app.append(output)
            else:
                effects.append(output)
        return effects


def cluster(names: Sequence[str], faults: Any, seed: int, config: Config | None = None) -> Simulation[ToyNode]:
    """A simulation of toy nodes, all peers of each other."""
    chosen = config or Config(CLUSTER)

    def factory(name: str, records: Sequence[bytes], incarnation: int) -> ToyNode:
        peers = [other for other in names if other != name]
        return ToyNode(name, peers, records, incarnation * 1000 + len(name), chosen)

    return Simulation(names, factory, faults, seed)


def in_step(simulation: Simulation[ToyNode]) -> bool:
    """Whether all nodes are up and durably hold the same."""
    cores = [simulation.core(name) for name in simulation.up()]
    first = cores[0].replica.heads()
    return all(core.replica.heads() == first for core in cores[1:])
