"""Catch-up by a settled state, over real node cores: whoever was away for too long stands where the others stand.

Whatever a peer says, and whenever the power is cut: every node's state at a height is the one that all settled there, and no validator
votes twice in one place, in all its lives (``Witness``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from crdtledger.edge import storefilling
from crdtledger.edge.simulate.cluster import NAMES, SECOND
from crdtledger.ledger import retention
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord, decode_record
from gossip.network import Faults
from tests.edge.state_liar import LIES, StateLiar
from tests.edge.test_checkpointing import Ledger

OTHERS = ("n0", "n1", "n2")


class Lying(Ledger):
    """A ledger whose first node lies about settled states."""

    def __init__(self, lie: str, seed: int = 0, **options: Any) -> None:
        self.lie = lie
        super().__init__(seed, **options)

    def _start(self, name: str, records: Sequence[bytes], incarnation: int) -> Any:
        core = super()._start(name, records, incarnation)
        return StateLiar(core, self.lie) if name == "n0" else core


def jumps(ledger: Ledger, name: str) -> list[Any]:
    return [one for one in ledger.sim.notifications if one.node == name and one.topic == "checkpoint.jumped"]


def filled(ledger: Ledger) -> bool:
    return all(len(ledger.stores[name]) == ledger.certified(name) for name in NAMES)


def home(ledger: Ledger) -> bool:
    """Whether all stand on one height, and every store has every height."""
    return len(ledger.sim.up()) == len(NAMES) and ledger.settled() and filled(ledger)


def comes_back(ledger: Ledger, limit_us: int = 120 * SECOND) -> None:
    assert ledger.sim.run_until(lambda: home(ledger), limit_us), ledger.story(())
    ledger.check()


def leave(ledger: Ledger, height: int) -> Ledger:
    """n3 is cut off, with batches of its own, while the others settle up to ``height``."""
    ledger.open_books()
    ledger.settles()
    ledger.sim.partition([list(OTHERS), ["n3"]])
    ledger.work(5, ("n3",))
    while ledger.height("n1") < height:
        ledger.work(1, OTHERS)
    return ledger


def away(height: int, **options: Any) -> Ledger:
    return leave(Ledger(8, interval_ms=50, prunes=True, shelf_heights=1, **options), height)


def test_a_node_many_heights_behind_takes_the_settled_state_and_its_own_batches_count() -> None:
    ledger = away(40, jump_heights=20)
    own = [batch.hash for batch in ledger.core("n3").replica.batches()]
    lane = ledger.core("n3").recorder.lane
    assert own
    ledger.sim.heal()
    comes_back(ledger)
    assert jumps(ledger, "n3")
    assert ledger.core("n3").recorder.lane == lane, "it writes on in its lane"
    settled = ledger.core("n0").replica.state.lanes[lane.key]
    assert ledger.core("n0").replica.hash_at(lane.key, settled.seq) == own[-1], "all that it wrote alone is settled"
    ledger.work(20)
    comes_back(ledger)


def test_a_fresh_node_takes_the_settled_state() -> None:
    ledger = Ledger(9, interval_ms=50, prunes=True, shelf_heights=1, jump_heights=20)
    ledger.sim.crash("n3")
    ledger.open_books()
    while ledger.height("n0") < 40:
        ledger.work(1, OTHERS)
    ledger.sim.restart("n3")
    comes_back(ledger)
    assert jumps(ledger, "n3")
    ledger.sim.crash("n3")
    ledger.sim.restart("n3")
    ledger.work(10)
    comes_back(ledger)


def test_an_id_that_was_used_in_history_that_a_node_passed_by_is_refused_there_and_counts_once() -> None:
    """Ids of settled facts are cells of the state, so whoever takes it knows them all."""
    ledger = away(40, jump_heights=20)
    seen = {name: ledger.core(name).replica.state for name in OTHERS}["n0"]
    ledger.sim.heal()
    comes_back(ledger)
    (first,) = jumps(ledger, "n3")[:1]
    assert first.fields["height"] >= 40 - 16
    state = ledger.core("n3").replica.state
    assert len(state.fills) >= len(seen.fills) > 0
    facts = state.facts
    told = [ledger.trade(number, 0) for number in range(1, 40)]
    known = ledger.record("n3", *told)["facts"]
    assert known < len(told) - 10, "most of these trades were told while it was away"
    comes_back(ledger)
    assert ledger.core("n3").replica.state.facts == facts + known


@pytest.mark.parametrize("lie", LIES)
def test_a_peer_that_lies_about_states_is_passed_over(lie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MERGED_BYTES", 2_000)  # so that the heights alone do not help
    ledger = Lying(lie, 8, interval_ms=50, prunes=True, shelf_heights=1, journal_bytes=4_000, jump_heights=20)
    if lie == "an old state":
        ledger.open_books()
        ledger.settles()
        core = ledger.core("n0")
        jumping, log = core.checkpoints.desk.jumping, core.checkpoints.desk.certifying.log
        core.offer = jumping._image(0, log, 1).offer
    leave(ledger, 60)
    ledger.sim.partition([["n0", "n3"], ["n1", "n2"]])  # it is the first, and for a while the only one, to be asked
    ledger.sim.run_for(8 * SECOND)
    ledger.sim.heal()
    comes_back(ledger)
    assert jumps(ledger, "n3")
    assert ledger.core("n0").lied, "it had occasion to"
    transfer = ledger.checkpoints("n3").desk.jumping._transfer
    assert not transfer._pieces
    assert not transfer._told


def test_a_peer_that_claims_to_be_far_ahead_has_nobody_jump_over_a_few_heights() -> None:
    ledger = Lying("far ahead", 8, interval_ms=50, jump_heights=20)
    ledger.open_books()
    ledger.settles()
    for _ in range(4):
        ledger.sim.partition([list(OTHERS), ["n3"]])
        height = ledger.height("n3")
        while ledger.height("n1") < height + 5:
            ledger.work(1, OTHERS)
        ledger.sim.heal()
        ledger.settles()
    assert not [jump for name in NAMES for jump in jumps(ledger, name) if jump.fields["from"]]


def test_who_was_away_for_longer_than_any_journal_reaches_joins_by_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MERGED_BYTES", 2_000)  # heights here are small
    behind = away(60, journal_bytes=4_000)
    seq = behind.core("n3").replica.state.lanes
    held = {(r.lane, r.seq) for name in OTHERS for r in batches_of(behind, name)}
    gone = [
        lane for lane, one in behind.core("n0").replica.state.lanes.items() if (lane, seq[lane].seq + 1) not in held
    ]
    assert gone, "no journal has what the node lacks"
    behind.sim.heal()
    assert not behind.sim.run_until(lambda: home(behind), 60 * SECOND), "without the state it stays behind"
    ledger = away(60, journal_bytes=4_000, jump_heights=20)
    ledger.sim.heal()
    comes_back(ledger)
    assert jumps(ledger, "n3")


def test_adjustments_that_fit_no_answer_reach_the_store_of_who_passed_their_heights_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(storefilling, "MAX_ADJUSTMENTS_BYTES", 40)
    ledger = away(40, jump_heights=20)
    ledger.sim.heal()
    comes_back(ledger)
    assert jumps(ledger, "n3")
    assert sum(len(one.adjustments) > 80 for one in ledger.stores["n3"]) > 3, "some came in three parts and more"
    told, own = ([(one.body, one.adjustments) for one in ledger.stores[name]] for name in ("n3", "n0"))
    assert told == own


def test_who_stands_too_few_heights_behind_but_lacks_what_no_journal_has_takes_the_state(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retention, "MERGED_BYTES", 2_000)
    ledger = away(60, journal_bytes=4_000, jump_heights=1_000)
    ledger.sim.heal()
    comes_back(ledger)
    assert jumps(ledger, "n3")


def batches_of(ledger: Ledger, name: str) -> list[JournalRecord]:
    decoded = [decode_record(raw) for raw in ledger.sim.durable_records(name)]
    return [one for one in decoded if isinstance(one, JournalRecord) and one.kind == KIND_BATCH]


class Mortal:
    """Cuts the power of n3 after so many of its steps."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.left = 0
        self.cut = 0
        ledger.sim.on_step = self.stepped

    def stepped(self, _: Any, name: str) -> None:
        self.ledger.look(name)
        if name == "n3" and self.left:
            self.left -= 1
            if not self.left and name in self.ledger.sim.up():
                self.cut += 1
                self.ledger.sim.crash(name)


@pytest.mark.parametrize(("fresh", "sync_us"), [(False, 500), (False, 40_000), (True, 500), (True, 40_000)])
def test_a_power_cut_at_any_step_of_a_jump_and_of_the_filling_leaves_a_state_to_start_from(
    fresh: bool, sync_us: int
) -> None:
    ledger = away(40, jump_heights=20, faults=Faults(sync_us=sync_us, torn=True))
    mortal = Mortal(ledger)
    if fresh:
        ledger.sim.crash("n3")
        ledger.replace_disk("n3", ())
        ledger.sim.restart("n3")
    ledger.sim.heal()
    steps, least = 1, 0
    while True:
        mortal.left = steps
        ledger.sim.run_until(lambda: home(ledger) or "n3" not in ledger.sim.up(), 240 * SECOND)
        if home(ledger):
            break
        assert mortal.cut, ledger.story(())
        ledger.sim.restart("n3")
        core = ledger.core("n3")
        core.check_invariants()
        assert ledger.height("n3") >= least, "what was settled durably is settled"
        least = ledger.height("n3")
        steps += 1 if steps < 50 else 5
    mortal.left = 0
    ledger.check()
    assert mortal.cut > 20
    assert jumps(ledger, "n3") or least >= 20, "the jump itself was cut, or came to its end"
    ledger.work(10)
    comes_back(ledger)
