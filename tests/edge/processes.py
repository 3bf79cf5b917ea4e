"""Real node processes for tests: a cluster on free loopback ports, and the command line, in a process or in this one.

    with cluster(tmp_path, nodes=3) as it:
        it.run("define", it.node(1), "--preset", "binance-spot")
        it.kill(2); it.start(2)

``run`` runs a command in this process (quick), ``spawn_cli`` in one of its own (real). Nodes are stopped at the end, whatever
happened. Nothing sleeps: starting waits until the node says that it listens.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from crdtledger.edge import folders, process
from crdtledger.edge.cli import main
from crdtledger.edge.client import Client
from crdtledger.edge.demo.stage import free_addresses
from crdtledger.ledger.genesis import Asset, Policies

CLI = (sys.executable, "-m", "crdtledger.edge.cli")
PATIENCE_S = 60.0


class Ran(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, decoded."""
        return json.loads(self.out)


def run(*arguments: object) -> Ran:
    """Run the command line in this process; standard output and error are captured."""
    out, err = _Text(), _Text()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return Ran(code, out.getvalue(), err.getvalue())


class _Text(io.StringIO):
    def fileno(self) -> int:
        raise OSError("captured")


def spawn_cli(*arguments: object, stdin: str | None = None, env: dict[str, str] | None = None) -> Ran:
    """Run the command line as a process and wait for its end."""
    done = subprocess.run(
        [*CLI, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env={**os.environ, **(env or {})},
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def start_cli(*arguments: object) -> subprocess.Popen[str]:
    """Start the command line as a process that the test ends itself."""
    command = [*CLI, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


class Cluster:
    """A founded cluster and those of its nodes that run. Nodes are counted from 1."""

    def __init__(self, directory: Path, nodes: int) -> None:
        self.directory = directory
        self.paths = [directory / f"node-{number}" for number in range(1, nodes + 1)]
        self.processes: dict[str, subprocess.Popen[str]] = {}

    def node(self, number: int) -> Path:
        """The folder of a node."""
        return self.paths[number - 1]

    def start(self, *numbers: int) -> None:
        """Start these nodes (all of them by default) and wait until they listen."""
        paths = [self.node(number) for number in numbers] or self.paths
        with ThreadPoolExecutor(len(paths)) as pool:
            starting = {path.name: pool.submit(process.spawn, path) for path in paths}
        self.processes.update((name, future.result()) for name, future in starting.items() if not future.exception())
        for future in starting.values():
            future.result()

    def stop(self, number: int) -> int:
        """Stop a node in good order; its exit code."""
        return process.stop(self.processes.pop(self.node(number).name))

    def kill(self, number: int) -> None:
        """Kill a node with SIGKILL."""
        process.stop(self.processes.pop(self.node(number).name), signal.SIGKILL)

    def client(self, number: int) -> Client:
        """A client of a node; use it as a context manager."""
        return Client(self.node(number))

    def wait(self, *numbers: int, settled: bool = False) -> None:
        """Wait until these nodes (all of them by default) hold the same for good, and have it ``settled``."""
        targets = [self.node(number) for number in numbers] or self.paths
        waited = run("wait", *targets, "--timeout", PATIENCE_S, *(["--settled"] if settled else []))
        assert waited.code == 0, waited.err

    def partition(self, *groups: str) -> None:
        """Cut the network, as ``crdtledger drill partition``."""
        drilled = run("drill", "partition", *groups, "--cluster", self.directory)
        assert drilled.code == 0, drilled.err

    def heal(self) -> None:
        """End the cut."""
        drilled = run("drill", "heal", "--cluster", self.directory)
        assert drilled.code == 0, drilled.err

    def close(self) -> None:
        """Stop what still runs."""
        for running in self.processes.values():
            if running.poll() is None:
                running.send_signal(signal.SIGTERM)
        for running in self.processes.values():
            process.stop(running)


@contextlib.contextmanager
def cluster(
    directory: Path,
    nodes: int = 3,
    *,
    assets: Sequence[Asset] = folders.DEFAULT_ASSETS,
    policies: Policies | None = None,
    start: bool = True,
) -> Iterator[Cluster]:
    """A new cluster in ``directory / "cluster"``, its nodes running unless told otherwise."""
    home = directory / "cluster"
    folders.found(home, free_addresses(nodes), assets=assets, policies=policies)
    it = Cluster(home, nodes)
    try:
        if start:
            it.start()
        yield it
    finally:
        it.close()
