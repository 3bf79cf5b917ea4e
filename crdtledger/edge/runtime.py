"""The runtime of one node: the core on ZeroMQ, SQLite and a real clock. Impure, and thin.

One thread owns the sockets and the core; a second one syncs the journal, unless there is little to sync and nothing else to do:
then the loop does it itself. The loop waits for a frame, a timer or news from the journal, feeds the core, and does what the core
says. A ``Send`` or ``Reply`` that depends on a journal position waits here until that position is durable. When a write or a sync
fails the process ends: a node that cannot persist must not go on talking.
"""

from __future__ import annotations

import heapq
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import zmq

from crdtledger.edge import api, folders
from crdtledger.edge.backlog import Backlog
from crdtledger.edge.core import NodeCore
from crdtledger.edge.effects import ClientRequest, Effect, PruneJournal, StoreCheckpoint
from crdtledger.edge.epochs import EPOCH_RECORD
from crdtledger.edge.folders import NodeFolder, RunFile
from crdtledger.edge.setup import JUMP_HEIGHTS, Setup
from crdtledger.errors import BadInput, InvalidProof, JournalCorrupt, LedgerError, OperatorError
from crdtledger.ledger.backup import backup
from crdtledger.ledger.incarnation import Completeness, Verdict
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import KIND_META, JournalRecord, decode_record, encode_record
from crdtledger.ledger.writer import JournalWriter
from crdtledger.matching.sharing import SharePolicy
from gossip.config import Config
from gossip.effects import Durable, Notify, Persist, Received, Reply, Send, StartTimer, TimerFired
from gossip.meters import TokenBucket
from gossip.transport import Incoming, Readable, Transport, Tuning
from reconcile.stores import StoreConflict, StoredCheckpoint, StoreUnusable
from reconcile.stores.sqlite import SqliteStore

INCARNATION_BYTES = 16
IDLE_MS = 1_000
FRAMES_PER_TURN = 32
WORK_NS = 50_000_000
GATHERED_FRAMES = 8
"""While at most so many frames wait, what they write is gathered for one sync; with more, the disk works while they are handled."""
BACKLOG_FRAMES = 256
COMPLAINTS_PER_S, COMPLAINTS_BURST = 1, 20
BACKLOG_BYTES = 32 * 1024 * 1024
FAILED = 70  # sysexits EX_SOFTWARE: the journal could not be written


class AddressInUse(OperatorError):
    """Nobody can listen there."""

    code = "address_in_use"

    def __init__(self, *, address: str, why: str) -> None:
        super().__init__(address=address, why=why)

    def describe(self) -> str:
        return f"cannot listen on {self.attributes['address']}: {self.attributes['why']}"


_Waiting = Send | Reply | StoreCheckpoint | PruneJournal
"""Effects that wait for a position."""


class NodeRuntime:
    """One running node. ``run`` returns after ``stop`` (or SIGTERM, when ``run`` was asked to listen to it)."""

    def __init__(self, folder: NodeFolder, log: IO[str] | None = None, gossip: Config | None = None) -> None:
        self._folder = folder
        self._log = log or sys.stderr
        self._stopping = False
        self._blocked: list[str] = []
        self._timers: list[tuple[int, int, str]] = []
        self._timer_number: dict[str, int] = {}
        self._count = 0
        self._held: deque[_Waiting] = deque()
        self._members: Backlog[Incoming] = Backlog(BACKLOG_FRAMES, BACKLOG_BYTES)
        self._clients: Backlog[Incoming] = Backlog(BACKLOG_FRAMES, BACKLOG_BYTES)
        self._complaints: dict[str, TokenBucket] = {}
        self._unsaid: dict[str, int] = {}
        self._replayed = 0
        self._last_us = 0
        self._read_ns = time.monotonic_ns()
        self._unborn = folders.is_unborn(folder.path)
        self._journal = Journal.open(folder.journal, os.urandom(INCARNATION_BYTES))
        self._store: SqliteStore | None = None
        try:
            if folder.genesis.policies.agreement != "none":
                self._store = SqliteStore.create(folder.checkpoints)
            started = time.monotonic()
            verdict = self._verdict()
            setup = Setup(
                genesis=folder.genesis,
                identity=folder.identity,
                name=folder.name,
                draw=os.urandom,
                completeness=verdict.verdict.value,
                reason=verdict.reason,
                gossip=gossip,
                documents=False,  # nobody reads one here: it would hold every unsettled batch a second time
                salts=folder.salts,
                archive=self._stored,
                jump_heights=JUMP_HEIGHTS,
                journaled=self._journaled,
                sharing=SharePolicy(share_ppm=folder.genesis.policies.grant_share_ppm),
            )
            self.core = NodeCore(setup, self._records())
            self._transport = self._open_transport()
        except BaseException:
            if self._store:
                self._store.close()
            self._journal.close()
            raise
        self._base = self._journal.position
        self._durable = 0
        self._unwritten = False  # the writer has something that neither its thread nor the loop was told to write
        self._writer = JournalWriter(self._journal, on_failure=self._journal_failed, clock=time.monotonic)
        seconds = round(time.monotonic() - started, 3)
        self._say("node.started", {"records": self._replayed, "seconds": seconds, "journal": verdict.verdict.value})

    def _records(self) -> Iterator[bytes]:
        """What the journal holds, one by one: the core keeps it as it reads it, and nobody has to hold it twice."""
        for entry in self._journal.replay():
            self._replayed += 1
            yield encode_record(entry.record)

    def _verdict(self) -> Completeness:
        """The journal's verdict on itself; a node that once had a journal and has none now has lost it."""
        verdict = self._journal.completeness
        if verdict.verdict is Verdict.FRESH and not self._unborn:
            return Completeness(Verdict.RESTORED, "its journal is gone")
        return verdict

    def _open_transport(self) -> Transport:
        folder, genesis = self._folder, self._folder.genesis
        others = {m.name: (m.address, m.curve.encode()) for m in genesis.nodes if m.name != folder.name}
        clients = {key.encode(): "operator" for key in genesis.policies.operators}
        clients[folder.curve.public.encode()] = "self"
        address = folder.member.address
        keys = folder.curve.public.encode(), folder.curve.secret.encode()
        try:
            tuning = Tuning(drain=FRAMES_PER_TURN)
            return Transport(
                address, *keys, others, clients, tuning, denied=lambda why: self._complain("link.denied", {"why": why})
            )
        except zmq.ZMQError as error:
            raise AddressInUse(address=address, why=str(error)) from None

    # -- the loop -------------------------------------------------------------------------------------------

    def run(self, signals: bool = False, ready: Callable[[], None] | None = None, parent: int | None = None) -> None:
        """Serve until stopped. ``signals``: stop in good order on SIGTERM and SIGINT. ``ready`` is called once listening.
        ``parent``: a descriptor whose closing means that whoever started this node is gone; it then stops too."""
        self._watched = (self._writer.fileno(),) if parent is None else (self._writer.fileno(), parent)
        if signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self.stop())
        with folders.write_run(self._folder.path, RunFile(os.getpid(), self._now_us())):
            self._do(self.core.start(self._now_us()))
            if ready:
                ready()
            try:
                while not self._stopping:
                    self._turn()
            finally:
                self._close()

    def stop(self) -> None:
        """Leave the loop after the current turn."""
        self._stopping = True

    def _turn(self) -> None:
        happenings = self._transport.poll(self._until_next_timer_ms(), self._watched)
        for happening in happenings:
            if isinstance(happening, Readable):
                self._readable(happening.fd)
            elif isinstance(happening, Incoming):
                self._queue(happening)
            else:
                self._do(self.core.step(happening, self._now_us()))
        # Clients first: a node that is catching up, or under attack, must still answer the person who asks how it is.
        self._work(self._clients, self._client)
        self._work(self._members, self._member)
        while self._timers and self._timers[0][0] <= time.monotonic_ns():
            _, number, key = heapq.heappop(self._timers)
            if self._timer_number.get(key) == number:
                del self._timer_number[key]
                self._do(self.core.step(TimerFired(key), self._now_us()))
        if self._unwritten:
            self._write_down()

    def _queue(self, incoming: Incoming) -> None:
        """Keep a frame until it is its sender's turn; drop it, counted, when that sender has too many waiting."""
        is_member = incoming.kind == "member"
        sender = incoming.name if is_member else incoming.identity.hex()
        if not (self._members if is_member else self._clients).put(sender, incoming, len(incoming.frame)):
            self._complain("link.flooded", {"from": incoming.name})

    def _work(self, backlog: Backlog[Incoming], handle: Callable[[Incoming], None]) -> None:
        """Handle frames, one of each sender in turn, until nothing waits or the time is up."""
        end_ns = time.monotonic_ns() + WORK_NS
        while backlog:
            handle(backlog.take())
            if time.monotonic_ns() >= end_ns:
                return

    def _member(self, incoming: Incoming) -> None:
        self._do(self.core.step(Received(incoming.name, incoming.frame), self._now_us()))

    def _until_next_timer_ms(self) -> int:
        if self._members or self._clients or self._unwritten:
            return 0
        if not self._timers:
            return IDLE_MS
        return max(0, min(IDLE_MS, -(-(self._timers[0][0] - time.monotonic_ns()) // 1_000_000)))

    def _now_us(self) -> int:
        """The time for the core. A clock that was set back runs at half speed until time has caught up: it must not go
        back, and if it stood still every deadline would be put off for as long."""
        monotonic_ns = time.monotonic_ns()
        slow_us = self._last_us + (monotonic_ns - self._read_ns) // 2000
        self._last_us = max(slow_us, time.time_ns() // 1000)
        self._read_ns = monotonic_ns
        return self._last_us

    def _close(self) -> None:
        self._transport.close()
        self._writer.stop()
        if self._store:
            self._store.close()
        self._journal.close()
        folders.clear_run(self._folder.path)
        self._say("node.stopped", {})

    # -- effects --------------------------------------------------------------------------------------------

    def _do(self, effects: Sequence[Effect]) -> None:
        self._perform(effects)
        waiting = len(self._clients) + len(self._members)
        if self._unwritten and not 0 < waiting <= GATHERED_FRAMES:
            self._write_down()

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self._persist(effect)
            elif isinstance(effect, _Waiting):
                if effect.after > self._durable:
                    self._held.append(effect)
                else:
                    self._let_go(effect)
            elif isinstance(effect, StartTimer):
                self._count += 1
                self._timer_number[effect.key] = self._count
                heapq.heappush(self._timers, (time.monotonic_ns() + effect.delay_us * 1000, self._count, effect.key))
            elif isinstance(effect, Notify):
                self._say(effect.topic, dict(effect.fields))

    def _persist(self, effect: Persist) -> None:
        records = [decode_record(raw) for raw in effect.records]
        kept = [record for record in records if isinstance(record, JournalRecord)]
        opens_epoch = any(record.kind == KIND_META and record.hash == EPOCH_RECORD for record in kept)
        self._writer.submit(self._base + effect.position, kept, new_epoch=opens_epoch, later=True)
        self._unwritten = True

    def _write_down(self) -> None:
        """Have everything submitted made durable: by the loop itself if it has nothing else to do, else by the writer's thread."""
        self._unwritten = False
        if self._members or self._clients:
            self._writer.hand_over()
        elif self._writer.write_now():
            self._durable = self._writer.durable_position - self._base
            self._release()
            self._tell_durable()

    def _let_go(self, effect: _Waiting) -> None:
        if isinstance(effect, Send):
            self._transport.send(effect.peer, effect.frame)
        elif isinstance(effect, StoreCheckpoint):
            self._keep(effect.stored)
        elif isinstance(effect, PruneJournal):
            self._writer.submit_prune(effect.what)
        else:
            identity, number = effect.request
            self._transport.answer(identity, api.encode_frame(api.Frame(number, effect.body)))

    def _keep(self, stored: StoredCheckpoint) -> None:
        """Append a certified checkpoint to the store. A store that does not take it is no reason to stop: the journal holds what
        this node promised, and others hold the certificates."""
        if self._store is None:
            return
        try:
            self._store.append(stored)
        except (StoreConflict, StoreUnusable) as error:
            self._complain("store.refused", {"height": stored.height, "why": str(error)})

    def _stored(self, height: int) -> StoredCheckpoint | None:
        return next(iter(self._archive(height, 1)), None)

    def _archive(self, first: int, limit: int) -> Sequence[StoredCheckpoint]:
        """What the store holds, for peers that are behind. A damaged row ends it: they ask others."""
        try:
            return self._store.read(first, limit) if self._store else ()
        except InvalidProof as error:
            self._complain("store.damaged", {"why": str(error)})
            return ()

    def _journaled(self, lane: bytes, first: int, last: int, max_bytes: int) -> Sequence[bytes]:
        """Settled batches, for peers that are far behind. A damaged row ends it: they ask others."""
        try:
            return [record.body for record in self._journal.read(lane, first, last, max_bytes)]
        except JournalCorrupt as error:
            self._complain("journal.damaged", {"why": str(error)})
            return ()

    def _readable(self, fd: int) -> None:
        if fd == self._writer.fileno():
            self._synced()
        elif not os.read(fd, 4096):
            self.stop()

    def _synced(self) -> None:
        self._durable = self._writer.take_durable() - self._base
        self._release()
        self._tell_durable()

    def _release(self) -> None:
        """Let go of what is durable by now."""
        waiting, self._held = self._held, deque()
        for effect in waiting:
            if effect.after <= self._durable:
                self._let_go(effect)
            else:
                self._held.append(effect)

    def _tell_durable(self) -> None:
        """Tell the core how far the disk has it. What it writes thereupon waits for the end of the turn: others get theirs first."""
        if self._unborn:  # only now: a crash before the first sync leaves a node that still has nothing to lose
            folders.born(self._folder.path)
            self._unborn = False
        self._perform(self.core.push(self._durable))
        self._perform(self.core.step(Durable(self._durable), self._now_us()))
        self.core.fold()  # after the acknowledgements: they need the disk, not the figures

    def _journal_failed(self, error: Exception) -> None:
        self._say("journal.failed", {"why": str(error)})
        os._exit(FAILED)

    # -- clients --------------------------------------------------------------------------------------------

    def _client(self, incoming: Incoming) -> None:
        frame = api.decode_frame(incoming.frame)
        if frame is None:
            self._complain("client.malformed", {"client": incoming.name, "bytes": len(incoming.frame)})
            return
        request = (incoming.identity, frame.number)
        try:
            local = self._serve_locally(frame.body)
        except (LedgerError, OSError) as error:
            refusal = error if isinstance(error, LedgerError) else BadInput(what="backup", where="node", why=str(error))
            self._let_go(Reply(request, api.encode_error(refusal)))
            return
        if local is not None:
            self._let_go(Reply(request, api.encode_answer(local)))
        else:
            self._do(self.core.step(ClientRequest(request, frame.body), self._now_us()))

    def _serve_locally(self, body: bytes | memoryview) -> Any:
        """What concerns the process and not the ledger: links in drills, backups. None for everything else."""
        request = api.decode_local(body)
        if isinstance(request, api.Links):
            names = [self._folder.genesis.member(name).name for name in request.block]
            self._transport.block(names)
            self._blocked = names
            return {"blocked": names}
        if isinstance(request, api.Checkpoints):
            return api.pack_checkpoints(self._archive(request.first, api.MAX_CHECKPOINTS))
        if isinstance(request, api.Backup):
            target = Path(request.path)
            if not target.is_absolute():
                raise BadInput(what=request.path, where="backup", why="an absolute path on the node's machine")
            report = backup(self._folder.journal, target)
            return {"path": request.path, "records": report.records, "position": report.position}
        return None

    # -- words ----------------------------------------------------------------------------------------------

    def _complain(self, topic: str, fields: dict[str, Any]) -> None:
        """Say it, but not more often than a log can bear: the next line tells how many were left out."""
        meter = self._complaints.setdefault(topic, TokenBucket(COMPLAINTS_PER_S, COMPLAINTS_BURST))
        if meter.take(1, self._now_us()):
            self._say(topic, {**fields, "unsaid": self._unsaid.pop(topic, 0)})
        else:
            self._unsaid[topic] = self._unsaid.get(topic, 0) + 1

    def _say(self, topic: str, fields: dict[str, Any]) -> None:
        line = {"at_us": time.time_ns() // 1000, "node": self._folder.name, "topic": topic, **fields}
        print(json.dumps(line, default=str), file=self._log, flush=True)
