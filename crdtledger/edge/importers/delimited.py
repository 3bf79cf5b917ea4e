"""Delimited text (CSV and its relatives): one record per line, fields by position or by a header's names.

The rules: the delimiter is what the header holds most of among ``, ; tab |`` unless it is given; a field may be quoted
with ``"`` and double a quote inside; a quoted field may hold the delimiter but no line end. Every record has as
many fields as the header. A header must have each needed column exactly once; columns nobody asked for are ignored.
Blanks around fields are dropped.
"""

from __future__ import annotations

import csv
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from crdtledger.edge.importers.lines import LineImporter
from crdtledger.edge.importers.timestamps import NoTimeError, text_to_us
from crdtledger.edge.importers.trades import ImportSpec, Trades, UnfitError
from crdtledger.errors import BadInput

DELIMITERS: Final = ",;\t|"


class DelimitedImporter(LineImporter):
    """An importer over records. A subclass names its columns and takes one record at a time."""

    needed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, spec: ImportSpec) -> None:
        super().__init__(spec)
        self._delimiter = ""
        self._width = 0
        self._columns: dict[str, int] = {}

    # -- the header -----------------------------------------------------------------------------------------

    def _open(self, opening: str) -> None:
        """Take in the header line. Raises ``BadInput`` naming the columns it lacks and those it has."""
        super()._open(opening)
        self._delimiter = self._delimiter or max(DELIMITERS, key=opening.count)
        try:
            names = self._split(opening)
        except UnfitError as error:
            raise self._wrong("a header that cannot be split", 1, error.reason) from None
        self._width = len(names)
        wanted = self._named(names)
        missing = [name for name in self._needed() if name not in wanted]
        if missing:
            have = ", ".join(repr(name[:40]) for name in names[:20])
            raise self._wrong("a header", 1, f"no column {', '.join(map(repr, missing))}; the columns are {have}")
        self._columns = wanted

    def _named(self, names: Sequence[str]) -> dict[str, int]:
        """Column name -> index. Raises ``BadInput`` when a needed name occurs twice."""
        columns: dict[str, int] = {}
        for index, name in enumerate(names):
            if columns.setdefault(name, index) != index and name in self._needed():
                raise self._wrong("a header", 1, f"the column {name!r} stands there twice")
        return columns

    def _needed(self) -> Sequence[str]:
        """The columns that must be there, once each."""
        return self.needed

    def _require_header(self) -> BadInput | None:
        """What to raise for a file without a readable first line; None for formats that need no header."""
        return self._wrong("something else", 1, "there is no header line")

    # -- the records ----------------------------------------------------------------------------------------

    def _parse(self, lines: Sequence[bytes], first: int) -> None:
        record = self._record
        for number, line in enumerate(lines, first):
            try:
                text = line.decode("utf-8").rstrip("\r")
                if not text or text.isspace():
                    continue
                if not self._opening and self._begin(text):
                    continue
                plain = '"' not in text and " " not in text
                fields = text.split(self._delimiter) if plain else self._split(text)
                if len(fields) != self._width:
                    raise UnfitError("", f"{len(fields)} fields where the header has {self._width}")
                record(fields, number)
            except UnicodeDecodeError as error:
                if not self._opening and (absent := self._require_header()):
                    raise absent from None
                self._refuse(number, str(error.start + 1), "not UTF-8 text", line)
            except UnfitError as error:
                self._refuse(number, error.column, error.reason, line)

    def _begin(self, text: str) -> bool:
        """The first line of the file. Whether it was a header, and so no record."""
        self._open(text)
        return True

    @abstractmethod
    def _record(self, fields: list[str], number: int) -> None:
        """Take in one record of exactly the header's width, or raise ``UnfitError`` before anything is appended."""

    def finish(self) -> list[Trades]:
        blocks = super().finish()
        if not self._opening and self._from_start and (error := self._require_header()):
            raise error
        return blocks

    def _split(self, text: str) -> list[str]:
        if '"' not in text:
            return [field.strip() for field in text.split(self._delimiter)]
        try:
            (fields,) = csv.reader([text], delimiter=self._delimiter, strict=True, skipinitialspace=True)
        except (csv.Error, ValueError) as error:
            raise UnfitError("", f"quotes that do not close on this line ({error})") from None
        return [field.strip() for field in fields]

    def _time(self, text: str, unit: str, column: str) -> int:
        try:
            return text_to_us(text, unit)
        except NoTimeError as error:
            raise UnfitError(column, f"{text[:40]!r}: {error}") from None


def side_of(text: str, vocabulary: Mapping[str, int], column: str) -> int:
    """+1 or -1 for a side as the file words it. Raises ``UnfitError`` listing the words known."""
    side = vocabulary.get(text) or vocabulary.get(text.lower())
    if side is None:
        raise UnfitError(column, f"{text[:40]!r} is no side; known are {', '.join(sorted(vocabulary))}")
    return side
