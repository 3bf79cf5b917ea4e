"""The drawings of a report as inline SVG: who lacks what, what happened when. Pure.

They are drawn in one ink. What matters is told by shape, by a hatch and in words, never by a colour alone, so they read the same on
paper. Every text is escaped by what puts them together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, Final

from markupsafe import Markup

WIDTH: Final = 920
LEFT: Final = 170
ROW: Final = 22
LETTER: Final = 7
"""A letter of a label is at most so wide, on average."""
MAX_LANES: Final = 40
MAX_NODES: Final = 24
SHORTEST_US: Final = 60_000_000
LONGEST_US: Final = 86_400_000_000
PAUSE: Final = 3
"""Checkpoints that are so many times as far apart as they usually are had a pause between them."""

_HATCH = Markup(
    '<defs><pattern id="{0}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<line x1="0" y1="0" x2="0" y2="6" stroke="currentColor" stroke-width="1.5"/></pattern></defs>'
)


def lag_map(lanes: Sequence[Mapping[str, Any]], nodes: Sequence[str]) -> Markup:
    """Lanes by nodes: a dot where a node has all, a filled box with the number of batches that it lacks, a hatch where nobody knows."""
    worst = sorted(lanes, key=lambda lane: (-_badness(lane), lane["lane"]))[:MAX_LANES]
    shown = nodes[:MAX_NODES]
    step = min(90, (WIDTH - LEFT) // max(1, len(shown)))
    height = 40 + ROW * len(worst)
    parts = [_HATCH.format("lag")]
    for column, node in enumerate(shown):
        parts.append(_text(LEFT + step * column + step // 2, 20, _short(node, step // 7), "middle"))
    for number, lane in enumerate(worst):
        y = 32 + ROW * number
        parts.append(_text(LEFT - 10, y + 15, f"{_short(lane['lane'], 20)} #{lane['seq']}", "end"))
        for column, node in enumerate(shown):
            parts.append(_cell(LEFT + step * column + 4, y + 2, step - 8, ROW - 4, lane["lacks"].get(node)))
    return _svg(height, Markup("").join(parts), "batches that each node lacks, lane by lane")


def _badness(lane: Mapping[str, Any]) -> int:
    return sum(1 << 40 if lacks is None else lacks for lacks in lane["lacks"].values())


def _cell(x: int, y: int, width: int, height: int, lacks: int | None) -> Markup:
    if lacks == 0:
        return Markup('<circle cx="{0}" cy="{1}" r="2.5" fill="currentColor"/>').format(x + width // 2, y + height // 2)
    fill = "url(#lag)" if lacks is None else "currentColor"
    box = Markup('<rect x="{0}" y="{1}" width="{2}" height="{3}" fill="{4}" stroke="currentColor"/>')
    word = "unknown" if lacks is None else f"−{lacks}"
    halo = Markup('<text x="{0}" y="{1}" text-anchor="middle" class="{2}">{3}</text>')
    return box.format(x, y, width, height, fill) + halo.format(
        x + width // 2, y + 13, "unk" if lacks is None else "inv", word
    )


def timeline(
    checkpoints: Sequence[Mapping[str, int]],
    spells: Sequence[tuple[str, int, int | None]],
    began: Sequence[tuple[str, int]],
    now_us: int,
) -> Markup:
    """Checkpoints as ticks with their pauses, a line for every node with a bar for each time that it was not heard of, a mark where each
    problem began.

    ``spells``: (node, from, to), where to is None while it lasts; ``began``: (problem, since); 0 where nobody knows."""
    moments = [cut["decided_us"] for cut in checkpoints] + [us for spell in spells for us in spell[1:] if us]
    recent = [at for at in moments if now_us - at <= LONGEST_US]
    start = min([*recent, now_us - SHORTEST_US])
    span = now_us - start

    def at(us: int) -> float:
        return LEFT + (WIDTH - LEFT - 20) * max(0.0, min(1.0, (us - start) / span))

    parts = [_HATCH.format("cut"), _text(LEFT, 16, f"{length(span)} ago"), _text(WIDTH - 20, 16, "now", "end")]
    line = Markup('<line x1="{0:.1f}" y1="{1}" x2="{2:.1f}" y2="{3}" stroke="currentColor"/>')
    y = 26
    parts += [_text(LEFT - 10, y + 13, "checkpoints", "end"), line.format(LEFT, y + 16, WIDTH - 20, y + 16)]
    if not checkpoints:
        parts.append(_text(LEFT + 6, y + 12, "none"))
    for cut in checkpoints:
        parts.append(line.format(at(cut["decided_us"]), y + 4, at(cut["decided_us"]), y + 16))
    for first, last in pauses([cut["decided_us"] for cut in checkpoints], now_us):
        parts.append(_bar(at(first), y + 6, at(last) - at(first), 8, "none", f"none for {length(last - first)}"))
    recent_spells = [spell for spell in spells if spell[2] is None or spell[2] > start]
    for node in sorted({node for node, _, _ in recent_spells})[:MAX_NODES]:
        y += ROW
        parts.append(_text(LEFT - 10, y + 13, _short(f"{node} silent", 22), "end"))
        for since, until in [(since, until) for name, since, until in recent_spells if name == node]:
            x = at(since) if since else float(LEFT)
            parts.append(_bar(x, y + 3, at(until or now_us) - x, 12, "url(#cut)", _spell(since, until, now_us)))
    for name, since in began:
        y += ROW
        parts.append(_text(LEFT - 10, y + 13, _short(name, 22), "end"))
        if since:
            word = f"{length(now_us - since)} ago"
            parts.append(line.format(at(since), y + 9, WIDTH - 20, y + 9))
            if since < start:
                parts.append(_text(LEFT + 6, y + 6, f"earlier: {word}", cls="small"))
                continue
            mark = Markup('<path d="M {0:.1f} {1} l 6 6 l -6 6 l -6 -6 z" fill="currentColor"/>')
            x, side = (at(since) - 10, "end") if at(since) > WIDTH / 2 else (at(since) + 10, "start")
            parts += [mark.format(at(since), y + 3), _text(int(x), y + 13, word, side, "small unk")]
        else:
            parts.append(_text(LEFT, y + 13, "since when is not known", cls="small"))
    return _svg(y + ROW + 12, Markup("").join(parts), "checkpoints, partitions and when problems began")


def _spell(since: int, until: int | None, now_us: int) -> str:
    if until is not None:
        return f"silent for {length(until - since)}"
    return f"not heard of for {length(now_us - since)}" if since else "never heard of"


def pauses(decided: Sequence[int], now_us: int) -> list[tuple[int, int]]:
    """Where checkpoints stood still: (from, to). Up to the last one only: nothing may have been recorded since."""
    gaps = [later - earlier for earlier, later in itertools.pairwise(decided)]
    if len(gaps) < PAUSE:
        return []
    usual = max(1_000_000, int(median(gaps)))
    return [
        (decided[n], decided[n + 1]) for n, gap in enumerate(gaps) if gap > PAUSE * usual and decided[n + 1] <= now_us
    ]


def bar(share: float) -> Markup:
    """A bar within a cell of a table."""
    return Markup(
        '<svg class="bar" width="80" height="10" role="presentation"><rect width="80" height="10" fill="none" '
        'stroke="currentColor"/><rect width="{0:.1f}" height="10" fill="currentColor"/></svg>'
    ).format(80 * max(0.0, min(1.0, share)))


def _bar(x: float, y: int, width: float, height: int, fill: str, word: str) -> Markup:
    box = Markup(
        '<rect x="{0:.1f}" y="{1}" width="{2:.1f}" height="{3}" fill="{4}" stroke="currentColor"><title>{5}</title></rect>'
    )
    drawn = box.format(x, y, max(1.0, width), height, fill, word)
    wide = LETTER * len(word)
    if height <= 10 or width < wide + 12:
        return drawn
    # A hatch shows between words, whatever is around the letters: they need a ground of their own.
    label = Markup(
        '<rect x="{0:.1f}" y="{1}" width="{2}" height="{3}" class="ground"/><text x="{4:.1f}" y="{5}" text-anchor="end">{6}</text>'
    )
    return drawn + label.format(x + width - wide - 6, y + 1, wide + 4, height - 2, x + width - 4, y + height - 2, word)


def _text(x: int, y: int, text: str, anchor: str = "start", cls: str = "") -> Markup:
    return Markup('<text x="{0}" y="{1}" text-anchor="{2}"{3}>{4}</text>').format(
        x, y, anchor, Markup(' class="{0}"').format(cls) if cls else "", text
    )


def _svg(height: int, inner: Markup, words: str) -> Markup:
    opening = Markup('<svg viewBox="0 0 {0} {1}" width="100%" role="img" aria-label="{2}">')
    return opening.format(WIDTH, height, words) + inner + Markup("</svg>")


def _short(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: max(1, characters - 1)] + "…"


def length(us: int) -> str:
    """A span of time in its two largest units."""
    seconds = max(0, us) // 1_000_000
    for name, unit, small, below in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= unit:
            rest = seconds % unit // below
            return f"{seconds // unit}{name} {rest}{small}" if rest else f"{seconds // unit}{name}"
    return f"{seconds}s"
