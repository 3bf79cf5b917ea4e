"""The thread that makes persisting cheap: appends wait in a queue, and all that wait share one sync. Impure.

    writer.submit(position, records)      # from the thread that drives the core; returns at once
    poll(writer.fileno()) ...             # readable when more became durable, or when writing has failed
    writer.take_durable()                 # -> the highest durable position; arms the descriptor again

    writer.submit(position, records, later=True)
    writer.write_now() or ...             # True: all that waits is written and synced, by the caller itself

Group commit: while one group is being synced, the next gathers. So a lone append waits for one sync, and under load
each sync carries as much as arrived during the one before it, bounded in bytes and count.

Handing over to a thread and back costs two wake-ups, which on a busy machine are longer than a quick sync. So who has nothing
else to do may write what waits itself (``write_now``): not while the thread is writing, only few bytes, and only on a disk whose
last sync was quick by ``clock`` (seconds), for its caller stands still meanwhile; never without a clock.

Rules: positions become durable in the order of submission. Nothing is reported durable before its sync has returned.
The first failed write or sync ends the writer for good: ``on_failure`` is called once, from the writer's thread, and no
durability is reported after it; the process is expected to end, because what reached the disk is no longer known.
Pruning waits its turn like everything else: what was submitted before it is durable when it happens.
The queue is bounded by bytes: ``full`` tells the driver to stop taking in work; a ``submit`` that ignores it waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from crdtledger.errors import JournalUnusable
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalfile import check_key
from crdtledger.ledger.journalrecord import BODY_BYTES_MAX, INTEGER_MAX, JournalRecord, Prune

QUEUE_BYTES_MAX = 64 * 1024 * 1024
GROUP_BYTES_MAX = 4 * 1024 * 1024
GROUP_JOBS_MAX = 1024

OWN_BYTES_MAX = 16 * 1024
OWN_SYNC_S_MAX = 0.002
"""A sync that takes longer than this is not worth waiting for."""

JOB_OVERHEAD_BYTES = 256
RECORD_OVERHEAD_BYTES = 128


class _Job(msgspec.Struct, frozen=True):
    position: int
    records: tuple[JournalRecord, ...]
    meta: tuple[tuple[str, bytes | None], ...]
    new_epoch: bool
    size_bytes: int


class JournalWriter:
    """Owns the writing side of an open journal until ``stop``. Reading it from the driver's thread stays allowed."""

    def __init__(
        self,
        journal: Journal,
        on_failure: Callable[[Exception], None],
        *,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        group_bytes_max: int = GROUP_BYTES_MAX,
        group_jobs_max: int = GROUP_JOBS_MAX,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._journal = journal
        self._on_failure = on_failure
        self._queue_bytes_max = queue_bytes_max
        self._group_bytes_max = group_bytes_max
        self._group_jobs_max = group_jobs_max
        self._lock = threading.RLock()
        self._work, self._done = threading.Condition(self._lock), threading.Condition(self._lock)
        self._jobs: deque[_Job | Prune] = deque()
        self._queued_bytes = 0
        self._submitted = self._durable = journal.position
        self._failure: Exception | None = None
        self._stopping = False
        self._writing = False  # the thread has a group in hand
        self._clock = clock
        self._last_sync_s = 0.0
        self._groups = 0
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    @property
    def durable_position(self) -> int:
        """Everything submitted up to and including this position has reached stable storage."""
        return self._durable

    @property
    def failure(self) -> Exception | None:
        """What ended the writer, None while it is well."""
        return self._failure

    @property
    def full(self) -> bool:
        """Whether the queue holds as many bytes as it may."""
        return self._queued_bytes >= self._queue_bytes_max

    @property
    def groups(self) -> int:
        """How many groups were committed: beside the number of jobs, what group commit saved."""
        return self._groups

    def fileno(self) -> int:
        """A descriptor that is readable when there is news for ``take_durable``."""
        return self._wake_read

    def take_durable(self) -> int:
        """Clear the descriptor and return ``durable_position``. Clear first, so that no news is lost between."""
        try:
            while os.read(self._wake_read, 4096):
                pass
        except BlockingIOError:
            pass
        return self._durable

    def submit(
        self,
        position: int,
        records: Sequence[JournalRecord],
        *,
        meta: Mapping[str, bytes | None] | None = None,
        new_epoch: bool = False,
        later: bool = False,
    ) -> None:
        """Queue ``records`` and ``meta`` (None removes a key) to be written together under ``position``.

        Positions rise. ``new_epoch`` as in ``Journal.append``. ``later``: the caller owes a ``hand_over`` or a ``write_now``; a thread
        that is writing goes on with it unasked. Waits while the queue is full; raises ``JournalUnusable`` when the writer has failed
        or was stopped.
        """
        job = _job(position, records, meta, new_epoch)
        with self._lock:
            if not self._submitted < position <= INTEGER_MAX:
                raise ValueError(f"position {position} does not follow {self._submitted}")
            if self.full:
                self._work.notify()
                self._done.wait_for(lambda: not self.full or self._failure is not None or self._stopping)
            self._refuse_when_over()
            self._submitted = position
            self._queued_bytes += job.size_bytes
            self._jobs.append(job)
            if not later:
                self._work.notify()

    def hand_over(self) -> None:
        """Have the thread write what waits."""
        with self._lock:
            self._work.notify()

    def write_now(self) -> bool:
        """Write and sync what waits on the caller's thread, as one group, if the thread has none in hand, it is few bytes and the last
        sync was quick. False: it was handed over to the thread. A failure ends the writer as one in its thread does, and is raised
        as ``JournalUnusable`` should ``on_failure`` return.
        """
        with self._lock:
            self._refuse_when_over()
            group = [job for job in self._jobs if isinstance(job, _Job)]
            others = self._writing or len(group) < len(self._jobs)
            if (
                self._clock is None
                or others
                or not group
                or self._queued_bytes > OWN_BYTES_MAX
                or self._last_sync_s > OWN_SYNC_S_MAX
            ):
                self._work.notify()
                return False
            self._jobs.clear()
            failure = self._write(group)  # with the lock held: nobody else may touch the journal meanwhile
        if failure is not None:
            self._fail(failure)
            self._refuse_when_over()
        return True

    def submit_prune(self, what: Prune) -> None:
        """Queue the deletion of records that nobody needs any more, behind everything submitted so far. Nothing tells when it is
        done, for nothing may depend on it; ``JournalUnusable`` when the writer has failed or was stopped."""
        with self._lock:
            self._refuse_when_over()
            self._jobs.append(what)
            self._work.notify()

    def drain(self) -> int:
        """Wait until everything submitted is durable and return the position; ``JournalUnusable`` on failure."""
        with self._lock:
            target = self._submitted
            self._done.wait_for(lambda: self._durable >= target or self._failure is not None)
            if self._durable < target:
                self._refuse_when_over()
            return self._durable

    def stop(self) -> None:
        """Write what is queued (unless writing has failed), end the thread, close the descriptor. Not the journal."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
            self._work.notify()
            self._done.notify_all()
        self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _refuse_when_over(self) -> None:
        if self._failure is not None:
            raise JournalUnusable(path=str(self._journal.path), reason=f"writing has failed: {self._failure}")
        if self._stopping:
            raise JournalUnusable(path=str(self._journal.path), reason="its writer was stopped")

    # -- the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while group := self._next_group():
            failure = self._prune(group) if isinstance(group, Prune) else self._write(group)
            with self._lock:
                self._writing = False
            if failure is not None:
                self._fail(failure)
                return
            if not isinstance(group, Prune):
                self._wake()

    def _prune(self, what: Prune) -> Exception | None:
        try:
            self._journal.prune(what)
        except Exception as error:  # as in ``_write``
            return error
        return None

    def _write(self, group: list[_Job]) -> Exception | None:
        """Write and sync a group, and say so; or what went wrong."""
        try:
            for job in group:
                self._journal.append(job.position, job.records, new_epoch=job.new_epoch)
                for key, value in job.meta:
                    self._journal.set_meta(key, value)
            begun = self._clock() if self._clock else 0.0
            durable = self._journal.commit()
            taken = self._clock() - begun if self._clock else 0.0
        except Exception as error:  # whatever it was, what is on the disk is no longer known
            return error
        with self._lock:
            self._durable = durable
            self._last_sync_s = taken
            self._groups += 1
            self._queued_bytes -= sum(job.size_bytes for job in group)
            self._done.notify_all()  # and not the thread, if this was not its work: to wake it takes longer than all the rest
        return None

    def _next_group(self) -> list[_Job] | Prune:
        """A pruning whose turn it is, or all the jobs that wait before one, up to the bounds; empty when the writer is stopped
        and nothing waits."""
        group: list[_Job] = []
        size = 0
        with self._lock:
            self._work.wait_for(lambda: bool(self._jobs) or self._stopping)
            while self._jobs and len(group) < self._group_jobs_max:
                job = self._jobs[0]
                if isinstance(job, Prune):
                    if not group:
                        self._jobs.popleft()
                        self._writing = True
                        return job
                    break
                if group and size + job.size_bytes > self._group_bytes_max:
                    break
                self._jobs.popleft()
                size += job.size_bytes
                group.append(job)
            self._writing = bool(group)
        return group

    def _fail(self, error: Exception) -> None:
        with self._lock:
            self._failure = error
            self._jobs.clear()
            self._work.notify()
            self._done.notify_all()
        self._wake()
        self._on_failure(error)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of news already
            os.write(self._wake_write, b"\0")


def _job(
    position: int, records: Sequence[JournalRecord], meta: Mapping[str, bytes | None] | None, new_epoch: bool
) -> _Job:
    """What is to be written together; ``ValueError`` for what a journal cannot take."""
    kept = tuple(records)
    pairs = tuple(meta.items()) if meta else ()
    for key, _ in pairs:
        check_key(key)
    size = JOB_OVERHEAD_BYTES + sum(len(value) for _, value in pairs if value is not None)
    for record in kept:
        if not (0 <= record.kind <= INTEGER_MAX and 0 <= record.seq <= INTEGER_MAX):
            raise ValueError(f"kind {record.kind}, seq {record.seq}: not in 0..{INTEGER_MAX}")
        if len(record.body) > BODY_BYTES_MAX:
            raise ValueError(f"a record's body has at most {BODY_BYTES_MAX} bytes, not {len(record.body)}")
        size += RECORD_OVERHEAD_BYTES + len(record.body) + len(record.lane) + len(record.hash)
    return _Job(position, kept, pairs, new_epoch, size)
