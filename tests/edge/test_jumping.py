"""Catch-up by a settled state, over real node cores: whoever was away for too long stands where the others stand."""

from __future__ import annotations

from typing import Any

from crdtledger.edge.simulate.cluster import NAMES, SECOND
from tests.edge.test_checkpointing import Ledger

OTHERS = ("n0", "n1", "n2")


def jumps(ledger: Ledger, name: str) -> list[Any]:
    return [one for one in ledger.sim.notifications if one.node == name and one.topic == "checkpoint.jumped"]


def filled(ledger: Ledger) -> bool:
    return all(len(ledger.stores[name]) == ledger.certified(name) for name in NAMES)


def comes_back(ledger: Ledger) -> None:
    """All stand on one height, and every store has every height."""
    assert ledger.sim.run_until(lambda: ledger.settled() and filled(ledger), 120 * SECOND), ledger.story(())
    ledger.check()


def away(height: int, **options: Any) -> Ledger:
    """n3 was cut off, with batches of its own, while the others settled up to ``height``."""
    ledger = Ledger(8, interval_ms=50, prunes=True, shelf_heights=1, **options)
    ledger.open_books()
    ledger.settles()
    ledger.sim.partition([list(OTHERS), ["n3"]])
    ledger.work(5, ("n3",))
    while ledger.height("n0") < height:
        ledger.work(1, OTHERS)
    return ledger


def test_a_node_many_heights_behind_takes_the_settled_state_and_its_own_batches_count() -> None:
    ledger = away(40, jump_heights=20)
    own = ledger.core("n3").replica.unsettled()
    assert own
    ledger.sim.heal()
    comes_back(ledger)
    assert jumps(ledger, "n3")
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
