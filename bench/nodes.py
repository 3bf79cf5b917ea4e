"""Real nodes for benches: a cluster founded in a folder, its processes, and a history of fills that one of them records.

Each fill is a function of its id (``bench.join.chunks``), so that what any node ends with can be checked without asking another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from bench.join import ACCOUNTS, INSTRUMENTS, NAMES, SPOT, Fills, cells, columns
from bench.measured import Wrong
from crdtledger.edge import api, folders, process
from crdtledger.edge.client import Client
from crdtledger.edge.demo.stage import free_addresses
from crdtledger.ledger.batch import Batch, open_batch
from crdtledger.ledger.genesis import Asset, Policies
from crdtledger.ledger.journal import Journal
from crdtledger.ledger.journalrecord import KIND_BATCH

PATIENCE_S = 100.0
DOLLARS = (Asset("USDT", 2),)
OVERLAPPING = 8
"""Requests on their way at once, while a history is recorded."""


class Cluster:
    """A founded cluster and those of its nodes that run. Nodes are counted from 1."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self.paths = [directory / f"node-{number}" for number in range(1, nodes + 1)]
        self.processes: dict[int, subprocess.Popen[str]] = {}

    def start(self, *numbers: int) -> None:
        """Start these nodes, at the same time, and wait until all of them listen."""
        with ThreadPoolExecutor(len(numbers)) as pool:
            starting = {number: pool.submit(process.spawn, self.paths[number - 1]) for number in numbers}
        self.processes.update(
            (number, future.result()) for number, future in starting.items() if not future.exception()
        )
        for future in starting.values():
            future.result()

    def stop(self, number: int) -> None:
        """Stop a node in good order."""
        process.stop(self.processes.pop(number))

    def client(self, number: int) -> Client:
        """A client of a node; a context manager."""
        return Client(self.paths[number - 1], timeout_s=PATIENCE_S)

    def rss(self, number: int) -> int:
        """What a node's process holds in memory, in bytes."""
        return rss(self.processes[number].pid)

    def close(self) -> None:
        """Stop what still runs."""
        for running in self.processes.values():
            running.send_signal(signal.SIGTERM)
        for running in self.processes.values():
            process.stop(running)
        self.processes.clear()


@contextlib.contextmanager
def cluster(
    nodes: int, policies: Policies | None = None, validators: int | None = None, assets: tuple[Asset, ...] = DOLLARS
) -> Iterator[Cluster]:
    """A new cluster in a folder that is gone afterwards. None of its nodes runs yet. All of them vote, or the first ``validators``."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        home = Path(directory) / "cluster"
        folders.found(home, free_addresses(nodes), assets=assets, policies=policies, validators=validators)
        it = Cluster(home, nodes)
        try:
            yield it
        finally:
            it.close()


def rss(pid: int) -> int:
    """The resident set of a process, in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def define(client: Client, instruments: int = INSTRUMENTS) -> None:
    """Define the accounts and instruments that the fills are of."""
    client.record([{"kind": "account", "name": name} for name in NAMES])
    client.record([{"kind": "instrument", "name": f"I{at}", **SPOT} for at in range(instruments)])


def record(client: Client, work: Sequence[Fills], stamped: bool = False) -> int:
    """Record fills, a few requests on their way at once; how many there were. ``stamped``: each says that it happens now."""
    waiting: list[int] = []
    for fills in work:
        told = columns(fills)
        if stamped:
            told = msgspec.structs.replace(told, ts_us=np.full(len(fills.ids), time.time_ns() // 1_000))
        waiting.append(client.send(api.pack_fills(told, None)))
        if len(waiting) == OVERLAPPING:
            client.collect(waiting.pop(0))
    for number in waiting:
        client.collect(number)
    return sum(len(fills.ids) for fills in work)


def split(work: Sequence[Fills], most: int) -> list[Fills]:
    """The same fills in columns of at most ``most``: of a desk that records little at a time."""
    return [
        Fills(fills.instrument, *(column[at : at + most] for column in fills[1:]))
        for fills in work
        for at in range(0, len(fills.ids), most)
    ]


def block(client: Client, numbers: Sequence[int]) -> None:
    """Cut a node off from these, or from nobody."""
    client.request(api.Links([f"node-{number}" for number in numbers]))


def held(client: Client) -> bytes:
    """The digest of what a node holds for good."""
    return client.watch(b"", 0)


def wait_for(client: Client, wanted: bytes) -> float:
    """Wait until the node holds for good exactly what ``wanted`` is the digest of; when that was (``time.perf_counter``)."""
    end = time.perf_counter() + PATIENCE_S
    seen = b""
    while seen != wanted:
        if time.perf_counter() > end:
            raise Wrong(f"a node does not hold what the others hold after {PATIENCE_S:g} s")
        seen = client.watch(seen, PATIENCE_S)
    return time.perf_counter()


def check_positions(client: Client, work: Sequence[Fills]) -> None:
    """``Wrong`` unless the node's positions are what a plain fold of these fills gives."""
    sums = np.zeros(ACCOUNTS * INSTRUMENTS, np.int64)
    for fills in work:
        np.add.at(sums, fills.account * INSTRUMENTS + fills.instrument, fills.qty * fills.side)
    rows = client.query("positions")
    got = {(row["account"], row["instrument"]): row["qty"] for row in rows}
    expected = cells(sums)
    wrong = [cell for cell in got.keys() | expected.keys() if _minor(got.get(cell, "0")) != expected.get(cell, 0)]
    if wrong:
        raise Wrong(f"{len(wrong)} positions are not what a plain fold gives, {sorted(wrong)[:3]} among them")


def _minor(quantity: str) -> int:
    whole, _, decimals = quantity.partition(".")
    return int(whole + decimals.ljust(SPOT["qty_decimals"], "0"))


def empty(folder: Path) -> None:
    """Make a node that has ended one that never ran."""
    for file in folder.iterdir():
        if file.name not in (folders.GENESIS, folders.NODE, folders.SECRETS):
            file.unlink()
    (folder / folders.UNBORN).touch()


def journaled(folder: Path) -> list[Batch]:
    """Every batch that the journal of a node holds, which has ended."""
    genesis = folders.open_node(folder).genesis
    with Journal.open(folder / folders.JOURNAL, os.urandom(16)) as journal:
        records = [entry.record for entry in journal.replay()]
    return [open_batch(one.body, genesis, check_signature=False) for one in records if one.kind == KIND_BATCH]
