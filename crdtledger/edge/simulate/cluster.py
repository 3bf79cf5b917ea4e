"""Builds clusters of real node cores on the simulated network: the one fixture for tests that need more than one node.

    cluster = Cluster(seed=7)
    cluster.record("n0", {"kind": "account", "name": "A"}, deposit("d1", "A", "USDT", 100_000))
    cluster.sim.partition([["n0", "n1"], ["n2", "n3"]])
    cluster.record("n2", withdrawal("w1", "A", "USDT", 500))      # raises InsufficientRights

Same arguments and same calls give the same run, byte for byte. Amounts are integers in minor units everywhere; the text
that the client protocol wants is made here. A disk that is replaced by an old backup makes its node's journal *restored*
until an epoch record is synced on it, as the real journal's incarnation stamp does.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from typing import Any

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.effects import ClientRequest, PruneJournal, StoreCheckpoint
from crdtledger.edge.epochs import EPOCH_RECORD
from crdtledger.edge.setup import Completeness, Setup
from crdtledger.edge.simulate.words import describe
from crdtledger.edge.simulate.writing import DECIMALS, Json
from crdtledger.errors import LedgerError
from crdtledger.ledger.genesis import Asset, Custodian, Genesis, Member, Policies
from crdtledger.ledger.identity import Identity
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord, Prune, decode_record
from crdtledger.ledger.retention import JOURNAL_BYTES
from crdtledger.ledger.rightsmanager import RightsPolicy
from crdtledger.ledger.shelf import SHELF_HEIGHTS
from crdtledger.matching.sharing import SharePolicy
from gossip.config import Config
from gossip.network import Faults
from gossip.simulation import Simulation
from reconcile.agreement import Timeouts
from reconcile.salts import Salts
from reconcile.stores import StoredCheckpoint

NAMES = ("n0", "n1", "n2", "n3")
SECOND = 1_000_000
SALTS = Salts(1, bytes(range(32)))


@functools.cache
def identity(name: str) -> Identity:
    """The key of the node called ``name``, the same in every run."""
    return Identity(random.Random(f"key of {name}").randbytes(32))


@functools.cache
def found(names: tuple[str, ...] = NAMES, policies: Policies | None = None, observers: tuple[str, ...] = ()) -> Genesis:
    """A genesis with these nodes, USDT (in the first node's custody) and BTC (in the second's, if there is one). All vote but
    ``observers``."""
    nodes = tuple(
        Member(
            name,
            identity(name).public_key.hex(),
            f"{at:040d}",
            f"tcp://127.0.0.1:{9000 + at}",
            ("edge",) if name in observers else ("edge", "validator"),
        )
        for at, name in enumerate(names)
    )
    custodian = Custodian(node=names[1 % len(names)], asset="BTC")
    return Genesis(
        cluster="simulated",
        nonce="0" * 32,
        nodes=nodes,
        assets=tuple(Asset(name, decimals) for name, decimals in DECIMALS.items()),
        policies=policies or Policies(custodians=(custodian,)),
    )


class Cluster:
    """Nodes called ``names`` of one genesis, all up from virtual time 0."""

    def __init__(
        self,
        faults: Faults | None = None,
        seed: int = 0,
        names: tuple[str, ...] = NAMES,
        documents: bool = False,
        policies: Policies | None = None,
        gossip: Config | None = None,
        rights: RightsPolicy | None = None,
        sharing: SharePolicy | None = None,
        observers: tuple[str, ...] = (),
        timeouts: Timeouts | None = None,
        prunes: bool = False,
        shelf_heights: int = SHELF_HEIGHTS,
        journal_bytes: int = JOURNAL_BYTES,
        jump_heights: int = 0,
    ) -> None:
        self.names = names
        self.genesis = found(names, policies, observers)
        self.stores: dict[str, list[StoredCheckpoint]] = {name: [] for name in names}
        """What each node handed to its store of checkpoints."""
        self._seed = seed
        self._prunes = prunes
        self._options: dict[str, Any] = {"documents": documents, "gossip": gossip, "rights": rights}
        self._options["sharing"] = sharing or SharePolicy()
        self._options |= {"salts": SALTS, "timeouts": timeouts, "shelf_heights": shelf_heights}
        self._options |= {"journal_bytes": journal_bytes, "jump_heights": jump_heights}
        self._unproven: dict[str, int] = {}
        self._requests = 0
        self.sim: Simulation[NodeCore] = Simulation(names, self._start, faults or Faults(), seed)
        self.sim.trace.describe = describe
        self.sim.on_effect = self._perform

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> NodeCore:
        draw = random.Random(f"{self._seed} {name} {incarnation}").randbytes
        return self.build(name, records, draw, self._completeness(name, records))

    def build(self, name: str, records: Sequence[bytes], draw: Any, completeness: Completeness) -> NodeCore:
        """A core of ``name`` beside the simulation, for instance to replay a journal."""
        store = self.stores[name]
        options = {**self._options, "archive": lambda height: store[height - 1] if 0 < height <= len(store) else None}
        options["journaled"] = functools.partial(self._journaled, name)
        return NodeCore(Setup(self.genesis, identity(name), name, draw, completeness, **options), records)

    def _journaled(self, name: str, lane: bytes, first: int, last: int, max_bytes: int) -> list[bytes]:
        """What ``Journal.read`` gives."""
        records = [decode_record(raw) for raw in self.sim.durable_records(name)]
        found = [r for r in records if isinstance(r, JournalRecord) and r.kind == KIND_BATCH and r.lane == lane]
        out: list[JournalRecord] = []
        for record in sorted((r for r in found if first <= r.seq <= last), key=lambda r: r.seq):
            due = out[-1].seq + 1 if out else first
            if record.seq > due or (out and sum(len(r.body) for r in out) + len(record.body) > max_bytes):
                break
            out.append(record)
        return [record.body for record in out]

    def _perform(self, name: str, effect: StoreCheckpoint | PruneJournal) -> None:
        """What the runtime does with files."""
        if isinstance(effect, StoreCheckpoint):
            store, stored = self.stores[name], effect.stored
            if stored.height <= len(store):
                assert store[stored.height - 1].digest == stored.digest, f"{name} has two histories"
                return
            assert stored.height == len(store) + 1, f"{name} left out a height"
            assert not store or stored.previous == store[-1].digest, f"{name}'s heights do not follow each other"
            store.append(stored)
        elif self._prunes:
            self.sim.forget(name, functools.partial(_needed, effect.what))

    def _completeness(self, name: str, records: Sequence[bytes]) -> Completeness:
        if name in self._unproven:
            if epochs_on(records) == self._unproven[name]:
                return "restored"
            del self._unproven[name]
        return "complete" if records else "fresh"

    # -- clients --------------------------------------------------------------------------------------------

    def core(self, name: str) -> NodeCore:
        """The core of a node that is up; ``LookupError`` otherwise."""
        return self.sim.core(name)

    def submit(self, name: str, request: api.Request) -> int:
        """Hand a request to a node, now, and do not wait. Returns the handle of its answer."""
        self._requests += 1
        self.sim.submit(name, ClientRequest(self._requests, api.encode_request(request)))
        return self._requests

    def ask(self, name: str, request: api.Request, limit_us: int = 10 * SECOND) -> Any:
        """A request's answer, waited for. Raises what the node refused it with; ``TimeoutError`` without an answer."""
        handle = self.submit(name, request)
        if not self.sim.run_until(lambda: handle in self.sim.replies, limit_us):
            raise TimeoutError(f"{name} did not answer within {limit_us} us of virtual time")
        return api.decode_answer(self.sim.replies[handle])

    def record(self, name: str, *facts: Json) -> Any:
        """Record facts and wait until they are acknowledged."""
        return self.ask(name, api.Record(list(facts)))

    def try_record(self, name: str, *facts: Json) -> LedgerError | None:
        """Record facts; the refusal if there was one."""
        try:
            self.record(name, *facts)
        except LedgerError as error:
            return error
        return None

    def spendable(self, name: str, account: str = "A", asset: str = "USDT") -> int:
        """What a node would let a client spend now, in minor units."""
        return self.core(name).recorder.spendable(account, asset)

    # -- disks ----------------------------------------------------------------------------------------------

    def replace_disk(self, name: str, records: Sequence[bytes], noticed: bool = True) -> None:
        """Put an old backup under a node that is down. ``noticed``: its journal knows that it was restored."""
        self.sim.replace_disk(name, records)
        self._unproven.pop(name, None)
        if noticed:
            self._unproven[name] = epochs_on(records)

    def restore(self, name: str, records: Sequence[bytes], noticed: bool = True) -> None:
        """Power a node off, put an old backup under it, power it on."""
        self.sim.crash(name)
        self.replace_disk(name, records, noticed)
        self.sim.restart(name)

    # -- agreement ------------------------------------------------------------------------------------------

    def in_step(self) -> bool:
        """Whether all nodes are up, may spend, hold the same for good, and nothing is under way to a disk. A batch may wait
        for ever in somebody's memory: for one that was lost with a disk."""
        if len(self.sim.up()) < len(self.names):
            return False
        cores = [self.core(name) for name in self.names]
        if any(core.epochs.state.locked or core.durable < core.position for core in cores):
            return False
        frontiers = [core.replica.frontier() for core in cores]
        if any(frontier != frontiers[0] for frontier in frontiers):
            return False
        return all(core.gossiped.durable_frontier() == frontiers[0] for core in cores)

    def settle(self, limit_us: int = 600 * SECOND) -> bool:
        """Heal everything, start everybody, and run until all agree; whether they did within ``limit_us``."""
        self.sim.heal()
        for name in self.names:
            self.sim.restart(name)
        self.sim.run_for(1)  # a core that was not started yet knows nothing of its epoch
        return self.sim.run_until(self.in_step, limit_us)


def _needed(what: Prune, raw: bytes) -> bool:
    """Whether a journal record is not to be pruned."""
    record = decode_record(raw)
    assert isinstance(record, JournalRecord)
    if record.kind == KIND_BATCH:
        return record.seq > what.batches.get(record.lane, 0)
    return record.lane != b"" or record.seq >= what.kinds.get(record.kind, 0)


def epochs_on(records: Sequence[bytes]) -> int:
    """How many epoch records a journal holds."""
    decoded = [decode_record(raw) for raw in records]
    return sum(isinstance(record, JournalRecord) and record.hash == EPOCH_RECORD for record in decoded)
