"""Telling the survival model what becomes of the orders of other nodes, as their homes' lanes tell it."""

from __future__ import annotations

from crdtledger.ledger.facts import Accept, Cancel, Match, Order
from crdtledger.matching.events import Seen
from crdtledger.matching.match import FIRM
from crdtledger.matching.orders import Name
from crdtledger.matching.standing import Standings
from crdtledger.matching.survival import Survival


def watch(survival: Survival, standings: Standings, event: Seen, node: str) -> None:
    """``event``, of another node than ``node``, has been counted in ``standings``."""
    fact, home = event.fact, event.node
    match fact:
        case Order():
            survival.placed((home, fact.id), fact.instrument, event.recorded_us)
            if fact.amends is not None:
                survival.cancelled((home, fact.amends), event.recorded_us)
        case Cancel():
            survival.cancelled((home, fact.order), event.recorded_us)
        case Accept():
            asked = standings.matches[fact.match_home, fact.match].match
            if fact.qty and asked is not None:
                _consumed(survival, standings, (home, asked.maker), event.recorded_us, fact.match_home == node)
        case Match():
            if fact.survival == FIRM and fact.maker_home == home:
                _consumed(survival, standings, (home, fact.maker), event.recorded_us, False)
        case _:
            pass


def _consumed(survival: Survival, standings: Standings, maker: Name, recorded_us: int, ours: bool) -> None:
    if not standings.of(maker).held(maker[0]):
        survival.consumed(maker, recorded_us, ours)
