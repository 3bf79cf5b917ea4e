"""What is left of a journal, and keeping just that: the two halves of ``crdtledger doctor``. Impure.

``examine`` only reads, and may look at the journal of a running node. ``truncate_after`` writes a new journal from the part
that can be proven and moves the old one aside; the node then opens as RESTORED and its peers send the rest.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import msgspec

from crdtledger.errors import JournalCorrupt, JournalError, JournalUnusable
from crdtledger.ledger import durablefile, journalfile, journalplace
from crdtledger.ledger.incarnation import Stamp
from crdtledger.ledger.journalfile import Head
from crdtledger.ledger.journalrecord import KIND_BATCH, Entry, JournalRecord


class LaneReport(msgspec.Struct, frozen=True):
    """The batches held of one lane: how many, the lowest and highest seq, and the seqs missing between (inclusive)."""

    batches: int
    first: int
    last: int
    gaps: tuple[tuple[int, int], ...]


class Report(msgspec.Struct, frozen=True):
    """What ``examine`` found.

    ``records``, ``position`` and ``lanes`` count what is proven, that is, everything before ``first_bad``, the first position
    that cannot be vouched for (None: all hold; 0: the fault is not in the records). ``reason`` says what is wrong
    there. ``sqlite_problems``: what SQLite's own integrity check says. ``restored``: the sticky reason why the journal is
    not known to be complete, empty for none.
    """

    path: str
    records: int
    position: int
    lanes: dict[bytes, LaneReport]
    first_bad: int | None
    reason: str
    sqlite_problems: tuple[str, ...]
    restored: str

    @property
    def sound(self) -> bool:
        """Nothing is wrong with the file. (Gaps and a restored mark are no fault of the file.)"""
        return self.first_bad is None and not self.sqlite_problems


class _Count:
    """Counts entries as they are proven."""

    def __init__(self) -> None:
        self.records = 0
        self.position = 0
        self.lanes: dict[bytes, LaneReport] = {}

    def add(self, entry: Entry) -> None:
        self.records += 1
        self.position = entry.position
        record = entry.record
        if record.kind != KIND_BATCH:
            return
        seen = self.lanes.get(record.lane)
        if seen is None:
            self.lanes[record.lane] = LaneReport(1, record.seq, record.seq, ())
            return
        gap = ((seen.last + 1, record.seq - 1),) if record.seq > seen.last + 1 else ()
        last = max(seen.last, record.seq)
        self.lanes[record.lane] = LaneReport(seen.batches + 1, seen.first, last, seen.gaps + gap)


def examine(path: str | os.PathLike[str]) -> Report:
    """Read the whole journal at ``path`` and say what holds. Never raises for what the file contains."""
    place = Path(path).resolve()
    count = _Count()
    first_bad: int | None = None
    reason = restored = ""
    problems: tuple[str, ...] = ()
    try:
        connection = journalfile.connect(place, read_only=True)
    except JournalUnusable as error:
        return Report(str(place), 0, 0, {}, 0, error.reason, (), "")
    try:
        journalfile.check_identity(connection, place)
        connection.execute("BEGIN")
        problems = journalfile.sqlite_problems(connection)
        for entry in journalfile.chained(connection, place):
            count.add(entry)
        restored = journalfile.get_restored(connection, place)
        journalfile.get_stamp(connection, place)
        for _ in journalfile.verified(connection, place):
            pass
    except JournalCorrupt as error:
        first_bad, reason = error.position, error.reason
    except JournalUnusable as error:
        first_bad, reason = 0, error.reason
    finally:
        connection.close(True)
    return Report(str(place), count.records, count.position, count.lanes, first_bad, reason, problems, restored)


def truncate_after(path: str | os.PathLike[str], position: int, *, aside: str) -> Report:
    """Keep what can be proven up to and including ``position``, move the old file aside, and report what was kept.

    ``aside`` is appended to the old name (``journal.<aside>``); a date is a good one. Named values that hold are kept too. The
    kept journal is marked: the next opening says RESTORED. Raises ``JournalLocked`` while a node runs,
    ``JournalUnusable`` when there is no journal or ``aside`` is taken.
    """
    place = Path(path).resolve()
    held = journalplace.lock(place)
    try:
        if not place.exists():
            raise JournalUnusable(path=str(place), reason="there is no journal to repair")
        draft = place.with_name(place.name + ".repair")
        for leftover in journalplace.with_logs(draft):
            leftover.unlink(missing_ok=True)
        _keep(place, draft, position)
        journalplace.put_in_place(draft, place, aside)
    except (apsw.Error, OSError) as error:
        raise JournalUnusable(path=str(place), reason=f"cannot be repaired: {error}") from error
    finally:
        held.release()
    return examine(place)


def _keep(place: Path, draft: Path, position: int) -> None:
    new = journalfile.connect(draft, create=True)
    try:
        journalfile.create_tables(new)
        with new:
            head = _copy_proven(place, new, position)
            journalfile.put_head(new, head)
            journalfile.put_stamp(new, Stamp(b"", b"", confirmed=True))
            journalfile.put_restored(
                new, f"the journal was repaired: what came after position {head.position} was cut off"
            )
    finally:
        new.close(True)
    durablefile.sync_directory(draft.parent)


def _copy_proven(place: Path, new: apsw.Connection, position: int) -> Head:
    """Copy what holds, whole positions only; the head of what was copied."""
    head = Head()
    group: list[JournalRecord] = []
    at = 0
    try:
        old = journalfile.connect(place, read_only=True)
    except JournalError:
        return head
    try:
        journalfile.check_identity(old, place)
        for key, value in journalfile.all_meta(old, place):
            journalfile.put_meta(new, key, value)
        for entry in journalfile.chained(old, place):
            if entry.position > position:
                break
            if group and entry.position != at:
                head = journalfile.insert(new, head, at, tuple(group))
                group.clear()
            at = entry.position
            group.append(entry.record)
    except JournalError:
        pass  # this is what it is for: what came before the fault is kept
    finally:
        old.close(True)
    return journalfile.insert(new, head, at, tuple(group)) if group else head
