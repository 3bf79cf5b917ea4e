"""What a quantity is worth by the newest mark, exactly, in the asset that its instrument settles in, or in the one that is asked for.

Without a mark the worth is unknown, which is None and not zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import msgspec

from crdtledger.ledger.facts import Instrument
from reconcile.divergence.breakrow import AtRisk

PLACES = 8


class Worth(msgspec.Struct, frozen=True):
    """``instruments`` by name; ``marks``: the newest price of each, at its price decimals; ``quote``: the asset wanted, if any."""

    instruments: Mapping[str, Instrument]
    marks: Mapping[str, int]
    quote: str = ""

    def of(self, instrument: str, qty: Fraction) -> AtRisk | None:
        """The worth of ``qty`` of an instrument, without a sign."""
        terms, mark = self.instruments.get(instrument), self.marks.get(instrument)
        if terms is None or not mark:
            return None
        price = Fraction(mark, 10**terms.price_decimals)
        size = Fraction(terms.contract_size, 10**terms.contract_decimals)
        amount = abs(qty) * size / price if terms.inverse else abs(qty) * size * price
        return self.asset(terms.settlement, amount)

    def asset(self, asset: str, amount: Fraction) -> AtRisk:
        """An amount of an asset; in ``quote`` where a spot mark says what that is."""
        if self.quote and asset != self.quote:
            for name, terms in self.instruments.items():
                pair = terms.type == "spot" and (terms.base, terms.quote) == (asset, self.quote)
                if pair and self.marks.get(name):
                    amount *= Fraction(self.marks[name], 10**terms.price_decimals)
                    asset = self.quote
                    break
        return AtRisk(plain(abs(amount)), asset)


def plain(amount: Fraction) -> str:
    """Decimal text with ``PLACES`` places, rounded up: what is at risk is never understated."""
    scaled = -(-amount.numerator * 10**PLACES // amount.denominator)
    sign = "-" if scaled < 0 else ""
    return f"{sign}{abs(scaled) // 10**PLACES}.{abs(scaled) % 10**PLACES:0{PLACES}d}"
