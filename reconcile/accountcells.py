"""What the cells of an account say, for people: decimal text of minor units, with the decimals beside it.

Which cells an account has is ``statecells``' to say, and how a value is spelt ``cells``'.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.identity import digest
from crdtledger.ledger.reference import value_decimals
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SettledBalance, SettledPosition

from .cells import ValueForm, content_digest, encode_value

MAX_TEXT: Final = 1_024
"""Characters of a text that stands in a cell as it is; a longer one stands by its digest."""
_FIGURES: Final = ("bought", "cost", "fees", "fills", "qty", "realised", "sold", "value_bought", "value_sold")


def label_value(label: str) -> bytes:
    """What is said about an account itself."""
    return encode_value(_text("label", label))


def balance_value(asset: str, balance: SettledBalance, genesis: Genesis) -> bytes:
    """What an account has of an asset."""
    margin = {"margin": balance.margin} if balance.margin else {}
    fields: dict[str, str | int] = {
        **margin,
        "decimals": genesis.asset_decimals[asset],
        "deposited": balance.deposited,
        "free": balance.held - balance.reserved - balance.margin,
        "held": balance.held,
        "reserved": balance.reserved,
        "rights_digest": content_digest("rights", balance.rights).hex(),
        "shortfall": balance.shortfall,
        "withdrawn": balance.withdrawn,
    }
    return encode_value(fields)


@lru_cache(256)
def _form(settlement: str, fee_decimals: int, qty_decimals: int, decimals: int) -> ValueForm:
    texts = _units(settlement, fee_decimals, qty_decimals, decimals)
    return ValueForm(texts, _FIGURES)


def _units(settlement: str, fee_decimals: int, qty_decimals: int, decimals: int) -> dict[str, str | int]:
    return {
        "fee_asset": settlement,
        "fee_decimals": fee_decimals,
        "qty_decimals": qty_decimals,
        "value_decimals": decimals,
    }


def position_values(state: SettledState, genesis: Genesis) -> Callable[[tuple[str, str], SettledPosition], bytes]:
    """What a position of ``state`` says, by its names: most of what a height changes, so what its instrument says is said once."""
    forms: dict[str, ValueForm] = {}

    def units(instrument: str) -> tuple[str, int, int, int]:
        definition = state.definitions[instrument][0].instrument
        decimals = genesis.asset_decimals[definition.settlement]
        return definition.settlement, decimals, definition.qty_decimals, value_decimals(definition, genesis)

    def value(at: tuple[str, str], position: SettledPosition) -> bytes:
        instrument = at[1]
        if position.other_fees:
            others = (f"{asset} {fee} {genesis.asset_decimals[asset]}" for asset, fee in position.other_fees)
            figures = {name: getattr(position, name) for name in _FIGURES}
            fees = _text("other_fees", ", ".join(others))  # minor units, then the asset's decimals
            return encode_value({**_units(*units(instrument)), **figures, **fees})
        form = forms.get(instrument)
        if form is None:
            form = forms[instrument] = _form(*units(instrument))
        return form.encode(
            position.bought,
            position.cost,
            position.fees,
            position.fills,
            position.bought - position.sold,
            position.realised,
            position.sold,
            position.value_bought,
            position.value_sold,
        )

    return value


def _text(field: str, text: str) -> dict[str, str]:
    """A recorded text as a field: itself, or its digest where it is long or cannot be printed."""
    if len(text) <= MAX_TEXT and text.isprintable():
        return {field: text}
    return {f"{field}_digest": digest("cell-text", text.encode()).hex()}
