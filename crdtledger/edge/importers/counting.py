"""What every importer keeps besides its trades: what was skipped and refused, what was read, and where it is."""

from __future__ import annotations

from typing import ClassVar, Final

from crdtledger.edge.importers.rows import Rows
from crdtledger.edge.importers.trades import (
    MAX_EXCERPT_CHARACTERS,
    MAX_KINDS,
    MAX_REFUSALS_KEPT,
    ImportSpec,
    Position,
    Refusal,
    Summary,
    UnfitError,
)
from crdtledger.errors import BadInput

WRONG_FORMAT_AFTER: Final = 100
"""So many refusals before anything else was read mean that the file is in another format."""

_KIND_CHARACTERS: Final = 40


class CountingImporter:
    """The half of an ``Importer`` (see ``trades``) that does not depend on how the bytes are cut up."""

    name: ClassVar[str]
    id_space: ClassVar[str] = "trade"

    def __init__(self, spec: ImportSpec) -> None:
        self.spec = spec
        self._rows = Rows()
        self._skipped: dict[str, int] = {}
        self._refused = 0
        self._refusals: list[Refusal] = []
        self._symbol = spec.symbol or ""
        self._bytes_read = 0
        self._offset = 0
        self._line = 0
        self._opening = ""
        self._from_start = True

    # -- where we are ---------------------------------------------------------------------------------------

    @property
    def summary(self) -> Summary:
        return Summary(
            file=self.spec.file,
            lines=self._line,
            bytes_read=self._bytes_read,
            trades=self._rows.total + self._rows.pending(),
            skipped=dict(self._skipped),
            refused=self._refused,
            refusals=tuple(self._refusals),
            symbol=self._symbol,
        )

    @property
    def position(self) -> Position:
        return Position(self._offset, self._line, self._opening, self._symbol)

    def resume(self, position: Position) -> None:
        if self._bytes_read:
            raise RuntimeError("resume comes before the first chunk")
        self._offset, self._line = position.offset, position.line
        self._symbol = position.symbol or self._symbol
        self._from_start = position.offset == 0
        if position.opening:
            self._open(position.opening)

    def _open(self, opening: str) -> None:
        """Take in what the file's beginning said (``Position.opening``)."""
        self._opening = opening

    # -- what lines come to ---------------------------------------------------------------------------------

    def _skip(self, kind: str, count: int = 1) -> None:
        kind = kind[:_KIND_CHARACTERS]
        if kind not in self._skipped and len(self._skipped) >= MAX_KINDS:
            kind = "other"
        self._skipped[kind] = self._skipped.get(kind, 0) + count

    def _refuse(self, number: int, column: str, reason: str, line: bytes) -> None:
        text = line[: 4 * MAX_EXCERPT_CHARACTERS].decode("utf-8", "replace").rstrip("\r")
        excerpt = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:MAX_EXCERPT_CHARACTERS])
        self._note(Refusal(self.spec.file, number, column, reason, excerpt))
        nothing_else = not (self._skipped or self._rows.total or self._rows.pending())
        if self._from_start and nothing_else and self._refused == WRONG_FORMAT_AFTER:
            first = self._refusals[0]
            raise self._wrong("another format", first.line, f"no line fits; the first one: {first.reason}")

    def _note(self, refusal: Refusal) -> None:
        self._refused += 1
        if len(self._refusals) < MAX_REFUSALS_KEPT:
            self._refusals.append(refusal)

    def _note_damage(self, column: str, reason: str) -> None:
        """Kept whatever was refused before: it is the cause of the others, and it is the last."""
        self._refused += 1
        self._refusals.append(Refusal(self.spec.file, self._line + 1, column, reason))

    def _wrong(self, what: str, number: int, why: str) -> BadInput:
        return BadInput(what=f"{what}, not {self.name}", where=f"{self.spec.file}:{number}", why=why)

    def _wanted(self, symbol: str) -> bool:
        """Whether a row of ``symbol`` is to be imported; if not it has been counted. Raises ``UnfitError`` for a second
        symbol in a file that is imported without naming one."""
        if symbol == self._symbol:
            return True
        if not symbol:
            raise UnfitError("symbol", "no symbol")
        if self.spec.symbol is not None:
            self._skip("other symbol")
            return False
        if not self._symbol:
            self._symbol = symbol
            return True
        reason = f"symbol {symbol[:40]!r} after {self._symbol!r}: say which one to import"
        raise UnfitError("symbol", reason)
