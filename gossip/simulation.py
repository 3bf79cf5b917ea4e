"""A network of nodes in one process and in virtual time, in which everything goes wrong on purpose, the
same way twice.

It drives *cores*: anything with ``start(now_us) -> list[Effect]`` and ``step(event, now_us) ->
list[Effect]`` that speaks the events and effects of ``gossip.effects``. It does for them what a runtime
does: delivers frames, fires timers, writes and syncs records, holds back every ``Send`` and ``Reply`` until
what it depends on is durable. And it takes away what a power cut takes: a crashed node loses its memory,
its timers, its held frames and its unsynced writes; ``restart`` builds a new core from the surviving records.

Rules.

* Same names, faults, seed, factory and calls: same run, byte for byte (``trace.digest()``).
* Positions belong to one incarnation: a core numbers its ``Persist`` effects from 1 after every restart,
  and what it read back at its start needs no waiting (``after=0``).
* What a core asks for that is not of ``gossip.effects`` is its owner's: it goes to ``on_effect``, once the position that it
  names in ``after``, if it has one, is durable.
* A core hears ``Connected`` and ``Disconnected`` ``Faults.detect_us`` after the fact, and not at all of
  what was over sooner; a peer that crashed and came back is always a new link. What was sent by its life
  before may still arrive, until its new link is up; never after.
* A node's clock may be skewed, and never goes back (``gossip.machine``).

After Will Wilson, "Testing distributed systems with deterministic simulation" (Strange Loop 2014), and the
way TigerBeetle's simulator puts all faults into one options struct.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from random import Random
from typing import Any, Generic

import msgspec

from gossip.disk import Disk
from gossip.effects import (
    Connected,
    Disconnected,
    Durable,
    Notify,
    Persist,
    Received,
    Reply,
    Send,
    StartTimer,
    TimerFired,
)
from gossip.machine import C, Factory, Machine
from gossip.network import Faults, Network
from gossip.trace import Trace


class Answer(msgspec.Struct, frozen=True):
    """A ``Reply`` that left ``node`` at ``at_us``."""

    at_us: int
    node: str
    request: Any
    body: bytes


class Notification(msgspec.Struct, frozen=True):
    """A ``Notify`` of ``node`` at ``at_us``."""

    at_us: int
    node: str
    topic: str
    fields: Mapping[str, Any]


class Simulation(Generic[C]):
    """Nodes called ``names``, made by ``factory``, all started at virtual time 0. ``links``: who may be linked to whom, both ways
    (``gossip.overlay``); without it everybody is to everybody, which costs n * n: too much for thousands."""

    def __init__(
        self,
        names: Sequence[str],
        factory: Factory[C],
        faults: Faults,
        seed: int,
        links: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        self.now_us = 0
        self.seed = seed
        self.trace = Trace(faults.trace_lines)
        self.replies: dict[Any, bytes] = {}
        self.answers: list[Answer] = []
        self.notifications: list[Notification] = []
        self.on_step: Callable[[Simulation[C], str], None] | None = None
        self.on_effect: Callable[[str, Any], None] | None = None
        self.on_durable: Callable[[str, Sequence[bytes]], None] | None = None
        """Called with a node's name and the records that have just become durable on its disk."""
        self.frames_sent = self.frames_delivered = 0
        self._factory = factory
        self._faults = faults
        self.network = Network(names, faults, Random(seed))
        self._nodes: dict[str, Machine[C]] = {name: Machine(name) for name in names}
        self._links = links
        self._checked_us = -1  # when links will be compared with the facts next
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._number = 0
        self._requests = 0
        for name in names:
            self.restart(name)

    # Time -----------------------------------------------------------------------------------------------

    def step(self) -> bool:
        """Let the next thing happen. False when nothing is left to happen."""
        if not self._queue:
            return False
        self.now_us, _, action = heapq.heappop(self._queue)
        action()
        return True

    def run_for(self, us: int) -> None:
        """Let everything happen that is due within ``us`` microseconds of virtual time."""
        end_us = self.now_us + us
        while self._queue and self._queue[0][0] <= end_us:
            self.step()
        self.now_us = end_us

    def run_until(self, predicate: Callable[[], bool], limit_us: int) -> bool:
        """Run until ``predicate`` holds, at most for ``limit_us``; whether it does."""
        end_us = self.now_us + limit_us
        while not predicate():
            if not self._queue or self._queue[0][0] > end_us:
                self.now_us = end_us
                return False
            self.step()
        return True

    # Clients --------------------------------------------------------------------------------------------

    def submit(self, node: str, event: Any) -> Any:
        """Hand a client's ``event`` to ``node``, now. Returns the handle under which ``replies`` will have
        the answer.

        The handle is the event's ``request`` if it has one that is not None; otherwise a number, and the core
        must be able to do without. A node that is down loses the event: no answer ever comes.
        """
        self._requests += 1
        handle = getattr(event, "request", None)
        if handle is None:
            handle = self._requests
        target = self._nodes[node]
        self._at(self.now_us, lambda: self._deliver(target, event, "client", repr(handle)))
        return handle

    # What can be looked at ------------------------------------------------------------------------------

    def core(self, name: str) -> C:
        """The core of a node that is up."""
        core = self._nodes[name].core
        if core is None:
            raise LookupError(f"{name} is down")
        return core

    def up(self) -> list[str]:
        """The nodes that are up."""
        return [name for name, node in self._nodes.items() if node.core is not None]

    def durable_records(self, name: str, since: int = 0) -> tuple[bytes, ...]:
        """What ``name`` would find after a crash now, from record number ``since`` (from 0) on."""
        return self._nodes[name].disk.read(since)

    # What can go wrong ----------------------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """Power off: memory, timers, held frames and unsynced writes are gone (see ``Faults.torn``)."""
        node = self._nodes[name]
        if node.core is None:
            return
        surviving = self.network.surviving(node.disk.unsynced)
        self.trace.note(self.now_us, name, "crash", f"{node.disk.unsynced} unsynced, {surviving} survive")
        before = node.disk.size
        node.disk.crash(surviving)
        self._tell_durable(node, before)
        node.lose_memory()
        self._check_links()

    def in_next_sync(self, name: str, action: Callable[[], None] | None) -> None:
        """Let ``action`` happen (a crash, say) when ``name`` has written something next and a sync of it is under way: the moment in
        which most can be lost. Forgotten if it crashes before; None: nothing is to happen."""
        self._nodes[name].in_next_sync = action

    def restart(self, name: str) -> None:
        """Power on: a new core from the surviving records. Nothing happens to a node that is up."""
        node = self._nodes[name]
        if node.core is not None:
            return
        incarnation = node.begin()
        self.trace.note(self.now_us, name, "start", str(incarnation))
        node.core = self._factory(name, node.disk.records, incarnation)
        self._at(self.now_us, lambda: self._start(node, incarnation))
        self._check_links()

    def forget(self, name: str, keep: Callable[[bytes], bool]) -> None:
        """Let the disk of ``name`` lose the durable records that ``keep`` does not want."""
        self._nodes[name].disk.forget(keep)

    def replace_disk(self, name: str, records: Sequence[bytes]) -> None:
        """Give a node that is down another disk: an old backup, or nothing at all."""
        node = self._nodes[name]
        if node.core is not None:
            raise ValueError(f"{name} is up: a disk is only replaced under a node that is down")
        self.trace.note(self.now_us, name, "disk", f"{len(records)} records", b"".join(records))
        node.disk = Disk(records)

    def partition(self, groups: Iterable[Collection[str]]) -> None:
        """Only members of one group reach each other; who is in none is alone."""
        split = [list(group) for group in groups]
        self.network.partition(split)
        self._note_topology("partition", " | ".join(",".join(group) for group in split))

    def isolate(self, name: str) -> None:
        """Cut ``name`` off from all others, which keep each other."""
        self.network.partition([[other for other in self._nodes if other != name]])
        self._note_topology("isolate", name)

    def cut(self, source: str, target: str) -> None:
        """Silently lose frames from ``source`` to ``target``, one way."""
        self.network.cut(source, target)
        self._note_topology("cut", f"{source} to {target}")

    def clog(self, source: str, target: str, for_us: int, extra_us: int) -> None:
        """Delay what is sent from ``source`` to ``target`` within ``for_us`` by ``extra_us``."""
        self.network.clog(source, target, self.now_us + for_us, extra_us)
        self._note_topology("clog", f"{source} to {target}")

    def heal(self) -> None:
        """Undo partitions, cuts and clogging."""
        self.network.heal()
        self._note_topology("heal")

    def skew(self, name: str, offset_us: int) -> None:
        """Let the clock of ``name`` be ``offset_us`` ahead of the others' (behind, if negative)."""
        self._nodes[name].skew_us = offset_us
        self.trace.note(self.now_us, name, "skew", str(offset_us))

    # How ------------------------------------------------------------------------------------------------

    def _at(self, due_us: int, action: Callable[[], None]) -> None:
        self._number += 1  # breaks ties: what was scheduled first happens first
        heapq.heappush(self._queue, (due_us, self._number, action))

    def _start(self, node: Machine[C], incarnation: int) -> None:
        if node.core is not None and node.incarnation == incarnation:
            self._perform(node, node.core.start(node.clock(self.now_us)))

    def _deliver(self, node: Machine[C], event: Any, what: str, detail: str, payload: bytes = b"") -> None:
        if node.core is None:
            return
        self.trace.note(self.now_us, node.name, what, detail, payload)
        self._perform(node, node.core.step(event, node.clock(self.now_us)))

    def _perform(self, node: Machine[C], effects: Sequence[Any]) -> None:
        for effect in effects:
            if isinstance(effect, Persist):
                self._persist(node, effect)
            elif isinstance(effect, StartTimer):
                self._start_timer(node, effect)
            elif isinstance(effect, Notify):
                self.trace.note(self.now_us, node.name, "notify", effect.topic)
                self.notifications.append(Notification(self.now_us, node.name, effect.topic, effect.fields))
            elif getattr(effect, "after", 0) > node.durable:
                node.held.append(effect)
            else:
                self._release(node, effect)
        if self.on_step is not None:
            self.on_step(self, node.name)

    def _release(self, node: Machine[C], effect: Any) -> None:
        if isinstance(effect, Reply):
            self.trace.note(self.now_us, node.name, "reply", repr(effect.request), effect.body)
            self.replies[effect.request] = effect.body
            self.answers.append(Answer(self.now_us, node.name, effect.request, effect.body))
            return
        if not isinstance(effect, Send):
            if self.on_effect is None:
                raise TypeError(f"{node.name} asked for {effect!r}, which is no effect")
            self.on_effect(node.name, effect)
            return
        self.frames_sent += 1
        number = self.frames_sent
        self.trace.note(self.now_us, node.name, "send", f"{number} {effect.peer}", effect.frame)
        target = self._nodes.get(effect.peer)
        # A frame goes into a connection, and a connection is to one incarnation of the peer.
        incarnation = node.links.get(effect.peer)
        due = self.network.fate(node.name, effect.peer, self.now_us) if target and incarnation is not None else []
        if not due:
            self.trace.note(self.now_us, node.name, "lose", f"{number} {effect.peer}")
        ends = (node.incarnation, incarnation)
        for due_us in due:
            self._at(due_us, lambda: self._arrive(node.name, target, ends, number, effect.frame))

    def _arrive(self, source: str, target: Any, ends: tuple[int, Any], number: int, frame: bytes) -> None:
        # A target that has a newer connection by now has given up the one that this frame was on.
        stands = target.links.get(source, ends[0]) <= ends[0] and target.incarnation == ends[1]
        if stands and target.core is not None and self.network.carries(source, target.name):
            self.frames_delivered += 1
            self._deliver(target, Received(source, frame), "receive", f"{number} {source}", frame)
        else:
            self.trace.note(self.now_us, target.name, "lose", f"{number} {source}")

    def _persist(self, node: Machine[C], persist: Persist) -> None:
        if persist.position <= node.position:
            raise ValueError(f"{node.name}: position {persist.position} after {node.position} does not rise")
        node.position = persist.position
        self.trace.note(self.now_us, node.name, "persist", str(persist.position), b"".join(persist.records))
        node.disk.write(persist)
        self._sync(node)
        action, node.in_next_sync = node.in_next_sync, None
        if action is not None:
            self._at(self.now_us + self._faults.sync_us // 4, action)  # no sync is as quick

    def _sync(self, node: Machine[C]) -> None:
        if node.disk.begin_sync():
            incarnation = node.incarnation
            self._at(self.now_us + self.network.sync_us(), lambda: self._synced(node, incarnation))

    def _synced(self, node: Machine[C], incarnation: int) -> None:
        if node.core is None or node.incarnation != incarnation:
            return
        before = node.disk.size
        node.durable = node.disk.end_sync()
        self._tell_durable(node, before)
        self._sync(node)
        held, node.held = node.held, []
        for effect in held:
            if effect.after > node.durable:
                node.held.append(effect)
            else:
                self._release(node, effect)
        self._deliver(node, Durable(node.durable), "durable", str(node.durable))

    def _tell_durable(self, node: Machine[C], before: int) -> None:
        if self.on_durable is not None and node.disk.size > before:
            self.on_durable(node.name, node.disk.read(before))

    def _start_timer(self, node: Machine[C], timer: StartTimer) -> None:
        incarnation, number = node.incarnation, self._number + 1
        node.timers[timer.key] = number

        def fire() -> None:
            if node.incarnation == incarnation and node.timers.get(timer.key) == number:
                del node.timers[timer.key]
                self._deliver(node, TimerFired(timer.key), "timer", timer.key)

        self._at(self.now_us + timer.delay_us, fire)

    def _note_topology(self, what: str, detail: str = "") -> None:
        self.trace.note(self.now_us, "", what, detail)
        self._check_links()

    def _check_links(self) -> None:
        """Something changed: after the time it takes to notice, every node compares its links with the
        facts. What changes at one moment is noticed at one.
        """
        due_us = self.now_us + self._faults.detect_us
        if due_us > self._checked_us:
            self._checked_us = due_us
            self._at(due_us, self._compare_links)

    def _compare_links(self) -> None:
        self._checked_us = -1
        for name, node in self._nodes.items():
            for other in self._nodes if self._links is None else self._links[name]:
                if other != name and node.core is not None:
                    self._compare_link(node, self._nodes[other])

    def _compare_link(self, node: Machine[C], peer: Machine[C]) -> None:
        whole = peer.core is not None and self.network.linked(node.name, peer.name)
        believed = node.links.get(peer.name)
        if believed is not None and (not whole or believed != peer.incarnation):
            del node.links[peer.name]
            self._deliver(node, Disconnected(peer.name), "disconnected", peer.name)
            believed = None
        if whole and believed is None and node.core is not None:
            node.links[peer.name] = peer.incarnation
            self._deliver(node, Connected(peer.name), "connected", peer.name)
