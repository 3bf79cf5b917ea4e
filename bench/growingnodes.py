"""What the costs of whole nodes, of their memory and of an import grow with: a part of ``bench.growth``, which says what a slope is.

Each takes seconds, so nodes are few and sizes small; the benches that are named after these costs measure them in full. A node that has
just begun pays once for what every size needs, so that slopes are rather below 1 than at it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import numpy as np

from bench import importing, memory, nodes
from bench.catchup import Missed
from bench.certified import Market, height, settled
from bench.curves import HELD, LINEAR, Growth
from bench.heal import heal, shares
from bench.join import ACCOUNTS, NAMES, chunks, fills_of
from bench.measured import Wrong
from crdtledger.edge.importing import Plan as Import
from crdtledger.edge.importing import import_trades
from crdtledger.ledger.genesis import Policies

LONE = 60
"""Facts of which the median latency is taken."""
ROOM_MS = 1_500
"""Between heights: what is recorded at once after one is all in the next."""


def reaching(growth: Growth) -> None:
    """Facts recorded at one node until the other one has them for good and shows them."""
    sizes = (50_000, 100_000, 200_000, 400_000) if not growth.plan.quick else (4_000, 16_000)
    with nodes.cluster(2) as it:
        it.start(1, 2)
        with it.client(1) as a, it.client(2) as b:
            nodes.define(a)
            nodes.wait_for(b, nodes.held(a))
            b.query(
                "positions", account=NAMES[0]
            )  # somebody looks at it, so that it keeps its figures up with every batch
            told, all_of_it = 0, []

            def reached(facts: int) -> float:
                nonlocal told
                work = chunks(facts, told)
                told += facts
                all_of_it.extend(work)
                begun = time.perf_counter()
                nodes.record(a, work)
                nodes.wait_for(b, nodes.held(a))
                b.query("positions", account=NAMES[0])
                return time.perf_counter() - begun

            growth.add("end to end", "facts", ((size, lambda size=size: reached(size)) for size in sizes), LINEAR)  # type: ignore[misc]
            nodes.check_positions(b, all_of_it)


def acknowledged(growth: Growth) -> None:
    """One fact after another, each until it is durable, at a node that holds more and more."""
    sizes = (10_000, 40_000, 160_000, 640_000) if not growth.plan.quick else (4_000, 16_000)
    ids = count(1 << 40)
    with nodes.cluster(1) as it:
        it.start(1)
        with it.client(1) as one:
            nodes.define(one)

            def lone() -> float:
                fills = fills_of(0, np.array([next(ids)], np.uint64))
                begun = time.perf_counter()
                nodes.record(one, [fills])
                return time.perf_counter() - begun

            def points() -> Iterator[tuple[float, float]]:
                held = 0
                for size in sizes:
                    nodes.record(one, chunks(size - held, held))
                    held = size
                    one.query("positions", account=NAMES[0])  # everything is folded before the clock runs
                    yield float(size), median(lone() for _ in range(LONE))

            growth.put("one fact acknowledged", "facts held", "s", tuple(points()), HELD)


def missing(growth: Growth) -> None:
    """What a node missed, by tails."""

    def points() -> Iterator[tuple[float, float]]:
        for size in (25_000, 50_000, 100_000, 200_000):
            with nodes.cluster(2) as it:
                missed = Missed(it, chunks(size, 0))
                yield float(size), median(missed.catch_up() for _ in range(growth.rounds))

    growth.put("catch-up by tails", "facts", "s", tuple(points()), LINEAR)


def healing(growth: Growth) -> None:
    """Eight nodes after a partition, by what each half recorded, from which the wait for heads is not taken off."""
    points = tuple((float(size), heal(shares(size, 500)).seconds) for size in (5_000, 10_000, 20_000, 40_000))
    growth.put("agreement of eight nodes after a heal", "facts a side", "s", points, LINEAR)


def certifying(growth: Growth) -> None:
    """A height of 1,000 changes, until all validators hold its certificate: the cores of one machine settle it for each of them."""
    sizes, instruments = (2, 4, 6, 8), 5
    policies = Policies(agreement="tendermint", checkpoint_interval_ms=ROOM_MS)

    def points() -> Iterator[tuple[float, float]]:
        for size in sizes:
            market = Market(instruments)
            with nodes.cluster(size, policies) as it:
                it.start(*range(1, size + 1))
                clients = [it.client(number) for number in range(1, size + 1)]
                nodes.define(clients[0], instruments)
                facts = ACCOUNTS + instruments + nodes.record(clients[0], market.opening())
                settled(clients, facts)
                took: list[float] = []
                for _ in range(growth.rounds):
                    told = partial(nodes.record, clients[0], market.changes(200 * instruments))
                    seconds, _, facts = height(clients, told, facts)
                    took.append(seconds)
                for client in clients:
                    client.close()
                yield float(size), median(took)

    growth.put(f"a height of {200 * instruments:,} changes certified", "validators", "s", tuple(points()), LINEAR)


def reading(growth: Growth) -> None:
    """A capture of ever more lines, from file to recorded fills, into one node."""
    sizes = (6_250, 12_500, 25_000, 50_000) if not growth.plan.quick else (2_500, 5_000)

    def points() -> Iterator[tuple[float, float]]:
        for lines in sizes:
            with importing.made(lines) as folder:
                (path,) = folder.iterdir()
                of = importing.capture(path)
                plan = Import(file=path, format="binance-stream", instrument=of.instrument.name, accounts=ACCOUNTS)
                yield float(lines), median(_imported(plan, of) for _ in range(growth.rounds))

    growth.put("import of a capture", "lines", "s", tuple(points()), LINEAR)


def _imported(plan: Import, of: importing.Capture) -> float:
    with nodes.cluster(1) as it:
        it.start(1)
        with it.client(1) as one:
            one.record([{"kind": "instrument", **msgspec.to_builtins(of.instrument)}])
            begun = time.perf_counter()
            import_trades(one, plan)
            rows = one.query("positions")
            seconds = time.perf_counter() - begun
    if sum(row["fills"] for row in rows) != of.fills:
        raise Wrong(f"{of.fills} fills are in a capture, others were imported")
    return seconds


def weighing(growth: Growth) -> None:
    """What unsettled facts of 1,000 cells, and the cells of a settled state that was loaded, take in memory."""
    sizes = (25_000, 50_000, 100_000, 200_000) if not growth.plan.quick else (8_000, 32_000)
    facts = [(float(size), float(memory.told_by(f"held_by('view', {size}, False)")[0])) for size in sizes]
    growth.put("memory of a view of 1,000 cells", "facts", "bytes", facts, LINEAR)
    with TemporaryDirectory() as folder:
        cells = [memory.fresh("state", size, wide=True, folder=Path(folder)) for size in sizes]
    growth.put("memory of a settled state", "cells", "bytes", [(float(each), float(b)) for b, each in cells], LINEAR)


QUICK: Final = (reaching, acknowledged, reading, weighing)
PARTS: Final = (*QUICK, missing, healing, certifying)
"""The last three start many nodes, and what they measure is seen to be right by benches of their own."""
