"""Runs of a campaign on a Ray cluster: the same jobs, the same outcomes in the same order as ``campaign.here`` gives.

    for outcome in on_ray("local")(jobs): ...

Rules.

* A run is told by its scenario and its seed, so a task carries nothing else, and may be tried again elsewhere when its machine dies.
* The code of this process is what runs: on a cluster it travels with the job, so that a seed and a commit name a run there, too. What
  it needs (the project's dependencies, the same Python) has to be installed there.
* At most two jobs for each processor of the cluster are under way: a campaign of any length needs little memory here.

What it is not: needed. One machine is used by ``campaign.here``, without Ray.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from crdtledger.edge.simulate.campaign import Job, Runner, died, run_job
from crdtledger.edge.simulate.run import Outcome
from crdtledger.errors import BadInput, Unreachable

LOCAL: Final = "local"
AHEAD: Final = 2
WAIT_S: Final = 5.0


def on_ray(address: str) -> Runner:
    """Where runs take place: a Ray cluster at ``address`` (``HOST:PORT``, ``ray://HOST:PORT``, ``auto``), or one that is started on this
    machine for as long as the campaign goes on (``local``). ``BadInput`` without Ray; ``Unreachable``, once it runs, without a cluster.
    """
    try:
        import ray
    except ImportError:
        why = "Ray is not installed; install it with: pip install 'crdtledger[ray]'"
        raise BadInput(what=f"--ray {address}", where="simulate", why=why) from None
    return lambda jobs: _spread(ray, address, jobs)


def _spread(ray: Any, address: str, jobs: Iterable[Job]) -> Iterator[Outcome]:
    _join(ray, address)
    lost = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
    try:
        task = ray.remote(run_job)
        most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        pending = iter(jobs)
        under_way: deque[tuple[Job, Any]] = deque()
        while True:
            under_way.extend((job, task.remote(job)) for job in islice(pending, most - len(under_way)))
            if not under_way:
                return
            job, reference = under_way.popleft()
            try:
                yield ray.get(reference)
            except lost:
                yield died(job)
    finally:
        ray.shutdown()


def _join(ray: Any, address: str) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    _knock(address)
    import crdtledger
    import gossip
    import reconcile

    try:
        ray.init(address=address, runtime_env={"py_modules": [crdtledger, gossip, reconcile]}, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RpcError) as error:
        raise _nobody(address, error) from None


def _knock(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        return  # ``auto``, or something that Ray has its own words for
    try:
        socket.create_connection((host, int(port)), WAIT_S).close()
    except (OSError, OverflowError) as error:
        raise _nobody(address, error) from None


def _nobody(address: str, error: Exception) -> Unreachable:
    return Unreachable(target=address, why=f"no Ray cluster answers: {(str(error).splitlines() or [''])[0]}")
