"""How true probabilities are: Brier score, expected calibration error, reliability curves, and what a perfect model would score.

A sample is a list of markets, each a pair of arrays (probabilities, labels 0 or 1). Bins are twenty of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BINS = 20

Floats = npt.NDArray[np.float64]
Sample = Sequence[tuple[Floats, Floats]]


def pooled(sample: Sample) -> tuple[Floats, Floats]:
    """All markets in one."""
    return np.concatenate([p for p, _ in sample]), np.concatenate([y for _, y in sample])


def brier(chances: Floats, labels: Floats) -> float:
    """Mean squared error: 0 is perfect."""
    return float(np.mean((chances - labels) ** 2))


def curve(chances: Floats, labels: Floats) -> list[tuple[float, float, int]]:
    """(mean probability, share of ones, count) of each bin that holds anything."""
    bins = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    said, seen = np.bincount(bins, chances, BINS), np.bincount(bins, labels, BINS)
    return [(said[b] / count[b], seen[b] / count[b], int(count[b])) for b in range(BINS) if count[b]]


def ece(chances: Floats, labels: Floats) -> float:
    """Expected calibration error: the mean distance of said from seen, over bins by their counts."""
    return sum(abs(said - seen) * count for said, seen, count in curve(chances, labels)) / len(chances)


def perfect(sample: Sample, rng: np.random.Generator, draws: int = 100) -> tuple[float, float, float]:
    """What a model scores whose probabilities are exactly true, on as many matches with these probabilities: its mean calibration error,
    the 95th percentile of it, and its mean Brier score. Whole markets are drawn with replacement, then labels by their probabilities.
    """
    errors, scores = [], []
    for _ in range(draws):
        drawn = rng.integers(0, len(sample), len(sample))
        chances = np.concatenate([sample[number][0] for number in drawn])
        labels = (rng.random(len(chances)) < chances).astype(np.float64)
        errors.append(ece(chances, labels))
        scores.append(brier(chances, labels))
    return float(np.mean(errors)), float(np.quantile(errors, 0.95)), float(np.mean(scores))


def by_staleness(staleness: Floats, labels: Floats) -> Floats:
    """The best that staleness alone can say: the share of ones among the twentieth of the sample that is as stale, looked up in
    hindsight."""
    edges = np.quantile(staleness, np.linspace(0.0, 1.0, BINS + 1)[1:-1])
    bins = np.searchsorted(edges, staleness)
    count = np.maximum(np.bincount(bins, minlength=BINS), 1)
    return (np.bincount(bins, labels, BINS) / count)[bins]


def diagram(curves: Sequence[tuple[str, list[tuple[float, float, int]]]]) -> str:
    """A reliability diagram as SVG: said across, seen upwards, a polyline per curve, the diagonal for comparison, dots by their counts."""
    size, margin = 520, 50
    colours = (
        "#1b6ca8",
        "#c8553d",
        "#588157",
        "#8d6a9f",
        "#b08900",
        "#3d5a80",
        "#9c6644",
        "#6c757d",
        "#2a9d8f",
        "#e76f51",
        "#264653",
    )

    def x(value: float) -> float:
        return margin + value * size

    def y(value: float) -> float:
        return margin + (1.0 - value) * size

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{size + 2 * margin + 170}" height="{size + 2 * margin}" ']
    out[0] += 'font-family="sans-serif" font-size="12">'
    out.append(f'<rect x="{margin}" y="{margin}" width="{size}" height="{size}" fill="none" stroke="#999"/>')
    out.append(f'<line x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}" stroke="#999" stroke-dasharray="4"/>')
    for tick in range(0, 11, 2):
        out.append(f'<text x="{x(tick / 10) - 8}" y="{y(0) + 18}">{tick / 10}</text>')
        out.append(f'<text x="{x(0) - 28}" y="{y(tick / 10) + 4}">{tick / 10}</text>')
    out.append(f'<text x="{x(0.4)}" y="{y(0) + 38}">said: survival when matched</text>')
    out.append(f'<text x="{margin}" y="{margin - 14}">seen: share accepted whole</text>')
    for number, (name, points) in enumerate(curves):
        colour = colours[number % len(colours)]
        path = " ".join(f"{x(said):.1f},{y(seen):.1f}" for said, seen, _ in points)
        out.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{2.5 if number == 0 else 1}"/>'
        )
        most = max(count for _, _, count in points)
        for said, seen, count in points:
            out.append(
                f'<circle cx="{x(said):.1f}" cy="{y(seen):.1f}" r="{1 + 4 * (count / most) ** 0.5:.1f}" fill="{colour}"/>'
            )
        out.append(f'<text x="{x(1) + 16}" y="{margin + 16 + 18 * number}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])
