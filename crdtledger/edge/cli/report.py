"""``crdtledger report``: the page that the person on duty opens first."""

from __future__ import annotations

import sys
from collections.abc import Mapping as Values
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from crdtledger.edge.cli import statementoptions as options
from crdtledger.edge.cli.options import DIFFERENT, GOOD, Keys, Target
from crdtledger.edge.cli.output import say
from crdtledger.edge.cli.reach import connect
from crdtledger.edge.cli.stamps import moment

if TYPE_CHECKING:
    from crdtledger.edge.report.gathering import Asked

BINARY = ("arrow", "parquet")


def report(
    target: Target,
    /,
    *,
    output: Annotated[str, Parameter(name=["-o", "--output"], help="The file; - for standard output.")] = "-",
    format: Annotated[
        Literal["html", "json", "csv", "markdown", "arrow", "parquet"], Parameter(help="What to write.")
    ] = "html",
    statement: Annotated[Path | None, Parameter(help="A statement to hold against the ledger, as recon does.")] = None,
    statement_format: options.StatementFormat = "csv-positions",
    venue: options.Venue = "",
    account: options.Whose = "",
    instrument: options.OfInstrument = "",
    mapping: options.Mapping = "",
    symbol: options.Symbol = None,
    custodian: options.Custodian = None,
    custodian_mapping: options.CustodianMapping = "",
    since: options.Since = "",
    until: options.Until = "",
    tolerance: options.Tolerance = None,
    quote: Annotated[str, Parameter(help="Tell what is at risk in this asset, where a spot mark says how.")] = "",
    grace: Annotated[float, Parameter(help="Seconds that a batch may be on its way.")] = 10.0,
    silent: Annotated[float, Parameter(help="Seconds after which a node that says nothing counts as cut off.")] = 5.0,
    mark_age: Annotated[float, Parameter(help="Seconds after which a mark is too old.")] = 300.0,
    runbook: Annotated[str, Parameter(help="Where the links to the runbook lead.")] = "docs/how-to/on-duty.md",
    cluster: Keys = None,
) -> int:
    """Every divergence that a node, its peers and a statement show: the cause, what is at risk, what to do. Exit 1 for problems.

    The page is one self-contained file. Who cannot be asked is reported as unknown, never as equal.
    """
    from crdtledger.edge.cli.statementoptions import plans, repeated
    from crdtledger.edge.report.contents import document
    from crdtledger.edge.report.gathering import Asked, gather
    from crdtledger.errors import BadInput
    from reconcile.divergence.causes import Rules
    from reconcile.divergence.tolerance import parse_tolerances

    if format in BINARY and output == "-":
        raise BadInput(what=format, where="-o", why="is no text: name a file")
    rules = Rules(int(grace * 1_000_000), int(silent * 1_000_000), int(mark_age * 1_000_000))
    asked = Asked(cluster=cluster, rules=rules, tolerances=parse_tolerances(tolerance or []), quote=quote)
    if statement is not None:
        plan, beside = plans(
            statement,
            statement_format,
            venue=venue,
            account=account,
            instrument=instrument,
            mapping=mapping,
            symbols=symbol or [],
            custodian=custodian,
            custodian_mapping=custodian_mapping,
            since=since,
            until=until,
        )
        asked = _with(asked, statements=((plan, beside),), arguments=(repeated(plan, beside, tolerance or []),))
    told = document(gather(connect, target, asked), runbook)
    raw = _rendered(told, format)
    if output == "-":
        sys.stdout.write(raw.decode())
    else:
        Path(output).write_bytes(raw)
        say(f"{told['verdict']['text']}: {output}")
    return GOOD if told["verdict"]["good"] else DIFFERENT


def _with(asked: Asked, **changes: Any) -> Asked:
    import msgspec

    changed: Asked = msgspec.structs.replace(asked, **changes)
    return changed


def _rendered(told: Values[str, Any], format: str) -> bytes:
    from crdtledger.edge.report import files

    if format == "html":
        from crdtledger.edge.report.page import as_html

        return as_html(told, moment)
    if format == "json":
        return files.as_json(told)
    if format == "csv":
        return files.as_csv(told)
    if format == "markdown":
        return files.as_markdown(told, moment)
    return files.as_arrow(told, format == "parquet")
