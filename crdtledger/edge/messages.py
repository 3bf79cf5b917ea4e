"""What node cores say to each other beside the gossip: asking for rights and for shares of orders, how far a lane goes, who holds which.

They travel as ``gossip.wire.App`` bodies on the channels ``rights``, ``orders`` and ``epoch``. The bytes are not trusted: decoding raises
msgspec's errors, which the core answers by counting and naming them.
"""

from __future__ import annotations

import msgspec

from crdtledger.edge.epochs import LaneAsk, LaneTell


class RightsAsk(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Please grant me up to ``amount``; my recent demand is ``demand``."""

    account: str
    asset: str
    amount: int
    demand: int


class RightsDenied(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Nothing to give."""

    account: str
    asset: str


class LaneClock(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """My lane goes up to ``seq``, and my clock says ``clock_us``."""

    lane: bytes
    seq: int
    clock_us: int


class ShareAsk(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """I would like to match ``qty`` of your order firmly: share it with me."""

    order: str
    qty: int


_rights: msgspec.msgpack.Decoder[RightsAsk | RightsDenied] = msgspec.msgpack.Decoder(RightsAsk | RightsDenied)
_epoch: msgspec.msgpack.Decoder[LaneAsk | LaneTell] = msgspec.msgpack.Decoder(LaneAsk | LaneTell)

_orders: msgspec.msgpack.Decoder[LaneClock | ShareAsk] = msgspec.msgpack.Decoder(LaneClock | ShareAsk)


def decode_rights(raw: bytes) -> RightsAsk | RightsDenied:
    """A message on the channel ``rights``."""
    return _rights.decode(raw)


def decode_epoch(raw: bytes) -> LaneAsk | LaneTell:
    """A message on the channel ``epoch``."""
    return _epoch.decode(raw)


def decode_orders(raw: bytes) -> LaneClock | ShareAsk:
    """A message on the channel ``orders``."""
    return _orders.decode(raw)
