"""Cutting chunks into lines, whatever the chunks.

A subclass implements ``_parse`` (many whole lines at once: the hot loop is its own). Lines end in LF; a CR before it and a
byte order mark at the start of the file are dropped. Blank lines are nothing. A line over ``MAX_LINE_BYTES`` is refused
unread, so memory stays bounded whatever the file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from crdtledger.edge.importers.counting import CountingImporter
from crdtledger.edge.importers.trades import ImportSpec, Trades

MAX_LINE_BYTES: Final = 4 << 20

_BOM: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")


class LineImporter(CountingImporter, ABC):
    """An ``Importer`` (see ``trades``) over lines."""

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._carry = bytearray()
        self._discarded = 0

    # -- bytes in, blocks out -------------------------------------------------------------------------------

    def feed(self, chunk: bytes) -> list[Trades]:
        self._bytes_read += len(chunk)
        end = chunk.rfind(b"\n") + 1
        if end:
            block = b"".join((self._carry, memoryview(chunk)[:end]))
            self._carry = bytearray(memoryview(chunk)[end:])
            self._consume(block)
        else:
            self._carry += chunk
        if len(self._carry) > MAX_LINE_BYTES:
            # Keep enough to refuse the line by when its end comes; the rest is only counted.
            self._discarded += len(self._carry) - MAX_LINE_BYTES - 1
            del self._carry[MAX_LINE_BYTES + 1 :]
        return self._rows.take()

    def finish(self) -> list[Trades]:
        if self._carry:
            block, self._carry = bytes(self._carry), bytearray()
            self._consume(block)
        return self._rows.take()

    def cut_short(self, column: str, reason: str) -> None:
        self._carry.clear()
        self._note_damage(column, reason)

    def _consume(self, block: bytes) -> None:
        text = block
        if self._offset == 0:
            if block.startswith(_UTF16):
                raise self._wrong("UTF-16 text", 1, "the importers read UTF-8; convert the file first")
            text = block.removeprefix(_BOM)
        self._line += self._take_in(text)
        self._offset += len(block) + self._discarded
        self._discarded = 0

    def _take_in(self, block: bytes) -> int:
        """Parse the lines of a block; how many there are."""
        lines = block.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if len(block) > MAX_LINE_BYTES:
            for index, line in enumerate(lines):
                if len(line) > MAX_LINE_BYTES:
                    reason = f"a line of more than {MAX_LINE_BYTES} bytes"
                    self._refuse(self._line + 1 + index, "", reason, line)
                    lines[index] = b""
        self._parse(lines, self._line + 1)
        return len(lines)

    @abstractmethod
    def _parse(self, lines: Sequence[bytes], first: int) -> None:
        """Take in whole lines without their line ends; ``first`` is the number of the first one."""
