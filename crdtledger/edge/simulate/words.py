"""What node cores say to each other, put into a few words for a trace: ``prevote 5.0 3fa1`` is one for value 3fa1... at height 5, round 0.

Amounts are in minor units. Whatever the bytes: it never raises, and says the same of equal bytes.
"""

from __future__ import annotations

import msgspec

from crdtledger.edge import checkpointmessages as told
from crdtledger.edge.messages import RightsAsk, decode_epoch, decode_rights
from gossip import wire
from gossip.trace import describe_frame
from reconcile import votes

_SHOWN = 2


def describe(frame: bytes) -> str:
    """A frame in words."""
    message = wire.decode(frame)
    if not isinstance(message, wire.App):
        return describe_frame(frame)
    try:
        words = _of_channel(message.channel, message.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError):
        return f"{message.channel}, unreadable"
    return words or message.channel


def _of_channel(channel: str, body: bytes) -> str:
    if channel == "vote":
        return _vote(votes.decode(body))
    if channel == "checkpoint":
        return _checkpoint(told.decode_checkpoint_message(body))
    if channel == "rights":
        asked = decode_rights(body)
        return f"asks for {asked.amount} {asked.asset}" if isinstance(asked, RightsAsk) else "rights denied"
    if channel == "epoch":
        return _name(decode_epoch(body))
    return ""


def _vote(message: votes.Message | votes.Malformed) -> str:
    if isinstance(message, votes.Vote):
        value = message.value_id[:_SHOWN].hex() or "nil"
        return f"{message.kind.name.lower()} {message.height}.{message.round} {value}"
    if isinstance(message, votes.Proposal):
        return _vote(message.vote)
    if isinstance(message, votes.Bundle):
        return f"{len(message.votes)} votes: {_vote(message.votes[0])}"
    return f"summary {message.height}.{message.round}" if isinstance(message, votes.Summary) else "vote, unreadable"


def _checkpoint(message: told.CheckpointMessage) -> str:
    if isinstance(message, told.Standing):
        return f"at {message.height}, certified {message.certified}"
    if isinstance(message, told.CertifiedAsk):
        return f"asks from height {message.first}"
    if isinstance(message, told.CertifiedTell):
        return f"{len(message.checkpoints)} certified from {message.first}"
    if isinstance(message, told.Cosigned):
        return f"cosigned {', '.join(str(height) for height, _ in message.lines)}"
    return _name(message)


def _name(message: object) -> str:
    """``LaneAsk``: lane ask."""
    return "".join(f" {char.lower()}" if char.isupper() else char for char in type(message).__name__).strip()
