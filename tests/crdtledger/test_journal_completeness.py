"""A journal says COMPLETE only when nothing it ever reported durable can be missing, and a plain crash costs it nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import apsw
import pytest

from crdtledger.errors import JournalCorrupt, JournalLocked, JournalUnusable
from crdtledger.ledger import journalplace
from crdtledger.ledger.backup import backup, restore
from crdtledger.ledger.examination import examine, truncate_after
from crdtledger.ledger.incarnation import (
    MARK_OFFSET,
    Completeness,
    Sidecar,
    Verdict,
    decode_sidecar,
    encode_mark,
    encode_sidecar,
)
from crdtledger.ledger.journal import Journal
from tests.crdtledger.test_journal import batch, nonce


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def record(path: Path, number: int, count: int = 3) -> Completeness:
    """Open as incarnation ``number``, append and commit ``count`` batches one by one, close."""
    with Journal.open(path, nonce(number)) as journal:
        for _ in range(count):
            journal.append(journal.position + 1, [batch(b"A", journal.position + 1)])
            journal.commit()
        return journal.completeness


def verdict(path: Path, number: int) -> Verdict:
    with Journal.open(path, nonce(number)) as journal:
        held = [entry.record.seq for entry in journal.replay()]
        assert held == list(range(1, len(held) + 1))
        return journal.completeness.verdict


def kill(path: Path, number: int, count: int) -> dict[str, bytes]:
    """As ``record``, but what is left is what a killed process leaves: the folder's files, the log not yet folded in."""
    with Journal.open(path, nonce(number)) as journal:
        for _ in range(count):
            journal.append(journal.position + 1, [batch(b"A", journal.position + 1)])
            journal.commit()
        left = {at.name: at.read_bytes() for at in path.parent.iterdir() if at.suffix != ".lock"}
    for at in path.parent.iterdir():
        at.unlink()
    for name, content in left.items():
        (path.parent / name).write_bytes(content)
    return left


def test_one_node_on_its_own_disk_stays_complete(path: Path) -> None:
    assert record(path, 1).verdict is Verdict.FRESH
    for number in range(2, 6):
        assert record(path, number).verdict is Verdict.COMPLETE


def test_a_killed_process_comes_back_complete(path: Path) -> None:
    for number in range(1, 5):
        kill(path, number, 3)
    assert verdict(path, 9) is Verdict.COMPLETE
    assert examine(path).position == 12


def test_a_backup_put_back_by_hand_is_known(path: Path) -> None:
    record(path, 1)
    backup(path, path.with_name("copy"))
    record(path, 2)
    shutil.copyfile(path.with_name("copy"), path)
    assert verdict(path, 3) is Verdict.RESTORED


def test_a_backup_put_back_by_hand_over_a_killed_node_is_known_or_corrupt(path: Path) -> None:
    record(path, 1)
    backup(path, path.with_name("copy"))
    kill(path, 2, 5)
    backup_content = path.with_name("copy").read_bytes()
    path.write_bytes(backup_content)  # the dead node's log is still beside it, and SQLite will replay it
    try:
        with Journal.open(path, nonce(3)) as journal:
            held = len(list(journal.replay()))
            assert held == 8 or journal.completeness.verdict is Verdict.RESTORED
    except (JournalCorrupt, JournalUnusable):
        pass


def test_a_backup_in_an_empty_folder_is_known(path: Path, tmp_path: Path) -> None:
    record(path, 1)
    backup(path, tmp_path / "copy")
    place = tmp_path / "new" / "journal"
    place.parent.mkdir()
    shutil.copyfile(tmp_path / "copy", place)
    assert verdict(place, 2) is Verdict.RESTORED


def test_a_plain_copy_of_the_file_put_back_is_known(path: Path) -> None:
    record(path, 1)
    old = path.read_bytes()
    record(path, 2)
    path.write_bytes(old)
    assert verdict(path, 3) is Verdict.RESTORED


def test_a_copy_put_back_within_one_incarnation_is_known_by_the_mark(path: Path) -> None:
    with Journal.open(path, nonce(1)) as journal:
        journal.append(1, [batch(b"A", 1)])
        journal.commit()
        journal._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        old = path.read_bytes()
        journal.append(2, [batch(b"A", 2)])
        journal.commit()
    path.write_bytes(old)
    with Journal.open(path, nonce(2)) as journal:
        assert journal.completeness == Completeness(
            Verdict.RESTORED, "the journal ends at position 1, but position 2 was durable here"
        )


@pytest.mark.parametrize("first", [True, False], ids=["first incarnation", "later incarnation"])
def test_a_deleted_log_is_known(path: Path, first: bool) -> None:
    if not first:
        record(path, 1)
    kill(path, 2, 3)
    path.with_name("journal-wal").unlink()
    assert verdict(path, 3) is Verdict.RESTORED


@pytest.mark.parametrize("first", [True, False], ids=["first incarnation", "later incarnation"])
def test_the_main_file_alone_on_a_new_disk_is_known(path: Path, first: bool) -> None:
    if not first:
        record(path, 1)
    main = kill(path, 2, 3)["journal"]
    for at in path.parent.iterdir():
        at.unlink()
    path.write_bytes(main)
    assert verdict(path, 3) is Verdict.RESTORED


def test_a_lost_sidecar_is_known(path: Path) -> None:
    record(path, 1)
    journalplace.sidecar_path(path).unlink()
    with Journal.open(path, nonce(2)) as journal:
        assert journal.completeness == Completeness(Verdict.RESTORED, "the incarnation file is missing")


def test_an_unreadable_sidecar_is_known(path: Path) -> None:
    record(path, 1)
    sidecar = journalplace.sidecar_path(path)
    sidecar.write_bytes(sidecar.read_bytes().replace(b"0001", b"0002"))
    with Journal.open(path, nonce(3)) as journal:
        assert journal.completeness == Completeness(Verdict.RESTORED, "the incarnation file cannot be read")


def test_an_older_sidecar_is_known(path: Path) -> None:
    record(path, 1)
    old = journalplace.sidecar_path(path).read_bytes()
    record(path, 2)
    journalplace.sidecar_path(path).write_bytes(old)
    assert verdict(path, 3) is Verdict.RESTORED


@pytest.mark.parametrize("left", [(), ("-wal",), ("-wal", "-shm")], ids=["alone", "with log", "with both"])
def test_a_lost_journal_is_known_and_its_log_is_not_replayed_into_the_new_one(
    path: Path, left: tuple[str, ...]
) -> None:
    files = kill(path, 1, 3)
    path.unlink()
    for suffix in ("-wal", "-shm"):
        if suffix not in left:
            path.with_name("journal" + suffix).unlink()
    with Journal.open(path, nonce(2)) as journal:
        assert journal.completeness.verdict is Verdict.RESTORED
        assert "lost" in journal.completeness.reason
        assert list(journal.replay()) == []
    if "-wal" in left:
        aside = path.with_name(f"journal.lost-{nonce(2).hex()[:16]}-wal")
        assert aside.read_bytes() == files["journal-wal"]
    assert verdict(path, 3) is Verdict.RESTORED


def test_a_lost_journal_without_its_sidecar_is_known_by_its_log(path: Path) -> None:
    kill(path, 1, 3)
    path.unlink()
    journalplace.sidecar_path(path).unlink()
    assert verdict(path, 2) is Verdict.RESTORED


def test_restored_is_said_again_until_a_new_epoch_is_recorded(path: Path) -> None:
    record(path, 1)
    journalplace.sidecar_path(path).unlink()
    for number in (2, 3, 4):
        assert verdict(path, number) is Verdict.RESTORED
    with Journal.open(path, nonce(5)) as journal:
        journal.append(10, [batch(b"B", 1)], new_epoch=True)  # never committed
    with Journal.open(path, nonce(6)) as journal:
        assert journal.completeness.verdict is Verdict.RESTORED
        journal.append(10, [batch(b"B", 1)], new_epoch=True)
        journal.commit()
    with Journal.open(path, nonce(7)) as journal:
        assert journal.completeness.verdict is Verdict.COMPLETE


# -- backup and restore ---------------------------------------------------------------------------------------


def test_a_backup_of_a_running_node_is_a_consistent_part_of_it(path: Path) -> None:
    with Journal.open(path, nonce(1)) as journal:
        journal.append(1, [batch(b"A", 1), batch(b"A", 2)])
        journal.commit()
        journal.append(2, [batch(b"A", 3)])  # in an open group while the copy is taken
        report = backup(path, path.with_name("copy"))
        journal.commit()
    assert (report.records, report.position, report.sound) == (2, 1, True)
    assert examine(path.with_name("copy")).restored.startswith("a backup copy of incarnation")
    assert sorted(at.name for at in path.parent.iterdir() if at.name.startswith("copy")) == ["copy"]
    assert verdict(path, 2) is Verdict.COMPLETE


def test_a_backup_overwrites_nothing(path: Path) -> None:
    record(path, 1)
    for target in (path, path.with_name("other")):
        path.with_name("other").write_bytes(b"precious")
        before = target.read_bytes()
        with pytest.raises(JournalUnusable, match="overwrites nothing"):
            backup(path, target)
        assert target.read_bytes() == before


def test_a_backup_of_a_backup_is_still_a_backup(path: Path) -> None:
    record(path, 1)
    backup(path, path.with_name("one"))
    backup(path.with_name("one"), path.with_name("two"))
    assert examine(path.with_name("two")).restored


def test_restore_moves_the_old_journal_aside_and_marks_the_new_one(path: Path) -> None:
    record(path, 1)
    backup(path, path.with_name("copy"))
    kill(path, 2, 4)
    report = restore(path.with_name("copy"), path, aside="before-restore")
    assert (report.path, report.records) == (str(path), 3)
    assert examine(path.with_name("journal.before-restore")).position == 7  # with its log
    assert verdict(path, 3) is Verdict.RESTORED
    assert examine(path.with_name("copy")).records == 3
    with pytest.raises(JournalUnusable, match="is there already"):
        restore(path.with_name("copy"), path, aside="before-restore")


def test_a_plain_copy_is_marked_when_it_is_restored(path: Path) -> None:
    record(path, 1)
    shutil.copyfile(path, path.with_name("copy"))
    restore(path.with_name("copy"), path, aside="old")
    assert verdict(path, 2) is Verdict.RESTORED


def test_restore_leaves_a_running_node_alone(path: Path) -> None:
    record(path, 1)
    backup(path, path.with_name("copy"))
    with Journal.open(path, nonce(2)):
        with pytest.raises(JournalLocked):
            restore(path.with_name("copy"), path, aside="old")
        with pytest.raises(JournalLocked):
            truncate_after(path, 1, aside="old")
    assert verdict(path, 3) is Verdict.COMPLETE


@pytest.mark.parametrize("aside", ["", "a/b", "../up"])
def test_aside_is_part_of_a_name(path: Path, aside: str) -> None:
    record(path, 1)
    backup(path, path.with_name("copy"))
    with pytest.raises(JournalUnusable, match="aside"):
        restore(path.with_name("copy"), path, aside=aside)
    assert verdict(path, 3) is Verdict.COMPLETE


def test_restore_refuses_what_is_no_journal(path: Path) -> None:
    record(path, 1)
    for content in (b"", b"x" * 10_000):
        path.with_name("copy").write_bytes(content)
        with pytest.raises(JournalUnusable):
            restore(path.with_name("copy"), path, aside="old")
    with pytest.raises(JournalUnusable, match="missing"):
        restore(path.with_name("missing"), path, aside="old")
    assert verdict(path, 3) is Verdict.COMPLETE


# -- the sidecar ----------------------------------------------------------------------------------------------


def test_a_sidecar_is_its_bytes_and_back() -> None:
    raw = encode_sidecar(nonce(5), 77)
    assert decode_sidecar(raw) == Sidecar(nonce(5), 77)
    later = raw[:MARK_OFFSET] + encode_mark(nonce(5), 78) + raw[MARK_OFFSET + len(encode_mark(nonce(5), 78)) :]
    assert decode_sidecar(later) == Sidecar(nonce(5), 78)


def test_no_altered_byte_of_a_sidecar_passes_for_another_incarnation_or_mark() -> None:
    raw = encode_sidecar(nonce(5), 77)
    for at in [*range(120), *range(MARK_OFFSET, MARK_OFFSET + 20)]:
        for flip in (1, 0x20, 0xFF):
            altered = decode_sidecar(raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
            assert altered.incarnation in (b"", nonce(5))
            assert altered.mark in (0, 77)
    for size in range(0, len(raw), 101):
        assert decode_sidecar(raw[:size]).incarnation in (b"", nonce(5))
