"""A lane's document: the chain of batches as a pycrdt ``Doc``. Beside the board the only file that touches pycrdt.

The document has one root Array ``batches`` with one bytes element per batch, appended strictly in seq order by every
replica *with the lane's own client id*, derived from the lane. Every replica's document is therefore the same, bit for
bit: ``dump`` is canonical, and a stock Yjs client can follow a lane read-only.

Why it is safe although reusing a client id is the classic way to lose data in Yjs: a client's operations are a function
of their place alone. A replica never appends what it has not verified to be *the* batch at that seq; a fork never
reaches the document (the lane ends before it and its document is rebuilt). Raw Yjs updates from peers never touch a
lane: pycrdt accepts mutated updates, and out-of-order ones lose data (y-crdt issues 582, 628, 632).

Settled batches are deleted from the front. What yrs keeps of them is one range, whatever they held and in however many steps
they went, so a replica that starts from a checkpoint has the same bytes as one that lived through it: it begins with the update
that appending that many elements and deleting them would have left (decision 0014).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pycrdt import Array, Doc

from crdtledger.errors import InvalidBatch
from crdtledger.ledger.yjs import client_of, varint

MAX_APPENDS = 400  # per transaction: beyond some hundreds yrs takes quadratic time
MAX_DUMP_BYTES = 1 << 30


def client_id(lane: bytes) -> int:
    """The Yjs client id under which everybody appends to ``lane``: 53 bits of its digest, never 0."""
    return client_of("lane-client", lane)


class LaneDocument:
    """One lane as a pycrdt document. ``len`` is the number of batches in it; ``pruned`` were before them and are deleted."""

    __slots__ = ("_batches", "_doc", "lane", "pruned")

    def __init__(self, lane: bytes, pruned: int = 0) -> None:
        self.lane = lane
        self.pruned = pruned
        self._doc: Doc[Array[bytes]] = Doc(client_id=client_id(lane))
        self._batches: Array[bytes] = self._doc.get("batches", type=Array)
        if pruned:
            self._doc.apply_update(_pruned_update(client_id(lane), pruned))

    def __len__(self) -> int:
        return len(self._batches)

    def append(self, raw: Sequence[bytes]) -> None:
        """Append batches, the next ones in seq order."""
        for start in range(0, len(raw), MAX_APPENDS):
            self._batches.extend(list(raw[start : start + MAX_APPENDS]))

    def prune(self, count: int) -> None:
        """Delete the first ``count`` batches: a checkpoint has settled them."""
        if count:
            del self._batches[0:count]
            self.pruned += count

    def elements(self) -> list[bytes]:
        """The batches as they travel, in seq order, without the pruned ones."""
        return [bytes(element) for element in self._batches]

    def dump(self) -> bytes:
        """The whole document as one Yjs update. Equal lanes give equal bytes on every replica."""
        return self._doc.get_update()


def _pruned_update(client: int, count: int) -> bytes:
    """What is left of a lane whose ``count`` batches, all there were, are deleted: a Yjs update (version 1) of one struct.

    To append that many elements and delete them gives the same bytes, and takes seconds for a lane of some 100,000 batches.
    """
    name = b"batches"
    root = varint(1) + varint(len(name)) + name
    deleted = varint(1) + varint(1) + varint(client) + varint(0) + b"\x01" + root + varint(count)
    delete_set = varint(1) + varint(client) + varint(1) + varint(0) + varint(count)
    return deleted + delete_set


def rebuild(lane: bytes, raw: Iterable[bytes], pruned: int = 0) -> LaneDocument:
    """A fresh document of these batches after ``pruned`` deleted ones: byte-identical to one that grew by single appends."""
    document = LaneDocument(lane, pruned)
    document.append(list(raw))
    return document


def read_dump(update: bytes) -> list[bytes]:
    """The elements of a Yjs dump, opened in an empty scratch document. Trust nothing in it: each is to be re-verified.

    ``InvalidBatch`` when it is no such dump. yrs reports some malformed updates by a panic that derives from
    ``BaseException``; this is the boundary where it is caught.
    """
    if len(update) > MAX_DUMP_BYTES:
        raise InvalidBatch("dump", f"{len(update)} bytes, at most {MAX_DUMP_BYTES}")
    try:
        scratch: Doc[Array[bytes]] = Doc()
        scratch.apply_update(update)
        elements = list(scratch.get("batches", type=Array))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise InvalidBatch("dump", f"not a lane's dump: {type(error).__name__}") from None
    if not all(isinstance(element, bytes | bytearray) for element in elements):
        raise InvalidBatch("dump", "an element is not bytes")
    return [bytes(element) for element in elements]
