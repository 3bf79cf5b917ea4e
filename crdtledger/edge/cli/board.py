"""``crdtledger board``: who looks after which break, where it stands, and what was said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from crdtledger.edge.cli.options import GOOD, Format, Keys, OutputFormat, Target
from crdtledger.edge.cli.output import emit
from crdtledger.edge.cli.reach import connect
from crdtledger.edge.cli.stamps import moment

COLUMNS = ("break", "owner", "status", "resolution", "comments", "last_comment", "last_by", "contested")
HISTORY = ("break", "node", "field", "text", "stands")


def board(
    target: Target,
    break_id: Annotated[str, Parameter(name="BREAK", help="A break, by its id in a report: its history.")] = "",
    /,
    *,
    owner: Annotated[str | None, Parameter(help="Note who looks after it; empty for nobody.")] = None,
    status: Annotated[
        Literal["open", "acknowledged", "in progress", "resolved", "reopened"] | None,
        Parameter(help="Note where it stands."),
    ] = None,
    resolution: Annotated[str | None, Parameter(help="Note how it ended; empty to take that back.")] = None,
    comment: Annotated[str | None, Parameter(help="Add a comment, for good.")] = None,
    yjs: Annotated[
        Path | None, Parameter(help="Write the board as a Yjs document (one update) into this file, too.")
    ] = None,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """What people noted about breaks, at this node and wherever it has heard of. Notes are taken while a node is cut off, too.

    Nothing that was noted is lost: what a later note replaces stays in the history, and what was noted apart stands side by side.
    """
    from crdtledger.edge import api
    from crdtledger.errors import BadInput

    said = {"owner": owner, "status": status, "resolution": resolution, "comment": comment}
    notes = [{"kind": "note", "break_id": break_id, "field": f, "text": t} for f, t in said.items() if t is not None]
    if notes and not break_id:
        raise BadInput(what=f"--{notes[0]['field']}", where="board", why="name the BREAK that it is about")
    with connect(target, cluster) as node:
        if notes:
            node.record(notes)
        if yjs is not None:
            yjs.write_bytes(node.request(api.BoardDocument()))
        if break_id and not notes:
            _emit(node.request(api.Notes(break_id)), HISTORY, format)
        else:
            _emit([row for row in node.query("board") if break_id in ("", row["break"])], COLUMNS, format)
    return GOOD


def _emit(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], format: OutputFormat) -> None:
    """The rows, in a table with times that people read."""
    if format == "table":
        rows = [{k: moment(v) if k == "noted_us" else v for k, v in row.items()} for row in rows]
        rows = [{"noted" if k == "noted_us" else k: v for k, v in row.items()} for row in rows]
    emit(rows, columns, format)
