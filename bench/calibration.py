"""Are survivals true? Simulated markets over networks that are near, far, lossy and parted; every answered tentative match is a test.

    python -m bench.calibration                      all regimes, some 200,000 matches
    python -m bench.calibration --markets 2          a quick look
    python -m bench.calibration --tune               the priors that fit the markets kept for tuning

Label: accepted whole. Matches that nobody has answered in the end are censored: counted, and in no score. Where a ``min_survival`` is set
the sample is only of matches that were thought to be that likely: its base rate says nothing of the others.

The markets measured here have seeds from ``MEASURED_FROM`` on; those below were used while the model was made.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.market import BUSY, Market, Regime
from bench.reliability import Floats, brier, by_staleness, curve, diagram, ece, perfect, pooled
from crdtledger.matching.links import LIVELY
from crdtledger.matching.survival import FEATURES, SurvivalConfig
from gossip.network import Faults

MEASURED_FROM = 2_000
SECONDS = 60.0

_LAN = Faults(latency_min_us=200, latency_mean_us=1_000)
_METRO = Faults(latency_min_us=3_000, latency_mean_us=6_000)
_WAN = Faults(latency_min_us=30_000, latency_mean_us=45_000)
_FAR = Faults(latency_min_us=90_000, latency_mean_us=120_000)
_LOSSY = Faults(latency_min_us=30_000, latency_mean_us=45_000, loss_ppm=30_000)

REGIMES = (
    Regime("LAN", _LAN),
    Regime("metro", _METRO),
    Regime("WAN", _WAN),
    Regime("far WAN", _FAR),
    Regime("lossy WAN", _LOSSY),
    Regime("WAN, clocks 40 ms off", _WAN, skew_us=40_000),
    Regime("WAN, only the busy one", _WAN, kinds=(BUSY,)),
    Regime("WAN, survival over 0.3", _WAN, min_survival=300_000),
    Regime("LAN, parted 2 s of 8", _LAN, together_us=6_000_000, apart_us=2_000_000),
    Regime("WAN, parted 2 s of 8", _WAN, together_us=6_000_000, apart_us=2_000_000),
    Regime("WAN, parted 0.5 s of 2", _WAN, together_us=1_500_000, apart_us=500_000),
    Regime("far WAN, parted 5 s of 15", _FAR, together_us=10_000_000, apart_us=5_000_000),
)


class Played(NamedTuple):
    """What one market gave: an entry per answered match."""

    regime: str
    seed: int
    chances: Floats
    labels: Floats
    staleness: Floats
    features: Floats
    censored: int
    firm: int


def play(job: tuple[Regime, int, float, SurvivalConfig | None]) -> Played:
    """Run one market."""
    regime, seed, seconds, config = job
    market = Market(regime, seed, config)
    market.run(seconds)
    outcomes = [one for node in market.nodes.values() for one in node.survival.outcomes]
    return Played(
        regime.name,
        seed,
        np.array([one.ppm for one in outcomes], np.float64) / 1e6,
        np.array([one.accepted for one in outcomes], np.float64),
        np.array([one.staleness_us for one in outcomes], np.float64),
        np.array([one.features for one in outcomes], np.float64).reshape(len(outcomes), len(FEATURES)),
        sum(node.desk.unanswered for node in market.nodes.values()),
        market.firm,
    )


def fit(features: Floats, labels: Floats) -> tuple[Floats, Floats]:
    """Logistic regression by Newton's method, with a weak prior around the plain model: (weights, their standard errors)."""
    weights = np.array([0.0, 1.0, *[0.0] * (len(FEATURES) - 2)])
    prior = weights.copy()
    for _ in range(25):
        chances = 1.0 / (1.0 + np.exp(-features @ weights))
        curvature = (features * (chances * (1.0 - chances))[:, None]).T @ features + np.eye(len(weights))
        weights = weights + np.linalg.solve(curvature, features.T @ (labels - chances) - (weights - prior))
    return weights, np.sqrt(np.diag(np.linalg.inv(curvature)))


class Scores(NamedTuple):
    """Of one regime, or of all together. ``over_*``: Brier skill, 1 - score / the baseline's score."""

    name: str
    matches: int
    markets: int
    censored: int
    base_rate: float
    brier: float
    over_base_rate: float
    over_staleness: float
    ece: float
    perfect_ece: float
    perfect_ece_95: float
    perfect_brier: float


def scores(name: str, played: list[Played]) -> Scores:
    """What the model scored on these markets."""
    sample = [(one.chances, one.labels) for one in played]
    chances, labels = pooled(sample)
    staleness = np.concatenate([one.staleness for one in played])
    score, rate = brier(chances, labels), float(labels.mean())
    floor = perfect(sample, np.random.default_rng(1))
    return Scores(
        name,
        len(labels),
        len(played),
        sum(one.censored for one in played),
        rate,
        score,
        1.0 - score / (rate * (1.0 - rate)),
        1.0 - score / brier(by_staleness(staleness, labels), labels),
        ece(chances, labels),
        *floor,
    )


def failures(regimes: list[Scores], overall: Scores) -> list[str]:
    """Which goals are missed."""
    out = []
    if overall.ece > 0.02:
        out.append(f"calibration error {overall.ece:.4f} over all is more than 0.02")
    for over, baseline in ((overall.over_base_rate, "the base rate"), (overall.over_staleness, "staleness alone")):
        if over < 0.1:
            out.append(f"Brier skill {over:.3f} over {baseline} is less than 0.1")
    out += [
        f"{one.name}: calibration error {one.ece:.4f}, a perfect model's {one.perfect_ece:.4f}"
        for one in regimes
        if one.matches >= 5_000 and one.ece > one.perfect_ece + 0.03
    ]
    if 2 * sum(0.2 <= one.base_rate <= 0.8 for one in regimes) < len(regimes):
        out.append("the base rate is between 0.2 and 0.8 in less than half of the regimes")
    return out


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--markets", type=int, default=5, help="of each regime")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that each market trades")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--tune", action="store_true", help="fit the prior to the markets kept for that")
    options = parser.parse_args()
    first = 1 if options.tune else MEASURED_FROM
    jobs = [(regime, first + at, options.seconds, None) for regime in REGIMES for at in range(options.markets)]
    begun = time.monotonic()
    with multiprocessing.Pool(options.processes) as pool:
        played = pool.map(play, jobs, chunksize=1)
    if options.tune:
        features, labels = (
            np.concatenate([one.features for one in played]),
            np.concatenate([one.labels for one in played]),
        )
        parted = features[:, FEATURES.index("silence")] > np.log(LIVELY)
        for name, some in (("live", ~parted), ("parted", parted)):
            weights, errors = fit(features[some], labels[some])
            for feature, weight, error in zip(FEATURES, weights, errors, strict=True):
                print(f"{name:8s} {feature:10s} {weight:7.3f} +- {error:.3f}")
        return 0
    overall = scores("all", played)
    regimes = [scores(regime.name, [one for one in played if one.regime == regime.name]) for regime in REGIMES]
    print(f"{'regime':28s} matches censored   base  Brier   skill over        ECE  of a perfect model")
    print(f"{'':28s}                    rate          base   stale          mean    95%   Brier")
    for one in (*regimes, overall):
        print(
            f"{one.name:28s} {one.matches:7d} {one.censored:8d}  {one.base_rate:.3f}  {one.brier:.4f} {one.over_base_rate:6.3f} "
            f"{one.over_staleness:6.3f}  {one.ece:.4f} {one.perfect_ece:.4f} {one.perfect_ece_95:.4f} {one.perfect_brier:.4f}"
        )
    firm = sum(one.firm for one in played)
    print(
        f"{overall.matches} tentative matches answered, {firm} firm, in {len(played)} markets, {time.monotonic() - begun:.0f} s"
    )
    named = [
        ("all", played),
        *((regime.name, [one for one in played if one.regime == regime.name]) for regime in REGIMES),
    ]
    curves = [(name, curve(*pooled([(one.chances, one.labels) for one in some]))) for name, some in named]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "calibration.svg").write_text(diagram(curves), encoding="utf-8")
    missed = failures(regimes, overall)
    for line in missed:
        print(f"MISSED: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
