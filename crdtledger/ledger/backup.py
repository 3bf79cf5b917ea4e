"""Copies of a journal: taken while the node runs, and put back when it does not. Impure.

A copy is marked inside as one, so whoever opens it as a node's journal is told RESTORED and opens a new epoch, also when
it was put there by hand. What a copy lacks (all that was recorded after it) comes back from peers.
"""

from __future__ import annotations

import os
from pathlib import Path

import apsw
import msgspec

from crdtledger.errors import JournalCorrupt, JournalUnusable
from crdtledger.ledger import durablefile, journalfile, journalplace
from crdtledger.ledger.examination import Report, examine


def backup(path_from: str | os.PathLike[str], path_to: str | os.PathLike[str]) -> Report:
    """Copy the journal at ``path_from`` to the new file ``path_to``, consistently and synced, and read it back.

    The node may be running. Raises ``JournalUnusable`` when ``path_to`` exists or ``path_from`` is no journal, and
    ``JournalCorrupt`` when the journal does not hold (no copy is left then).
    """
    source, target = Path(path_from).resolve(), Path(path_to).resolve()
    if target.exists():
        raise JournalUnusable(path=str(target), reason="is there already; a backup overwrites nothing")
    draft = target.with_name(target.name + ".partial")
    try:
        report = _copy(source, draft)
        os.link(draft, target)  # unlike a rename, refuses when somebody was faster
        draft.unlink()
        durablefile.sync_directory(target.parent)
    except (apsw.Error, OSError) as error:
        raise JournalUnusable(path=str(target), reason=f"cannot be written: {error}") from error
    return msgspec.structs.replace(report, path=str(target))


def restore(backup_path: str | os.PathLike[str], path: str | os.PathLike[str], *, aside: str) -> Report:
    """Put a copy of the backup in the place of the journal at ``path``, and report what it holds.

    The old journal, if there is one, is moved to ``<its name>.<aside>``; a date is a good one. The backup stays as it is.
    Raises ``JournalLocked`` while a node runs, ``JournalUnusable`` when the backup is no journal or ``aside`` is
    taken, ``JournalCorrupt`` when the backup does not hold. The old journal is untouched then.
    """
    source, place = Path(backup_path).resolve(), Path(path).resolve()
    held = journalplace.lock(place)
    try:
        draft = place.with_name(place.name + ".restoring")
        report = _copy(source, draft)
        journalplace.put_in_place(draft, place, aside)
    except (apsw.Error, OSError) as error:
        raise JournalUnusable(path=str(place), reason=f"cannot be restored: {error}") from error
    finally:
        held.release()
    return msgspec.structs.replace(report, path=str(place))


def _copy(source: Path, draft: Path) -> Report:
    """Copy ``source`` to the single file ``draft``, mark it as a copy, sync it, read it back."""
    for leftover in journalplace.with_logs(draft):
        leftover.unlink(missing_ok=True)
    old = journalfile.connect(source, read_only=True)
    try:
        journalfile.check_identity(old, source)
        new = journalfile.connect(draft, create=True)
        try:
            with new.backup("main", old, "main") as copying:
                copying.step(-1)  # one step is one snapshot: nothing to restart when the node commits
            new.pragma("journal_mode", "DELETE")  # so that the copy is one file
            position = journalfile.get_head(new, source).position
            stamp = journalfile.get_stamp(new, source)
            reason = f"a backup copy of incarnation {stamp.current.hex()[:16]} up to position {position}"
            with new:
                journalfile.put_restored(new, journalfile.get_restored(new, source) or reason)
        finally:
            new.close(True)
    finally:
        old.close(True)
    durablefile.sync_directory(draft.parent)
    report = examine(draft)
    if not report.sound:
        draft.unlink()
        reason = report.reason or report.sqlite_problems[0]
        raise JournalCorrupt(path=str(source), position=report.first_bad or 0, reason=reason)
    return report
