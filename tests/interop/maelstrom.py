"""A small workbench that speaks Maelstrom's protocol: real node processes, a network of ours between them, clients that are recorded.

    with Workbench("g-set", nodes=3, seed=1) as bench:
        bench.drive(200, partitions=[[["n1"], ["n2", "n3"]]])
        history = bench.finish()

Nodes reach each other only through here: every message between two of them takes a drawn latency, may be lost, and vanishes where a
partition stands. Messages of clients arrive. Nothing sleeps: time passes by waiting for the next line or the next message that is due.
"""

from __future__ import annotations

import functools
import heapq
import json
import os
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from crdtledger.testing.history import History, Recorder
from tests.edge.processes import CLI

PATIENCE_S = 30.0
CLIENTS = 5
CONTROL = "c0"
ADDS = {"broadcast": ("broadcast", "message"), "g-set": ("add", "element"), "pn-counter": ("add", "delta")}
"""What adds a value, and the field that holds it."""

Groups = Sequence[Sequence[str]]


class Workbench:
    """``nodes`` processes that serve ``workload``. ``loss``: the chance that a message between nodes is lost."""

    def __init__(self, workload: str, nodes: int, seed: int, latency_ms: float = 4.0, loss: float = 0.05) -> None:
        self.names = [f"n{number}" for number in range(1, nodes + 1)]
        self.workload = workload
        self.lost = self.delivered = 0
        self.complaints = ""
        """What the nodes wrote to standard error, once they have ended; ``codes``: what they ended with."""
        self.codes: list[int] = []
        self._draw = Random(seed)
        self._latency_s, self._loss = latency_ms / 1_000, loss
        self._group: dict[str, int] = dict.fromkeys(self.names, 0)
        self._flying: list[tuple[float, int, str, str, bytes]] = []
        self._number = 0
        self._waiting: dict[tuple[str, int], Callable[[Any], None]] = {}
        self._rest = dict.fromkeys(self.names, b"")
        self._recorder = Recorder(clock=lambda: time.monotonic_ns() // 1_000)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Workbench:
        self._log = tempfile.TemporaryFile()
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log}
        for name in self.names:
            self._processes[name] = subprocess.Popen([*CLI, "maelstrom", self.workload], **pipes)
            self._selector.register(self._out(name), selectors.EVENT_READ, name)
        inits = [self.ask(CONTROL, name, "init", node_id=name, node_ids=self.names) for name in self.names]
        assert self.wait(lambda: all(inits)), "init was not answered"
        if self.workload == "broadcast":
            near = {name: [other for other in self.names if other != name] for name in self.names}
            topologies = [self.ask(CONTROL, name, "topology", topology=near) for name in self.names]
            assert self.wait(lambda: all(topologies)), "topology was not answered"
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for process in self._processes.values():
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes.values():
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
            assert process.stdout is not None
            process.stdout.close()
            self.codes.append(process.wait())
        self._log.seek(0)
        self.complaints = self._log.read().decode()
        self._log.close()

    # -- clients --------------------------------------------------------------------------------------------

    def ask(
        self, client: str, node: str, kind: str, then: Callable[[Any], None] | None = None, **fields: Any
    ) -> list[Any]:
        """Send a request; the list that is returned will hold the answer's body."""
        self._number += 1
        got: list[Any] = []

        def answered(body: Any) -> None:
            got.append(body)
            if then:
                then(body)

        self._waiting[client, self._number] = answered
        body = {"type": kind, "msg_id": self._number, **fields}
        self._write(node, json.dumps({"src": client, "dest": node, "body": body}).encode() + b"\n")
        return got

    def drive(self, operations: int, partitions: Sequence[Groups] = ()) -> None:
        """Have clients do so much, each one thing after the other, at random nodes. The partitions take turns, one after the other, over
        the middle of it."""
        at = {operations * (1 + turn) // (2 + len(partitions)): groups for turn, groups in enumerate(partitions)}
        at[operations * (1 + len(partitions)) // (2 + len(partitions))] = [self.names]
        begun = 0
        idle = [f"c{number}" for number in range(1, CLIENTS + 1)]

        def ready() -> bool:
            return bool(idle)

        while begun < operations:
            assert self.wait(ready), "clients are not answered"
            if begun in at:
                self.partition(at.pop(begun))
            self._begin(idle.pop(0), begun, idle.append)
            begun += 1
        assert self.wait(lambda: len(idle) == CLIENTS), "clients are not answered"

    def _begin(self, client: str, number: int, done: Callable[[str], None]) -> None:
        node, draw = self._draw.choice(self.names), self._draw

        def answered(body: Any) -> None:
            self._note(client, body)
            done(client)

        if draw.random() < 0.2:
            self._recorder.invoke(client, "read")
            self.ask(client, node, "read", answered)
            return
        kind, field = ADDS[self.workload]
        value = draw.randrange(-9, 10) if field == "delta" else number
        self._recorder.invoke(client, "add", value)
        self.ask(client, node, kind, answered, **{field: value})

    def _note(self, client: str, body: Any) -> None:
        if body["type"] == "error":
            self._recorder.fail(client, body["text"])
        else:
            self._recorder.ok(client, self.shown(body))

    @staticmethod
    def shown(body: Any) -> Any:
        """What an answered read shows; None of other answers."""
        return body.get("value", body.get("messages"))

    def finish(self) -> History:
        """Heal the network, let the nodes come to rest, and read at each of them. At rest is: all show the same."""
        self.partition([self.names])
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s and not self._agree():
            self._another_delivery()
        for name in self.names:
            reader = f"last {name}"
            self._recorder.invoke(reader, "final")
            self.ask(reader, name, "read", functools.partial(self._note, reader))
        assert self.wait(lambda: not self._recorder.open()), "the last reads were not answered"
        return self._recorder.history()

    def _another_delivery(self) -> None:
        seen = self.delivered
        self.wait(lambda: self.delivered > seen)

    def _agree(self) -> bool:
        answers = [self.ask(CONTROL, name, "read") for name in self.names]
        assert self.wait(lambda: all(answers)), "reads are not answered"
        shown = [self.shown(got[0]) for got in answers]
        return all(one == shown[0] for one in shown)

    # -- the network ----------------------------------------------------------------------------------------

    def partition(self, groups: Groups) -> None:
        """Only members of one group reach each other from now on."""
        self._group = {name: at for at, group in enumerate(groups) for name in group}

    def wait(self, holds: Callable[[], bool]) -> bool:
        """Carry messages until something holds; whether it does in time."""
        end_s = time.monotonic() + PATIENCE_S
        while not holds():
            now_s = time.monotonic()
            if now_s > end_s:
                return False
            due_s = self._flying[0][0] if self._flying else end_s
            for key, _ in self._selector.select(max(0.0, min(due_s, end_s) - now_s)):
                self._read(key.data)
            self._deliver()
        return True

    def _out(self, name: str) -> int:
        stdout = self._processes[name].stdout
        assert stdout is not None
        return stdout.fileno()

    def _write(self, name: str, line: bytes) -> None:
        stdin = self._processes[name].stdin
        assert stdin is not None
        stdin.write(line)
        stdin.flush()

    def _read(self, name: str) -> None:
        read = os.read(self._out(name), 65_536)
        assert read, f"{name} closed its standard output"
        *lines, self._rest[name] = (self._rest[name] + read).split(b"\n")
        for line in lines:
            message = json.loads(line)
            assert message["src"] == name
            self._route(name, message["dest"], line + b"\n", message["body"])

    def _route(self, source: str, target: str, line: bytes, body: Any) -> None:
        if target in self._processes:
            if self._draw.random() < self._loss:
                self.lost += 1
                return
            self._number += 1
            due_s = time.monotonic() + self._draw.expovariate(1 / self._latency_s)
            heapq.heappush(self._flying, (due_s, self._number, source, target, line))
        else:
            self._waiting.pop((target, body["in_reply_to"]))(body)

    def _deliver(self) -> None:
        while self._flying and self._flying[0][0] <= time.monotonic():
            _, _, source, target, line = heapq.heappop(self._flying)
            if self._group[source] == self._group[target]:
                self.delivered += 1
                self._write(target, line)
            else:
                self.lost += 1
