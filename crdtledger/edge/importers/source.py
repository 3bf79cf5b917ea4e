"""Files as chunks of bytes: plain or gzip, told apart by their first bytes. The only importer module that does I/O.

A damaged gzip file (cut off, a wrong checksum, junk behind it) yields everything that could be decompressed before the
damage and then one ``Damage``; the last incomplete line goes no further (``Importer.cut_short``). Flipped bytes often unpack to
wrong text without complaint, and only the checksum at the end of the file tells: ask ``find_damage`` before recording anything
that cannot be taken back, or read by ``wholly``. Files may be several gzip members in a row, as log rotation writes them.
Formats: RFC 1952.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from crdtledger.edge.importers.trades import Importer, Position, Trades
from crdtledger.errors import BadInput

CHUNK_BYTES: Final = 1 << 20
_GZIP: Final = b"\x1f\x8b"
_OTHER_ARCHIVES: Final = {b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstandard", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_READ_BYTES: Final = 1 << 16


class Damage(msgspec.Struct, frozen=True):
    """The file could not be read further: ``offset`` is in the file as it lies on disk."""

    offset: int
    reason: str


def open_lines(path: Path, skip: int = 0) -> Iterator[bytes | Damage]:
    """The file's decompressed bytes from offset ``skip`` on, in chunks of about ``CHUNK_BYTES``; at most one ``Damage``,
    at the end. Raises ``BadInput`` when the file cannot be opened or is another kind of archive."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInput(what="a file to import", where=str(path), why=error.strerror or str(error)) from error
    with file:
        head = file.read(8)
        for magic, archive in _OTHER_ARCHIVES.items():
            if head.startswith(magic):
                raise BadInput(
                    what=f"a {archive} archive", where=str(path), why="unpack it first, or pack it with gzip"
                )
        file.seek(0)
        if head.startswith(_GZIP):
            yield from _without(skip, _gathered(_gunzip(file)))
        else:
            file.seek(skip)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def find_damage(path: Path) -> Damage | None:
    """Read the whole file once, checksums included, and keep nothing. Raises ``BadInput`` like ``open_lines``."""
    return next((chunk for chunk in open_lines(path) if isinstance(chunk, Damage)), None)


def import_file(importer: Importer, path: Path, position: Position | None = None) -> Iterator[Trades]:
    """Drive ``importer`` over a file, from ``position`` on; its blocks as they come. ``importer.summary`` tells the rest,
    and ``importer.position`` after each block is where an interrupted import goes on. Raises ``BadInput``."""
    if position is not None:
        importer.resume(position)
    yield from feed_from(importer, path, position.offset if position is not None else 0)


def feed_from(importer: Importer, path: Path, offset: int) -> Iterator[Trades]:
    """Feed ``importer``, which has been fed ``offset`` unpacked bytes of the file or resumes there, the rest of it."""
    for chunk in open_lines(path, offset):
        if isinstance(chunk, Damage):
            importer.cut_short(f"byte {chunk.offset}", f"{chunk.reason}; what could be read before it is imported")
            return
        yield from importer.feed(chunk)
    yield from importer.finish()


def _gunzip(file: BinaryIO) -> Iterator[bytes | Damage]:
    member = zlib.decompressobj(wbits=31)
    began = False
    offset = 0
    while data := file.read(_READ_BYTES):
        while data:
            if not began:
                # Zero bytes between or behind members are padding (tape blocks), as gzip itself allows.
                padded = len(data)
                data = data.lstrip(b"\0")
                offset += padded - len(data)
                if not data:
                    break
            before = member.copy()
            try:
                # Bounded, because 64 KiB can unpack to 64 MiB; what does not fit comes out of the next call.
                yield member.decompress(data, CHUNK_BYTES)
            except zlib.error as error:
                yield from _salvage(before, data, offset, str(error))
                return
            rest = member.unused_data if member.eof else member.unconsumed_tail
            offset += len(data) - len(rest)
            data = rest
            began = not member.eof
            if member.eof:
                member = zlib.decompressobj(wbits=31)
    while began and (more := member.decompress(member.unconsumed_tail, CHUNK_BYTES)):
        yield more
    if began:
        yield Damage(offset, "the gzip file is cut off")


def _salvage(member: zlib._Decompress, data: bytes, offset: int, reason: str) -> Iterator[bytes | Damage]:
    """Byte by byte up to the damage: one call with it would have lost all that stands before."""
    for index in range(len(data)):
        try:
            yield member.decompress(data[index : index + 1])
        except zlib.error:
            yield Damage(offset + index, f"the gzip file is damaged ({reason.rpartition(': ')[2]})")
            return


def _gathered(pieces: Iterator[bytes | Damage]) -> Iterator[bytes | Damage]:
    """Chunks of about ``CHUNK_BYTES`` from small pieces: importers work best on many lines at once."""
    held: list[bytes] = []
    size = 0
    for piece in pieces:
        if isinstance(piece, bytes):
            held.append(piece)
            size += len(piece)
            if size < CHUNK_BYTES:
                continue
        if held:
            yield b"".join(held)
        held, size = [], 0
        if isinstance(piece, Damage):
            yield piece
            return
    if held:
        yield b"".join(held)


def _without(skip: int, chunks: Iterator[bytes | Damage]) -> Iterator[bytes | Damage]:
    for chunk in chunks:
        if isinstance(chunk, Damage):
            yield chunk
        elif skip >= len(chunk):
            skip -= len(chunk)
        else:
            yield chunk[skip:]
            skip = 0
