"""One leaf of the log, its way to a certified root, and the certificate, as text that stock tools read.

Source: C2SP tlog-proof: a version line, ``extra`` (optional opaque data), ``index``, one base64 hash per line from the
leaf's sibling up, an empty line, the checkpoint note verbatim. This ledger puts the leaf itself, a height's record,
into ``extra``, which is trusted for nothing until its hash has been led to the certified root.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from crdtledger.errors import InvalidProof

from .certificate import Certificate, open_certificate
from .heights import HeightRecord, decode_record
from .log import HASH_BYTES, MAX_SIZE, leaf_hash, verify_inclusion
from .notes import decode_base64, encode_base64
from .policy import Policy

VERSION: Final = "c2sp.org/tlog-proof@v1"
MAX_PATH: Final = 63
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")


class LeafProof(msgspec.Struct, frozen=True):
    """A ``leaf`` (a height record's bytes), its ``index``, its audit ``path`` and a ``certificate`` of the log."""

    leaf: bytes
    index: int
    path: tuple[bytes, ...]
    certificate: bytes

    def encode(self) -> bytes:
        """The proof as a ``.tlog-proof`` text."""
        lines = [VERSION, f"extra {encode_base64(self.leaf)}", f"index {self.index}"]
        lines += [encode_base64(hashed) for hashed in self.path]
        return "".join(f"{line}\n" for line in (*lines, "")).encode() + self.certificate


class CertifiedHeight(msgspec.Struct, frozen=True):
    """A height's record and the certificate of a log that holds it."""

    record: HeightRecord
    certificate: Certificate


def parse_leaf_proof(raw: bytes) -> LeafProof:
    """A leaf proof from its text, by form only. Raises InvalidProof, naming the line."""
    where = "tlog-proof"
    head, blank, certificate = raw.partition(b"\n\n")
    if not blank:
        raise InvalidProof(where, "no empty line before the checkpoint")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise InvalidProof(where, "what stands before the checkpoint is not ASCII") from None
    if lines[0] != VERSION:
        raise InvalidProof(where, f"it does not start with {VERSION}")
    if len(lines) < 3 or not lines[1].startswith("extra "):
        raise InvalidProof(where, "line 2: it has no leaf in an extra line")
    index = _INDEX.fullmatch(lines[2])
    if index is None or int(index[1]) > MAX_SIZE:
        raise InvalidProof(where, "line 3: it is not an index")
    if len(lines) - 3 > MAX_PATH:
        raise InvalidProof(where, f"{len(lines) - 3} hashes are more than any log calls for")
    path = tuple(decode_base64(line, f"{where}, line {place}") for place, line in enumerate(lines[3:], 4))
    if any(len(hashed) != HASH_BYTES for hashed in path):
        raise InvalidProof(where, f"a hash does not have {HASH_BYTES} bytes")
    leaf = decode_base64(lines[1].removeprefix("extra "), f"{where}, line 2")
    return LeafProof(leaf, int(index[1]), path, certificate)


def verify_leaf_proof(proof: LeafProof, policy: Policy, origin: str) -> CertifiedHeight:
    """The height that ``proof`` shows to be certified in the log ``origin`` under ``policy``. Raises InvalidProof."""
    certificate = open_certificate(proof.certificate, policy, origin)
    head = certificate.head
    verify_inclusion(leaf_hash(proof.leaf), proof.index, head.size, proof.path, head.root)
    record = decode_record(proof.leaf)
    if record.index != proof.index:
        raise InvalidProof("tlog-proof", f"leaf {proof.index} is a record of height {record.height}")
    return CertifiedHeight(record, certificate)
