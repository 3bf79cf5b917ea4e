"""What nobody needs any more goes; what is left is proven, ordered and served as if nothing had been beside it."""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import JournalCorrupt, JournalUnusable
from crdtledger.ledger import journalfile, journalrecord
from crdtledger.ledger.backup import backup, restore
from crdtledger.ledger.examination import examine, truncate_after
from crdtledger.ledger.incarnation import Verdict
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import (
    KIND_BATCH,
    KIND_CHECKPOINT,
    KIND_EVIDENCE,
    KIND_META,
    KIND_PRUNED,
    KIND_STATE,
    KIND_VOTE,
    Entry,
    JournalRecord,
    Prune,
)
from crdtledger.ledger.writer import JournalWriter
from tests.crdtledger.test_journal import batch, nonce, nonces

LANES = (b"lane-A", b"lane-B", b"lane-C")
HEIGHTED = (KIND_CHECKPOINT, KIND_VOTE, KIND_STATE)


def of(kind: int, seq: int, size: int = 30) -> JournalRecord:
    """A record that names no lane."""
    return JournalRecord(kind, b"", seq, bytes([kind, seq % 256]), bytes([seq % 256]) * size)


def left(entries: list[Entry], what: Prune) -> list[Entry]:
    """What a plain list would keep."""

    def goes(record: JournalRecord) -> bool:
        if record.kind == KIND_BATCH:
            return record.seq <= what.batches.get(record.lane, -1)
        return record.lane == b"" and record.seq < what.kinds.get(record.kind, 0)

    return [entry for entry in entries if not goes(entry.record)]


def pruned_rows(path: Path) -> list[tuple[int, int]]:
    """The runs that were pruned, as (first, last)."""
    connection = journalfile.connect(path, read_only=True)
    try:
        rows = connection.execute("SELECT seq, row FROM records WHERE kind = ? ORDER BY row", (KIND_PRUNED,))
        return [(int(str(first)), int(str(last))) for first, last in rows]
    finally:
        connection.close()


sizes = st.sampled_from([0, 10, 3_000, 40_000])
appending = st.tuples(st.just("append"), st.lists(st.tuples(st.integers(0, 7), sizes), max_size=6), st.integers(1, 3))
pruning = st.tuples(
    st.just("prune"),
    st.dictionaries(st.sampled_from(LANES), st.integers(0, 25), max_size=3),
    st.dictionaries(st.sampled_from(HEIGHTED), st.integers(0, 25), max_size=3),
)
steps = st.lists(st.one_of(appending, appending, pruning, st.just(("open",))), min_size=3, max_size=25)


@settings(max_examples=60)
@given(steps, st.integers(0, 1 << 30))
def test_whatever_is_pruned_the_rest_is_there_in_order_and_proven(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[object, ...]], seed: int
) -> None:
    path = tmp_path_factory.mktemp("pruned") / "journal"
    openings, draw = nonces(), random.Random(seed)
    journal = Journal.open(path, nonce(next(openings)))
    seqs = dict.fromkeys(LANES, 0)
    height = 1
    entries: list[Entry] = []
    total = 0
    for step in script:
        if step[0] == "open":
            journal.close()
            journal = Journal.open(path, nonce(next(openings)))
            assert journal.completeness.verdict is not Verdict.RESTORED
        elif step[0] == "append":
            records = []
            assert isinstance(step[1], list)
            for what, size in step[1]:
                if what < len(LANES):
                    seqs[LANES[what]] += 1
                    records.append(batch(LANES[what], seqs[LANES[what]], size))
                elif what < 6:
                    records.append(of(HEIGHTED[what - 3], height, size))
                    height += what == 3
                else:
                    records.append(of((KIND_EVIDENCE, KIND_META)[what - 6], 0, size))
            assert isinstance(step[2], int)
            position = journal.position + step[2]
            journal.append(position, records)
            journal.commit()
            total += len(records)
            entries += [Entry(position, record) for record in records]
        else:
            what = Prune(step[1], step[2])  # type: ignore[arg-type]
            kept = left(entries, what)
            assert journal.prune(what) == len(entries) - len(kept)
            assert journal.prune(what) == 0
            entries = kept
        assert list(journal.replay()) == entries
        for lane in LANES:
            held = [entry.record for entry in entries if entry.record.lane == lane]
            first = held[0].seq if held else 1
            assert journal.read(lane, first, 1000, 1 << 30) == held
            assert journal.read(lane, 0, 1000, 1 << 30) == [] or first == 0
    position = journal.position
    journal.close()
    runs = pruned_rows(path)
    assert len(runs) <= len(entries) + 1
    assert sum(last - first + 1 for first, last in runs) == total - len(entries)
    report = examine(path)
    assert report.sound
    assert report.records == len(entries)
    copy = path.with_name("copy")
    backup(path, copy)
    restore(copy, path, aside="old")
    cut = draw.randint(0, position)
    for keep in (position, cut):
        if keep == cut:
            truncate_after(path, cut, aside=f"before-{next(openings)}")
        with Journal.open(path, nonce(next(openings))) as again:
            assert list(again.replay()) == [entry for entry in entries if entry.position <= keep]


@pytest.fixture
def pruned(tmp_path: Path) -> tuple[Path, list[Entry]]:
    """A journal with runs pruned at its front, in its middle, across positions, and at its end."""
    path = tmp_path / "journal"
    entries = []
    with Journal.open(path, nonce(1)) as journal:
        for position in range(1, 13):
            records = [batch(LANES[n % 3], 3 * position + n) for n in range(3)] + [of(KIND_META, 0)][: position % 2]
            journal.append(position, records)
            entries += [Entry(position, record) for record in records]
        journal.commit()
        what = Prune({LANES[0]: 18, LANES[1]: 19, LANES[2]: 100})
        journal.prune(what)
    assert len(pruned_rows(path)) > 5
    return path, left(entries, what)


def outcome(path: Path, openings: Iterator[int]) -> tuple[list[Entry], bool]:
    """What replays, and whether that was all there should be."""
    held: list[Entry] = []
    try:
        with Journal.open(path, nonce(next(openings))) as journal:
            held.extend(journal.replay())
    except (JournalCorrupt, JournalUnusable):
        return held, False
    return held, True


ALTERATIONS = [
    "seq = seq + 1",
    "seq = seq - 1",
    "row = row + 1000",
    "position = position + 1",
    "position = 0",
    "remaining = remaining + 1",
    "chain = x'0102030405060708'",
    "hash = x'0102030405060708'",
    "lane = x''",
    "lane = x'6c616e652d41'",
    "kind = 1",
    "kind = -2",
    "body = x'00'",
]


@pytest.mark.parametrize("alteration", ALTERATIONS)
@pytest.mark.parametrize("which", range(3))
def test_an_altered_row_that_stands_for_pruned_ones_is_named(
    pruned: tuple[Path, list[Entry]], alteration: str, which: int
) -> None:
    path, entries = pruned
    runs = pruned_rows(path)
    row = (runs[0], runs[len(runs) // 2], runs[-1])[which][1]
    connection = journalfile.connect(path)
    connection.execute(f"UPDATE records SET {alteration} WHERE row = ?", (row,))
    connection.close()
    held, whole = outcome(path, iter([2]))
    assert not whole
    assert held == entries[: len(held)]
    assert not examine(path).sound


@pytest.mark.parametrize("change", [(0, -1), (1, 0), (0, 1)])
def test_a_row_that_is_sealed_but_out_of_place_is_named(
    pruned: tuple[Path, list[Entry]], change: tuple[int, int]
) -> None:
    path, entries = pruned
    connection = journalfile.connect(path)
    found = connection.execute(
        "SELECT seq, row, position, remaining, chain FROM records WHERE kind = -1 AND remaining = 1"
    )
    first, last, position, remaining, chain = found.fetchall()[1]
    assert isinstance(first, int) and isinstance(last, int) and isinstance(chain, bytes)  # noqa: PT018
    assert isinstance(position, int) and isinstance(remaining, int)  # noqa: PT018
    position, remaining = position + change[0], remaining + change[1]
    seal = journalrecord.pruned_seal(first, last, position, remaining, chain)
    connection.execute(
        "UPDATE records SET position = ?, remaining = ?, hash = ? WHERE row = ?", (position, remaining, seal, last)
    )
    connection.close()
    held, whole = outcome(path, itertools.count(2))
    assert not whole
    assert held == entries[: len(held)]


def test_no_row_vanishes_and_none_comes_back(pruned: tuple[Path, list[Entry]]) -> None:
    path, entries = pruned
    content = path.read_bytes()
    openings = itertools.count(2)
    for row in range(1, 43):
        path.write_bytes(content)
        connection = journalfile.connect(path)
        there = connection.execute("DELETE FROM records WHERE row = ? RETURNING row", (row,)).fetchall()
        connection.close()
        if not there:
            continue
        held, whole = outcome(path, openings)
        assert not whole
        assert held == entries[: len(held)]
    first, last = next((first, last) for first, last in pruned_rows(path) if last > first)
    path.write_bytes(content)
    connection = journalfile.connect(path)
    connection.execute(
        "INSERT INTO records SELECT ?, position, remaining, 1, lane, 1, hash, chain, body FROM records WHERE row = ?",
        (first, last),
    )
    connection.close()
    assert not outcome(path, openings)[1]


def test_what_holds_of_a_damaged_pruned_journal_is_kept(pruned: tuple[Path, list[Entry]]) -> None:
    path, entries = pruned
    connection = journalfile.connect(path)
    connection.execute("UPDATE records SET body = x'00' WHERE kind = 3 AND row > 20")
    connection.close()
    report = examine(path)
    assert report.first_bad is not None
    kept = truncate_after(path, report.first_bad - 1, aside="old")
    assert kept.sound
    with Journal.open(path, nonce(2)) as journal:
        assert list(journal.replay()) == [entry for entry in entries if entry.position < report.first_bad]
        assert journal.completeness.verdict is Verdict.RESTORED


def test_everything_may_go_and_the_journal_still_knows_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal.open(path, nonce(1)) as journal:
        journal.append(7, [batch(LANES[0], seq) for seq in range(1, 9)])
        journal.commit()
        assert journal.prune(Prune({LANES[0]: 8})) == 8
    assert pruned_rows(path) == [(1, 8)]
    with Journal.open(path, nonce(2)) as journal:
        assert (journal.position, journal.completeness.verdict) == (7, Verdict.COMPLETE)
        assert list(journal.replay()) == []
        journal.append(8, [batch(LANES[0], 9)])
        with pytest.raises(ValueError, match="open"):
            journal.prune(Prune())
        journal.commit()
        assert [entry.record.seq for entry in journal.replay()] == [9]


def test_the_file_grows_to_what_is_held_at_once_and_no_further(tmp_path: Path) -> None:
    """Two hundred heights, eight of them kept, with a record now and then that stays for good."""
    path = tmp_path / "journal"
    draw = random.Random(1)
    seqs = dict.fromkeys(LANES, 0)
    ends: list[dict[bytes, int]] = []
    grown: list[int] = []
    with Journal.open(path, nonce(1)) as journal:
        journal._connection.wal_autocheckpoint(64)
        for height in range(1, 201):
            records = [of(KIND_VOTE, height, 200) for _ in range(4)]
            for lane in LANES:
                for _ in range(5):
                    seqs[lane] += 1
                    records.append(batch(lane, seqs[lane], draw.choice([300, 5_000, 60_000])))
            records.append(of(KIND_CHECKPOINT, height, 2_000))
            if height % 10 == 0:
                records += [of(KIND_STATE, height, 100_000), of(KIND_META, 0, 40)]
            for record in records:
                journal.append(journal._head.position + 1, [record])
            journal.commit()
            ends.append(dict(seqs))
            if height > 8:
                below = dict.fromkeys((KIND_VOTE, KIND_CHECKPOINT), height - 8) | {KIND_STATE: height - height % 10}
                journal.prune(Prune(ends[height - 9], below))
            grown.append(int(str(journal._connection.pragma("page_count"))))
        held = list(journal.replay())
    assert len([entry for entry in held if entry.record.kind == KIND_BATCH]) == 8 * 15
    assert max(grown[40:]) <= 1.1 * max(grown[:40])
    assert len(pruned_rows(path)) < 60
    assert examine(path).sound


@contextlib.contextmanager
def counted(connection: apsw.Connection) -> Iterator[list[int]]:
    """How many steps SQLite's machine takes."""
    steps = [0]

    def step() -> bool:
        steps[0] += 1
        return False

    connection.set_progress_handler(step, 1)
    yield steps
    connection.set_progress_handler(None)


def test_pruning_costs_by_what_goes_not_by_what_is_held(tmp_path: Path) -> None:
    costs = []
    for name, kept in (("small", 50), ("large", 2_000)):
        with Journal.open(tmp_path / name, nonce(1)) as journal:
            for seq in range(1, 101 + kept):
                journal.append(2 * seq, [batch(LANES[0], seq), of(KIND_VOTE, seq)])
                journal.append(2 * seq + 1, [batch(LANES[1], seq)])
            journal.commit()
            with counted(journal._connection) as steps:
                journal.prune(Prune({LANES[0]: 100}, {KIND_VOTE: 101}))
            costs.append(steps[0])
    assert costs[1] < 1.2 * costs[0]


def test_pruning_waits_for_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal.open(path, nonce(1)) as journal:
        failures: list[Exception] = []
        writer = JournalWriter(journal, failures.append)
        for seq in range(1, 41):
            writer.submit(seq, [batch(LANES[0], seq)])
            if seq % 10 == 0:
                writer.submit_prune(Prune({LANES[0]: seq - 5}))
        writer.stop()
        assert failures == []
        assert [entry.record.seq for entry in journal.replay()] == [36, 37, 38, 39, 40]
        with pytest.raises(JournalUnusable, match="stopped"):
            writer.submit_prune(Prune())


def test_a_failed_pruning_is_the_writer_s_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        failures: list[Exception] = []
        writer = JournalWriter(journal, failures.append)
        writer.submit(1, [batch(LANES[0], 1)])
        writer.drain()
        journal._connection.pragma("query_only", True)
        writer.submit_prune(Prune({LANES[0]: 1}))
        with contextlib.suppress(JournalUnusable):
            writer.submit(2, [batch(LANES[0], 2)])
        writer.stop()
        assert len(failures) == 1
        assert writer.durable_position == 1


def test_large_records_are_carried_and_larger_ones_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = of(KIND_STATE, 3, 20 * 1024 * 1024)
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        failures: list[Exception] = []
        writer = JournalWriter(journal, failures.append)
        writer.submit(1, [large])
        writer.submit(2, [of(KIND_VOTE, 4)])
        writer.drain()
        monkeypatch.setattr("crdtledger.ledger.writer.BODY_BYTES_MAX", 1000)
        monkeypatch.setattr("crdtledger.ledger.journal.BODY_BYTES_MAX", 1000)
        with pytest.raises(ValueError, match="1000 bytes"):
            writer.submit(3, [of(KIND_STATE, 3, 1001)])
        writer.stop()
        with pytest.raises(ValueError, match="1000 bytes"):
            journal.append(3, [of(KIND_STATE, 3, 1001)])
        assert [entry.record for entry in journal.replay()] == [large, of(KIND_VOTE, 4)]
    assert journalrecord.BODY_BYTES_MAX < 1_000_000_000, "SQLite's bound"
