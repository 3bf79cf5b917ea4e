"""What the log says of each height: one leaf, the only thing that validators certify.

- Heights count 1, 2, 3 ...; the record of height h is leaf h - 1 of the log.
- A record has one encoding: a MessagePack array of its fields in the order below, led by a domain string. ``decode``
  refuses any other bytes.
- ``previous`` is the log's leaf hash of the record before, 32 zero bytes at height 1. The log binds the order already;
  this lets two records alone show that one follows the other.

What the digests are digests of is the business of those who compute them: cut and evidence of agreement, adjustments
of settlement, state root of ``statetree``, liabilities of ``sumtree.liabilities_digest``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from crdtledger.errors import BadInput, InvalidProof

from .log import HASH_BYTES, leaf_hash

DOMAIN: Final = "crdtledger/height/v1"
NONE: Final = bytes(HASH_BYTES)
MAX_HEIGHT: Final = 2**62
MAX_RECORD_BYTES: Final = 1024
_DIGESTS: Final = ("cluster", "previous", "cut", "evidence", "state_root", "adjustments_root", "liabilities")


class HeightRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The log's leaf of one height. Every digest has 32 bytes; ``salt_version`` is that of the secret behind the salts."""

    cluster: bytes
    height: int
    previous: bytes
    cut: bytes
    evidence: bytes
    state_root: bytes
    adjustments_root: bytes
    liabilities: bytes
    salt_version: int
    domain: str = DOMAIN

    @property
    def index(self) -> int:
        """Which leaf of the log this is."""
        return self.height - 1

    def encode(self) -> bytes:
        """The record's bytes: the leaf. BadInput when a field is out of range."""
        why = self._fault()
        if why:
            raise BadInput(what=f"record of height {self.height}", where="log", why=why)
        return msgspec.msgpack.encode(self)

    def leaf_hash(self) -> bytes:
        """The hash under which the record stands in the log, and which the next one names as ``previous``."""
        return leaf_hash(self.encode())

    def follows(self, before: HeightRecord | None) -> bool:
        """Whether this is the record right after ``before`` (None: the first one) of the same cluster."""
        if before is None:
            return self.height == 1 and self.previous == NONE
        same = self.cluster == before.cluster and self.height == before.height + 1
        return same and self.previous == before.leaf_hash()

    def _fault(self) -> str:
        for name in _DIGESTS:
            if len(getattr(self, name)) != HASH_BYTES:
                return f"its {name} does not have {HASH_BYTES} bytes"
        if not 1 <= self.height <= MAX_HEIGHT or not 1 <= self.salt_version < 2**32:
            return "its height or salt version is out of range"
        return "" if self.domain == DOMAIN else "it is of another domain"


def decode_record(raw: bytes) -> HeightRecord:
    """A record from a leaf's bytes. Raises InvalidProof unless they are exactly what ``encode`` writes."""
    where = "height record"
    if len(raw) > MAX_RECORD_BYTES:
        raise InvalidProof(where, f"{len(raw)} bytes are more than {MAX_RECORD_BYTES}")
    try:
        record = msgspec.msgpack.decode(raw, type=HeightRecord)
        same = record.encode() == raw
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidProof(where, "it is not an array of a height's fields") from None
    except BadInput as fault:
        raise InvalidProof(where, fault.why) from None
    if not same:
        raise InvalidProof(where, "it is not in its one encoding")
    return record
