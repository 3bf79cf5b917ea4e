"""Option chains: the options on one underlying, by expiry and strike, calls beside puts. Listed from definitions alone; books are looked
up by the names in it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from crdtledger.ledger.facts import Instrument


class Strike(msgspec.Struct, frozen=True):
    """One line of a chain: the names of the call and the put, ``""`` where there is none. If several share terms, the first name stands."""

    strike: int
    call: str = ""
    put: str = ""


class Chain(msgspec.Struct, frozen=True):
    """The options on ``base`` against ``quote`` that expire at ``expiry_us``, strikes rising."""

    base: str
    quote: str
    expiry_us: int
    strikes: tuple[Strike, ...]


def chains(instruments: Iterable[Instrument]) -> tuple[Chain, ...]:
    """Every chain there is, by base, quote and expiry. What is no option, or lacks a strike or an expiry, is left out."""
    listed: dict[tuple[str, str, int], dict[int, dict[str, str]]] = {}
    for instrument in sorted(instruments, key=lambda one: one.name):
        strike, expiry_us, kind = instrument.strike, instrument.expiry_us, instrument.option
        if instrument.type != "option" or strike is None or expiry_us is None or kind is None:
            continue
        line = listed.setdefault((instrument.base, instrument.quote, expiry_us), {}).setdefault(strike, {})
        line.setdefault(kind, instrument.name)
    return tuple(
        Chain(*key, tuple(Strike(strike, **names) for strike, names in sorted(lines.items())))
        for key, lines in sorted(listed.items())
    )
