"""The stage: real node processes on loopback ports, a client for each, and the switches of the drills. Impure.

A node may be killed and started again while others wait for its answers: ``ask`` repeats a request until a living node
has answered it, which is safe, because every fact is idempotent by its id. Nothing outlives ``close``, whichever way the
demo ends. A node that ends on its own is an error that names its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import zmq

from crdtledger.edge import api, folders, process
from crdtledger.edge.client import AsyncClient
from crdtledger.edge.demo.script import ASSET_DECIMALS
from crdtledger.errors import OperatorError, Unreachable
from crdtledger.ledger.genesis import Asset, Policies

CHECKPOINT_INTERVAL_MS = 1_000
PATIENCE_S = 15.0
START_S = 30.0


class NodeLost(OperatorError):
    """A node ended that nobody had killed, or does not answer. ``log`` says where it may have said why."""

    code = "node_lost"

    def __init__(self, *, node: str, why: str, log: str) -> None:
        super().__init__(node=node, why=why, log=log)

    def describe(self) -> str:
        return f"{self.attributes['node']}: {self.attributes['why']}; see {self.attributes['log']}"


class Seat:
    """One node: its folder, its process and a client, as long as it is up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.process: subprocess.Popen[str] | None = None
        self.client: AsyncClient | None = None
        self.up = asyncio.Event()
        self.blocked: tuple[str, ...] = ()

    def lost(self, why: str) -> NodeLost:
        """The error that names this node's log."""
        return NodeLost(node=self.name, why=why, log=str(self.folder / folders.LOG))

    async def ask(self, request: api.Request, timeout_s: float = PATIENCE_S) -> Any:
        """The node's answer. Raises what the node refuses with. Survives a kill in between: the request is repeated."""
        misses = 0
        while True:
            await self.up.wait()
            client = self.client
            assert client is not None
            try:
                return await client.request(request, timeout_s)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if client is self.client or (task is not None and task.cancelling()):
                    raise
            except zmq.ZMQError:
                if client is self.client:
                    raise
            except Unreachable:
                misses += client is self.client
                if self.process is not None and (code := self.process.poll()) is not None and self.up.is_set():
                    raise self.lost(f"ended with {code}") from None
                if misses > 1:
                    raise self.lost(f"no answer within {timeout_s:g} s, twice") from None

    async def query(self, view: api.QueryName) -> Any:
        """Read a view."""
        return await self.ask(api.Query(view))

    async def record(self, facts: Sequence[dict[str, Any]]) -> dict[str, int]:
        """Record facts."""
        answer: dict[str, int] = await self.ask(api.Record(list(facts)))
        return answer


class Stage:
    """A cluster in ``directory``, with nothing running yet; ``coins``: assets besides the usual ones. As an async context
    manager it hangs up its clients at the end; ``close`` ends the processes, and belongs in a ``finally``."""

    def __init__(self, directory: Path, nodes: int, coins: Collection[str] = ()) -> None:
        known = {asset.name for asset in folders.DEFAULT_ASSETS}
        assets = [*folders.DEFAULT_ASSETS, *(Asset(coin, ASSET_DECIMALS) for coin in sorted(set(coins) - known))]
        addresses = free_addresses(nodes)
        policies = Policies(agreement="tendermint", checkpoint_interval_ms=CHECKPOINT_INTERVAL_MS)
        folders.found(directory, addresses, cluster="demo", assets=assets, policies=policies)
        self.seats = {path.name: Seat(path) for path in folders.node_folders(directory)}
        self.names = list(self.seats)
        self.kills = 0
        self._lock = threading.Lock()
        self._processes: list[subprocess.Popen[str]] = []
        self._closed = False

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        for seat in self.seats.values():
            await self._hang_up(seat)

    async def start(self, names: Collection[str]) -> None:
        """Start these nodes, all at once, and connect to them."""
        await asyncio.gather(*(self._start(self.seats[name]) for name in names))

    async def _start(self, seat: Seat) -> None:
        spawning = asyncio.create_task(asyncio.to_thread(self._spawn, seat.folder))
        done, _ = await asyncio.wait({spawning}, timeout=START_S)
        if not done:
            process.kill(seat.folder)  # or the thread that waits for its word would keep this program from ending
            raise seat.lost(f"did not start within {START_S:g} s")
        seat.process = spawning.result()
        seat.client = AsyncClient(seat.folder)
        if seat.blocked:
            await seat.client.request(api.Links(list(seat.blocked)), PATIENCE_S)
        seat.up.set()

    def _spawn(self, folder: Path) -> subprocess.Popen[str]:
        """In a thread. A demo that ended meanwhile leaves no process behind."""
        spawned = process.spawn(folder)
        with self._lock:
            self._processes.append(spawned)
            closed = self._closed
        if closed:
            process.stop(spawned, signal.SIGKILL)
        return spawned

    async def kill(self, name: str) -> None:
        """SIGKILL, in the middle of whatever the node is doing."""
        seat = self.seats[name]
        assert seat.process is not None
        seat.up.clear()
        seat.process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.stop, seat.process, signal.SIGKILL)
        await self._hang_up(seat)
        self.kills += 1

    async def _hang_up(self, seat: Seat) -> None:
        client, seat.client = seat.client, None
        if client is not None:
            await client.close()

    async def cut(self, left: Sequence[str], right: Sequence[str]) -> None:
        """Drop everything between the two sides, at both ends."""
        for side, others in ((left, right), (right, left)):
            for name in side:
                self.seats[name].blocked = tuple(others)
        await self._switch()

    async def heal(self) -> None:
        """Let everything through again."""
        for seat in self.seats.values():
            seat.blocked = ()
        await self._switch()

    async def _switch(self) -> None:
        await asyncio.gather(*(seat.ask(api.Links(list(seat.blocked))) for seat in self.seats.values()))

    async def agreement(self, patience_s: float) -> float:
        """Wait until all durable frontiers are equal; the seconds it took, or -1 when patience ran out."""
        began = time.monotonic()
        seen = dict.fromkeys(self.names, b"")
        changed = asyncio.Event()

        async def follow(name: str) -> None:
            while True:
                seen[name] = await self.seats[name].ask(api.Watch(seen[name], 2_000))
                changed.set()

        followers = [asyncio.create_task(follow(name)) for name in self.names]
        try:
            async with asyncio.timeout(patience_s):
                while len(set(seen.values())) != 1 or b"" in seen.values():
                    changed.clear()
                    await _any(changed, followers)
        except TimeoutError:
            return -1.0
        finally:
            for follower in followers:
                follower.cancel()
            await asyncio.gather(*followers, return_exceptions=True)
        return time.monotonic() - began

    def close(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End every process of the demo: at once, or with SIGTERM in good order. No node is started any more."""
        with self._lock:
            self._closed = True
            mine = list(self._processes)
        for one in mine:
            if one.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    one.send_signal(how)
        for one in mine:
            process.stop(one, how)


async def _any(changed: asyncio.Event, followers: Sequence[asyncio.Task[None]]) -> None:
    """Wait for a change; a follower that failed raises here."""
    waiting = asyncio.ensure_future(changed.wait())
    try:
        done, _ = await asyncio.wait({waiting, *followers}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task is not waiting:
                task.result()
    finally:
        waiting.cancel()


def free_addresses(count: int) -> list[str]:
    """Loopback addresses with ports that nobody has now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    finally:
        for one in sockets:
            one.close()
