"""Signed notes: text under which several keys put their names, in a form that stock tools read.

Source: C2SP signed-note (text, blank line, signature lines, key ids, verifier keys) and, for the second signature
type, C2SP tlog-cosignature (``cosignature/v1``).

- A note is UTF-8 text that ends in a newline, an empty line, then signature lines: em dash (U+2014), space, key
  name, space, base64 of key id (4 bytes) and signature. No control character but the newline.
- A key is (name, type, public key); ``key id = SHA-256(name LF type key)[:4]``. Type 01 signs the text with Ed25519.
  Type 04 signs ``cosignature/v1``, the time and the text; its signature starts with that time, u64 big-endian.
- Lines of unknown keys are ignored, even when they share a name or an id with a known one. A line of a known key
  that does not verify rejects the whole note. No line of a known key at all: nothing is proven, the note is rejected.
- Base64 is canonical or refused: decoding skips nothing, and encoding again gives the same text.
- Keys are counted, not lines. One key may cosign one text at several times.

It does not know what the text says (``reconcile.certificate`` does) or how many signers are enough (``reconcile.policy``).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.identity import KEY_BYTES, SIGNATURE_BYTES, Identity, verify

ED25519: Final = 0x01
COSIGNATURE: Final = 0x04
KEY_ID_BYTES: Final = 4
TIME_BYTES: Final = 8
MAX_TIME_S: Final = 2**63 - 1
MAX_NOTE_BYTES: Final = 1 << 20
MAX_SIGNATURES: Final = 256
MAX_NAME_BYTES: Final = 255

_BLOB_BYTES: Final = {ED25519: SIGNATURE_BYTES, COSIGNATURE: TIME_BYTES + SIGNATURE_BYTES}
_TYPE_NAMES: Final = {ED25519: "Ed25519", COSIGNATURE: "cosignature/v1"}
_DASH: Final = "— "
_HEX_ID = re.compile(r"[0-9a-f]{8}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class VerifierKey(msgspec.Struct, frozen=True, order=True):
    """Whom we may believe: key ``name``, ``public_key`` (32 bytes) and ``type`` (``ED25519`` or ``COSIGNATURE``)."""

    name: str
    public_key: bytes
    type: int = COSIGNATURE

    def __post_init__(self) -> None:
        where = f"key {self.name!r}"
        why = name_fault(self.name)
        if why:
            raise BadInput(what=self.name, where="key name", why=why)
        if self.type not in _BLOB_BYTES:
            raise BadInput(what=f"type {self.type:#04x}", where=where, why="only types 0x01 and 0x04 are understood")
        if len(self.public_key) != KEY_BYTES:
            raise BadInput(what=f"{len(self.public_key)} bytes", where=where, why=f"an Ed25519 key has {KEY_BYTES}")

    @property
    def key_id(self) -> bytes:
        """Four bytes that name the key and its type; an index, never proof of anything."""
        return hashlib.sha256(self.name.encode() + bytes((0x0A, self.type)) + self.public_key).digest()[:KEY_ID_BYTES]

    def vkey(self) -> str:
        """The key as text: ``name+key id in hex+base64(type, key)``."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes((self.type,)) + self.public_key)}"


class SignatureLine(msgspec.Struct, frozen=True, order=True):
    """One line under a note: who claims to have signed, and with what. Not checked by being one."""

    name: str
    key_id: bytes
    blob: bytes

    def text(self) -> str:
        """The line, with its newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.blob)}\n"


class Note(msgspec.Struct, frozen=True):
    """Text (its final newline included) and the signature lines under it, as they stood. Nothing is verified yet."""

    text: str
    lines: tuple[SignatureLine, ...]

    def encode(self) -> bytes:
        """The note's only bytes: ``parse_note`` gives this very note back."""
        return f"{self.text}\n{''.join(line.text() for line in self.lines)}".encode()


class Signer(msgspec.Struct, frozen=True, order=True):
    """A known key whose signature verified; ``time_s`` is when it says it cosigned (POSIX seconds), None for type 01."""

    key: VerifierKey
    time_s: int | None = None


class OpenedNote(msgspec.Struct, frozen=True):
    """A note in which at least one known key's signature verified and none failed.

    ``signers``: one entry per verified line, in the note's order. ``unknown``: how many lines were ignored.
    """

    text: str
    signers: tuple[Signer, ...]
    unknown: int

    def keys(self) -> frozenset[VerifierKey]:
        """The distinct keys that signed."""
        return frozenset(signer.key for signer in self.signers)


def parse_vkey(text: str) -> VerifierKey:
    """A verifier key from its text. Raises InvalidProof for any other text, or a key id that is not the key's."""
    name, plus, rest = text.partition("+")
    key_id, plus_too, encoded = rest.partition("+")
    where = "verifier key"
    if not (plus and plus_too):
        raise InvalidProof(where, "it is not name+id+key")
    if not _HEX_ID.fullmatch(key_id):
        raise InvalidProof(where, "its id is not eight lowercase hex digits")
    body = decode_base64(encoded, where)
    if len(body) != 1 + KEY_BYTES:
        raise InvalidProof(where, f"a type and an Ed25519 key are {1 + KEY_BYTES} bytes, not {len(body)}")
    try:
        key = VerifierKey(name, body[1:], body[0])
    except BadInput as fault:
        raise InvalidProof(where, fault.describe()) from None
    if key.key_id.hex() != key_id:
        raise InvalidProof(where, f"{name} has the id {key.key_id.hex()}, not {key_id}")
    return key


def parse_note(raw: bytes) -> Note:
    """A note's text and lines, by form only. Raises InvalidProof for anything that is not exactly a note."""
    where = "note"
    if len(raw) > MAX_NOTE_BYTES:
        raise InvalidProof(where, f"{len(raw)} bytes are more than the {MAX_NOTE_BYTES} a note may have")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError as fault:
        raise InvalidProof(where, f"byte {fault.start} is not UTF-8") from None
    control = _CONTROL.search(whole)
    if control:
        raise InvalidProof(where, f"character {control.start()} is a control character")
    at = whole.rfind("\n\n")
    if at < 0:
        raise InvalidProof(where, "no empty line between text and signatures")
    text, block = whole[: at + 1], whole[at + 2 :]
    if not block.endswith("\n"):
        raise InvalidProof(where, "no signature line, or the last one has no newline")
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise InvalidProof(where, f"{len(lines)} signature lines are more than {MAX_SIGNATURES}")
    return Note(text, tuple(_parse_line(line, f"note, signature {i}") for i, line in enumerate(lines, 1)))


def open_note(raw: bytes, keys: Iterable[VerifierKey]) -> OpenedNote:
    """The text of a note, and who of ``keys`` signed it.

    Raises InvalidProof when the form does not hold, a known key's line fails, the same line stands twice, or no
    known key signed. Raises BadInput when two of ``keys`` share both name and id, for then a line names neither.
    """
    note = parse_note(raw)
    known: dict[tuple[str, bytes], VerifierKey] = {}
    for key in keys:
        if known.setdefault((key.name, key.key_id), key) != key:
            raise BadInput(what=key.vkey(), where="known keys", why="another known key has the same name and id")
    signers: list[Signer] = []
    seen: set[SignatureLine] = set()
    unknown = 0
    for place, line in enumerate(note.lines, 1):
        known_key = known.get((line.name, line.key_id))
        if known_key is None:
            unknown += 1
            continue
        where = f"note, signature {place} ({line.name})"
        if line in seen:
            raise InvalidProof(where, "the same line stands twice")
        seen.add(line)
        signers.append(_verified(line, known_key, note.text, where))
    if not signers:
        raise InvalidProof("note", "no known key signed it")
    return OpenedNote(note.text, tuple(signers), unknown)


def sign(text: str, name: str, identity: Identity) -> SignatureLine:
    """``identity``'s plain signature (type 01) under ``text``, which ends in a newline."""
    key = VerifierKey(name, identity.public_key, ED25519)
    return SignatureLine(name, key.key_id, identity.sign(_checked_text(text)))


def cosign(text: str, name: str, identity: Identity, time_s: int) -> SignatureLine:
    """``identity``'s timestamped cosignature (type 04) of ``text`` at ``time_s`` (POSIX seconds).

    Source: C2SP tlog-cosignature. ``text`` is a checkpoint's; this function does not look at it.
    """
    if not 0 <= time_s <= MAX_TIME_S:
        raise BadInput(what=f"time {time_s}", where="cosignature", why=f"outside 0..{MAX_TIME_S}")
    _checked_text(text)
    key = VerifierKey(name, identity.public_key, COSIGNATURE)
    signature = identity.sign(_cosigned_message(text, time_s))
    return SignatureLine(name, key.key_id, time_s.to_bytes(TIME_BYTES, "big") + signature)


def verify_line(line: SignatureLine, key: VerifierKey, text: str) -> Signer:
    """What ``key`` says by ``line`` under ``text``. Raises InvalidProof if it is another key's, or does not verify."""
    where = f"signature of {line.name}"
    if (line.name, line.key_id) != (key.name, key.key_id):
        raise InvalidProof(where, f"it is not in the name and id of {key.name}")
    return _verified(line, key, text, where)


def name_fault(name: str) -> str:
    """Why ``name`` cannot name a key, or ``""``: not empty, no space, no plus sign, no control character, 255 bytes."""
    if not name:
        return "it is empty"
    if any(char.isspace() or char < " " for char in name):
        return "it has a space or control character"
    if "+" in name:
        return "it has a plus sign"
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    return "" if length <= MAX_NAME_BYTES else f"it has more than {MAX_NAME_BYTES} bytes"


def encode_base64(raw: bytes) -> str:
    """Standard base64 (RFC 4648 section 4), padded, on one line."""
    return base64.b64encode(raw).decode("ascii")


def decode_base64(text: str, where: str) -> bytes:
    """The bytes of canonical standard base64. Raises InvalidProof for junk, missing padding and stray last bits."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise InvalidProof(where, "it is not base64") from None
    if encode_base64(raw) != text:
        raise InvalidProof(where, "its base64 is not canonical")
    return raw


def _parse_line(line: str, where: str) -> SignatureLine:
    if not line.startswith(_DASH):
        raise InvalidProof(where, "it does not start with an em dash and a space")
    name, space, encoded = line[len(_DASH) :].partition(" ")
    why = name_fault(name)
    if why or not space:
        raise InvalidProof(where, f"key name: {why or 'nothing follows it'}")
    blob = decode_base64(encoded, where)
    if len(blob) <= KEY_ID_BYTES:
        raise InvalidProof(where, "no signature after the key id")
    return SignatureLine(name, blob[:KEY_ID_BYTES], blob[KEY_ID_BYTES:])


def _verified(line: SignatureLine, key: VerifierKey, text: str, where: str) -> Signer:
    if len(line.blob) != _BLOB_BYTES[key.type]:
        raise InvalidProof(where, f"{len(line.blob)} bytes are no {_TYPE_NAMES[key.type]} signature")
    if key.type == ED25519:
        time_s, message, signature = None, text.encode(), line.blob
    else:
        time_s = int.from_bytes(line.blob[:TIME_BYTES], "big")
        if time_s > MAX_TIME_S:
            raise InvalidProof(where, "its time is beyond 2**63 - 1")
        message, signature = _cosigned_message(text, time_s), line.blob[TIME_BYTES:]
    if not verify(key.public_key, message, signature):
        raise InvalidProof(where, "the signature is not this key's over this text")
    return Signer(key, time_s)


def _cosigned_message(text: str, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{text}".encode()


def _checked_text(text: str) -> bytes:
    if not text.endswith("\n") or _CONTROL.search(text):
        raise BadInput(what="note text", where="note", why="text ends in a newline and has no other control character")
    return text.encode()
