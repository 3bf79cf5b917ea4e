"""Files: plain or gzip by their first bytes, and what a damaged one still gives."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from crdtledger.edge.importers import Importer, ImportSpec, concatenate, find_damage, import_file, importer
from crdtledger.edge.importers.source import CHUNK_BYTES, Damage, open_lines
from crdtledger.errors import BadInput

LINE = '{{"e":"trade","s":"S","t":{},"p":"{}","q":"1","T":1700000000000,"m":true}}\n'
COUNT = 20_000
TEXT = "".join(LINE.format(n, n * 7919 % 10007 + 1) for n in range(COUNT)).encode()


def machine() -> Importer:
    return importer("binance-stream", ImportSpec(file="f", price_decimals=0, qty_decimals=0))


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_plain_and_gzip_files_give_the_same_trades(tmp_path: Path) -> None:
    half = len(TEXT) // 2
    members = gzip.compress(TEXT[:half]) + b"\0" * 512 + gzip.compress(TEXT[half:]) + b"\0" * 512
    for data in (TEXT, gzip.compress(TEXT), members):
        found = machine()
        whole = concatenate(list(import_file(found, written(tmp_path / "f", data))))
        assert whole.trade_id.tolist() == list(range(COUNT))
        assert found.summary.refused == 0


def test_a_gzip_file_cut_off_anywhere_gives_every_complete_line_and_one_refusal(tmp_path: Path) -> None:
    packed = gzip.compress(TEXT)
    for keep in (2, 11, len(packed) // 3, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        found = machine()
        whole = concatenate(list(import_file(found, written(tmp_path / "f", packed[:keep]))))
        assert whole.trade_id.tolist() == list(range(len(whole)))
        (refusal,) = found.summary.refusals
        assert refusal.column == f"byte {keep}"
        assert "cut off" in refusal.reason
        assert refusal.line == len(whole) + 1
        if keep >= len(packed) - 9:
            assert len(whole) == COUNT


@pytest.mark.parametrize("where", ["inside", "checksum", "behind"])
def test_a_damaged_gzip_file_says_where(where: str, tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(TEXT))
    at = {"inside": len(packed) // 2, "checksum": len(packed) - 8, "behind": len(packed)}[where]
    packed[at : at + 4] = b"\xff\xff\xff\xff"
    found = machine()
    whole = concatenate(list(import_file(found, written(tmp_path / "f", bytes(packed)))))
    damage = [r for r in found.summary.refusals if "damaged" in r.reason]
    assert damage == [found.summary.refusals[-1]]
    told_at = int(damage[0].column.removeprefix("byte "))
    assert told_at >= at, "flipped bytes inside may show only at the checksum"
    assert find_damage(tmp_path / "f") == Damage(told_at, damage[0].reason.partition(";")[0])
    assert whole.trade_id.tolist()[:5_000] == list(range(5_000))
    assert len(whole) == COUNT or where == "inside"


def test_chunks_are_bounded_and_can_start_anywhere(tmp_path: Path) -> None:
    for data in (TEXT, gzip.compress(TEXT)):
        path = written(tmp_path / "f", data)
        chunks = [chunk for chunk in open_lines(path) if not isinstance(chunk, Damage)]
        assert b"".join(chunks) == TEXT
        assert max(map(len, chunks)) <= 2 * CHUNK_BYTES
        rest = [chunk for chunk in open_lines(path, 1_000_001) if not isinstance(chunk, Damage)]
        assert b"".join(rest) == TEXT[1_000_001:]


def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = written(tmp_path / "f.gz", gzip.compress(TEXT * 3))
    first, second = machine(), machine()
    before = next(import_file(first, path))
    after = list(import_file(second, path, first.position))
    assert after
    assert concatenate([before, *after]).trade_id.tolist() == [*range(COUNT)] * 3
    assert second.summary.lines == 3 * COUNT


def test_a_small_file_that_unpacks_to_a_large_one_comes_in_bounded_chunks(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\n" * (40 << 20))
    assert len(bomb) < 1 << 16
    sizes = [len(chunk) for chunk in open_lines(written(tmp_path / "f", bomb)) if not isinstance(chunk, Damage)]
    assert sum(sizes) == 40 << 20
    assert max(sizes) <= 2 * CHUNK_BYTES


@pytest.mark.parametrize(("data", "why"), [(None, "No such file"), (b"PK\x03\x04....", "unpack it first")])
def test_what_cannot_be_opened_is_one_clear_error(data: bytes | None, why: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadInput, match=why):
        list(open_lines(path))
