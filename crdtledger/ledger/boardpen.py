"""What a node writes on the board: notes as the next updates of its lane, without those that would change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crdtledger.ledger.board import Board
from crdtledger.ledger.body import WireBody
from crdtledger.ledger.facts import Note
from crdtledger.ledger.noteform import COMMENT, FIELDS, MAX_OVER, Entry, encode_entry, note_name, update_of

MAX_NOTES_BYTES: Final = 192 * 1024
"""Of the updates in one body, whatever else stands in it."""


class BoardPen:
    """Writes on the board in one lane of ``node``. It remembers what it wrote, so one call may replace what it has just noted."""

    def __init__(self, board: Board, lane: bytes, node: str) -> None:
        self._board, self._lane, self._node = board, lane, node
        self._number = board.count(lane)
        self._stands: dict[tuple[str, str], list[tuple[bytes, str]]] = {}

    def updates(self, notes: Iterable[Note]) -> list[bytes]:
        """The updates that note what does not stand yet."""
        return [update for note in notes if (update := self._update(note))]

    def _update(self, note: Note) -> bytes | None:
        stands = self._standing(note)
        if self._said(note, [text for _, text in stands]):
            return None
        replaces = note.field != COMMENT
        over = tuple(sorted(name for name, _ in stands[:MAX_OVER])) if replaces else ()
        entry = encode_entry(Entry(note.break_id, FIELDS.index(note.field), note.text, over))
        update = update_of(self._lane, self._number, entry)
        stands[: len(over)] = []
        stands.append((note_name(self._lane, self._number, entry), note.text))
        self._number += 1
        return update

    def _standing(self, note: Note) -> list[tuple[bytes, str]]:
        """(Name, text) of what the note meets: of comments, this node's own."""
        at = (note.break_id, note.field)
        if at not in self._stands:
            told = self._board.standing(*at)
            own = [one for one in told if note.field != COMMENT or one.node == self._node]
            self._stands[at] = [(one.name, one.text) for one in own]
        return self._stands[at]

    def _said(self, note: Note, stands: list[str]) -> bool:
        if note.field == COMMENT:
            return note.text in stands
        return stands == [note.text] or (not stands and not note.text)


def note_bodies(updates: Iterable[bytes]) -> list[WireBody]:
    """Bodies for updates, in order, as few as may be."""
    bodies: list[WireBody] = []
    size = MAX_NOTES_BYTES
    for update in updates:
        size += len(update)
        if size > MAX_NOTES_BYTES:
            bodies.append(WireBody([], [], [], [], [], [], [], []))
            size = len(update)
        bodies[-1].notes.append(update)
    return bodies
