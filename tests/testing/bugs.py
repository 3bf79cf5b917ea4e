"""Bugs that real ledgers have had, to plant on purpose: each a function that gives a machine over a cluster that has it.

Most are planted in a core that is about to start (``dress``); some in a module, for the length of one test. ``PLANTED`` are the six
that the kit is measured by, ``VARIATIONS`` others of their kinds at other places.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias
from weakref import WeakSet

import msgspec
import pytest

import gossip.simulation
from crdtledger.edge.core import NodeCore
from crdtledger.errors import InsufficientRights
from crdtledger.ledger import reference
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.catalog import Place
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.view import View
from crdtledger.testing.machine import ClusterMachine
from gossip.disk import Disk
from gossip.effects import Reply, Send

Bug: TypeAlias = Callable[[pytest.MonkeyPatch], type[ClusterMachine]]


def planted(name: str, plant: Callable[[str, NodeCore], None], **more: Any) -> type[ClusterMachine]:
    """A machine whose cores had something done to them."""

    def dress(_: ClusterMachine, node: str, core: NodeCore) -> NodeCore:
        plant(node, core)
        return core

    return type(name, (ClusterMachine,), {"dress": dress, **more})


# -- joins ----------------------------------------------------------------------------------------------------


def join_skipped(_: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """A batch that waited for its predecessor is put into its lane, and never reaches the view."""

    def plant(_: str, core: NodeCore) -> None:
        replica: Any = core.replica
        release, apply = replica._release, replica._apply

        def releases(changed: Any) -> Iterator[Batch]:
            replica._apply = replica._lanes.append
            yield from release(changed)
            replica._apply = apply

        replica._release = releases

    return planted("Skips", plant)


def fold_skipped_at_one(_: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """One node leaves every third batch of others out of its view."""

    def plant(name: str, core: NodeCore) -> None:
        view: Any = core.replica.view
        take_in = view._take_in

        def takes_in(batch: Batch, place: Place | None) -> None:
            if batch.lane.node == core.genesis.member("n1").id or len(core.replica) % 3:
                take_in(batch, place)

        if name == "n1":
            view._take_in = takes_in

    return planted("Forgets", plant)


def half_a_batch(_: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """One node takes the last row of no table of others that has several."""

    def plant(name: str, core: NodeCore) -> None:
        view: Any = core.replica.view
        take_in = view._take_in

        def takes_in(batch: Batch, place: Place | None) -> None:
            if batch.lane.node != core.genesis.member("n2").id:
                tables = {kind: rows[:-1] if len(rows) > 1 else rows for kind, rows in batch.body.tables.items()}
                body = batch.body._replace(tables=tables)
                batch = batch.kept_open()
                assert batch.inside is not None
                batch.inside = batch.inside._replace(body=body)
            take_in(batch, place)

        if name == "n2":
            view._take_in = takes_in

    return planted("Halves", plant)


# -- client ids -----------------------------------------------------------------------------------------------


def client_id_reused(_: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """A node writes on in its old lane although its disk was put back: epochs are not opened, whoever says so."""

    def plant(_: str, core: NodeCore) -> None:
        opened = core._open_epoch
        core._open_epoch = lambda reason: None if reason else opened(reason)  # type: ignore[method-assign]

    return planted("Reuses", plant)


def restored_and_unaware(_: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """What the journal says of a disk that was put back is not listened to, at one node."""

    def plant(name: str, core: NodeCore) -> None:
        opened = core._open_epoch

        def opens(reason: str) -> None:
            if reason != "its journal may be incomplete":
                opened(reason)

        if name == "n1":
            core._open_epoch = opens  # type: ignore[method-assign]

    return planted("Unaware", plant)


# -- rights ---------------------------------------------------------------------------------------------------


def lenient(slack: Callable[[InsufficientRights], int]) -> Bug:
    """A check of rights that lets through what is short by so much."""

    def plant(_: str, core: NodeCore) -> None:
        check = core.recorder._check_rights

        def checks(body: Any) -> Any:
            try:
                return check(body)
            except InsufficientRights as error:
                if error.requested > error.held_here + slack(error):
                    raise
                return ()

        core.recorder._check_rights = checks  # type: ignore[method-assign]

    return lambda _: planted("Overspends", plant)


spend_without_rights = lenient(lambda error: sum(error.held_elsewhere.values()))
"""A node's check of rights knows nothing of what it has granted away."""
one_unit_too_much = lenient(lambda error: 1)


# -- disks ----------------------------------------------------------------------------------------------------


class ForgetfulDisk(Disk):
    """Says that it has synced, and has not: what it holds since the last write but one is in a cache."""

    def crash(self, surviving: int) -> None:
        super().crash(0)
        del self._records[-1:]


def sync_dropped(monkeypatch: pytest.MonkeyPatch) -> type[ClusterMachine]:
    monkeypatch.setattr(gossip.simulation, "Disk", ForgetfulDisk)
    return type("Forgets", (ClusterMachine,), {})


def sync_dropped_at_one(monkeypatch: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """Only one disk is forgetful."""

    class Replaced(ClusterMachine):
        def found(self, *what: Any) -> None:
            super().found(*what)
            self.cluster.sim._nodes["n2"].disk.__class__ = ForgetfulDisk

    return Replaced


def not_waiting(kind: type, at: tuple[str, ...], **more: Any) -> Bug:
    """Effects of a kind leave at once, at some nodes, whatever they depend on."""

    def plant(name: str, core: NodeCore) -> None:
        step = core.step

        def steps(event: Any, now_us: int) -> Any:
            effects = step(event, now_us)
            return [msgspec.structs.replace(one, after=0) if isinstance(one, kind) else one for one in effects]

        if name in at:
            core.step = steps  # type: ignore[method-assign]

    return lambda _: planted("Hastens", plant, **more)


def pushed_at_once(at: tuple[str, ...]) -> Bug:
    """Batches are pushed when they are written, at some nodes, and not when they are durable."""

    def plant(name: str, core: NodeCore) -> None:
        step = core.step

        def steps(event: Any, now_us: int) -> Any:
            effects = step(event, now_us)
            return [*effects, *(msgspec.structs.replace(one, after=0) for one in core.push(core.position))]

        if name in at:
            core.step = steps  # type: ignore[method-assign]

    return lambda _: planted("Hastens", plant)


acknowledged_early = not_waiting(Reply, ("n1",))
sent_early = pushed_at_once(("n0", "n1", "n2"))
sent_early_at_one = pushed_at_once(("n2",))
vote_sent_early_at_one = not_waiting(Send, ("n2",), agreement=True)


# -- votes ----------------------------------------------------------------------------------------------------


def vote_sent_early(_: pytest.MonkeyPatch) -> type[ClusterMachine]:
    """A vote leaves while it is still on its way to the disk."""

    def plant(_: str, core: NodeCore) -> None:
        voting: Any = core.checkpoints.voting  # type: ignore[union-attr]
        send = voting._send
        voting._send = lambda peers, said, after: send(peers, said, 0)

    return planted("Hastens", plant, agreement=True)


# -- rounding -------------------------------------------------------------------------------------------------


def rounding(name: str, divide: Callable[[Any, Any], Any]) -> Bug:
    """One node divides its own way where the others take the nearest, and of two equally near the even one."""

    def bug(monkeypatch: pytest.MonkeyPatch) -> type[ClusterMachine]:
        its_own: WeakSet[Replica] = WeakSet()
        looked_at: list[Replica] = []
        rounded, view = reference._divide_half_even, vars(Replica)["view"].fget

        def divides(numerator: Any, denominator: Any) -> Any:
            wrong = looked_at and looked_at[-1] in its_own
            return (divide if wrong else rounded)(numerator, denominator)

        def folds(replica: Replica) -> View:  # what came in is folded when somebody looks
            looked_at.append(replica)
            try:
                looked: View = view(replica)
                return looked
            finally:
                looked_at.pop()

        monkeypatch.setattr(reference, "_divide_half_even", divides)
        monkeypatch.setattr(Replica, "view", property(folds))

        def plant(node: str, core: NodeCore) -> None:
            if node == name:
                its_own.add(core.replica)

        return planted("Rounds", plant)

    return bug


ties_up = rounding("n1", lambda numerator, denominator: (2 * numerator + denominator) // (2 * denominator))
ties_down = rounding("n0", lambda numerator, denominator: -((denominator - 2 * numerator) // (2 * denominator)))
cut_off = rounding("n2", lambda numerator, denominator: numerator // denominator)

VARIATIONS: dict[str, Bug] = {
    "a fold skipped at one node": fold_skipped_at_one,
    "half a batch applied": half_a_batch,
    "a restore that is not listened to": restored_and_unaware,
    "one unit too much": one_unit_too_much,
    "a sync dropped at one node": sync_dropped_at_one,
    "an acknowledgement before the sync": acknowledged_early,
    "a batch sent before the sync": sent_early,
    "a batch sent before the sync at one node": sent_early_at_one,
    "a vote sent before the sync at one node": vote_sent_early_at_one,
    "ties rounded down": ties_down,
    "fractions cut off": cut_off,
}
