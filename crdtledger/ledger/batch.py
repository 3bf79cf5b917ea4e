"""A batch: facts recorded together by one node. Atomic, signed, hash-chained, columnar.

    sealed  = msgpack [header, signature, body]          what travels, what lanes and journals hold
    header  = msgpack [version, cluster, lane, seq, prev, clock, base, deps, counts, body bytes, body hash]
    signature = Ed25519(domain, SHA-256(domain, header)) by the lane's node
    hash    = SHA-256(domain, SHA-256(domain, header), signature)   names the batch; the next header's ``prev``

The bytes of header and envelope are canonical: ``open_batch`` refuses any other encoding of the same values, so one
statement has one hash, and nobody who passes it on can dress it in other bytes; nor can its signer, who could sign one
header in many valid ways: the hash covers the signature. Evidence of a fork is two signed headers for one (lane, seq);
bodies are not needed to prove it.

``base`` is the checkpoint that the writer stands on (height 0 is the genesis). ``deps`` name the lanes whose unsettled
grants this batch uses, and how much of each; a replica applies a batch only after what it depends on.

What is held of a small batch is its bytes: opened, one of a single fill takes ten times as much as they do. So only the small ones that
were opened last stay open (``OPEN_MOST``); another one is opened again, without a check, when somebody looks into it.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import Final, NamedTuple

import msgspec

from crdtledger.errors import InvalidBatch
from crdtledger.ledger import body as columns
from crdtledger.ledger.clock import MAX_TIMESTAMP
from crdtledger.ledger.genesis import NODE_ID_BYTES, Genesis
from crdtledger.ledger.identity import DIGEST_BYTES, SIGNATURE_BYTES, Identity, digest, verify

VERSION: Final = 1
NONCE_BYTES: Final = 8
LANE_BYTES: Final = NODE_ID_BYTES + 4 + NONCE_BYTES + 2
MAX_DEPS: Final = 64
MAX_SEQ: Final = (1 << 48) - 1
MAX_HEADER_BYTES: Final = 8 * 1024
MAX_BATCH_BYTES: Final = columns.MAX_BODY_BYTES + MAX_HEADER_BYTES + 128
FIRST_PREV: Final = bytes(DIGEST_BYTES)
SMALL_BYTES: Final = 16 * 1024
"""A batch of more bytes stays open: what is opened of it is little beside them."""
OPEN_MOST: Final = 512
"""So many small batches stay open, in all."""
_LANES_SHARED: Final = 4096


class Lane(msgspec.Struct, frozen=True, array_like=True):
    """Names a lane: the chain of batches of one (node, epoch, shard). ``node`` is the member's 8-byte id."""

    node: bytes
    epoch: int
    nonce: bytes
    shard: int = 0

    @property
    def key(self) -> bytes:
        """The lane as 22 opaque bytes, ordered by node, then epoch."""
        return self.node + self.epoch.to_bytes(4, "big") + self.nonce + self.shard.to_bytes(2, "big")


def parse_lane(key: bytes) -> Lane:
    """The lane that 22 bytes name."""
    if len(key) != LANE_BYTES:
        raise InvalidBatch("lane", f"{len(key)} bytes, not {LANE_BYTES}")
    return Lane(key[:8], int.from_bytes(key[8:12], "big"), key[12:20], int.from_bytes(key[20:], "big"))


def lane_text(key: bytes, genesis: Genesis) -> str:
    """A lane for people: ``node-1/2.ab12cd34`` (name, epoch, first half of its nonce)."""
    lane = parse_lane(key)
    member = genesis.by_id.get(lane.node)
    return f"{member.name if member else lane.node.hex()}/{lane.epoch}.{lane.nonce[:4].hex()}"


class Dep(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """This batch uses what ``lane`` granted up to ``seq``, whose batch has ``hash``."""

    lane: bytes
    seq: int
    hash: bytes


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is signed. ``base``: (height, digest). ``counts``: (kind, facts) ascending. ``clock``: hybrid logical clock."""

    version: int
    cluster: bytes
    lane: bytes
    seq: int
    prev: bytes
    clock: int
    base: tuple[int, bytes]
    deps: tuple[Dep, ...]
    counts: tuple[tuple[int, int], ...]
    body_bytes: int
    body_hash: bytes


class _Sealed(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    header: bytes
    signature: bytes
    body: memoryview


class _Evidence(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    first: bytes
    first_signature: bytes
    second: bytes
    second_signature: bytes


_encode = msgspec.msgpack.Encoder().encode
_sealed = msgspec.msgpack.Decoder(_Sealed)
_header = msgspec.msgpack.Decoder(Header)
_evidence = msgspec.msgpack.Decoder(_Evidence)
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError, OverflowError)


class Opened(NamedTuple):
    """What the bytes of a batch say. The columns of ``body`` are views of them."""

    header_bytes: bytes
    signature: bytes
    header: Header
    body: columns.Body


class Batch(msgspec.Struct, eq=False, gc=False):
    """A batch whose form, chain fields and signature hold. Immutable by convention; ``raw`` is what travels.

    ``key``: the lane's 22 bytes. ``seq``: its place in the lane, from 1. ``facts``: how many it carries. ``inside``: None when it is
    closed. Nothing in it leads back to it, so the garbage collector need not look at it.
    """

    raw: bytes
    hash: bytes
    key: bytes
    lane: Lane
    seq: int
    facts: int
    inside: Opened | None

    @property
    def header(self) -> Header:
        """What was signed."""
        return (self.inside or self._open()).header

    @property
    def header_bytes(self) -> bytes:
        """The header's canonical bytes."""
        return (self.inside or self._open()).header_bytes

    @property
    def signature(self) -> bytes:
        """64 bytes over the header."""
        return (self.inside or self._open()).signature

    @property
    def body(self) -> columns.Body:
        """The facts."""
        return (self.inside or self._open()).body

    @property
    def closes(self) -> bool:
        """Whether it does not stay open: it is small."""
        return len(self.raw) <= SMALL_BYTES

    def kept_open(self) -> Batch:
        """The same batch, open as long as it is held: for who looks into thousands of them several times."""
        return msgspec.structs.replace(self, inside=self.inside or _reopened(self.raw))

    def _open(self) -> Opened:
        opened = self.inside = _reopened(self.raw)
        _stays_open(self)
        return opened

    def __repr__(self) -> str:
        return f"<batch {self.seq} of {self.lane.node.hex()}/{self.lane.epoch}: {self.facts} facts, {self.hash.hex()[:12]}>"


_open_now: deque[Batch] = deque()
"""The small batches that are open, the one first that was opened first."""


def _stays_open(batch: Batch) -> None:
    """The batch was opened: close the one that was opened longest ago, if there are too many."""
    if batch.closes:
        _open_now.append(batch)
        if len(_open_now) > OPEN_MOST:
            _open_now.popleft().inside = None


def _reopened(raw: bytes) -> Opened:
    """What ``open_batch`` or ``seal`` found in these bytes."""
    sealed = _sealed.decode(raw)
    return Opened(sealed.header, sealed.signature, _header.decode(sealed.header), columns.reopened(sealed.body))


def _batch(raw: bytes, opened: Opened) -> Batch:
    """The batch, open."""
    header = opened.header
    key, lane = _shared(header.lane)
    facts = sum(count for _, count in header.counts)
    batch = Batch(raw, batch_hash(opened.header_bytes, opened.signature), key, lane, header.seq, facts, opened)
    _stays_open(batch)
    return batch


@functools.lru_cache(_LANES_SHARED)
def _shared(key: bytes) -> tuple[bytes, Lane]:
    """A lane's key and the lane, each once for all its batches."""
    return key, parse_lane(key)


def header_hash(header_bytes: bytes) -> bytes:
    """The 32 bytes that the signature is over."""
    return digest("batch", header_bytes)


def batch_hash(header_bytes: bytes, signature: bytes) -> bytes:
    """The 32 bytes that name a batch: one name, one sequence of bytes. A signer can sign one header in many valid ways."""
    return digest("batch-name", header_hash(header_bytes) + signature)


def _to_sign(hash: bytes) -> bytes:
    return digest("batch-signature", hash)


def seal(
    identity: Identity,
    genesis: Genesis,
    lane: Lane,
    seq: int,
    prev: bytes,
    clock: int,
    base: tuple[int, bytes],
    deps: tuple[Dep, ...],
    wire: columns.WireBody,
    check_form: bool = True,
) -> Batch:
    """Encode and sign a batch, and open its body from the bytes that travel. What this returns is what every other node will see:
    ``open_batch`` gives the same for its bytes. ``InvalidBatch`` when the body, or a field of the header, does not hold.

    ``check_form=False`` is for a body that ``draft_fills`` built of columns that were checked: its rows are not looked at again.
    """
    body = columns.encode(wire)
    header = Header(
        VERSION,
        genesis.hash,
        lane.key,
        seq,
        prev,
        clock,
        base,
        deps,
        columns.stated_counts(wire),
        len(body),
        digest("body", body),
    )
    header_bytes = _encode(header)
    checked = open_header(header_bytes, genesis)
    member = genesis.by_id[lane.node]
    if identity.public_key != member.public_key:
        raise InvalidBatch("batch.signature", f"not {member.name}'s")
    signature = identity.sign(_to_sign(header_hash(header_bytes)))
    raw = b"".join((_front(header_bytes, signature, len(body)), body))
    travels = memoryview(raw)[-len(body) :]
    opened = _opened_body(travels, checked) if check_form else columns.reopened(travels)
    return _batch(raw, Opened(header_bytes, signature, checked, opened))


def open_batch(raw: bytes, genesis: Genesis, check_signature: bool = True) -> Batch:
    """Check form and signature and open the columns. ``InvalidBatch`` names the first thing that does not hold.

    ``check_signature=False`` is for a node's own journal, whose records were checked before they were written and
    carry checksums; the body's hash is checked all the same.
    """
    if len(raw) > MAX_BATCH_BYTES:
        raise InvalidBatch("batch", f"{len(raw)} bytes, at most {MAX_BATCH_BYTES}")
    raw = bytes(raw)
    try:
        sealed = _sealed.decode(raw)
    except _UNDECODABLE as error:
        raise InvalidBatch("batch", f"not a batch: {error}") from None
    if not _is_canonical(raw, sealed):
        raise InvalidBatch("batch", "not the canonical encoding")  # else a relay could give lanes other bytes
    header = open_header(sealed.header, genesis)
    if check_signature:
        check_header_signature(sealed.header, sealed.signature, header, genesis)
    if len(sealed.body) != header.body_bytes or digest("body", sealed.body) != header.body_hash:
        raise InvalidBatch("batch.body", "length or hash differs from the header's")
    return _batch(raw, Opened(sealed.header, sealed.signature, header, _opened_body(sealed.body, header)))


def _opened_body(raw: memoryview, header: Header) -> columns.Body:
    """The body behind a header, whose hash was looked at."""
    body = columns.decode(raw)
    if body.counts() != header.counts:
        raise InvalidBatch("header.counts", f"states {header.counts}, the body holds {body.counts()}")
    if not (header.counts or header.deps or body.cursors):
        raise InvalidBatch("batch", "says nothing: no facts, no deps, no cursor")
    return body


def _is_canonical(raw: bytes, sealed: _Sealed) -> bool:
    """Whether ``raw`` is what encoding ``sealed`` would give. A body is long, and what stands before it shows it: it is not copied."""
    return raw.startswith(_front(sealed.header, sealed.signature, len(sealed.body)))


def _front(header: bytes, signature: bytes, size: int) -> bytes:
    """What stands in a batch before its body, which has ``size`` bytes."""
    front = _encode([header, signature, b""])[:-2]
    kind, width = (b"\xc4", 1) if size < 1 << 8 else (b"\xc5", 2) if size < 1 << 16 else (b"\xc6", 4)
    return front + kind + size.to_bytes(width, "big")


def open_header(raw: bytes, genesis: Genesis) -> Header:
    """Decode a header and check its form: canonical bytes, our cluster, a member's lane, sane chain fields."""
    if len(raw) > MAX_HEADER_BYTES:
        raise InvalidBatch("header", f"{len(raw)} bytes, at most {MAX_HEADER_BYTES}")
    try:
        header = _header.decode(raw)
        canonical = _encode(header) == raw
    except _UNDECODABLE as error:
        raise InvalidBatch("header", f"not a header: {error}") from None

    fault = _fault(header, genesis) if canonical else ("", "not the canonical encoding")
    if fault is not None:
        raise InvalidBatch(f"header.{fault[0]}", fault[1])
    return header


def _fault(header: Header, genesis: Genesis) -> tuple[str, str] | None:
    """The first field of a header that does not hold, and why."""
    if header.version != VERSION:
        return "version", f"{header.version}, this program reads {VERSION}"
    if header.cluster != genesis.hash:
        return "cluster", "another cluster's"
    lane = parse_lane(header.lane)
    if lane.node not in genesis.by_id:
        return "lane", f"no member has the id {lane.node.hex()}"
    if lane.epoch < 1:
        return "lane", "epochs count from 1"
    if lane.shard >= genesis.policies.shards:
        return "lane", f"shard {lane.shard} of {genesis.policies.shards}"
    if not 1 <= header.seq <= MAX_SEQ:
        return "seq", "counts from 1"
    if len(header.prev) != DIGEST_BYTES:
        return "prev", "32 bytes"
    if (header.seq == 1) != (header.prev == FIRST_PREV):
        return "prev", "zero for the first batch and only there"
    if not 0 < header.clock <= MAX_TIMESTAMP:
        return "clock", "out of range"
    if header.base[0] < 0 or len(header.base[1]) != DIGEST_BYTES:
        return "base", "a height and 32 bytes"
    if header.deps and (fault := _fault_of_deps(header, genesis)) is not None:
        return "deps", fault
    if any(count <= 0 for _, count in header.counts):
        return "counts", "positive"
    return None


def _fault_of_deps(header: Header, genesis: Genesis) -> str | None:
    """What is wrong with a header's deps."""
    if len(header.deps) > MAX_DEPS:
        return f"at most {MAX_DEPS}"
    lanes = [dep.lane for dep in header.deps]
    if lanes != sorted(set(lanes)):
        return "sorted by lane, none twice"
    for dep in header.deps:
        if parse_lane(dep.lane).node not in genesis.by_id or dep.lane == header.lane:
            return "another member's lane or epoch"
        if not 1 <= dep.seq <= MAX_SEQ or len(dep.hash) != DIGEST_BYTES:
            return "a seq from 1 and 32 bytes"
    return None


def check_header_signature(raw: bytes, signature: bytes, header: Header, genesis: Genesis) -> None:
    """Raise ``InvalidBatch`` unless the lane's node signed this header."""
    member = genesis.by_id[parse_lane(header.lane).node]
    if len(signature) != SIGNATURE_BYTES or not verify(member.public_key, _to_sign(header_hash(raw)), signature):
        raise InvalidBatch("batch.signature", f"not {member.name}'s")


class ForkEvidence(msgspec.Struct, frozen=True):
    """Two signed headers of one lane that cannot both be honest. ``seq`` is where the lane forks; ``raw`` is what travels."""

    raw: bytes
    lane: bytes
    seq: int
    hashes: tuple[bytes, bytes]


def fork_evidence(one: Batch, other: Batch) -> ForkEvidence:
    """Evidence from two batches that clash (see ``_fork_seq``). The same two batches give the same bytes in either order."""
    first, second = sorted((one, other), key=lambda batch: (batch.seq, batch.hash))
    raw = _encode([first.header_bytes, first.signature, second.header_bytes, second.signature])
    seq = _fork_seq(first.header, first.hash, second.header, second.hash)
    return ForkEvidence(raw, one.key, seq, (first.hash, second.hash))


def _fork_seq(first: Header, first_hash: bytes, second: Header, second_hash: bytes) -> int:
    """Where two headers of one lane prove a fork: both at one seq, or the second denying that the first precedes it."""
    if first.lane != second.lane:
        raise InvalidBatch("evidence", "the two headers are of different lanes")
    if first.seq == second.seq and first_hash < second_hash:
        return first.seq
    if first.seq + 1 == second.seq and second.prev != first_hash:
        return first.seq
    raise InvalidBatch("evidence", "the two headers do not contradict each other, or stand in the wrong order")


def open_evidence(raw: bytes, genesis: Genesis) -> ForkEvidence:
    """Check evidence as a stranger would: nothing but the genesis is needed. ``InvalidBatch`` if it proves nothing."""
    if len(raw) > 3 * MAX_HEADER_BYTES:
        raise InvalidBatch("evidence", f"{len(raw)} bytes, at most {3 * MAX_HEADER_BYTES}")
    try:
        evidence = _evidence.decode(raw)
        canonical = _encode(evidence) == raw
    except _UNDECODABLE as error:
        raise InvalidBatch("evidence", f"not evidence: {error}") from None
    if not canonical:
        raise InvalidBatch("evidence", "not the canonical encoding")
    first, second = open_header(evidence.first, genesis), open_header(evidence.second, genesis)
    hashes = (
        batch_hash(evidence.first, evidence.first_signature),
        batch_hash(evidence.second, evidence.second_signature),
    )
    check_header_signature(evidence.first, evidence.first_signature, first, genesis)
    check_header_signature(evidence.second, evidence.second_signature, second, genesis)
    seq = _fork_seq(first, hashes[0], second, hashes[1])
    return ForkEvidence(bytes(raw), first.lane, seq, hashes)
