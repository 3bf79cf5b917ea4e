"""Checkpoints over real node cores on the simulated network: one history, whatever happens to the nodes and between them.

``Ledger`` is a cluster that agrees, with clients that record without end; it looks after every step of every node that all nodes
that stand on the same height stand on the same state, and that no height is ever settled in two ways.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.edge import api
from crdtledger.edge import checkpointmessages as messages
from crdtledger.edge.certifying import Certifying
from crdtledger.edge.checkpointing import Checkpointer
from crdtledger.edge.simulate import writing as facts
from crdtledger.edge.simulate.cluster import NAMES, SECOND, Cluster, identity
from crdtledger.edge.simulate.liars import LIES, Liar
from crdtledger.edge.simulate.witness import Slots, Witness
from crdtledger.edge.simulate.writing import Json
from crdtledger.errors import LedgerError
from crdtledger.ledger.genesis import Custodian, Policies
from gossip import wire
from gossip.effects import Received, Send, StartTimer
from gossip.machine import EPOCH_US
from gossip.network import Faults
from reconcile.agreement import Timeouts
from reconcile.checkpoint import decode_checkpoint
from reconcile.founding import log_origin, policy_of
from reconcile.history import History
from reconcile.proofs import verify_proof

QUICK = Timeouts(propose_us=400_000, prevote_us=200_000, precommit_us=200_000, growth_us=100_000)


def agreeing(interval_ms: int = 300, **more: Any) -> Policies:
    custodians = (Custodian(node="n1", asset="BTC"),)
    return Policies(custodians=custodians, agreement="tendermint", checkpoint_interval_ms=interval_ms, **more)


class Ledger(Cluster):
    """A cluster that agrees on checkpoints, under load when it is told to ``work``."""

    def __init__(self, seed: int = 0, interval_ms: int = 300, window_ms: int = 0, **options: Any) -> None:
        self.digests: dict[int, bytes] = {}
        self.roots: dict[bytes, bytes] = {}
        self.slots: Slots = {}
        window = {"id_window_ms": window_ms} if window_ms else {}
        super().__init__(seed=seed, policies=agreeing(interval_ms, **window), timeouts=QUICK, **options)
        self.draw = Random(seed)
        self.number = 0
        self.sim.on_step = lambda _, name: self.look(name)

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        return Witness(super()._start(name, records, incarnation), records, self.slots)

    def look(self, name: str) -> None:
        """No height is settled in two ways, and a state that two nodes stand on is the same, to the last byte."""
        if name not in self.sim.up():
            return
        core = self.core(name)
        height, digest = core.replica.base
        assert self.digests.setdefault(height, digest) == digest, f"{name} settled another height {height}"
        if height and digest not in self.roots:
            self.roots[digest] = core.replica.state.encode()

    def checkpoints(self, name: str) -> Checkpointer:
        found = self.core(name).checkpoints
        assert found is not None
        return found

    def height(self, name: str) -> int:
        return self.core(name).replica.base[0]

    def certified(self, name: str) -> int:
        return self.checkpoints(name).desk.book.certified

    # -- load -----------------------------------------------------------------------------------------------

    def open_books(self) -> None:
        """Accounts, an instrument, money; everybody holds some rights."""
        self.sim.run_for(200_000)
        self.record("n0", facts.account("A"), facts.account("B"), facts.linear("PERP"))
        self.record("n0", facts.deposit("d0", "A", "USDT", 100_000), facts.deposit("d1", "B", "USDT", 50_000))
        self.record("n0", *(facts.grant(f"g{name}", "A", "USDT", 20_000, name) for name in self.names[1:]))
        self.sim.run_for(SECOND)

    def work(self, rounds: int, names: tuple[str, ...] = (), pause_us: int = 60_000) -> None:
        """Clients of ``names`` (default: of all that are up) record: the same trades at several nodes, contradictions, spends that
        meet, reserves that are posted or left open."""
        for _ in range(rounds):
            up = [name for name in names or self.names if name in self.sim.up()]
            if up:
                self.submit(self.draw.choice(up), api.Record([self.fact() for _ in range(self.draw.randrange(1, 4))]))
            self.sim.run_for(pause_us)

    def fact(self) -> Json:
        draw = self.draw
        self.number += 1
        kind = draw.randrange(10)
        if kind < 5:
            return self.trade(draw.randrange(1, 40), draw.choice((0, 0, 0, 0, 1)))
        if kind == 5:
            return facts.withdrawal(f"w{draw.randrange(30)}", "A", "USDT", draw.randrange(1, 300))
        if kind == 6:
            return facts.transfer(f"t{self.number}", "A", "USDT", draw.randrange(1, 200), "B")
        if kind == 7:
            return facts.reserve(f"r{self.number}", "A", "USDT", draw.randrange(1, 100))
        if kind == 8:
            return facts.withdrawal(f"v{self.number}", "A", "USDT", draw.randrange(1, 50))
        return {**self.trade(draw.randrange(1, 40), 0), "kind": "bust"}

    @staticmethod
    def trade(number: int, more: int) -> Json:
        """What a venue says about a trade; ``more``: what another feed says."""
        units = {"qty": f"0.{number + more:03d}", "price": f"{50_000 + number}.00", "fee": "0.01"}
        names = {"venue": "V", "trade_id": number, "instrument": "PERP", "account": "AB"[number % 2]}
        return {"kind": "fill", **names, "side": "sell" if number % 3 else "buy", **units}

    # -- what must come -------------------------------------------------------------------------------------

    def settled(self, names: tuple[str, ...] = ()) -> bool:
        """Whether these nodes stand on one certified height, with nothing unsettled and nothing on its way."""
        cores = [self.core(name) for name in names or self.names]
        quiet = all(not core.replica.unsettled() and core.durable == core.position for core in cores)
        bases = {core.replica.base for core in cores}
        frontiers = {api.encode_answer(sorted(core.replica.frontier())) for core in cores}
        certified = all(self.certified(name) == self.height(name) for name in names or self.names)
        return quiet and certified and len(bases) == 1 and len(frontiers) == 1

    def settles(self, names: tuple[str, ...] = (), limit_us: int = 60 * SECOND) -> None:
        done = self.sim.run_until(lambda: self.settled(names), limit_us)
        assert done, f"not settled after {limit_us} us: {self.story(names)}"
        self.check(names)

    def story(self, names: tuple[str, ...]) -> dict[str, Any]:
        return {
            name: (
                self.core(name).replica.base[0],
                self.core(name).replica.unsettled(),
                self.core(name).replica.waiting(),
                self.core(name).durable == self.core(name).position,
                self.certified(name),
                self.checkpoints(name).stopped,
                voting.height if (voting := self.checkpoints(name).voting) else None,
            )
            for name in names or self.names
            if name in self.sim.up()
        }

    def check(self, names: tuple[str, ...] = ()) -> None:
        """Equal heights are equal states, views and roots; and every store tells a stranger one history."""
        for name in names or self.names:
            core = self.core(name)
            core.check_invariants()
            height, digest = core.replica.base
            assert not height or core.replica.state.encode() == self.roots[digest], f"{name} has another state"
            history = History(self.genesis)
            for stored in self.stores[name]:
                history.extend(stored)
            assert history.height == self.certified(name)
        views = {self.core(name).replica.view.canonical() for name in names or self.names}
        assert len(views) == 1, "views differ"


@pytest.mark.parametrize("seed", range(4))
def test_four_validators_settle_everything_under_one_root(seed: int) -> None:
    ledger = Ledger(seed)
    ledger.open_books()
    ledger.work(60)
    ledger.settles()
    assert ledger.height("n0") >= 5
    state = ledger.core("n0").replica.state
    assert state.facts > 60
    assert {row["state"] for row in ledger.ask("n2", api.Query("positions"))} == {f"settled({ledger.height('n2')})"}
    told = ledger.ask("n1", api.Query("status"))["checkpoints"]
    assert told["agreement"] == "running"
    assert len(told["certified_by"]) >= 3
    assert len(told["seconds_to_settle"]) == len(told["seconds_to_certify"]) >= 5


def test_an_idle_ledger_makes_no_heights() -> None:
    ledger = Ledger()
    ledger.open_books()
    ledger.settles()
    height, sent = ledger.height("n0"), ledger.sim.frames_sent
    ledger.sim.run_for(60 * SECOND)
    assert {ledger.height(name) for name in NAMES} == {height}
    assert ledger.sim.frames_sent - sent < 60 * 12 * 4


def test_with_two_cut_off_nothing_is_certified_and_all_is_settled_after_the_heal() -> None:
    ledger = Ledger(3)
    ledger.open_books()
    ledger.settles()
    height = ledger.height("n0")
    ledger.sim.partition([["n0", "n1"], ["n2", "n3"]])
    ledger.work(100)
    assert {ledger.height(name) for name in NAMES} == {height}
    assert all(ledger.core(name).replica.unsettled() for name in NAMES)
    ledger.sim.heal()
    ledger.settles()
    assert ledger.height("n0") > height


def test_three_of_four_go_on() -> None:
    ledger = Ledger(5)
    ledger.open_books()
    ledger.sim.crash("n2")
    others = ("n0", "n1", "n3")
    ledger.work(50)
    ledger.settles(others)
    assert ledger.height("n0") >= 4
    ledger.sim.restart("n2")
    ledger.settles()


@pytest.mark.parametrize("seed", range(4))
def test_validators_that_crash_at_any_moment_leave_one_history(seed: int) -> None:
    draw = Random(seed)
    faults = Faults(
        latency_mean_us=draw.choice((1_000, 20_000)), loss_ppm=draw.choice((0, 50_000)), sync_us=20_000, torn=True
    )
    ledger = Ledger(seed, interval_ms=50, faults=faults)
    ledger.open_books()
    for _ in range(24):
        victim = draw.choice(NAMES)
        ledger.work(draw.randrange(4), pause_us=draw.choice((500, 5_000, 50_000, 200_000)))
        ledger.sim.crash(victim)
        ledger.work(draw.randrange(4), pause_us=draw.choice((500, 50_000, 200_000)))
        ledger.sim.restart(victim)
    ledger.settles()
    assert ledger.height("n0") >= 3
    assert not any(ledger.checkpoints(name).offences for name in NAMES), "an honest validator is accused"


@pytest.mark.parametrize("prunes", [False, True])
def test_a_node_that_missed_twenty_heights_follows_them_in_order(prunes: bool) -> None:
    ledger = Ledger(7, interval_ms=50, prunes=prunes)
    ledger.open_books()
    ledger.sim.crash("n3")
    others = ("n0", "n1", "n2")
    while ledger.height("n0") < 24:
        ledger.work(1, others)
    missed = ledger.height("n3") if "n3" in ledger.sim.up() else len(ledger.stores["n3"])
    assert ledger.height("n0") - missed >= 20
    ledger.sim.restart("n3")
    ledger.settles()
    assert [stored.height for stored in ledger.stores["n3"]] == [*range(1, ledger.height("n3") + 1)]


def test_whoever_says_that_it_stands_lower_is_told_at_once_what_is_certified() -> None:
    ledger = Ledger(7)
    ledger.open_books()
    ledger.work(10)
    ledger.settles()
    certified, height = ledger.certified("n0"), ledger.height("n0")

    def told(standing: messages.Standing) -> list[messages.CheckpointMessage]:
        app = wire.App("checkpoint", messages.encode_checkpoint_message(standing))
        effects = ledger.core("n0").step(Received("n3", wire.encode(app)), EPOCH_US + ledger.sim.now_us)
        frames = [wire.decode(one.frame) for one in effects if isinstance(one, Send) and one.peer == "n3"]
        return [messages.decode_checkpoint_message(one.body) for one in frames if isinstance(one, wire.App)]

    assert told(messages.Standing(certified - 1, certified - 1)) == [messages.Standing(height, certified)]
    assert told(messages.Standing(height, certified)) == []


def test_a_node_says_soon_after_its_start_where_it_stands() -> None:
    ledger = Ledger(7)
    ledger.sim.run_for(1)
    effects = ledger.core("n0").start(EPOCH_US + ledger.sim.now_us)
    assert [one.delay_us for one in effects if isinstance(one, StartTimer) and one.key == "checkpoint"] == [50_000]


@pytest.mark.parametrize("restarts", [False, True])
def test_a_node_away_for_longer_than_any_memory_is_served_from_the_journals(restarts: bool) -> None:
    ledger = Ledger(8, interval_ms=50, prunes=True, shelf_heights=1)
    ledger.open_books()
    ledger.sim.crash("n3")
    others = ("n0", "n1", "n2")
    while ledger.height("n0") < 24:
        ledger.work(1, others)
    for name in others if restarts else ():
        ledger.sim.crash(name)
        ledger.sim.restart(name)
    ledger.sim.run_for(1)
    settled = ledger.core("n0").replica.state.lanes
    oldest = {lane: ledger.core("n0").replica.batch(lane, 1) for lane in settled}
    assert restarts or None in oldest.values(), "no shelf has it any more"
    ledger.sim.restart("n3")
    ledger.settles()
    assert [stored.height for stored in ledger.stores["n3"]] == [*range(1, ledger.height("n3") + 1)]


def test_an_observer_follows_by_certificates_alone() -> None:
    ledger = Ledger(9, names=(*NAMES, "watcher"), observers=("watcher",))
    ledger.open_books()
    ledger.work(40)
    ledger.settles()
    assert ledger.checkpoints("watcher").voting is None
    assert ledger.height("watcher") >= 4


def test_two_sides_that_spend_and_contradict_each_other_settle_alike() -> None:
    ledger = Ledger(11)
    ledger.open_books()
    ledger.settles()
    ledger.sim.partition([["n0", "n1"], ["n2", "n3"]])
    for name, qty in (("n0", "0.001"), ("n2", "0.002")):
        ledger.record(name, {**ledger.trade(1, 0), "qty": qty})
        ledger.record(name, facts.withdrawal("same", "A", "USDT", 700))
        ledger.record(name, facts.withdrawal("other", "A", "USDT", 500 if name == "n0" else 900))
    ledger.sim.heal()
    ledger.settles()
    adjusted = ledger.ask("n1", api.Query("status"))["checkpoints"]["adjusted"]
    assert adjusted, "nothing was adjusted"
    (balance,) = (row for row in ledger.ask("n3", api.Query("collateral")) if row["account"] == "A")
    assert balance["withdrawn"] in ("12.00", "16.00")
    assert balance["refundable"] == "0.00"


@pytest.mark.parametrize("seed", range(3))
def test_a_restart_from_a_snapshot_stands_where_it_stood(seed: int) -> None:
    ledger = Ledger(seed, interval_ms=50, prunes=True)
    ledger.open_books()
    while ledger.certified("n0") < 40:
        ledger.work(1)
    ledger.settles()
    for name in NAMES:
        before = ledger.core(name).replica.digest()
        records = ledger.sim.durable_records(name)
        again = ledger.build(name, records, Random(1).randbytes, "complete")
        assert again.replica.digest() == before
        again.check_invariants()
    for name in NAMES:
        ledger.sim.crash(name)
        ledger.sim.restart(name)
    ledger.work(10)
    ledger.settles()


@pytest.mark.parametrize("behind", [1, 5, 40])
def test_a_store_that_lacks_what_a_snapshot_stands_for_gets_it_from_the_journal(behind: int) -> None:
    """The power went when the journal had the snapshot, and the store did not have its heights yet."""
    ledger = Ledger(3, interval_ms=50)
    ledger.open_books()
    while ledger.certified("n0") < 20:
        ledger.work(1)
    ledger.settles()
    ledger.sim.crash("n0")
    del ledger.stores["n0"][max(0, 17 - behind) :]  # the snapshot is of a height from 16 on
    ledger.sim.restart("n0")
    ledger.work(10)
    ledger.settles()
    assert [stored.height for stored in ledger.stores["n0"]] == [*range(1, ledger.height("n0") + 1)]


def test_a_certificate_is_of_one_log_and_of_no_other() -> None:
    ledger = _standing()
    first, second, *_ = ledger.stores["n0"]
    certifying = Certifying(ledger.genesis, "n0", identity("n0"))
    record = decode_checkpoint(first.body).record
    assert not certifying.fault_of_next(record, first.certificate)
    assert certifying.fault_of_next(record, second.certificate)
    assert certifying.fault_of_next(msgspec.structs.replace(record, state_root=bytes(32)), first.certificate)
    certifying.settled(record, 0)
    assert not certifying.fault(1, first.certificate)
    assert certifying.fault(1, second.certificate)
    assert certifying.heard("n1", 1, bytes(72)), "a cosignature of nothing"


def test_a_proof_of_an_account_holds_with_the_genesis_alone() -> None:
    ledger = Ledger(13)
    ledger.open_books()
    ledger.work(20)
    ledger.settles()
    for liabilities in (False, True):
        raw = ledger.ask("n1", api.Prove("A", liabilities))
        proven = verify_proof(raw, policy_of(ledger.genesis), log_origin(ledger.genesis), ledger.genesis.hash)
        assert (proven.account, proven.present, proven.height) == ("A", True, ledger.height("n1"))
        held = {cell.subject: cell.values["held"] for cell in proven.cells if cell.kind == "collateral"}
        (row,) = (row for row in ledger.ask("n2", api.Query("collateral")) if row["account"] == "A")
        assert held == {"USDT": row["held"].replace(".", "")}
    with pytest.raises(LedgerError):
        ledger.ask("n1", api.Prove("C"))
    raw = ledger.ask("n1", api.Prove("C", absent=True))
    assert not verify_proof(raw, policy_of(ledger.genesis), log_origin(ledger.genesis), ledger.genesis.hash).present


def test_a_validator_whose_disk_is_an_old_one_abstains_until_its_votes_cannot_matter() -> None:
    ledger = Ledger(15, interval_ms=50)
    ledger.open_books()
    while ledger.height("n0") < 4:
        ledger.work(1)
    backup = ledger.sim.durable_records("n3")
    ledger.work(20)
    ledger.restore("n3", backup)
    ledger.work(30)
    ledger.settles()
    voting = ledger.checkpoints("n3").voting
    assert voting is not None
    assert voting.abstaining.votes_from > 4
    while ledger.height("n0") < voting.abstaining.votes_from + 3:
        ledger.work(1)
    ledger.settles()
    assert not any(ledger.checkpoints(name).offences for name in NAMES)


class LyingLedger(Ledger):
    """A ledger whose last validator lies."""

    def __init__(self, lie: str, **options: Any) -> None:
        self.lie = lie
        super().__init__(**options)

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        if name != "n3":
            return super()._start(name, records, incarnation)
        return Liar(Cluster._start(self, name, records, incarnation), identity(name), self.lie, incarnation)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("lie", LIES)
def test_with_one_of_four_lying_the_others_go_on(lie: str, seed: int) -> None:
    ledger = LyingLedger(lie, seed=seed)
    honest = NAMES[:3]
    ledger.open_books()
    ledger.work(40, honest)
    ledger.settles(honest)
    assert ledger.height("n0") >= 4
    liar: Any = ledger.sim.core("n3")
    assert liar.lied or lie == "withhold"
    for name in honest:
        assert ledger.checkpoints(name).offences.by_name().keys() <= {"n3"}, "an honest validator is accused"
        assert not ledger.checkpoints(name).stopped
    if lie == "equivocate":
        assert any(ledger.checkpoints(name).offences for name in honest)
        (row,) = (row for row in ledger.ask("n0", api.Query("members")) if row["node"] == "n3")
        assert row["offences"]


def test_a_lane_that_forks_is_closed_by_a_checkpoint_and_the_rest_go_on() -> None:
    ledger = Ledger(17)
    ledger.open_books()
    ledger.work(5)
    ledger.settles()
    lane = ledger.core("n3").recorder.lane.key
    ledger.ask("n3", api.Fork("n3"))
    ledger.work(30)
    ledger.settles()
    for name in NAMES:
        state = ledger.core(name).replica.state
        assert state.lanes[lane].closed
        assert ledger.ask(name, api.Query("status"))["checkpoints"]["adjusted"]["lane forked"] >= 0
    ledger.work(10, ("n3",))
    ledger.settles()
    assert ledger.core("n3").recorder.lane.key in ledger.core("n0").replica.state.lanes


@pytest.mark.parametrize("seed", range(int(os.environ.get("CRDTLEDGER_EXAMPLES", "4"))))
def test_no_schedule_breaks_the_one_history(seed: int) -> None:
    """Partitions, one-way cuts, crashes, lost and doubled frames, skewed clocks and an old disk now and then."""
    draw = Random(f"schedule {seed}")
    faults = Faults(
        latency_mean_us=draw.choice((500, 5_000, 60_000)),
        loss_ppm=draw.choice((0, 10_000, 100_000)),
        duplicate_ppm=draw.choice((0, 100_000)),
        reorder=draw.random() < 0.5,
        sync_us=draw.choice((2_000, 60_000)),
        torn=draw.random() < 0.5,
    )
    ledger = Ledger(seed, interval_ms=draw.choice((20, 200)), faults=faults, prunes=draw.random() < 0.5)
    ledger.open_books()
    backups: list[tuple[str, tuple[bytes, ...]]] = []
    restored = False
    for _ in range(25):
        name = draw.choice(NAMES)
        match draw.randrange(9):
            case 0 | 1:
                ledger.sim.crash(name)
            case 2 | 3:
                ledger.sim.restart(name)
            case 4:
                shuffled = draw.sample(NAMES, 4)
                at = draw.randrange(1, 4)
                ledger.sim.partition([shuffled[:at], shuffled[at:]])
            case 5:
                ledger.sim.heal()
            case 6:
                ledger.sim.cut(name, draw.choice(NAMES))
            case 7:
                ledger.sim.skew(name, draw.choice((-SECOND, 0, 3 * SECOND)))
            case 8:
                if backups and not restored and draw.random() < 0.5:
                    restored = True
                    ledger.restore(*draw.choice(backups))
                backups.append((name, ledger.sim.durable_records(name)))
        ledger.work(draw.randrange(4), pause_us=draw.choice((1_000, 30_000, 200_000, 900_000)))
    ledger.sim.heal()
    for name in NAMES:
        ledger.sim.restart(name)
    ledger.sim.run_for(1)
    ledger.settles(limit_us=300 * SECOND)
    assert not any(ledger.checkpoints(name).stopped for name in NAMES)
    assert restored or not any(ledger.checkpoints(name).offences for name in NAMES)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_nothing_that_is_said_of_checkpoints_raises_or_moves_an_honest_node(data: st.DataObject) -> None:
    ledger = _standing()
    core, before = ledger.core("n0"), ledger.height("n0")
    stored = ledger.stores["n0"][-1]
    heights = st.one_of(st.integers(1, before + 2), st.integers(1, 2**48 - 1))
    blobs = st.one_of(st.binary(max_size=80), st.sampled_from((stored.body, stored.certificate)))
    said = st.one_of(
        st.builds(messages.Standing, heights, heights),
        st.builds(messages.CertifiedAsk, heights),
        st.builds(messages.CertifiedTell, heights, st.lists(st.tuples(blobs, blobs), max_size=3).map(tuple)),
        st.builds(
            messages.Cosigned,
            st.lists(st.tuples(heights, st.binary(min_size=72, max_size=72)), max_size=3).map(tuple),
        ),
        st.builds(messages.WorkingAsk, st.binary(min_size=8, max_size=8)),
        st.builds(messages.WorkingTell, st.binary(min_size=8, max_size=8), heights),
    ).map(messages.encode_checkpoint_message)
    channel = data.draw(st.sampled_from(("checkpoint", "vote")))
    body = data.draw(st.one_of(st.binary(max_size=100), said))
    frame = wire.encode(wire.App(channel, body))
    core.step(Received("n1", frame), core.replica.base[0] + EPOCH_US + 100 * SECOND)
    assert core.replica.base[0] == before
    assert not ledger.checkpoints("n0").stopped
    core.check_invariants()


@functools.cache
def _standing() -> Ledger:
    ledger = Ledger(19)
    ledger.open_books()
    ledger.work(5)
    ledger.settles()
    return ledger
