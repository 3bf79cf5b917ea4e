"""Files of any bytes and of half-valid lines, in any chunks, into every importer: columns, refusals with a place, or one error."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.driving import Draw, imports, run

with imports():
    from crdtledger.edge.importers import FORMATS, ImportSpec, importer
    from crdtledger.errors import BadInput
    from crdtledger.ledger.facts import MAX_AMOUNT

SAMPLES = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "fixtures" / "importers").iterdir())]
MAPPING = {"id": "id", "price": "price", "qty": "qty", "side": "side", "time": "time"}
PIECES = (
    b"\n",
    b"\r\n",
    b",",
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"1e400",
    b"-1",
    b"9" * 30,
    b"\xff",
    b"\0",
    b"NaN",
    b"0.",
    b"''",
)


def one(data: bytes) -> None:
    """One file."""
    draw = Draw(data)
    name = draw.one_of(list(FORMATS))
    file = bytearray(draw.one_of(SAMPLES) if draw.integer(0, 7) else draw.bytes(300))
    for _ in range(draw.integer(0, 8)):
        at = draw.integer(0, len(file))
        file[at : at + draw.integer(0, 12)] = draw.one_of((draw.one_of(PIECES), draw.bytes(3), b""))
    spec = ImportSpec(
        "file",
        draw.integer(0, 18),
        draw.integer(0, 18),
        draw.one_of((None, "BTCUSDT")),
        {"USDT": 2, "BNB": 8},
        MAPPING if name == "csv" else {},
    )
    try:
        machine = importer(name, spec)
        blocks = []
        while file:
            size = draw.integer(1, 400)
            blocks += machine.feed(bytes(file[:size]))
            del file[:size]
        blocks += machine.finish()
    except BadInput:
        return
    for block in blocks:
        assert len(block.price) == len(block.qty) == len(block.side) == len(block)
        assert ((block.price > 0) & (block.price <= MAX_AMOUNT)).all()
        assert ((block.qty > 0) & (block.qty <= MAX_AMOUNT)).all()
    summary = machine.summary
    assert (summary() if callable(summary) else summary).trades == sum(map(len, blocks))


if __name__ == "__main__":
    run(one)
