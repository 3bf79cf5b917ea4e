"""``crdtledger recon``: a venue's or a custodian's statement held against the ledger, and the corrections that close the breaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli import statementoptions as options
from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit, say
from crdtledger.edge.cli.reach import connect

if TYPE_CHECKING:
    from crdtledger.edge.client import Client
    from reconcile.divergence.breakrow import BreakRow

COLUMNS = (
    *("id", "account", "instrument", "field", "a", "b", "c", "difference", "tolerance", "type", "status", "cause"),
    *("at_risk", "why", "action", "facts"),
)


def recon(
    target: Target,
    statement: Annotated[Path, Parameter(help="The statement, plain or gzip.")],
    /,
    *,
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
    apply: Annotated[bool, Parameter(help="Record the corrections. Without it nothing is recorded.")] = False,
    only: Annotated[list[str] | None, Parameter(help="With --apply: the breaks to correct, by id; repeat it.")] = None,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Hold a statement against the ledger. A dry run unless --apply; applying twice changes nothing. Exit 1 for breaks.

    A line that does not fit is named with its file, line and reason, and then nothing is compared: exit 2.
    """
    from crdtledger.edge.cli.statementoptions import plans
    from crdtledger.edge.report.holding import hold, reference
    from crdtledger.edge.report.sighting import look, settled_cuts
    from crdtledger.edge.statements.reading import read_statement
    from reconcile.divergence.breakrow import worst_first
    from reconcile.divergence.causes import Rules
    from reconcile.divergence.tolerance import parse_tolerances

    tolerances = parse_tolerances(tolerance or [])
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
    with connect(target, cluster) as node:
        seen = look(node)
        known = reference(seen)
        third = read_statement(beside, known) if beside else None
        moment = seen.moment(Rules(), settled_cuts(node, seen.genesis, seen.height), "", tolerances)
        rows = worst_first(hold(node, seen, moment, read_statement(plan, known), third))
        emit([_row(row) for row in rows], COLUMNS, format)
        if apply:
            _apply(node, rows, only or [])
    breaks = [row for row in rows if row.status != "noted"]
    if not rows:
        say(f"{statement} and {target} say the same")
    elif not apply and any(row.correction.facts for row in breaks):
        say("nothing was recorded: --apply records the corrections, --only ID some of them")
    return DIFFERENT if breaks else GOOD


def _row(row: BreakRow) -> dict[str, Any]:
    told: dict[str, Any] = {column: getattr(row, column) for column in COLUMNS[:12]}
    told["cause"] = row.cause.value
    told["at_risk"] = f"{row.at_risk.amount} {row.at_risk.asset}" if row.at_risk else None
    told["why"], told["action"] = row.why, row.correction.action
    told["facts"] = [dict(fact) for fact in row.correction.facts]
    return told


def _apply(node: Client, rows: Sequence[BreakRow], only: Sequence[str]) -> None:
    """Record the corrections of breaks, each in one call: if one is refused, those before it stand and repeating is safe."""
    from crdtledger.errors import BadInput

    unknown = sorted(set(only) - {row.id for row in rows})
    if unknown:
        raise BadInput(what=f"break {unknown[0]}", where="--only", why="there is no such break now; it may be closed")
    facts = known = corrected = 0
    for row in rows:
        if row.status != "break" or not row.correction.facts or (only and row.id not in only):
            continue
        answer = node.record([dict(fact) for fact in row.correction.facts])
        facts, known, corrected = facts + answer["facts"], known + answer["duplicates"], corrected + 1
    say(f"{corrected} breaks corrected: {facts} facts recorded, {known} were recorded before")
