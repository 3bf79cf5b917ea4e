"""What no settled state may go beyond, whoever wrote what: orders their quantity, accounts their collateral, matches their two sides.

``beyond_bounds`` looks at the figures and at nothing that led to them, so it holds where nodes lie, too; ``wrongs`` at what settlement
took from what was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from crdtledger.ledger.facts import ORDER_KINDS
from crdtledger.ledger.settled import SettledState
from reconcile.adjustments import (
    ACCEPTED_LESS,
    ENTRIES_CLOSED,
    LOST_NAME,
    NO_DEFINITION,
    NO_MATCH,
    NO_ORDER,
    REDUCES_ONLY,
    REFUSED,
    REVEALED_LATE,
    Adjustment,
)

HAPPENS: Final = (
    *(NO_ORDER, NO_MATCH, REFUSED, ACCEPTED_LESS, REDUCES_ONLY, NO_DEFINITION, LOST_NAME),
    *(ENTRIES_CLOSED, REVEALED_LATE),
)
"""Why settlement may leave less of what an honest node says about orders than it says."""


def wrongs(one: Adjustment, dishonest: bool) -> bool:
    """Whether an adjustment takes from a fact what honest nodes may rely on. What asks a maker's home may be refused, or come too late;
    and where a node is ``dishonest`` about orders, nobody's match need stand."""
    if one.effect not in ("voided", "trimmed"):
        return False
    return one.kind not in ORDER_KINDS or not (dishonest or one.cause in HAPPENS)


def beyond_bounds(state: SettledState) -> list[str]:
    """What is beyond, in words; empty in a state that may be."""
    return [*_orders(state), *_collateral(state), *_contracts(state)]


def _orders(state: SettledState) -> Iterator[str]:
    asking: Counter[tuple[str, str]] = Counter()
    for match in state.pending.values():
        asking[match.taker] += match.held
    for name, order in state.orders.items():
        told = f"order {'/'.join(name)}"
        used = order.tally.filled + asking[name] + sum(qty for _, qty in order.open)
        if used > order.terms.qty:
            yield f"{told} comes to {used} of {order.terms.qty}"
        if any(qty <= 0 for _, qty in order.open):
            yield f"{told} is held below zero: {order.open}"


def _collateral(state: SettledState) -> Iterator[str]:
    for cell, balance in state.collateral.items():
        figures = {"reserved": balance.reserved, "margin": balance.margin, "shortfall": balance.shortfall}
        figures |= {f"rights of member {member}": amount for member, amount in balance.rights}
        for what, amount in figures.items():
            if amount < 0:
                yield f"{what} of {'/'.join(cell)} is {amount}"
    for lane in state.reserves.values():
        for held in lane.values():
            if held.remaining <= 0:
                yield f"{held.remaining} is left of reserve {held.id}"


def _contracts(state: SettledState) -> Iterator[str]:
    contracts: Counter[str] = Counter()
    for (account, instrument), carried in state.carried.items():
        contracts[instrument] += carried.qty
        if carried.margin < 0:
            yield f"{account} has a margin of {carried.margin} behind {instrument}"
    for instrument, count in contracts.items():
        if count:
            yield f"{count} contracts of {instrument} have nobody on the other side"
