"""A file read in one pass: whether it is whole, the digest that names its content, and its trades.

Two things must be known before the first trade is recorded, and only the end of the file tells them: that it is not damaged, and
where an earlier import of the same content stopped. So the trades wait until all of it was unpacked, at most about ``MAX_HELD_ROWS`` of
them, and memory stays bounded: what stands behind those is hashed and unpacked to its end, and read a second time when their turn has come.

A damaged file is told before one in another format: who mends the file may find that the format is right after all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from crdtledger.edge.importers.source import Damage, feed_from, open_lines
from crdtledger.edge.importers.trades import Importer, Trades
from crdtledger.errors import BadInput

MAX_HELD_ROWS: Final = 1 << 19
"""Trades that wait for the end of the file. With ids and accounts as text they take some 200 bytes each."""


class WholeFile:
    """``path``, read by ``importer``. ``size`` (bytes) and ``digest`` (SHA-256) are of the content, unpacked.

    ``seen`` is called with the number of bytes unpacked, after every chunk. Raises ``BadInput`` for a file that cannot be opened, is
    damaged or is in another format altogether.
    """

    def __init__(self, importer: Importer, path: Path, seen: Callable[[int], None] = lambda size: None) -> None:
        self.size = 0
        self._importer = importer
        self._path = path
        self._held: list[Trades] = []
        self._fed = 0
        self.digest = self._read(seen)

    def _read(self, seen: Callable[[int], None]) -> bytes:
        content = hashlib.sha256()
        wrong: BadInput | None = None
        rows = 0
        for chunk in open_lines(self._path):
            if isinstance(chunk, Damage):
                raise _damaged(chunk, self._path)
            content.update(chunk)
            if wrong is None and rows < MAX_HELD_ROWS:
                try:
                    blocks = self._importer.feed(chunk)
                except BadInput as error:
                    wrong, blocks = error, []
                self._held += blocks
                rows += sum(map(len, blocks))
                self._fed += len(chunk)
            self.size += len(chunk)
            seen(self.size)
        if wrong is not None:
            raise wrong
        if self._fed == self.size:
            self._held += self._importer.finish()
        return content.digest()

    def trades(self) -> Iterator[Trades]:
        """The trades, in the file's order; once. ``importer.summary`` tells the rest when they have ended."""
        unread = self._fed < self.size
        while self._held:
            yield self._held.pop(0)
        if unread:
            yield from feed_from(self._importer, self._path, self._fed)


def _damaged(damage: Damage, path: Path) -> BadInput:
    why = f"{damage.reason}; nothing was imported. What can be unpacked: gzip -dc {path} > {path.name}.part"
    return BadInput(what=f"byte {damage.offset}", where=str(path), why=why)
