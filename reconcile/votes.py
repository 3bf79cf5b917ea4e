"""What validators sign and send to each other while they agree on a height.

    statement = msgpack [kind, height, round, value id, vr, voter]
    signature = Ed25519(digest("agreement-vote", cluster, statement))         by the voter
    vote      = [40, kind, height, round, value id, vr, voter, signature]
    proposal  = [41, vote of kind PROPOSAL, value]          the value travels beside what is signed: its id is in it
    bundle    = [42, votes, value]                          a quorum of equal votes, to be taken whole
    summary   = [43, height, round, rows]                   what the sender holds; not signed, a request for the rest

Rules.

* A value is opaque bytes; its id is ``digest("agreement-value", value)``. Nil is the empty id.
* ``vr``, in a proposal: the round of the polka (a quorum of prevotes) that the proposer saw for this value, -1 for none,
  as in the paper. In a prevote for a value: the round of the polka *that this prevote rests on*: the greater of
  the proposal's vr and the voter's own locked round if it is locked on this very value. So an honest voter's vr is never
  below its locked round, which is what makes a forgotten lock provable (``reconcile.evidence``). In nil prevotes
  and in precommits, which rest on nothing but their own round, it is -1.
* Bytes are canonical: any other encoding of the same message is refused, so a vote has one spelling.
* ``decode`` and ``vote_fault`` never raise, whatever the bytes. ``decode`` judges form alone; ``vote_fault`` needs the
  committee and checks the signature. Who carried a frame here does not matter but for summaries.

A bundle exists because a voter that signs three votes for one slot can show each of us another pair of them. Whoever
has a quorum can always hand it over whole.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Final, TypeAlias

import msgspec

from crdtledger.ledger.identity import DIGEST_BYTES, SIGNATURE_BYTES, Identity, digest, verify

from .quorum import Committee

NIL: Final = b""
NO_ROUND: Final = -1
MAX_HEIGHT: Final = 2**48 - 1
MAX_ROUND: Final = 2**31 - 1
MAX_VALUE_BYTES: Final = 1 << 20
MAX_FRAME_BYTES: Final = MAX_VALUE_BYTES + (1 << 20)
MAX_BUNDLE: Final = 5_000
MAX_ROWS: Final = 256

Height = Annotated[int, msgspec.Meta(ge=1, le=MAX_HEIGHT)]
Round = Annotated[int, msgspec.Meta(ge=0, le=MAX_ROUND)]
ValidRound = Annotated[int, msgspec.Meta(ge=NO_ROUND, lt=MAX_ROUND)]
ValueId = Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
ValueIdOrNil = Annotated[bytes, msgspec.Meta(max_length=DIGEST_BYTES)]
Value = Annotated[bytes, msgspec.Meta(max_length=MAX_VALUE_BYTES)]
Ids = Annotated[tuple[ValueId, ...], msgspec.Meta(max_length=4)]
Bits = Annotated[bytes, msgspec.Meta(max_length=MAX_BUNDLE // 8 + 1)]


class Kind(IntEnum):
    """What a vote is a vote for. A proposal is signed like a vote."""

    PROPOSAL = 0
    PREVOTE = 1
    PRECOMMIT = 2


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=40):
    """One signed statement of one validator. ``voter`` is its place in the committee."""

    kind: Kind
    height: Height
    round: Round
    value_id: ValueIdOrNil
    vr: ValidRound
    voter: Annotated[int, msgspec.Meta(ge=0, lt=MAX_BUNDLE)]
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    @property
    def statement(self) -> tuple[int, int, int, bytes, int, int]:
        """What is signed, without the signature: two votes that state the same are the same vote."""
        return (int(self.kind), self.height, self.round, self.value_id, self.vr, self.voter)

    @property
    def slot(self) -> tuple[int, int, int, int]:
        """An honest validator fills each slot (height, round, kind, voter) once."""
        return (self.height, self.round, int(self.kind), self.voter)


class Proposal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=41):
    """A signed vote of kind PROPOSAL and the value whose id it names."""

    vote: Vote
    value: Value


class Bundle(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=42):
    """Votes of one kind, height, round and value by different voters who make a quorum, and the value if it is at hand."""

    votes: Annotated[tuple[Vote, ...], msgspec.Meta(min_length=1, max_length=MAX_BUNDLE)]
    value: Value = b""


class SummaryRow(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is held of one round: ids of proposals; bit per voter (little endian); ids that have a quorum."""

    round: Round
    proposals: Ids
    prevotes: Bits
    precommits: Bits
    polkas: Ids
    commits: Ids


class Summary(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=43):
    """Where the sender stands and what it holds of that height; ask for the rest by sending it."""

    height: Height
    round: Round
    rows: Annotated[tuple[SummaryRow, ...], msgspec.Meta(max_length=MAX_ROWS)] = ()


Message: TypeAlias = Vote | Proposal | Bundle | Summary


class Malformed(msgspec.Struct, frozen=True):
    """A refusal: ``what`` was read, ``where`` it fails, ``why``."""

    what: str
    where: str
    why: str


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)
UNDECODABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


def value_id(value: bytes) -> bytes:
    """The 32 bytes that name ``value``."""
    return digest("agreement-value", value)


def encode(message: Message) -> bytes:
    """The canonical bytes of ``message``."""
    return _encoder.encode(message)


def decode(frame: bytes) -> Message | Malformed:
    """The message that ``frame`` spells, or why it is refused. Judges form only."""
    what = f"{len(frame)} bytes"
    if len(frame) > MAX_FRAME_BYTES:
        return Malformed(what, "frame", f"longer than {MAX_FRAME_BYTES} bytes")
    try:
        message: Message = _decoder.decode(frame)
    except UNDECODABLE as fault:
        return Malformed(what, "frame", str(fault))
    if _encoder.encode(message) != frame:
        return Malformed(what, "frame", "not the canonical encoding of what it says")
    return message


def sign(identity: Identity, committee: Committee, statement: tuple[Kind, int, int, bytes, int, int]) -> Vote:
    """The vote that ``identity`` makes of (kind, height, round, value id, vr, voter)."""
    return Vote(*statement, identity.sign(_signed_bytes(committee, statement)))


def form_fault(vote: Vote, committee: Committee) -> str:
    """Why no honest validator of ``committee`` writes such a vote, signature aside; ``""`` if one may."""
    if vote.voter >= len(committee.validators):
        return f"voter {vote.voter} of {len(committee.validators)}"
    if len(vote.value_id) not in (0, DIGEST_BYTES):
        return f"a value id of {len(vote.value_id)} bytes"
    if vote.kind is Kind.PROPOSAL:
        if vote.value_id == NIL:
            return "a proposal of nothing"
        if committee.proposer(vote.height, vote.round) != vote.voter:
            return f"voter {vote.voter} does not propose at {vote.height}/{vote.round}"
    if vote.vr != NO_ROUND and (vote.kind is Kind.PRECOMMIT or vote.value_id == NIL):
        return f"vr {vote.vr} in a vote that rests on no earlier round"
    if vote.vr >= vote.round:
        return f"vr {vote.vr} is not before round {vote.round}"
    return ""


def vote_fault(vote: Vote, committee: Committee) -> str:
    """Why ``vote`` is not one of ``committee``'s, its signature included; ``""`` if it is."""
    fault = form_fault(vote, committee)
    if fault:
        return fault
    key = committee.validators[vote.voter].key
    if not verify(key, _signed_bytes(committee, vote.statement), vote.signature):
        return "the signature is not the voter's"
    return ""


def bundle_fault(bundle: Bundle, committee: Committee) -> str:
    """Why ``bundle`` proves no quorum, signatures included; ``""`` if it does."""
    first = bundle.votes[0]
    if first.kind is Kind.PROPOSAL:
        return "proposals make no quorum"
    if any(vote.slot[:3] != first.slot[:3] or vote.value_id != first.value_id for vote in bundle.votes):
        return "its votes are not for one thing"
    voters = [vote.voter for vote in bundle.votes]
    if voters != sorted(set(voters)):
        return "its voters are not in ascending order, each once"
    if voters[-1] >= len(committee.validators):
        return f"voter {voters[-1]} of {len(committee.validators)}"
    if not committee.is_quorum(committee.weigh(voters)):
        return "its voters are too few"
    if bundle.value and value_id(bundle.value) != first.value_id:
        return "its value is not the one voted for"
    return next(filter(None, (vote_fault(vote, committee) for vote in bundle.votes)), "")


def _signed_bytes(committee: Committee, statement: tuple[int, int, int, bytes, int, int]) -> bytes:
    return digest("agreement-vote", committee.cluster, _encoder.encode(statement))
