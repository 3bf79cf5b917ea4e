"""A durable service with no ledger in it: the least that a node made of these parts could take for one fact.

    python -m bench.bareservice JOURNAL     # listens, prints "PORT PUBLIC-KEY", serves until its input is closed

It speaks CURVE through a ROUTER, commits what it is sent to a journal, on the thread that received it, and answers when that is durable.
Nothing is decoded, checked, signed, folded or passed on.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import zmq

from bench.limits import paced
from crdtledger.ledger.batch import LANE_BYTES
from crdtledger.ledger.incarnation import INCARNATION_BYTES_MIN
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord

LANE = bytes(LANE_BYTES)


@contextlib.contextmanager
def committing(path: Path) -> Iterator[Callable[[bytes], None]]:
    """A function that makes one body durable in a new journal."""
    journal = Journal.open(path, bytes(INCARNATION_BYTES_MIN))

    def commit(body: bytes) -> None:
        seq = journal.position + 1
        journal.append(seq, [JournalRecord(KIND_BATCH, LANE, seq, seq.to_bytes(32, "big"), body)])
        journal.commit()

    try:
        yield commit
    finally:
        journal.close()


def commits(bodies: Sequence[bytes], times: Sequence[float]) -> list[float]:
    """Seconds that a journal takes to make each body durable, at its time, with nothing around it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, committing(Path(folder) / "journal") as commit:
        return paced(times, bodies, commit)


def acknowledged(bodies: Sequence[bytes], times: Sequence[float]) -> list[float]:
    """Seconds until the service's answer to each body, sent at its time, was here."""
    public, secret = zmq.curve_keypair()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        command = [sys.executable, "-m", "bench.bareservice", str(Path(folder) / "journal")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
            assert service.stdin is not None
            assert service.stdout is not None
            port, key = service.stdout.readline().split()
            with zmq.Context() as context, context.socket(zmq.DEALER) as client:
                client.linger = 0
                client.curve_serverkey, client.curve_publickey, client.curve_secretkey = key.encode(), public, secret
                client.connect(f"tcp://127.0.0.1:{port}")

                def ask(body: bytes) -> None:
                    client.send(body)
                    client.recv()

                ask(b"the first one waits for the connection")
                taken = paced(times, bodies, ask)
            service.stdin.close()
    return taken


def serve(path: Path) -> None:
    """Serve until standard input is closed."""
    public, secret = zmq.curve_keypair()
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router, committing(path) as commit:
        router.linger = 0
        router.curve_server, router.curve_secretkey = True, secret
        port = router.bind_to_random_port("tcp://127.0.0.1")
        print(port, public.decode(), flush=True)
        poller = zmq.Poller()
        poller.register(router, zmq.POLLIN)
        poller.register(sys.stdin.fileno(), zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if sys.stdin.fileno() in ready:
                return
            identity, body = router.recv_multipart()
            commit(body)
            router.send_multipart([identity, b"durable"])


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
