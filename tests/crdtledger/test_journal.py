"""A journal gives back exactly what was committed to it, in order, and tells one opening from another."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import JournalLocked, JournalUnusable
from crdtledger.ledger import journalfile
from crdtledger.ledger.incarnation import Verdict
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import (
    INTEGER_MAX,
    KIND_BATCH,
    Entry,
    JournalRecord,
    UnreadableRecord,
    decode_record,
    encode_record,
)

naturals = st.integers(0, INTEGER_MAX)
records = st.builds(
    JournalRecord,
    kind=st.one_of(st.integers(1, 3), naturals),
    lane=st.binary(max_size=4),
    seq=naturals,
    hash=st.binary(max_size=32),
    body=st.one_of(st.binary(max_size=64), st.builds(lambda n: b"x" * n, st.integers(0, 70_000))),
)
NAMES = ("base", "epoch", "peer")


class Append(NamedTuple):
    rise: int
    records: list[JournalRecord]


class SetMeta(NamedTuple):
    key: str
    value: bytes | None


steps = st.one_of(
    st.builds(Append, st.integers(1, 1000), st.lists(records, max_size=4)),
    st.builds(SetMeta, st.sampled_from(NAMES), st.one_of(st.none(), st.binary(max_size=40))),
    st.sampled_from(["commit", "reopen"]),
)


def nonces() -> itertools.count[int]:
    return itertools.count(1)


def nonce(number: int) -> bytes:
    return number.to_bytes(16, "big")


def batch(lane: bytes, seq: int, size: int = 40) -> JournalRecord:
    return JournalRecord(
        KIND_BATCH, lane, seq, (lane + seq.to_bytes(8, "big")).ljust(32, b"h"), bytes([seq % 251]) * size
    )


@given(records)
def test_a_record_is_its_bytes_and_back(record: JournalRecord) -> None:
    assert decode_record(encode_record(record)) == record


@given(st.one_of(st.binary(max_size=60), st.builds(lambda r, n: encode_record(r)[:n], records, st.integers(0, 60))))
def test_foreign_bytes_are_refused_by_value(raw: bytes) -> None:
    decoded = decode_record(raw)
    assert isinstance(decoded, UnreadableRecord | JournalRecord)
    if isinstance(decoded, UnreadableRecord):
        assert decoded.reason


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=25))
def test_whatever_was_committed_is_there_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, plan: list[Append | SetMeta | str]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    fresh = nonces()
    journal = Journal.open(path, nonce(next(fresh)))
    assert journal.completeness.verdict is Verdict.FRESH
    held: list[Entry] = []
    waiting: list[Entry] = []
    meta: dict[str, bytes] = {}
    meta_waiting: dict[str, bytes | None] = {}
    last = top = 0
    for step in [*plan, "commit", "reopen"]:
        if isinstance(step, Append):
            top += step.rise
            journal.append(top, step.records)
            waiting += [Entry(top, record) for record in step.records]
        elif isinstance(step, SetMeta):
            journal.set_meta(step.key, step.value)
            meta_waiting[step.key] = step.value
        elif step == "commit":
            assert journal.commit() == top
            held, waiting, last = held + waiting, [], top
            meta = {k: v for k, v in (meta | meta_waiting).items() if v is not None}
            meta_waiting = {}
        else:
            journal.close()
            waiting, meta_waiting, top = [], {}, last
            journal = Journal.open(path, nonce(next(fresh)))
            assert journal.completeness.verdict is (Verdict.COMPLETE if last else Verdict.FRESH)
        assert journal.position == last
        assert [journal.get_meta(key) for key in NAMES] == [meta.get(key) for key in NAMES]
    assert list(journal.replay()) == held
    journal.close()


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 500), min_size=1, max_size=8),
    gap=st.integers(1, 12),
    first=st.integers(1, 9),
    last=st.integers(0, 10),
    most=st.integers(0, 1500),
)
def test_a_range_is_read_up_to_its_first_gap_or_its_bytes(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], gap: int, first: int, last: int, most: int
) -> None:
    lane = {seq: batch(b"A", seq, size) for seq, size in enumerate(sizes, 1) if seq != gap}
    expected: list[JournalRecord] = []
    for seq in range(first, last + 1):
        if seq not in lane:
            break
        if expected and sum(len(r.body) for r in expected) + len(lane[seq].body) > most:
            break
        expected.append(lane[seq])
    with Journal.open(tmp_path_factory.mktemp("journal") / "journal", nonce(1)) as journal:
        for position, record in enumerate(lane.values(), 1):
            journal.append(
                2 * position, [batch(b"B", record.seq), record, JournalRecord(2, b"A", record.seq, b"", b"e")]
            )
        journal.commit()
        assert journal.read(b"A", first, last, most) == expected


def test_what_is_not_committed_is_not_read(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        journal.append(1, [batch(b"A", 1)])
        assert journal.read(b"A", 1, 1, 100) == []
        assert list(journal.replay()) == []
        journal.commit()
        assert journal.read(b"A", 1, 1, 100) == [batch(b"A", 1)]


def test_both_branches_of_a_fork_are_read(tmp_path: Path) -> None:
    one, other = batch(b"A", 1), JournalRecord(KIND_BATCH, b"A", 1, b"other", b"x")
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        journal.append(1, [one])
        journal.append(2, [other, batch(b"A", 2)])
        journal.commit()
        assert journal.read(b"A", 1, 5, 10_000) == [one, other, batch(b"A", 2)]


def test_a_second_opener_is_refused_and_told_who_is_there(tmp_path: Path) -> None:
    link = tmp_path / "by-another-name"
    with Journal.open(tmp_path / "journal", nonce(1)):
        link.symlink_to(tmp_path / "journal")
        for path in (tmp_path / "journal", link):
            with pytest.raises(JournalLocked) as refused:
                Journal.open(path, nonce(2))
            assert refused.value.holder == f"process {os.getpid()}"
    Journal.open(tmp_path / "journal", nonce(2)).close()


def test_positions_only_rise(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        journal.append(7, [])
        for position in (7, 6, 0, -1, INTEGER_MAX + 1):
            with pytest.raises(ValueError, match="does not follow"):
                journal.append(position, [])
        assert journal.commit() == 7
    with Journal.open(tmp_path / "journal", nonce(2)) as journal, pytest.raises(ValueError, match="does not follow"):
        journal.append(7, [])


def test_the_journal_keeps_its_own_names(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal, pytest.raises(ValueError, match=r"journal\."):
        journal.set_meta("journal.head", b"")


def test_a_stale_incarnation_is_no_incarnation(tmp_path: Path) -> None:
    Journal.open(tmp_path / "journal", nonce(1)).close()
    with pytest.raises(ValueError, match="fresh"):
        Journal.open(tmp_path / "journal", nonce(1))
    Journal.open(tmp_path / "journal", nonce(2)).close()


@pytest.mark.parametrize("content", [b"", b"not a database" * 2000])
def test_a_file_that_is_no_journal_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(content)
    with pytest.raises(JournalUnusable):
        Journal.open(path, nonce(1))
    assert path.read_bytes() == content


def test_a_journal_of_a_later_format_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Journal.open(path, nonce(1)).close()
    connection = journalfile.connect(path)
    connection.pragma("user_version", journalfile.FORMAT_VERSION + 1)
    connection.close()
    with pytest.raises(JournalUnusable, match="format 3"):
        Journal.open(path, nonce(2))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(JournalUnusable, match="nowhere"):
        Journal.open(tmp_path / "nowhere" / "journal", nonce(1))


def test_every_commit_is_synced_in_wal_mode(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        connection = journal._connection
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("synchronous") == 2
        assert connection.pragma("page_size") == 16_384


def test_after_one_failed_commit_nothing_is_written_any_more(tmp_path: Path) -> None:
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        journal.append(1, [])
        journal.commit()
        blocker = journalfile.connect(journal.path)
        journal._connection.set_busy_timeout(0)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalUnusable, match="cannot be written"):
            journal.append(2, [batch(b"A", 1)])
        blocker.execute("ROLLBACK")
        blocker.close()
        for again in (lambda: journal.append(3, []), journal.commit, lambda: journal.set_meta("a", b"")):
            with pytest.raises(JournalUnusable, match="an earlier write failed"):
                again()
        assert journal.position == 1
