"""Watches a simulated cluster from outside: after every step, what docs/explanation/guarantees.md promises must hold.

``Watch`` reads what reached the disks, what was acknowledged and what was certified, and nothing else, and holds it against the plain
ledger. What does not hold is raised as ``InvariantBroken``, by the words of docs/explanation/guarantees.md:

* *durability*: a fact whose acknowledgement left is on its node's disk at that moment, and stays there; no batch is on another's disk
  that never was on its author's. When a disk is
  replaced by an old backup, what another disk still holds is *owed*: it must be back on every node at the end.
  What no other disk held is lost with the disk; no ledger can promise otherwise, so it is struck off.
* *no overdraft*: in the union of all disks no node's rights are ever below zero; and no checkpoint finds a batch of an honest node void.
* *single history*: no height is settled in two ways, by anybody, ever.
  And no checkpoint leaves an order beyond its quantity or an account beyond its collateral (``bounds``), whatever anybody said.
* *conservation*: in = held + out + shortfall in every view and in every settled state.
* *exactness*: each node's figures equal the plain ledger's over the same batches.
* *convergence*: in the end all views, lane documents and digests are equal, and so is a replayed journal.

A node whose view stands on a checkpoint is held against the plain ledger at the end, when everything is settled, and only where
the order of settlement, which is drawn, makes no difference (``plainledger.contested``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

from crdtledger.edge import api
from crdtledger.edge.checkpointrecords import snapshot_to_start_from
from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate.bounds import beyond_bounds, wrongs
from crdtledger.edge.simulate.cluster import Cluster
from crdtledger.edge.simulate.plainledger import (
    Entry,
    Tally,
    collateral,
    contested,
    positions,
    read,
    settled_collateral,
)
from crdtledger.edge.simulate.plainorders import Said, open_orders
from crdtledger.errors import InvariantBroken, LedgerError
from crdtledger.ledger.batch import open_batch
from crdtledger.ledger.journalrecord import (
    KIND_BATCH,
    KIND_EVIDENCE,
    KIND_STATE,
    JournalRecord,
    UnreadableRecord,
    decode_record,
)
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.settled import decode_state
from crdtledger.ledger.view import View
from reconcile.adjustments import decode_adjustments


def broken(invariant: str, node: str, detail: str) -> InvariantBroken:
    """What to raise."""
    return InvariantBroken(invariant=invariant, node=node, detail=detail)


def in_words(said: Iterable[Said]) -> str:
    """Facts by their kinds and ids."""
    named = [(kind, "/".join(filter(None, id)) if isinstance(id, tuple) else id) for kind, id, _ in said]
    return ", ".join(f"{kind} {id}" for kind, id in sorted(named))


def apart(shown: Any, expected: Any, where: str = "") -> list[str]:
    """What differs between two nested mappings, in words, place by place."""
    if not (isinstance(shown, Mapping) and isinstance(expected, Mapping)):
        return [] if shown == expected else [f"{where} is {shown}, not {expected}"]
    found = []
    for key in [*expected, *(key for key in shown if key not in expected)]:
        name = "/".join(key) if isinstance(key, tuple) else str(key)
        found += apart(shown.get(key), expected.get(key), f"{where} {name}".strip())
    return found


class Watch:
    """Attach to a cluster before its first step. ``expect(handle, said)``: what an answer will have acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.entries: dict[bytes, Entry] = {}
        self.disks: dict[str, list[Entry]] = {name: [] for name in cluster.names}
        """Every batch that reached each node's present disk, in order; what was pruned since is among them."""
        self.said: dict[str, set[Said]] = {name: set() for name in cluster.names}
        """What each node holds durably: in batches on its disk, or settled in a snapshot on it."""
        self.kept: dict[str, set[Said]] = {name: set() for name in cluster.names}
        """What each node acknowledged and its disk must hold."""
        self.owed: set[Said] = set()
        """Everything acknowledged by anybody, less what was lost with a disk."""
        self.accepted: list[tuple[str, tuple[Said, ...]]] = []
        """(node, facts) of every good answer, in order."""
        self.refused: list[tuple[str, LedgerError]] = []
        self.digests: dict[int, bytes] = {}
        """Height -> the digest of the checkpoint that somebody settled there."""
        self.dishonest = False
        """Whether some node says about orders what no honest one does: then nobody's matches need stand, and only bounds hold."""
        self._agrees = cluster.genesis.policies.agreement != "none"
        self._expected: dict[int, tuple[Said, ...]] = {}
        self._answers = 0
        self._looked: dict[str, tuple[NodeCore, int, int]] = {}
        self._filled: dict[tuple[str, str], int] = {}
        self._stored = dict.fromkeys(cluster.names, 0)
        self._union: set[bytes] = set()
        self._tally = Tally()
        cluster.sim.on_step = lambda _, name: self.look(name)
        cluster.sim.on_durable = self._reached
        self._own: set[bytes] = set()  # what was on its author's disk, ever
        found = {name: cluster.sim.durable_records(name) for name in cluster.names}
        for name in cluster.names:
            self._own |= {entry.hash for entry in self.batches_on(found[name]) if entry.node == name}
        for name in cluster.names:
            self._reached(name, found[name])

    def batches_on(self, records: Sequence[bytes]) -> list[Entry]:
        """The batches among a disk's records."""
        decoded = [decode_record(raw) for raw in records]
        return [self._entry(one) for one in decoded if isinstance(one, JournalRecord) and one.kind == KIND_BATCH]

    def expect(self, handle: int, said: Iterable[Said]) -> None:
        """The answer to ``handle``, if good, acknowledges these facts."""
        self._expected[handle] = tuple(said)

    # -- after every step -----------------------------------------------------------------------------------

    def look(self, name: str) -> None:
        """After a step of ``name``."""
        if name in self.cluster.sim.up():
            core = self.cluster.core(name)
            looked = (core, core.position, core.durable)
            if self._looked.get(name) != looked:  # what changes a node's state is written down
                self._looked[name] = looked
                self._look_into(name, core)
        answers = self.cluster.sim.answers
        for answer in answers[self._answers :]:
            self._answered(answer.node, answer.request, answer.body)
        self._answers = len(answers)

    def _look_into(self, name: str, core: NodeCore) -> None:
        try:
            core.check_invariants()
        except AssertionError as error:
            raise broken("a node's own", name, str(error)) from error
        height, digest = core.replica.base
        if height:
            self._settled(name, height, digest, core.replica.state)

    def _reached(self, name: str, records: Sequence[bytes]) -> None:
        """``records`` are on the disk of ``name`` now. A state among them may be of heights of whose batches it has none."""
        decoded = [decode_record(raw) for raw in records]
        states = [one for one in decoded if isinstance(one, JournalRecord) and one.kind == KIND_STATE]
        if states:
            self._snapshot(name, states)
        for record in decoded:
            if isinstance(record, UnreadableRecord):
                raise broken("durability", name, f"an unreadable record on its disk: {record}")
            if record.kind == KIND_EVIDENCE:
                raise broken("accountability", name, "it holds evidence against an honest node")
            if record.kind != KIND_BATCH:
                continue
            entry = self._entry(record)
            self.disks[name].append(entry)
            self.said[name].update(statement.said for statement in entry.statements)
            if entry.node == name:
                self._own.add(entry.hash)
            elif entry.hash not in self._own:
                detail = f"it sent batch {entry.seq} of a lane before it was on its own disk: {name} has it there"
                raise broken("durability", entry.node, detail)
            if entry.hash not in self._union:
                self._count(name, entry)

    def _entry(self, record: JournalRecord) -> Entry:
        entry = self.entries.get(record.hash)
        if entry is None:
            batch = open_batch(record.body, self.cluster.genesis, check_signature=False)
            entry = self.entries[record.hash] = read(batch, self.cluster.genesis)
        return entry

    def _count(self, name: str, entry: Entry) -> None:
        self._union.add(entry.hash)
        overdrawn = [] if self._agrees else self._tally.add(entry)  # what settlement credits is no part of the tally
        if overdrawn:
            beyond = [
                f"{node} spent {-rights} of {'/'.join(cell)} beyond its rights" for node, cell, rights in overdrawn
            ]
            raise broken("no overdraft", name, f"with what just reached its disk, {', '.join(beyond)}")

    def _settled(self, name: str, height: int, digest: bytes, state: Any) -> None:
        known = self.digests.get(height)
        if known is None:
            self.digests[height] = digest
            if state.imbalance():
                raise broken("conservation", name, f"height {height}: {state.imbalance()}")
            beyond = beyond_bounds(state)
            if beyond:
                raise broken("no overdraft", name, f"height {height}: {'; '.join(beyond)}")
            for at, order in state.orders.items():
                if order.tally.filled < self._filled.get(at, 0):
                    raise broken(
                        "single history", name, f"height {height}: less of order {'/'.join(at)} was filled before"
                    )
                self._filled[at] = order.tally.filled
        elif known != digest:
            raise broken("single history", name, f"height {height} is settled in two ways")
        for stored in self.cluster.stores[name][self._stored[name] :]:
            self._stored[name] += 1
            cut = [one for one in decode_adjustments(stored.adjustments) if wrongs(one, self.dishonest)]
            if cut:
                told = ", ".join(f"batch {one.seq} of {self._whose(one.lane)} {one.cause}" for one in cut[:3])
                raise broken("no overdraft", name, f"height {stored.height} finds honest batches void: {told}")

    def _whose(self, lane: bytes) -> str:
        return next((entry.node for entry in self.entries.values() if entry.lane == lane), lane.hex())

    def _answered(self, name: str, handle: int, body: bytes) -> None:
        if handle not in self._expected:
            return
        said = self._expected.pop(handle)
        try:
            api.decode_answer(body)
        except LedgerError as error:
            self.refused.append((name, error))
            return
        lacking = set(said) - self.said[name]
        if lacking:
            raise broken("durability", name, f"acknowledged what is not on its disk: {in_words(lacking)}")
        self.kept[name].update(said)
        self.owed.update(said)
        self.accepted.append((name, said))

    # -- disks ----------------------------------------------------------------------------------------------

    def check_disk(self, name: str) -> None:
        """What ``name`` acknowledged is still on its disk (after a crash, say)."""
        self._read_disk(name)
        lacking = self.kept[name] - self.said[name]
        if lacking:
            raise broken("durability", name, f"lost what it had acknowledged: {in_words(lacking)}")

    def disk_replaced(self, name: str) -> None:
        """The disk of ``name`` is another one now: what does any disk still hold?"""
        self.disks[name] = self._read_disk(name)
        self.kept[name] &= self.said[name]
        self.owed &= set[Said]().union(*self.said.values())
        self._union = set()
        self._tally = Tally()
        for at in self.disks.values():
            for entry in at:
                if entry.hash not in self._union:
                    self._count(name, entry)

    def _read_disk(self, name: str) -> list[Entry]:
        """The batches on the disk of ``name``; and take note of what it holds, there and in a snapshot."""
        self.said[name] = set()
        records = self.cluster.sim.durable_records(name)
        decoded = [one for one in map(decode_record, records) if isinstance(one, JournalRecord)]
        if any(one.kind == KIND_STATE for one in decoded):
            self._snapshot(name, decoded)
        entries = self.batches_on(records)
        for entry in entries:
            self.said[name].update(statement.said for statement in entry.statements)
        return entries

    def _snapshot(self, name: str, records: Sequence[JournalRecord]) -> None:
        """What the newest snapshot stands for is held, whether or not its batches are still there."""
        snapshot = snapshot_to_start_from(records, lambda _: True)
        if snapshot is None:
            return
        lanes = decode_state(snapshot.state, self.cluster.genesis).lanes
        for entry in self.entries.values():
            if entry.lane in lanes and entry.seq <= lanes[entry.lane].seq:
                self.said[name].update(statement.said for statement in entry.statements)

    def held_elsewhere(self, name: str) -> set[bytes]:
        """Batches on other disks than that of ``name``."""
        return {entry.hash for other, disk in self.disks.items() if other != name for entry in disk}

    # -- views ----------------------------------------------------------------------------------------------

    def check_views(self, name: str) -> None:
        """The views of ``name``, if all it holds is synced, are what the plain ledger makes of its disk."""
        replica = self.cluster.core(name).replica
        if sum(1 for _ in replica.batches()) == len(self.disks[name]):
            self.check_view(name, replica.view, self.disks[name])

    def check_view(self, name: str, view: View, entries: list[Entry]) -> None:
        """Positions and collateral of ``view``, that of ``name``, to the last unit."""
        expected = positions(entries, self.cluster.genesis)
        actual = {(row.account, row.instrument): row for row in view.position_rows()}
        for key, figures in expected.items():
            others = tuple(sorted((asset, n) for asset, n in figures.pop("other_fees").items() if n))
            row = actual.pop(key, None)
            if row is None:
                if any(figures.values()):
                    raise broken("exactness", name, f"no position {key}, expected {figures}")
                continue
            shown = {field: getattr(row, field) for field in figures}
            shown["other_fees"], figures["other_fees"] = tuple((asset, n) for asset, n, _ in row.other_fees), others
            if shown != figures:
                raise broken("exactness", name, f"position: {'; '.join(apart({key: shown}, {key: figures}))}")
        if actual:
            raise broken("exactness", name, f"positions out of nothing: {sorted(actual)}")
        balances: dict[tuple[str, str], dict[str, Any]] = {}
        for balance in view.collateral_rows():
            fields = ("deposited", "withdrawn", "reserved", "in_transit", "incoming", "refundable")
            figures = {field: getattr(balance, field) for field in fields} | {"rights": dict(balance.rights)}
            if balance.deposited != balance.withdrawn + balance.held:
                raise broken("conservation", name, f"{balance}")
            balances[balance.account, balance.asset] = figures
        owned = collateral(entries)
        if balances != owned:
            raise broken("exactness", name, f"collateral: {'; '.join(apart(balances, owned))}")
        if view.void_batches:
            raise broken("no overdraft", name, f"honest nodes wrote void batches: {view.void_batches}")
        in_lanes = sorted(entries, key=lambda entry: (entry.lane, entry.seq))
        orders = open_orders((entry.node, one.said) for entry in in_lanes for one in entry.statements)
        told = ("open", "matched", "asked", "asking")
        booked: dict[tuple[str, str], dict[str, Any]] = {}
        for order in view.order_rows():
            booked[order.name] = {"held": dict(order.held)} | {field: getattr(order, field) for field in told}
        if booked != orders:
            raise broken("exactness", name, f"orders: {'; '.join(apart(booked, orders))}")

    # -- the end --------------------------------------------------------------------------------------------

    def check_agreement(self, brief: bool = False) -> None:
        """All nodes agree, with each other and with the plain ledger, and nothing owed is missing anywhere. Every journal
        replays to the same; ``brief``: the first node's does."""
        cluster = self.cluster
        names = cluster.names
        for name in names:
            lacking = self.owed - self.said[name]
            if lacking:
                raise broken("durability", name, f"lacks what was acknowledged: {in_words(lacking)}")
        replicas = [cluster.core(name).replica for name in names]
        for name, replica in zip(names, replicas, strict=True):
            for what, one, other in (
                ("base", replica.base, replicas[0].base),
                ("view", replica.view.canonical(), replicas[0].view.canonical()),
                ("digest", replica.digest(), replicas[0].digest()),
                ("lane documents", self._dumps(replica), self._dumps(replicas[0])),
            ):
                if one != other:
                    raise broken("convergence", name, f"its {what} differs from that of {names[0]}")
        if replicas[0].base[0]:
            self._check_settled(replicas[0])
        else:
            self.check_view(names[0], replicas[0].view, self.disks[names[0]])
        for name in names[: 1 if brief else None]:
            again = cluster.build(name, cluster.sim.durable_records(name), Random(0).randbytes, "complete")
            if again.replica.digest() != replicas[0].digest():
                raise broken("durability", name, "its journal replays to something else")
            if again.epochs.state != cluster.core(name).epochs.state:
                raise broken("durability", name, "its journal replays to another epoch")

    @staticmethod
    def _dumps(replica: Replica) -> list[bytes]:
        return [replica.lane_document(lane).dump() for lane in sorted(replica.frontier())]

    def _check_settled(self, replica: Replica) -> None:
        """The figures of a view in which everything is settled, where the plain ledger can know them."""
        if replica.unsettled():
            raise broken("convergence", "", f"{replica.unsettled()} batches are not settled")
        frontier = replica.frontier()
        entries = [e for e in self.entries.values() if e.lane in frontier and e.seq <= frontier[e.lane].seq]
        catalog = replica.view.catalog
        auctions = {name for name in catalog.names() if (one := catalog.definition(name)) and one.mode == "auction"}
        unsure = contested(entries, auctions)
        fields = ("bought", "sold", "value_bought", "value_sold", "fees", "fills")
        shown = {(p.account, p.instrument): tuple(getattr(p, f) for f in fields) for p in replica.view.position_rows()}
        for cell, figures in positions(entries, self.cluster.genesis).items():
            expected = tuple(figures[field] for field in fields)
            if (
                cell not in unsure.positions
                and cell[0] not in unsure.traders
                and shown.get(cell, (0,) * len(fields)) != expected
            ):
                raise broken("exactness", "", f"position {cell} is {shown.get(cell)}, not {expected}")
        balances = {(b.account, b.asset): (b.deposited, b.withdrawn, b.held) for b in replica.view.collateral_rows()}
        paid = unsure.traders | ({str(self.cluster.genesis.policies.beneficiary)} if unsure.traders else set())
        for cell, sums in settled_collateral(entries).items():
            if cell not in unsure.collateral and cell[0] not in paid and balances.get(cell, (0, 0, 0)) != sums:
                raise broken("exactness", "", f"collateral {cell} is {balances.get(cell)}, not {sums}")
