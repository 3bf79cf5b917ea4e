"""What the machine can do at most, without a ledger: bytes in memory, bytes over CURVE, a round trip over CURVE, a sync of the disk.

CURVE runs between two ZeroMQ contexts of one process, each with an I/O thread of its own, on loopback, keys checked by nobody.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import zmq

from bench.measured import timed

COPIED = 1 << 28

T = TypeVar("T")


@contextlib.contextmanager
def curve_pair() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """Two sockets that speak CURVE with each other over loopback."""
    here: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    there: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    server_public, server_secret = zmq.curve_keypair()
    public, secret = zmq.curve_keypair()
    try:
        server = there.socket(zmq.PAIR)
        server.curve_server, server.curve_secretkey = True, server_secret
        port = server.bind_to_random_port("tcp://127.0.0.1")
        client = here.socket(zmq.PAIR)
        client.curve_serverkey, client.curve_publickey, client.curve_secretkey = server_public, public, secret
        client.connect(f"tcp://127.0.0.1:{port}")
        client.send(b"hello")
        server.recv()
        yield client, server
    finally:
        here.destroy(linger=0)
        there.destroy(linger=0)


def curve_throughput(frames: Sequence[bytes]) -> float:
    """Seconds to bring these frames from one socket to another."""
    with curve_pair() as (client, server):
        sender = threading.Thread(target=lambda: [client.send(frame, copy=False) for frame in frames])
        begun = time.perf_counter()
        sender.start()
        for _ in frames:
            server.recv(copy=False)
        seconds = time.perf_counter() - begun
        sender.join()
    return seconds


def curve_round_trips(count: int, frame: bytes, times: Sequence[float] = ()) -> list[float]:
    """Seconds that each of ``count`` exchanges of a frame for its echo took; each at its time, or as soon as it can be."""
    with curve_pair() as (client, server):

        def echo() -> None:
            for _ in range(count):
                server.send(server.recv())

        echoing = threading.Thread(target=echo)
        echoing.start()

        def exchange(frame: bytes) -> None:
            client.send(frame)
            client.recv()

        taken = paced(times or [0.0] * count, [frame] * count, exchange)
        echoing.join()
    return taken


def moving(size: int) -> float:
    """Seconds that one core takes to read one half of so many bytes and to write the other: at the pace of a copy that fits into no
    cache, and whose pages have been touched before."""
    source, target = np.ones(COPIED // 16), np.ones(COPIED // 16)
    return timed(lambda: np.copyto(target, source)) * size / COPIED


def syncs(pieces: Sequence[bytes], times: Sequence[float] = ()) -> list[float]:
    """Seconds that it took to append each piece to a file and sync it; each at its time, or as soon as it can be."""
    with tempfile.TemporaryFile(prefix="bench-", buffering=0) as file:

        def append(piece: bytes) -> None:
            file.write(piece)
            os.fdatasync(file.fileno())

        return paced(times or [0.0] * len(pieces), pieces, append)


def paced(times: Sequence[float], pieces: Sequence[T], act: Callable[[T], None]) -> list[float]:
    """Seconds that ``act`` took with each piece; each at its time, or as soon as it can be."""
    taken = []
    start = time.perf_counter()
    for due, piece in zip(times, pieces, strict=True):
        left = start + due - time.perf_counter()
        if left > 0:
            time.sleep(left)
        begun = time.perf_counter()
        act(piece)
        taken.append(time.perf_counter() - begun)
    return taken
