"""What a report says, as plain values: the document that every format is made of, and its summary, which is short enough to lie in
the open in a page of 500 breaks. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from crdtledger.edge.calibration import calibrate
from crdtledger.edge.report.commands import RUNBOOK, anchor
from crdtledger.edge.report.gathering import Gathered
from crdtledger.edge.report.sighting import exact
from crdtledger.errors import decimal_text
from reconcile.divergence.breakrow import AGES, NO_TIME, OLDEST, SEVERITIES, BreakRow, Cause, Problem

VERSION: Final = 1
BUCKETS: Final = (*(name for name, _ in AGES), OLDEST, NO_TIME)
WHYS: Final = 4
"""So many things are said of a problem whose rows say more than one."""
BRIEF: Final = ("id", "cause", "status", "severity", "account", "instrument", "field", "difference", "age")


def document(gathered: Gathered, runbook: str = RUNBOOK) -> dict[str, Any]:
    """Everything that a report says. ``runbook``: where people find docs/how-to/on-duty.md."""
    seen = gathered.seen
    problems = gathered.problems
    return {
        "version": VERSION,
        "cluster": seen.genesis.cluster,
        "genesis": seen.genesis.hash.hex(),
        "node": seen.node,
        "target": seen.target,
        "now_us": seen.now_us,
        "height": seen.height,
        "runbook": runbook,
        "verdict": _verdict(gathered, problems),
        "problems": [_problem(problem, runbook) for problem in problems],
        "breaks": [msgspec.to_builtins(row) for row in gathered.rows],
        "causes": _causes(gathered.rows),
        "nodes": _nodes(gathered),
        "lanes": lag(gathered),
        "partitions": _partitions(gathered),
        "checkpoints": [{"height": cut.height, "decided_us": cut.decided_us} for cut in gathered.cuts],
        "rights": _rights(gathered),
        "evidence": [
            {"node": member["node"], "offence": offence} for member in seen.members for offence in member["offences"]
        ],
        "marks": [{**mark, "age_s": max(0, seen.now_us - mark["ts_us"]) // 1_000_000} for mark in seen.marks],
        "survival": _survival(seen.matches),
    }


def _survival(matches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the newest matches that the node knows of were given for a survival, and what became of them."""
    calibration = calibrate(matches)
    return {"text": str(calibration), **msgspec.to_builtins(calibration)}


def _verdict(gathered: Gathered, problems: Sequence[Problem]) -> dict[str, Any]:
    counts = {name: sum(1 for p in problems if p.rows[0].severity == name) for name in SEVERITIES}
    named = [f"{count} {name}" for name, count in counts.items() if count]
    many = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    grace = sum(row.status == "in grace" for row in gathered.rows)
    told = f"{many}: {', '.join(named)}" if problems else "No problem found"
    if grace:
        told += f"; {grace} differences still in flight"
    return {
        "good": not problems,
        "text": told,
        "problems": len(problems),
        "breaks": sum(row.status in ("break", "unknown") for row in gathered.rows),
        "in_grace": grace,
        "severities": counts,
        "at_risk": gathered.at_risk,
        "moved": gathered.seen.moved,
    }


def title(problem: Problem) -> str:
    """A problem in one line."""
    row = problem.rows[0]
    about = " ".join(part for part in (row.account, row.instrument) if part)
    others = len(problem.rows) - 1
    more = f" and {others} more row{'s' if others > 1 else ''}" if others else ""
    return f"{about + ': ' if about else ''}{row.field}{more}"


def _problem(problem: Problem, runbook: str) -> dict[str, Any]:
    row = problem.rows[0]
    return {
        "cause": problem.cause.value,
        "severity": row.severity,
        "title": title(problem),
        "runbook": anchor(problem.cause, runbook),
        "commands": list(dict.fromkeys(command for one in problem.rows for command in one.commands))[:2],
        "breaks": [one.id for one in problem.rows],
        "why": list(dict.fromkeys(one.why for one in problem.rows))[:WHYS],
    }


def _causes(rows: Sequence[BreakRow]) -> list[dict[str, Any]]:
    """Rows by cause and age, for causes that occur."""
    out = []
    for cause in Cause:
        ages = {bucket: sum(1 for row in rows if row.cause is cause and row.age == bucket) for bucket in BUCKETS}
        if any(ages.values()):
            out.append({"cause": cause.value, "ages": ages, "rows": sum(ages.values())})
    return out


def _nodes(gathered: Gathered) -> list[dict[str, Any]]:
    """Every node: whether it is heard of by the one that was asked, and whether it answered here."""
    seen = gathered.seen
    asked = {peer.node: peer for peer in gathered.peers}
    out = []
    for holder in seen.holders:
        peer = asked.get(holder.node)
        heard = (
            "asked"
            if holder.heard_us is None
            else "silent"
            if holder.silent(seen.now_us, gathered.moment.rules)
            else "heard"
        )
        answer = "" if holder.heard_us is None else peer.unreachable if peer else "not asked"
        told: dict[str, Any] = {"node": holder.node, "heard": heard, "heard_us": holder.heard_us, "unreachable": answer}
        shown = seen if holder.heard_us is None else peer.seen if peer else None
        told |= {"height": shown.height if shown else None, "frontier": shown.frontier if shown else None}
        out.append(told)
    return out


def _partitions(gathered: Gathered) -> list[dict[str, Any]]:
    """Who was not heard of, from when (0 for never heard at all) to when (None while it lasts), in the order in which they ended."""
    seen = gathered.seen
    spells: list[tuple[int, int | None, str]] = [
        (from_us, to_us, holder.node) for holder in seen.holders for from_us, to_us in holder.silences
    ]
    spells += [(holder.heard_us or 0, None, holder.node) for holder in seen.silent(gathered.moment.rules)]
    spells.sort(key=lambda spell: (spell[1] is None, spell[1] or 0, spell[0], spell[2]))
    return [{"node": node, "from_us": from_us, "to_us": to_us} for from_us, to_us, node in spells]


def lag(gathered: Gathered) -> list[dict[str, Any]]:
    """Every lane, how far it goes, and how many of its batches each node lacks; None where nobody knows."""
    seen = gathered.seen
    asked = {peer.node: peer.seen for peer in gathered.peers}
    heads: dict[str, Mapping[str, int] | None] = {}
    for holder in seen.holders:
        direct = asked.get(holder.node)
        if direct is not None:
            heads[holder.node] = direct.own.heads
        else:
            heads[holder.node] = None if holder.silent(seen.now_us, gathered.moment.rules) else holder.heads
    known = [each for each in heads.values() if each is not None] + [holder.heads for holder in seen.holders]
    out = []
    for lane in sorted({lane for each in known for lane in each}):
        far = max(each.get(lane, 0) for each in known)
        lacks = {node: None if each is None else far - each.get(lane, 0) for node, each in heads.items()}
        out.append({"lane": lane, "seq": far, "lacks": lacks})
    return out


def _rights(gathered: Gathered) -> list[dict[str, Any]]:
    """What every node may spend, by asset, all accounts together."""
    sums: dict[str, dict[str, int]] = {}
    decimals = gathered.seen.genesis.asset_decimals
    for row in gathered.seen.collateral:
        of_asset = sums.setdefault(row["asset"], {})
        for node, amount in row["rights"].items():
            of_asset[node] = of_asset.get(node, 0) + exact(amount)[0]
    return [
        {
            "asset": asset,
            "rights": {node: decimal_text(amount, decimals[asset]) for node, amount in sorted(each.items())},
        }
        for asset, each in sorted(sums.items())
    ]


def summary(document: Mapping[str, Any], problems: int, rows: int) -> dict[str, Any]:
    """The document without what is long: the first ``problems``, and of the first ``rows`` breaks the columns of ``BRIEF``, under one list
    of keys."""
    briefly = [[row[key] for key in BRIEF] for row in document["breaks"][:rows]]
    shortened = {"problems": document["problems"][:problems], "breaks": {"keys": BRIEF, "rows": briefly}}
    return {**document, **shortened, "breaks_in_all": len(document["breaks"])}
