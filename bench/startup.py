"""How long until something is there: the help of the command line, and a node that holds a million unsettled facts.

    python -m bench startup

A node is ready when it has answered a status request, which folds everything that it holds. Its process is started anew each time, with
a warm page cache. Beside it what no start can do without: the interpreter with numpy, pycrdt and zmq imported, and the journal's bytes
read and hashed once. Bytecode is compiled before the first round, as it is where the package is installed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import apsw

from bench import nodes
from bench.join import chunks
from bench.measured import OURS, Goal, Plan, Result, Run, Wrong, rounds, row, timed

HELP = "crdtledger --help"
INTERPRETER = "python alone"
IMPORTS = "python, numpy, pycrdt and zmq imported"
JOURNAL = "the journal's bytes, read and hashed"
HEAVY = ("numpy", "pycrdt", "zmq")
CLI = "import sys; from crdtledger.edge.cli import main; code = main(['--help'])"


def python(script: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout


@contextlib.contextmanager
def compiled() -> Iterator[None]:
    """Processes started meanwhile keep bytecode, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        with mock.patch.dict(os.environ, {**environment, "PYTHONPYCACHEPREFIX": folder}, clear=True):
            yield


def check_help() -> None:
    """``Wrong`` if the help needs what it must not need."""
    said = python(f"{CLI}; print('heavy:', *[name for name in {HEAVY!r} if name in sys.modules])").splitlines()
    if said[-1] != "heavy:" or not any("positions" in line for line in said):
        raise Wrong(f"the help imports {said[-1]}, or does not name the commands")


def start(cluster: nodes.Cluster, facts: int) -> float:
    """From nothing to the answer to a status request."""

    def ready() -> None:
        cluster.start(1)
        with cluster.client(1) as node:
            if node.query("status")["facts"] != facts:
                raise Wrong("a fact is missing after a start")

    seconds = timed(ready)
    cluster.stop(1)
    return seconds


def read(journal: Path) -> float:
    """Every body of the journal, through SQLite, and its sha256."""

    def hash_all() -> None:
        connection = apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)
        for (body,) in connection.execute("SELECT body FROM records"):
            hashlib.sha256(body)
        connection.close()

    return timed(hash_all)


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts = plan.size(1_000_000, 40_000)
    work = chunks(facts, 0)
    with compiled(), nodes.cluster(1) as cluster:
        check_help()
        cluster.start(1)
        with cluster.client(1) as node:
            nodes.define(node)
            nodes.record(node, work)
            held = node.query("status")["facts"]
            nodes.check_positions(node, work)
        cluster.stop(1)
        rivals: dict[str, Run] = {
            OURS: lambda: start(cluster, held),
            IMPORTS: lambda: timed(lambda: python(f"import {', '.join(HEAVY)}")),
            JOURNAL: lambda: read(cluster.paths[0] / "journal.db"),
            HELP: lambda: timed(lambda: python(CLI)),
            INTERPRETER: lambda: timed(lambda: python("pass")),
        }
        rows = rounds(rivals, plan.runs, facts)
        cluster.start(1)
        with cluster.client(1) as node:
            nodes.check_positions(node, work)
        cluster.stop(1)
    goals = (
        Goal("crdtledger --help", row(rows, HELP).median * 1000, "most", 300, "ms"),
        Goal(f"a node with {facts:,} unsettled facts ready", row(rows, OURS).median, "most", 3, "s"),
    )
    rows = [one if one.name in (OURS, JOURNAL) else one._replace(rate=0.0, ratio=0.0) for one in rows]
    told = {"facts": held, "batches": len(work), "runs": plan.runs}
    return Result("startup", "Start-up: until a node, or the help, has answered", "facts", rows, goals, told)
