"""A statement held against what a node has: rows for every trade or figure that is not the same. Impure: asks the node.

A statement speaks for the accounts and the instruments that it names (every pair of them), and for one venue. So a position that it
leaves out is missing when it names that account and that instrument elsewhere, and is none of its business otherwise. Of trades it
speaks for a period: the one that is given, else from its first trade to its last.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from crdtledger.edge import api
from crdtledger.edge.client import Client
from crdtledger.edge.report.booking import Booked
from crdtledger.edge.report.sighting import Row, Sighting, exact
from crdtledger.edge.statements.positions import FIELDS
from crdtledger.edge.statements.reading import Reference, Statement
from crdtledger.errors import UnknownName
from reconcile.divergence.breakrow import BreakRow, Cause, Correction
from reconcile.divergence.causes import PARTITION, Found, against_statement
from reconcile.divergence.compare import Difference, compare
from reconcile.divergence.corrections import position_correction, trade_correction
from reconcile.divergence.figures import Figures, Told, figures
from reconcile.divergence.rows import Moment, action_for
from reconcile.divergence.trades import Trade, TradeGap, match_trades

ASKED_AT_ONCE: Final = 1_000
LEDGER: Final = "ledger"


def reference(seen: Sighting) -> Reference:
    """What readers of statements must know."""
    units, assets = seen.units(), seen.genesis.asset_decimals
    settlement = {name: one.settlement for name, one in seen.instruments.items()}

    def decimals(subject: str, field: str) -> int | None:
        if subject in assets:
            return assets[subject]
        if subject not in units:
            return None
        if field == "fees":
            return assets.get(settlement[subject])
        return units[subject].price_decimals if field == "mark" else units[subject].qty_decimals

    return Reference(units, decimals)


def hold(
    client: Client, seen: Sighting, moment: Moment, statement: Statement, custodian: Statement | None
) -> list[BreakRow]:
    """The rows of one statement, or of a venue's and a custodian's together."""
    if statement.trades is not None:
        return _Trades(client, seen, moment, statement).rows()
    sides = [one.figures for one in (statement, custodian) if one is not None and one.figures is not None]
    return list(_figures(client, seen, moment, statement, sides))


# -- figures ------------------------------------------------------------------------------------------------


def ledger_figures(seen: Sighting, moment: Moment, sides: Sequence[Figures]) -> Figures:
    """The ledger's figures of what the statements speak for. A balance is told as ``qty``, as custodians tell it."""
    accounts = {name for side in sides for name in side.accounts}
    subjects = {name for side in sides for name in side.subjects}
    marks = moment.worth.marks
    units = seen.units()

    def rows() -> Iterator[tuple[str, str, Told]]:
        for row in seen.positions:
            account, instrument = row["account"], row["instrument"]
            if account in accounts and instrument in subjects:
                told: dict[str, tuple[int, int] | None] = {
                    field: exact(row[field]) for field in ("qty", "bought", "sold", "fees")
                }
                mark = marks.get(instrument)
                told["mark"] = None if mark is None else (mark, units[instrument].price_decimals)
                yield account, instrument, told
        for row in seen.collateral:
            if row["account"] in accounts and row["asset"] in subjects:
                yield row["account"], row["asset"], {"qty": exact(row["held"])}

    return figures(LEDGER, "replica", FIELDS, rows())


def _figures(
    client: Client, seen: Sighting, moment: Moment, statement: Statement, sides: Sequence[Figures]
) -> Iterator[BreakRow]:
    every = [ledger_figures(seen, moment, sides), *(_spoken_for(side) for side in sides)]
    sources = [seen.node, *(side.source for side in sides)]
    scope: Any = "three-way" if len(sides) > 1 else f"ledger/{statement.plan.kind}"
    unheard = [holder.node for holder in seen.silent(moment.rules)]
    behind = seen.behind()
    known = {row["account"] for row in (*seen.positions, *seen.collateral)}
    booked = Booked(client, seen.height > 0)
    for difference in compare(every, FIELDS, moment.tolerances):
        there = difference.subject in seen.instruments or difference.subject in seen.genesis.asset_decimals
        found = against_statement(difference, there and difference.account in known, unheard, behind)
        correction = _proposed(booked, moment, statement, sources, difference, found)
        yield moment.of_difference(scope, sources, difference, found, correction)


def _spoken_for(side: Figures) -> Figures:
    """The side without fields that it tells of no row."""
    told = {field: column for field, column in side.columns.items() if np.any(column.known)}
    return msgspec.structs.replace(side, columns=told)


def _proposed(
    booked: Booked,
    moment: Moment,
    statement: Statement,
    sources: Sequence[str],
    difference: Difference,
    found: Found,
) -> Correction:
    if found.status != "break":
        return action_for(found.cause)
    name = (difference.account, difference.subject, difference.field)
    units = moment.units(difference.subject)
    if difference.field == "mark":
        return Correction(f"ask {statement.plan.venue} and the mark's source for the price of one moment")
    if found.cause is not Cause.EXTERNAL or units is None or difference.field != "qty":
        return action_for(found.cause)
    told = difference.values
    theirs = next((value for value in told[1:] if value is not None and value != told[0]), None)
    gap = (told[0] or 0) - (theirs or 0)
    scale = 10 ** (difference.decimals - units.qty_decimals)
    if gap % scale:
        return action_for(Cause.ROUNDING)
    row = moment.row("ledger/venue", name, sources, found)
    mark = moment.worth.marks.get(difference.subject)
    where = (row.id, difference.account, difference.subject, gap // scale, units)
    return booked.again(functools.partial(position_correction, *where, statement.plan.venue, mark, told))


# -- trades -------------------------------------------------------------------------------------------------


class _Trades:
    def __init__(self, client: Client, seen: Sighting, moment: Moment, statement: Statement) -> None:
        self._client = client
        self._seen = seen
        self._moment = moment
        self._plan = statement.plan
        self._theirs = [self._as_ledger(trade) for trade in statement.trades or ()]
        self._traced: dict[str, Row] = {}
        self._conflicts: dict[tuple[str, str], str] = {}
        self._taken_back: Counter[str] = Counter()
        self._forgotten: set[str] = set()  # ids of which no node can tell any more whether they counted
        self._unheard = [holder.node for holder in seen.silent(moment.rules)]
        self._behind = seen.behind()

    def _as_ledger(self, trade: Trade) -> Trade:
        """A fee without an asset is in the settlement asset, as in a fact."""
        if trade.fee_asset:
            return trade
        terms = self._seen.instruments.get(trade.instrument)
        return msgspec.structs.replace(trade, fee_asset=terms.settlement if terms else "", fee_named=False)

    def rows(self) -> list[BreakRow]:
        ours = [trade for pair in self._pairs() for trade in self._held(*pair)]
        matched = match_trades(ours, self._theirs)
        gaps = self._without_settled([gap for gap in matched.gaps if gap.theirs or self._within(gap)])
        return [self._row(gap) for gap in gaps]

    def _within(self, gap: TradeGap) -> bool:
        """Whether a trade that the statement lacks was made in the statement's period. One without a time has that of its recording."""
        listed = [trade.ts_us for trade in self._theirs]
        since = self._plan.since_us or min(listed, default=0)
        until = self._plan.until_us or max(listed, default=0)
        made = [trade.ts_us or self._traced[trade.place]["recorded_us"] for trade in gap.ours]
        return any(since <= at <= until for at in made)

    def _pairs(self) -> list[tuple[str, str]]:
        accounts = sorted({trade.account for trade in self._theirs} | ({self._plan.account} - {""}))
        instruments = sorted({trade.instrument for trade in self._theirs} | ({self._plan.instrument} - {""}))
        return [(account, instrument) for account in accounts for instrument in instruments]

    def _held(self, account: str, instrument: str) -> list[Trade]:
        """The ledger's fills of the venue that count and were not taken back."""
        try:
            rows = self._client.request(api.Trace(account, instrument))
        except UnknownName:
            return []
        fills: dict[tuple[str, str], Trade] = {}
        busted: set[tuple[str, str]] = set()  # a bust may come before its fill
        for row in rows:
            if row.get("venue") != self._plan.venue or row.get("id_space") != "trade":
                continue
            key = (row["id"], row["leg"])
            if row["became"] == "contradicts":
                self._conflicts[row["instrument"], row["id"]] = fill_name(row)
            if row["became"] != "counts":
                continue
            if row["kind"] == "bust":
                busted.add(key)
            else:
                fills[key] = trade_of(row)
                self._traced[fills[key].place] = row
        self._taken_back.update(id_ for id_, _ in busted)
        return [trade for key, trade in fills.items() if key not in busted]

    def _without_settled(self, gaps: Sequence[TradeGap]) -> list[TradeGap]:
        """Leave out trades that are settled as the statement has them, and only no longer held here one by one."""
        lone = [gap for gap in gaps if not gap.ours]
        told: dict[int, str] = {}
        for start in range(0, len(lone), ASKED_AT_ONCE):
            part = lone[start : start + ASKED_AT_ONCE]
            facts = [self._correction(gap, {}).facts[0] for gap in part]
            answers = self._client.request(api.Told([dict(fact) for fact in facts]))
            told |= {id(gap): answer for gap, answer in zip(part, answers, strict=True)}
        self._forgotten = {gap.first.id for gap in lone if told[id(gap)] == "forgotten"}
        return [gap for gap in gaps if told.get(id(gap)) != "same" or gap.first.id in self._taken_back]

    def _correction(self, gap: TradeGap, taken_back: Mapping[str, int]) -> Correction:
        units = self._moment.units(gap.first.instrument)
        assert units is not None, "a statement's trades are read with their instrument's decimals"
        return trade_correction(gap, units, self._plan.venue, taken_back)

    def _row(self, gap: TradeGap) -> BreakRow:
        found = self._found(gap)
        correction = self._correction(gap, self._taken_back) if found.status == "break" else action_for(found.cause)
        scope: Any = f"ledger/{self._plan.kind}"
        sources = [self._seen.node, self._plan.source]
        row = self._moment.of_trade(scope, sources, gap, found, correction)
        places = [self._traced[trade.place] for trade in gap.ours]
        height = max((self._moment.height_of(place["lane"], place["seq"]) for place in places), default=0)
        return msgspec.structs.replace(row, first_height=height)

    def _found(self, gap: TradeGap) -> Found:
        first = self._first_us(gap)
        trade = gap.first
        conflict = self._conflicts.get((trade.instrument, trade.id))
        if conflict:
            why = "two nodes told this trade otherwise, and the statement follows the one that does not count"
            return Found(Cause.DUPLICATE_ID_CONFLICT, "break", why, (), first, f"conflict {conflict}")
        if gap.field == "fees":
            return Found(Cause.FEE, "break", "the terms agree, the fees do not", (), first)
        if gap.field != "fill":
            return Found(Cause.EXTERNAL, "break", f"the same trade id with another {gap.field}", (), first)
        if gap.ours:
            return Found(Cause.EXTERNAL, "break", "the ledger has it, the statement does not", (), first)
        if gap.first.id in self._forgotten:
            why = "it happened before ids are remembered, or at no time that is told: it may have counted"
            return Found(Cause.EXTERNAL, "unknown", why, (), first)
        if self._behind:
            why = "peers tell of batches that are not here, and one of them may have it"
            return Found(Cause.MISSING_BATCH, "break", why, self._behind, first, "behind")
        if self._unheard:
            why = f"not here; {', '.join(self._unheard)} has not been heard of, and may have recorded it"
            return Found(Cause.PARTITIONED, "unknown", why, (), first, PARTITION)
        return Found(Cause.EXTERNAL, "break", "no node has told of such a trade", (), first)

    def _first_us(self, gap: TradeGap) -> int:
        recorded = [self._traced[trade.place]["recorded_us"] for trade in gap.ours]
        return int(min(recorded, default=0)) or min((trade.ts_us for trade in gap.theirs if trade.ts_us), default=0)


def fill_name(row: Row) -> str:
    """How breaks call a fill."""
    leg = f"/{row['leg']}" if row["leg"] else ""
    return f"{row['kind']} {row['venue']}/{row['id_space']}/{row['instrument']}/{row['id']}{leg}"


def trade_of(row: Row) -> Trade:
    """A traced fill as a trade."""
    return Trade(
        id=row["id"],
        account=row["account"],
        instrument=row["instrument"],
        side=1 if row["side"] == "buy" else -1,
        qty=exact(row["qty"])[0],
        price=exact(row["price"])[0],
        fee=exact(row["fee"])[0],
        fee_asset=row["fee_asset"],
        fee_named=row["fee_named"],
        ts_us=row["ts_us"],
        place=f"{row['lane']}#{row['seq']}[{row['row']}]",
        venue=row["venue"],
        id_space=row["id_space"],
        leg=row["leg"],
    )
