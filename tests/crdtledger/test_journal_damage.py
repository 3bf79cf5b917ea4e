"""An altered byte is named or harmless: a damaged journal never yields a record that was not written."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from crdtledger.errors import JournalCorrupt, JournalUnusable
from crdtledger.ledger import journalfile
from crdtledger.ledger.examination import LaneReport, examine, truncate_after
from crdtledger.ledger.incarnation import Verdict
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import Entry
from tests.crdtledger.test_journal import batch, nonce

POSITIONS = 60


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], list[Entry]]:
    """The files of a node whose journal was closed, and what is in it."""
    path = tmp_path_factory.mktemp("written") / "journal"
    entries: list[Entry] = []
    with Journal.open(path, nonce(1)) as journal:
        for position in range(2, 2 * POSITIONS + 1, 2):
            records = [batch(lane, position // 2, 10 + position * 7 % 3000) for lane in (b"A", b"B")]
            journal.append(position, records)
            entries += [Entry(position, record) for record in records]
        journal.set_meta("base", b"genesis")
        journal.commit()
        live = path.with_name("journal-wal").read_bytes()
    files = {name: path.with_name(name).read_bytes() for name in ("journal", "journal.incarnation")}
    return files | {"log": live}, entries


def put(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("journal", "journal.incarnation"):
        (folder / name).write_bytes(files[name])
    for suffix in ("-wal", "-shm"):
        (folder / f"journal{suffix}").unlink(missing_ok=True)
    return folder / "journal"


def replayed(path: Path, number: int) -> tuple[list[Entry], Exception | None]:
    entries: list[Entry] = []
    try:
        with Journal.open(path, nonce(number)) as journal:
            try:
                for entry in journal.replay():
                    entries.append(entry)  # noqa: PERF402
            except JournalCorrupt as error:
                return entries, error
            for lane in (b"A", b"B"):
                mine = [e.record for e in entries if e.record.lane == lane]
                assert journal.read(lane, 1, POSITIONS, 10**9) == mine
            with contextlib.suppress(JournalCorrupt):
                assert journal.get_meta("base") == b"genesis"
    except (JournalCorrupt, JournalUnusable) as error:
        return entries, error
    return entries, None


@pytest.mark.parametrize("seed", range(8))
def test_an_altered_byte_is_named_or_harmless(
    tmp_path: Path, written: tuple[dict[str, bytes], list[Entry]], seed: int
) -> None:
    files, entries = written
    draw = random.Random(seed)
    named = 0
    for turn in range(40):
        content = bytearray(files["journal"])
        at = draw.choice(
            [draw.randrange(len(content)), draw.randrange(16_384), 16_384 * draw.randrange(6) + draw.randrange(64)]
        )
        content[at] ^= draw.choice([1 << draw.randrange(8), draw.randrange(1, 256)])
        path = put(tmp_path / "node", files | {"journal": bytes(content)})
        report = examine(path)
        assert report.position <= entries[-1].position
        found, error = replayed(path, 2 + turn)
        assert found == entries[: len(found)], f"byte {at}"
        if error is None:
            assert found == entries, f"byte {at}"
        else:
            named += 1
            assert not report.sound, f"byte {at}"
            if isinstance(error, JournalCorrupt) and error.position:
                assert error.position == (found[-1].position if found else 0) + 1
                assert error.reason
    assert named


def test_an_altered_byte_of_the_log_loses_its_tail_and_it_is_known(
    tmp_path: Path, written: tuple[dict[str, bytes], list[Entry]]
) -> None:
    draw = random.Random(3)
    lost = 0
    for turn in range(40):
        folder = tmp_path / str(turn)
        folder.mkdir()
        path = folder / "journal"
        with Journal.open(path, nonce(1)) as journal:
            for position in range(1, 13):
                journal.append(position, [batch(b"A", position)])
                journal.commit()
            main, log = path.read_bytes(), bytearray(path.with_name("journal-wal").read_bytes())
            side = path.with_name("journal.incarnation").read_bytes()
        log[draw.randrange(len(log))] ^= draw.randrange(1, 256)
        path.write_bytes(main)
        path.with_name("journal-wal").write_bytes(log)
        path.with_name("journal.incarnation").write_bytes(side)
        with Journal.open(path, nonce(2)) as journal:
            held = [entry.position for entry in journal.replay()]
            assert held == list(range(1, len(held) + 1))
            assert journal.completeness.verdict is (Verdict.COMPLETE if len(held) == 12 else Verdict.RESTORED)
            lost += len(held) < 12
    assert lost


@pytest.mark.parametrize(
    ("damage", "first_bad", "reason"),
    [
        ("DELETE FROM records WHERE row = 21", 21, "row 21 is missing"),
        ("DELETE FROM records WHERE row = 20", 19, "row 20 is missing"),
        ("DELETE FROM records WHERE row > 118", 119, "row 119 is missing"),
        ("DELETE FROM records WHERE row = 120", 119, "row 120 is missing"),
        ("UPDATE records SET body = x'00' WHERE row = 5", 5, "row 5 does not match its checksum"),
        ("UPDATE records SET seq = seq + 1 WHERE row = 6", 5, "row 6 does not match its checksum"),
        ("UPDATE records SET lane = x'00' WHERE row = 1", 1, "row 1 does not match its checksum"),
        ("UPDATE records SET position = position + 1 WHERE row = 119", 119, "row 119 does not match"),
        ("UPDATE records SET seq = -1 WHERE row = 6", 5, "row 6 does not match its checksum"),
        ("UPDATE meta SET value = x'93' WHERE key = 'journal.head'", 0, "meta 'journal.head' does not match"),
        ("DELETE FROM meta WHERE key = 'journal.head'", 0, "meta 'journal.head' is missing"),
        ("DROP INDEX records_by_lane", 0, "its tables are not a journal's"),
    ],
)
def test_doctor_names_the_damage_keeps_the_good_part_and_marks_it(
    tmp_path: Path, written: tuple[dict[str, bytes], list[Entry]], damage: str, first_bad: int, reason: str
) -> None:
    files, entries = written
    path = put(tmp_path / "node", files)
    connection = journalfile.connect(path)
    connection.execute(damage)
    connection.close()
    report = examine(path)
    assert (report.first_bad, report.sound) == (first_bad, False)
    assert reason in report.reason
    damaged = path.read_bytes()
    good = [entry for entry in entries if entry.position < first_bad] if first_bad else entries
    if "index" in damage.lower():
        good = []
    kept = truncate_after(path, report.position, aside="bad")
    assert kept.sound
    assert kept.records == len(good)
    assert "repaired" in kept.restored
    assert path.with_name("journal.bad").read_bytes() == damaged
    with Journal.open(path, nonce(2)) as journal:
        assert journal.completeness.verdict is Verdict.RESTORED
        assert list(journal.replay()) == good
        assert journal.get_meta("base") == (None if "index" in damage.lower() else b"genesis")
        journal.append(journal.position + 1, [batch(b"A", 500)], new_epoch=True)
        journal.commit()
    with Journal.open(path, nonce(3)) as journal:
        assert journal.completeness.verdict is Verdict.COMPLETE


def test_a_row_from_another_journal_does_not_fit(tmp_path: Path, written: tuple[dict[str, bytes], list[Entry]]) -> None:
    path = put(tmp_path / "node", written[0])
    with Journal.open(tmp_path / "other", nonce(1)) as other:
        other.append(2, [batch(b"A", 1), batch(b"B", 1, 5)])
        other.append(4, [batch(b"A", 2), batch(b"B", 2, 5)])
        other.commit()
    connection = journalfile.connect(path)
    connection.execute("ATTACH ? AS other", (str(tmp_path / "other"),))
    connection.execute("REPLACE INTO records SELECT * FROM other.records WHERE row = 4")
    connection.close()
    report = examine(path)
    assert (report.first_bad, report.reason) == (3, "row 4 does not match its checksum")


def test_a_row_altered_under_a_running_node_is_not_read(
    tmp_path: Path, written: tuple[dict[str, bytes], list[Entry]]
) -> None:
    path = put(tmp_path / "node", written[0])
    with Journal.open(path, nonce(2)) as journal:
        assert journal.read(b"A", 3, 3, 1)
        connection = journalfile.connect(path)
        connection.execute("UPDATE records SET body = x'00' WHERE lane = x'41' AND seq = 3")
        connection.close()
        with pytest.raises(JournalCorrupt, match="does not match its checksum"):
            journal.read(b"A", 3, 3, 1)
        assert journal.read(b"A", 4, 4, 1)


def test_a_repair_may_keep_less_than_all_that_holds(
    tmp_path: Path, written: tuple[dict[str, bytes], list[Entry]]
) -> None:
    files, entries = written
    path = put(tmp_path / "node", files)
    kept = truncate_after(path, 31, aside="bad")
    assert (kept.position, kept.records) == (30, 30)
    with Journal.open(path, nonce(2)) as journal:
        assert list(journal.replay()) == entries[:30]


def test_examine_counts_lanes_and_their_gaps(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        for position, seq in enumerate([4, 5, 8, 9, 9, 12], 1):
            journal.append(position, [batch(b"A", seq)])
        journal.append(20, [batch(b"B", 1)])
        journal.commit()
        report = examine(journal.path)  # while it is open
    assert report.sound
    assert report.lanes == {b"A": LaneReport(6, 4, 12, ((6, 7), (10, 11))), b"B": LaneReport(1, 1, 1, ())}
    assert examine(tmp_path / "nowhere").reason.startswith("cannot be opened")
