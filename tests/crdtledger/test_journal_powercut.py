"""Cut the power at any sync point: what was reported durable is there, what is there is a prefix, and it knows so.

A workload runs once over an apsw VFS that records every write, truncation, sync, creation, deletion and rename, also
those of the files around the journal. From the record a disk is rebuilt as a power cut would leave it: what was synced,
and of the rest nothing, everything, the first part, or a drawn choice of 512-byte sectors. Names count as unsynced until
their directory, or the new file itself, is synced.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import pytest

from crdtledger.ledger import durablefile, journalplace
from crdtledger.ledger.backup import backup, restore
from crdtledger.ledger.examination import examine, truncate_after
from crdtledger.ledger.incarnation import Verdict
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import Entry, JournalRecord, Prune
from tests.crdtledger.test_journal import batch, nonce

SECTOR_BYTES = 512


class Write(NamedTuple):
    inode: int
    offset: int
    content: bytes


class Truncate(NamedTuple):
    inode: int
    size: int


class Sync(NamedTuple):
    inode: int


class Create(NamedTuple):
    name: str
    inode: int


class Rename(NamedTuple):
    source: str
    target: str


class Unlink(NamedTuple):
    name: str


class SyncDirectory(NamedTuple):
    pass


class Reported(NamedTuple):
    """Not an operation: from here on, ``position`` must survive."""

    position: int


class Began(NamedTuple):
    """Not an operation: an operator's action began."""


Operation = Write | Truncate | Sync | Create | Rename | Unlink | SyncDirectory | Reported | Began
NAMING = (Create, Rename, Unlink)
Choice = Callable[[list[Operation]], list[Operation]]


class Recorder:
    """Records what happens in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.operations: list[Operation] = []
        self.inodes: dict[str, int] = {}

    def opened(self, path: str) -> int:
        name = os.path.basename(path)
        if name not in self.inodes:
            self.inodes[name] = len(self.operations)
            self.operations.append(Create(name, self.inodes[name]))
        return self.inodes[name]

    def renamed(self, source: str, target: str) -> None:
        if source in self.inodes:  # shared memory (-shm) is not: it is gone after a power cut
            self.inodes[target] = self.inodes.pop(source)
            self.operations.append(Rename(source, target))

    def deleted(self, path: str, sync_directory: bool) -> None:
        name = os.path.basename(path)
        if self.inodes.pop(name, None) is not None:
            self.operations.append(Unlink(name))
        if sync_directory:
            self.operations.append(SyncDirectory())


class RecordingFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        assert path is not None
        self.recorder, self.inode = recorder, recorder.opened(path)

    def xLock(self, level: int) -> None:  # noqa: N802
        try:
            super().xLock(level)
        except (
            apsw.IOError
        ) as error:  # a file opened for reading, at its close: SQLite takes any refusal for an answer,
            raise apsw.BusyError from error  # but apsw passes on only this one silently

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        super().xWrite(data, offset)
        self.recorder.operations.append(Write(self.inode, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        super().xTruncate(newsize)
        self.recorder.operations.append(Truncate(self.inode, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        super().xSync(flags)
        self.recorder.operations.append(Sync(self.inode))


class RecordingVFS(apsw.VFS):
    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        super().__init__("recording", "unix", True)

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        return RecordingFile(self.recorder, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        if os.path.exists(filename):  # SQLite deletes what may not be there; apsw would make that an error
            super().xDelete(filename, syncdir)
        self.recorder.deleted(filename, bool(syncdir))


@contextlib.contextmanager
def recording(folder: Path) -> Iterator[Recorder]:
    """While this lasts, whatever is done to the files in ``folder`` is recorded."""
    folder.mkdir(exist_ok=True)
    recorder = Recorder(folder)
    write_new, replace_name, pwrite, fsync = durablefile.write_new, os.replace, os.pwrite, os.fsync

    def named(descriptor: int) -> str:
        return os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))

    def recorded_write_new(path: Path, content: bytes) -> None:
        recorder.inodes.pop(path.name, None)
        inode = recorder.opened(str(path))
        recorder.operations.append(Write(inode, 0, content))
        write_new(path, content)

    def recorded_replace(source: Path, target: Path) -> None:
        replace_name(source, target)
        recorder.renamed(source.name, target.name)

    def recorded_pwrite(descriptor: int, content: bytes, offset: int) -> int:
        if named(descriptor) in recorder.inodes:
            recorder.operations.append(Write(recorder.inodes[named(descriptor)], offset, content))
        return pwrite(descriptor, content, offset)

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        if named(descriptor) in recorder.inodes:
            recorder.operations.append(Sync(recorder.inodes[named(descriptor)]))
        elif named(descriptor) == folder.name:
            recorder.operations.append(SyncDirectory())

    vfs = RecordingVFS(recorder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durablefile, "write_new", recorded_write_new)
        patch.setattr(os, "replace", recorded_replace)
        patch.setattr(os, "pwrite", recorded_pwrite)
        patch.setattr(os, "fsync", recorded_fsync)
        yield recorder
    vfs.unregister()


# -- the disk after a cut -------------------------------------------------------------------------------------


def apply(image: bytearray, operation: Operation) -> None:
    if isinstance(operation, Write):
        end = operation.offset + len(operation.content)
        image.extend(bytes(max(0, end - len(image))))
        image[operation.offset : end] = operation.content
    elif isinstance(operation, Truncate):
        del image[operation.size :]


def name(names: dict[str, int], operation: Operation) -> None:
    if isinstance(operation, Create):
        names[operation.name] = operation.inode
    elif isinstance(operation, Rename):
        if operation.source in names:
            names[operation.target] = names.pop(operation.source)
    elif isinstance(operation, Unlink):
        names.pop(operation.name, None)


def disk_after(operations: list[Operation], choose: Choice) -> dict[str, bytes]:
    """What the folder holds after a power cut behind ``operations``; ``choose`` picks what is kept of the unsynced."""
    images: dict[int, bytearray] = {}
    names: dict[str, int] = {}
    naming: list[Operation] = []
    unsynced: list[Operation] = []
    for operation in operations:
        if isinstance(operation, NAMING):
            naming.append(operation)
            if isinstance(operation, Create):
                images[operation.inode] = bytearray()
        elif isinstance(operation, Write | Truncate):
            unsynced.append(operation)
        elif isinstance(operation, Sync):
            for one in unsynced:
                if isinstance(one, Write | Truncate) and one.inode == operation.inode:
                    apply(images[operation.inode], one)
            unsynced = [one for one in unsynced if getattr(one, "inode", None) != operation.inode]
            made = [n for n, one in enumerate(naming) if isinstance(one, Create) and one.inode == operation.inode]
            for one in naming[: max(made, default=-1) + 1]:
                name(names, one)
            naming = naming[max(made, default=-1) + 1 :]
        elif isinstance(operation, SyncDirectory):
            for one in naming:
                name(names, one)
            naming = []
    kept = naming[: len(choose(naming))]  # names change in order, or not at all
    for one in kept:
        name(names, one)
    for one in choose(unsynced):
        if isinstance(one, Write | Truncate):
            apply(images[one.inode], one)
    return {title: bytes(images[inode]) for title, inode in names.items()}


def nothing(pending: list[Operation]) -> list[Operation]:
    return []


def everything(pending: list[Operation]) -> list[Operation]:
    return pending


def first_part(seed: int) -> Choice:
    draw = random.Random(seed)
    return lambda pending: pending[: draw.randint(0, len(pending))]


def some_sectors(seed: int) -> Choice:
    draw = random.Random(seed)

    def choose(pending: list[Operation]) -> list[Operation]:
        kept: list[Operation] = []
        for one in pending:
            if isinstance(one, Write):
                for start in range(0, len(one.content), SECTOR_BYTES):
                    if draw.random() < 0.5:
                        content = one.content[start : start + SECTOR_BYTES]
                        kept.append(Write(one.inode, one.offset + start, content))
            elif draw.random() < 0.5:
                kept.append(one)
        return kept

    return choose


def cuts(operations: list[Operation]) -> Iterator[tuple[str, int, dict[str, bytes]]]:
    """Every sync point, just before and just after, with each way of losing what is unsynced."""
    points = [n for n, one in enumerate(operations) if isinstance(one, Sync | SyncDirectory)]
    for point in points:
        past = operations[:point]
        yield f"before sync {point}, nothing kept", point, disk_after(past, nothing)
        yield f"before sync {point}, all kept", point, disk_after(past, everything)
        yield f"before sync {point}, first part kept", point, disk_after(past, first_part(point))
        for seed in range(2):
            yield f"before sync {point}, sectors {seed}", point, disk_after(past, some_sectors(2 * point + seed))
        end = point + 1
        while end < len(operations) and not isinstance(operations[end], Sync | SyncDirectory):
            end += 1
        yield f"after sync {point} and its report, nothing kept", end, disk_after(operations[:end], nothing)


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for title, content in files.items():
        (folder / title).write_bytes(content)
    return folder / "journal"


# -- the statements -------------------------------------------------------------------------------------------


def run(recorder: Recorder, openings: int, commits: int) -> tuple[list[Entry], set[int]]:
    """Open, commit groups of appends, close, several times; what was appended and where commits ended."""
    draw = random.Random(7)
    appended: list[Entry] = []
    ends = {0}
    position = seq = 0
    for opening in range(1, openings + 1):
        journal = Journal.open(recorder.folder / "journal", nonce(opening))
        journal._connection.wal_autocheckpoint(6)  # pages: so that checkpoints fall inside the workload
        for _ in range(commits):
            for _ in range(draw.randint(1, 3)):
                position += draw.randint(1, 3)
                records: list[JournalRecord] = []
                for _ in range(draw.randint(0, 3)):
                    seq += 1
                    records.append(batch(b"A", seq, draw.choice([10, 900, 20_000])))
                journal.append(position, records)
                appended += [Entry(position, record) for record in records]
            recorder.operations.append(Reported(journal.commit()))
            ends.add(position)
        if opening % 2 == 0:  # leave the write-ahead log to the next opening, as a killed process does
            journal._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        journal.close()
    return appended, ends


def test_a_power_cut_at_any_sync_point_loses_nothing_reported_and_leaves_a_prefix(tmp_path: Path) -> None:
    with recording(tmp_path / "node") as recorder:
        appended, ends = run(recorder, openings=3, commits=14)
    operations = list(recorder.operations)
    assert sum(isinstance(one, Sync | SyncDirectory) for one in operations) > 40
    lost = 0
    for number, (title, count, files) in enumerate(cuts(operations)):
        durable = max((one.position for one in operations[:count] if isinstance(one, Reported)), default=0)
        with Journal.open(put(tmp_path / str(number), files), nonce(99)) as journal:
            assert journal.position >= durable, title
            assert journal.position in ends, title
            assert list(journal.replay()) == [e for e in appended if e.position <= journal.position], title
            whole = Verdict.COMPLETE if journal.position else Verdict.FRESH
            assert journal.completeness.verdict is whole, (title, journal.completeness)
            lost += journal.position < max(ends)
            journal.append(journal.position + 1, [batch(b"A", 1_000_000)])
            journal.commit()
    assert lost


def run_pruning(recorder: Recorder) -> list[list[Entry]]:
    """Commit and prune by turns; what the journal held after each, which its number in the list reports."""
    draw = random.Random(11)
    states: list[list[Entry]] = [[]]
    seqs = {b"A": 0, b"B": 0}
    for opening in (1, 2):
        journal = Journal.open(recorder.folder / "journal", nonce(opening))
        journal._connection.wal_autocheckpoint(6)
        for _ in range(10):
            position, records = journal.position + 1, []
            for lane in draw.choices(list(seqs), k=4):
                seqs[lane] += 1
                records.append(batch(lane, seqs[lane], draw.choice([10, 900, 40_000])))
            journal.append(position, records)
            journal.commit()
            states.append([*states[-1], *(Entry(position, record) for record in records)])
            recorder.operations.append(Reported(len(states) - 1))
            what = {lane: max(0, seq - draw.randint(0, 5)) for lane, seq in seqs.items()}
            journal.prune(Prune(what))
            states.append([entry for entry in states[-1] if entry.record.seq > what[entry.record.lane]])
            recorder.operations.append(Reported(len(states) - 1))
        journal._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        journal.close()
    return states


def test_a_power_cut_while_pruning_leaves_all_of_it_done_or_nothing(tmp_path: Path) -> None:
    with recording(tmp_path / "node") as recorder:
        states = run_pruning(recorder)
    operations = list(recorder.operations)
    seen = set()
    for number, (title, count, files) in enumerate(cuts(operations)):
        reported = max((one.position for one in operations[:count] if isinstance(one, Reported)), default=0)
        with Journal.open(put(tmp_path / str(number), files), nonce(99)) as journal:
            held = list(journal.replay())
            later = [at for at, entries in enumerate(states) if at >= reported and entries == held]
            assert later, title
            assert later[0] <= reported + 1, title
            seen.add(later[0])
            assert journal.completeness.verdict is not Verdict.RESTORED, (title, journal.completeness)
            journal.append(journal.position + 1, [batch(b"A", 1_000_000)])
            journal.commit()
            journal.prune(Prune({b"A": 1_000_000, b"B": 1_000_000}))
            assert list(journal.replay()) == []
        assert examine(journal.path).sound, title
    assert len(seen) > 0.8 * len(states)


@pytest.mark.parametrize("action", ["restore", "truncate"])
def test_a_power_cut_while_a_journal_is_replaced_never_passes_for_a_complete_one(tmp_path: Path, action: str) -> None:
    with recording(tmp_path / "node") as recorder:
        path = recorder.folder / "journal"
        run(recorder, openings=1, commits=3)
        backup(path, recorder.folder / "copy")
        with Journal.open(path, nonce(50)) as journal:
            journal._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
            last = journal.position + 5
            journal.append(last, [batch(b"A", 777, 30_000)])
            recorder.operations.append(Reported(journal.commit()))
            entries = list(journal.replay())
        journalplace.write_sidecar(path, nonce(50), 0)  # the mark is not synced with each commit: it may be lost
        began = len(recorder.operations)
        recorder.operations.append(Began())
        if action == "restore":
            restore(recorder.folder / "copy", path, aside="old")
        else:
            truncate_after(path, last - 1, aside="old")
        operations = list(recorder.operations)
    seen = set()
    for number, (title, count, files) in enumerate(cuts(operations)):
        if count <= began:
            continue
        with Journal.open(put(tmp_path / str(number), files), nonce(99)) as journal:
            held = list(journal.replay())
            assert held == entries[: len(held)], title
            seen.add(journal.completeness.verdict)
            if journal.completeness.verdict is not Verdict.RESTORED:
                assert journal.position == last, title
    assert seen == {Verdict.COMPLETE, Verdict.RESTORED}
    with Journal.open(path, nonce(99)) as journal:
        assert journal.completeness.verdict is Verdict.RESTORED
        assert list(journal.replay()) == entries[:-1]
    assert examine(recorder.folder / "journal.old").position == last
