"""The least that gossip can replicate, and the least node around its engine: for benches of the engine alone, and to copy from.

    sim = Simulation(names, bare_nodes(names, Config(cluster), links), Faults(), seed, {name: links[name].peers for name in names})
    sim.submit("n0", Write(b"hello"))

A batch is ``[lane, seq, hash of the one before, payload]`` and is named by the hash of its bytes; a lane's name is its node's. A node
writes on its own lane, persists what it took in and what it wrote, and gossips.

What it is not: a ledger. Nothing is signed, so nobody can be found out: a batch that does not continue its lane by hash is refused, and
there is no evidence of forks. ``crdtledger.ledger`` is what stands here in earnest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import msgspec

from gossip.config import Config
from gossip.effects import Durable, Effect, Persist, Reply
from gossip.overlay import Place
from gossip.protocol import AppReceived, GossipEngine, Output
from gossip.replica import Admission, BatchName, Head, Status

_NOTHING: Final[Mapping[bytes, bytes]] = {}
_OPENED: Final = 1 << 14


class Write(msgspec.Struct, frozen=True):
    """A client's wish: one more batch on the node's own lane. ``request``: what its answer is to be called."""

    payload: bytes
    request: Any = None


class _Batch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    lane: bytes
    seq: int
    before: bytes
    payload: bytes


class _Opened(msgspec.Struct, frozen=True):
    name: BatchName
    head: Head
    before: bytes
    raw: bytes


@lru_cache(maxsize=_OPENED)
def _open(raw: bytes) -> _Opened:
    """Equal bytes are opened once in a process, whichever node they reach. Raises ``msgspec.MsgspecError``."""
    batch = msgspec.msgpack.decode(raw, type=_Batch)
    name = sha256(raw).digest()
    return _Opened(BatchName(batch.lane, batch.seq, name), Head(batch.seq, name), batch.before, raw)


class BareReplica:
    """Lanes of opaque batches. ``fresh``: what was taken in and not handed to a disk yet."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, list[_Opened]] = {}
        self._durable: dict[bytes, Head] = {}
        self.fresh: list[_Opened] = []

    def heads(self) -> Mapping[bytes, Head]:
        """As ``Replica`` says, like all below."""
        return self._durable

    def admitted(self, lane: bytes) -> int:
        return len(self._lanes.get(lane, ()))

    def hash_at(self, lane: bytes, seq: int) -> bytes | None:
        held = self._lanes.get(lane, [])
        return held[seq - 1].head.hash if 1 <= seq <= len(held) else None

    def admit(self, raw: bytes, source: str) -> Admission:
        try:
            batch = _open(raw)
        except (msgspec.MsgspecError, RecursionError) as refusal:
            return Admission(Status.REJECTED, reason=str(refusal))
        name = batch.name
        held = self.hash_at(name.lane, name.seq)
        if held == name.hash:
            return Admission(Status.DUPLICATE)
        if held is not None or name.seq < 1:
            return Admission(Status.REJECTED, reason=f"batch {name.seq} of the lane is another one")
        before = self.hash_at(name.lane, name.seq - 1) if name.seq > 1 else bytes(32)
        if before is None:
            return Admission(Status.PENDING, missing=(BatchName(name.lane, name.seq - 1, batch.before),))
        if before != batch.before:
            return Admission(Status.REJECTED, reason=f"batch {name.seq} does not continue its lane")
        self._lanes.setdefault(name.lane, []).append(batch)
        self.fresh.append(batch)
        return Admission(Status.APPLIED, applied=(name,))

    def read(self, lane: bytes, first: int, last: int, max_bytes: int) -> Sequence[bytes]:
        durable = self._durable.get(lane)
        chosen: list[bytes] = []
        for batch in self._lanes.get(lane, [])[first - 1 : min(last, durable.seq if durable else 0)]:
            if chosen and sum(map(len, chosen)) + len(batch.raw) > max_bytes:
                break
            chosen.append(batch.raw)
        return chosen

    def evidence(self) -> Mapping[bytes, bytes]:
        return _NOTHING

    def admit_evidence(self, raw: bytes, source: str) -> Admission:
        return Admission(Status.REJECTED, reason="nothing is signed here, so nothing can be proved")

    def write(self, lane: bytes, payload: bytes) -> _Opened:
        """The next batch of ``lane``, taken in."""
        seq = self.admitted(lane) + 1
        raw = msgspec.msgpack.encode(_Batch(lane, seq, self.hash_at(lane, seq - 1) or bytes(32), payload))
        self.admit(raw, "")
        return self.fresh[-1]

    def synced(self, batches: Sequence[_Opened]) -> None:
        """These are durable now, in this order."""
        for batch in batches:
            self._durable[batch.name.lane] = batch.head


class BareNode:
    """A core of the simulator: a replica, its engine, and what is on its way to the disk. ``records``: what is on the disk."""

    def __init__(self, name: str, records: Sequence[bytes], engine: Callable[[BareReplica], GossipEngine]) -> None:
        self.lane = name.encode()
        self.replica = BareReplica()
        for raw in records:
            self.replica.admit(raw, "")
        self.replica.synced(self.replica.fresh)
        self.replica.fresh = []
        self.engine = engine(self.replica)
        self._position = 0
        self._under_way: list[tuple[int, list[_Opened]]] = []

    def start(self, now_us: int) -> list[Effect]:
        """As ``simulation.Core`` says."""
        return self._effects(self.engine.start(now_us))

    def step(self, event: Any, now_us: int) -> list[Effect]:
        if isinstance(event, Write):
            batch = self.replica.write(self.lane, event.payload)
            persist = self._effects([])
            pushes = self.engine.recorded([(batch.name, batch.raw)], self._position)
            return [*persist, *self._effects(pushes), Reply(event.request, batch.raw, self._position)]
        if isinstance(event, Durable):
            while self._under_way and self._under_way[0][0] <= event.position:
                self.replica.synced(self._under_way.pop(0)[1])
        return self._effects(self.engine.step(event, now_us))

    def _effects(self, outputs: Sequence[Output]) -> list[Effect]:
        effects: list[Effect] = []
        if self.replica.fresh:
            self._position += 1
            fresh, self.replica.fresh = self.replica.fresh, []
            self._under_way.append((self._position, fresh))
            effects.append(Persist(self._position, tuple(batch.raw for batch in fresh)))
        return effects + [output for output in outputs if not isinstance(output, AppReceived)]


def bare_nodes(
    names: Sequence[str], config: Config, places: Mapping[str, Place] | None = None
) -> Callable[[str, Sequence[bytes], int], BareNode]:
    """What a simulation makes its nodes with. ``places``: of the overlay, None where all are linked to all."""
    number = {name: at for at, name in enumerate(names, start=1)}

    def make(name: str, records: Sequence[bytes], incarnation: int) -> BareNode:
        peers = places[name].peers if places else [other for other in names if other != name]
        branches = places[name].branches if places else None
        nonce = incarnation << 32 | number[name]
        return BareNode(name, records, lambda replica: GossipEngine(config, replica, peers, nonce, branches))

    return make
