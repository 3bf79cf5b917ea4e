"""Many runs: seeds spread over the cores of this machine, or over a Ray cluster (``rayed``), their outcomes in order of seed.

A run is a pure function of scenario and seed, so where it ran makes no difference, and a failing one is told by its seed alone. A
worker that dies takes only its seed with it: the outcome says so.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice

import msgspec

from crdtledger.edge.simulate.run import Outcome, run
from crdtledger.edge.simulate.scenario import Scenario

Job = tuple[Scenario, int]


class Campaign(msgspec.Struct):
    """What came of a campaign so far."""

    runs: int = 0
    facts: int = 0
    heights: int = 0
    frames: int = 0
    simulated_s: int = 0
    events: dict[str, int] = {}
    failed: list[Outcome] = []

    def count(self, outcome: Outcome) -> None:
        """Add one outcome."""
        self.runs += 1
        self.facts += outcome.facts
        self.heights += outcome.height
        self.frames += outcome.frames
        self.simulated_s += outcome.at_us // 1_000_000
        for kind, times in outcome.events.items():
            self.events[kind] = self.events.get(kind, 0) + times
        if not outcome.ok:
            self.failed.append(outcome)


def run_job(job: Job) -> Outcome:
    """One run, slim enough to travel: of a good one only the figures are of interest."""
    outcome = run(*job)
    return msgspec.structs.replace(outcome, story=(), lines=()) if outcome.ok else outcome


def here(jobs: Iterable[Job], workers: int | None = None) -> Iterator[Outcome]:
    """Run ``jobs`` on ``workers`` processes (default: one a core); outcomes in the order of the jobs."""
    workers = workers or os.cpu_count() or 1
    pending = iter(jobs)
    if workers == 1:
        yield from map(run_job, pending)
        return
    context = multiprocessing.get_context("spawn")
    queue: list[tuple[Job, Future[Outcome]]] = []
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        while True:
            more = islice(pending, 2 * workers - len(queue))
            queue.extend((job, pool.submit(run_job, job)) for job in more)
            if not queue:
                return
            job, future = queue.pop(0)
            try:
                yield future.result()
            except BrokenProcessPool:
                # Nobody knows whose run killed the pool: each that was under way gets a process of its own.
                pool.shutdown(wait=False, cancel_futures=True)
                again = [job, *(other for other, _ in queue)]
                queue.clear()
                for one in again:
                    yield _alone(one, context)
                pool = ProcessPoolExecutor(workers, mp_context=context)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(job: Job, context: multiprocessing.context.SpawnContext) -> Outcome:
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(run_job, job).result()
        except BrokenProcessPool:
            return died(job)


def died(job: Job) -> Outcome:
    """The outcome of a run whose process was killed (for want of memory, perhaps)."""
    scenario, seed = job
    detail = "the process of this run died: see what the system says of it (memory?)"
    return Outcome(ok=False, seed=seed, scenario=scenario, digest="", at_us=0, invariant="no exception", detail=detail)


Runner = Callable[[Iterable[Job]], Iterator[Outcome]]
"""Where runs take place."""
