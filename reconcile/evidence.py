"""Evidence against a validator: two statements, both signed by it, that no honest validator signs both of.

A third party checks it with the genesis alone: form, both signatures, and one of these rules. At one height, by one voter:

*double proposal, double vote*
    Two different statements for one slot (height, round, kind). Nil against a value counts, and so does one value with two
    different vr: an honest validator writes each vote down before it sends it, and sends that one again after a crash.
    The same statement twice, even under two different signatures, is no evidence.

*amnesia*
    A precommit for value X in round r, and a prevote or a proposal for another value Y in a later round with vr < r.
    By precommitting, the voter locked X in r. Its locked round never falls, its vr is never below its locked round
    (``reconcile.votes``) and its valid round neither (Algorithm 1, L40-L43), so whatever it says later has vr >= r.

What is *not* provable from two signed statements, and not claimed: that a vr is a lie. Who prevotes Y with vr >= r says that
it saw a polka for Y in vr. If there was none, nobody signed its absence. But the lie gives itself away in company: two
decisions need, after r, a first round with a polka for another value than X; more than a third of all weight is in it and in
the quorum for X; each of those voters shows amnesia, or names a vr after r, where no such polka is, or names r itself, where a
second polka takes more than a third who voted twice. Whoever collects the votes of all rounds sees which. Nor can it be
proven that a voter abstained, or prevoted nil for no reason, or proposed what does not settle.

It does not punish and it does not decide: settlement and people do.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from .quorum import Committee
from .votes import NIL, UNDECODABLE, Kind, Malformed, Vote, vote_fault

MAX_EVIDENCE_BYTES: Final = 1024


class Offence(Enum):
    """What the two statements of a piece of evidence amount to."""

    DOUBLE_PROPOSAL = "double proposal"
    DOUBLE_VOTE = "double vote"
    AMNESIA = "amnesia"


class Evidence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Two votes of one validator in canonical order. Build it with ``contradiction``, read it with ``decode_evidence``."""

    first: Vote
    second: Vote

    @property
    def voter(self) -> int:
        """The place of the accused in the committee."""
        return self.first.voter

    @property
    def offence(self) -> Offence | None:
        """What the two statements amount to, signatures aside; None if both may be honest."""
        return _offence(self.first, self.second)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Evidence)


def contradiction(one: Vote, other: Vote) -> Evidence | None:
    """The evidence that two votes are, in either order; None if an honest validator may have signed both."""
    if _offence(one, other) is None and _offence(other, one) is None:
        return None
    first, second = sorted((one, other), key=_order)
    return Evidence(first, second)


def evidence_fault(evidence: Evidence, committee: Committee) -> str:
    """Why ``evidence`` proves nothing to somebody who knows ``committee`` only; ``""`` if it proves its offence."""
    if _order(evidence.first) > _order(evidence.second):
        return "its votes are not in canonical order"
    if evidence.offence is None:
        return "one honest validator may have signed both"
    return vote_fault(evidence.first, committee) or vote_fault(evidence.second, committee)


def encode_evidence(evidence: Evidence) -> bytes:
    """The canonical bytes of ``evidence``."""
    return _encoder.encode(evidence)


def decode_evidence(raw: bytes, committee: Committee) -> Evidence | Malformed:
    """The evidence that ``raw`` spells, fully checked, or why it is refused. Never raises, whatever the bytes."""
    what = f"{len(raw)} bytes of evidence"
    if len(raw) > MAX_EVIDENCE_BYTES:
        return Malformed(what, "evidence", f"longer than {MAX_EVIDENCE_BYTES} bytes")
    try:
        evidence = _decoder.decode(raw)
    except UNDECODABLE as fault:
        return Malformed(what, "evidence", str(fault))
    if _encoder.encode(evidence) != raw:
        return Malformed(what, "evidence", "not the canonical encoding of what it says")
    why = evidence_fault(evidence, committee)
    return Malformed(what, "evidence", why) if why else evidence


def _order(vote: Vote) -> tuple[int, int, bytes, int, bytes]:
    return (vote.round, int(vote.kind), vote.value_id, vote.vr, vote.signature)


def _offence(first: Vote, second: Vote) -> Offence | None:
    if first.voter != second.voter or first.height != second.height:
        return None
    if first.slot == second.slot:
        if first.statement == second.statement:
            return None
        return Offence.DOUBLE_PROPOSAL if first.kind is Kind.PROPOSAL else Offence.DOUBLE_VOTE
    if (
        first.kind is Kind.PRECOMMIT
        and second.kind is not Kind.PRECOMMIT
        and first.round < second.round
        and first.value_id != NIL
        and second.value_id not in (NIL, first.value_id)
        and second.vr < first.round
    ):
        return Offence.AMNESIA
    return None
