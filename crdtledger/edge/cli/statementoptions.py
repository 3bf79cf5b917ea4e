"""How a statement is named on the command line: the parameters that ``recon`` and ``report`` share, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from cyclopts import Parameter

if TYPE_CHECKING:
    from crdtledger.edge.statements.reading import StatementPlan

StatementFormat: TypeAlias = Annotated[
    Literal["csv-positions", "csv-trades", "ccxt-positions", "ccxt-trades", "fix"],
    Parameter(name="--statement-format", help="What is in the statement."),
]
Venue: TypeAlias = Annotated[
    str, Parameter(name="--venue", help="The venue's name in the ledger. Default: the preset's.")
]
Whose: TypeAlias = Annotated[
    str, Parameter(name="--account", help="Whose statement it is, where the file does not say.")
]
OfInstrument: TypeAlias = Annotated[
    str, Parameter(name="--instrument", help="What the statement's one symbol is in the ledger.")
]
Mapping: TypeAlias = Annotated[
    str, Parameter(name="--mapping", help="For CSV: role=column,... e.g. account=Acct,instrument=Symbol,qty=Position.")
]
Custodian: TypeAlias = Annotated[
    Path | None, Parameter(name="--custodian", help="A custodian's positions or balances as CSV: compare all three.")
]
CustodianMapping: TypeAlias = Annotated[
    str, Parameter(name="--custodian-mapping", help="Its columns. Default: account, instrument, qty.")
]
Tolerance: TypeAlias = Annotated[
    list[str] | None, Parameter(name="--tolerance", help="field=0.01 or field=2ppm; repeat it. Default: exact.")
]
Symbol: TypeAlias = Annotated[
    list[str] | None,
    Parameter(name="--symbol", help="SYMBOL=INSTRUMENT of the statement; repeat it. Default: the same."),
]
Since: TypeAlias = Annotated[
    str, Parameter(name="--since", help="The period of a statement of trades begins here. Default: its first trade.")
]
Until: TypeAlias = Annotated[str, Parameter(name="--until", help="It ends here. Default: its last trade.")]


def plans(
    statement: Path,
    format: str,
    *,
    venue: str,
    account: str,
    instrument: str,
    mapping: str,
    symbols: Sequence[str],
    custodian: Path | None,
    custodian_mapping: str,
    since: str,
    until: str,
) -> tuple[StatementPlan, StatementPlan | None]:
    """The statement's plan, and the custodian's if there is one. Raises ``BadInput`` for arguments that do not go together."""
    from crdtledger.edge import presets
    from crdtledger.edge.statements.reading import StatementPlan
    from crdtledger.errors import BadInput

    pairs = [symbol.partition("=") for symbol in symbols]
    for symbol, equals, name in pairs:
        if not (symbol and equals and name):
            raise BadInput(what=f"{symbol}{equals}{name}", where="--symbol", why="write SYMBOL=INSTRUMENT")
    named = {symbol: name for symbol, _, name in pairs}
    told = venue or presets.venue_of(instrument or next(iter(named.values()), ""))
    if not told and format.endswith(("trades", "fix")):
        raise BadInput(what="venue", where="recon", why="no preset says whose trades these are: give --venue")
    plan = StatementPlan(
        file=statement,
        format=format,  # type: ignore[arg-type]  # the parameter's own words
        venue=told or "venue",
        account=account,
        instrument=instrument,
        symbols=named,
        mapping=mapping,
        since_us=_time(since, "--since"),
        until_us=_time(until, "--until"),
    )
    if custodian is None:
        return plan, None
    if not format.endswith("positions"):
        raise BadInput(
            what="--custodian", where="recon", why="a custodian's figures are held against a venue's positions"
        )
    beside = StatementPlan(
        file=custodian,
        format="csv-positions",
        account=account,
        symbols=named,
        mapping=custodian_mapping,
        kind="custodian",
    )
    return plan, beside


def _time(text: str, option: str) -> int:
    from crdtledger.edge.importers.timestamps import NoTimeError, text_to_us
    from crdtledger.errors import BadInput

    if not text:
        return 0
    try:
        return text_to_us(text, "auto")
    except NoTimeError as error:
        raise BadInput(what=repr(text[:40]), where=option, why=str(error)) from None


def repeated(plan: StatementPlan, custodian: StatementPlan | None, tolerances: Sequence[str]) -> tuple[str, ...]:
    """The arguments that name the statement again."""
    out = [str(plan.file), "--statement-format", plan.format, "--venue", plan.venue]
    for option, value in (("--account", plan.account), ("--instrument", plan.instrument), ("--mapping", plan.mapping)):
        out += [option, value] if value else []
    for symbol, name in plan.symbols.items():
        out += ["--symbol", f"{symbol}={name}"]
    for option, at in (("--since", plan.since_us), ("--until", plan.until_us)):
        out += [option, str(at)] if at else []
    if custodian is not None:
        out += ["--custodian", str(custodian.file)]
        out += ["--custodian-mapping", custodian.mapping] if custodian.mapping else []
    for text in tolerances:
        out += ["--tolerance", text]
    return tuple(out)
