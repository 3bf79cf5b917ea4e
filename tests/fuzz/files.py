"""Files and texts of any sense: journal records, genesis and node files, Yjs dumps, decimal text."""

from __future__ import annotations

import contextlib
import decimal
import functools

import msgspec

from tests.fuzz.driving import Draw, imports, run

with imports():
    from crdtledger.edge.folders import CurveKeys, NodeFile, RunFile, Secrets
    from crdtledger.edge.simulate.cluster import found
    from crdtledger.errors import BadGenesis, InvalidBatch
    from crdtledger.ledger import genesis
    from crdtledger.ledger.decimals import LIMIT, InexactError, to_minor
    from crdtledger.ledger.incarnation import decode_sidecar, encode_sidecar
    from crdtledger.ledger.journalrecord import JournalRecord, decode_record, encode_record
    from crdtledger.ledger.lane import LaneDocument, read_dump


@functools.cache
def valid(kind: int) -> bytes:
    """Bytes that hold, of each kind."""
    if kind == 0:
        return encode_record(JournalRecord(1, b"lane" * 5, 7, bytes(32), b"body"))
    if kind == 1:
        founded = found()
        nodes = tuple(msgspec.structs.replace(m, curve=c * 40) for m, c in zip(founded.nodes, "abcd", strict=True))
        return msgspec.structs.replace(founded, nodes=nodes).encode()
    if kind == 2:
        document = LaneDocument(bytes(22))
        document.append([b"one", b"two" * 50, b""])
        return document.dump()
    return encode_sidecar(b"incarnation-of-it", 77)


def mutated(draw: Draw, raw: bytes) -> bytes:
    """``raw`` with a few places changed."""
    data = bytearray(raw)
    for _ in range(draw.integer(0, 6)):
        at = draw.integer(0, len(data))
        data[at : at + draw.integer(0, 3)] = draw.bytes(draw.integer(0, 4))
    return bytes(data)


def one(data: bytes) -> None:
    """One of the readers."""
    draw = Draw(data)
    kind = draw.integer(0, 4)
    if kind == 4:
        _decimal(draw)
        return
    raw = mutated(draw, valid(kind)) if draw.integer(0, 3) else draw.bytes(200)
    if kind == 0:
        record = decode_record(raw)
        assert not isinstance(record, JournalRecord) or decode_record(encode_record(record)) == record
    elif kind == 1:
        with contextlib.suppress(BadGenesis):
            founded = genesis.load(raw)
            assert genesis.load(founded.encode()).hash == founded.hash
        for shape in (NodeFile, Secrets, CurveKeys, RunFile):
            with contextlib.suppress(BadGenesis):
                genesis.decode_config(raw, shape, "file")
    elif kind == 2:
        with contextlib.suppress(InvalidBatch):
            assert all(isinstance(element, bytes) for element in read_dump(raw))
    else:
        decode_sidecar(raw)


def _decimal(draw: Draw) -> None:
    alphabet = "0123456789.eE+-_ nNa\u0661"
    text = "".join(draw.one_of(alphabet) for _ in range(draw.integer(0, 30))) if draw.integer(0, 3) else draw.text()
    decimals = draw.integer(0, 18)
    try:
        amount = to_minor(text, decimals, signed=True)
    except InexactError:
        return
    with decimal.localcontext() as context:
        context.prec = 200
        assert decimal.Decimal(text).scaleb(decimals) == amount
    assert abs(amount) <= LIMIT


if __name__ == "__main__":
    run(one)
