"""A row of the positions view: what the base has settled of an (account, instrument), and the sums of what is not settled. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from crdtledger.ledger.catalog import Catalog
from crdtledger.ledger.positionsums import COUNT, FEE, QTY, VALUE
from crdtledger.ledger.reference import value_decimals, value_factor
from crdtledger.ledger.settledparts import SettledPosition
from crdtledger.ledger.wide import to_int


class Position(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the positions view. Integers in minor units: quantities at ``qty_decimals``, values at ``value_decimals``,
    fees at ``fee_decimals`` of the settlement asset; fees in other assets stand in ``other_fees`` as (asset, amount, its decimals).

    ``settled``: no unsettled fact touches these figures. ``settled_qty``, ``cost``, ``realised``: of the settled part alone, 0 where
    nothing is settled: its quantity, that quantity's value at its average entry, and its realised profit."""

    account: str
    instrument: str
    bought: int
    sold: int
    value_bought: int
    value_sold: int
    fees: int
    other_fees: tuple[tuple[str, int, int], ...]
    fills: int
    qty_decimals: int
    value_decimals: int
    fee_decimals: int
    settled: bool = False
    settled_qty: int = 0
    cost: int = 0
    realised: int = 0

    @property
    def qty(self) -> int:
        """Bought less sold."""
        return self.bought - self.sold


def position_of(
    catalog: Catalog,
    account: str,
    instrument: str,
    settled: SettledPosition,
    pair: Mapping[int, list[int]],
    other: Mapping[int, int],
) -> Position:
    """One row: what the base has ``settled``, and the unsettled sums of both sides and of fees in other assets."""
    definition = catalog.definition(instrument)
    assert definition is not None, "a position has a standing definition"
    bought, value_bought, fees_bought, buys = _amounts(pair.get(1))
    sold, value_sold, fees_sold, sales = _amounts(pair.get(-1))
    fees = dict(settled.other_fees)
    for number, amount in other.items():
        fees[catalog.assets[number]] = fees.get(catalog.assets[number], 0) + amount
    factor = value_factor(definition)
    decimals = catalog.genesis.asset_decimals
    return Position(
        account=account,
        instrument=instrument,
        bought=settled.bought + bought,
        sold=settled.sold + sold,
        value_bought=settled.value_bought + value_bought * factor,
        value_sold=settled.value_sold + value_sold * factor,
        fees=settled.fees + fees_bought + fees_sold,
        other_fees=tuple((asset, fees[asset], decimals[asset]) for asset in sorted(fees) if fees[asset]),
        fills=settled.fills + buys + sales,
        qty_decimals=definition.qty_decimals,
        value_decimals=value_decimals(definition, catalog.genesis),
        fee_decimals=decimals[definition.settlement],
        settled=not pair,
        settled_qty=settled.qty,
        cost=settled.cost,
        realised=settled.realised,
    )


def _amounts(sums: list[int] | None) -> tuple[int, int, int, int]:
    """(quantity, value, fees, fills) of a row of sums; most positions that are read have none that is not settled."""
    return (to_int(sums[QTY]), to_int(sums[VALUE]), to_int(sums[FEE]), sums[COUNT]) if sums else (0, 0, 0, 0)


def says_something(row: Position) -> bool:
    """Whether a row holds anything: what was settled and then taken back altogether is as if it had never been."""
    amounts = (row.bought, row.sold, row.value_bought, row.value_sold, row.fees, row.fills, row.cost, row.realised)
    return any(amounts) or bool(row.other_fees)
