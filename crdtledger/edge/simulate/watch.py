"""Watches a simulated cluster from outside: after every step, what docs/explanation/guarantees.md promises must hold.

``Watch`` reads what reached the disks and what was acknowledged, and nothing else, and holds it against the plain ledger:

* durability: a fact whose acknowledgement left is on its node's disk at that moment, and stays there. When a disk is
  replaced by an old backup, what another disk still holds is *owed*: it must be back on every node at the end.
  What no other disk held is lost with the disk; no ledger can promise otherwise, so it is struck off.
* no overdraft: in the union of all disks no node's rights are ever below zero.
* exactness, idempotence, conservation: each node's views equal the plain ledger's over the same batches.
* convergence: in the end all views, lane documents and digests are equal, and so is a replayed journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from crdtledger.edge import api
from crdtledger.edge.simulate.cluster import Cluster
from crdtledger.edge.simulate.plainledger import Entry, Said, Tally, collateral, positions, read
from crdtledger.errors import LedgerError
from crdtledger.ledger.batch import open_batch
from crdtledger.ledger.journalrecord import KIND_BATCH, KIND_EVIDENCE, UnreadableRecord, decode_record
from crdtledger.ledger.view import View


class Watch:
    """Attach to a cluster before its first step. ``expect(handle, said)``: what an answer will have acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.entries: dict[bytes, Entry] = {}
        self.disks: dict[str, list[Entry]] = {name: [] for name in cluster.names}
        self.said: dict[str, set[Said]] = {name: set() for name in cluster.names}
        self.kept: dict[str, set[Said]] = {name: set() for name in cluster.names}
        """What each node acknowledged and its disk must hold."""
        self.owed: set[Said] = set()
        """Everything acknowledged by anybody, less what was lost with a disk."""
        self.accepted: list[tuple[str, tuple[Said, ...]]] = []
        """(node, facts) of every good answer, in order."""
        self.refused: list[tuple[str, LedgerError]] = []
        self._expected: dict[int, tuple[Said, ...]] = {}
        self._read: dict[str, int] = dict.fromkeys(cluster.names, 0)
        self._answers = 0
        self._union: set[bytes] = set()
        self._tally = Tally()
        cluster.sim.on_step = lambda _, name: self.look(name)

    def expect(self, handle: int, said: Iterable[Said]) -> None:
        """The answer to ``handle``, if good, acknowledges these facts."""
        self._expected[handle] = tuple(said)

    # -- after every step -----------------------------------------------------------------------------------

    def look(self, name: str) -> None:
        """After a step of ``name``."""
        if name in self.cluster.sim.up():
            self.cluster.core(name).check_invariants()
        self.read_disk(name)
        answers = self.cluster.sim.answers
        for answer in answers[self._answers :]:
            self._answered(answer.node, answer.request, answer.body)
        self._answers = len(answers)

    def read_disk(self, name: str) -> None:
        """Take in what reached the disk of ``name`` since the last look."""
        for raw in self.cluster.sim.durable_records(name, self._read[name]):
            self._read[name] += 1
            record = decode_record(raw)
            assert not isinstance(record, UnreadableRecord)
            assert record.kind != KIND_EVIDENCE, f"{name} holds evidence against an honest node"
            if record.kind != KIND_BATCH:
                continue
            entry = self.entries.get(record.hash)
            if entry is None:
                batch = open_batch(record.body, self.cluster.genesis, check_signature=False)
                entry = self.entries[record.hash] = read(batch, self.cluster.genesis)
            self.disks[name].append(entry)
            self.said[name].update(statement.said for statement in entry.statements)
            if entry.hash not in self._union:
                self._union.add(entry.hash)
                overdrawn = self._tally.add(entry)
                assert not overdrawn, f"overdraft by what reached a disk of {name}: {overdrawn}"

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
        assert not lacking, f"{name} acknowledged what is not on its disk: {lacking}"
        self.kept[name].update(said)
        self.owed.update(said)
        self.accepted.append((name, said))

    # -- disks ----------------------------------------------------------------------------------------------

    def check_disk(self, name: str) -> None:
        """What ``name`` acknowledged is still on its disk (after a crash, say)."""
        self.read_disk(name)
        lacking = self.kept[name] - self.said[name]
        assert not lacking, f"{name} lost what it had acknowledged: {lacking}"

    def disk_replaced(self, name: str) -> None:
        """The disk of ``name`` is another one now: what does any disk still hold?"""
        self._read[name] = 0
        self.disks[name] = []
        self.said[name] = set()
        self.read_disk(name)
        self.kept[name] &= self.said[name]
        self.owed &= set[Said]().union(*self.said.values())
        self._union = set()
        self._tally = Tally()
        for at in self.disks.values():
            for entry in at:
                if entry.hash not in self._union:
                    self._union.add(entry.hash)
                    overdrawn = self._tally.add(entry)
                    assert not overdrawn, f"overdraft once {name} was restored: {overdrawn}"

    def held_elsewhere(self, name: str) -> set[bytes]:
        """Batches on other disks than that of ``name``."""
        return {entry.hash for other, disk in self.disks.items() if other != name for entry in disk}

    # -- views ----------------------------------------------------------------------------------------------

    def check_views(self, name: str) -> None:
        """The views of ``name``, if all it holds is synced, are what the plain ledger makes of its disk."""
        replica = self.cluster.core(name).replica
        if sum(1 for _ in replica.batches()) == len(self.disks[name]):
            self.check_view(replica.view, self.disks[name])

    def check_view(self, view: View, entries: list[Entry]) -> None:
        """Positions and collateral of ``view``, to the last unit."""
        expected = positions(entries, self.cluster.genesis)
        actual = {(row.account, row.instrument): row for row in view.position_rows()}
        for key, figures in expected.items():
            others = tuple(sorted((asset, n) for asset, n in figures.pop("other_fees").items() if n))
            row = actual.pop(key, None)
            if row is None:
                assert not any(figures.values()), f"no position {key}, expected {figures}"
                continue
            assert {field: getattr(row, field) for field in figures} == figures, f"position {key}"
            assert tuple((asset, n) for asset, n, _ in row.other_fees) == others, f"fees of position {key}"
        assert not actual, f"positions out of nothing: {sorted(actual)}"
        balances: dict[tuple[str, str], dict[str, Any]] = {}
        for balance in view.collateral_rows():
            fields = ("deposited", "withdrawn", "reserved", "in_transit", "incoming", "refundable")
            figures = {field: getattr(balance, field) for field in fields} | {"rights": dict(balance.rights)}
            assert balance.deposited == balance.withdrawn + balance.held, f"conservation: {balance}"
            balances[balance.account, balance.asset] = figures
        assert balances == collateral(entries)
        assert not view.void_batches, f"honest nodes wrote void batches: {view.void_batches}"

    # -- the end --------------------------------------------------------------------------------------------

    def check_agreement(self, brief: bool = False) -> None:
        """All nodes agree, with each other and with the plain ledger, and nothing owed is missing anywhere. Every journal
        replays to the same; ``brief``: the first node's does."""
        cluster = self.cluster
        names = cluster.names
        for name in names:
            self.read_disk(name)
            lacking = self.owed - self.said[name]
            assert not lacking, f"{name} lacks what was acknowledged: {lacking}"
        replicas = [cluster.core(name).replica for name in names]
        views = {replica.view.canonical() for replica in replicas}
        assert len(views) == 1, "views differ"
        assert len({replica.digest() for replica in replicas}) == 1, "digests differ"
        dumps = {
            tuple(replica.lane_document(lane).dump() for lane in sorted(replica.frontier())) for replica in replicas
        }
        assert len(dumps) == 1, "lane documents differ"
        self.check_view(replicas[0].view, self.disks[names[0]])
        for name in names[: 1 if brief else None]:
            again = cluster.build(name, cluster.sim.durable_records(name), Random(0).randbytes, "complete")
            assert again.replica.digest() == replicas[0].digest(), f"{name}'s journal replays to something else"
            assert again.epochs.state == cluster.core(name).epochs.state
