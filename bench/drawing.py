"""A result as SVG: a bar a row, a polyline a curve. Plain text inside, readable without colour, no script and no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from bench.measured import OURS, Curve, Result, figure, goal_text, machine

WIDTH = 820
NAMES = 250
ROW = 24
PLOT = 260


def draw(result: Result) -> str:
    """The whole picture."""
    parts: list[str] = []
    y = _words(parts, [result.what, machine()], 24)
    if result.rows:
        y = _bars(parts, result, y)
    for curve in result.curves:
        y = _curve(parts, curve, y)
    y = _words(parts, [f"{'holds' if goal.holds else 'missed'}: {goal_text(goal)}" for goal in result.goals], y + 8)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
    head += f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(result.what)}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>', *parts, "</svg>", ""])


def _words(parts: list[str], lines: Sequence[str], y: int) -> int:
    for line in lines:
        parts.append(f'<text x="12" y="{y}">{escape(line)}</text>')
        y += 20
    return y


def _bars(parts: list[str], result: Result, y: int) -> int:
    """Longer is more of whatever the rows have: units a second, or the time they took."""
    rated = all(row.rate for row in result.rows)
    value = [row.rate if rated else row.median for row in result.rows]
    unit = f"{result.unit}/s" if rated else result.unit_of_runs
    most = max(value)
    for row, size in zip(result.rows, value, strict=True):
        width = (WIDTH - NAMES - 180) * size / most
        fill = "#1b6ca8" if row.name == OURS else "#aab4bd"
        parts.append(f'<text x="{NAMES - 8}" y="{y + 12}" text-anchor="end">{escape(row.name)}</text>')
        parts.append(f'<rect x="{NAMES}" y="{y}" width="{width:.1f}" height="16" fill="{fill}" stroke="#333"/>')
        parts.append(f'<text x="{NAMES + width + 8:.1f}" y="{y + 12}">{figure(size)} {escape(unit)}</text>')
        y += ROW
    return y + 8


def _curve(parts: list[str], curve: Curve, y: int) -> int:
    """Both axes by powers of ten: a power law is a straight line."""
    across, upwards = np.log10(np.array(curve.points, np.float64)).T
    left, width, height = 90, WIDTH - 220, PLOT - 70
    top = y + 24

    def place(values: np.ndarray, at: float, size: float) -> list[float]:
        low, high = float(values.min()), float(values.max())
        return [at + size * ((float(v) - low) / (high - low or 1.0)) for v in values]

    xs, ys = place(across, left, width), place(upwards, top + height, -height)
    parts.append(f'<text x="12" y="{y + 8}">{escape(curve.name)}: slope {curve.slope:.2f}</text>')
    parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999"/>')
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(xs, ys, strict=True))
    parts.append(f'<polyline points="{path}" fill="none" stroke="#1b6ca8" stroke-width="2"/>')
    for a, b, (size, cost) in zip(xs, ys, curve.points, strict=True):
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="#1b6ca8"/>')
        parts.append(f'<text x="{a + 7:.1f}" y="{b + 4:.1f}">{figure(cost)}</text>')
        parts.append(f'<text x="{a:.1f}" y="{top + height + 16}" text-anchor="middle">{figure(size)}</text>')
    parts.append(
        f'<text x="{left + width / 2}" y="{top + height + 34}" text-anchor="middle">{escape(curve.across)}</text>'
    )
    parts.append(f'<text x="12" y="{top + 12}">{escape(curve.upwards)}</text>')
    return y + PLOT
