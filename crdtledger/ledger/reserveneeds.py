"""What all orders on a reserve may yet draw out of it, kept as a sum: an order more costs one order, however many there are.

Of each order that was touched the need is worked out anew, when somebody asks next; the others' stand as they were. Sums are kept by
meaning, because an order under one that does not stand needs nothing, and which one stands may change without any order.

It does not say what a reserve holds, nor refuse anything: ``orderchecks`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from crdtledger.ledger.facts import Instrument
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.orderfacts import Name
from crdtledger.ledger.ordermoney import exact_value, grown, grown_at_worst, opening, still_needed

if TYPE_CHECKING:
    from crdtledger.ledger.orders import Record


Meaning: TypeAlias = tuple[str, bytes]
"""An instrument's name, and the digest of the definition that an order is under."""


class Need(NamedTuple):
    """``amount``, in minor units, that an order may draw out of ``reserve`` of ``lane`` if ``meaning`` stands."""

    lane: bytes
    reserve: str
    meaning: Meaning
    amount: int


class ReserveNeeds:
    """The needs of a set of orders. ``record`` finds one by its name."""

    def __init__(self, genesis: Genesis, record: Callable[[Name], Record | None]) -> None:
        self._genesis = genesis
        self._record = record
        self._touched: set[Name] = set()
        self._needs: dict[Name, Need] = {}
        self._sums: dict[tuple[bytes, str], dict[Meaning, int]] = {}

    def touch(self, name: Name) -> None:
        """An order is new, or may have changed."""
        self._touched.add(name)

    def of(self, lane: bytes, reserve: str, definitions: Mapping[bytes, Instrument]) -> Mapping[Meaning, int]:
        """Meaning -> what all orders on the reserve may draw, as long as it stands."""
        for name in list(self._touched):
            record = self._record(name)
            if record is not None and record.terms is not None:
                self._put(name, need_of(record, self._genesis, definitions))
                if record.terms.definition not in definitions:
                    continue  # it may become known: it stays to be looked at
            self._touched.discard(name)
        return self._sums.get((lane, reserve), {})

    def _put(self, name: Name, need: Need) -> None:
        before = self._needs.get(name)
        for one, sign in ((before, -1), (need, 1)):
            if one is not None:
                sums = self._sums.setdefault((one.lane, one.reserve), {})
                sums[one.meaning] = sums.get(one.meaning, 0) + sign * one.amount
        self._needs[name] = need


def need_of(record: Record, genesis: Genesis, definitions: Mapping[bytes, Instrument]) -> Need:
    """What an order may yet draw: for what was matched and is not settled, and for what is still open or asks.

    What asks stands at its match's price or comes back to be open, so the dearer of both prices counts: where contracts are inverse, a
    buyer pays the more the lower its price is."""
    terms, tally = record.terms, record.tally
    assert terms is not None  # an order that is here
    definition, meaning = definitions.get(terms.definition), (terms.instrument, terms.definition)
    if definition is None:
        return Need(record.place[1], terms.reserve, meaning, 0)
    for (price, maker), qty in record.traded.items():
        fee = definition.maker_fee_ppm if maker else definition.taker_fee_ppm
        tally = grown(definition, genesis, tally, qty, price, opening(definition, terms, qty), fee)
    for price, qty in record.hoped.items():
        dearer = max(price, terms.price, key=lambda one: exact_value(definition, genesis, qty, one))
        tally = grown_at_worst(definition, genesis, terms, tally, qty, dearer)
    amount = still_needed(definition, genesis, terms, tally, record.drawn, record.open)
    return Need(record.place[1], terms.reserve, meaning, amount)
