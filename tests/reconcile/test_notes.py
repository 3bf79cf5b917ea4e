"""Signed notes: other people's vectors, and what is refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput, InvalidProof
from reconcile.notes import (
    COSIGNATURE,
    ED25519,
    Note,
    SignatureLine,
    VerifierKey,
    cosign,
    decode_base64,
    open_note,
    parse_note,
    parse_vkey,
    sign,
)

from .signers import NOON_S, identity

# golang.org/x/mod/sumdb/note, the package's own example.
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GO_NOTE = f"{GO_TEXT}\n— PeterNeumann {GO_SIGNATURE}\n".encode()

TEXT = "one\n\ntwo\n"
ALICE = VerifierKey("alice.example", identity("alice").public_key, COSIGNATURE)
ALICE_PLAIN = VerifierKey("alice.example", identity("alice").public_key, ED25519)
BOB = VerifierKey("bob.example", identity("bob").public_key, ED25519)


def alice(time_s: int = NOON_S, text: str = TEXT) -> SignatureLine:
    return cosign(text, ALICE.name, identity("alice"), time_s)


def bob(text: str = TEXT) -> SignatureLine:
    return sign(text, BOB.name, identity("bob"))


def note(*lines: SignatureLine, text: str = TEXT) -> bytes:
    return Note(text, lines).encode()


def refused(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidProof, match=why):
        open_note(raw, [ALICE, BOB])


def test_the_note_of_the_go_package_opens_and_its_key_is_written_alike() -> None:
    key = parse_vkey(GO_VKEY)
    assert (key.name, key.type, key.vkey()) == ("PeterNeumann", ED25519, GO_VKEY)
    opened = open_note(GO_NOTE, [key])
    assert opened.text == GO_TEXT
    assert opened.keys() == {key}
    assert parse_note(GO_NOTE).encode() == GO_NOTE


def test_every_changed_byte_of_the_go_note_is_refused() -> None:
    key = parse_vkey(GO_VKEY)
    for place in range(len(GO_NOTE)):
        for flip in (1, 0x20, 0x80, 0xFF):
            changed = GO_NOTE[:place] + bytes([GO_NOTE[place] ^ flip]) + GO_NOTE[place + 1 :]
            with pytest.raises(InvalidProof):
                open_note(changed, [key])


def test_both_types_sign_one_text_and_say_who_and_when() -> None:
    opened = open_note(note(alice(7), bob()), [ALICE, BOB])
    assert [(signer.key, signer.time_s) for signer in opened.signers] == [(ALICE, 7), (BOB, None)]
    assert (opened.text, opened.unknown) == (TEXT, 0)


def test_unknown_keys_are_ignored_even_in_a_known_name_or_with_a_known_id() -> None:
    same_name = SignatureLine(BOB.name, b"\0\0\0\0", bytes(64))
    same_id = SignatureLine("mallory.example", BOB.key_id, bytes(64))
    opened = open_note(note(same_name, bob(), same_id, alice()), [BOB])
    assert opened.keys() == {BOB}
    assert opened.unknown == 3
    refused(note(same_name, same_id), "no known key")


def test_one_key_serves_two_types_without_being_mistaken() -> None:
    assert ALICE.key_id != ALICE_PLAIN.key_id
    opened = open_note(note(alice()), [ALICE, ALICE_PLAIN])
    assert opened.keys() == {ALICE}
    # The bytes of one type under the id of the other.
    moved = SignatureLine(ALICE.name, ALICE_PLAIN.key_id, alice().blob)
    with pytest.raises(InvalidProof, match="no Ed25519 signature"):
        open_note(note(moved), [ALICE_PLAIN])


def test_a_known_key_that_fails_rejects_the_whole_note() -> None:
    refused(note(alice(), bob("another\n")), "signature 2 .* not this key's")
    late = SignatureLine(ALICE.name, ALICE.key_id, (NOON_S + 1).to_bytes(8, "big") + alice().blob[8:])
    refused(note(bob(), late), "not this key's")
    never = SignatureLine(ALICE.name, ALICE.key_id, (2**63).to_bytes(8, "big") + alice().blob[8:])
    refused(note(never), "beyond")
    refused(note(SignatureLine(BOB.name, BOB.key_id, bob().blob[:-1])), "no Ed25519 signature")


def test_keys_are_counted_not_lines() -> None:
    opened = open_note(note(alice(1), alice(2), bob()), [ALICE, BOB])
    assert opened.keys() == {ALICE, BOB}
    assert len(opened.signers) == 3
    refused(note(bob(), bob()), "stands twice")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no empty line"),
        (b"text\n", "no empty line"),
        (b"text\n\n", "no signature line"),
        (note(bob())[:-1], "no signature line"),
        (note(bob()) + b"\n", "no signature line"),
        (note(bob()) + b"x\n", "em dash"),
        (note(bob()).replace("— ".encode(), b"- "), "em dash"),
        (note(bob()).replace(b"one", b"o\te"), "control"),
        (note(bob()).replace(b"\n", b"\r\n"), "control"),
        (note(bob()).replace(b"one", b"\xff\xfe"), "UTF-8"),
        (note(bob()).replace(b"bob.example", b"bob+example"), "plus"),
        (note(bob()).replace(b"bob.example", "bob\u00a0example".encode()), "space"),
        (note(bob()).replace(b"bob.example ", b" "), "empty"),
        (b"text\n\n" + "— bob.example\n".encode(), "nothing follows"),
        (note(bob()).replace(b"==\n", b"\n").replace(b"=\n", b"\n"), "base64"),
        (note(bob()).replace(b"bob.example ", b"bob.example  "), "base64"),
        (note(SignatureLine("bob.example", BOB.key_id, b"")), "no signature after"),
        (b"x" * (1 << 20) + note(bob()), "more than"),
        (note(*[SignatureLine(f"w{i}", bytes(4), bytes(64)) for i in range(257)]), "more than"),
    ],
)
def test_what_is_not_exactly_a_note_is_refused(raw: bytes, why: str) -> None:
    refused(raw, why)


def test_sixteen_signatures_and_more_are_welcome() -> None:
    strangers = [SignatureLine(f"w{i}", bytes(4), bytes(64)) for i in range(100)]
    assert open_note(note(*strangers, bob()), [BOB]).unknown == 100


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_be_refused(raw: bytes) -> None:
    with pytest.raises(InvalidProof):
        open_note(raw, [ALICE, BOB])
    with pytest.raises(InvalidProof):
        open_note(b"text\n\n" + raw, [ALICE, BOB])


@given(st.binary(min_size=1, max_size=40), st.data())
def test_base64_has_one_spelling(raw: bytes, data: st.DataObject) -> None:
    text = base64.b64encode(raw).decode()
    assert decode_base64(text, "here") == raw
    place = data.draw(st.integers(0, len(text) - 1))
    for other in (text[:place] + "\n" + text[place:], text[:place] + text[place + 1 :], text + "=", text + " "):
        with pytest.raises(InvalidProof):
            decode_base64(other, "here")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name",
        "name+00000000",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        GO_VKEY[:-4],
        GO_VKEY + "=",
        GO_VKEY.replace("+AR", "+Ah"),
        GO_VKEY + "\n",
    ],
)
def test_a_key_text_that_is_not_exact_is_refused(text: str) -> None:
    with pytest.raises(InvalidProof):
        parse_vkey(text)


def test_what_cannot_be_signed_or_known_is_refused_to_the_caller() -> None:
    for attempt in (
        lambda: alice(-1),
        lambda: alice(2**63),
        lambda: bob("no newline"),
        lambda: bob("tab\t\n"),
        lambda: VerifierKey("a b", bytes(32)),
        lambda: VerifierKey("a", bytes(31)),
        lambda: VerifierKey("a", bytes(32), 2),
    ):
        with pytest.raises(BadInput):
            attempt()
