"""From facts to bodies: dictionary-code the strings, pack the columns, split what is too large for one batch.

Two ways in: ``draft_facts`` takes single facts as people and programs write them; ``draft_fills`` takes whole columns of
fills as importers produce them, without an object per fact. What comes out always decodes again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import AmountOutOfRange, BadInput, UnknownName
from crdtledger.ledger import body as columns
from crdtledger.ledger import noteform
from crdtledger.ledger.body import AccountEntry, Cursor, WireBody, is_text, split_id
from crdtledger.ledger.facts import (
    AMENDS,
    COMMITMENT,
    ID_IS_TEXT,
    KIND_OF,
    MARKET,
    MAX_AMOUNT,
    MAX_NUMBER,
    MAX_TEXT,
    NO_STRING,
    ORDER_KINDS,
    OTHER_IS_TEXT,
    POST_ONLY,
    PPM,
    REDUCE_ONLY,
    REF_IS_TEXT,
    RIGHTS_KINDS,
    TABLES,
    TIFS,
    Accept,
    Account,
    Cancel,
    Fact,
    FactId,
    Fill,
    Grant,
    Instrument,
    Kind,
    Mark,
    Match,
    Note,
    Order,
    Post,
    Reserve,
    Reveal,
    Share,
    Transfer,
    Void,
)

Resolve = Callable[[str], bytes]
"""Name of an instrument -> digest of the definition to write facts under; ``UnknownName`` otherwise."""


class FillColumns(msgspec.Struct, frozen=True, kw_only=True):
    """Fills as columns of equal length n. Integers in minor units.

    ``accounts`` and ``fee_assets`` are dictionaries that ``account`` and ``fee_asset`` index (-1: the settlement asset).
    ``text_ids``: where the venue's ids are texts; ``trade_id`` is then ignored.
    """

    venue: str
    instrument: str
    trade_id: npt.NDArray[np.uint64]
    price: npt.NDArray[np.int64]
    qty: npt.NDArray[np.int64]
    side: npt.NDArray[np.int8]
    account: npt.NDArray[np.int64]
    accounts: Sequence[str]
    ts_us: npt.NDArray[np.int64] | None = None
    fee: npt.NDArray[np.int64] | None = None
    fee_asset: npt.NDArray[np.int64] | None = None
    fee_assets: Sequence[str] = ()
    text_ids: Sequence[str] | None = None
    id_space: str = "trade"
    leg: str = ""

    def __len__(self) -> int:
        return len(self.price)


class _Dictionary:
    """Strings, instruments and scopes of one body."""

    def __init__(self, resolve: Resolve) -> None:
        self.strings: dict[str, int] = {}
        self.instruments: dict[tuple[int, bytes], int] = {}
        self.scopes: dict[tuple[int, int, int, int], int] = {}
        self._resolve = resolve

    def text(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def instrument(self, name: str) -> int:
        return self.instruments.setdefault((self.text(name), self._resolve(name)), len(self.instruments))

    def scope(self, venue: str, id_space: str, instrument: str, leg: str) -> int:
        scope = (self.text(venue), self.text(id_space), self.text(leg), self.instrument(instrument))
        return self.scopes.setdefault(scope, len(self.scopes))

    def body(
        self,
        tables: Mapping[Kind, npt.NDArray[np.void]],
        definitions: Sequence[Instrument] = (),
        accounts: Sequence[AccountEntry] = (),
        cursors: Sequence[Cursor] = (),
    ) -> WireBody:
        packed = [(int(kind), columns.packed_rows(tables[kind])) for kind in sorted(tables)]
        return WireBody(
            list(self.strings),
            list(self.scopes),
            list(self.instruments),
            packed,
            list(definitions),
            list(accounts),
            list(cursors),
        )


# -- single facts -------------------------------------------------------------------------------------------


def draft_facts(facts: Sequence[Fact], resolve: Resolve, member: Callable[[str], int]) -> list[WireBody]:
    """Bodies for ``facts``: those that move rights in one, those about orders in one after it, the others before them in as many
    as they need. Notes are not drafted here (``boardpen``).

    ``member`` gives a node's index in the genesis. Facts were checked by ``check_fact``.
    """
    kinds = [KIND_OF[type(fact)] for fact in facts]
    others = [fact for fact, kind in zip(facts, kinds, strict=True) if kind not in RIGHTS_KINDS | ORDER_KINDS]
    bodies = _draft_split(others, resolve, member)
    for group, told in ((RIGHTS_KINDS, "that move rights"), (ORDER_KINDS, "about orders")):
        chosen = [fact for fact, kind in zip(facts, kinds, strict=True) if kind in group]
        if len(chosen) > columns.MAX_FACTS:
            why = f"{len(chosen)} facts {told}, at most {columns.MAX_FACTS}: they stand or fall together"
            raise BadInput(what="record", where="facts", why=why)
        if chosen:
            body = _draft(chosen, resolve, member)
            if len(columns.encode(body)) > columns.MAX_BODY_BYTES:
                why = f"more than {columns.MAX_BODY_BYTES} bytes; facts {told} stand or fall together"
                raise BadInput(what="record", where="facts", why=why)
            bodies.append(body)
    return bodies


def _draft_split(facts: Sequence[Fact], resolve: Resolve, member: Callable[[str], int]) -> list[WireBody]:
    if not facts:
        return []
    if len(facts) <= columns.MAX_FACTS:
        body = _draft(facts, resolve, member)
        if len(facts) == 1 or len(columns.encode(body)) <= columns.MAX_BODY_BYTES:
            return [body]
    half = len(facts) // 2
    return _draft_split(facts[:half], resolve, member) + _draft_split(facts[half:], resolve, member)


def _draft(facts: Sequence[Fact], resolve: Resolve, member: Callable[[str], int]) -> WireBody:
    names = _Dictionary(resolve)
    rows: dict[Kind, list[tuple[int, ...]]] = {}
    definitions: list[Instrument] = []
    accounts: list[AccountEntry] = []
    for fact in facts:
        if isinstance(fact, Instrument):
            definitions.append(fact)
        elif isinstance(fact, Account):
            accounts.append(AccountEntry(fact.name, fact.label))
        else:
            rows.setdefault(KIND_OF[type(fact)], []).append(_pack(fact, names, member))
    tables = {kind: np.array(packed, TABLES[kind]) for kind, packed in rows.items()}
    return names.body(tables, definitions, accounts)


def _pack(fact: Fact, names: _Dictionary, member: Callable[[str], int]) -> tuple[int, ...]:
    """One fact as a row of its table, in the order of the table's columns."""
    if isinstance(fact, Mark):
        instrument, source = names.instrument(fact.instrument), names.text(fact.source)
        return fact.sequence, fact.price, fact.ts_us, instrument, source
    if isinstance(fact, Fill):
        number, flags = _id(fact.trade_id, names, ID_IS_TEXT)
        scope = names.scope(fact.venue, fact.id_space, fact.instrument, fact.leg)
        fee_asset = NO_STRING if fact.fee_asset is None else names.text(fact.fee_asset)
        account = names.text(fact.account)
        side = _side(fact.side)
        return number, fact.price, fact.qty, fact.fee, fact.ts_us, scope, account, fee_asset, side, flags
    assert not isinstance(fact, Instrument | Account | Note)
    number, flags = _id(fact.id, names, ID_IS_TEXT)
    if isinstance(fact, Order | Cancel | Match | Accept | Share | Reveal):
        return _pack_about_order(fact, number, flags, names, member)
    if isinstance(fact, Post | Void):
        reserve, flag = _id(fact.reserve, names, REF_IS_TEXT)
        if isinstance(fact, Void):
            return number, reserve, flags | flag
        return number, fact.amount, reserve, names.text(fact.credit), flags | flag
    common = (number, fact.amount, names.text(fact.account), names.text(fact.asset))
    if isinstance(fact, Transfer):
        return *common, names.text(fact.credit), flags
    if isinstance(fact, Grant):
        return *common, member(fact.node), flags
    if isinstance(fact, Reserve):
        return *common, fact.expires_us, flags
    return *common, flags


def _pack_about_order(
    fact: Order | Cancel | Match | Accept | Share | Reveal,
    number: int,
    flags: int,
    names: _Dictionary,
    member: Callable[[str], int],
) -> tuple[int, ...]:
    if isinstance(fact, Order):
        reserve, flag = _id(fact.reserve, names, REF_IS_TEXT)
        amends, other = (0, 0) if fact.amends is None else _id(fact.amends, names, OTHER_IS_TEXT)
        flags |= flag | other | (0 if fact.amends is None else AMENDS)
        flags |= (MARKET if fact.market else 0) | (POST_ONLY if fact.post_only else 0)
        flags |= REDUCE_ONLY if fact.reduce_only else 0
        account, instrument = names.text(fact.account), names.instrument(fact.instrument)
        hidden = names.text(fact.hidden) if fact.hidden else NO_STRING
        terms = (number, fact.qty, fact.price, reserve, amends, fact.expires_us, fact.min_survival)
        return *terms, account, instrument, hidden, _side(fact.side), TIFS.index(fact.tif), flags
    if isinstance(fact, Match):
        maker, flag = _id(fact.maker, names, REF_IS_TEXT)
        taker, other = _id(fact.taker, names, OTHER_IS_TEXT)
        home = member(fact.maker_home)
        return number, fact.qty, fact.price, taker, maker, fact.survival, home, flags | flag | other
    if isinstance(fact, Accept):
        match, flag = _id(fact.match, names, REF_IS_TEXT)
        reason = names.text(fact.reason) if fact.reason else NO_STRING
        return number, match, fact.qty, member(fact.match_home), reason, flags | flag
    order, flag = _id(fact.order, names, REF_IS_TEXT)
    if isinstance(fact, Share):
        return number, order, fact.qty, member(fact.home), member(fact.node), flags | flag
    if isinstance(fact, Reveal):
        return number, order, fact.qty, fact.price, names.text(fact.nonce), _side(fact.side), flags | flag
    return number, order, flags | flag


def _side(side: str) -> int:
    return 1 if side == "buy" else -1


def _id(value: FactId, names: _Dictionary, flag: int) -> tuple[int, int]:
    canonical = split_id(value)
    return (canonical, 0) if isinstance(canonical, int) else (names.text(canonical), flag)


_MAY_BE_EMPTY = ("leg", "label", "reason", "hidden")
_NUMBERS = ("id", "trade_id", "reserve", "sequence", "order", "match", "maker", "taker", "amends")


def check_fact(fact: Fact, where: str = "fact") -> None:
    """Types, ranges and texts of one fact. ``AmountOutOfRange`` or ``BadInput`` name the field."""
    if type(fact) is Fill and _is_plain(fact):
        return
    try:
        msgspec.convert(msgspec.structs.asdict(fact) | {"kind": fact.__struct_config__.tag}, type(fact))
    except msgspec.ValidationError as error:
        why, _, path = str(error).partition(" - at `$.")
        field = path.rstrip("`")
        raise BadInput(what=repr(getattr(fact, field, fact))[:60], where=f"{where}.{field}", why=why) from None
    if isinstance(fact, Note):
        fault = noteform.fault(fact.break_id, fact.field, fact.text)
        if fault is not None:
            raise BadInput(what=repr(getattr(fact, fault[0])[:40]), where=f"{where}.{fault[0]}", why=fault[1])
        return
    for field in fact.__struct_fields__:
        value = getattr(fact, field)
        at = f"{where}.{field}"
        if isinstance(value, str) and (not is_text(value) or (field not in _MAY_BE_EMPTY and not value)):
            raise BadInput(what=repr(value[:40]), where=at, why=f"1 to {MAX_TEXT} printable characters")
        if field in ("hidden", "nonce") and value and COMMITMENT.fullmatch(value) is None:
            raise BadInput(what=repr(value[:40]), where=at, why="64 lower-case hex digits")
        if field in ("amount", "qty"):
            _in_range(value, 0 if isinstance(fact, Accept) else 1, MAX_AMOUNT, at)
        elif field in ("price", "fee"):
            _in_range(value, 1 if KIND_OF[type(fact)] in ORDER_KINDS else -MAX_AMOUNT, MAX_AMOUNT, at)
        elif field in ("survival", "min_survival"):
            _in_range(value, 0, PPM, at)
        elif field in ("ts_us", "expires_us"):
            _in_range(value if value is not None else 0, 0, MAX_AMOUNT, at)
        elif isinstance(value, int) and field in _NUMBERS:
            _in_range(value, 0, MAX_NUMBER, at)


_PLAIN_FILLS = {
    (str, number, str, str, str, int, int, int, asset, str, str, int)
    for number in (int, str)
    for asset in (str, type(None))
}


def _is_plain(fill: Fill) -> bool:
    """Whether a fill holds at a glance. What does not is looked at field by field, and may hold all the same."""
    values = msgspec.structs.astuple(fill)
    if tuple(map(type, values)) not in _PLAIN_FILLS or fill.side not in ("buy", "sell"):
        return False
    venue, number, instrument, account, _, qty, price, fee, asset, space, leg, ts_us = values
    if isinstance(number, str):
        needed = [venue, number, instrument, account, space]
    elif 0 <= number <= MAX_NUMBER:
        needed = [venue, instrument, account, space]
    else:
        return False
    if asset is not None:
        needed.append(asset)
    return (
        all(needed)
        and is_text("".join(needed) + leg)  # shorter together than one may be: most are
        and 0 < qty <= MAX_AMOUNT
        and -MAX_AMOUNT <= price <= MAX_AMOUNT
        and -MAX_AMOUNT <= fee <= MAX_AMOUNT
        and 0 <= ts_us <= MAX_AMOUNT
    )


def _in_range(value: int, low: int, high: int, where: str) -> None:
    if not low <= value <= high:
        raise AmountOutOfRange(where=where, amount=value, low=low, high=high)


# -- columns of fills ---------------------------------------------------------------------------------------


def draft_fills(
    fills: FillColumns, resolve: Resolve, cursor: Cursor | None = None, kind: Kind = Kind.FILL
) -> list[WireBody]:
    """Bodies for whole columns of fills. ``cursor`` goes with the last of them. Columns were checked by ``check_fills``."""
    starts = range(0, max(len(fills), 1), columns.MAX_FACTS)
    parts = [range(start, min(start + columns.MAX_FACTS, len(fills))) for start in starts]
    bodies: list[WireBody] = []
    while parts:
        rows = parts.pop(0)
        body = _draft_fill_rows(fills, rows, resolve, cursor if not parts else None, kind)
        if len(rows) > 1 and not _fits(body):
            half = len(rows) // 2
            parts[:0] = [rows[:half], rows[half:]]
        elif len(rows) or cursor is not None:
            bodies.append(body)
    return bodies


def _fits(body: WireBody) -> bool:
    """Whether a body of fills is within its bound. The usual one is by far, and then its bytes need no counting."""
    texts = sum(map(len, body.strings)) * 4 + len(body.strings) * 5
    small = (len(body.scopes) + len(body.instruments)) * 64 + len(body.cursors) * 1024 + 256
    roomy = sum(len(packed) for _, packed in body.tables) + texts + small
    return roomy <= columns.MAX_BODY_BYTES or len(columns.encode(body)) <= columns.MAX_BODY_BYTES


def _draft_fill_rows(fills: FillColumns, rows: range, resolve: Resolve, cursor: Cursor | None, kind: Kind) -> WireBody:
    names = _Dictionary(resolve)
    table = np.zeros(len(rows), TABLES[kind])
    picked = slice(rows.start, rows.stop)
    if len(rows):
        table["scope"] = names.scope(fills.venue, fills.id_space, fills.instrument, fills.leg)
    for column in ("price", "qty", "side"):
        table[column] = getattr(fills, column)[picked]
    if fills.ts_us is not None:
        table["ts_us"] = fills.ts_us[picked]
    table["account"] = _recode(fills.account[picked], fills.accounts, names)
    table["fee_asset"] = NO_STRING
    if fills.fee is not None:
        table["fee"] = fills.fee[picked]
        if fills.fee_asset is not None:
            table["fee_asset"] = _recode(fills.fee_asset[picked], fills.fee_assets, names)
    if fills.text_ids is None:
        table["id"] = fills.trade_id[picked]
    else:
        ids = [_id(fills.text_ids[row], names, ID_IS_TEXT) for row in rows]
        table["id"] = np.array([number for number, _ in ids], np.uint64)
        table["flags"] = np.array([flag for _, flag in ids], np.uint8)
    return names.body({kind: table} if len(rows) else {}, cursors=[cursor] if cursor else [])


def _recode(index: npt.NDArray[np.int64], texts: Sequence[str], names: _Dictionary) -> npt.NDArray[np.int64]:
    """Indices into the importer's dictionary as indices into the body's; -1 becomes ``NO_STRING``. Texts are entered in the order of
    the dictionary."""
    places = used_places(index, len(texts))
    coded = np.full(len(texts) + 1, NO_STRING, np.int64)  # the last place is that of -1
    coded[places] = [names.text(texts[place]) for place in places]
    return coded[index]


def used_places(index: npt.NDArray[np.int64], size: int) -> list[int]:
    """The places of a dictionary of ``size`` texts that some row points at, ascending; -1 points at none."""
    used = np.zeros(size + 1, np.bool_)
    used[index] = True
    return np.flatnonzero(used[:-1]).tolist()


_COLUMNS = (
    ("trade_id", 0, MAX_NUMBER),
    ("qty", 1, MAX_AMOUNT),
    ("price", -MAX_AMOUNT, MAX_AMOUNT),
    ("fee", -MAX_AMOUNT, MAX_AMOUNT),
    ("ts_us", 0, MAX_AMOUNT),
    ("side", -1, 1),
    ("account", None, None),
    ("fee_asset", None, None),
)


def check_fills(fills: FillColumns, where: str = "fills") -> None:
    """Types, lengths, ranges and texts of columns. ``AmountOutOfRange``, ``BadInput`` or ``UnknownName`` name the first misfit."""
    for field in ("venue", "instrument", "id_space", "leg"):
        text = getattr(fills, field)
        if not is_text(text) or (not text and field != "leg"):
            raise BadInput(what=field, where=where, why=f"1 to {MAX_TEXT} printable characters")
    for field, low, high in _COLUMNS:
        values = getattr(fills, field)
        if values is None:
            continue
        if values.dtype.kind not in "iu" or values.shape != (len(fills),):
            why = f"{values.dtype} of shape {values.shape}, not {len(fills)} integers"
            raise BadInput(what=field, where=where, why=why)
        bad = (values < low) | (values > high) if low is not None and high is not None else np.zeros(0, np.bool_)
        if field == "side":
            bad = np.abs(values) != 1
        if bad.any():
            row = int(np.argmax(bad))
            at = f"{where}[{row}].{field}"
            if field == "side":
                raise BadInput(what=f"side {values[row]}", where=at, why="+1 bought or -1 sold")
            raise AmountOutOfRange(where=at, amount=int(values[row]), low=low or 0, high=high or 0)
    if fills.text_ids is not None:
        if len(fills.text_ids) != len(fills):
            raise BadInput(what="text_ids", where=where, why=f"{len(fills.text_ids)} rows beside {len(fills)}")
        for row, text in enumerate(fills.text_ids):
            if not text or not is_text(text):
                why = f"1 to {MAX_TEXT} printable characters"
                raise BadInput(what=repr(text[:40]), where=f"{where}[{row}].text_ids", why=why)
    for index, names, what, least in (
        (fills.account, fills.accounts, "account", 0),
        (fills.fee_asset, fills.fee_assets, "asset", -1),
    ):
        if index is not None and len(index) and not (index.min() >= least and index.max() < len(names)):
            wrong = int(index.max()) if index.max() >= len(names) else int(index.min())
            raise UnknownName(kind=what, name=f"number {wrong}", nearest="")
