"""Are survivals true? Simulated markets over networks that are near, far, lossy and parted; every answered tentative match is a test.

    python -m bench.calibration                      all regimes, some 200,000 matches
    python -m bench.calibration --markets 2          a quick look
    python -m bench.calibration --tune               the prior of the regression that fits the markets kept for tuning

Label: accepted whole. Matches that nobody has answered in the end are censored: counted, and in no score. Where a ``min_survival`` is set
the sample is only of matches that were thought to be that likely: its base rate says nothing of the others.

The markets measured here have seeds from ``MEASURED_FROM`` on; those below were used while the model was made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.market import BUSY, Market, Regime
from bench.reliability import Floats
from crdtledger.matching.survival import FEATURES, SurvivalConfig
from gossip.network import Faults

MEASURED_FROM = 1_000
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
