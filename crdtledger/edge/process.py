"""Node processes on this machine: started, found, stopped, killed. Impure.

A node process is ``python -m crdtledger.edge.process FOLDER``. It says ``ready`` on its standard output once it listens,
or one line of error and a non-zero end; everything else goes to the folder's ``node.log``. It ends in good order when its
standard input closes, so that no node outlives whoever spawned it, not even one that was killed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from crdtledger.edge import folders
from crdtledger.errors import LedgerError, OperatorError

READY = "ready"
SWITCH_S = 0.0005
"""How long the thread that syncs the journal may wait for the interpreter while the other computes: it has something to say about once a
commit, and clients wait for that. Python's own 5 ms are more than a sync takes."""
COLLECT_AFTER = (7_000, 10, 100)
"""When to look for cyclic garbage: after so many new objects, after so many such looks at what survived the last one, and after so many of
these at everything. A full look takes tens of milliseconds where some thousand batches are held, and all who wait for the node wait for
that: Python's own (700, 10, 10) had one every few thousand facts. No fact, and no view that is let go, leaves anything that only a look
finds."""
READY_S = 300.0
STOP_S = 20.0


class NodeNotStarted(OperatorError):
    """A node process ended before it was ready. ``why`` is what it said."""

    code = "node_not_started"

    def __init__(self, *, node: str, why: str) -> None:
        super().__init__(node=node, why=why)

    def describe(self) -> str:
        return f"{self.attributes['node']} did not start: {self.attributes['why']}"


def serve(folder: Path, announce: bool = False, child: bool = False) -> int:
    """Run the node of ``folder`` until SIGTERM or SIGINT; the exit code. Errors are one line on standard error.

    ``announce``: say ``ready`` on standard output. ``child``: stop too when standard input closes. (Only a spawned node
    may do that: a service's standard input is closed from the start.)"""
    from crdtledger.edge.runtime import NodeRuntime

    def ready() -> None:
        gc.freeze()  # programs, and what the journal held: no collection need look at them again
        if announce:
            sys.stdout.write(f"{READY}\n")
            sys.stdout.flush()

    sys.setswitchinterval(SWITCH_S)
    gc.set_threshold(*COLLECT_AFTER)
    try:
        node = folders.open_node(folder)
        with (folder / folders.LOG).open("a", encoding="utf-8") as log:
            parent = sys.stdin.fileno() if child else None
            NodeRuntime(node, log).run(signals=True, ready=ready, parent=parent)
        for again in (signal.SIGTERM, signal.SIGINT):  # told twice to stop, it still ends in good order
            signal.signal(again, signal.SIG_IGN)
    except LedgerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def spawn(folder: Path) -> subprocess.Popen[str]:
    """Start the node of ``folder`` as a process of its own and wait until it listens. ``NodeNotStarted`` otherwise."""
    command = [sys.executable, "-m", "crdtledger.edge.process", str(folder)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said, _, _ = select.select([process.stdout], [], [], READY_S)
    if not said:
        stop(process, signal.SIGKILL)
        raise NodeNotStarted(node=folder.name, why=f"it was not ready within {READY_S:g} s; see {folder / folders.LOG}")
    if process.stdout.readline().strip() != READY:
        why = process.stderr.read().strip() or f"it ended with {process.wait()}"
        stop(process)
        raise NodeNotStarted(node=folder.name, why=why)
    return process


def stop(process: subprocess.Popen[str], how: signal.Signals = signal.SIGTERM) -> int:
    """End a spawned node and wait for it: in good order, or at once with SIGKILL. Its exit code."""
    if process.poll() is None:
        process.send_signal(how)
    try:
        code = process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    return code


def kill(folder: Path) -> int | None:
    """SIGKILL to whatever process runs the node of ``folder``; its pid, or None when none does."""
    run = folders.read_run(folder)
    if run is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(run.pid, signal.SIGKILL)
    return run.pid


@contextlib.contextmanager
def running(*paths: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """The nodes of these folders, running; stopped at the end. The mapping may be changed meanwhile, by folder name."""
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for path in paths:
            processes[path.name] = spawn(path)
        yield processes
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes.values():
            stop(process)


if __name__ == "__main__":
    sys.exit(serve(Path(sys.argv[1]), announce=True, child=True))
