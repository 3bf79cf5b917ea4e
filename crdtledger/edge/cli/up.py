"""``crdtledger up``: run all nodes of a cluster folder that are local, until told to stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen
from types import FrameType
from typing import TYPE_CHECKING, Any

from crdtledger.edge.cli.options import DIFFERENT, GOOD
from crdtledger.edge.cli.output import console, say

if TYPE_CHECKING:
    from rich.table import Table

    from crdtledger.edge.client import Client

Processes = Mapping[str, "Popen[str]"]

REFRESH_S = 1.0
PATIENCE_S = 0.8


def up(directory: Path, /) -> int:
    """Run every node of a cluster folder until Ctrl-C or SIGTERM, which stops them in good order.

    Parameters
    ----------
    directory
        The cluster's folder, as made by `crdtledger init`.
    """
    from crdtledger.edge import folders
    from crdtledger.errors import BadGenesis

    paths = folders.node_folders(directory)
    if not paths:
        raise BadGenesis(file=str(directory), path="$.nodes", why="no node of the genesis has a folder here")
    stop = threading.Event()

    def on_signal(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)
    processes: dict[str, Popen[str]] = {}
    try:
        _start(paths, processes)
        for path in paths:
            print(f"{path.name} ready at {folders.open_node(path).member.address}")
        print(f"all {len(paths)} nodes run; Ctrl-C stops them", flush=True)
        return _watch(paths, processes, stop)
    finally:
        _stop(processes)


def _start(paths: Sequence[Path], processes: dict[str, Popen[str]]) -> None:
    """Start all at once; when one cannot, the others are stopped by the caller."""
    from crdtledger.edge.process import spawn

    with ThreadPoolExecutor(len(paths)) as pool:
        starting = {path.name: pool.submit(spawn, path) for path in paths}
    failures = []
    for name, future in starting.items():
        error = future.exception()
        if error is None:
            processes[name] = future.result()
        else:
            failures.append(error)
    if failures:
        raise failures[0]


def _stop(processes: Processes) -> None:
    from crdtledger.edge.process import stop

    for process in processes.values():
        if process.poll() is None:
            process.terminate()
    for name, process in processes.items():
        code = stop(process)
        say(f"{name} stopped" if not code else f"{name} ended with {code}")


def _watch(paths: Sequence[Path], processes: Processes, stop: threading.Event) -> int:
    from crdtledger.edge.client import Client

    told: set[str] = set()
    with ExitStack() as held:
        clients = {path.name: held.enter_context(Client(path, timeout_s=PATIENCE_S)) for path in paths}
        live = None
        if sys.stdout.isatty():
            from rich.live import Live

            live = held.enter_context(Live(console=console(), auto_refresh=False, transient=True))
        while not stop.wait(REFRESH_S):
            for path in paths:
                code = processes[path.name].poll()
                if code is not None and path.name not in told:
                    told.add(path.name)
                    say(f"{path.name} ended with {code}; see {path / 'node.log'}")
            if len(told) == len(paths):
                return DIFFERENT
            if live is not None:
                rows = {name: _status(clients[name]) for name in clients if name not in told}
                live.update(_picture(rows), refresh=True)
    return GOOD


def _status(client: Client) -> dict[str, Any] | None:
    from crdtledger.errors import LedgerError

    try:
        status: dict[str, Any] = client.query("status")
    except LedgerError:
        return None
    return status


def _picture(rows: Mapping[str, dict[str, Any] | None]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("node", "facts", "batches", "links", "catch-up", "breaks", "frontier"):
        table.add_column(column, justify="left" if column in ("node", "frontier") else "right")
    for name, row in rows.items():
        if row is None:
            table.add_row(name, "no answer")
            continue
        progress = row["catch_up"]
        behind = f"{progress['have']}/{progress['target']}" if progress["have"] < progress["target"] else "-"
        links = f"{row['connected']}/{row['peers']}"
        cells = [row["facts"], row["batches"], links, behind, row["breaks"], row["frontier"][:12]]
        table.add_row(name, *map(str, cells))
    return table
