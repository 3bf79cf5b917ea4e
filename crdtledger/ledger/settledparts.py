"""What a settled state is made of: values per lane, position, balance and reserve, and the fills that wait.

They stand apart from ``settled`` so that the state's encoding (``settledcodec``) can be read beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.ledger import body as columns
from crdtledger.ledger.batch import FIRST_PREV
from crdtledger.ledger.body import Body, WireBody
from crdtledger.ledger.facts import ID_IS_TEXT, NO_STRING, Instrument, Kind
from crdtledger.ledger.orderfacts import Name, Terms
from crdtledger.ledger.ordermoney import NO_DRAWN, NO_TALLY, Drawn, Tally


class SettledLane(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """How far a lane is settled: the newest settled batch, and the height of the base that it stands on.

    ``closed``: where the lane is known to fork, 0 while it is open; nothing beyond ``seq`` of a closed lane ever counts.
    ``evidence``: the proof, empty for an open lane. ``seq`` 0 and ``FIRST_PREV``: closed before its first batch.
    """

    seq: int
    hash: bytes = FIRST_PREV
    base_height: int = 0
    closed: int = 0
    evidence: bytes = b""


class Definition(NamedTuple):
    """One definition of a name, and the digest that facts carry."""

    digest: bytes
    instrument: Instrument


class SettledPosition(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an (account, instrument) has come to, in the units of ``positions.Position``: quantities at the instrument's
    quantity decimals, values at its value decimals, fees in minor units of the settlement asset, ``other_fees`` as sorted
    (asset, amount other than 0).

    ``cost``: the value of the open quantity at its average entry, never negative for positive prices, in value minor units.
    ``realised``: realised profit, signed, in value minor units. Fees are in neither. Settlement derives both, in canonical order.
    """

    bought: int = 0
    sold: int = 0
    value_bought: int = 0
    value_sold: int = 0
    fees: int = 0
    other_fees: tuple[tuple[str, int], ...] = ()
    fills: int = 0
    cost: int = 0
    realised: int = 0

    @property
    def qty(self) -> int:
        """Bought less sold."""
        return self.bought - self.sold


class SettledBalance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an (account, asset) has come to, in minor units. ``rights``: what each member may spend, as (its index in the genesis,
    an amount above 0), ascending. ``reserved``: what all open reserves of the cell hold together; ``margin``: what all positions do
    that are carried in the cell. ``shortfall``: what the account owes beyond what settlement could take; it stands beside the sums."""

    deposited: int = 0
    withdrawn: int = 0
    reserved: int = 0
    margin: int = 0
    shortfall: int = 0
    rights: tuple[tuple[int, int], ...] = ()

    def share(self, member: int) -> int:
        """What one member may spend."""
        return next((amount for index, amount in self.rights if index == member), 0)

    @property
    def held(self) -> int:
        """What the account is owed: free rights, reserves, and margins."""
        return sum(amount for _, amount in self.rights) + self.reserved + self.margin


class Reserved(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An open reserve of a lane. ``remaining`` is above 0; ``id`` is its author's, a number written out."""

    account: str
    asset: str
    remaining: int
    id: str
    expires_us: int = 0


class SettledOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order that is not done yet. ``place``: (clock, lane, seq, row) of its batch; ``height`` at which it was settled.

    ``open``: (member, quantity above 0) by who may match it, ascending; ``closed``: what comes back to its home is closed, too.
    ``tally`` and ``drawn``: what its matches came to, and what they took (``ordermoney``). ``shown``: (quantity, price) that a hidden
    order was revealed to be, None before.
    """

    terms: Terms
    place: tuple[int, bytes, int, int]
    height: int
    open: tuple[tuple[int, int], ...] = ()
    closed: bool = False
    tally: Tally = NO_TALLY
    drawn: Drawn = NO_DRAWN
    shown: tuple[int, int] | None = None

    @property
    def lane(self) -> bytes:
        """The lane that it was written in, which holds its reserve."""
        return self.place[1]


class PendingMatch(msgspec.Struct, frozen=True, kw_only=True):
    """A match that its maker's home has not answered. ``height`` and ``number``: where it stands in canonical order; ``place``: (lane,
    seq, row) of the fact. ``held``: what is kept back of its taker meanwhile."""

    taker: Name
    maker: Name
    held: int
    qty: int
    price: int
    height: int
    number: int
    place: tuple[bytes, int, int]
    survival: int


class Carried(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What matches have made of an (account, derivative): contracts, signed, and the margin that stands behind them in minor units of
    the settlement asset. Of one instrument all contracts together are 0."""

    qty: int
    margin: int


class SettledNote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A note on the board. ``clock``: as its batch states it. ``entry``: what it says (``noteform``)."""

    clock: int
    entry: bytes


class SuspendedFills:
    """Fills (or busts) of one batch that wait for a definition: a body with these rows alone, and where they came from."""

    __slots__ = ("body", "key", "raw", "rows", "seq")

    def __init__(self, key: bytes, seq: int, rows: tuple[int, ...], raw: bytes) -> None:
        self.key, self.seq, self.rows, self.raw = key, seq, rows, raw
        self.body: Body = columns.decode(raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SuspendedFills) and self.stated == other.stated

    __hash__ = None  # type: ignore[assignment]

    @property
    def stated(self) -> tuple[bytes, int, tuple[int, ...], bytes]:
        """(lane, seq, rows, the body's bytes)."""
        return self.key, self.seq, self.rows, self.raw

    def __len__(self) -> int:
        return len(self.rows)


def cut_fills(
    key: bytes, seq: int, body: Body, kind: Kind, rows: npt.NDArray[np.int64], told: tuple[int, ...]
) -> SuspendedFills:
    """Rows of one table of fills or busts in a body of their own. ``told``: which rows of their batch they are."""
    table = body.tables[kind][rows].copy()
    strings: dict[str, int] = {}
    instruments: dict[tuple[int, bytes], int] = {}
    scopes: dict[tuple[int, int, int, int], int] = {}

    def text(index: int) -> int:
        return strings.setdefault(body.strings[index], len(strings))

    def word(text: str) -> int:
        return strings.setdefault(text, len(strings))

    def scope(index: int) -> int:
        old = body.scopes[index]
        name, digest = body.instruments[old.instrument]
        instrument = instruments.setdefault((word(name), digest), len(instruments))
        return scopes.setdefault((word(old.venue), word(old.id_space), word(old.leg), instrument), len(scopes))

    named, spelt = table["fee_asset"] != NO_STRING, table["flags"] & ID_IS_TEXT != 0
    _recode(table, "scope", np.ones(len(table), np.bool_), scope)
    _recode(table, "account", np.ones(len(table), np.bool_), text)
    _recode(table, "fee_asset", named, text)
    _recode(table, "id", spelt, text)
    wire = WireBody(
        list(strings), list(scopes), list(instruments), [(int(kind), memoryview(table.tobytes()))], [], [], []
    )
    return SuspendedFills(key, seq, told, columns.encode(wire))


def _recode(table: npt.NDArray[np.void], column: str, where: npt.NDArray[np.bool_], code: Callable[[int], int]) -> None:
    distinct, which = np.unique(table[column][where], return_inverse=True)
    if len(distinct):
        table[column][where] = np.array([code(index) for index in distinct.tolist()], table.dtype[column])[which]
