"""The writer thread shares syncs, reports in order, reports only what is durable, and ends at its first failure."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import textwrap
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import JournalUnusable
from crdtledger.ledger.incarnation import Verdict
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import Entry, JournalRecord
from crdtledger.ledger.writer import OWN_BYTES_MAX, OWN_SYNC_S_MAX, JournalWriter
from tests.crdtledger.test_journal import batch, nonce


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal", nonce(1)) as opened:
        yield opened


class Gate:
    """Stands before ``Journal.commit``: holds it until opened, counts it, or makes it fail."""

    def __init__(self, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.open, self.error = threading.Semaphore(0), threading.Semaphore(0), None
        self.commits = 0
        self._commit = journal.commit
        monkeypatch.setattr(journal, "commit", self.commit)

    def commit(self) -> int:
        self.commits += 1
        self.reached.release()
        assert self.open.acquire(timeout=60)
        if self.error is not None:
            raise self.error
        return self._commit()

    error: Exception | None


def never(error: Exception) -> None:
    raise AssertionError(error)


@settings(max_examples=25, deadline=None)
@given(
    rises=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3), st.booleans()), max_size=40),
    jobs_max=st.integers(1, 8),
    bytes_max=st.integers(1, 4000),
)
def test_what_was_submitted_is_written_in_order_whatever_the_groups(
    tmp_path_factory: pytest.TempPathFactory, rises: list[tuple[int, int, bool]], jobs_max: int, bytes_max: int
) -> None:
    with Journal.open(tmp_path_factory.mktemp("journal") / "journal", nonce(1)) as journal:
        writer = JournalWriter(
            journal, never, queue_bytes_max=2000, group_jobs_max=jobs_max, group_bytes_max=bytes_max, clock=float
        )
        lone = 0
        expected: list[Entry] = []
        position = seq = 0
        last = None
        for rise, count, alone in rises:
            position += rise
            records = [batch(b"A", seq + n + 1) for n in range(count)]
            seq += count
            last = str(position).encode()
            writer.submit(position, records, meta={"last": last}, later=alone)
            if alone and writer.write_now():
                lone += 1
                assert writer.durable_position == position
            expected += [Entry(position, record) for record in records]
        assert writer.drain() == position
        assert list(journal.replay()) == expected
        assert journal.get_meta("last") == last
        assert lone <= writer.groups <= len(rises)
        writer.stop()


def test_all_that_wait_share_one_sync(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(journal, monkeypatch)
    writer = JournalWriter(journal, never)
    writer.submit(1, [batch(b"A", 1)])
    assert gate.reached.acquire(timeout=60)
    for position in range(2, 202):
        writer.submit(position, [batch(b"A", position)])
    gate.open.release(2)
    assert writer.drain() == 201
    assert (gate.commits, writer.groups) == (2, 2)
    writer.stop()


def test_nothing_is_reported_before_its_sync(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(journal, monkeypatch)
    writer = JournalWriter(journal, never)
    writer.submit(5, [batch(b"A", 1)])
    assert gate.reached.acquire(timeout=60)
    assert writer.durable_position == 0
    assert select.select([writer], [], [], 0)[0] == []
    gate.open.release()
    assert select.select([writer], [], [], 60)[0] == [writer]
    assert writer.take_durable() == 5
    assert select.select([writer], [], [], 0)[0] == []
    writer.stop()


def write_lone(writer: JournalWriter, position: int, size: int = 100) -> bool:
    writer.submit(position, [batch(b"A", position, size)], later=True)
    return writer.write_now()


def test_what_the_caller_writes_itself_is_durable_when_the_call_returns_and_wakes_nobody(journal: Journal) -> None:
    writer = JournalWriter(journal, never, clock=lambda: 0.0)
    for position in range(1, 40, 2):
        writer.submit(position, [batch(b"A", position)], later=True)
        assert write_lone(writer, position + 1), "both with one sync"
        assert (writer.durable_position, writer.groups) == (position + 1, position // 2 + 1)
        assert [entry.position for entry in journal.replay()] == list(range(1, position + 2))
    assert select.select([writer], [], [], 0)[0] == []
    assert not writer.write_now(), "nothing waits"
    writer.submit(41, [batch(b"A", 41)], later=True)
    writer.hand_over()
    assert writer.drain() == 41
    writer.stop()
    with pytest.raises(JournalUnusable, match="stopped"):
        writer.write_now()


def test_what_the_caller_writes_itself_leaves_the_thread_asleep(journal: Journal) -> None:
    writer = JournalWriter(journal, never, clock=lambda: 0.0)
    asleep: deque[object] = writer._work.__dict__["_waiters"]
    while not asleep:  # until it has begun to wait for work
        threading.Event().wait(0.001)
    (thread,) = asleep
    for position in range(1, 10):
        assert write_lone(writer, position)
        assert list(asleep) == [thread]
    writer.stop()


def test_what_waits_when_the_writer_is_stopped_is_written(journal: Journal) -> None:
    writer = JournalWriter(journal, never)
    writer.submit(1, [batch(b"A", 1)], later=True)
    writer.stop()
    assert [entry.position for entry in journal.replay()] == [1]


def test_without_a_clock_the_thread_writes_everything(journal: Journal) -> None:
    writer = JournalWriter(journal, never)
    assert not write_lone(writer, 1)
    assert writer.drain() == 1
    writer.stop()


def test_the_caller_writes_nothing_while_the_thread_does(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(journal, monkeypatch)
    writer = JournalWriter(journal, never, clock=lambda: 0.0)
    writer.submit(1, [batch(b"A", 1)])
    assert gate.reached.acquire(timeout=60)
    assert not write_lone(writer, 2)
    gate.open.release(2)
    assert writer.drain() == 2
    writer.stop()
    assert [entry.position for entry in journal.replay()] == [1, 2]


def test_the_caller_waits_neither_for_much_nor_for_a_slow_disk(journal: Journal) -> None:
    took = 0.0

    def clock() -> float:  # as if every sync took ``took``
        nonlocal now
        now += took
        return now

    now = 0.0
    writer = JournalWriter(journal, never, clock=clock)

    def lone(position: int, size: int = 100) -> bool:
        done = write_lone(writer, position, size)
        assert writer.drain() == position
        until_idle(writer)
        return done

    assert not lone(1, OWN_BYTES_MAX)
    assert lone(2)
    took = OWN_SYNC_S_MAX * 1.01
    assert lone(3), "the last one was quick"
    assert not lone(4)
    took = 0.0
    assert not lone(5), "the last one was slow"
    assert lone(6)
    writer.stop()


def until_idle(writer: JournalWriter) -> None:
    """Wait until the thread has put down the group that it has made durable."""
    end = monotonic() + 60
    while writer._writing:
        assert monotonic() < end


def test_a_failure_of_what_the_caller_writes_ends_the_writer(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(journal, monkeypatch)
    told: list[Exception] = []
    writer = JournalWriter(journal, told.append, clock=lambda: 0.0)
    gate.error = OSError("the disk is gone")
    gate.open.release(10)
    for position in (1, 2):
        with pytest.raises(JournalUnusable, match="the disk is gone"):
            write_lone(writer, position)
    assert (writer.durable_position, gate.commits) == (0, 1)
    writer.stop()
    assert told == [gate.error]


def test_a_full_queue_says_so_and_makes_the_next_submit_wait(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(journal, monkeypatch)
    writer = JournalWriter(journal, never, queue_bytes_max=1000)
    writer.submit(1, [batch(b"A", 1, 2000)])
    assert writer.full
    assert gate.reached.acquire(timeout=60)
    waiting = threading.Thread(target=writer.submit, args=(2, [batch(b"A", 2)]))
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    gate.open.release(2)
    waiting.join(60)
    assert not waiting.is_alive()
    assert writer.drain() == 2
    assert select.select([writer], [], [], 60)[0] == [writer]
    writer.submit(3, [])
    gate.open.release()
    assert writer.drain() == 3
    writer.stop()


def test_the_first_failure_is_the_last_word(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(journal, monkeypatch)
    told: list[Exception] = []
    writer = JournalWriter(journal, told.append, queue_bytes_max=1000)
    writer.submit(1, [batch(b"A", 1)])
    gate.open.release()
    assert writer.drain() == 1
    writer.take_durable()
    gate.error = OSError("the disk is gone")
    writer.submit(2, [batch(b"A", 2, 5000)])
    gate.open.release(10)
    with pytest.raises(JournalUnusable, match="the disk is gone"):
        writer.drain()
    with pytest.raises(JournalUnusable, match="the disk is gone"):
        writer.submit(3, [])
    assert select.select([writer], [], [], 60)[0] == [writer]
    assert (writer.take_durable(), writer.durable_position, gate.commits - 2) == (1, 1, 0)
    writer.stop()
    assert told == [gate.error]


def test_a_full_disk_ends_the_writer_and_what_was_durable_stays(tmp_path: Path) -> None:
    told: list[Exception] = []
    with Journal.open(tmp_path / "journal", nonce(1)) as journal:
        pages = journal._connection.pragma("page_count")
        journal._connection.pragma("max_page_count", pages + 4)
        writer = JournalWriter(journal, told.append)
        position = 0
        while writer.failure is None:
            position += 1
            writer.submit(position, [batch(b"A", position, 10_000)])
            with contextlib.suppress(JournalUnusable):
                writer.drain()
        assert "full" in str(writer.failure)
        assert writer.durable_position == position - 1
        writer.stop()
    assert len(told) == 1
    with Journal.open(tmp_path / "journal", nonce(2)) as journal:
        assert [entry.position for entry in journal.replay()] == list(range(1, position))
        assert journal.completeness.verdict is Verdict.COMPLETE


def test_what_does_not_fit_a_row_is_refused_before_it_is_queued(journal: Journal) -> None:
    writer = JournalWriter(journal, never)
    with pytest.raises(ValueError, match="not in"):
        writer.submit(1, [JournalRecord(1, b"", 2**63, b"", b"")])
    writer.submit(1, [JournalRecord(1, b"", 2**63 - 1, b"", b"")])
    with pytest.raises(ValueError, match="does not follow"):
        writer.submit(1, [])
    with pytest.raises(ValueError, match=r"journal\."):
        writer.submit(2, [], meta={"journal.head": b""})
    assert writer.drain() == 1
    writer.stop()
    with pytest.raises(JournalUnusable, match="stopped"):
        writer.submit(2, [])


def test_reading_goes_on_while_the_thread_writes(journal: Journal) -> None:
    writer = JournalWriter(journal, never)
    for position in range(1, 400):
        writer.submit(position, [batch(b"A", position)])
        durable = writer.durable_position
        held = journal.read(b"A", 1, 1000, 10**6)
        assert [record.seq for record in held] == list(range(1, len(held) + 1))
        assert len(held) >= durable
    writer.stop()


KILLED = """
    import os, sys
    from crdtledger.ledger.journal import Journal
    from crdtledger.ledger.journalrecord import JournalRecord
    from crdtledger.ledger.writer import OWN_BYTES_MAX, OWN_SYNC_S_MAX, JournalWriter
    journal = Journal.open(sys.argv[1], os.urandom(16))
    print(journal.completeness.verdict.value, sum(1 for _ in journal.replay()), flush=True)
    writer = JournalWriter(journal, lambda error: os._exit(9))
    position = journal.position
    while True:
        position += 1
        writer.submit(position, [JournalRecord(1, b"A", position, b"h", os.urandom(position % 3000))])
        print(writer.durable_position, flush=True)
"""


@pytest.mark.processes
def test_what_was_reported_before_kill_9_is_there_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    reported = 0
    for turn in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(KILLED), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        state, held = process.stdout.readline().split()
        assert state == ("complete" if turn else "fresh")
        assert int(held) >= reported
        target = reported + 37 * (turn + 1)
        for line in process.stdout:
            if int(line) >= target:
                break
        process.kill()
        reported = max([target, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
        process.stdout.close()
        process.wait()
    with Journal.open(path, nonce(1)) as journal:
        held_at = [entry.position for entry in journal.replay()]
        assert held_at == list(range(1, len(held_at) + 1))
        assert len(held_at) >= reported
        assert journal.completeness.verdict is Verdict.COMPLETE
