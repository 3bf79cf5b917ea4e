"""What goes into a matching desk and what comes out of it: plain data."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from crdtledger.ledger.facts import Accept, Cancel, Match, Order, Share
from crdtledger.matching.orders import Name, Place


class Seen(msgspec.Struct, frozen=True):
    """A fact of the lane of ``node`` (our own too) became visible here. ``recorded_us`` is its batch's clock. Lanes come in order."""

    node: str
    fact: Order | Cancel | Share | Match | Accept
    place: Place
    recorded_us: int


class Heard(msgspec.Struct, frozen=True):
    """All that ``node`` had recorded when its clock said ``upto_us`` is here."""

    node: str
    upto_us: int


class Asked(msgspec.Struct, frozen=True):
    """``node`` would like to match ``qty`` firmly of an order that is ours, or held here in part."""

    node: str
    order: Name
    qty: int


class Holds(msgspec.Struct, frozen=True):
    """The position of ``account`` in ``instrument`` is ``qty``, signed: what reduce-only orders reduce."""

    account: str
    instrument: str
    qty: int


class Unrecorded(msgspec.Struct, frozen=True):
    """The recorder refused this match of ours: it never was."""

    fact: Match


class Ended(msgspec.Struct, frozen=True):
    """Settlement is done with these orders and matches: nothing more will be said of them."""

    orders: tuple[Name, ...] = ()
    matches: tuple[Name, ...] = ()


class Tick(msgspec.Struct, frozen=True):
    """Time has passed."""


class Record(msgspec.Struct, frozen=True):
    """Record ``fact`` in our lane, in the order of the instructions. It leans on what the lanes of ``deps`` have said. ``reason`` is for
    people."""

    fact: Match | Accept | Cancel | Share
    deps: tuple[str, ...] = ()
    reason: str = ""


class AskFor(msgspec.Struct, frozen=True):
    """Ask the home of ``order``, and whoever else holds of it, to share ``qty`` of it with us. A hope: nothing waits for it."""

    order: Name
    qty: int


DeskEvent: TypeAlias = Seen | Heard | Asked | Holds | Unrecorded | Ended | Tick
Instruction: TypeAlias = Record | AskFor
