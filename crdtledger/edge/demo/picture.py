"""The live picture of the scene, for a terminal of 80 by 24 and larger. Reads the scene, changes nothing."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crdtledger.edge.demo.scene import ACTS, NodeScene, Scene

WIDTH = 80
ROWS = 24
BAR = 26
STATES = {"up": ("●", "green"), "killed": ("✗", "bold red"), "starting": ("○", "dim")}
SIDES = {
    "": ("one network", "dim"),
    "left": ("◀ left", "cyan"),
    "right": ("right ▶", "magenta"),
}


class Picture:
    """A rich renderable: drawn anew from the scene each time."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def __rich_console__(self, console: Console, options: object) -> list[RenderableType]:
        width = min(console.width, WIDTH)
        parts = [self._head(width), self._nodes(width), self._positions(width)]
        used = 1 + (len(self._scene.nodes) + 3) + (len(self._scene.watched) + 3)
        lines = max(2, min(console.height, ROWS) - used - 3)
        parts.append(self._story(width, lines))
        return [Group(*(part for part in parts if part is not None))]

    def _head(self, width: int) -> RenderableType:
        scene = self._scene
        done = min(1.0, scene.facts / max(1, scene.expected))
        filled = int(done * BAR)
        head = Text(no_wrap=True, overflow="crop")
        head.append(f" seed {scene.seed}", "dim")
        head.append(f"  {scene.elapsed_s:4.0f} s  ")
        head.append("█" * filled, "green").append("░" * (BAR - filled), "dim")
        head.append(f" {scene.facts:>9,} facts", "bold").append(f" {scene.rate:>7,}/s")
        return head

    def _nodes(self, width: int) -> RenderableType:
        scene = self._scene
        number = list(ACTS).index(scene.act) + 1
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        table.add_column("node", no_wrap=True)
        table.add_column("network", no_wrap=True)
        table.add_column("facts", justify="right", no_wrap=True)
        table.add_column("lacks", justify="right", no_wrap=True)
        table.add_column("settled", justify="right", no_wrap=True)
        table.add_column("may spend", justify="right", no_wrap=True)
        table.add_column("spent", justify="right", no_wrap=True)
        table.add_column("refused", justify="right", no_wrap=True)
        for node in scene.nodes.values():
            table.add_row(*self._node(node))
        title = f"[bold]Act {number} of {len(ACTS)}: {ACTS[scene.act]}"
        return Panel(table, title=title, title_align="left", width=width, padding=0, border_style="blue")

    def _node(self, node: NodeScene) -> list[Text]:
        sign, style = STATES[node.state]
        link, colour = SIDES[node.side] if node.state == "up" else ("", "")
        if node.state == "killed":
            link, colour = "killed -9", "bold red"
        return [
            Text(f"{sign} {node.name}", style),
            Text(link, colour),
            Text(f"{node.facts:,}"),
            Text(f"{node.lacks:,}" if node.lacks else "·", "yellow" if node.lacks else "dim"),
            Text(f"#{node.height}", "yellow" if node.unsettled else "green") if node.height else Text("·", "dim"),
            Text(node.spendable),
            Text(f"{node.moves}"),
            Text(f"{node.refused}" if node.refused else "·", "yellow" if node.refused else "dim"),
        ]

    def _positions(self, width: int) -> RenderableType | None:
        scene = self._scene
        if not scene.watched:
            return None
        nodes = list(scene.nodes.values())
        ends = (nodes[0], nodes[-1])
        table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
        table.add_column("account", no_wrap=True)
        table.add_column("instrument", no_wrap=True)
        for node in ends:
            table.add_column(f"at {node.name}", justify="right", no_wrap=True)
        table.add_column("", no_wrap=True)
        for cell in scene.watched:
            here, there = (node.positions.get(cell, "") for node in ends)
            same = here == there
            table.add_row(*cell, here, there, Text("=" if same else "≠", "green" if same else "bold yellow"))
        title = "positions"
        return Panel(table, title=title, title_align="left", width=width, padding=0, border_style="dim")

    def _story(self, width: int, lines: int) -> RenderableType:
        words = list(self._scene.words)[-lines:]
        text = Text("\n".join(words + [""] * (lines - len(words))), no_wrap=True, overflow="ellipsis")
        return Panel(text, width=width, padding=(0, 1), border_style="dim")
