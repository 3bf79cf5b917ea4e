"""The report as files for programs: JSON, CSV, Markdown, Arrow and Parquet. Pure but for the optional library behind the last two."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from crdtledger.edge.report.commands import anchor
from crdtledger.errors import BadInput
from reconcile.divergence.breakrow import Cause

COLUMNS: Final = (
    *("id", "scope", "account", "instrument", "field", "sources", "a", "b", "c", "difference", "tolerance", "type"),
    *("status", "severity", "cause", "why", "missing", "first_seen_us", "first_height", "last_seen_us", "age", "owner"),
    *("progress", "correction", "resolution", "comment", "at_risk", "runbook"),
)
Moment: TypeAlias = Callable[[int], str]
NUMBERS: Final = ("first_seen_us", "first_height", "last_seen_us")


def as_json(document: Mapping[str, Any]) -> bytes:
    """The whole document."""
    return json.dumps(document, indent=1).encode() + b"\n"


def _flat(row: Mapping[str, Any], runbook: str) -> dict[str, Any]:
    """A row whose cells are text, numbers or None."""
    told: dict[str, Any] = {column: row.get(column) for column in COLUMNS}
    told["sources"] = " | ".join(row["sources"])
    told["missing"] = " | ".join(row["missing"])
    facts = row["correction"]["facts"]
    told["correction"] = json.dumps(facts) if facts else row["correction"]["action"]
    told["at_risk"] = f"{row['at_risk']['amount']} {row['at_risk']['asset']}" if row["at_risk"] else None
    told["runbook"] = anchor(Cause(row["cause"]), runbook)
    return told


def as_csv(document: Mapping[str, Any]) -> bytes:
    """The breaks, one a line. A cell that a spreadsheet would take for a formula begins with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in document["breaks"]:
        writer.writerow([_harmless(_flat(row, document["runbook"])[column]) for column in COLUMNS])
    return out.getvalue().encode()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "@", "\t", "\r"):
        return "'" + value
    return "" if value is None else value


def as_markdown(document: Mapping[str, Any], moment: Moment) -> bytes:
    """The verdict, the problems, the partitions, and the breaks as a table."""
    risk = ", ".join(f"{amount} {asset}" for asset, amount in document["verdict"]["at_risk"].items()) or "nothing known"
    lines = [
        f"# {_cell(document['verdict']['text'])}",
        "",
        f"Cluster {_cell(document['cluster'])}, asked {_cell(document['node'])}, height {document['height']}. At risk: {risk}.",
        "",
    ]
    for number, problem in enumerate(document["problems"], 1):
        lines.append(
            f"{number}. **{problem['severity']}** [{problem['cause']}]({problem['runbook']}): {_cell(problem['title'])}"
        )
        lines += [f"   - {_cell(why)}" for why in problem["why"]]
        lines += [f"   - `{_cell(command).replace('`', '')}`" for command in problem["commands"]]
    lines += _partitions(document, moment)
    shown = ("id", "severity", "cause", "account", "instrument", "field", "a", "b", "c", "difference", "age", "status")
    lines += ["", "| " + " | ".join(shown) + " |", "|" + " --- |" * len(shown)]
    for row in document["breaks"]:
        told = _flat(row, document["runbook"])
        lines.append("| " + " | ".join(_cell(told[column]) for column in shown) + " |")
    return "\n".join(lines).encode() + b"\n"


def _partitions(document: Mapping[str, Any], moment: Moment) -> Iterator[str]:
    if document["partitions"]:
        yield from ("", f"Not heard of by {_cell(document['node'])}:", "")
    for each in document["partitions"]:
        since = moment(each["from_us"]) if each["from_us"] else "when it started"
        until = "now, and still silent" if each["to_us"] is None else moment(each["to_us"])
        yield f"- {_cell(each['node'])} from {since} to {until}"


def _cell(value: Any) -> str:
    """Text that Markdown takes for text: nothing in it is markup, and it stays on its line."""
    text = "" if value is None else str(value)
    for mark in ("\\", "|", "*", "_", "[", "]", "`", "#"):
        text = text.replace(mark, "\\" + mark) if mark != "_" else text
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ").replace("\r", " ")


def as_arrow(document: Mapping[str, Any], parquet: bool) -> bytes:
    """The breaks as an Arrow IPC file, or as Parquet. ``BadInput`` without the library that writes them."""
    try:
        import pyarrow as arrow
        from pyarrow import ipc
        from pyarrow import parquet as parquet_files
    except ImportError:
        why = "needs pyarrow, which comes with the extra: pip install 'crdtledger[arrow]'"
        raise BadInput(what="parquet" if parquet else "arrow", where="--format", why=why) from None
    rows = [_flat(row, document["runbook"]) for row in document["breaks"]]
    columns = {
        name: arrow.array([row[name] for row in rows], arrow.int64() if name in NUMBERS else arrow.string())
        for name in COLUMNS
    }
    table = arrow.table(columns)
    sink = arrow.BufferOutputStream()
    if parquet:
        parquet_files.write_table(table, sink)
    else:
        with ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    return bytes(sink.getvalue())
