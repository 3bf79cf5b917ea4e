"""One node in a Maelstrom test, without input, output or a clock: lines and due timers in; lines, timers and complaints out.

Until ``init`` says who is in the cluster there is no ledger: everything else is answered *temporarily unavailable*. From then on a whole
node core lives here. Its client is Maelstrom's client, its peers are Maelstrom's nodes, and what it persists is durable at once: in memory.
Nothing that comes in raises: a request that does not fit is answered with an error, whatever cannot be answered is complained about.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import msgspec

from crdtledger.edge import api
from crdtledger.edge.core import NodeCore
from crdtledger.edge.effects import ClientRequest, Effect, Event
from crdtledger.edge.maelstrom import founding, workloads
from crdtledger.edge.maelstrom.messages import Code, Message, Refused, Request, decode, encode, request_of
from crdtledger.edge.maelstrom.workloads import Json, Workload
from crdtledger.edge.setup import Setup
from crdtledger.errors import BadInput, CallerError, LedgerError
from gossip.catchup import CatchupLimits
from gossip.config import Config
from gossip.effects import Connected, Durable, Persist, Received, Reply, Send, StartTimer, TimerFired

GOSSIP = "gossip"
HEADS_INTERVAL_US = 300_000
ASK_AGAIN_US = 250_000
"""Maelstrom's tests last seconds, and its partitions break no link that anybody would hear of: what was hindered is told, and asked
for, soon again."""


class Say(msgspec.Struct, frozen=True):
    """Write ``line`` to standard output."""

    line: bytes


class Complain(msgspec.Struct, frozen=True):
    """Write ``text`` to standard error."""

    text: str


Output: TypeAlias = Say | Complain | StartTimer


class MaelstromNode:
    """A node that serves ``workload``. ``draw(n)`` gives n random bytes."""

    def __init__(self, workload: Workload, draw: Callable[[int], bytes]) -> None:
        self._workload: Workload = workload
        self._draw = draw
        self._name = ""
        self._names: list[str] = []
        self._core: NodeCore | None = None

    def line(self, raw: bytes, now_us: int) -> list[Output]:
        """What to do about a line of standard input."""
        try:
            message = decode(raw)
        except BadInput as error:
            return [Complain(str(error))]
        if message.body.get("type") == GOSSIP:
            return list(self._gossip(message, now_us))
        try:
            return list(self._answer(request_of(message), now_us))
        except BadInput as error:
            return [Complain(str(error))]
        except Refused as refused:
            return [self._refusal(message, refused)]

    def timer(self, key: str, now_us: int) -> list[Output]:
        """What to do about a timer that is due."""
        return list(self._step(TimerFired(key), now_us))

    # -- requests -------------------------------------------------------------------------------------------

    def _answer(self, request: Request, now_us: int) -> Iterator[Output]:
        if request.type == "init":
            yield from self._init(request, now_us)
            yield self._reply(request, {})
        elif self._core is None:
            raise Refused(Code.TEMPORARILY_UNAVAILABLE, "this node has not been told by init who it is")
        elif request.type == "topology" and self._workload == "broadcast":
            yield self._reply(request, {})
        elif request.type == "read":
            yield self._reply(request, workloads.read(self._workload, self._core))
        else:
            record = workloads.recorded_by(self._workload, request)
            if record is None:
                raise Refused(Code.NOT_SUPPORTED, f"{request.type!r} is not of the workload {self._workload}")
            yield from self._step(ClientRequest(request, api.encode_request(record)), now_us)

    def _init(self, request: Request, now_us: int) -> Iterator[Output]:
        name, names = request.body.get("node_id"), request.body.get("node_ids")
        texts = isinstance(names, list) and all(isinstance(one, str) for one in names)
        if not isinstance(name, str) or not isinstance(names, list) or not texts or name not in names:
            raise Refused(Code.MALFORMED_REQUEST, "init needs node_ids, a list of names, and node_id, one of them")
        if self._core is not None:
            if (name, names) != (self._name, self._names):
                raise Refused(Code.PRECONDITION_FAILED, f"this node is {self._name} already")
            return
        try:
            genesis = founding.found(names)
        except LedgerError as error:
            raise Refused(Code.MALFORMED_REQUEST, str(error)) from None
        again = CatchupLimits(timeout_us=ASK_AGAIN_US)
        gossip = Config(genesis.hash, heads_interval_us=HEADS_INTERVAL_US, catchup=again)
        identity = founding.identity(name)
        setup = Setup(genesis, identity, name, self._draw, "fresh", gossip=gossip, documents=False)
        self._name, self._names, self._core = name, names, NodeCore(setup)
        yield from self._perform(self._core.start(now_us), now_us)
        yield from self._step(ClientRequest(None, api.encode_request(workloads.opening())), now_us)
        for peer in names:
            if peer != name:
                yield from self._step(Connected(peer), now_us)

    def _reply(self, request: Request, fields: Json) -> Say:
        body = {"type": f"{request.type}_ok", "in_reply_to": request.number, **fields}
        return Say(encode(self._name, request.src, body))

    def _refusal(self, message: Message, refused: Refused) -> Say:
        body = {"type": "error", "in_reply_to": message.body["msg_id"], "code": int(refused.code), "text": str(refused)}
        return Say(encode(self._name or message.dest, message.src, body))

    # -- the core -------------------------------------------------------------------------------------------

    def _gossip(self, message: Message, now_us: int) -> Iterator[Output]:
        """A peer's frame. What is lost before init, or otherwise, the engines tell each other again."""
        if self._core is None or message.src not in self._names or message.src == self._name:
            yield Complain(f"{message.src}: gossip from nobody that this node knows")
            return
        try:
            frame = base64.b64decode(message.body.get("frame", ""), validate=True)
        except (binascii.Error, ValueError, TypeError) as error:
            yield Complain(f"{message.src}: a frame that is not base64: {error}")
            return
        yield from self._step(Received(message.src, frame), now_us)

    def _step(self, event: Event, now_us: int) -> Iterator[Output]:
        if self._core is not None:
            yield from self._perform(self._core.step(event, now_us), now_us)

    def _perform(self, effects: Iterable[Effect], now_us: int) -> Iterator[Output]:
        """Carry out effects. A ``Persist`` comes before everything that waits for it, and is durable when it is done."""
        for effect in effects:
            if isinstance(effect, Persist):
                yield from self._step(Durable(effect.position), now_us)
            elif isinstance(effect, Send):
                frame = base64.b64encode(effect.frame).decode()
                yield Say(encode(self._name, effect.peer, {"type": GOSSIP, "frame": frame}))
            elif isinstance(effect, Reply):
                if effect.request is not None:
                    yield self._told(effect.request, effect.body)
            elif isinstance(effect, StartTimer):
                yield effect

    def _told(self, request: Request, body: Any) -> Say:
        """The core's answer as the client hears it."""
        message = Message(request.src, self._name, request.body)
        try:
            api.decode_answer(body)
        except CallerError as error:
            return self._refusal(message, Refused(Code.MALFORMED_REQUEST, str(error)))
        except LedgerError as error:
            return self._refusal(message, Refused(Code.CRASH, str(error)))
        return self._reply(request, {})
