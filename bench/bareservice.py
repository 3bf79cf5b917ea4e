"""Durable services with no ledger in them: the least that a node made of these parts could take for one fact, rung by rung.

    python -m bench.bareservice FOLDER RUNG [PORT PUBLIC-KEY]    # listens, prints "PORT PUBLIC-KEY", serves until its input is closed

A service speaks CURVE through a ROUTER, keeps what it is sent, on the thread that received it, and answers when that is durable; then
it passes it on to the service at PORT, if it is given one. What waits by then shares a sync. Its rung says what it does with a frame
before it answers:

    sync      appends it to a file, and syncs
    journal   commits it to a journal
    sign      decodes it, encodes it anew, hashes and signs it, and commits that, as the node does that a fact is recorded at
    verify    decodes what such a one passed on, and commits it if hash and signature hold, as a peer does
    sign into a file, verify into a file
              the same, but in place of a journal a file whose space is there before: a sync has no size of it to keep

Nothing is looked up, checked against anything, or folded. Whoever sent ``WATCH`` is told of everything that is kept from then on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec
import zmq

from bench.limits import paced
from bench.measured import Wrong
from crdtledger.ledger.batch import LANE_BYTES
from crdtledger.ledger.identity import SEED_BYTES, Identity, verify
from crdtledger.ledger.incarnation import INCARNATION_BYTES_MIN
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord

Rung: TypeAlias = Literal["sync", "journal", "sign", "verify", "sign into a file", "verify into a file"]
SPACE = bytes(4 << 20)
"""Of such a file: more than any round of a bench keeps."""
LANE = bytes(LANE_BYTES)
SIGNER = Identity(bytes(SEED_BYTES))
WATCH, DURABLE = b"watch", b"durable"
READABLE, MORE = int(zmq.POLLIN), int(zmq.SNDMORE)
PATIENCE_S = 60.0


class Place(NamedTuple):
    """Where a service listens."""

    port: str
    key: str


@contextlib.contextmanager
def committing(path: Path) -> Iterator[Callable[[Sequence[bytes]], None]]:
    """A function that makes some bodies durable in a new journal."""
    journal = Journal.open(path, bytes(INCARNATION_BYTES_MIN))

    def commit(bodies: Sequence[bytes]) -> None:
        for seq, body in enumerate(bodies, journal.position + 1):
            journal.append(seq, [JournalRecord(KIND_BATCH, LANE, seq, seq.to_bytes(32, "big"), body)])
        journal.commit()

    try:
        yield commit
    finally:
        journal.close()


@contextlib.contextmanager
def keeping(folder: Path, rung: Rung) -> Iterator[Callable[[list[bytes]], list[bytes]]]:
    """A function that makes frames durable together, as ``rung`` says, and returns what is kept."""
    with (folder / "file").open("wb", buffering=0) as file, committing(folder / "journal") as commit:

        def append(frames: Sequence[bytes]) -> None:
            file.write(b"".join(frames))
            os.fdatasync(file.fileno())

        if rung.endswith("into a file"):
            append([SPACE])
            file.seek(0)
        keep_all = append if rung.endswith(("sync", "into a file")) else commit

        def keep(frames: list[bytes]) -> list[bytes]:
            if rung.startswith("sign"):
                frames = list(map(signed, frames))
            elif rung.startswith("verify"):
                for frame in frames:
                    check(frame)
            keep_all(frames)
            return frames

        yield keep


def signed(frame: bytes) -> bytes:
    """What is in the frame, encoded anew, with its hash and a signature."""
    body = msgspec.msgpack.encode(msgspec.msgpack.decode(frame))
    digest = hashlib.sha256(body).digest()
    return msgspec.msgpack.encode([digest, SIGNER.sign(digest), body])


def check(frame: bytes) -> None:
    """``Wrong`` unless this is what ``signed`` made of something."""
    digest, signature, body = msgspec.msgpack.decode(frame, type=tuple[bytes, bytes, bytes])
    if hashlib.sha256(body).digest() != digest or not verify(SIGNER.public_key, digest, signature):
        raise Wrong("what a bare service signed does not hold")
    msgspec.msgpack.decode(body)


def commits(bodies: Sequence[bytes], times: Sequence[float]) -> list[float]:
    """Seconds that a journal takes to make each body durable, at its time, with nothing around it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, committing(Path(folder) / "journal") as commit:
        return paced(times, [[body] for body in bodies], commit)


def acknowledged(rung: Rung, bodies: Sequence[bytes], times: Sequence[float]) -> list[float]:
    """Seconds until a service's answer to each body, sent at its time, was here."""
    with running(rung) as place, zmq.Context() as context, dialled(context, place) as client:
        return answered(client, client, bodies, times)


def passed_on(rung: Rung, then: Rung, bodies: Sequence[bytes], times: Sequence[float]) -> list[float]:
    """Seconds until a second service, which the first one passed it on to, told that it keeps it too."""
    with (
        running(then) as second,
        running(rung, second) as first,
        zmq.Context() as context,
        dialled(context, first) as client,
        dialled(context, second) as watching,
    ):
        watching.send(WATCH)
        watching.recv()
        return answered(client, watching, bodies, times)


def answered(
    client: zmq.Socket[bytes], told: zmq.Socket[bytes], bodies: Sequence[bytes], times: Sequence[float]
) -> list[float]:
    """Seconds until ``told`` heard of each body, which ``client`` sent at its time, whether or not earlier ones are answered."""
    client.send(bodies[0])  # waits for the connections
    for socket in {client, told}:
        socket.recv()
    poller = zmq.Poller()
    for socket in {client, told}:
        poller.register(socket, zmq.POLLIN)
    sent: list[float] = []
    taken: list[float] = []
    begun = time.perf_counter()
    while len(taken) < len(bodies):
        left = begun + times[len(sent)] - time.perf_counter() if len(sent) < len(bodies) else PATIENCE_S
        if left <= 0:
            sent.append(time.perf_counter())
            client.send(bodies[len(sent) - 1])
            continue
        ready = dict(poller.poll(max(1, int(left * 1000))))
        if not ready and left == PATIENCE_S:
            raise Wrong(f"a bare service says nothing for {PATIENCE_S:g} s")
        for socket in ready:
            socket.recv()
        if told in ready:
            taken.append(time.perf_counter() - sent[len(taken)])
    return taken


@contextlib.contextmanager
def running(rung: Rung, onward: Place | None = None) -> Iterator[Place]:
    """A service in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, "-m", "bench.bareservice", folder, rung, *(onward or ())]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdin is not None
            assert service.stdout is not None
            yield Place(*service.stdout.readline().split())
            service.stdin.close()


@contextlib.contextmanager
def dialled(context: zmq.Context[zmq.Socket[bytes]], place: Place) -> Iterator[zmq.Socket[bytes]]:
    """A connection to a service."""
    with context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.curve_serverkey = place.key.encode()
        client.curve_publickey, client.curve_secretkey = zmq.curve_keypair()
        client.connect(f"tcp://127.0.0.1:{place.port}")
        yield client


def serve(folder: Path, rung: Rung, onward: Place | None) -> None:
    """Serve until standard input is closed."""
    public, secret = zmq.curve_keypair()
    with contextlib.ExitStack() as held:
        context = held.enter_context(zmq.Context())
        keep = held.enter_context(keeping(folder, rung))
        passing = held.enter_context(dialled(context, onward)) if onward else None
        router = held.enter_context(context.socket(zmq.ROUTER))
        router.linger = 0
        router.curve_server, router.curve_secretkey = True, secret
        port = router.bind_to_random_port("tcp://127.0.0.1")
        print(port, public.decode(), flush=True)
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        watching = b""
        while True:
            ready = dict(poller.poll())
            if sys.stdin.fileno() in ready:
                return
            if router not in ready:
                continue
            waiting = []
            while int(router.getsockopt(zmq.EVENTS)) & READABLE:
                waiting.append((router.recv(), router.recv()))
            for sender, frame in waiting:
                if frame == WATCH:
                    watching = sender
                    answer(router, watching)
            asked = [(sender, frame) for sender, frame in waiting if frame != WATCH]
            kept = keep([frame for _, frame in asked]) if asked else []
            for sender, _ in asked:
                answer(router, watching or sender)
            for frame in kept if passing is not None else []:
                passing.send(frame)


def answer(router: zmq.Socket[bytes], client: bytes) -> None:
    """Tell a client that it is done."""
    router.send(client, MORE)  # not ``send_multipart``, which takes twice as long
    router.send(DURABLE)


if __name__ == "__main__":
    where, chosen, *there = sys.argv[1:]
    if chosen not in get_args(Rung):
        sys.exit(f"one of {', '.join(get_args(Rung))}")
    serve(Path(where), chosen, Place(*there) if there else None)
