"""The curtain: the verdict in plain words, as a panel or as one JSON object."""

from __future__ import annotations

import msgspec
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from crdtledger.edge.demo.verdict import Verdict

WIDTH = 80


def as_json(verdict: Verdict) -> str:
    """One object, on one line."""
    return msgspec.json.encode(verdict).decode()


def show(console: Console, verdict: Verdict, kept: str | None) -> None:
    """The verdict as a panel of at most 80 columns."""
    console.print(_panel(verdict, min(console.width, WIDTH), kept))


def _panel(verdict: Verdict, width: int, kept: str | None) -> RenderableType:
    colour = "green" if verdict.good else "red"
    table = Table(box=None, expand=True, padding=(0, 1), show_header=False)
    table.add_column(width=1)
    table.add_column(ratio=2)
    table.add_column(ratio=3, style="dim")
    for check in verdict.checks:
        sign = Text("✓", "green") if check.ok else Text("✗", "bold red")
        table.add_row(sign, Text(check.name, "" if check.ok else "bold red"), check.detail)
    parts: list[RenderableType] = [Text(words(verdict)), Text(""), table]
    if kept:
        parts += [Text(""), Text(f"The nodes' folders are kept in {kept}", "dim")]
    title = f"[bold {colour}]Verdict: {verdict.verdict}"
    return Panel(Group(*parts), title=title, title_align="left", width=width, border_style=colour, padding=(0, 1))


def words(verdict: Verdict) -> str:
    """What was shown, or that it was not, for people."""
    v = verdict
    if not v.good:
        wrong = ", ".join(check.name for check in v.checks if not check.ok)
        return f"This did not hold: {wrong}. Run it again with --seed {v.seed} --keep DIR and look at the nodes' logs."
    return (
        f"{v.nodes} nodes recorded {v.facts:,} facts, {v.facts_per_s:,} a second. They were cut in two for "
        f"{v.partition_s:.1f} s; both sides went on trading and spending, one node was killed and came back. "
        f"{v.heal_to_agreement_s:.2f} s after the network healed all of them held the same, to the last digit. Nothing "
        f"that was acknowledged is lost, and nothing was spent twice: {v.refusals} spends were refused instead. "
        f"Of {v.matches} matches {v.tentative} were tentative: {v.survived} survived whole, where their survivals "
        f"promised {v.survived_predicted}; {v.voided} were voided, {v.trimmed} trimmed. "
        f"Checkpoint {v.checkpoint_height}, certified by {len(v.certified_by)} of them, settles all of it. "
        f"({v.seconds:.0f} s in all, seed {v.seed})"
    )
