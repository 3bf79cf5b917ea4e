"""``crdtledger import``: other people's trade files into a node. (The word ``import`` itself belongs to Python.)"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, INTERRUPTED, Format, Keys, Target
from crdtledger.edge.cli.output import console, emit_one, say
from crdtledger.edge.cli.reach import connect

if TYPE_CHECKING:
    from crdtledger.edge.importing import Plan, Report

REFUSALS_SHOWN = 5


def import_(
    target: Target,
    file: Annotated[Path, Parameter(help="The file, plain or gzip.")],
    /,
    *,
    format_: Annotated[
        Literal["binance-stream", "binance-aggtrades", "ccxt", "tardis", "csv"],
        Parameter(name="--format", help="What is in the file."),
    ],
    instrument: Annotated[str, Parameter(help="The instrument, as it is defined in the cluster.")],
    accounts: Annotated[
        int, Parameter(help="Spread public trades over N accounts: trade id mod N gives A000, A001, ...")
    ] = 0,
    account: Annotated[str, Parameter(help="All trades are this account's.")] = "",
    venue: Annotated[str, Parameter(help="The venue's name in the ledger. Default: the preset's, else binance.")] = "",
    symbol: Annotated[str, Parameter(help="Import this symbol of the file, skip the others.")] = "",
    mapping: Annotated[
        str, Parameter(help="For csv: role=column,... e.g. id=ID,time=T,price=Px,qty=Qty,side=Side.")
    ] = "",
    output: Annotated[Format, Parameter(name="--output", help="How to print the summary.")] = "table",
    cluster: Keys = None,
) -> int:
    """Import a file of trades as fills. Importing it again changes nothing; an interrupted import resumes.

    A line that does not fit is refused with its file, line, column and reason, and the others are imported: exit 1.
    """
    from crdtledger.edge.importers import parse_mapping
    from crdtledger.edge.importing import Plan

    plan = Plan(
        file=file,
        format=format_,
        instrument=instrument,
        accounts=accounts,
        account=account,
        venue=venue,
        symbol=symbol or None,
        mapping=parse_mapping(mapping) if mapping else {},
    )
    report = _run(target, plan, cluster)
    emit_one({**_row(report), "refusals": list(report.refusals)} if output == "json" else _row(report), output)
    return _verdict(report)


def _run(target: str, plan: Plan, cluster: Path | None) -> Report:
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from crdtledger.edge.importing import import_trades
    from crdtledger.errors import BadInput, UnknownName

    screen = console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with (
        connect(target, cluster) as node,
        Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar,
    ):
        task = bar.add_task(plan.file.name, total=None)
        try:
            return import_trades(node, plan, lambda done, total: bar.update(task, completed=done, total=total))
        except UnknownName as error:
            if error.kind != "instrument":
                raise
            hint = "define it first: `crdtledger define TARGET FILE.toml`, or --preset NAME"
            raise BadInput(what=str(error), where=target, why=hint) from None


def _row(report: Report) -> dict[str, Any]:
    import msgspec

    row: dict[str, Any] = msgspec.to_builtins(report)
    del row["refusals"]
    return row


def _verdict(report: Report) -> int:
    """What there is to say beside the figures, and the exit code."""
    if report.interrupted:
        say(f"interrupted: {report.acknowledged} trades are in for good; the same command resumes there")
        return INTERRUPTED
    if report.trades and not report.recorded:
        say(f"nothing changed: all {report.trades} trades were recorded before")
    for refusal in report.refusals[:REFUSALS_SHOWN]:
        say(f"refused: {refusal}")
    if report.refused > REFUSALS_SHOWN:
        say(f"refused: {report.refused - REFUSALS_SHOWN} more lines")
    return DIFFERENT if report.refused else GOOD
