"""What a validator must remember of its own votes, and what one may do that cannot remember.

    record = msgpack [vote, value, polka]     what it signed, and for a precommit the value that it locked and why

- A vote is written down, whole, before it is sent. After a crash the very same bytes are sent again; a slot that is filled is never
  filled otherwise. Locks are not written: they are read off the precommits.
- A precommit's record carries the value's bytes and the polka that locked it. So whoever is locked on a value can propose it again
  *and show the others why*: one prevote of that polka may be a liar's, who will never repeat it, and without it nobody who is not
  locked would ever accept the value. And a quorum of precommits never stands for a value that all its voters have lost.
- A validator whose votes are lost (a restored disk) abstains until no vote of its old self can matter any more: see
  ``first_height_after_restore``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from crdtledger.errors import BadInput

from .quorum import Committee
from .votes import (
    MAX_BUNDLE,
    NIL,
    UNDECODABLE,
    Bundle,
    Kind,
    Proposal,
    Value,
    Vote,
    bundle_fault,
    value_id,
    vote_fault,
)

Polka = Annotated[tuple[Vote, ...], msgspec.Meta(max_length=MAX_BUNDLE)]


class VoteRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One thing that this validator signed. ``value``: a proposal's own, a precommit's locked one, else empty.
    ``polka``: the quorum of prevotes that a precommit for a value rests on, else empty."""

    vote: Vote
    value: Value = b""
    polka: Polka = ()

    @property
    def locks(self) -> bool:
        """Whether it is a precommit for a value."""
        return self.vote.kind is Kind.PRECOMMIT and self.vote.value_id != NIL

    @property
    def message(self) -> Vote | Proposal:
        """What was sent, or was about to be."""
        return Proposal(self.vote, self.value) if self.vote.kind is Kind.PROPOSAL else self.vote


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(VoteRecord)


def encode_record(record: VoteRecord) -> bytes:
    """The bytes to be made durable."""
    return _encoder.encode(record)


def read_records(raw: Iterable[bytes], committee: Committee, voter: int | None) -> list[VoteRecord]:
    """The records that were made durable, in the order given.

    Raises BadInput for a record that does not read, is not ``voter``'s, or contradicts another: such a journal is not this
    validator's own, and it must not vote from it.
    """
    records: list[VoteRecord] = []
    slots: dict[tuple[int, int, int, int], Vote] = {}
    for number, one in enumerate(raw, 1):
        where = f"vote record {number}"
        try:
            record = _decoder.decode(one)
        except UNDECODABLE as fault:
            raise BadInput(what=f"{len(one)} bytes", where=where, why=str(fault)) from None
        vote = record.vote
        why = vote_fault(vote, committee)
        if not why and vote.voter != voter:
            why = f"it is validator {vote.voter}'s"
        if not why and (vote.kind is Kind.PROPOSAL or record.locks) and value_id(record.value) != vote.value_id:
            why = "its value is not the one voted for"
        if not why and record.locks:
            why = _polka_fault(record, committee)
        if not why and slots.setdefault(vote.slot, vote) != vote:
            why = "it contradicts an earlier record"
        if why:
            raise BadInput(what=f"a vote at {vote.height}/{vote.round}", where=where, why=why)
        records.append(record)
    return records


def first_height_after_restore(working_heights: Iterable[int]) -> int:
    """The first height at which a validator that lost its votes may vote again.

    ``working_heights``: the height that each *other* validator says it is working at, asked for after the restore, of validators
    who together with the restored one weigh a quorum.

    Why: say the old self voted at height H. Then it held a decision of H - 1, so a quorum had precommitted there, and each honest one
    of them works at H - 1 or above ever since. The restored validator counts among the faulty. Its quorum of answers and that
    quorum share an honest validator other than itself. So H <= max + 1, and it votes from max + 2 on, once
    max + 1 is decided. A liar can only delay it.
    """
    return max(working_heights) + 2


def _polka_fault(record: VoteRecord, committee: Committee) -> str:
    """Why the polka of a locking precommit does not show what it must; ``""`` if it does."""
    if not record.polka:
        return "it locks without a polka"
    first = record.polka[0]
    rests_on = (first.height, first.round, first.kind, first.value_id)
    if rests_on != (record.vote.height, record.vote.round, Kind.PREVOTE, record.vote.value_id):
        return "its polka is for something else"
    return bundle_fault(Bundle(record.polka), committee)
