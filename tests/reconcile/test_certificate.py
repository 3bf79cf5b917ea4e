"""Certificates and the policies that judge them."""

from __future__ import annotations

from itertools import combinations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput, InvalidProof
from reconcile import notes
from reconcile.certificate import LogHead, assemble, normalize, open_certificate, open_head, parse_head
from reconcile.notes import Note, VerifierKey
from reconcile.policy import Group, Policy, parse_policy, quorum_of, quorum_threshold

from .signers import NODES, NOON_S, ORIGIN, cosignatures, identity, keys_of, policy_of

HEAD = LogHead(ORIGIN, 12, bytes(range(32)))


def refused(raw: bytes, why: str, policy: Policy | None = None) -> None:
    with pytest.raises(InvalidProof, match=why):
        open_certificate(raw, policy or policy_of(), ORIGIN)


def test_three_of_four_certify_and_the_certificate_names_them() -> None:
    raw = assemble(HEAD, cosignatures(HEAD)[:3], policy_of())
    certificate = open_certificate(raw, policy_of(), ORIGIN)
    assert certificate.head == HEAD
    assert [(s.key.name, s.time_s) for s in certificate.signers] == [
        (f"{ORIGIN}/node-{i}", NOON_S + i - 1) for i in (1, 2, 3)
    ]
    with pytest.raises(InvalidProof, match=r"2 of 4 witnesses cosigned \(node-1, node-2\)"):
        assemble(HEAD, cosignatures(HEAD)[:2], policy_of())


@given(st.integers(1, 30), st.data())
def test_a_quorum_is_more_than_two_thirds(count: int, data: st.DataObject) -> None:
    threshold = quorum_threshold(count)
    assert 3 * threshold > 2 * count >= 3 * (threshold - 1)
    keys = keys_of(tuple(f"v{i}" for i in range(count)))
    policy = quorum_of(keys)
    signed = data.draw(st.sets(st.sampled_from(sorted(keys))))
    assert policy.holds(keys[name] for name in signed) == (3 * len(signed) > 2 * count)


@given(st.permutations(cosignatures(HEAD) + cosignatures(HEAD, time_s=NOON_S + 60)))
def test_a_certificate_is_a_function_of_the_set_of_cosignatures(lines: list[notes.SignatureLine]) -> None:
    assert assemble(HEAD, lines, policy_of()) == assemble(HEAD, cosignatures(HEAD), policy_of())


def test_lines_of_strangers_and_liars_do_not_get_into_a_certificate() -> None:
    honest = cosignatures(HEAD)[:3]
    liar = msgspec.structs.replace(cosignatures(HEAD)[3], blob=bytes(72))
    stranger = cosignatures(HEAD, ("stranger",))
    assert assemble(HEAD, [liar, *stranger, *honest], policy_of()) == assemble(HEAD, honest, policy_of())


def test_a_note_with_strangers_is_normalized_before_it_is_a_certificate() -> None:
    lines = cosignatures(HEAD)
    mixed = Note(HEAD.text(), (*cosignatures(HEAD, ("stranger",)), *reversed(lines))).encode()
    refused(mixed, "not by keys of the policy")
    assert normalize(mixed, policy_of(), ORIGIN) == assemble(HEAD, lines, policy_of())
    refused(Note(HEAD.text(), tuple(reversed(lines))).encode(), "not sorted")
    twice = (lines[0], *cosignatures(HEAD, time_s=NOON_S + 9)[:1], *lines[1:])
    refused(Note(HEAD.text(), twice).encode(), "twice")
    head, opened = open_head(mixed, keys_of().values(), ORIGIN)
    assert (head, opened.unknown) == (HEAD, 1)


def test_two_cosignatures_count_once_however_often_they_are_repeated() -> None:
    names = NODES[:2]
    lines = [line for t in range(5) for line in cosignatures(HEAD, names, NOON_S + 10 * t)]
    with pytest.raises(InvalidProof, match="2 of 4"):
        normalize(Note(HEAD.text(), tuple(lines)).encode(), policy_of(), ORIGIN)


@pytest.mark.parametrize("flip", [1, 0x20, 0x80])
def test_no_byte_of_a_certificate_can_change(flip: int) -> None:
    raw = assemble(HEAD, cosignatures(HEAD)[:3], policy_of())
    for place in range(len(raw)):
        refused(raw[:place] + bytes([raw[place] ^ flip]) + raw[place + 1 :], ".")


def test_nothing_can_be_added_to_a_certificate_or_cut_from_it() -> None:
    raw = assemble(HEAD, cosignatures(HEAD)[:3], policy_of())
    for place in range(len(raw)):
        refused(raw[:place], ".")
        refused(raw[:place] + b"\n" + raw[place:], ".")
        refused(raw[:place] + b" " + raw[place:], ".")


def test_a_certificate_of_another_log_or_with_words_of_its_own_is_refused() -> None:
    raw = assemble(HEAD, cosignatures(HEAD), policy_of())
    with pytest.raises(InvalidProof, match="of the log"):
        open_certificate(raw, policy_of(), "ledger.example/other")
    wordy = msgspec.structs.replace(HEAD, extensions=("believe me",))
    assert parse_head(wordy.text()) == wordy
    refused(Note(wordy.text(), tuple(cosignatures(wordy))).encode(), "extension")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a\n1\n",
        "a\n\n1\n",
        "a\n01\n" + notes.encode_base64(bytes(32)) + "\n",
        "a\n+1\n" + notes.encode_base64(bytes(32)) + "\n",
        "a\n1_0\n" + notes.encode_base64(bytes(32)) + "\n",
        "a\n١\n" + notes.encode_base64(bytes(32)) + "\n",
        "a\n9223372036854775808\n" + notes.encode_base64(bytes(32)) + "\n",
        "a\n1\n" + notes.encode_base64(bytes(31)) + "\n",
        "a\n1\n" + notes.encode_base64(bytes(32)) + "\n\n",
        "a\n1\n" + notes.encode_base64(bytes(32)),
        "a b\n1\n" + notes.encode_base64(bytes(32)) + "\n",
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(InvalidProof):
        parse_head(text)


# -- policies ---------------------------------------------------------------------------------------------


def witness(name: str) -> VerifierKey:
    return keys_of((name,))[name]


def file_of(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


W = {name: f"witness {name} {witness(name).vkey()}" for name in ("X1", "X2", "X3", "Y1", "Y2", "Y3")}


def test_the_specifications_example_judges_as_it_says() -> None:
    policy = parse_policy(
        file_of(
            "# the example of c2sp.org/tlog-policy, with keys",
            *(W[name] for name in ("X1", "X2", "X3")),
            "",
            "\tgroup X-witnesses 2 X1 X2  X3 ",
            *(f"{W[name]} https://{name}.example" for name in ("Y1", "Y2", "Y3")),
            "group Y-witnesses any Y1 Y2 Y3",
            "group X-and-Y all X-witnesses Y-witnesses",
            "quorum X-and-Y",
        )
    )
    for count in range(7):
        for names in combinations(sorted(W), count):
            good = sum(name[0] == "X" for name in names) >= 2 and any(name[0] == "Y" for name in names)
            assert policy.holds(witness(name) for name in names) == good
    assert parse_policy(policy.encode()) == policy


def test_a_listed_log_must_have_signed_in_the_name_of_the_origin() -> None:
    log = VerifierKey(ORIGIN, identity("log").public_key, notes.ED25519)
    policy = quorum_of(keys_of(), [log])
    assert parse_policy(policy.encode()) == policy
    lines = cosignatures(HEAD)
    with pytest.raises(InvalidProof, match="no listed log"):
        assemble(HEAD, lines, policy)
    elsewhere = VerifierKey("ledger.example/other", log.public_key, notes.ED25519)
    strange = notes.sign(HEAD.text(), elsewhere.name, identity("log"))
    with pytest.raises(InvalidProof, match="no listed log"):
        assemble(HEAD, [*lines, strange], quorum_of(keys_of(), [elsewhere]))
    raw = assemble(HEAD, [*lines, notes.sign(HEAD.text(), ORIGIN, identity("log"))], policy)
    assert len(open_certificate(raw, policy, ORIGIN).signers) == 5


def test_a_quorum_of_none_asks_for_nobody() -> None:
    assert parse_policy(b"quorum none\n") == Policy((), (), "none")
    assert parse_policy(b"quorum none\n").holds([])


def test_witness_names_are_octets() -> None:
    raw = f"witness K {witness('X1').vkey()}\nwitness \u212a {witness('X2').vkey()}\nquorum \u212a\n".encode()
    raw += b"# \xff\xfe is no UTF-8, and that is none of our business\n"
    policy = parse_policy(raw)
    assert policy.holds([witness("X2")])
    assert not policy.holds([witness("X1")])
    odd = b"witness \xff " + witness("X1").vkey().encode() + b"\nquorum \xff\n"
    assert parse_policy(odd).encode() == odd


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "no quorum"),
        (file_of(W["X1"], "quorum X1", "quorum X1"), "second quorum"),
        (file_of("quorum X1", W["X1"]), "line 1: 'X1' is not defined"),
        (file_of(W["X1"], "group g 1 X1 X2", "quorum g"), "line 2: 'X2' is not defined"),
        (file_of(W["X1"], "group g 1 g", "quorum g"), "'g' is not defined"),
        (file_of(W["X1"], "group g 1 X1 X1", "quorum g"), "member already"),
        (file_of(W["X1"], "group g 1 X1", "group h 1 X1", "quorum g"), "member already"),
        (file_of(W["X1"], "group g 1 none", "quorum g"), "'none' is not defined"),
        (file_of(W["X1"], "group none 1 X1", "quorum none"), "taken"),
        (file_of(W["X1"], "group X1 1 X1", "quorum X1"), "taken"),
        (file_of(W["X1"], W["X1"].replace("X1", "X2", 1), "quorum X1"), "earlier line"),
        (file_of(W["X1"], "group g 0 X1", "quorum g"), "threshold"),
        (file_of(W["X1"], "group g 2 X1", "quorum g"), "threshold"),
        (file_of(W["X1"], "group g 01 X1", "quorum g"), "threshold"),
        (file_of(W["X1"], "group g most X1", "quorum g"), "threshold"),
        (file_of(W["X1"], "group g 1", "quorum g"), "it is not a log"),
        (file_of(W["X1"] + " url more", "quorum X1"), "it is not a log"),
        (file_of("witness X1 nonsense", "quorum X1"), "line 1"),
        (file_of("cosigner X1", "quorum none"), "it is not a log"),
        (file_of("quorum none")[:-1], "newline"),
        (b"quorum none\r\n", "control"),
        (b"quorum\x0bnone\n", "control"),
        (b"#" * (1 << 18) + b"\nquorum none\n", "more than"),
    ],
)
def test_what_a_policy_may_not_say_is_refused_with_its_line(raw: bytes, why: str) -> None:
    with pytest.raises(InvalidProof, match=why):
        parse_policy(raw)


def test_a_plain_signature_key_is_no_witness() -> None:
    plain = VerifierKey("w", identity("w").public_key, notes.ED25519)
    with pytest.raises(InvalidProof, match="0x04"):
        parse_policy(file_of(f"witness w {plain.vkey()}", "quorum w"))


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_to_a_policy_than_be_refused(raw: bytes) -> None:
    try:
        policy = parse_policy(raw + b"\nquorum none\n")
    except InvalidProof:
        return
    assert policy.quorum == "none"


def test_nobody_can_certify_for_nobody() -> None:
    with pytest.raises(BadInput):
        quorum_of({})
    with pytest.raises(BadInput):
        quorum_of({"none": witness("X1")})
    with pytest.raises(BadInput):
        quorum_of({"a": witness("X1"), "b": witness("X1")})
    assert quorum_of({"validators": witness("X1")}).groups == (Group("validators-", 1, ("validators",)),)
