"""The cells of many positions at once: each what it would be if it were compared and spelt alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import Definition, SettledPosition
from crdtledger.ledger.sharedmap import Pair
from reconcile.cells import CellName, encode_value
from reconcile.positioncells import position_cells
from tests.crdtledger.test_settledpositions import FIGURES, POSITIONS
from tests.crdtledger.worlds import INVERSE, SPOT, genesis

GENESIS = genesis(3)
FOUNDED = {one.name: (Definition(instrument_digest(one), one),) for one in (SPOT, INVERSE)}
NAMES = [(account, instrument) for account in ("A", "B") for instrument in FOUNDED]
EXTREMES = st.sampled_from([(1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 62), -(1 << 62) - 1, -(1 << 63)])
HELD = st.dictionaries(st.sampled_from(NAMES), POSITIONS | st.builds(SettledPosition, bought=EXTREMES, sold=EXTREMES))


def state(positions: dict[Pair, SettledPosition]) -> SettledState:
    empty = SettledState.empty(GENESIS)
    return SettledState(
        cluster=empty.cluster,
        fills=empty.fills,
        busts=empty.busts,
        shared=empty.shared,
        definitions=FOUNDED,
        positions=empty.positions.replaced(positions),
    )


def spelt(instrument: str, position: SettledPosition) -> bytes:
    """A position's cell, from what it is to say."""
    definition = FOUNDED[instrument][0].instrument
    fees = GENESIS.asset_decimals[definition.settlement]
    decimals = definition.price_decimals + definition.qty_decimals + definition.contract_decimals
    others = ", ".join(f"{asset} {fee} {GENESIS.asset_decimals[asset]}" for asset, fee in position.other_fees)
    return encode_value(
        {
            **{name: getattr(position, name) for name in FIGURES},
            **({"other_fees": others} if others else {}),
            "qty": position.bought - position.sold,
            "fee_asset": definition.settlement,
            "fee_decimals": fees,
            "qty_decimals": definition.qty_decimals,
            "value_decimals": fees if definition.inverse else decimals,
        }
    )


@given(HELD, HELD)
def test_what_changed_is_told_and_nothing_else(
    before: dict[Pair, SettledPosition], after: dict[Pair, SettledPosition]
) -> None:
    cells, members = position_cells(state(before), state(after), NAMES, GENESIS)
    changed = [at for at in NAMES if before.get(at) != after.get(at)]
    assert cells == {CellName("position", *at): spelt(at[1], after[at]) if at in after else None for at in changed}
    assert members == {account for account, instrument in before.keys() ^ after.keys()}
