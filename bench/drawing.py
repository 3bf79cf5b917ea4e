"""A result as SVG: a bar a row, a polyline a curve. Plain text inside, readable without colour, no script and no network.

Rules.

* Ours is coloured, whatever stands beside it is grey; where nobody else is, all is ours.
* Bars of one unit share an axis, and no others. Where the longest is many times the shortest the axis is by powers of ten, each a line.
* A decade is as long across as upwards: a slope of 1 rises by 45 degrees in every picture. From the first point a dashed line shows what
  n log n would be, except for what is a rate.
* No word is cut: text is taken to be as wide as the widest common fonts, and goes on in the next line.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from html import escape

from bench.measured import OURS, Curve, Result, Row, figure, goal_text, machine, slope

WIDTH = 860
EDGE = 12
LINE = 18
CHAR = 8.0
"""The mean width of a letter of 13 px; of the smaller ones of 11 px it is ``SMALL``."""
SMALL = 6.8
MOST_NAME = 38
BAR = 16
SQUEEZED = 15
"""So many times the shortest bar, and the axis is by powers of ten."""
PANEL = (WIDTH - 3 * EDGE) // 2
SCALE = 64
"""Left of a curve's frame, for the figures of its decades."""
DECADE = 170.0
BLUE, GREY = "#1b6ca8", "#aab4bd"


def draw(result: Result, *, quick: bool = False) -> str:
    """The whole picture."""
    parts: list[str] = []
    sizes = ["quick: small sizes, which say nothing about speed"] if quick else []
    told = "; ".join([*sizes, *(f"{name} {_spelled(value)}" for name, value in result.facts.items())])
    y = _words(parts, [result.what, machine(), told], EDGE, 24, WIDTH)
    for unit, rows in _axes(result).items():
        y = _bars(parts, result, rows, unit, y)
    for at in range(0, len(result.curves), 2):
        pair = result.curves[at : at + 2]
        y = max(_curve(parts, curve, EDGE + side * (PANEL + EDGE), y) for side, curve in enumerate(pair))
    goals = [f"{'holds' if goal.holds else 'missed'}: {goal_text(goal)}" for goal in result.goals]
    y = _words(parts, goals, EDGE, y + 12, WIDTH)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" '
    head += f'font-family="sans-serif" font-size="13" role="img" aria-label="{escape(result.what)}">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>', *parts, "</svg>", ""])


def _spelled(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _text(parts: list[str], x: float, y: float, words: str, *, anchor: str = "start", small: bool = False) -> None:
    size = ' font-size="11"' if small else ""
    end = f' text-anchor="{anchor}"' if anchor != "start" else ""
    parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{end}{size}>{escape(words)}</text>')


def _words(parts: list[str], lines: Sequence[str], x: int, y: int, width: int) -> int:
    """Lines from ``y`` on, each as many as it needs in ``width``; where the next would be."""
    for line in lines:
        for piece in textwrap.wrap(line, int((width - 2 * EDGE) / CHAR)):
            _text(parts, x, y, piece)
            y += LINE
    return y


# Bars ---------------------------------------------------------------------------------------------------


def _axes(result: Result) -> dict[str, list[tuple[Row, float]]]:
    """unit -> the rows that have it, and what of each is drawn: units a second if all have those, or what it took."""
    rated = all(row.rate for row in result.rows)
    found: dict[str, list[tuple[Row, float]]] = {}
    for row in result.rows:
        unit = row.unit or (f"{result.unit}/s" if rated else result.unit_of_runs)
        found.setdefault(unit, []).append((row, row.rate if rated and not row.unit else row.median))
    return found


def _ours(result: Result, row: Row) -> bool:
    return _is_ours(row) or not any(_is_ours(each) for each in result.rows)


def _is_ours(row: Row) -> bool:
    return row.ours or row.name.startswith(OURS)


def _bars(parts: list[str], result: Result, rows: Sequence[tuple[Row, float]], unit: str, y: int) -> int:
    """Longer is more of the unit."""
    names = [textwrap.wrap(row.name, MOST_NAME) for row, _ in rows]
    left = EDGE + CHAR * max(len(piece) for name in names for piece in name) + 8
    told = [f"{figure(size)} {unit}" for _, size in rows]
    width = WIDTH - EDGE - left - 8 - CHAR * max(map(len, told))
    most, least = max(size for _, size in rows), min((size for _, size in rows if size > 0), default=0.0)
    low = math.log10(least) - 0.2 if least and most > SQUEEZED * least else None
    if low is not None:
        high = math.log10(most)
        y = _words(parts, ["by powers of ten"], EDGE, y + 4, WIDTH) + 2
        bottom = y + sum(_height(name) for name in names)
        for power in _within(low, high):
            x = left + width * (power - low) / (high - low)
            parts.append(f'<line x1="{x:.1f}" y1="{y - 12}" x2="{x:.1f}" y2="{bottom - 6}" stroke="#bbb"/>')
            _text(parts, x, y - 16, _decade(power), anchor="middle", small=True)
    for (row, size), name, value in zip(rows, names, told, strict=True):
        if low is None:
            long = width * size / most if most else 0.0
        else:
            long = width * (math.log10(size) - low) / (high - low) if size > 0 else 0.0
        for at, piece in enumerate(name):
            _text(parts, left - 8, y + 8 + at * LINE, piece, anchor="end")
        fill = BLUE if _ours(result, row) else GREY
        parts.append(
            f'<rect x="{left:.1f}" y="{y - 4}" width="{long:.1f}" height="{BAR}" fill="{fill}" stroke="#333"/>'
        )
        wide = CHAR * len(value)
        parts.append(f'<rect x="{left + long + 5:.1f}" y="{y - 5}" width="{wide:.1f}" height="18" fill="#fff"/>')
        _text(parts, left + long + 8, y + 8, value)
        y += _height(name)
    return y + 12


def _height(name: Sequence[str]) -> int:
    return 6 + LINE * len(name)


# Curves -------------------------------------------------------------------------------------------------


def _curve(parts: list[str], curve: Curve, x: int, y: int) -> int:
    """One panel, ``PANEL`` wide: both axes by powers of ten, so that a power law is a straight line. Where the next may begin."""
    rate = curve.upwards.endswith("/s")
    bound = [] if rate else _nlogn(curve.points)
    title = f"{curve.name}, by {curve.across}: slope {curve.slope:.2f}"
    y = _words(parts, [title], x, y + 12, PANEL)
    note = curve.upwards if rate else f"{curve.upwards}; dashed: n log n, slope {slope(bound):.2f}"
    y = _words(parts, [note], x, y, PANEL)
    across = [math.log10(size) for size, _ in curve.points]
    upwards = [math.log10(cost) for _, cost in (*curve.points, *bound)]
    wide = PANEL - SCALE - 14 - 62  # a margin before the first point, and room for the last one's figure
    decade = min(DECADE, wide / ((max(across) - min(across)) or 1.0))
    left, top, right = x + SCALE, y - 6, x + PANEL - 4
    bottom = top + 18 + decade * (max(upwards) - min(upwards)) + 28  # with room for a figure below the lowest point

    def over(power: float) -> float:
        return left + 14 + decade * (power - min(across))

    def up(power: float) -> float:
        return bottom - 28 - decade * (power - min(upwards))

    def place(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(over(math.log10(size)), up(math.log10(cost))) for size, cost in points]

    parts += [
        f'<line x1="{over(power):.1f}" y1="{top}" x2="{over(power):.1f}" y2="{bottom:.1f}" stroke="#ddd"/>'
        for power in _within(min(across) - 14 / decade, min(across) + (right - left - 14) / decade)
    ]
    for power in _within(min(upwards) - 28 / decade, max(upwards) + 18 / decade):
        parts.append(f'<line x1="{left}" y1="{up(power):.1f}" x2="{right}" y2="{up(power):.1f}" stroke="#ddd"/>')
        _text(parts, left - 6, up(power) + 4, f"{_decade(power)}", anchor="end", small=True)
    parts.append(
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top:.1f}" fill="none" stroke="#999"/>'
    )
    _line(parts, place(bound), 'stroke="#777" stroke-dasharray="5 4"')
    placed = place(curve.points)
    _line(parts, placed, f'stroke="{BLUE}" stroke-width="2"')
    ends, free = [-math.inf, -math.inf], -math.inf
    for (a, b), (c, d), (size, cost) in zip(placed, [*placed[1:], placed[-1]], curve.points, strict=True):
        parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4" fill="{BLUE}"/>')
        long = 5 + SMALL * len(figure(cost))
        if a >= free:  # where points are close together, not each has room for its figure
            falls = max(0.0, (d - b) * min(1.0, long / (c - a))) if c > a else 0.0  # so far the line comes down over it
            _text(parts, a + 5, b + 16 + falls, figure(cost), small=True)
            free = a + 5 + long
        half = SMALL * len(figure(size)) / 2
        row = 0 if a - half > ends[0] else 1
        ends[row] = a + half + 4
        _text(parts, a, bottom + 14 + 13 * row, figure(size), anchor="middle", small=True)
    return int(bottom) + 44


def _nlogn(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """What n log n would be from the first point on."""
    (first, cost), *_ = points
    sizes = [first * (points[-1][0] / first) ** (at / 24) for at in range(25)]
    return [(size, cost * _work(size) / _work(first)) for size in sizes]


def _work(size: float) -> float:
    return size * math.log(max(2.0, size))


def _decade(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"


def _within(low: float, high: float) -> range:
    """The powers of ten between two."""
    return range(math.ceil(low), math.floor(high) + 1)


def _line(parts: list[str], placed: Sequence[tuple[float, float]], style: str) -> None:
    if not placed:
        return
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in placed)
    parts.append(f'<polyline points="{path}" fill="none" {style}/>')
