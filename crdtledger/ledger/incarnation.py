"""Whether a journal can be proven complete: the rule that decides between an old epoch and a new one.

A node that resumes its lane from a journal that lost its tail would write a second history under numbers it has
already used: a fork, signed by its own key. So each opening for writing stamps a fresh nonce, the *incarnation*, in
two places: inside the journal, and in a small file beside it (the *sidecar*). Whoever puts an older copy of one back
does not put back the other, and the two no longer agree.

The stamping is three steps, each durable before the next, and nothing is recorded before the last:

1. the journal says ``Stamp(current=new, previous=what the sidecar says, confirmed=False)``;
2. the sidecar says ``new``;
3. the journal says ``confirmed=True``.

A crash between 1 and 2 leaves a sidecar that equals ``previous``; only an unconfirmed stamp may lean on that. A crash
between 2 and 3 leaves a sidecar that equals ``current``. So a plain crash at any instant is seen as complete, and a
journal that held records when it was copied never is, unless the sidecar still names its incarnation. For that last
case (a copy put back within one incarnation, a deleted write-ahead log, a disk that lied about a sync) the sidecar also
carries a *mark*: a position that was durable. A journal that ends before the mark has lost something.

Beyond reach, and left to peers: journal and sidecar rolled back together, as by a snapshot of the whole machine.

A verdict of RESTORED sticks: the reason is kept in the journal until records are appended that open a new epoch.
This file is pure; who reads and writes the two places is ``journal``.
"""

from __future__ import annotations

import enum
import hashlib
import struct

import msgspec

INCARNATION_BYTES_MIN = 8
INCARNATION_BYTES_MAX = 64

SIDECAR_BYTES = 8192
MARK_OFFSET = 4096
"""The mark is overwritten in place: it lives in a block of its own, so that a torn write cannot hurt the name."""

_TITLE = "crdtledger journal incarnation"
_MARK = struct.Struct(">Q8s")
MARK_BYTES = _MARK.size


class Verdict(enum.Enum):
    """What the journal can prove about itself."""

    FRESH = "fresh"
    COMPLETE = "complete"
    RESTORED = "restored"


class Completeness(msgspec.Struct, frozen=True):
    """FRESH: nothing was ever recorded here. COMPLETE: everything that was. RESTORED: no proof; ``reason`` says why."""

    verdict: Verdict
    reason: str


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """What the journal says of its incarnation. ``previous`` is empty when there was no sidecar."""

    current: bytes
    previous: bytes
    confirmed: bool


class Sidecar(msgspec.Struct, frozen=True):
    """What the file beside the journal says: the incarnation (empty: the file cannot be read) and the mark."""

    incarnation: bytes
    mark: int


def encode_sidecar(incarnation: bytes, mark: int) -> bytes:
    """The whole file: a block of text for the name, a block for the mark."""
    name = incarnation.hex()
    text = f"{_TITLE}\n{name}\n{_digest(b'name', incarnation).hex()}\n".encode()
    return text.ljust(MARK_OFFSET, b" ") + encode_mark(incarnation, mark).ljust(SIDECAR_BYTES - MARK_OFFSET, b"\0")


def encode_mark(incarnation: bytes, mark: int) -> bytes:
    """The mark alone, to be written at ``MARK_OFFSET``."""
    return _MARK.pack(mark, _digest(b"mark", incarnation + mark.to_bytes(8, "big")))


def decode_sidecar(raw: bytes) -> Sidecar:
    """The file's content; anything unreadable is an empty incarnation, and a torn mark counts as 0."""
    unreadable = Sidecar(incarnation=b"", mark=0)
    lines = raw[:MARK_OFFSET].split(b"\n")
    if len(lines) < 3 or lines[0] != _TITLE.encode():
        return unreadable
    try:
        incarnation, digest = bytes.fromhex(lines[1].decode("ascii")), bytes.fromhex(lines[2].decode("ascii"))
    except ValueError:
        return unreadable
    if digest != _digest(b"name", incarnation):
        return unreadable
    block = raw[MARK_OFFSET : MARK_OFFSET + MARK_BYTES]
    mark = int.from_bytes(block[:8], "big")
    return Sidecar(incarnation, mark if block == encode_mark(incarnation, mark) else 0)


def judge(stamp: Stamp | None, position: int, restored: str, sidecar: Sidecar | None) -> Completeness:
    """The verdict at opening.

    ``stamp``: the journal's, None when there is no journal. ``position``: the last one the journal holds.
    ``restored``: the sticky reason kept in the journal, empty for none. ``sidecar``: None when there is no file.
    """
    if restored:
        return _restored(restored)
    if stamp is None:
        if sidecar is None:
            return Completeness(Verdict.FRESH, "a new journal")
        return _restored("the journal is lost: the incarnation file is there, the journal is not")
    if sidecar is not None and not sidecar.incarnation:
        return _restored("the incarnation file cannot be read")
    if sidecar is not None and sidecar.mark > position:
        return _restored(f"the journal ends at position {position}, but position {sidecar.mark} was durable here")
    named = b"" if sidecar is None else sidecar.incarnation
    if named == stamp.current or (named == stamp.previous and not stamp.confirmed):
        if position == 0:
            return Completeness(Verdict.FRESH, "nothing was recorded yet")
        return Completeness(Verdict.COMPLETE, "the journal and its incarnation file agree")
    if sidecar is None:
        return _restored("the incarnation file is missing")
    return _restored(f"the incarnation file names {named.hex()[:16]}, the journal {stamp.current.hex()[:16]}")


def _restored(reason: str) -> Completeness:
    return Completeness(Verdict.RESTORED, reason)


def _digest(purpose: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=8, person=purpose).digest()
