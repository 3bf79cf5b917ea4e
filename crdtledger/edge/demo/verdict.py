"""The verdict: what every node shows at the end, held against the driver's books. Pure.

No count that a node reports is taken for an answer. Positions are compared figure by figure with what the acknowledged
trades add up to, collateral with the acknowledged moves, every node's answer with every other's, byte by byte.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from crdtledger.edge.demo.books import AMOUNTS, FLOWS, NOTHING, Books, Row
from crdtledger.edge.demo.pit import is_pit, judge_pit
from crdtledger.edge.demo.record import Record
from crdtledger.edge.demo.script import ASSET_DECIMALS

REPLICATED = ("positions", "collateral", "breaks", "frontier", "digest")
"""Views that must be the same bytes at every node."""


class Check(msgspec.Struct, frozen=True):
    """One thing that had to hold, whether it did, and what was seen."""

    name: str
    ok: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that ``--format json`` prints. Times in seconds."""

    verdict: str
    seed: int
    nodes: int
    facts: int
    facts_lost: int
    overdrafts: int
    replicas_identical: bool
    heal_to_agreement_s: float
    facts_per_s: int
    duplicates: int
    conflicts: int
    refusals: int
    spent_on_both_sides: bool
    kills: int
    partition_s: float
    checkpoint_height: int
    certified_by: tuple[str, ...]
    settled_facts: int
    adjustments: dict[str, int]
    """Facts that settlement adjusted, by cause."""
    seconds_per_checkpoint: float
    """From when a validator began a height to when it held the certificate; the median of the last ones."""
    matches: int
    tentative: int
    """Matches that were made on what another node's order seemed to have left, and were answered."""
    survived: int
    survived_predicted: float
    """How many were to survive, by the survival that each was given."""
    trimmed: int
    voided: int
    seconds: float
    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        """Whether everything held."""
        return self.verdict == "good"


Views = Mapping[str, Any]
"""What one node answered: view -> rows, and its ``status``."""


def judge(books: Books, record: Record, views: Mapping[str, Views], kills: int, seed: int, seconds: float) -> Verdict:
    """Hold what every node answered (``views``: node -> view -> rows) against the books, and the pit's figures against its matches."""
    pit, amiss = judge_pit(next(iter(views.values())).get("matches", ()), views)
    views = {node: _without_pit(answers) for node, answers in views.items()}
    trades, contested = books.trades()
    positions = books.positions(trades, contested)
    shortfalls = {node: _missing(books, positions, answers) for node, answers in views.items()}
    wrong = {node: _wrong_positions(positions, answers["positions"]) for node, answers in views.items()}
    off = {node: _wrong_cells(books, answers["collateral"]) for node, answers in views.items()}
    different = _different(views)
    breaks = [_wrong_breaks(len(contested), answers["breaks"]) for answers in views.values()]
    overdrafts = _overdrafts(books, views)
    lost = max(shortfalls.values(), default=0)
    both = all(record.paid.get(side, 0) and record.traded.get(side, 0) for side in ("left", "right"))
    repeated = books.reported - len(trades)
    facts = len(trades) + len(books.moves) + len(books.instruments) + len(books.accounts)
    sealed = next(iter(views.values()))["status"]
    unsealed = _unsealed({node: answers["status"] for node, answers in views.items()}, facts)
    checks = (
        Check("no acknowledged fact is lost", lost == 0, _by_node(shortfalls, f"{facts:,} facts at every node")),
        Check(
            "positions are exact",
            not any(wrong.values()),
            _listed(wrong, f"{len(positions)} rows, every figure"),
        ),
        Check(
            "collateral is exact",
            not any(off.values()),
            _listed(off, f"{len(books.cells)} cells, every figure"),
        ),
        Check("nothing is overdrawn", not overdrafts, "; ".join(overdrafts[:3]) or "no cell, at no node"),
        Check("replicas are identical", not different, "; ".join(different) or "byte by byte"),
        Check("a trade counts once", not any(breaks), _first(breaks) or _told(repeated, len(contested))),
        Check("both sides went on", both and record.apart, _sides(record)),
        Check("one vault, two raids, one success", record.heists == 1, f"{record.heists} of 2 were paid"),
        Check(
            "one order given to both sides", record.twice == 2, "counts once; what the other side took is given back"
        ),
        Check(
            "every other answer was yes",
            not record.surprises,
            "; ".join(record.surprises[:2]) or "nothing else refused",
        ),
        Check("refused when rights ran out", record.refusals > 0, f"{record.refusals} refusals"),
        Check(
            "kill -9 loses nothing",
            kills > 0 and record.lanes[0] == record.lanes[1],
            _epochs(kills, record),
        ),
        Check(
            "no order is filled beyond its quantity",
            not amiss,
            amiss or "both sides hit the same ones; positions follow",
        ),
        Check("everything is settled under one root", not unsealed, unsealed or _seal(sealed)),
    )
    return Verdict(
        verdict="good" if all(check.ok for check in checks) else "bad",
        seed=seed,
        nodes=len(views),
        facts=facts,
        facts_lost=lost,
        overdrafts=len(overdrafts),
        replicas_identical=not different,
        heal_to_agreement_s=round(record.heal_s, 3),
        facts_per_s=int(len(trades) / record.flow_s) if record.flow_s > 0 else 0,
        duplicates=repeated,
        conflicts=len(contested),
        refusals=record.refusals,
        spent_on_both_sides=both,
        kills=kills,
        partition_s=round(record.cut_s, 3),
        checkpoint_height=sealed["base"]["height"],
        certified_by=tuple(sealed["checkpoints"].get("certified_by", ())),
        settled_facts=sealed["settled_facts"],
        adjustments=sealed["checkpoints"].get("adjusted", {}),
        seconds_per_checkpoint=_median(sealed["checkpoints"].get("seconds_to_certify", ())),
        matches=pit.matches,
        tentative=pit.tentative,
        survived=pit.survived,
        survived_predicted=round(pit.predicted, 1),
        trimmed=pit.trimmed,
        voided=pit.voided,
        seconds=round(seconds, 1),
        checks=checks,
    )


def _without_pit(answers: Views) -> Views:
    """What a node answered of everybody else."""
    rest = {view: [row for row in answers[view] if not is_pit(row)] for view in ("positions", "collateral")}
    return {**answers, **rest}


# -- figures ------------------------------------------------------------------------------------------------


def _row(shown: Mapping[str, Any]) -> Row:
    bought, sold, value_bought, value_sold, fees = (Fraction(shown[name]) for name in AMOUNTS)
    return Row(bought, sold, value_bought, value_sold, fees, int(shown["fills"]))


def _missing(books: Books, positions: Mapping[tuple[str, str], Sequence[Row]], answers: Views) -> int:
    """Facts that a node lacks: trades by the position they belong to, moves by the sums that they should have raised."""
    shown = {(row["account"], row["instrument"]): int(row["fills"]) for row in answers["positions"]}
    lost: int = sum(max(0, rows[0].fills - shown.get(cell, 0)) for cell, rows in positions.items())
    cells = {(row["account"], row["asset"]): row for row in answers["collateral"]}
    for name, cell in books.settled().items():
        row = cells.get(name, {})
        lost += sum(_minor(row.get(flow, "0")) < cell[flow] for flow in ("deposited", "withdrawn", "reserved"))
    lost += len(books.accounts - {row["account"] for row in answers["accounts"]})
    return lost + len(books.instruments.keys() - {row["name"] for row in answers["instruments"]})


def _wrong_positions(
    positions: Mapping[tuple[str, str], Sequence[Row]], shown: Sequence[Mapping[str, Any]]
) -> list[str]:
    rows = {(row["account"], row["instrument"]): row for row in shown}
    wrong = []
    for cell in sorted(positions.keys() | rows.keys()):
        row = rows.get(cell)
        seen = _row(row) if row is not None else NOTHING
        net = row is None or Fraction(row["qty"]) == seen.bought - seen.sold
        if seen not in positions.get(cell, (NOTHING,)) or not net:
            wrong.append("/".join(cell))
    return wrong


def _minor(text: str) -> int:
    return int(Fraction(text) * int(10**ASSET_DECIMALS))


def _rights(row: Mapping[str, Any]) -> int:
    return sum(_minor(amount) for amount in row.get("rights", {}).values())


def _wrong_cells(books: Books, shown: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = {(row["account"], row["asset"]): row for row in shown}
    expected = books.settled()
    wrong = []
    for cell in sorted(expected.keys() | rows.keys()):
        row, figures = rows.get(cell, {}), expected.get(cell, {})
        off = any(_minor(row.get(name, "0")) != figures.get(name, 0) for name in (*FLOWS, "held", "free"))
        if off or _rights(row) != figures.get("free", 0):
            wrong.append("/".join(cell))
    return wrong


def _overdrafts(books: Books, views: Mapping[str, Views]) -> list[str]:
    """Cells that were overspent by the books, and rights below zero by any node's account."""
    found = {f"{account} {asset}: spent beyond its deposits" for account, asset in books.overdrawn()}
    for answers in views.values():
        for row in answers["collateral"]:
            for holder, amount in row["rights"].items():
                if Fraction(amount) < 0:
                    found.add(f"{row['account']} {row['asset']}: {holder} holds {amount}")
    return sorted(found)


def _different(views: Mapping[str, Views]) -> list[str]:
    """Views that are not the same bytes everywhere."""
    return [
        f"{view} differ"
        for view in REPLICATED
        if len({msgspec.json.encode(answers[view]) for answers in views.values()}) != 1
    ]


def _wrong_breaks(contested: int, breaks: Sequence[Mapping[str, Any]]) -> str:
    conflicts = sum(item["type"] == "conflict" and item["subject"].startswith("fill ") for item in breaks)
    others = [f"{item['type']} {item['subject']}: {item['detail']}" for item in breaks if item["type"] != "conflict"]
    if conflicts != contested:
        return f"{conflicts} conflicts shown, {contested} were made"
    return others[0] if others else ""


# -- checkpoints --------------------------------------------------------------------------------------------


def is_sealed(statuses: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether all these nodes (node -> its status) have settled what they hold, in one checkpoint that is certified."""
    seals = {(status["base"]["height"], status["base"]["digest"]) for status in statuses.values()}
    return len(seals) == 1 and not any(_unsettled(status) for status in statuses.values())


def _unsettled(status: Mapping[str, Any]) -> str:
    """What keeps a node from having everything settled, or nothing."""
    checkpoints, height = status["checkpoints"], status["base"]["height"]
    if checkpoints["agreement"] != "running":
        return f"checkpoints are {checkpoints['agreement']}"
    if status["unsettled_batches"] or not height:
        return f"{status['unsettled_batches']} batches above height {height}"
    return "" if checkpoints["certified_height"] == height else f"height {height} is not certified"


def _unsealed(statuses: Mapping[str, Mapping[str, Any]], facts: int) -> str:
    """Why not everything is settled under one root, or nothing. ``facts`` were acknowledged: no fewer may be settled."""
    for node, status in statuses.items():
        why = _unsettled(status)
        if not why and status["settled_facts"] < facts:
            why = f"{status['settled_facts']:,} of {facts:,} facts settled"
        if why:
            return f"{node}: {why}"
    return "" if is_sealed(statuses) else "the nodes stand on different checkpoints"


def _seal(status: Mapping[str, Any]) -> str:
    signers = status["checkpoints"]["certified_by"]
    base = status["base"]
    return f"height {base['height']}, {base['digest'][:16]}, certified by {len(signers)}: {', '.join(signers)}"


def _median(seconds: Sequence[float]) -> float:
    return round(statistics.median(seconds), 3) if seconds else 0.0


# -- words --------------------------------------------------------------------------------------------------


def _by_node(counts: Mapping[str, int], good: str) -> str:
    return "; ".join(f"{node} lacks {count:,}" for node, count in counts.items() if count) or good


def _listed(wrong: Mapping[str, Sequence[str]], good: str) -> str:
    named = (
        f"{node}: {', '.join(rows[:3])}" + (" ..." if len(rows) > 3 else "") for node, rows in wrong.items() if rows
    )
    return "; ".join(named) or good


def _first(texts: Sequence[str]) -> str:
    return next(filter(None, texts), "")


def _told(repeated: int, contested: int) -> str:
    return f"{repeated:,} were reported twice, {contested} of them in two versions, named as a break"


def _sides(record: Record) -> str:
    paid, traded = record.paid, record.traded
    return "; ".join(
        f"{side}: {traded.get(side, 0):,} trades, {paid.get(side, 0)} spends" for side in ("left", "right")
    )


def _epochs(kills: int, record: Record) -> str:
    before, after = record.lanes
    same = "in the same epoch" if before == after else f"writing {after}, not {before}"
    return f"{kills} kill, back {same}"
