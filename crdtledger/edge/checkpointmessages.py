"""What nodes say to each other about checkpoints beside their votes. They travel as ``App`` bodies on the channel ``checkpoint``.

Nothing in them is believed: a certificate is verified, a cosignature is verified, and a height that somebody claims costs a question.
Decoding raises msgspec's errors, which the core answers by counting and naming them.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from reconcile.votes import MAX_VALUE_BYTES, Height

MAX_SERVED: Final = 16
"""Checkpoints in one answer."""

MAX_SERVED_BYTES: Final = 2 << 20
MAX_CERTIFICATE_BYTES: Final = 1 << 18
MAX_LINES: Final = 16
COSIGNATURE_BYTES: Final = 8 + 64

MAX_ADJUSTMENTS_BYTES: Final = 1 << 20
"""Of one height in one answer; what is longer comes in parts of so many."""
PIECE_BYTES: Final = 1 << 20
MAX_PIECES: Final = 256
"""No larger image is given or taken: a peer that offers noise makes a node hold so much of it before it is seen to be noise."""
MAX_PARTED_BYTES: Final = MAX_PIECES * PIECE_BYTES
"""No longer adjustments are given or taken, for the same reason."""
MAX_PATH: Final = 64

HeightOrNone = Annotated[int, msgspec.Meta(ge=0, lt=2**48)]
Value = Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES)]
Certificate = Annotated[bytes, msgspec.Meta(max_length=MAX_CERTIFICATE_BYTES)]
Cosignature = Annotated[bytes, msgspec.Meta(min_length=COSIGNATURE_BYTES, max_length=COSIGNATURE_BYTES)]
Adjustments = Annotated[bytes, msgspec.Meta(max_length=MAX_ADJUSTMENTS_BYTES)]
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Piece = Annotated[bytes, msgspec.Meta(max_length=PIECE_BYTES)]
PieceNumber = Annotated[int, msgspec.Meta(ge=0, lt=MAX_PIECES)]
Weight = Annotated[int, msgspec.Meta(ge=0, le=MAX_PARTED_BYTES)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class Standing(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Where the sender stands: on checkpoint ``height``, certified up to ``certified``. Said to everybody once a second."""

    height: HeightOrNone
    certified: HeightOrNone


class CertifiedAsk(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Send me certified checkpoints from height ``first`` on."""

    first: Height


class CertifiedTell(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """(value, certificate) of the heights from ``first`` on, without a hole."""

    first: Height
    checkpoints: Annotated[tuple[tuple[Value, Certificate], ...], msgspec.Meta(max_length=MAX_SERVED)]


class Cosigned(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The sender's own cosignatures, as (height, time and signature), of heights whose certificate it lacks."""

    lines: Annotated[tuple[tuple[Height, Cosignature], ...], msgspec.Meta(max_length=MAX_LINES)]


class WorkingAsk(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Which height are you working at? My disk is an old one: I may not vote before I know. ``nonce`` is drawn for this question."""

    nonce: Nonce


class WorkingTell(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The answer to the question with this ``nonce``."""

    nonce: Nonce
    height: Height


class StateAsk(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Of which height above ``above`` can you give me the settled state?"""

    above: HeightOrNone


class StateOffer(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Of this one: its value, its certificate, the way of its record to the root of the certified log, and the digests of the pieces
    in which its image comes (``stateimage``)."""

    value: Value
    certificate: Certificate
    path: Annotated[tuple[Hash, ...], msgspec.Meta(max_length=MAX_PATH)]
    pieces: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=MAX_PIECES)]


class PieceAsk(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Send me piece ``number`` of the image of ``height``."""

    height: Height
    number: PieceNumber


class PieceTell(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """It is this."""

    height: Height
    number: PieceNumber
    content: Piece


class RecordsAsk(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """Send me what your store keeps of the heights from ``first`` on: mine lacks them. ``held``: bytes of the first one's adjustments
    that I have already."""

    first: Height
    held: Weight = 0


class RecordsTell(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """(value, adjustments, certificate) of the heights from ``first`` on, without a hole.

    ``whole`` other than 0: there is one, and its adjustments, of so many bytes, come in parts. This one stands behind ``held`` bytes."""

    first: Height
    records: Annotated[tuple[tuple[Value, Adjustments, Certificate], ...], msgspec.Meta(max_length=MAX_SERVED)]
    held: Weight = 0
    whole: Weight = 0


Transferring: TypeAlias = StateAsk | StateOffer | PieceAsk | PieceTell
CheckpointMessage: TypeAlias = (
    Standing
    | CertifiedAsk
    | CertifiedTell
    | Cosigned
    | WorkingAsk
    | WorkingTell
    | Transferring
    | RecordsAsk
    | RecordsTell
)

_decoder: msgspec.msgpack.Decoder[CheckpointMessage] = msgspec.msgpack.Decoder(CheckpointMessage)
_encoder = msgspec.msgpack.Encoder()


def decode_checkpoint_message(raw: bytes) -> CheckpointMessage:
    """A message on the channel ``checkpoint``."""
    return _decoder.decode(raw)


def encode_checkpoint_message(message: CheckpointMessage) -> bytes:
    """Its bytes."""
    return _encoder.encode(message)
