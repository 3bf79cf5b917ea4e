"""Survivals are true, and say more than a constant would: a small piece of ``bench/calibration.py``, on markets of its own."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from bench.calibration import REGIMES, Scores, play, scores
from bench.market import Market
from bench.reliability import brier, by_staleness, ece, perfect
from crdtledger.ledger.facts import Order
from crdtledger.matching.book import Book
from crdtledger.matching.standing import Standings
from crdtledger.matching.survival import PPM, Estimate, Survival

WAN = next(regime for regime in REGIMES if regime.name == "WAN")
PARTED = next(regime for regime in REGIMES if regime.name == "WAN, parted 2 s of 8")


def measured() -> Scores:
    return scores("both", [play((regime, 77, 20.0, None)) for regime in (WAN, PARTED)])


def is_true(found: Scores) -> bool:
    """On some 3,000 matches; the bench asks for more on more."""
    return found.matches > 2_000 and found.ece < 0.05 and min(found.over_base_rate, found.over_staleness) > 0.08


def test_survivals_are_true_and_worth_more_than_a_constant_or_staleness() -> None:
    found = measured()
    assert is_true(found), found


@pytest.mark.parametrize("what", ["a constant", "the base rate", "the truth turned round"])
def test_a_model_that_knows_less_would_be_found_out(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Survival.estimate

    def fake(self: Survival, *args) -> Estimate:
        thought = real(self, *args)
        ppm = {"a constant": 700_000, "the base rate": 420_000, "the truth turned round": PPM - thought.ppm}[what]
        return Estimate(ppm, thought.key, thought.asked_us, thought.features, thought.staleness_us)

    monkeypatch.setattr(Survival, "estimate", fake)
    assert not is_true(measured())


def test_the_same_seed_is_the_same_market() -> None:
    one, other = (Market(WAN, 5) for _ in range(2))
    one.run(2.0)
    other.run(2.0)
    for name, node in one.nodes.items():
        assert node.survival.outcomes == other.nodes[name].survival.outcomes
        assert [node.desk.book(kind.name).encode() for kind in WAN.kinds] == [
            other.nodes[name].desk.book(kind.name).encode() for kind in WAN.kinds
        ]


def resting(survival: Survival, standings: Standings, book: Book):
    order = Order(id=1, account="A", instrument="I", side="sell", qty=5, price=10, reserve=1)
    (standing,) = standings.apply("far", order, (1, b"", 1, 0))
    book.add(standing.resting())
    survival.placed(standing.name, "I", 0)
    return standing


def test_in_a_partition_survival_falls_with_time_and_never_sticks() -> None:
    survival, book = Survival(), Book()
    standing = resting(survival, Standings(), book)
    for beat in range(200):
        survival.heard("far", beat * 50_000, beat * 50_000 + 20_000)
    last_us = 199 * 50_000 + 20_000
    said = [survival.estimate(standing, 2, book, last_us + 2**step * 60_000).ppm for step in range(14)]
    assert all(later <= sooner for sooner, later in pairwise(said)), said
    assert said[0] > 2 * said[-1]
    assert said[-1] <= 5_000, "after eight minutes next to nothing is left of it"


def test_whatever_was_answered_an_unusual_silence_counts_against_survival() -> None:
    survival, book = Survival(), Book()
    standing = resting(survival, Standings(), book)
    for beat in range(20):
        survival.heard("far", beat * 50_000, beat * 50_000 + 20_000)
    for step in range(600):  # the longer the silence, the surer the answer
        thought = survival.estimate(standing, 2, book, 1_000_000 + 100_000 * (step % 60))
        survival.learn(thought, step % 60 > 20, 1_000_000)
    said = [survival.estimate(standing, 2, book, 1_000_000 + 2**step * 60_000).ppm for step in range(12)]
    assert all(later <= sooner for sooner, later in pairwise(said)), said


def test_a_peer_that_was_never_heard_has_a_survival_too() -> None:
    survival, book = Survival(), Book()
    standing = resting(survival, Standings(), book)
    assert 0 < survival.estimate(standing, 1, book, 1_000_000).ppm < PPM


def test_what_is_answered_is_learned_and_then_forgotten_again() -> None:
    survival, book = Survival(), Book()
    standing = resting(survival, Standings(), book)
    survival.heard("far", 1_000, 21_000)
    said = []
    for accepted in (True, False):
        for at in range(300):
            thought = survival.estimate(standing, 1, book, 30_000)
            survival.learn(thought, accepted, 30_000 + at)
        said.append(survival.estimate(standing, 1, book, 30_000).ppm)
    assert said[0] > 900_000
    assert said[1] < 600_000


def test_orders_that_live_long_are_trusted_more_than_those_that_are_soon_gone() -> None:
    said = {}
    for life_us in (50_000, 5_000_000):
        survival, book = Survival(), Book()
        for number in range(200):
            survival.placed(("far", f"x{number}"), "I", 0)
            survival.cancelled(("far", f"x{number}"), life_us + number)
        standing = resting(survival, Standings(), book)
        survival.heard("far", 1_000, 21_000)
        said[life_us] = survival.estimate(standing, 1, book, 40_000).ppm
    assert said[5_000_000] > said[50_000] + 100_000


def test_a_perfect_model_scores_what_its_own_chances_say() -> None:
    rng = np.random.default_rng(2)
    sample = []
    for _ in range(8):
        chances = rng.random(2_000)
        sample.append((chances, (rng.random(2_000) < chances).astype(float)))
    mean, high, score = perfect(sample, rng)
    chances, labels = (np.concatenate(part) for part in zip(*sample, strict=True))
    assert ece(chances, labels) < high < 0.03
    assert score == pytest.approx(brier(chances, labels), abs=0.005)
    assert score == pytest.approx(1 / 6, abs=0.005)
    assert mean > 0.0
    assert brier(by_staleness(chances, labels), labels) == pytest.approx(brier(chances, labels), abs=0.002)
