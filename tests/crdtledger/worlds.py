"""Small clusters for tests: a genesis, a replica and a recorder per node, and a pen for dishonest batches.

``World`` holds what all nodes share. ``Desk`` is one node: its replica, and a recorder for its newest epoch. ``pen`` seals
whatever it is told to, past every check of the recorder, as a dishonest member would.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from crdtledger.errors import CallerError, InvalidBatch
from crdtledger.ledger import batch as batches
from crdtledger.ledger import body as columns
from crdtledger.ledger.batch import FIRST_PREV, Batch, Dep, Header, Lane
from crdtledger.ledger.body import Cursor, WireBody
from crdtledger.ledger.clock import HybridClock
from crdtledger.ledger.drafting import draft_facts
from crdtledger.ledger.facts import TABLES, Account, Fact, Instrument, Kind, Note
from crdtledger.ledger.genesis import Asset, Genesis, Member, Policies, check
from crdtledger.ledger.identity import Identity, digest
from crdtledger.ledger.noteform import FIELDS, Entry, encode_entry, update_of
from crdtledger.ledger.recorder import Recorded, Recorder
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.replica import Applied, Forked, Replica

ASSETS = (Asset("USDT", 6), Asset("BTC", 8))

SPOT = Instrument(
    name="BTCUSDT", type="spot", base="BTC", quote="USDT", settlement="USDT", price_decimals=2, qty_decimals=8
)
INVERSE = Instrument(
    name="BTCUSD_PERP",
    type="perp",
    base="BTC",
    quote="USD",
    settlement="BTC",
    price_decimals=1,
    qty_decimals=0,
    inverse=True,
    contract_size=100,
)


def genesis(nodes: int = 3, policies: Policies | None = None, assets: Sequence[Asset] = ASSETS) -> Genesis:
    """A checked genesis with nodes ``n0``, ``n1`` ... whose seeds are ``identity(0)``, ``identity(1)`` ..."""
    members = tuple(
        Member(f"n{i}", identity(i).public_key.hex(), chr(97 + i) * 40, f"tcp://127.0.0.1:{9000 + i}")
        for i in range(nodes)
    )
    founded = Genesis("test", "0" * 32, members, tuple(assets), policies or Policies())
    check(founded)
    return founded


def identity(node: int) -> Identity:
    """The key pair of node ``n{node}``."""
    return Identity(bytes([node + 1]) * 32)


def lane_of(founded: Genesis, node: int, epoch: int = 1, nonce: int = 0) -> Lane:
    """A lane of node ``n{node}``."""
    return Lane(founded.nodes[node].id, epoch, bytes([node, epoch % 256, nonce]) + bytes(5))


class Desk:
    """One node: a replica and the recorder of its lane. ``now_us`` moves by a millisecond with every call."""

    def __init__(self, founded: Genesis, node: int, epoch: int = 1, salt: int | None = None) -> None:
        self.genesis, self.node, self.epoch = founded, node, epoch
        self.replica = Replica(founded, salt=node * 7919 + epoch if salt is None else salt)
        self.recorder = Recorder(self.replica, identity(node), lane_of(founded, node, epoch), HybridClock())
        self.now_us = 1_000_000 * (node + 1)

    @property
    def lane(self) -> Lane:
        """The lane it writes."""
        return self.recorder.lane

    def record(self, *facts: Fact) -> Recorded:
        """Record facts one millisecond later."""
        self.now_us += 1000
        return self.recorder.record(facts, self.now_us)

    def tries(self, *facts: Fact) -> CallerError | None:
        """Record facts; the refusal, if it was one."""
        try:
            self.record(*facts)
        except CallerError as refusal:
            return refusal
        return None

    def restored(self) -> Desk:
        """The node after losing its disk: nothing held, a new epoch, spends locked until ``claim``."""
        again = Desk(self.genesis, self.node, self.epoch + 1)
        again.now_us = self.now_us + 1000
        again.recorder.locked = "restored: the lanes of its earlier epochs are not known to be complete"
        return again

    def claim(self) -> Batch | None:
        """Take over what the earlier epochs left, as far as they are held, and unlock spending."""
        older = [key for key in self.replica.lanes_of(self.lane.node) if key < self.lane.key]
        deps = [Dep(key, self.replica.head(key).seq, self.replica.head(key).hash) for key in older]
        self.recorder.locked = ""
        self.now_us += 1000
        return self.recorder.claim(deps, self.now_us) if deps else None


class World:
    """``nodes`` desks under one genesis. ``desks[i]`` is node ``n{i}``."""

    def __init__(self, nodes: int = 3, policies: Policies | None = None, assets: Sequence[Asset] = ASSETS) -> None:
        self.genesis = genesis(nodes, policies, assets)
        self.desks = [Desk(self.genesis, node) for node in range(nodes)]

    def furnish(
        self, accounts: Iterable[str] = ("A", "B"), instruments: Sequence[Instrument] = (SPOT, INVERSE)
    ) -> World:
        """Define accounts and instruments at ``n0`` and bring them everywhere."""
        self.desks[0].record(*(Account(name=name) for name in accounts), *instruments)
        self.sync()
        return self

    def sync(self) -> None:
        """Bring every batch and all evidence to every desk."""
        exchange([desk.replica for desk in self.desks])

    def send(self, source: int, target: int) -> None:
        """Bring what ``n{source}`` holds to ``n{target}``."""
        deliver(self.desks[source].replica, self.desks[target].replica)


def deliver(source: Replica, target: Replica) -> None:
    """Everything ``source`` holds, and its evidence, to ``target``."""
    for proof in list(source.evidence().values()):
        target.admit_evidence(proof)
    for batch in list(source.batches()):
        target.admit(batch.raw)


def exchange(replicas: Sequence[Replica]) -> None:
    """All to all until nobody learns anything."""
    before: list[bytes] = []
    while (now := [state(replica) for replica in replicas]) != before:
        before = now
        for source in replicas:
            for target in replicas:
                if source is not target:
                    deliver(source, target)


def state(replica: Replica) -> bytes:
    """What must be equal among replicas that have heard everything: frontier, view and evidence in force."""
    return replica.digest() + b"".join(sorted(replica.evidence()))


def documents(replica: Replica) -> dict[bytes, bytes]:
    """The dump of every lane's document."""
    return {lane: replica.lane_document(lane).dump() for lane in replica.frontier()}


# -- dishonest batches --------------------------------------------------------------------------------------


class Pen:
    """Seals batches onto one lane, past every check, each on the checkpoint ``base``. ``seal`` goes on from the last one."""

    def __init__(self, founded: Genesis, node: int, epoch: int = 1, nonce: int = 0) -> None:
        self.genesis, self.node = founded, node
        self.lane = lane_of(founded, node, epoch, nonce)
        self.identity = identity(node)
        self.seq, self.head = 0, FIRST_PREV
        self.clock = 1 << 16
        self.noted = 0
        self.base = (0, founded.hash)

    def copy(self, nonce: int | None = None) -> Pen:
        """A second hand on the same lane (or on another one of the node): what it writes next forks the lane."""
        other = Pen(self.genesis, self.node, self.lane.epoch)
        other.lane, other.seq, other.head, other.clock = self.lane, self.seq, self.head, self.clock
        other.base, other.noted = self.base, self.noted
        return other

    def draft(self, facts: Sequence[Fact], definitions: Mapping[str, bytes] | None = None) -> WireBody:
        """One body of these facts. ``definitions``: names to digests, beyond the usual instruments. A note is the next of its lane, but
        for one that says ``forged``: that leaves a gap before it."""
        known = {i.name: instrument_digest(i) for i in (SPOT, INVERSE)} | dict(definitions or {})
        members = {member.name: index for index, member in enumerate(self.genesis.nodes)}
        others = [fact for fact in facts if not isinstance(fact, Note)]
        bodies = draft_facts(others, known.__getitem__, members.__getitem__) or [WireBody([], [], [], [], [], [], [])]
        assert len(bodies) == 1
        updates = [self.note(fact) for fact in facts if isinstance(fact, Note)]
        return msgspec.structs.replace(bodies[0], notes=updates)

    def note(self, note: Note) -> bytes:
        """The update of the board that carries a note."""
        entry = encode_entry(Entry(note.break_id, FIELDS.index(note.field), note.text))
        if note.text == "forged":
            return update_of(self.lane.key, self.noted + 1, entry)
        self.noted += 1
        return update_of(self.lane.key, self.noted - 1, entry)

    def write(self, *facts: Fact, deps: Sequence[Dep] = (), clock: int | None = None) -> Batch:
        """The next batch of the lane, with these facts (or none: a bare claim)."""
        cursors = [] if deps else [Cursor("nothing", 0, 0)]
        wire = self.draft(facts) if facts else WireBody([], [], [], [], [], [], cursors)
        return self.seal(wire, deps, clock)

    def seal(self, wire: WireBody, deps: Sequence[Dep] = (), clock: int | None = None) -> Batch:
        """The next batch of the lane, with this body."""
        self.clock = self.clock + 1 if clock is None else clock
        sealed = batches.seal(
            self.identity,
            self.genesis,
            self.lane,
            self.seq + 1,
            self.head,
            self.clock,
            self.base,
            tuple(sorted(deps, key=lambda dep: dep.lane)),
            wire,
        )
        self.seq, self.head = sealed.seq, sealed.hash
        return sealed


def header_for(pen: Pen, body: bytes, **fields: Any) -> Header:
    """The header that ``pen`` would write next around these bytes, with ``fields`` put in their place."""
    usual = Header(
        batches.VERSION,
        pen.genesis.hash,
        pen.lane.key,
        pen.seq + 1,
        pen.head,
        pen.clock + 1,
        pen.base,
        (),
        (),
        len(body),
        digest("body", body),
    )
    return msgspec.structs.replace(usual, **fields)


def sign_raw(pen: Pen, header: bytes, body: bytes) -> bytes:
    """A sealed batch around any header and body bytes at all, with a signature that holds."""
    signature = pen.identity.sign(digest("batch-signature", digest("batch", header)))
    return msgspec.msgpack.encode([header, signature, body])


def seal_raw(pen: Pen, body: bytes, **fields: Any) -> bytes:
    """A sealed batch around any body bytes. ``counts`` default to what the body really holds, where it decodes."""
    try:
        counts = columns.decode(body).counts()
    except InvalidBatch:
        counts = ()
    header = header_for(pen, body, **{"counts": counts, **fields})
    return sign_raw(pen, msgspec.msgpack.encode(header), body)


def dep_on(batch: Batch) -> Dep:
    """A dep that names exactly this batch."""
    return Dep(batch.key, batch.seq, batch.hash)


def admit_all(replica: Replica, raw: Iterable[bytes]) -> list[Any]:
    """Admit in order; the outcomes."""
    return [replica.admit(one) for one in raw]


def applied(outcome: object) -> tuple[Batch, ...]:
    """What an outcome added."""
    return outcome.batches if isinstance(outcome, Applied | Forked) else ()


# -- reading facts back -------------------------------------------------------------------------------------


def rows(batch: Batch, kind: Kind) -> list[dict[str, Any]]:
    """The rows of one table with every index resolved: plain ints and texts. Written apart from the ledger's own folds."""
    body = batch.body
    out = []
    table = body.tables.get(kind, np.empty(0, TABLES[kind]))
    for packed in table.tolist():
        row: dict[str, Any] = dict(zip(table.dtype.names or (), packed, strict=True))
        flags = row.pop("flags", 0)
        if flags & 1:
            row["id"] = body.strings[row["id"]]
        refers = next((c for c in ("reserve", "order", "match", "maker") if c in row), "")
        if flags & 2:
            row[refers] = body.strings[row[refers]]
        if kind is Kind.ORDER:
            amends = body.strings[row["amends"]] if flags & 4 else row["amends"]
            row["amends"] = amends if flags & 8 else None
            row["hidden"] = None if row["hidden"] == 0xFFFF else body.strings[row["hidden"]]
            row["reduce_only"] = bool(flags & 64)
        elif flags & 4:
            row["taker"] = body.strings[row["taker"]]
        for column in ("account", "asset", "credit", "source"):
            if column in row:
                row[column] = body.strings[row[column]]
        if "fee_asset" in row:
            row["fee_asset"] = None if row["fee_asset"] == 0xFFFF else body.strings[row["fee_asset"]]
        if "scope" in row:
            scope = body.scopes[row.pop("scope")]
            row |= {"venue": scope.venue, "id_space": scope.id_space, "leg": scope.leg}
            row["instrument"], row["digest"] = body.instruments[scope.instrument]
        elif "instrument" in row:
            row["instrument"], row["digest"] = body.instruments[row["instrument"]]
        out.append(row)
    return out


def shuffled_admits(replica: Replica, batches: Sequence[Batch], seed: int) -> None:
    """Admit every batch in some order."""
    for batch in random.Random(seed).sample(list(batches), len(batches)):
        replica.admit(batch.raw)
