"""Space-time diagrams of simulated runs: a line down the page for each node, an arrow for each message (Lamport, "Time, clocks, and
the ordering of events in a distributed system", CACM 1978, figure 1). A pure function from lines of a trace to one self-contained SVG.

How to read it. Time runs down; long silences are drawn short (the scale is logarithmic in the gaps, the clock on the left is true).
An arrow is a message that arrived, dashed when it arrived again; a line that ends in a cross was lost there; one that ends in a
ring was still under way. A cross on a node's line is a crash, a triangle its start, and between them there is no line. A bracket on the
right is a partition or a cut, with its groups. Nothing is told by colour alone.

It is bounded: of a long run the last messages are drawn, and the picture says how many were left out. Equal lines give equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from gossip.trace import Line

MOST_MESSAGES: Final = 400
MOST_NODES: Final = 40

_LEFT, _TOP, _RIGHT, _BOTTOM = 96, 92, 230, 40
_COLUMN: Final = 150
_LEAST_GAP, _MOST_GAP = 7.0, 46.0
_LABEL_ROOM: Final = 10.0
_TOPOLOGY: Final = ("partition", "isolate", "cut", "clog")

_STYLE: Final = """
svg{background:#fff;font:11px ui-monospace,Menlo,Consolas,monospace;fill:#222}
.node{stroke:#222;stroke-width:1.4}.arrow{stroke:#2c5c8a;stroke-width:1;fill:none}.again{stroke-dasharray:4 3}
.lost{stroke:#9a3412;stroke-width:1;fill:none}.small{font-size:8px;fill:#555}.time{font-size:9px;fill:#666;text-anchor:end}
.grid{stroke:#ddd;stroke-width:.6}.name{font-weight:700;text-anchor:middle}.mark{stroke:#222;stroke-width:1.6;fill:none}
.band{stroke:#666;stroke-width:1.2;fill:none}text{paint-order:stroke;stroke:#fff;stroke-width:2.5px;stroke-linejoin:round}
.fail{fill:#7f1d1d;font-weight:700}.title{font-size:14px;font-weight:700}
"""


class _Place(NamedTuple):
    x: float
    y: float


class _Message:
    """One message: where it left, where it arrived, where it got lost."""

    def __init__(self) -> None:
        self.sent: _Place | None = None
        self.source = self.target = self.says = ""
        self.arrived: list[_Place] = []
        self.lost_at_source = False
        self.lost: list[_Place] = []


def draw(
    lines: Sequence[Line], names: Sequence[str] = (), *, failure: str = "", title: str = "", most: int = MOST_MESSAGES
) -> str:
    """The diagram of ``lines``, oldest first. ``names``: nodes from left to right (default: all that occur, sorted). ``failure``: what
    broke at the end, marked there. ``most``: how many messages are drawn, the last ones. Nodes beyond ``MOST_NODES`` are left out."""
    shown, left_out = _window(lines, most)
    nodes = list(names) or sorted(
        {line.node for line in shown if line.node} | {line.other for line in shown if line.other}
    )
    nodes = nodes[:MOST_NODES]
    return "".join(_Diagram(shown, nodes, left_out, failure, title).svg())


def _window(lines: Sequence[Line], most: int) -> tuple[Sequence[Line], int]:
    """The last lines with at most ``most`` messages among them, and how many messages came before."""
    numbers = [line.message for line in lines if line.message]
    distinct = list(dict.fromkeys(reversed(numbers)))
    if len(distinct) <= most:
        return lines, 0
    wanted = set(distinct[:most])
    first = next(at for at, line in enumerate(lines) if line.message in wanted)
    kept = [line for line in lines[first:] if not line.message or line.message in wanted]
    return kept, len(distinct) - most


class _Diagram:
    def __init__(self, lines: Sequence[Line], nodes: Sequence[str], left_out: int, failure: str, title: str) -> None:
        self._lines, self._nodes, self._left_out = lines, nodes, left_out
        self._failure, self._title = failure, title or "Messages between nodes"
        self._x = {name: _LEFT + _COLUMN * (at + 0.5) for at, name in enumerate(nodes)}
        self._y = _heights(lines)
        self._end = (max(self._y.values()) if self._y else _TOP) + 16
        self._width = _LEFT + _COLUMN * max(1, len(nodes)) + _RIGHT
        self._height = self._end + _BOTTOM + (26 if failure else 0)
        self._labels: dict[str, float] = {}

    def svg(self) -> Iterator[str]:
        """The parts of the picture, in the order in which they are drawn."""
        size = f'width="{self._width:g}" height="{self._height:g}" viewBox="0 0 {self._width:g} {self._height:g}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="t d">'
        yield f'<title id="t">{_text(self._title)}</title>'
        yield f'<desc id="d">Space-time diagram of {len(self._nodes)} nodes; time runs down. {_text(self._failure)}</desc>'
        yield f"<style>{_STYLE}</style>"
        yield (
            '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
            '<path d="M0,0 L8,4 L0,8 z" fill="#2c5c8a"/></marker></defs>'
        )
        yield from self._head()
        yield from self._clock()
        yield from self._nodes_down()
        yield from self._messages()
        yield from self._marks()
        yield from self._bands()
        if self._failure:
            y = self._end + 22
            yield f'<path class="mark" d="M{_LEFT},{self._end:g} H{self._width - _RIGHT:g}" stroke-dasharray="2 3"/>'
            yield f'<text class="fail" x="{_LEFT}" y="{y:g}">&#9888; {_text(_short(self._failure, 150))}</text>'
        yield "</svg>\n"

    def _head(self) -> Iterator[str]:
        more = f"; {self._left_out} earlier messages left out" if self._left_out else ""
        yield f'<text class="title" x="16" y="26">{_text(self._title)}</text>'
        legend = "&#8594; arrived  - -&#8594; again  &#10005; lost  &#9675; under way  &#9587; crash  &#9650; start  &#8226; on disk"
        yield f'<text x="16" y="46">{legend}; silences are drawn short{more}</text>'

    def _clock(self) -> Iterator[str]:
        last = -math.inf
        right = self._width - _RIGHT
        for at_us, y in self._y.items():
            if y - last >= 24:
                last = y
                yield f'<path class="grid" d="M{_LEFT - 6},{y:.1f} H{right:g}"/>'
                yield f'<text class="time" x="{_LEFT - 10}" y="{y + 3:.1f}">{at_us / 1e6:.6f} s</text>'

    def _nodes_down(self) -> Iterator[str]:
        down: dict[str, float | None] = dict.fromkeys(self._nodes, _TOP - 8)
        for line in self._lines:
            if line.what == "start" and line.node in down and down[line.node] is None:
                down[line.node] = self._y[line.at_us]
            elif line.what == "crash" and line.node in down:
                begun = down[line.node]
                if begun is not None:
                    yield self._line(line.node, begun, self._y[line.at_us])
                down[line.node] = None
        for name in self._nodes:
            begun = down[name]
            if begun is not None:
                yield self._line(name, begun, self._end)
            yield f'<text class="name" x="{self._x[name]:g}" y="{_TOP - 16}">{_text(_short(name, 20))}</text>'

    def _line(self, name: str, top: float, bottom: float) -> str:
        return f'<path class="node" d="M{self._x[name]:g},{top:.1f} V{bottom:.1f}"/>'

    # -- messages -------------------------------------------------------------------------------------------

    def _collected(self) -> dict[int, _Message]:
        found: dict[int, _Message] = {}
        for line in self._lines:
            if not line.message or line.node not in self._x:
                continue
            message = found.setdefault(line.message, _Message())
            place = _Place(self._x[line.node], self._y[line.at_us])
            message.says = message.says or line.says
            if line.what == "send":
                message.sent, message.source, message.target = place, line.node, line.other
            elif line.what == "receive":
                message.arrived.append(place)
                message.source = line.other
            elif line.node == message.source:
                message.lost_at_source = True
            else:
                message.lost.append(place)
        return found

    def _messages(self) -> Iterator[str]:
        for number, message in sorted(self._collected().items()):
            sent = message.sent
            if sent is None:
                for place in message.arrived:  # it was sent before the picture begins
                    x = self._x.get(message.source, place.x)
                    back = place.x - 26 if x <= place.x else place.x + 26
                    yield _arrow(number, _Place(back, place.y - 5), place, again=False)
                continue
            for at, place in enumerate(message.arrived):
                yield _arrow(number, sent, place, again=at > 0)
            for place in message.lost:
                yield _cross(number, sent, place, 0.88)
            if message.lost_at_source and message.target in self._x:
                yield _cross(number, sent, _Place(self._x[message.target], sent.y + 10), 0.2)
            elif not (message.arrived or message.lost) and message.target in self._x:
                yield _ring(number, sent, _Place(self._x[message.target], sent.y + 14))
            yield from self._label(message, sent)

    def _label(self, message: _Message, sent: _Place) -> Iterator[str]:
        """What the message says, where there is room beside its sender's line."""
        rightwards = self._x.get(message.target, sent.x) > sent.x
        side = f"{message.source}{rightwards}"
        if not message.says or sent.y - self._labels.get(side, -math.inf) < _LABEL_ROOM:
            return
        self._labels[side] = sent.y
        anchor, x = ("start", sent.x + 5) if rightwards else ("end", sent.x - 5)
        yield f'<text class="small" text-anchor="{anchor}" x="{x:g}" y="{sent.y - 2:.1f}">{_text(_short(message.says, 22))}</text>'

    # -- what else happened ---------------------------------------------------------------------------------

    def _marks(self) -> Iterator[str]:
        told: dict[str, float] = {}
        for line in self._lines:
            if line.node not in self._x:
                continue
            x, y = self._x[line.node], self._y[line.at_us]
            if line.what == "crash":
                yield f'<path class="mark" d="M{x - 6:g},{y - 6:.1f} l12,12 m0,-12 l-12,12"/>'
                yield f'<text class="small" x="{x + 9:g}" y="{y + 3:.1f}">crash: {_text(line.detail)}</text>'
            elif line.what == "start":
                yield f'<path class="mark" d="M{x:g},{y - 6:.1f} l6,9 h-12 z"/>'
            elif line.what == "durable":
                yield f'<circle cx="{x:g}" cy="{y:.1f}" r="2"/>'
            elif line.what in ("disk", "skew", "notify") and y - told.get(line.node, -math.inf) >= 2 * _LABEL_ROOM:
                told[line.node] = y
                yield f'<text class="small" x="{x + 5:g}" y="{y + 8:.1f}">{_text(_short(f"{line.what} {line.detail}", 30))}</text>'

    def _bands(self) -> Iterator[str]:
        """Brackets on the right: from each cut of the network to the next heal."""
        x = self._width - _RIGHT + 18
        open_at: list[tuple[float, str]] = []
        told = -math.inf
        for line in [*self._lines, Line(self._lines[-1].at_us, "", "end", "", 0)] if self._lines else []:
            word = line.what.partition(" ")[0]
            if not line.node and word in _TOPOLOGY:
                open_at.append((self._y[line.at_us], f"{line.what} {line.detail}".strip()))
            elif not line.node and word in ("heal", "end"):
                end = self._end if word == "end" else self._y[line.at_us]
                for at, (begun, what) in enumerate(open_at):
                    left = x + 7 * min(at, 6)
                    yield f'<path class="band" d="M{left + 6:g},{begun:.1f} h-6 V{end:.1f} h6"/>'
                    y = max(begun + 4, told + 12)
                    told = y
                    yield f'<text x="{x + 14 + 7 * min(len(open_at), 6):g}" y="{y:.1f}">{_text(_short(what, 28))}</text>'
                open_at.clear()


def _heights(lines: Sequence[Line]) -> dict[int, float]:
    """Where each moment is drawn, in ascending time."""
    heights: dict[int, float] = {}
    y, before = float(_TOP), 0
    for at_us in sorted({line.at_us for line in lines}):
        if heights:
            y += min(_MOST_GAP, _LEAST_GAP + 3 * math.log2(1 + (at_us - before) / 500))
        heights[at_us] = y
        before = at_us
    return heights


def _arrow(number: int, start: _Place, end: _Place, *, again: bool) -> str:
    style = "arrow again" if again else "arrow"
    path = f"M{start.x:g},{start.y:.1f} L{end.x:g},{end.y:.1f}"
    return f'<path class="{style}" data-message="{number}" d="{path}" marker-end="url(#a)"/>'


def _towards(start: _Place, end: _Place, part: float) -> _Place:
    return _Place(start.x + (end.x - start.x) * part, start.y + (end.y - start.y) * part)


def _cross(number: int, start: _Place, end: _Place, part: float) -> str:
    stop = _towards(start, end, part)
    path = f"M{start.x:g},{start.y:.1f} L{stop.x:.1f},{stop.y:.1f} m-4,-4 l8,8 m0,-8 l-8,8"
    return f'<path class="lost" data-message="{number}" d="{path}"/>'


def _ring(number: int, start: _Place, end: _Place) -> str:
    stop = _towards(start, end, 0.35)
    path = f"M{start.x:g},{start.y:.1f} L{stop.x:.1f},{stop.y:.1f} m-3,0 a3,3 0 1,0 6,0 a3,3 0 1,0 -6,0"
    return f'<path class="arrow" data-message="{number}" d="{path}"/>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _text(text: str) -> str:
    """Text as XML, whatever is in it."""
    printable = "".join(char if char.isprintable() else "·" for char in text)
    return escape(printable, {'"': "&quot;"})
