"""Certificates: a checkpoint of the log, cosigned by the validators who decided it.

Source: C2SP tlog-checkpoint for the text, tlog-cosignature for what validators sign, signed-note for the file.

- The text is three lines: origin (the log's name), size, base64 of the root; extension lines may follow and are
  covered by the signatures, but this ledger writes none: all it says stands in the log's leaves.
- A *certificate* is stricter than a note: every line is a listed validator's, each validator stands in it once, lines
  are sorted, and together they satisfy the policy's quorum. So a certificate has one spelling, and no byte of it
  can change without a refusal. Notes from elsewhere, which may carry strangers' lines, go through ``normalize``.
- Two cosignatures of one checkpoint at different times contradict nothing. Two different roots of one size do.

It does not decide and it does not collect: agreement does, and hands the lines over here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.identity import Identity

from . import notes
from .log import HASH_BYTES, MAX_SIZE
from .notes import Note, OpenedNote, SignatureLine, Signer, VerifierKey
from .policy import Policy

_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


class LogHead(msgspec.Struct, frozen=True):
    """What a tlog-checkpoint says: the log ``origin`` had ``size`` leaves and this ``root`` (32 bytes)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        why = origin_fault(self.origin) or _head_fault(self)
        if why:
            raise BadInput(what=f"head of {self.origin!r}", where="checkpoint", why=why)

    def text(self) -> str:
        """The note text: origin, size, root and extension lines, each with its newline."""
        lines = (self.origin, str(self.size), notes.encode_base64(self.root), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


class Certificate(msgspec.Struct, frozen=True):
    """A log head and the validators who cosigned it, sorted by key; the quorum holds."""

    head: LogHead
    signers: tuple[Signer, ...]


def parse_head(text: str) -> LogHead:
    """A log head from its note text. Raises InvalidProof for any text that is not exactly a tlog-checkpoint."""
    where = "checkpoint"
    lines = text.split("\n")
    if lines.pop() != "" or len(lines) < 3 or "" in lines:
        raise InvalidProof(where, "it is not at least three lines, none of them empty")
    origin, size, root, *extensions = lines
    if not _SIZE.fullmatch(size) or int(size) > MAX_SIZE:
        raise InvalidProof(where, f"the size {size[:24]!r} is not a plain number below 2**63")
    try:
        return LogHead(origin, int(size), notes.decode_base64(root, where), tuple(extensions))
    except BadInput as fault:
        raise InvalidProof(where, fault.attributes["why"]) from None


def cosigner(origin: str, node: str, public_key: bytes) -> VerifierKey:
    """The key under which validator ``node`` cosigns the log ``origin``: named ``origin/node``, type 04."""
    return VerifierKey(f"{origin}/{node}", public_key)


def cosign(head: LogHead, node: str, identity: Identity, time_s: int) -> SignatureLine:
    """Validator ``node``'s cosignature of ``head`` at ``time_s`` (POSIX seconds, its own clock)."""
    return notes.cosign(head.text(), f"{head.origin}/{node}", identity, time_s)


def assemble(head: LogHead, lines: Iterable[SignatureLine], policy: Policy) -> bytes:
    """The certificate of ``head`` from validators' ``lines``; its bytes depend on the set of lines only.

    Lines of strangers and lines that do not verify are left out; of several by one validator the earliest stands.
    Raises InvalidProof while what is left does not satisfy the policy.
    """
    text = head.text()
    known = {(key.name, key.key_id): key for key in policy.known_keys()}
    best: dict[VerifierKey, SignatureLine] = {}
    for line in sorted(lines, key=lambda line: (line.name, line.key_id, line.blob)):
        key = known.get((line.name, line.key_id))
        if key is None or key in best:
            continue
        try:
            notes.verify_line(line, key, text)
        except InvalidProof:
            continue
        best[key] = line
    policy.require(best, head.origin)
    return Note(text, tuple(best[key] for key in sorted(best))).encode()


def normalize(raw: bytes, policy: Policy, origin: str) -> bytes:
    """The certificate inside a note that may carry more: strangers' lines, repeated cosigners, another order."""
    note = notes.parse_note(raw)
    head = parse_head(note.text)
    _same_origin(head, origin)
    return assemble(head, note.lines, policy)


def open_head(raw: bytes, keys: Iterable[VerifierKey], origin: str) -> tuple[LogHead, OpenedNote]:
    """Any note's log head and who of ``keys`` signed it, without asking for a quorum. Raises InvalidProof."""
    opened = notes.open_note(raw, keys)
    head = parse_head(opened.text)
    _same_origin(head, origin)
    return head, opened


def open_certificate(raw: bytes, policy: Policy, origin: str) -> Certificate:
    """The head that ``raw`` certifies for the log ``origin`` under ``policy``.

    Raises InvalidProof when a signature fails, the quorum is missed, the origin is another, or ``raw`` is not the
    one spelling of this certificate (see the module's rules; ``normalize`` gives that spelling).
    """
    where = "certificate"
    head, opened = open_head(raw, policy.known_keys(), origin)
    if head.extensions:
        raise InvalidProof(where, "it has extension lines, which this ledger does not write")
    if opened.unknown:
        raise InvalidProof(where, f"{opened.unknown} signature lines are not by keys of the policy")
    keys = [signer.key for signer in opened.signers]
    if keys != sorted(set(keys)):
        raise InvalidProof(where, "its signature lines are not sorted, or one key stands in it twice")
    policy.require(keys, origin)
    return Certificate(head, opened.signers)


def origin_fault(origin: str) -> str:
    """Why ``origin`` cannot name a log, or ``""``. As strict as for key names, which the specification recommends."""
    return notes.name_fault(origin)


def _head_fault(head: LogHead) -> str:
    if not 0 <= head.size <= MAX_SIZE:
        return f"the size {head.size} is outside 0..2**63 - 1"
    if len(head.root) != HASH_BYTES:
        return f"a root of {len(head.root)} bytes instead of {HASH_BYTES}"
    if any(not line or any(char < " " for char in line) for line in head.extensions):
        return "an extension line is empty or has a control character"
    return ""


def _same_origin(head: LogHead, origin: str) -> None:
    if head.origin != origin:
        raise InvalidProof("checkpoint", f"it is of the log {head.origin!r}, not {origin!r}")
