"""The board: who looks after which break, where it stands, how it ended, and what was said about it. Written at every node, also while it
is cut off, and the same wherever the same batches are held.

One Yjs document, each lane a client of its own in it, notes only ever appended (``noteform`` says what may come next). Out of that:

* Nobody can take away or change what somebody else noted. What was replaced stays in the history, with who replaced it.
* Comments add up. Of an owner, a status or a resolution those notes *stand* that no other note of the same break and field replaces:
  one, usually; several when people wrote apart, and then all are shown until somebody who sees them decides.
* What an honest node notes replaces what stood there, by the names of those notes, never by a clock. So a node whose clock is wrong, or
  that lies about it, gains nothing: clocks only say in which order a history is told.
* An update that is not the next one of its lane is void (``apply`` counts them), at every replica alike: it depends on the lane's own
  prefix, and on bytes.

Unsettled notes come on top of the settled ones, which stay for good. pycrdt is only used to hand the document out (``dump``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pycrdt import Array, Doc

from crdtledger.ledger.batch import Batch, parse_lane
from crdtledger.ledger.genesis import Genesis
from crdtledger.ledger.noteform import COMMENT, FIELDS, ROOT, decode_entry, note_name, read, update_of
from crdtledger.ledger.settledparts import SettledNote

NOT_NEXT: Final = "no note, or not the next one of its lane"
APART: Final = " | "
"""Between what was noted apart and stands beside each other."""


class Noted(NamedTuple):
    """One note on the board. ``number``: from 0 within its lane. ``clock``: as its batch states it. ``over``: names of notes that it
    replaces."""

    name: bytes
    node: str
    lane: bytes
    number: int
    clock: int
    break_id: str
    field: str
    text: str
    over: tuple[bytes, ...]
    settled: bool

    @property
    def told(self) -> tuple[int, bytes, int]:
        """Where it stands in a history."""
        return self.clock, self.lane, self.number


class BoardRow(NamedTuple):
    """A break on the board. ``owner``, ``status`` and ``resolution``: what stands, ``APART`` between what was noted apart; empty for
    nothing (a break that nobody gave a status is ``open``). ``contested``: fields of which several stand. ``last``: the newest comment,
    empty if there is none, and ``last_by`` who wrote it. ``clock``: of the newest note. ``settled``: whether all of it is."""

    break_id: str
    owner: str
    status: str
    resolution: str
    comments: int
    last: str
    last_by: str
    contested: tuple[str, ...]
    clock: int
    settled: bool


class Board:
    """The board of one view. ``settled``: lane -> its notes, in order."""

    def __init__(self, genesis: Genesis, settled: Mapping[bytes, Sequence[SettledNote]]) -> None:
        self._genesis = genesis
        self._settled = settled
        self._fresh: dict[bytes, list[SettledNote]] = {}
        self._by_break: dict[str, list[Noted]] | None = None

    def apply(self, batch: Batch) -> int:
        """Take in a batch's notes, the next ones of its lane. How many are void."""
        void = 0
        for update in batch.body.notes:
            number = self.count(batch.key)
            entry = read(batch.key, number, update)
            if entry is None:
                void += 1
                continue
            note = SettledNote(batch.header.clock, entry)
            self._fresh.setdefault(batch.key, []).append(note)
            if self._by_break is not None:
                self._index(self._by_break, batch.key, number, note, settled=False)
        return void

    def count(self, lane: bytes) -> int:
        """How many notes of ``lane`` stand on the board."""
        return len(self._settled.get(lane, ())) + len(self._fresh.get(lane, ()))

    def extended(self) -> dict[bytes, tuple[SettledNote, ...]]:
        """The lanes that have unsettled notes, with all of their notes."""
        return {lane: (*self._settled.get(lane, ()), *notes) for lane, notes in self._fresh.items()}

    # -- reading --------------------------------------------------------------------------------------------

    def rows(self) -> list[BoardRow]:
        """Every break that something was noted about, by id."""
        return [self._row(break_id) for break_id in sorted(self._breaks())]

    def history(self, break_id: str) -> list[Noted]:
        """Everything that was noted about a break, oldest first."""
        return sorted(self._breaks().get(break_id, ()), key=lambda one: one.told)

    def notes(self) -> list[Noted]:
        """Everything that was noted, by break, oldest first."""
        return [one for break_id in sorted(self._breaks()) for one in self.history(break_id)]

    def standing(self, break_id: str, field: str) -> list[Noted]:
        """The notes of a field that nothing replaces, oldest first. All comments stand."""
        of_field = [one for one in self.history(break_id) if one.field == field]
        replaced = {name for one in of_field for name in one.over}
        return [one for one in of_field if one.name not in replaced]

    def dump(self) -> bytes:
        """The board as one Yjs update that a stock client can open: a root Array of the entries' bytes."""
        document: Doc[Array[bytes]] = Doc()
        document.get(ROOT, type=Array)
        for lane, number, note in self._all():
            document.apply_update(update_of(lane, number, note.entry))
        return document.get_update()

    # -- within ---------------------------------------------------------------------------------------------

    def _row(self, break_id: str) -> BoardRow:
        history = self.history(break_id)
        stands = {field: self.standing(break_id, field) for field in FIELDS}
        texts = {field: [one.text for one in notes if one.text] for field, notes in stands.items()}
        told = {field: APART.join(dict.fromkeys(texts[field])) for field in FIELDS}
        comments = stands[COMMENT]
        return BoardRow(
            break_id,
            told["owner"],
            told["status"] or "open",
            told["resolution"],
            len(comments),
            comments[-1].text if comments else "",
            comments[-1].node if comments else "",
            tuple(field for field in FIELDS if field != COMMENT and len({one.text for one in stands[field]}) > 1),
            max(one.clock for one in history),
            all(one.settled for one in history),
        )

    def _breaks(self) -> Mapping[str, Sequence[Noted]]:
        if self._by_break is None:
            index: dict[str, list[Noted]] = {}
            for lane, number, note in self._all():
                self._index(index, lane, number, note, settled=number < len(self._settled.get(lane, ())))
            self._by_break = index
        return self._by_break

    def _index(
        self, index: dict[str, list[Noted]], lane: bytes, number: int, note: SettledNote, *, settled: bool
    ) -> None:
        entry = decode_entry(note.entry)
        assert entry is not None, "only entries get onto the board"
        name = note_name(lane, number, note.entry)
        node = self._genesis.by_id[parse_lane(lane).node].name
        said = (entry.break_id, FIELDS[entry.field], entry.text, entry.over)
        index.setdefault(entry.break_id, []).append(Noted(name, node, lane, number, note.clock, *said, settled))

    def _all(self) -> Iterator[tuple[bytes, int, SettledNote]]:
        for lane in sorted(self._settled.keys() | self._fresh.keys()):
            notes = (*self._settled.get(lane, ()), *self._fresh.get(lane, ()))
            yield from ((lane, number, note) for number, note in enumerate(notes))
