"""Talking to a node: an async client, and a synchronous face of the same few methods.

Both are authenticated by CURVE keys from a node's or the cluster's folder (``folders.locate``). Requests may overlap;
answers are matched by number. A refusal by the node is raised as the very error that the node raised; silence is
``Unreachable``. Repeating a request after that is safe: facts are idempotent by their ids. Impure.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
import zmq.asyncio

from crdtledger.edge import api
from crdtledger.edge.folders import Endpoint, locate
from crdtledger.errors import Unreachable
from crdtledger.ledger.body import Cursor
from crdtledger.ledger.drafting import FillColumns

TIMEOUT_S = 10.0
MAX_RECORD_FACTS = 2_000


class _Session:
    """What both clients share: numbering requests, the words for silence."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._numbers = itertools.count(1)
        self._room = bytearray()

    def ask(self, request: api.Request) -> tuple[int, bytearray]:
        """The number of a request, and its frame, which stands until the next one is asked."""
        number = next(self._numbers)
        api.encode_asked(number, request, self._room)
        return number, self._room

    def silent(self, seconds: float) -> Unreachable:
        why = f"no answer from {self.endpoint.address} within {seconds:g} s; is the node running?"
        return Unreachable(target=self.endpoint.target, why=why)


def dial(socket: zmq.Socket[bytes] | zmq.asyncio.Socket, endpoint: Endpoint) -> None:
    """Give a DEALER its keys and connect it to the node."""
    socket.linger = 0
    socket.curve_publickey = endpoint.keys.public.encode()
    socket.curve_secretkey = endpoint.keys.secret.encode()
    socket.curve_serverkey = endpoint.server_key.encode()
    socket.setsockopt(zmq.IPV6, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 50)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
    socket.connect(endpoint.address)


class Client:
    """A node, synchronously. Use as a context manager.

        with Client("cluster/node-1") as node:
            node.record([{"kind": "account", "name": "A001"}])
            node.query("positions")

    ``target``: a node's folder or an address; ``cluster``: the folder that holds the keys for addresses.
    """

    def __init__(self, target: str | Path, cluster: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint = locate(str(target), cluster)
        self.timeout_s = timeout_s
        self._session = _Session(self.endpoint)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        dial(self._socket, self.endpoint)
        self._answers: dict[int, memoryview] = {}

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._context.destroy(linger=0)

    def send(self, request: api.Request) -> int:
        """Send without waiting; ``collect`` the number's answer later. Lets requests overlap."""
        number, frame = self._session.ask(request)
        self._socket.send(frame)
        return number

    def collect(self, number: int, timeout_s: float | None = None) -> Any:
        """The answer to ``send``. Raises what the node raised, or ``Unreachable``."""
        patience = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + patience
        while number not in self._answers:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0 or not self._socket.poll(left_ms):
                raise self._session.silent(patience)
            frame = api.decode_frame(self._socket.recv())
            if frame is not None:
                self._answers[frame.number] = frame.body
        return api.decode_answer(self._answers.pop(number))

    def request(self, request: api.Request, timeout_s: float | None = None) -> Any:
        """One request and its answer."""
        return self.collect(self.send(request), timeout_s)

    def query(self, view: api.QueryName, account: str = "", instrument: str = "") -> Any:
        """Read a view: rows of plain values, sorted."""
        return self.request(api.Query(view, account, instrument))

    def record(self, facts: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        """Record facts given as JSON objects, in one call. Returns ``facts``, ``duplicates``, ``batches``, ``seq``."""
        answer: dict[str, int] = self.request(api.Record([dict(fact) for fact in facts]))
        return answer

    def record_fills(self, fills: FillColumns, cursor: Cursor | None = None) -> dict[str, int]:
        """Record columns of fills."""
        answer: dict[str, int] = self.request(api.pack_fills(fills, cursor))
        return answer

    def watch(self, seen: bytes, timeout_s: float) -> bytes:
        """The durable frontier's digest, as soon as it is not ``seen`` any more or the time is up."""
        digest: bytes = self.request(api.Watch(seen, int(timeout_s * 1000)), timeout_s + self.timeout_s)
        return digest


class AsyncClient:
    """A node, asynchronously. Use as an async context manager; requests may be gathered."""

    def __init__(self, target: str | Path, cluster: Path | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.endpoint = locate(str(target), cluster)
        self.timeout_s = timeout_s
        self._session = _Session(self.endpoint)
        self._context = zmq.asyncio.Context()
        self._socket = self._context.socket(zmq.DEALER)
        dial(self._socket, self.endpoint)
        self._waiting: dict[int, asyncio.Future[memoryview]] = {}
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection. Requests still waiting raise ``Unreachable``."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Unreachable(target=self.endpoint.target, why="the client was closed"))
        self._socket.close(linger=0)
        self._context.term()

    async def _read(self) -> None:
        while True:
            frame = api.decode_frame(await self._socket.recv())
            waiting = self._waiting.get(frame.number) if frame else None
            if frame and waiting and not waiting.done():
                waiting.set_result(frame.body)

    async def request(self, request: api.Request, timeout_s: float | None = None) -> Any:
        """One request and its answer. Raises what the node raised, or ``Unreachable``."""
        if self._reader is None:
            self._reader = asyncio.create_task(self._read())
        number, asked = self._session.ask(request)
        frame = bytes(asked)  # it may have to wait, and others ask meanwhile
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        patience = self.timeout_s if timeout_s is None else timeout_s
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes together with the answer.
            async with asyncio.timeout(patience):
                await self._socket.send(frame)
                body = await waiting
            return api.decode_answer(body)
        except TimeoutError:
            raise self._session.silent(patience) from None
        finally:
            del self._waiting[number]

    async def record_fills(self, fills: FillColumns, cursor: Cursor | None = None) -> dict[str, int]:
        """Record columns of fills."""
        answer: dict[str, int] = await self.request(api.pack_fills(fills, cursor))
        return answer

    async def watch(self, seen: bytes, timeout_s: float) -> bytes:
        """The durable frontier's digest, as soon as it is not ``seen`` any more or the time is up."""
        digest: bytes = await self.request(api.Watch(seen, int(timeout_s * 1000)), timeout_s + self.timeout_s)
        return digest

    async def query(self, view: api.QueryName, account: str = "", instrument: str = "") -> Any:
        """Read a view."""
        return await self.request(api.Query(view, account, instrument))

    async def record(self, facts: Iterable[Mapping[str, Any]]) -> dict[str, int]:
        """Record facts given as JSON objects, in one call."""
        answer: dict[str, int] = await self.request(api.Record([dict(fact) for fact in facts]))
        return answer
