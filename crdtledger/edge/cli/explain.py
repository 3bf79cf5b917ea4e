"""``crdtledger explain``: why a number is what it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit, emit_one, say
from crdtledger.edge.cli.reach import connect
from crdtledger.edge.cli.stamps import moment

if TYPE_CHECKING:
    from crdtledger.edge.client import Client
    from crdtledger.edge.report.sighting import Sighting
    from reconcile.divergence.causes import Rules
    from reconcile.divergence.explain import Explanation, FactLine

NOBODY = "-"
COLUMNS = ("kind", "id", "terms", "became", "cause", "node", "batch", "recorded", "state", "unseen_by")
UNSEEN = ("node", "cause", "since", "batches")
STALE = ("instrument", "source", "price", "marked", "cause", "why")


def explain(
    target: Target,
    account: Annotated[str, Parameter(allow_leading_hyphen=True, help="The account; - for none.")] = NOBODY,
    instrument: Annotated[
        str, Parameter(allow_leading_hyphen=True, help="The instrument, or an asset for its collateral; - for all.")
    ] = NOBODY,
    /,
    *,
    silent: Annotated[float, Parameter(help="Seconds after which a node that says nothing counts as cut off.")] = 5.0,
    mark_age: Annotated[float, Parameter(help="Seconds after which a mark is too old.")] = 300.0,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """From a figure to its facts, their batches, nodes and times: what is settled, what is not, who has not seen what yet.

    Without an account and an instrument: who is not heard of, and what is missing where. Exit 1 when a cause is named.
    """
    from reconcile.divergence.causes import Rules

    rules = Rules(silent_us=int(silent * 1_000_000), mark_age_us=int(mark_age * 1_000_000))
    names = tuple("" if name == NOBODY else name for name in (account, instrument))
    with connect(target, cluster) as node:
        told = explained(node, names[0], names[1], rules)
    if format == "json":
        emit_one(told, format)
    elif format == "csv":
        emit(told["facts"], COLUMNS, format)
    else:
        _print(told)
    causes = {row["cause"] for part in ("facts", "unseen", "stale") for row in told[part]} - {""}
    return DIFFERENT if causes else GOOD


def explained(node: Client, account: str, instrument: str, rules: Rules) -> dict[str, Any]:
    """The explanation as plain values."""
    from crdtledger.edge import api
    from crdtledger.edge.report.sighting import look, settled_cuts
    from reconcile.divergence.explain import explain as work_out

    seen = look(node)
    traced = node.request(api.Trace(account, instrument)) if account else []
    figures = _figures(seen, account, instrument)
    settled = sum(int(row["fills"]) for row in figures if row.get("state") != "provisional" and "fills" in row)
    held = settled if any("fills" in row and row["state"] != "provisional" for row in figures) else None
    cuts = [(cut.height, cut.lanes) for cut in settled_cuts(node, seen.genesis, seen.height)]
    open_qty = seen.open_quantities()
    marks = [m for m in seen.told_marks() if open_qty.get(m.instrument) and instrument in ("", m.instrument)]
    story = work_out(traced, held, seen.holders, marks, cuts, seen.now_us, rules)
    return {
        "account": account,
        "instrument": instrument,
        "asked": seen.node,
        "height": seen.height,
        "figures": figures,
        "facts": [_fact(line) for line in story.facts],
        "older_settled_fills": story.older,
        "unseen": [
            {
                "node": one.node,
                "cause": one.cause.value,
                "since": moment(one.since_us) if one.since_us else "never heard of",
                "batches": list(one.batches),
            }
            for one in story.unseen
        ],
        "stale": _stale(story, seen),
    }


def _figures(seen: Sighting, account: str, instrument: str) -> list[Mapping[str, Any]]:
    if not account:
        return []
    rows = [row for row in seen.positions if row["account"] == account and instrument in ("", row["instrument"])]
    return [*rows, *(r for r in seen.collateral if r["account"] == account and instrument in ("", r["asset"]))]


def _fact(line: FactLine) -> dict[str, Any]:
    fact = line.fact
    if "side" in fact:
        terms = (
            f"{fact['side']} {fact['qty']} {fact['instrument']} @ {fact['price']} fee {fact['fee']} {fact['fee_asset']}"
        )
    else:
        onward = fact.get("credit") or fact.get("to")
        terms = f"{fact['amount']} {fact['asset']}" + (f" to {onward}" if onward else "")
    height = "settled" if line.height is None else f"settled({line.height})"
    return {
        "kind": fact["kind"],
        "id": fact["id"],
        "terms": terms,
        "became": fact["became"],
        "cause": line.cause,
        "node": fact["node"],
        "batch": f"{line.batch}[{fact['row']}]",
        "recorded": moment(fact["recorded_us"]),
        "state": height if fact["settled"] else "provisional",
        "unseen_by": list(line.unseen_by),
    }


def _stale(story: Explanation, seen: Sighting) -> list[dict[str, Any]]:
    from crdtledger.errors import decimal_text

    out = []
    for mark, why in story.stale:
        terms = seen.instruments.get(mark.instrument)
        price = decimal_text(mark.price, terms.price_decimals) if terms and mark.price is not None else None
        row = (mark.instrument, mark.source, price, moment(mark.ts_us), "STALE_MARK", why)
        out.append(dict(zip(STALE, row, strict=True)))
    return out


def _print(told: Mapping[str, Any]) -> None:
    figures: Sequence[Mapping[str, Any]] = told["figures"]
    for row in figures:
        emit_one(row, "table")
        print()
    if told["facts"]:
        emit(told["facts"], COLUMNS, "table")
    if told["older_settled_fills"]:
        print(f"and {told['older_settled_fills']} settled fills that {told['asked']} no longer holds one by one")
    for part, columns in (("unseen", UNSEEN), ("stale", STALE)):
        if told[part]:
            print()
            emit(told[part], columns, "table")
    if not any(told[part] for part in ("figures", "facts", "unseen", "stale")):
        say("nothing stands here, and every node is heard of")
