"""What the cells of an account say, for people: decimal text of minor units, with the decimals beside it.

Which cells an account has is ``statecells``' to say, and how a value is spelt ``cells``'.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
FIGURES: Final = ("bought", "cost", "fees", "fills", "qty", "realised", "sold", "value_bought", "value_sold")
"""Of a position, in the order of their names."""


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
    return ValueForm(texts, FIGURES)


def _units(settlement: str, fee_decimals: int, qty_decimals: int, decimals: int) -> dict[str, str | int]:
    return {
        "fee_asset": settlement,
        "fee_decimals": fee_decimals,
        "qty_decimals": qty_decimals,
        "value_decimals": decimals,
    }


class PositionValues:
    """What positions of ``state`` say: most of what a height changes, so what an instrument says is said once."""

    def __init__(self, state: SettledState, genesis: Genesis) -> None:
        self._state, self._genesis = state, genesis

    def of(self, instrument: str, position: SettledPosition) -> bytes:
        """What a position in ``instrument`` says."""
        figures = [getattr(position, name) for name in FIGURES]
        if not position.other_fees:
            return self._form(instrument).encode(*figures)
        others = (f"{asset} {fee} {self._genesis.asset_decimals[asset]}" for asset, fee in position.other_fees)
        fees = _text("other_fees", ", ".join(others))  # minor units, then the asset's decimals
        return encode_value({**_units(*self._said(instrument)), **dict(zip(FIGURES, figures, strict=True)), **fees})

    def of_each(self, instruments: Sequence[str], figures: Iterable[Sequence[int]]) -> list[bytes]:
        """The same of many without fees in other assets, from their ``FIGURES``."""
        encode = {instrument: self._form(instrument).encode for instrument in set(instruments)}
        return [encode[instrument](*told) for instrument, told in zip(instruments, figures, strict=True)]

    def _form(self, instrument: str) -> ValueForm:
        return _form(*self._said(instrument))

    def _said(self, instrument: str) -> tuple[str, int, int, int]:
        definition = self._state.definitions[instrument][0].instrument
        decimals = self._genesis.asset_decimals[definition.settlement]
        return definition.settlement, decimals, definition.qty_decimals, value_decimals(definition, self._genesis)


def _text(field: str, text: str) -> dict[str, str]:
    """A recorded text as a field: itself, or its digest where it is long or cannot be printed."""
    if len(text) <= MAX_TEXT and text.isprintable():
        return {field: text}
    return {f"{field}_digest": digest("cell-text", text.encode()).hex()}
