"""Evidence convicts whom it should, anybody can check it, and no byte of it can change."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.bindings import crypto_scalarmult_ed25519_base_noclamp

from crdtledger.errors import BadInput
from crdtledger.ledger.identity import digest
from reconcile.evidence import Evidence, Offence, contradiction, decode_evidence, encode_evidence
from reconcile.quorum import Committee, Validator
from reconcile.votejournal import VoteRecord, encode_record, first_height_after_restore, read_records
from reconcile.votekeeper import Kept, VoteKeeper
from reconcile.votes import (
    NIL,
    NO_ROUND,
    Bundle,
    Kind,
    Malformed,
    Proposal,
    Summary,
    SummaryRow,
    Vote,
    decode,
    encode,
    sign,
    value_id,
    vote_fault,
)
from tests.reconcile.agreement_simulation import committee_of_weights, identity_of
from tests.reconcile.transcript import signed

FOUR = committee_of_weights((1, 1, 1, 1))
A, B = value_id(b"A"), value_id(b"B")


def vote(kind: Kind, round: int, id: bytes, vr: int = NO_ROUND, voter: int = 1, height: int = 1) -> Vote:
    return signed(FOUR, (kind, height, round, id, vr, voter))


GUILTY = {
    "two prevotes": (vote(Kind.PREVOTE, 0, A), vote(Kind.PREVOTE, 0, B), Offence.DOUBLE_VOTE),
    "a value and nil": (vote(Kind.PREVOTE, 0, A), vote(Kind.PREVOTE, 0, NIL), Offence.DOUBLE_VOTE),
    "two precommits": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PRECOMMIT, 2, NIL), Offence.DOUBLE_VOTE),
    "two vr": (vote(Kind.PREVOTE, 3, A, 1), vote(Kind.PREVOTE, 3, A, 2), Offence.DOUBLE_VOTE),
    "two proposals": (vote(Kind.PROPOSAL, 0, A), vote(Kind.PROPOSAL, 0, B), Offence.DOUBLE_PROPOSAL),
    "one proposal, two vr": (vote(Kind.PROPOSAL, 4, A, 1), vote(Kind.PROPOSAL, 4, A), Offence.DOUBLE_PROPOSAL),
    "a forgotten lock": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PREVOTE, 3, B), Offence.AMNESIA),
    "a lock older than vr says": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PREVOTE, 5, B, 1), Offence.AMNESIA),
    "a forgotten valid value": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PROPOSAL, 4, B, 1), Offence.AMNESIA),
}

INNOCENT = {
    "the same twice": (vote(Kind.PREVOTE, 0, A), vote(Kind.PREVOTE, 0, A)),
    "a prevote and a precommit": (vote(Kind.PREVOTE, 0, A), vote(Kind.PRECOMMIT, 0, NIL)),
    "two rounds": (vote(Kind.PREVOTE, 0, A), vote(Kind.PREVOTE, 1, B)),
    "two heights": (vote(Kind.PREVOTE, 0, A), vote(Kind.PREVOTE, 0, B, height=2)),
    "two voters": (vote(Kind.PREVOTE, 0, A), vote(Kind.PREVOTE, 0, B, voter=2)),
    "a lock released by a later polka": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PREVOTE, 4, B, 3)),
    "a lock and a polka of its own round": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PREVOTE, 4, B, 2)),
    "a lock kept": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PREVOTE, 4, A, 2)),
    "nil after a lock": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PREVOTE, 3, NIL)),
    "another value before the lock": (vote(Kind.PREVOTE, 1, B), vote(Kind.PRECOMMIT, 2, A)),
    "a nil precommit locks nothing": (vote(Kind.PRECOMMIT, 2, NIL), vote(Kind.PREVOTE, 3, B)),
    "a lock that moved": (vote(Kind.PRECOMMIT, 2, A), vote(Kind.PRECOMMIT, 3, B)),
}


@pytest.mark.parametrize("name", GUILTY)
def test_evidence_convicts_in_either_order_and_travels(name: str) -> None:
    one, other, offence = GUILTY[name]
    evidence = contradiction(one, other)
    assert evidence == contradiction(other, one)
    assert evidence is not None
    assert evidence.offence is offence
    assert decode_evidence(encode_evidence(evidence), FOUR) == evidence


@pytest.mark.parametrize("name", INNOCENT)
def test_what_an_honest_validator_may_sign_is_no_evidence(name: str) -> None:
    one, other = INNOCENT[name]
    assert contradiction(one, other) is None
    for pair in ((one, other), (other, one)):
        assert isinstance(decode_evidence(encode_evidence(Evidence(*pair)), FOUR), Malformed)


@pytest.mark.parametrize("name", GUILTY)
def test_no_byte_of_evidence_can_change(name: str) -> None:
    evidence = contradiction(*GUILTY[name][:2])
    assert evidence is not None
    raw = encode_evidence(evidence)
    for at in range(len(raw)):
        for flip in (1, 128):
            changed = bytearray(raw)
            changed[at] ^= flip
            assert isinstance(decode_evidence(bytes(changed), FOUR), Malformed)
    for cut in (raw[:-1], raw + b"\0", b"", raw * 9):
        assert isinstance(decode_evidence(cut, FOUR), Malformed)


def test_evidence_holds_in_its_own_cluster_only() -> None:
    evidence = contradiction(*GUILTY["two prevotes"][:2])
    assert evidence is not None
    elsewhere = Committee(bytes(32), FOUR.validators)
    assert isinstance(decode_evidence(encode_evidence(evidence), elsewhere), Malformed)


def test_votes_signed_by_another_frame_nobody() -> None:
    """Voter 2 signs what it says voter 1 said."""
    honest = vote(Kind.PREVOTE, 0, A)
    forged = sign(identity_of(2), FOUR, (Kind.PREVOTE, 1, 0, B, NO_ROUND, 1))
    evidence = contradiction(honest, forged)
    assert evidence is not None
    assert isinstance(decode_evidence(encode_evidence(evidence), FOUR), Malformed)


def test_one_statement_under_two_good_signatures_is_no_evidence() -> None:
    """Ed25519 as everybody uses it draws its nonce from the message; a signer who likes can use another."""
    first = vote(Kind.PREVOTE, 0, A)
    second = msgspec.structs.replace(first, signature=signed_otherwise(first))
    assert first.signature != second.signature
    assert not vote_fault(second, FOUR)
    assert contradiction(first, second) is None
    keeper = VoteKeeper(FOUR, 1)
    assert keeper.add(first).new
    assert keeper.add(second) == Kept(False)


def signed_otherwise(one: Vote) -> bytes:
    """RFC 8032, section 5.1.6, with the nonce 7."""
    message = digest("agreement-vote", FOUR.cluster, msgspec.msgpack.encode(one.statement))
    hashed = hashlib.sha512(hashlib.sha256(b"validator %d" % one.voter).digest()).digest()
    secret = int.from_bytes(hashed[:32], "little") & ((1 << 254) - 8) | (1 << 254)
    order = 2**252 + 27742317777372353535851937790883648493
    point = crypto_scalarmult_ed25519_base_noclamp((7).to_bytes(32, "little"))
    key = FOUR.validators[one.voter].key
    challenge = int.from_bytes(hashlib.sha512(point + key + message).digest(), "little")
    return point + ((7 + challenge * secret) % order).to_bytes(32, "little")


# -- messages

PREVOTES = tuple(vote(Kind.PREVOTE, 0, A, voter=voter) for voter in range(3))
MESSAGES = (
    vote(Kind.PREVOTE, 3, A, 2),
    Proposal(vote(Kind.PROPOSAL, 0, A), b"A"),
    Bundle(PREVOTES, b"A"),
    Summary(7, 2, (SummaryRow(0, (A,), b"\x0f", b"", (A,), ()),)),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_survive_their_own_encoding_and_no_changed_byte_stays_a_vote(message: Vote) -> None:
    raw = encode(message)
    assert decode(raw) == message
    for at in range(len(raw)):
        changed = decode(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        if isinstance(changed, Vote):
            assert vote_fault(changed, FOUR)
        elif isinstance(changed, Proposal):
            assert vote_fault(changed.vote, FOUR) or value_id(changed.value) != changed.vote.value_id


@given(st.binary(max_size=300))
def test_hostile_bytes_are_refused_or_read_and_never_raise(raw: bytes) -> None:
    assert isinstance(decode(raw), Malformed | Summary | Vote | Proposal | Bundle)
    assert isinstance(decode_evidence(raw, FOUR), Malformed)


def test_other_spellings_of_a_vote_are_refused() -> None:
    raw = encode(vote(Kind.PREVOTE, 0, A))
    assert raw[2] == Kind.PREVOTE
    longer = raw[:2] + b"\xcc" + raw[2:]  # the same number in two bytes
    assert isinstance(decode(longer), Malformed)


# -- the validator's own records


def lock_record() -> VoteRecord:
    return VoteRecord(vote(Kind.PRECOMMIT, 0, A, voter=1), b"A", PREVOTES)


def test_records_read_back_in_order() -> None:
    records = [VoteRecord(vote(Kind.PREVOTE, 0, A)), lock_record(), VoteRecord(vote(Kind.PREVOTE, 1, NIL))]
    assert read_records(map(encode_record, records), FOUR, 1) == records


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ([b"\x00"], "Expected"),
        ([encode_record(VoteRecord(vote(Kind.PREVOTE, 0, A, voter=2)))], "validator 2's"),
        ([encode_record(VoteRecord(vote(Kind.PRECOMMIT, 0, A), b"B", PREVOTES))], "value"),
        ([encode_record(VoteRecord(vote(Kind.PRECOMMIT, 0, A), b"A"))], "without a polka"),
        ([encode_record(VoteRecord(vote(Kind.PRECOMMIT, 1, A), b"A", PREVOTES))], "something else"),
        ([encode_record(VoteRecord(vote(Kind.PRECOMMIT, 0, A), b"A", PREVOTES[:2]))], "too few"),
        ([encode_record(VoteRecord(vote(Kind.PREVOTE, 0, id))) for id in (A, B)], "contradicts"),
    ],
)
def test_a_journal_of_votes_that_does_not_hold_is_not_voted_from(records: list[bytes], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        read_records(records, FOUR, 1)


def test_a_restored_validator_waits_for_a_decision_above_all_its_old_self_may_have_voted_on() -> None:
    assert first_height_after_restore([4, 5, 5]) == 7


def test_a_stranger_checks_evidence_with_names_and_keys_alone() -> None:
    evidence = contradiction(*GUILTY["a forgotten lock"][:2])
    assert evidence is not None
    members = tuple(Validator(member.name, member.key) for member in FOUR.validators)
    assert decode_evidence(encode_evidence(evidence), Committee(FOUR.cluster, members)) == evidence
