"""The little of Yjs's update encoding (version 1) that is written by hand here: unsigned integers, and client ids derived from lanes.

Documents are pycrdt's; an update is spelt out only where what must stand in it is known to the byte (``lane``, ``noteform``).
"""

from __future__ import annotations

from typing import Final

from crdtledger.ledger.identity import digest

CLIENT_ID_BITS: Final = 53  # what a JavaScript number holds exactly


def client_of(purpose: str, lane: bytes) -> int:
    """The Yjs client id of ``lane`` in the documents of one purpose: 53 bits of its digest, never 0."""
    return (int.from_bytes(digest(purpose, lane)[:8], "big") >> (64 - CLIENT_ID_BITS)) or 1


def varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first, as Yjs writes unsigned integers."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
