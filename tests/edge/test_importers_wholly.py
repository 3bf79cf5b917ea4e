"""A file read in one pass says what the separate passes say: one for its damage, one for its digest, one for its trades."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.importers import Importer, ImportSpec, Trades, WholeFile, find_damage, import_file, importer
from crdtledger.errors import BadInput
from tests.edge.test_importers_laws import rows

SPEC = ImportSpec(file="f", price_decimals=2, qty_decimals=3)
_TRADE = '{{"data":{{"e":"trade","s":"S","t":{0},"p":"{1}.5","q":"{0}.25","T":1700000000000,"m":true}}}}'
_LINES = st.one_of(
    st.builds(_TRADE.format, st.integers(0, 10**6), st.integers(1, 10**4)),
    st.sampled_from(('{"e":"bookTicker"}', '{"e":"trade"', "", "what?")),
)
contents = st.lists(_LINES, max_size=60).map(lambda lines: "\n".join(lines).encode())


def packed(content: bytes, members: int) -> bytes:
    """Plain for no members, else gzip in so many."""
    if not members:
        return content
    step = len(content) // members + 1
    return b"".join(gzip.compress(content[at : at + step], 1) for at in range(0, members * step, step))


@contextmanager
def cut(chunk: int) -> Iterator[Path]:
    """A place for a file that is read in chunks of about this size."""
    with tempfile.TemporaryDirectory() as folder, patch("crdtledger.edge.importers.source.CHUNK_BYTES", chunk):
        yield Path(folder) / "f"


def apart(path: Path) -> tuple[list[Trades], Importer]:
    """The trades by the plain way, in a pass of their own."""
    machine = importer("binance-stream", SPEC)
    return list(import_file(machine, path)), machine


@given(content=contents, members=st.integers(0, 3), chunk=st.integers(20, 3_000), held=st.integers(1, 40))
def test_one_pass_finds_the_digest_and_the_trades_that_passes_of_their_own_find(
    content: bytes, members: int, chunk: int, held: int
) -> None:
    with cut(chunk) as path, patch("crdtledger.edge.importers.wholly.MAX_HELD_ROWS", held):
        path.write_bytes(packed(content, members))
        expected, plain = apart(path)
        seen: list[int] = []
        machine = importer("binance-stream", SPEC)
        whole = WholeFile(machine, path, seen.append)
        assert (whole.size, whole.digest) == (len(content), hashlib.sha256(content).digest())
        assert seen == sorted(seen)
        assert seen[-1:] == [len(content)] * bool(content)
        assert rows(list(whole.trades())) == rows(expected)
        assert (machine.summary, machine.position) == (plain.summary, plain.position)


@given(
    content=contents.filter(len),
    damage=st.one_of(
        st.integers(1, 40).map(lambda cut_off: (-cut_off, b"")), st.tuples(st.integers(2, 10**6), st.binary(max_size=3))
    ),
    chunk=st.integers(20, 3_000),
    held=st.integers(1, 40),
)
def test_a_damaged_file_is_refused_where_a_pass_for_its_damage_finds_it(
    content: bytes, damage: tuple[int, bytes], chunk: int, held: int
) -> None:
    at, put = damage
    data = gzip.compress(content)
    at = max(2, at % len(data) if at > 0 else len(data) + at)
    data = data[:at] + put + (data[at + len(put) :] if put else b"")
    with cut(chunk) as path, patch("crdtledger.edge.importers.wholly.MAX_HELD_ROWS", held):
        path.write_bytes(data)
        found = find_damage(path)
        if found is None:
            assert WholeFile(importer("binance-stream", SPEC), path).size
            return
        with pytest.raises(BadInput, match=f"byte {found.offset}: ") as told:
            WholeFile(importer("binance-stream", SPEC), path)
        assert found.reason in str(told.value)


@pytest.mark.parametrize("damaged", [False, True])
def test_another_format_is_told_unless_the_file_is_damaged(damaged: bool) -> None:
    with cut(500) as path:
        data = gzip.compress(b"what?\n" * 10_000)
        path.write_bytes(data[:-1] if damaged else data)
        with pytest.raises(BadInput, match="cut off" if damaged else "another format"):
            WholeFile(importer("binance-stream", SPEC), path)
