"""What became of matches: settled, trimmed or voided, at which height and why; and what call auctions cleared, which is settled at once.

The settled state keeps no match that is done, and a view none that is settled. So each node remembers the newest ``KEPT`` that it settled
itself, in memory: after a restart those of the heights that it settles again from its newest snapshot on. Who needs all of them reads the
store of checkpoints, which has every height's adjustments, beside the batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from crdtledger.errors import decimal_text
from crdtledger.ledger.decimals import InexactError, to_minor
from crdtledger.ledger.facts import ORDER_KINDS, Instrument, Kind
from crdtledger.ledger.orderfacts import Name
from crdtledger.ledger.orderrows import MatchRow, match_rows
from crdtledger.ledger.orders import Orders
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.text import match_json
from reconcile.adjustments import Adjustment
from reconcile.auctionsettling import Cleared
from reconcile.settlement import Settlement

KEPT: Final = 4_096

Place = tuple[bytes, int, int]


class SettledMatch(msgspec.Struct, frozen=True):
    """A match that is done. ``status``: ``settled``, ``cleared`` by an auction, ``trimmed`` or ``voided``; ``accounts``: the taker's, and
    the maker's."""

    row: MatchRow
    accounts: tuple[str, str]
    definition: Instrument
    height: int
    status: str
    stands: int
    why: str

    def json(self) -> dict[str, object]:
        """As ``match_json`` has those that are not settled."""
        row = match_json(self.row, f"settled({self.height})", self.definition)
        row.pop("reason", None)
        stands = decimal_text(self.stands, self.definition.qty_decimals)
        why = {"reason": self.why} if self.why else {}
        return {**row, "status": self.status, "stands": stands, **why}


class SettledMatches:
    """The newest that were settled here, oldest first."""

    def __init__(self) -> None:
        self._kept: deque[SettledMatch] = deque(maxlen=KEPT)

    def __iter__(self) -> Iterator[SettledMatch]:
        return iter(self._kept)

    def settling(self, replica: Replica, settlement: Settlement, height: int) -> None:
        """``replica`` is about to move to what a height comes to: remember the matches that are done by it."""
        state = replica.state
        batches = replica.batches()
        if state.pending or any(ORDER_KINDS & batch.body.tables.keys() for batch in batches):
            self._matched(replica, settlement, height)
        for number, pair in enumerate(settlement.cleared, 1):
            definition = replica.view.catalog.definition(pair.instrument)
            assert definition is not None, "what was settled under a definition has one"
            self._kept.append(_cleared(pair, definition, height, number))

    def _matched(self, replica: Replica, settlement: Settlement, height: int) -> None:
        orders, after = replica.view.orders, settlement.state
        fates = _fates(settlement.adjustments)
        for row in match_rows(orders):
            name = row.home, row.id
            place = _place(orders, name)
            done = row.settled or (place[0] in after.lanes and after.lanes[place[0]].seq >= place[1])
            definition = replica.view.catalog.definition(row.instrument)
            if not done or name in after.pending or definition is None:
                continue
            status, stands, why = _fate(fates.get(place), row, definition)
            accounts = _account(orders, (row.home, row.taker)), _account(orders, (row.maker_home, row.maker))
            self._kept.append(SettledMatch(row, accounts, definition, height, status, stands, why))


def _cleared(pair: Cleared, definition: Instrument, height: int, number: int) -> SettledMatch:
    """What an auction paired, told as a match whose taker is the buyer. Nobody recorded it: its id says which height it is of."""
    row = MatchRow(
        home=pair.buyer[0],
        id=f"auction {height}.{number}",
        taker=pair.buyer[1],
        maker_home=pair.seller[0],
        maker=pair.seller[1],
        instrument=pair.instrument,
        qty=pair.qty,
        price=pair.price,
        survival=0,
        stands=pair.stands,
        state="firm",
        reason="",
        settled=True,
    )
    status = "cleared" if pair.stands == pair.qty else "trimmed" if pair.stands else "voided"
    return SettledMatch(row, pair.accounts, definition, height, status, pair.stands, pair.why)


def _fates(adjustments: tuple[Adjustment, ...]) -> Mapping[Place, Adjustment]:
    """The last word on each match that is adjusted."""
    told = (one for one in adjustments if one.kind == Kind.MATCH and one.effect in ("voided", "trimmed"))
    return {(one.lane, one.seq, row): one for one in told for row in one.rows()}


def _place(orders: Orders, name: Name) -> Place:
    known, pending = orders.known(Kind.MATCH, name), orders.pending(name)
    if known is not None:
        return known.lane, known.seq, known.row
    assert pending is not None, "a match is settled or not"
    return pending.place


def _fate(adjustment: Adjustment | None, row: MatchRow, definition: Instrument) -> tuple[str, int, str]:
    """(status, how much stands, why not more)."""
    if adjustment is None:
        return "settled", row.qty, ""
    if adjustment.effect == "voided":
        return "voided", 0, _why(adjustment, row)
    try:
        stands = to_minor(adjustment.detail.partition(" of ")[0], definition.qty_decimals)
    except InexactError:
        stands = row.stands
    return "trimmed", stands, _why(adjustment, row)


def _why(adjustment: Adjustment, row: MatchRow) -> str:
    """The cause, and what the maker's home said."""
    return f"{adjustment.cause}: {row.reason}" if row.reason else adjustment.cause


def _account(orders: Orders, name: Name) -> str:
    record = orders.get(name)
    return record.terms.account if record is not None and record.terms is not None else ""
