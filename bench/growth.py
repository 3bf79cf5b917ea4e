"""What every cost grows with, and how steeply: against facts, cells, lanes, orders and nodes.

    python -m bench growth

Each cost is measured at sizes some times apart; the slope is the exponent of the power law that fits them best. A cost that ought to be
linear in what it works through may have a slope of 1.1, which leaves room for a logarithm; one that ought not to depend on what is merely
held may have 0.3, for larger tables are slower memory. What is computed on the way is checked, or the bench fails.

Agreement is simulated: engines of gossip alone, linked like a fleet (``bench.fleet``), through a partition and its healing.
"""

from __future__ import annotations

import gc
import time

from bench import growingnodes
from bench.checkpoint import Books
from bench.curves import HELD, LINEAR, Growth
from bench.fleet import Engines, drill
from bench.join import BATCH, chunks, names, record
from bench.measured import Plan, Result, Wrong, timed
from crdtledger.edge.adapter import GossipReplica
from crdtledger.edge.core import NodeCore
from crdtledger.edge.setup import Setup
from crdtledger.edge.stateimage import open_state
from crdtledger.ledger.facts import Account, Deposit, Instrument, Order, Reserve
from crdtledger.ledger.frontier import frontier_digest
from crdtledger.ledger.identity import Identity, digest
from crdtledger.ledger.inprocess import Ledger
from crdtledger.ledger.journalrecord import KIND_BATCH, JournalRecord, encode_record
from crdtledger.ledger.replica import Replica
from crdtledger.ledger.view import View
from gossip.heads import OwnFrontier
from gossip.network import Faults

PERP = {"type": "perp", "base": "BTC", "quote": "USDT", "settlement": "USDT", "price_decimals": 2, "qty_decimals": 5}
ROOM = 10**15


def joining(growth: Growth) -> None:
    """Facts joined, and a fixed number of facts joined to more and more."""
    plan = growth.plan
    sizes = (8_000, 40_000, 160_000, 640_000) if not plan.quick else (8_000, 32_000)
    fresh = plan.size(40_000, 8_000)
    writer, other = Ledger.cluster("one", "two", assets={"USDT": 2})
    defined = names()
    opening = [batch.raw for batch in writer.record(*defined).batches]
    other.join(writer)
    held = record(writer, chunks(sizes[-1], 0))
    more = record(other, chunks(fresh, 1 << 40))

    def joined(facts: int, then: list[bytes]) -> tuple[float, float]:
        replica = Replica(writer.genesis, salt=3, documents=False)
        for raw in opening:
            replica.admit(raw)
        assert replica.view.facts

        def join(batches: list[bytes]) -> None:
            for raw in batches:
                replica.admit(raw)
            assert replica.view.facts  # what came in is folded when somebody looks

        first = timed(lambda: join(held[: facts // BATCH]))
        second = timed(lambda: join(then))
        if replica.view.facts != len(defined) + facts + (fresh if then else 0):
            raise Wrong(f"{replica.view.facts} facts are held")
        return first, second

    growth.add("join", "facts", ((size, lambda size=size: joined(size, [])[0]) for size in sizes), LINEAR)  # type: ignore[misc]
    held_points = ((size, lambda size=size: joined(size, more)[1]) for size in sizes)  # type: ignore[misc]
    growth.add(f"join of {fresh:,} facts", "facts held", held_points, HELD)


def settling(growth: Growth) -> None:
    """Heights, by changes and by cells; the positions read, and a state that somebody gave opened, by cells."""
    plan = growth.plan
    sizes = (10_000, 25_000, 75_000, 200_000) if not plan.quick else (8_000, 32_000)
    changes = (100, 400, 1_600, 6_400) if not plan.quick else (400, 1_600)
    books = [Books(size) for size in sizes]
    some = changes[-1]
    by_cells = ((len(one.qty), lambda one=one: one.settle(one.changes(some))) for one in books)  # type: ignore[misc]
    growth.add(f"settle and root of {some:,} changes", "cells", by_cells, HELD)
    last = books[-1]
    by_changes = ((count, lambda count=count: last.settle(last.changes(count))) for count in changes)  # type: ignore[misc]
    growth.add("settle and root", "changes", by_changes, LINEAR)

    def read(one: Books) -> float:
        view, rows = View(one.genesis, base=one.state), []
        seconds = timed(lambda: rows.extend(view.position_rows()))
        if {(row.account, row.instrument): row.qty for row in rows} != dict(one.qty):
            raise Wrong("the positions read are not what a plain sum gives")
        return seconds

    growth.add("positions read", "cells", ((len(one.qty), lambda one=one: read(one)) for one in books), LINEAR)  # type: ignore[misc]

    def opened(one: Books) -> float:
        raw, roots = one.state.encode(), []
        seconds = timed(lambda: roots.append(open_state(raw, one.genesis, one.salts, 1)[1].state_root))
        if roots != [one.commitments.state_root]:
            raise Wrong("a state that was opened has another root than the one that was settled")
        return seconds

    growth.add("settled state opened", "cells", ((len(one.qty), lambda one=one: opened(one)) for one in books), LINEAR)  # type: ignore[misc]
    for one in books:
        one.check()


def lanes(growth: Growth) -> None:
    """The frontier's digest, and the heads that are told, by lanes."""
    sizes = (60, 250, 1_000, 4_000) if not growth.plan.quick else (100, 400)
    made: list[tuple[int, GossipReplica]] = []
    for size in sizes:
        first, *others = Ledger.cluster(*(f"n{at}" for at in range(size)), assets={"USDT": 2})
        raw = [one.record(Account(name=one.name)).batches[0].raw for one in others]
        if first.admit(raw) != size - 1:
            raise Wrong("a batch of another lane was not taken in")
        gossiped = GossipReplica(first.replica)
        gossiped.replayed()
        made.append((size - 1, gossiped))

    def told(gossiped: GossipReplica) -> float:
        frontier = OwnFrontier(gossiped)
        return timed(lambda: (frontier.digest(), frontier.everything()))

    digested = ((size, lambda one=one: timed(lambda: frontier_digest(one.durable_frontier()))) for size, one in made)  # type: ignore[misc]
    growth.add("digest of the frontier", "lanes", digested, LINEAR)
    growth.add("all heads told", "lanes", ((size, lambda one=one: told(one)) for size, one in made), LINEAR)  # type: ignore[misc]


def ordering(growth: Growth) -> None:
    """Orders recorded in one call, all on one reserve."""
    sizes = (50, 200, 800, 3_200) if not growth.plan.quick else (50, 200)

    def ordered(count: int) -> float:
        (desk,) = Ledger.cluster("one", assets={"USDT": 2, "BTC": 8})
        desk.record(Account(name="A"), Instrument(name="P", **PERP))
        desk.record(Deposit(id=1, account="A", asset="USDT", amount=ROOM))
        desk.record(Reserve(id=1, account="A", asset="USDT", amount=ROOM))
        terms = {"account": "A", "instrument": "P", "side": "buy", "qty": 1, "price": 100, "reserve": 1}
        orders = [Order(id=at, **terms) for at in range(count)]
        seconds = timed(lambda: desk.record(*orders))
        if len(desk.orders()) != count:
            raise Wrong("an order is missing")
        return seconds

    growth.add("orders on one reserve", "orders", ((size, lambda size=size: ordered(size)) for size in sizes), LINEAR)  # type: ignore[misc]


def restarting(growth: Growth) -> None:
    """A node that starts again, by the facts in its journal that are not settled."""
    sizes = (8_000, 40_000, 160_000, 640_000) if not growth.plan.quick else (8_000, 32_000)
    (writer,) = Ledger.cluster("one", assets={"USDT": 2})
    opening = writer.record(*names())
    record(writer, chunks(sizes[-1], 0))
    batches = list(writer.replica.batches())
    records = [encode_record(JournalRecord(KIND_BATCH, b.key, b.seq, b.hash, b.raw)) for b in batches]
    setup = Setup(writer.genesis, Identity(digest("in-process-key", b"", b"one")), "one", bytes)

    def started(facts: int) -> float:
        kept = records[: len(opening.batches) + facts // BATCH]
        cores: list[NodeCore] = []
        seconds = timed(lambda: (cores.append(NodeCore(setup, kept)), cores[0].replica.view))  # with all that it shows
        if cores[0].replica.view.facts != opening.facts + facts:
            raise Wrong("a node that starts again does not hold what its journal has")
        return seconds

    growth.add("start again", "facts", ((size, lambda size=size: started(size)) for size in sizes), LINEAR)  # type: ignore[misc]


def agreeing(growth: Growth) -> None:
    """Engines through a partition to agreement, by nodes: their frames, and the processor's time.

    A process that simulates more nodes finds less of each in its caches, which no node pays for in a process of its own. So at every size
    as many engines are simulated, in as many fleets as there is room for, and the time is that of one fleet. What a fleet alone in its
    process takes is told beside it. Python's collector of garbage is off meanwhile: it would look at all nodes again and again."""
    sizes, room = ((200, 1_000, 5_000), 5_000) if not growth.plan.quick else ((30, 120), 120)
    frames: list[tuple[float, float]] = []
    crowded: list[tuple[float, float]] = []
    alone: list[tuple[float, float]] = []
    for size in sizes:
        sent, seconds = agreed(size, room // size)
        frames.append((float(size), sent))
        crowded.append((float(size), seconds))
        alone.append((float(size), seconds if size == room else agreed(size, 1)[1]))
    growth.put("agreement through a partition", "nodes", "frames", frames, LINEAR)
    growth.put(f"agreement, {room:,} engines in the process", "nodes", "CPU s", crowded, LINEAR)
    growth.told("agreement, one fleet alone in the process", "nodes", "CPU s", alone)


def agreed(nodes: int, fleets: int) -> tuple[float, float]:
    """Frames, and seconds of the processor, that agreement takes for one of so many fleets of ``nodes`` each."""
    simulated = Engines(nodes, 7, Faults(trace_lines=0), fleets)
    gc.collect()
    gc.disable()
    begun = time.process_time()
    for _ in drill(simulated, 20, fleets=simulated.fleets):
        pass
    seconds = time.process_time() - begun
    gc.enable()
    return simulated.sim.frames_sent / fleets, seconds / fleets


def measure(plan: Plan) -> Result:
    """Every curve."""
    growth = Growth(plan)
    nodes = growingnodes.QUICK if plan.quick else growingnodes.PARTS
    for part in (joining, settling, lanes, ordering, restarting, *nodes, agreeing):
        part(growth)
    what = "Growth: every cost against what it grows with"
    return Result("growth", what, "", (), growth.goals, {"runs": growth.rounds}, curves=growth.curves)
