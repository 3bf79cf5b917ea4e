"""How long one fact takes: from a client's hand to the node's word that it is durable, and until it is to be seen at another node.

    python -m bench latency

Two node processes on loopback, as users run them. A client hands A single fills at random times (Poisson, seeded), at a fifth of the rate
that A can take them one by one, whether or not earlier ones are answered. A fill is acknowledged when A's answer is here: it is on A's
disk. It is durable at the peer when B tells a waiting client that what it holds for good includes it: it is on B's disk too, and two syncs
lie on its way. From then on B shows it to whoever asks: fills are recorded one by one, too, and B asked for the account's position as soon
as it has told that, which must be what was recorded by then; how long that answer takes is a row.

Beside it, at the same times on the same disk, what lies between that and one append and sync, rung by rung: services with no ledger in
them (``bareservice``) that sync, or commit to a journal, or hash and sign as well; two of them, of which the second keeps what the first
passes on, and nothing else, or checks it; and the same with a file in place of a journal. They too are
asked whether or not they have answered, and what is asked waits for its turn. One commit of a journal
alone, and one round trip over CURVE, are made one at a time.
"""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import zmq

from bench.bareservice import READABLE, Rung, acknowledged, commits, passed_on
from bench.join import NAMES
from bench.limits import curve_round_trips, syncs
from bench.measured import Goal, Plan, Result, Row, Wrong, row
from bench.nodes import Cluster, cluster, define, held, wait_for
from crdtledger.edge import api
from crdtledger.edge.client import Client, dial
from crdtledger.edge.folders import JOURNAL, locate
from crdtledger.ledger import journalfile
from crdtledger.ledger.frontier import LaneHead, frontier_digest
from crdtledger.ledger.journalrecord import KIND_BATCH

LOAD = 0.2
AT_ONCE = 64
PATIENCE_S = 60.0
WRITTEN = bytes(4096)
QTY = "0.5"
OTHERS = 1_000_000
"""More than fills that are handed over at random times."""
ACK, SEEN = "record -> durable ack", "record -> durable at the peer"
SHOWN = "... and its position, asked for then, is here"
BARE: dict[str, tuple[Rung, Rung | None]] = {
    "a service that syncs": ("sync", None),
    "a service that commits to a journal": ("journal", None),
    "a service that signs, commits": ("sign", None),
    "a service that signs, syncs a file": ("sign into a file", None),
    "two that sync": ("sync", "sync"),
    "two that sign, verify, commit": ("sign", "verify"),
    "two that sign, verify, sync a file": ("sign into a file", "verify into a file"),
}
"""The rungs of a service, and of the second one that it passes on to."""
COMMIT, SYNC, TRIP = "one commit of a journal", "one sync", "one CURVE round trip"
BATCH = msgspec.msgpack.encode(bytes(398))  # as long as one with one fill is


class Line:
    """A client's connection that tells when each answer came."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], target: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        dial(self.socket, locate(target))

    def ask(self, number: int, request: api.Request) -> None:
        """Send it under this number."""
        self.socket.send(api.encode_frame(api.Frame(number, api.encode_request(request))))

    def answers(self) -> list[tuple[float, int, Any]]:
        """What has come by now: (when, number, answer)."""
        found = []
        while int(self.socket.getsockopt(zmq.EVENTS)) & READABLE:
            raw, when = self.socket.recv(), time.perf_counter()
            frame = api.decode_frame(raw)
            assert frame is not None
            found.append((when, frame.number, api.decode_answer(frame.body)))
        return found


def fill(number: int) -> api.Record:
    """A request to record one fill; none is like another."""
    terms = {"venue": "V", "instrument": "I0", "trade_id": number, "side": "buy", "qty": QTY, "price": "100"}
    return api.Record([{"kind": "fill", "account": NAMES[number % len(NAMES)], **terms}])


class Measured:
    """A run: when each fill was handed over, acknowledged and visible, by its number; the clock is ``time.perf_counter``."""

    def __init__(self, it: Cluster) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._it = it
        self._a, self._b = (Line(self._context, str(path)) for path in it.paths)
        self._poller = zmq.Poller()
        for line in (self._a, self._b):
            self._poller.register(line.socket, zmq.POLLIN)
        self._next = 1
        self._sent: dict[int, float] = {}
        self._acked: dict[int, tuple[float, int]] = {}
        self._told: list[tuple[float, bytes]] = []
        self._watch(b"")

    def close(self) -> None:
        """Let go of the connections."""
        self._context.destroy(linger=0)

    def capacity(self, count: int) -> float:
        """Fills a second that A takes one by one, as many under way as it likes."""
        begun, first = time.perf_counter(), self._next
        while len(self._acked) < count:
            while len(self._sent) - len(self._acked) < AT_ONCE and self._next < first + count:
                self._send()
            self._hear(PATIENCE_S)
        return count / (time.perf_counter() - begun)

    def at(self, times: Sequence[float]) -> tuple[list[float], list[float]]:
        """Hand over a fill at each of these times; the seconds until each was acknowledged, and visible."""
        self._sent.clear()
        self._acked.clear()
        with uncollected():
            begun = time.perf_counter()
            for due in times:
                while (left := begun + due - time.perf_counter()) > 0:
                    self._hear(left)
                self._send()
            while len(self._acked) < len(times):
                self._hear(PATIENCE_S)
        seen = self._visible()
        return (
            [self._acked[number][0] - sent for number, sent in self._sent.items()],
            [seen[self._acked[number][1]] - sent for number, sent in self._sent.items()],
        )

    def _send(self) -> None:
        self._sent[self._next] = time.perf_counter()
        self._a.ask(self._next, fill(self._next))
        self._next += 1

    def _watch(self, digest: bytes) -> None:
        self._b.ask(0, api.Watch(digest, int(PATIENCE_S * 1000)))

    def _hear(self, patience_s: float) -> None:
        """Note what comes, for at most so long: at least a millisecond, which is how finely can be waited."""
        if not self._poller.poll(max(1, int(patience_s * 1000))) and patience_s == PATIENCE_S:
            raise Wrong(f"a node says nothing for {PATIENCE_S:g} s")
        for when, number, answer in self._a.answers():
            if (answer["facts"], answer["batches"]) != (1, 1):
                raise Wrong(f"one new fill was recorded as {answer}")
            self._acked[number] = (when, answer["seq"])
        for when, _, digest in self._b.answers():
            self._told.append((when, digest))
            self._watch(digest)

    def _visible(self) -> dict[int, float]:
        """When each of A's batches was visible at B, by its seq: what B told is the digest of a frontier, and A's journal has the
        hashes to know it by."""
        place = self._it.paths[0] / JOURNAL
        journal = journalfile.connect(place, read_only=True)
        rows = journal.execute("SELECT lane, seq, hash FROM records WHERE kind = ?", (KIND_BATCH,)).fetchall()
        journal.close()
        numbers = {frontier_digest({lane: LaneHead(seq, name)}): seq for lane, seq, name in rows}
        while numbers[self._told[-1][1]] < max(numbers.values()):
            self._hear(PATIENCE_S)
        seen: dict[int, float] = {}
        upto = 0
        for when, digest in self._told:
            for seq in range(upto + 1, numbers.get(digest, 0) + 1):
                seen[seq] = when
            upto = max(upto, numbers.get(digest, 0))
        return seen


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Whoever holds the clock must not stand still for its own garbage."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def shown(a: Client, b: Client, number: int) -> float:
    """Seconds that B takes to show a fill that it has just told to be durable, and that must be in what it shows."""
    before = quantity(b)
    a.request(fill((OTHERS + number) * len(NAMES)))
    wait_for(b, held(a))
    begun = time.perf_counter()
    now = quantity(b)
    seconds = time.perf_counter() - begun
    if now - before != Decimal(QTY):
        raise Wrong(f"a position was {before} and is {now}, {QTY} later")
    return seconds


def quantity(client: Client) -> Decimal:
    """What a node shows of the first account."""
    return sum((Decimal(position["qty"]) for position in client.query("positions", account=NAMES[0])), Decimal())


def arrivals(count: int, rate: float, seed: int) -> list[float]:
    """Random times, ``rate`` a second on average."""
    draw = random.Random(seed)
    gaps = [draw.expovariate(rate) for _ in range(count)]
    return np.cumsum(gaps).tolist()


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    count = plan.size(600, 60)
    taken: dict[str, list[list[float]]] = {name: [] for name in (ACK, SEEN, SHOWN, *BARE, COMMIT, SYNC, TRIP)}
    with cluster(2) as it:
        it.start(1, 2)
        with it.client(1) as a, it.client(2) as b:
            define(a, 1)
            wait_for(b, held(a))
        run = Measured(it)
        try:
            most = run.capacity(plan.size(4_000, 400))
            rate = LOAD * most
            for seed in range(plan.runs):
                times = arrivals(count, rate, seed)
                acked, seen = run.at(times)
                taken[ACK].append(acked)
                taken[SEEN].append(seen)
                with it.client(1) as a, it.client(2) as b:
                    taken[SHOWN].append([shown(a, b, seed * count + at) for at in range(count // 10)])
                with uncollected():
                    for name, (rung, then) in BARE.items():
                        bodies = [BATCH] * count
                        took = passed_on(rung, then, bodies, times) if then else acknowledged(rung, bodies, times)
                        taken[name].append(took)
                taken[COMMIT].append(commits([BATCH] * count, times))
                taken[SYNC].append(syncs([WRITTEN] * count, times))
                taken[TRIP].append(curve_round_trips(count, bytes(100), times))
        finally:
            run.close()
    rows = [
        Row(f"{name}, p{percent}", figures, statistics.median(figures), ours=name in (ACK, SEEN, SHOWN))
        for name, runs in taken.items()
        for percent in (50, 99)
        for figures in (tuple(float(np.percentile(one, percent)) * 1000 for one in runs),)
    ]
    sync, trip = row(rows, f"{SYNC}, p50").median, row(rows, f"{TRIP}, p50").median

    def goal(name: str, percent: int, bound: float, beside: str, unit: float) -> Goal:
        return Goal(
            f"{name}, p{percent}, over {beside}", row(rows, f"{name}, p{percent}").median / unit, "most", bound, "times"
        )

    both = f"{SYNC} + {TRIP}"
    goals = (
        goal(ACK, 50, 2.0, SYNC, sync),
        goal(ACK, 99, 5.0, SYNC, sync),
        goal(SEEN, 50, 2.0, both, sync + trip),
        goal(SEEN, 99, 5.0, both, sync + trip),
    )
    told = {"facts": count, "a second": round(rate), "one by one a second": round(most), "runs": plan.runs}
    what = "Latency of one fact at a fifth of the load: on A's disk, and to be seen on B's"
    return Result("latency", what, "facts", rows, goals, told, unit_of_runs="ms")
