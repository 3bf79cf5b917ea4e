"""The frames that nodes exchange: one msgpack array per frame, ``[tag, field, field, ...]``, and nothing
around it.

Rules.

* A frame is decoded into exactly one message, or into ``Malformed``: what was read, where, and why it was
  refused. Nothing is raised, whatever the bytes; nothing larger than ``MAX_FRAME_BYTES`` is looked at.
* Fields are only ever added at the end. A reader takes the fields it knows and keeps the rest unread in
  ``extra``, and writes them back behind its own, so that a message relayed by an older node still says what
  a newer one said.
* A field added later has a default; a frame that ends before it is an older node's.
* Tags are never reused. Taken: 1-9, 16. A tag that came after the first version is sent only to peers whose
  ``Hello`` has its capability bit (``CAN_...``): to others it would be malformed. Kept free for what comes
  later: 17-23 tree dissemination, 24-31 membership (ping, ping through another, ack, suspicion), 32-39 snapshots, 40-47 votes.

What it is not: an authentication layer. Who sent a frame is the transport's word; whether a batch or a
piece of evidence is true is the replica's. ``App`` frames are not even looked into: they belong to whoever
owns the engine.

The encoding is MessagePack (github.com/msgpack/msgpack/blob/master/spec.md), by way of msgspec's array-like
structs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import msgspec

from gossip.replica import Head

MAX_FRAME_BYTES: Final = 4 * 1024 * 1024
"""The largest frame that is sent or read, in bytes. The transport refuses more before it is read at all."""

FRAME_OVERHEAD_BYTES: Final = 4096
"""What a frame may need beside its payload; batches are packed into ``MAX_FRAME_BYTES`` less this."""

MAX_BATCHES: Final = 1024
"""One frame is handled in one go: so many batches cost a few tenths of a second, and others wait no longer."""

MAX_LANES: Final = 16384
MAX_LANE_BYTES: Final = 128
MAX_EVIDENCE: Final = 4096
MAX_REASON_CHARS: Final = 1024
MAX_COUNT: Final = 2**63 - 1
"""The largest number that a frame may say. Sums of what peers say stop there: a figure has to fit somewhere."""
MAX_EXTRA: Final = 6
"""Additive fields kept per message. With the message's own they fit a one-byte array header (15 elements)."""

VERSION: Final = 1
"""The newest version of this protocol that this code speaks."""
MIN_VERSION: Final = 1
"""The oldest version of this protocol that this code speaks."""

CAN_PRUNE: Final = 1
"""Capability bit: this node takes ``Prune``."""

Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
HashOrNone = Annotated[bytes, msgspec.Meta(max_length=32)]
Lane = Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_LANE_BYTES)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Seq = Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)]
Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)]
Batches = Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_BATCHES)]
Extra: TypeAlias = tuple[msgspec.Raw, ...]


class LaneHead(msgspec.Struct, frozen=True, array_like=True):
    """One row of a frontier: ``lane`` ends at batch ``seq`` with ``hash``."""

    lane: Lane
    seq: Count
    hash: HashOrNone

    @property
    def head(self) -> Head:
        return Head(self.seq, self.hash)


class _Message(msgspec.Struct, frozen=True, array_like=True):
    """What all messages share: ``encode`` puts ``extra`` (fields of a newer version, unread) behind the
    known fields.
    """


class Hello(_Message, frozen=True, array_like=True, tag=1):
    """The first frame on a link, and again until the peer says that it holds ours.

    ``cluster`` is the hash of the genesis. ``capabilities`` is a bit set. ``nonce`` names the sender's
    incarnation (any number but 0); ``seen`` is the receiver's nonce as far as the sender has heard, 0 for
    not yet.
    """

    version: Annotated[int, msgspec.Meta(ge=1, lt=2**16)]
    min_version: Annotated[int, msgspec.Meta(ge=1, lt=2**16)]
    cluster: Hash
    capabilities: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    nonce: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    seen: Count = 0
    extra: Extra = ()


class Heads(_Message, frozen=True, array_like=True, tag=2):
    """What the sender holds durably.

    ``digest`` covers its whole frontier and the evidence it holds. ``lanes`` are the heads that changed,
    or, when ``complete``, all of them, with the ids of all evidence. ``asks`` means: your digest is not
    what I make of what you told me, send me everything.
    """

    digest: Hash
    lanes: Annotated[tuple[LaneHead, ...], msgspec.Meta(max_length=MAX_LANES)] = ()
    complete: bool = False
    evidence: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_EVIDENCE)] = ()
    asks: bool = False
    extra: Extra = ()


class Push(_Message, frozen=True, array_like=True, tag=3):
    """New batches, in lane order. A hint: whoever misses it learns from the heads."""

    batches: Batches
    extra: Extra = ()


class Want(_Message, frozen=True, array_like=True, tag=4):
    """Ask for batches ``first..last`` of ``lane`` where ``last`` has hash ``head`` (``b""``: whichever is
    held).

    At most ``max_bytes`` of batches in one answer; the asker asks again from where the answer ended.
    """

    request: Count
    lane: Lane
    first: Seq
    last: Seq
    head: HashOrNone
    max_bytes: Count
    extra: Extra = ()


class Range(_Message, frozen=True, array_like=True, tag=5):
    """The answer to a ``Want``: batches of ``lane`` from ``first`` on, without a hole; ``more``: the range
    goes on.
    """

    request: Count
    lane: Lane
    first: Seq
    batches: Batches
    more: bool
    extra: Extra = ()


class Busy(_Message, frozen=True, array_like=True, tag=6):
    """The answer to a ``Want`` that may be asked again in ``retry_after_ms``, here or elsewhere."""

    request: Count
    retry_after_ms: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    extra: Extra = ()


class Refused(_Message, frozen=True, array_like=True, tag=7):
    """The answer to a ``Want`` that will not be served (not held, pruned, another branch), or, as request
    0, to a ``Hello``.
    """

    request: Count
    reason: Reason
    extra: Extra = ()


class Evidence(_Message, frozen=True, array_like=True, tag=8):
    """Proofs of misbehaviour, opaque here. Whoever finds one new relays it to everybody."""

    pieces: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_EVIDENCE)]
    extra: Extra = ()


class App(_Message, frozen=True, array_like=True, tag=9):
    """A message of the engine's owner, carried on the same link under the same handshake. ``channel`` says
    whose.
    """

    channel: Annotated[str, msgspec.Meta(max_length=64)]
    body: bytes
    extra: Extra = ()


class Prune(_Message, frozen=True, array_like=True, tag=16):
    """Stop pushing batches to me: they reach me another way (``gossip.tree``). A ``Want`` takes it back."""

    extra: Extra = ()


Message: TypeAlias = Hello | Heads | Push | Want | Range | Busy | Refused | Evidence | App | Prune


class Malformed(msgspec.Struct, frozen=True):
    """A refused frame: ``what`` it looked like, ``where`` in it (a path), and ``why``."""

    what: str
    where: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why} at {self.where}"


_MESSAGES: Final[tuple[type[Message], ...]] = (Hello, Heads, Push, Want, Range, Busy, Refused, Evidence, App, Prune)
_BY_TAG: Final[dict[int, type[Message]]] = {int(kind.__struct_config__.tag or 0): kind for kind in _MESSAGES}
# Elements of a frame without additive fields: the tag and every field but `extra`.
_ARITY: Final[dict[type[Message], int]] = {kind: len(kind.__struct_fields__) for kind in _MESSAGES}
_encoder: Final = msgspec.msgpack.Encoder()
_decoders: Final = {kind: msgspec.msgpack.Decoder(kind) for kind in _MESSAGES}
_elements: Final = msgspec.msgpack.Decoder(tuple[msgspec.Raw, ...])
_FIXARRAY: Final = 0x90


def encode(message: Message) -> bytes:
    """The frame for ``message``, its additive fields last. The caller keeps within the limits above."""
    plain = message if not message.extra else msgspec.structs.replace(message, extra=())
    head = bytes((_FIXARRAY | (_ARITY[type(message)] + len(message.extra)),))
    if isinstance(plain, Push | Range):
        return b"".join((head, *_around_batches(plain), *message.extra))
    # msgspec wrote `extra` as an empty array (one byte) in last place: that place belongs to the additive
    # fields.
    return b"".join((head, memoryview(_encoder.encode(plain))[1:-1], *message.extra))


def _around_batches(message: Push | Range) -> list[bytes]:
    """The fields of a message that carries batches, in pieces: batches are long, and are copied once, into the
    frame.
    """
    bare = _encoder.encode(msgspec.structs.replace(message, batches=()))
    behind = 1 if isinstance(message, Range) else 0  # `more`; then `extra`
    count = len(message.batches)
    pieces = [bare[1 : -2 - behind], _encoder.encode((None,) * count)[: -count or None]]
    for batch in message.batches:
        pieces += [_bytes_head(len(batch)), batch]
    return [*pieces, bare[-1 - behind : -1]]


def _bytes_head(size: int) -> bytes:
    """What msgpack writes before so many bytes."""
    kind, width = (b"\xc4", 1) if size < 1 << 8 else (b"\xc5", 2) if size < 1 << 16 else (b"\xc6", 4)
    return kind + size.to_bytes(width, "big")


def decode(frame: bytes | memoryview) -> Message | Malformed:
    """The message in ``frame``, or why there is none. Never raises."""
    if len(frame) > MAX_FRAME_BYTES:
        return Malformed("frame", "$", f"{len(frame)} bytes, at most {MAX_FRAME_BYTES} are read")
    if len(frame) < 2 or frame[0] & 0xF0 != _FIXARRAY:
        return Malformed("frame", "$", "not an array of a tag and at most 14 fields")
    kind = _BY_TAG.get(frame[1])
    if kind is None:
        return Malformed("frame", "$[0]", f"unknown tag {frame[1]}")
    try:
        beyond = (frame[0] & 0x0F) - _ARITY[kind]
        if beyond <= 0:
            return _decoders[kind].decode(frame)
        return _decode_with_extra(kind, frame, beyond)
    except (msgspec.MsgspecError, RecursionError, MemoryError, ValueError, OverflowError) as refusal:
        return Malformed(kind.__name__, _path_of(refusal), _why(refusal))


def _decode_with_extra(kind: type[Message], frame: bytes | memoryview, beyond: int) -> Message | Malformed:
    if beyond > MAX_EXTRA:
        return Malformed(kind.__name__, "$", f"{beyond} additive fields, at most {MAX_EXTRA} are kept")
    elements = _elements.decode(frame)
    known, extra = elements[: _ARITY[kind]], elements[_ARITY[kind] :]
    plain = bytes([_FIXARRAY | len(known)]) + b"".join(bytes(element) for element in known)
    # `copy` detaches the kept fields from the frame, which would otherwise live as long as they do.
    return msgspec.structs.replace(_decoders[kind].decode(plain), extra=tuple(field.copy() for field in extra))


def _path_of(refusal: BaseException) -> str:
    _, found, path = str(refusal).rpartition(" - at `")
    return path.rstrip("`") if found else "$"


def _why(refusal: BaseException) -> str:
    if isinstance(refusal, RecursionError):
        return "nested too deeply"
    return str(refusal).partition(" - at `")[0] or type(refusal).__name__


def pack(batches: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """``batches`` in order, cut into runs that each fit one frame. A batch too large for any frame is left
    out.
    """
    limit = MAX_FRAME_BYTES - FRAME_OVERHEAD_BYTES
    runs: list[tuple[bytes, ...]] = []
    run: list[bytes] = []
    size = 0
    for batch in batches:
        cost = len(batch) + 5  # the longest byte-string header
        if cost > limit:
            break
        if run and (size + cost > limit or len(run) == MAX_BATCHES):
            runs.append(tuple(run))
            run, size = [], 0
        run.append(batch)
        size += cost
    if run:
        runs.append(tuple(run))
    return runs
