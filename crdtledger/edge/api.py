"""What a client may ask a node, and what the node answers: plain values and their bytes.

A request and its answer are one msgpack value each, tagged by name. Unknown requests, unknown fields and malformed bytes
are answered with an error, never with silence. Recording is answered only once it is durable.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import BadInput, LedgerError
from crdtledger.ledger.body import Cursor
from crdtledger.ledger.drafting import FillColumns
from reconcile.stores import StoredCheckpoint

MAX_REQUEST_BYTES = 4 * 1024 * 1024
MAX_CHECKPOINTS = 64
MAX_CHECKPOINTS_BYTES = 2 * 1024 * 1024

QueryName = Literal[
    "positions",
    "collateral",
    "instruments",
    "accounts",
    "marks",
    "board",
    "breaks",
    "frontier",
    "status",
    "members",
    "digest",
    "heard",
    "orders",
    "matches",
    "fresh",
]


class _Request(msgspec.Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    pass


class _Named(msgspec.Struct):
    """Of a request only what it is called."""

    type: str


class Query(_Request, frozen=True):
    """Read a view. ``account`` and ``instrument`` narrow rows down; empty means all."""

    view: QueryName
    account: str = ""
    instrument: str = ""


class Book(_Request, frozen=True):
    """The book of an instrument: its ``depth`` best levels of each side, how much of them is of ``account``, and that account's orders."""

    instrument: str
    account: str = ""
    depth: int = 10


class Chain(_Request, frozen=True):
    """The options on ``underlying`` by expiry and strike, with the best prices of each."""

    underlying: str


class Record(_Request, frozen=True):
    """Record facts written as JSON objects (see ``crdtledger.ledger.text``), all in one call."""

    facts: list[dict[str, Any]]


class Columns(_Request, frozen=True):
    """Record columns of fills. Arrays travel as little-endian bytes; see ``pack_fills``."""

    venue: str
    instrument: str
    id_space: str
    leg: str
    trade_id: memoryview
    price: memoryview
    qty: memoryview
    side: memoryview
    account: memoryview
    accounts: list[str]
    ts_us: memoryview
    fee: memoryview | None = None
    fee_asset: memoryview | None = None
    fee_assets: list[str] = []
    text_ids: list[str] | None = None
    cursor: Cursor | None = None


class CursorOf(_Request, frozen=True):
    """How far this node's lanes have imported ``source``."""

    source: str


class Trace(_Request, frozen=True):
    """The facts behind a figure: those of ``account`` in ``subject`` (an instrument, or an asset), those that go by ``name``, as breaks
    call fills and busts, or fills and busts whose ids are of ``id_space``. At least one is given."""

    account: str = ""
    subject: str = ""
    name: str = ""
    id_space: str = ""


class Told(_Request, frozen=True):
    """Whether fills, given as JSON objects, are settled: the answer is ``same``, ``other`` (terms), ``forgotten``
    (it happened before the floor of ids) or empty for each."""

    fills: list[dict[str, Any]]


class Notes(_Request, frozen=True):
    """Everything that was noted on the board about a break, oldest first."""

    break_id: str


class BoardDocument(_Request, frozen=True):
    """The board as one Yjs update: the answer is its bytes."""


class Watch(_Request, frozen=True):
    """Answer when the durable frontier's digest is not ``seen`` any more, or after ``timeout_ms``."""

    seen: bytes
    timeout_ms: int


class Links(_Request, frozen=True):
    """For drills: drop everything from and to the peers in ``block``; an empty list heals."""

    block: list[str]


class Backup(_Request, frozen=True):
    """Copy the journal, consistently and while the node runs, to a new file on the node's machine."""

    path: str


class Prove(_Request, frozen=True):
    """What ``account`` has at the newest certified height, as a proof file (``reconcile.proofs``): the answer is its bytes.

    ``liabilities`` adds the sum trees' paths, which show totals of other accounts. ``absent``: an account that nobody defined is
    no mistake; prove that it has nothing.
    """

    account: str
    liabilities: bool = False
    absent: bool = False


class Checkpoints(_Request, frozen=True):
    """What the node's checkpoint store holds from height ``first`` on, at most ``MAX_CHECKPOINTS`` heights at a time: the
    answer is ``pack_checkpoints``' rows, none at the end."""

    first: int


class Fork(_Request, frozen=True):
    """For drills: sign two batches for one place of this node's lane and show some peers one and the others the other.

    ``node`` names who is meant, so that a mistaken target harms nobody: the lane is lost for ever.
    """

    node: str


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """What travels between client and node: a number that the client chose, and a request's or an answer's bytes."""

    number: int
    body: bytes


class Opened(msgspec.Struct, frozen=True, array_like=True):
    """A frame that came. ``body`` is a part of the bytes that it came in, not copied out of them."""

    number: int
    body: memoryview


class Answer(msgspec.Struct, frozen=True):
    """A good answer (``error`` empty) or a refusal: a code of ``crdtledger.errors``, its message and attributes."""

    value: Any = None
    error: str = ""
    message: str = ""
    attributes: dict[str, Any] = {}


Local: TypeAlias = Links | Backup | Checkpoints
"""Requests that concern the process and its files, and not the ledger."""

Request: TypeAlias = (
    Query
    | Book
    | Chain
    | Record
    | Columns
    | CursorOf
    | Trace
    | Told
    | Notes
    | BoardDocument
    | Watch
    | Prove
    | Fork
    | Local
)

_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_local_requests: msgspec.msgpack.Decoder[Local] = msgspec.msgpack.Decoder(Local)
_LOCAL = {kind.__struct_config__.tag for kind in get_args(Local)}
_named = msgspec.msgpack.Decoder(_Named)
_CheckpointRows: TypeAlias = list[tuple[int, bytes, bytes, bytes, bytes, bytes, int]]
_answers = msgspec.msgpack.Decoder(Answer)
_frames = msgspec.msgpack.Decoder(Opened)
_FRONT = struct.Struct(">BBQBI")
_TWO, _LONG_NUMBER, _LONG_BYTES = 0x92, 0xCF, 0xC6
"""What msgpack writes before two things, before a number of eight bytes, and before bytes whose length takes four."""
_encoder = msgspec.msgpack.Encoder()


def encode_frame(frame: Frame) -> bytes:
    """The bytes of a frame."""
    return _encoder.encode(frame)


def encode_asked(number: int, request: Request, room: bytearray) -> None:
    """The bytes of a frame with a request, in place of what ``room`` held. A request is long: memory that was written to before takes
    it in less time than new one, and it is copied no second time."""
    _encoder.encode_into(request, room, _FRONT.size)
    _FRONT.pack_into(room, 0, _TWO, _LONG_NUMBER, number, _LONG_BYTES, len(room) - _FRONT.size)


def decode_frame(raw: bytes | memoryview) -> Opened | None:
    """The frame, or None when the bytes are none."""
    try:
        return _frames.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_request(request: Request) -> bytes:
    """The bytes of a request."""
    return _encoder.encode(request)


def decode_request(raw: bytes | memoryview) -> Request:
    """The request, or ``BadInput``."""
    try:
        return _requests.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(what="request", where="client", why=str(error)) from None


def decode_local(raw: bytes | memoryview) -> Local | None:
    """The request if it concerns the process and not the ledger, else None: the core will say what is wrong with it."""
    try:
        # Its name first: to be told by an exception that it is another one takes longer, and most are.
        return _local_requests.decode(raw) if _named.decode(raw).type in _LOCAL else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode_answer(value: Any) -> bytes:
    """The bytes of a good answer."""
    return _encoder.encode(Answer(value))


def encode_error(error: LedgerError) -> bytes:
    """The bytes of a refusal. Integers that msgpack cannot carry travel as text."""
    attributes = {name: _portable(value) for name, value in error.attributes.items()}
    return _encoder.encode(Answer(None, error.code, str(error), attributes))


def _portable(value: Any) -> Any:
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _portable(item) for key, item in value.items()}
    return value


def decode_answer(raw: bytes | memoryview) -> Any:
    """The answer's value; a refusal is raised as the very error that the node raised."""
    answer = _answers.decode(raw)
    if answer.error:
        raise _rebuild(answer)
    return answer.value


def _rebuild(answer: Answer) -> LedgerError:
    for kind in _error_kinds(LedgerError):
        if kind.code == answer.error:
            try:
                return kind(**answer.attributes)
            except TypeError:
                break
    return BadInput(what=answer.error, where="node", why=answer.message)


def _error_kinds(base: type[LedgerError]) -> list[type[LedgerError]]:
    return [base, *(kind for child in base.__subclasses__() for kind in _error_kinds(child))]


def pack_fills(fills: FillColumns, cursor: Cursor | None) -> Columns:
    """Columns as a request. They are not copied: who hands them over leaves them alone until the request is sent."""

    def raw(column: npt.NDArray[Any], dtype: str) -> memoryview:
        return np.ascontiguousarray(column, dtype).view(np.uint8).data

    def perhaps(column: npt.NDArray[Any] | None) -> memoryview | None:
        return None if column is None else raw(column, "<i8")

    return Columns(
        venue=fills.venue,
        instrument=fills.instrument,
        id_space=fills.id_space,
        leg=fills.leg,
        trade_id=raw(fills.trade_id, "<u8"),
        price=raw(fills.price, "<i8"),
        qty=raw(fills.qty, "<i8"),
        side=raw(fills.side, "i1"),
        account=raw(fills.account, "<i8"),
        accounts=list(fills.accounts),
        ts_us=memoryview(b"") if fills.ts_us is None else raw(fills.ts_us, "<i8"),
        fee=perhaps(fills.fee),
        fee_asset=perhaps(fills.fee_asset),
        fee_assets=list(fills.fee_assets),
        text_ids=None if fills.text_ids is None else list(fills.text_ids),
        cursor=cursor,
    )


def unpack_fills(request: Columns) -> FillColumns:
    """The columns of a request, or ``BadInput`` when their lengths do not agree."""
    rows = len(request.side)
    wide = {
        "trade_id": "<u8",
        "price": "<i8",
        "qty": "<i8",
        "account": "<i8",
        "ts_us": "<i8",
        "fee": "<i8",
        "fee_asset": "<i8",
    }
    arrays: dict[str, Any] = {}
    for field, dtype in wide.items():
        raw = getattr(request, field)
        if raw is None or (field == "ts_us" and not raw):
            arrays[field] = None
            continue
        if len(raw) != 8 * rows:
            raise BadInput(what=field, where="columns", why=f"{len(raw)} bytes for {rows} rows of 8")
        arrays[field] = np.frombuffer(bytes(raw), dtype)  # numbers that lie across words are slow to reckon with
    if request.text_ids is not None and len(request.text_ids) != rows:
        raise BadInput(what="text_ids", where="columns", why=f"{len(request.text_ids)} for {rows} rows")
    side = np.frombuffer(request.side, "i1")
    if not (np.abs(side) == 1).all():
        raise BadInput(what="side", where="columns", why="+1 bought or -1 sold")
    return FillColumns(
        venue=request.venue,
        instrument=request.instrument,
        id_space=request.id_space,
        leg=request.leg,
        side=side,
        accounts=request.accounts,
        fee_assets=request.fee_assets,
        text_ids=request.text_ids,
        **arrays,
    )


def pack_checkpoints(stored: Iterable[StoredCheckpoint]) -> list[tuple[Any, ...]]:
    """The answer to ``Checkpoints``: as many as fit, and one at least if there is one."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    for one in stored:
        size += len(one.body) + len(one.adjustments) + len(one.certificate)
        if rows and size > MAX_CHECKPOINTS_BYTES:
            break
        rows.append(msgspec.structs.astuple(one))
    return rows


def unpack_checkpoints(rows: Any) -> list[StoredCheckpoint]:
    """The checkpoints of an answer. They are as true as the node that sent them: ``reconcile.history`` judges. Raises BadInput."""
    try:
        return [StoredCheckpoint(*row) for row in msgspec.convert(rows, _CheckpointRows)]
    except msgspec.ValidationError as error:
        raise BadInput(what="checkpoints", where="answer", why=str(error)) from None
