"""``crdtledger diff``: what two nodes hold and show differently, down to the missing batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format, Keys
from crdtledger.edge.cli.output import emit, say
from crdtledger.edge.cli.reach import connect

if TYPE_CHECKING:
    from crdtledger.edge.client import Client

COLUMNS = ("what", "subject", "field", "a", "b", "missing_at", "missing")
Rows = Sequence[Mapping[str, Any]]


def diff(
    a: Annotated[str, Parameter(help="A node: folder or address.")],
    b: Annotated[str, Parameter(help="Another node.")],
    /,
    *,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Compare two nodes: lanes and their missing batches, positions, collateral. Exit 1 when they differ.

    In a cluster that records meanwhile the two are read at slightly different moments; `crdtledger wait` first.
    """
    with connect(a, cluster) as left, connect(b, cluster) as right:
        rows = [
            *_lanes(left.query("frontier"), right.query("frontier"), (left.endpoint.name, right.endpoint.name)),
            *_figures("position", ("account", "instrument"), _both(left, right, "positions")),
            *_figures("collateral", ("account", "asset"), _both(left, right, "collateral")),
        ]
    emit(rows, COLUMNS, format)
    if not rows:
        say(f"{a} and {b} are the same")
    return DIFFERENT if rows else GOOD


def _both(left: Client, right: Client, view: Any) -> tuple[Rows, Rows]:
    return left.query(view), right.query(view)


def _lanes(left: Rows, right: Rows, names: tuple[str, str]) -> Iterator[dict[str, Any]]:
    """A row per lane whose heads differ, with the batches that one of the nodes lacks."""
    mine, theirs = ({row["name"]: row for row in rows} for rows in (left, right))
    for lane in sorted({*mine, *theirs}):
        a, b = mine.get(lane), theirs.get(lane)
        at = tuple((row["seq"], row["hash"], row["forks_at"]) if row else (0, "", None) for row in (a, b))
        if at[0] == at[1]:
            continue
        low, high = sorted((at[0][0], at[1][0]))
        lacking, missing = "", "the same number of batches, but not the same ones: the lane forks"
        if low < high:
            lacking = names[0] if at[0][0] < at[1][0] else names[1]
            missing = f"{low + 1}-{high}"
        yield _row("lane", lane, "seq", str(at[0][0]), str(at[1][0]), lacking, missing)


def _figures(what: str, key: tuple[str, ...], both: tuple[Rows, Rows]) -> Iterator[dict[str, Any]]:
    """A row per figure that differs; a row that is missing is not a row of zeros."""
    mine, theirs = ({tuple(str(row[part]) for part in key): row for row in rows} for rows in both)
    for subject in sorted({*mine, *theirs}):
        a, b = mine.get(subject), theirs.get(subject)
        name = " ".join(subject)
        if a is None or b is None:
            yield _row(what, name, "row", "there" if a else None, "there" if b else None)
            continue
        for field in dict.fromkeys([*a, *b]):
            if a.get(field) != b.get(field):
                yield _row(what, name, field, a.get(field), b.get(field))


def _row(what: str, subject: str, field: str, a: Any, b: Any, at: str = "", missing: str = "") -> dict[str, Any]:
    values = (what, subject, field, a, b, at or None, missing or None)
    return dict(zip(COLUMNS, values, strict=True))
