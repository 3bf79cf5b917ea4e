"""The kinds of fact, and how each looks as a value and as a column.

A fact is one immutable statement about positions, collateral, orders or reference data, idempotent by its id. People
and programs hand facts in as the frozen structs below; inside a batch each kind is one numpy table with the record
layout in ``TABLES`` (packed, little-endian), and from there on no fact is a Python object again. (Reference data and notes are few
and stand in a body as they are.)

Amounts, prices and quantities are integers in minor units: an asset's decimals stand in the genesis, an instrument's
price and quantity decimals in its definition. Sides are ``+1`` bought and ``-1`` sold, seen from the account.
"""

from __future__ import annotations

import enum
import re
from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np

MAX_AMOUNT: Final = 1 << 62
"""No single amount, price or quantity exceeds this; sums are carried in wider columns."""
MAX_NUMBER: Final = (1 << 64) - 1
MAX_TEXT: Final = 128
"""Longest name or id, in characters."""


class Kind(enum.IntEnum):
    """Kinds in their precedence inside a batch. Numbers are part of the wire format and never reused."""

    INSTRUMENT = 1
    ACCOUNT = 2
    MARK = 3
    FILL = 10
    BUST = 11
    DEPOSIT = 20
    VOID = 21
    GRANT = 22
    RESERVE = 23
    POST = 24
    TRANSFER = 25
    WITHDRAWAL = 26
    ORDER = 30
    CANCEL = 31
    MATCH = 32
    ACCEPT = 33
    SHARE = 34
    REVEAL = 35
    NOTE = 40


RIGHTS_KINDS: Final = frozenset(
    {Kind.DEPOSIT, Kind.VOID, Kind.GRANT, Kind.RESERVE, Kind.POST, Kind.TRANSFER, Kind.WITHDRAWAL}
)
"""Facts that move rights. They share no batch with the others: voiding an overspending batch must not erase true trades."""

ORDER_KINDS: Final = frozenset({Kind.ORDER, Kind.CANCEL, Kind.MATCH, Kind.ACCEPT, Kind.SHARE, Kind.REVEAL})
"""Facts about orders. They move no rights and share no batch with facts that do, nor with others: a void batch must not take an order
with it, and what an order's batch depends on must not claim anybody's grants."""

ID_IS_TEXT: Final = 1
"""Flag: ``id`` is an index into the batch's strings. Otherwise it is the number itself."""
REF_IS_TEXT: Final = 2
"""Flag: the id that the row refers to (``reserve``, ``order``, ``match``, ``maker``) is an index into the batch's strings."""
OTHER_IS_TEXT: Final = 4
"""Flag: the row's other reference (``amends``, ``taker``) is an index into the batch's strings."""
AMENDS: Final = 8
"""Flag of an order: ``amends`` names one."""
MARKET: Final = 16
POST_ONLY: Final = 32
REDUCE_ONLY: Final = 64
"""Flags of an order."""

PPM: Final = 1_000_000
TIFS: Final = ("gtc", "ioc", "fok", "gtt")
"""How long an order stands, by number in the column ``tif``: good till cancelled; immediate or cancel; fill or kill; good till time."""
COMMITMENT: Final = re.compile(r"[0-9a-f]{64}")
"""A commitment or its nonce."""

NO_STRING: Final = 0xFFFF
"""A dictionary index that names nothing (a fee in the instrument's settlement asset)."""

_ID = [("id", "<u8")]
_AMOUNT = [*_ID, ("amount", "<i8"), ("account", "<u2"), ("asset", "<u2")]
_FLAGS = [("flags", "u1")]
_FILL = np.dtype(
    [
        *_ID,
        ("price", "<i8"),
        ("qty", "<i8"),
        ("fee", "<i8"),
        ("ts_us", "<i8"),
        ("scope", "<u2"),
        ("account", "<u2"),
        ("fee_asset", "<u2"),
        ("side", "i1"),
        *_FLAGS,
    ]
)

TABLES: Final[dict[Kind, np.dtype[np.void]]] = {
    Kind.MARK: np.dtype(
        [("sequence", "<u8"), ("price", "<i8"), ("ts_us", "<i8"), ("instrument", "<u2"), ("source", "<u2")]
    ),
    Kind.FILL: _FILL,
    Kind.BUST: _FILL,
    Kind.DEPOSIT: np.dtype([*_AMOUNT, *_FLAGS]),
    Kind.VOID: np.dtype([*_ID, ("reserve", "<u8"), *_FLAGS]),
    Kind.GRANT: np.dtype([*_AMOUNT, ("node", "<u2"), *_FLAGS]),
    Kind.RESERVE: np.dtype([*_AMOUNT, ("expires_us", "<i8"), *_FLAGS]),
    Kind.POST: np.dtype([*_ID, ("amount", "<i8"), ("reserve", "<u8"), ("credit", "<u2"), *_FLAGS]),
    Kind.TRANSFER: np.dtype([*_AMOUNT, ("credit", "<u2"), *_FLAGS]),
    Kind.WITHDRAWAL: np.dtype([*_AMOUNT, *_FLAGS]),
    Kind.ORDER: np.dtype(
        [
            *_ID,
            ("qty", "<i8"),
            ("price", "<i8"),
            ("reserve", "<u8"),
            ("amends", "<u8"),
            ("expires_us", "<i8"),
            ("min_survival", "<u4"),
            ("account", "<u2"),
            ("instrument", "<u2"),
            ("hidden", "<u2"),
            ("side", "i1"),
            ("tif", "u1"),
            *_FLAGS,
        ]
    ),
    Kind.CANCEL: np.dtype([*_ID, ("order", "<u8"), *_FLAGS]),
    Kind.MATCH: np.dtype(
        [
            *_ID,
            ("qty", "<i8"),
            ("price", "<i8"),
            ("taker", "<u8"),
            ("maker", "<u8"),
            ("survival", "<u4"),
            ("home", "<u2"),
            *_FLAGS,
        ]
    ),
    Kind.ACCEPT: np.dtype(
        [*_ID, ("match", "<u8"), ("qty", "<i8"), ("home", "<u2"), ("reason", "<u2"), *_FLAGS],
    ),
    Kind.SHARE: np.dtype([*_ID, ("order", "<u8"), ("qty", "<i8"), ("home", "<u2"), ("node", "<u2"), *_FLAGS]),
    Kind.REVEAL: np.dtype(
        [*_ID, ("order", "<u8"), ("qty", "<i8"), ("price", "<i8"), ("nonce", "<u2"), ("side", "i1"), *_FLAGS]
    ),
}

REFERENCES: Final[dict[Kind, dict[str, tuple[int, Kind]]]] = {
    Kind.POST: {"reserve": (REF_IS_TEXT, Kind.RESERVE)},
    Kind.VOID: {"reserve": (REF_IS_TEXT, Kind.RESERVE)},
    Kind.ORDER: {"reserve": (REF_IS_TEXT, Kind.RESERVE), "amends": (OTHER_IS_TEXT, Kind.ORDER)},
    Kind.CANCEL: {"order": (REF_IS_TEXT, Kind.ORDER)},
    Kind.MATCH: {"maker": (REF_IS_TEXT, Kind.ORDER), "taker": (OTHER_IS_TEXT, Kind.ORDER)},
    Kind.ACCEPT: {"match": (REF_IS_TEXT, Kind.MATCH)},
    Kind.SHARE: {"order": (REF_IS_TEXT, Kind.ORDER)},
    Kind.REVEAL: {"order": (REF_IS_TEXT, Kind.ORDER)},
}
"""Columns that hold the id of another fact: the flag that says it is a text, and the kind of fact it is of."""

FactId: TypeAlias = int | str
"""An id as its author gave it: a number up to 2**64-1, or text. ``7`` and ``"7"`` are the same id, ``"07"`` is another."""


class _Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    pass


class Instrument(_Fact, frozen=True, tag="instrument", omit_defaults=True):
    """An immutable definition of what is traded.

    ``price_decimals``/``qty_decimals``: minor units of prices and quantities. ``contract_size`` counts units of
    ``10 ** -contract_decimals``. Linear value = qty * price * contract size, exact. Inverse value = qty * contract
    size / price, rounded half-even to the settlement asset's decimals, fill by fill. ``strike`` is in price units,
    ``expiry_us`` in microseconds since the Unix epoch.

    For orders: ``margin_ppm`` of a position's value is set aside when it is opened (of an option's strike value, by who sells it);
    ``maker_fee_ppm`` and ``taker_fee_ppm`` of a match's value go to the beneficiary that the genesis names. ``mode``: orders match as
    they meet, or in a call auction at every height that ``auction_every`` divides; then entries close ``reveal_window`` heights before.
    """

    name: str
    type: Literal["spot", "perp", "future", "option"]
    base: str
    quote: str
    settlement: str
    price_decimals: int
    qty_decimals: int
    inverse: bool = False
    contract_size: int = 1
    contract_decimals: int = 0
    strike: int | None = None
    expiry_us: int | None = None
    option: Literal["call", "put"] | None = None
    margin_ppm: int = 0
    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    mode: Literal["continuous", "auction"] = "continuous"
    auction_every: int = 1
    reveal_window: int = 0


class Account(_Fact, frozen=True, tag="account"):
    """An account exists from here on. ``label`` is for people."""

    name: str
    label: str = ""


class Mark(_Fact, frozen=True, tag="mark"):
    """``source`` marks ``instrument`` at ``price``. The newest (``ts_us``, ``sequence``) of a source stands."""

    instrument: str
    price: int
    ts_us: int
    source: str
    sequence: int = 0


class Fill(_Fact, frozen=True, tag="fill"):
    """What a venue already did. Its identity is (venue, id space, instrument, trade id, leg); ``fee`` may be negative (a rebate)."""

    venue: str
    trade_id: FactId
    instrument: str
    account: str
    side: Literal["buy", "sell"]
    qty: int
    price: int
    fee: int = 0
    fee_asset: str | None = None
    id_space: str = "trade"
    leg: str = ""
    ts_us: int = 0


class Bust(Fill, frozen=True, tag="bust"):
    """The venue took a fill back. Carries the busted fill's full terms and counts as its opposite, even before it arrives."""


class Deposit(_Fact, frozen=True, tag="deposit"):
    """``amount`` of ``asset`` came in for ``account``. Only its custodian records it: it mints rights there."""

    id: FactId
    account: str
    asset: str
    amount: int


class Withdrawal(_Fact, frozen=True, tag="withdrawal"):
    """``amount`` goes out. Consumes rights of the node that records it."""

    id: FactId
    account: str
    asset: str
    amount: int


class Transfer(_Fact, frozen=True, tag="transfer"):
    """``amount`` leaves ``account`` now and reaches ``credit`` at settlement."""

    id: FactId
    account: str
    asset: str
    amount: int
    credit: str


class Grant(_Fact, frozen=True, tag="grant"):
    """The recording node hands rights over ``amount`` to ``node``."""

    id: FactId
    account: str
    asset: str
    amount: int
    node: str


class Reserve(_Fact, frozen=True, tag="reserve"):
    """``amount`` is set aside in this lane. Only this lane posts or voids it; ``expires_us`` is the reason its node may void it."""

    id: FactId
    account: str
    asset: str
    amount: int
    expires_us: int = 0


class Post(_Fact, frozen=True, tag="post"):
    """``amount`` of a reserve of this lane goes to the account ``credit`` (at settlement). What is left stays reserved."""

    id: FactId
    reserve: FactId
    amount: int
    credit: str


class Void(_Fact, frozen=True, tag="void"):
    """What is left of a reserve of this lane is free again."""

    id: FactId
    reserve: FactId


TimeInForce: TypeAlias = Literal["gtc", "ioc", "fok", "gtt"]
"""Good till cancelled; immediate or cancel; fill or kill; good till time."""


class Order(_Fact, frozen=True, tag="order", omit_defaults=True):
    """An order, written by its home. Its name in the cluster is (home node, ``id``).

    ``price``: the worst one that it may trade at, for a ``market`` order too. ``reserve``: a reserve of this lane that settlement takes
    margin, cash and fees out of; several orders may name one. ``amends``: the order of this node that it replaces (its lineage).
    ``expires_us``: the reason for which its home cancels it. ``min_survival``: in ppm, the least that a tentative match must promise.
    ``hidden``: 64 hex digits, the commitment of an order of an auction whose other terms ``Reveal`` tells; then ``qty`` and ``price`` are
    bounds of what it may turn out to be, and its reserve is what it is worth to reveal it.
    """

    id: FactId
    account: str
    instrument: str
    side: Literal["buy", "sell"]
    qty: int
    price: int
    reserve: FactId
    tif: TimeInForce = "gtc"
    market: bool = False
    post_only: bool = False
    reduce_only: bool = False
    expires_us: int = 0
    amends: FactId | None = None
    min_survival: int = 0
    hidden: str = ""


class Cancel(_Fact, frozen=True, tag="cancel"):
    """Written by an order's home: what is open there is closed."""

    id: FactId
    order: FactId


class Share(_Fact, frozen=True, tag="share"):
    """``qty`` of the open quantity of (``home``, ``order``) moves from the writer, who holds it, to ``node``, which may match it firmly.
    Handing back is a share, too: to the home."""

    id: FactId
    home: str
    order: FactId
    node: str
    qty: int


class Match(_Fact, frozen=True, tag="match"):
    """Written by the taker's home: its order ``taker`` takes ``qty`` of (``maker_home``, ``maker``) at the maker's ``price``. Its name in
    the cluster is (writer's node, ``id``). ``survival``: in ppm, how likely the maker's home is to accept it, as it was when the match was
    made; 0 says that the match is firm: its writer holds the quantity and takes it at once, nobody is asked. How large it is otherwise is
    an annotation: no figure depends on it."""

    id: FactId
    taker: FactId
    maker_home: str
    maker: FactId
    qty: int
    price: int
    survival: int = 0


class Accept(_Fact, frozen=True, tag="accept", omit_defaults=True):
    """Written by the maker's home: its answer to the match (``match_home``, ``match``). ``qty``: as much of it as stands, 0 to refuse."""

    id: FactId
    match_home: str
    match: FactId
    qty: int
    reason: str = ""


class Reveal(_Fact, frozen=True, tag="reveal"):
    """Written by the home of a hidden order: what it is. ``nonce``: 64 hex digits; the commitment is over it and the terms."""

    id: FactId
    order: FactId
    side: Literal["buy", "sell"]
    qty: int
    price: int
    nonce: str


class Note(_Fact, frozen=True, tag="note"):
    """Something noted on the board about a break: who looks after it, where it stands, how it ended, or a comment. A node that notes
    what stands already notes nothing: that is how noting twice counts once. In a batch a note is the update of the board's document
    (``noteform``), which its recorder writes. ``break_id``: 16 hex digits, as reports name breaks."""

    break_id: str
    field: Literal["owner", "status", "resolution", "comment"]
    text: str


Fact: TypeAlias = (
    Instrument
    | Account
    | Mark
    | Fill
    | Bust
    | Deposit
    | Withdrawal
    | Transfer
    | Grant
    | Reserve
    | Post
    | Void
    | Order
    | Cancel
    | Match
    | Accept
    | Share
    | Reveal
    | Note
)

KIND_OF: Final[dict[type, Kind]] = {
    Instrument: Kind.INSTRUMENT,
    Account: Kind.ACCOUNT,
    Mark: Kind.MARK,
    Fill: Kind.FILL,
    Bust: Kind.BUST,
    Deposit: Kind.DEPOSIT,
    Void: Kind.VOID,
    Grant: Kind.GRANT,
    Reserve: Kind.RESERVE,
    Post: Kind.POST,
    Transfer: Kind.TRANSFER,
    Withdrawal: Kind.WITHDRAWAL,
    Order: Kind.ORDER,
    Cancel: Kind.CANCEL,
    Match: Kind.MATCH,
    Accept: Kind.ACCEPT,
    Share: Kind.SHARE,
    Reveal: Kind.REVEAL,
    Note: Kind.NOTE,
}
