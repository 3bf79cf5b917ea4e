"""A logistic regression that is learned one outcome at a time and forgets: the last step from what a model says to what happens.

Weights have a mean and a covariance. An outcome moves them as an extended Kalman filter does (the Laplace approximation of Bayesian
logistic regression, one Newton step per outcome); between outcomes the covariance is divided by ``memory``, so an outcome's weight falls
by that factor with each that follows. Without outcomes the prior speaks.

Source: Penny & Roberts, "Dynamic logistic regression", IJCNN 1999, equations 8 to 11.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def logistic(score: float) -> float:
    """The probability of a score, without overflow."""
    return 1.0 / (1.0 + math.exp(-score)) if score >= 0 else 1.0 - 1.0 / (1.0 + math.exp(score))


class Regression:
    """``mean`` and ``variance`` of each weight to begin with; no variance keeps it fixed. ``memory`` below 1 forgets. ``signs``: 1 and -1
    keep a weight from changing its sign, 0 leaves it free."""

    __slots__ = ("_covariance", "_high", "_low", "_memory", "_most", "weights")

    def __init__(
        self, mean: Sequence[float], variance: Sequence[float], memory: float, signs: Sequence[int] | None = None
    ) -> None:
        kept = np.array(signs if signs is not None else [0] * len(mean))
        self._low: Vector = np.where(kept > 0, 0.0, -np.inf)
        self._high: Vector = np.where(kept < 0, 0.0, np.inf)
        self.weights: Vector = np.array(mean, np.float64)
        self._covariance: Vector = np.diag(np.array(variance, np.float64))
        self._most = float(np.trace(self._covariance))
        self._memory = memory

    def probability(self, features: Vector) -> float:
        """The chance of the outcome, by the mean of the weights.

        Not moderated for what is not known of them (as MacKay does, Neural Computation 4, 1992): a memory that forgets never comes to know
        them well, and chances near certainty would be drawn to one half for good.
        """
        return logistic(float(features @ self.weights))

    def learn(self, features: Vector, happened: bool) -> None:
        """One more outcome."""
        if self._memory < 1.0 and float(np.trace(self._covariance)) < self._most:
            self._covariance /= self._memory
        reach = self._covariance @ features
        spread = float(features @ reach)
        chance = logistic(float(features @ self.weights))
        slope = max(chance * (1.0 - chance), 1e-4)
        gain = reach / (1.0 + slope * spread)
        self.weights += gain * (float(happened) - chance)
        np.clip(self.weights, self._low, self._high, out=self.weights)
        self._covariance -= slope * np.outer(gain, reach)
