"""Writes the history of the clients of a simulated cluster, in virtual time.

    cluster = Cluster(seed=7)
    clients = ClusterRecorder(cluster)
    clients.begin("c1", "n0", "add", 7, api.Record([fill(7)]))
    clients.run_for(2_000_000)
    clients.look("c1", "n1", "read", trades_seen)
    assert check_set(clients.history())

A client does one thing after the other. What a node refuses failed for certain; what it does not answer within ``patience_us``, because it
crashed or was never up, is indeterminate, and the client goes on as another process (``c1``, ``c1.2``, ``c1.3``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.simulate.cluster import Cluster
from crdtledger.errors import LedgerError
from crdtledger.testing.history import History, Recorder

PATIENCE_US = 5_000_000


class ClusterRecorder:
    """The clients of ``cluster``. Let time pass by ``run_for`` here, and not by the simulation's own: answers are noted when they come."""

    def __init__(self, cluster: Cluster, patience_us: int = PATIENCE_US) -> None:
        self._sim = cluster.sim
        self._cluster = cluster
        self._patience_us = patience_us
        self._recorder = Recorder(clock=lambda: self._sim.now_us)
        self._lives: dict[str, int] = {}
        self._waiting: dict[str, tuple[int, int, Callable[[Any], Any] | None]] = {}  # client -> since, handle, answer
        self._heard = 0

    def idle(self, client: str) -> bool:
        """Whether the client waits for nothing."""
        return client not in self._waiting

    def begin(
        self,
        client: str,
        node: str,
        f: str,
        value: Any,
        request: api.Request,
        answer: Callable[[Any], Any] | None = None,
    ) -> None:
        """Ask ``node``, and do not wait. ``answer`` makes the operation's value of what the node answers; without it the value stands.
        Raises BadInput if the client waits already."""
        self._recorder.invoke(self._process(client), f, value)
        handle = self._cluster.submit(node, request)
        self._waiting[client] = (self._sim.now_us, handle, answer)

    def look(self, client: str, node: str, f: str, seen: Callable[[NodeCore], Any]) -> None:
        """Read what a node holds, at once, as somebody who stands beside it: ``seen`` of its core. It fails if the node is down."""
        process = self._process(client)
        self._recorder.invoke(process, f)
        if node in self._sim.up():
            self._recorder.ok(process, seen(self._cluster.core(node)))
        else:
            self._recorder.fail(process, f"{node} is down")

    def run_for(self, us: int) -> None:
        """Let virtual time pass. Answers are noted; who has waited too long gives up at the end."""
        end_us = self._sim.now_us + us
        while self._sim.run_until(self._news, end_us - self._sim.now_us):
            self._listen()
        for client, (since_us, _, _) in list(self._waiting.items()):
            if self._sim.now_us - since_us >= self._patience_us:
                self._give_up(client)

    def history(self) -> History:
        """What was done so far; who still waits is indeterminate."""
        return self._recorder.history()

    def _process(self, client: str) -> str:
        life = self._lives.setdefault(client, 1)
        return client if life == 1 else f"{client}.{life}"

    def _news(self) -> bool:
        return len(self._sim.answers) > self._heard

    def _listen(self) -> None:
        heard, self._heard = self._sim.answers[self._heard :], len(self._sim.answers)
        bodies = {answer.request: answer.body for answer in heard}
        for client, (_, handle, answer) in list(self._waiting.items()):
            if handle not in bodies:
                continue
            del self._waiting[client]
            try:
                value = api.decode_answer(bodies[handle])
            except LedgerError as error:
                self._recorder.fail(self._process(client), str(error))
            else:
                self._recorder.ok(self._process(client), answer(value) if answer else None)

    def _give_up(self, client: str) -> None:
        del self._waiting[client]
        self._recorder.info(self._process(client), "no answer")
        self._lives[client] += 1
