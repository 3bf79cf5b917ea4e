"""How long until a node that missed a million facts holds all of them durably, and shows them.

    python -m bench catchup

Two node processes, linked by CURVE over loopback. One has recorded the fills, in full batches; the other starts without them, cut off. It
is let through, and the clock runs until its durable frontier is the first one's and it has told its status, so that everything is folded,
too. Its positions must be those of a plain fold. The same in smaller batches says what a batch costs.

A node that missed settled history of more than a few heights takes the settled state from a peer, verified against its certificate. How
its time grows with history, in heights of 1,000 facts, while the open cells stay the same, is told as a curve. The genesis sets a window
for ids of settled facts: each history ends in as many whose ids are remembered, and what came before is older. The clock runs until the
node stands on the state; most of what it tells then is links and waits. So beside it stands what the state alone takes in one process, by
longer histories, under a window and with ids for good (``bench.passedby``).

Beside it what cannot be avoided, on the same batches: each hashed and its signature checked; written and synced in one go; carried over a
CURVE connection in frames as large as an answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import apsw
import msgspec

from bench import nodes, passedby
from bench.join import LIMIT, Fills, chunks, hashes
from bench.limits import curve_throughput
from bench.measured import OURS, Curve, Goal, Plan, Result, Run, Wrong, rounds, row, slope, timed
from crdtledger.edge import folders
from crdtledger.edge.client import Client
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.genesis import Authority, Policies
from crdtledger.ledger.idwindow import SPANS
from gossip.catchup import CatchupLimits

WRITE = "written and synced, in one go"
CARRY = "carried over CURVE"
LOOK_S = 0.02
HEIGHT_FACTS = 1_000
HISTORIES = (20_000, 40_000, 80_000, 120_000)
TAKEN = (200_000, 400_000, 800_000)
WINDOW_S = 4.0
REMEMBERED = 5 * HEIGHT_FACTS
"""Facts at the end of every history, within the window."""


class Missed:
    """A cluster of two: the first node holds ``work``, the second is started anew without it for every round."""

    def __init__(self, cluster: nodes.Cluster, work: Sequence[Fills]) -> None:
        self.cluster = cluster
        self.work = work
        cluster.start(1)
        with cluster.client(1) as one:
            nodes.define(one)
            nodes.record(one, work)
            self.wanted = nodes.held(one)

    def catch_up(self) -> float:
        """One round: from being let through to holding everything for good."""
        nodes.empty(self.cluster.paths[1])
        with self.cluster.client(1) as one:
            nodes.block(one, [2])
            self.cluster.start(2)
            with self.cluster.client(2) as two:
                two.query("status")  # somebody looks at it, so that it keeps its figures up with every batch
                begun = time.perf_counter()
                nodes.block(one, [])
                nodes.wait_for(two, self.wanted)
                two.query("status")  # which counts the facts of the view: everything is folded by then
                seconds = time.perf_counter() - begun
                nodes.check_positions(two, self.work)
        self.cluster.stop(2)
        return seconds


def write(batches: Sequence[Batch]) -> float:
    """The batches as rows of a SQLite table, in one transaction that is synced."""
    with TemporaryDirectory(prefix="bench-") as folder:
        connection = apsw.Connection(str(Path(folder) / "rows.db"))
        connection.pragma("page_size", 16384)
        connection.pragma("journal_mode", "WAL")
        connection.pragma("synchronous", "FULL")
        connection.execute("CREATE TABLE rows (row INTEGER PRIMARY KEY, body BLOB)")

        def insert() -> None:
            with connection:
                connection.executemany("INSERT INTO rows (body) VALUES (?)", ((batch.raw,) for batch in batches))

        seconds = timed(insert)
        connection.close()
    return seconds


def carry(total: int, frame_bytes: int) -> float:
    """``total`` bytes through one CURVE connection over loopback."""
    return curve_throughput([bytes(frame_bytes)] * -(-total // frame_bytes))


def by_batch(facts: int, sizes: Sequence[int]) -> Curve:
    """What catching up with the same facts costs in ever more batches."""
    points = []
    for size in sizes:
        with nodes.cluster(2) as cluster:
            work = nodes.split(chunks(facts, 0), size)
            points.append((float(len(work)), Missed(cluster, work).catch_up()))
    return Curve(f"{facts:,} facts in more batches", "batches", "seconds", tuple(points), slope(points))


def jump(cluster: nodes.Cluster, facts: int) -> float:
    """The fourth node starts without anything when the others settled ``facts``: until it stands on their state, from its being ready."""
    nodes.empty(cluster.paths[3])
    cluster.start(4)
    begun = time.perf_counter()
    with cluster.client(1) as one, cluster.client(4) as four:
        _wait_until(lambda: four.query("status")["base"]["height"] > 0)
        seconds = time.perf_counter() - begun
        _wait_until_settled(four, facts)
        if _settled_positions(four) != _settled_positions(one):
            raise Wrong("a node that took the state shows other positions than the one that settled it")
    cluster.stop(4)
    if "checkpoint.jumped" not in (cluster.paths[3] / folders.LOG).read_text():
        raise Wrong("a node that missed all of history followed it height by height")
    return seconds


def _settled_positions(node: Client) -> list[dict[str, object]]:
    """All positions, which are settled, at whatever height: a window has nodes that idle make heights."""
    rows: list[dict[str, object]] = node.query("positions")
    if any(not str(row["state"]).startswith("settled(") for row in rows):
        raise Wrong("a position is not settled")
    return [{**row, "state": "settled"} for row in rows]


def _wait_until(holds: Callable[[], bool]) -> None:
    end = time.perf_counter() + nodes.PATIENCE_S
    while not holds():
        if time.perf_counter() > end:
            raise Wrong(f"not so after {nodes.PATIENCE_S:g} s")
        time.sleep(LOOK_S)


def _wait_until_settled(node: Client, facts: int) -> None:
    _wait_until(lambda: node.query("status")["settled_facts"] >= facts)


class Histories:
    """Three nodes that settle fills of 1,000 cells, ``HEIGHT_FACTS`` or some more in each height; the first one records. Ids are remembered
    for ``WINDOW_S``."""

    def __init__(self, cluster: nodes.Cluster, most: int) -> None:
        self.cluster = cluster
        self._work = iter(nodes.split([f._replace(instrument=0) for f in chunks(most, 0)], HEIGHT_FACTS))
        cluster.start(1, 2, 3)
        with cluster.client(1) as one:
            nodes.define(one)
            self.facts: int = one.query("status")["facts"]  # names are facts as well

    def grow(self, facts: int) -> None:
        """Settle history up to ``facts``, and check how much of it is remembered."""
        with self.cluster.client(1) as one:
            self._settle(one, facts - REMEMBERED)
            time.sleep(WINDOW_S * (1 + 4 / SPANS))  # by when all of that is older than it need be
            self._settle(one, facts)
            remembered = one.query("status")["id_window"]["remembered"]
        if not REMEMBERED <= remembered < 2 * REMEMBERED:
            raise Wrong(f"{remembered} ids are remembered, {REMEMBERED} of them within the window")

    def _settle(self, one: Client, facts: int) -> None:
        while self.facts < facts:
            self.facts += nodes.record(one, [next(self._work)], stamped=True)
            _wait_until_settled(one, self.facts)


def by_history(sizes: Sequence[int], tries: int) -> Curve:
    """What settled history costs a node that missed it, with as many open cells and remembered ids at the end of each size."""
    # The others record nothing, so the floor of ids waits for none of them, nor for lanes of a node that is emptied.
    others = tuple(Authority(f"node-{number}", ()) for number in (2, 3, 4))
    policies = Policies(agreement="tendermint", checkpoint_interval_ms=20, authorities=others)
    policies = msgspec.structs.replace(policies, id_window_ms=int(1_000 * WINDOW_S))
    points: list[tuple[float, float]] = []
    with nodes.cluster(4, policies, validators=3) as cluster:
        histories = Histories(cluster, 2 * sizes[-1])
        for size in sizes:
            histories.grow(size)
            points.append((float(histories.facts), median(jump(cluster, histories.facts) for _ in range(tries))))
    return Curve("settled history, passed by, under a window", "facts", "seconds", tuple(points), slope(points))


def measure(plan: Plan) -> Result:
    """Measure and compare."""
    facts = plan.size(1_000_000, 40_000)
    work = chunks(facts, 0)
    with nodes.cluster(2) as cluster:
        missed = Missed(cluster, work)
        times = [missed.catch_up() for _ in range(plan.runs)]
        cluster.stop(1)
        genesis, batches = folders.open_node(cluster.paths[0]).genesis, nodes.journaled(cluster.paths[0])
        total = sum(len(batch.raw) for batch in batches)
        turns = iter(times)
        rivals: dict[str, Run] = {
            OURS: lambda: next(turns),
            LIMIT: lambda: hashes([batch.raw for batch in batches], genesis),
            WRITE: lambda: write(batches),
            CARRY: lambda: carry(total, CatchupLimits().chunk_bytes),
        }
        rows = rounds(rivals, plan.runs, facts)
    if len(batches) < len(work):
        raise Wrong("the journal lacks batches")
    sizes = (4_000, 1_000) if plan.quick else (4_000, 1_000, 250, 100)
    curve = by_batch(plan.size(200_000, 8_000), sizes)
    history = by_history(HISTORIES[:2] if plan.quick else HISTORIES, plan.size(9, 1))
    taken, height_facts = ((20_000, 40_000), 1_000) if plan.quick else (TAKEN, 10_000)
    state, light = passedby.by_history(taken, height_facts, plan.size(5, 1), windowed=True)
    whole, heavy = passedby.by_history(taken, height_facts, plan.size(5, 1), windowed=False)
    goals = [
        Goal(f"catch-up with {facts:,} facts, by tails", row(rows, OURS).median, "most", 3, "s"),
        Goal("exponent by which settled history counts, under a window", history.slope, "most", 0.1, ""),
        Goal("... of what the state alone takes", state.slope, "most", 0.1, ""),
    ]
    told = {"facts": facts, "batches": len(work), "bytes": total, "runs": plan.runs}
    weights = {"bytes of a state under a window": light, "and with all ids": heavy}
    what = "Catch-up: from being let through to holding, and showing, what was missed"
    return Result("catchup", what, "facts", rows, goals, told | weights, curves=[curve, history, state, whole])
