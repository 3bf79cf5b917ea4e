"""``crdtledger wait``: until nodes hold exactly the same, for good, and with ``--settled`` until all of it is settled.

Nodes that can settle what they hold are given a moment to do so also without ``--settled``: figures say by which checkpoint they are
settled, and would otherwise differ between two nodes that are asked one after the other while a checkpoint goes round.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format, Keys
from crdtledger.edge.cli.output import console, emit_one, say

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from crdtledger.edge.client import AsyncClient

ASK_S = 2.0
RETRY_S = 0.2
MOMENT_S = 10.0
"""So long nodes that hold the same are waited for to settle it, where a quorum of validators is within reach."""


def wait(
    *targets: Annotated[str, Parameter(help="Two or more nodes: folders or addresses.")],
    settled: Annotated[bool, Parameter(help="Until all is settled, by one checkpoint.")] = False,
    timeout: Annotated[float, Parameter(help="Give up after so many seconds.")] = 60.0,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Wait until the nodes' durable frontiers and checkpoints are equal. Exit 1 when they are not in time, and say who lacks what.

    Nodes that can settle what they hold get a moment for it; with --settled nothing less will do than one certified checkpoint with
    nothing above it.
    """
    import asyncio

    from crdtledger.errors import BadInput

    if len(targets) < 2:
        raise BadInput(what="targets", where="wait", why="two or more nodes")
    if not timeout > 0:
        raise BadInput(what=str(timeout), where="--timeout", why="more than 0 seconds")
    return asyncio.run(_wait(targets, timeout, cluster, format, settled))


class _Watched:
    """What is known of one node. ``rows`` is its durable frontier, None before it was heard. When settlement is waited for:
    its ``base`` (height, digest), the newest height ``certified`` there, the ``unsettled`` batches above the base, the ``forks``
    that it has not closed, and how many members are ``connected`` to it, all as of the frontier ``settling``."""

    def __init__(self, target: str, client: AsyncClient) -> None:
        self.target = target
        self.client = client
        self.digest: bytes | None = None
        self.rows: list[dict[str, Any]] | None = None
        self.base: tuple[int, str] | None = None
        self.certified = 0
        self.unsettled = 0
        self.forks = 0
        self.connected = 0
        self.settling = ""

    @property
    def heads(self) -> dict[str, int]:
        return {row["name"]: row["seq"] for row in self.rows or ()}


async def _wait(targets: Sequence[str], timeout_s: float, cluster: Path | None, format: Any, settled: bool) -> int:
    import asyncio
    from contextlib import AsyncExitStack

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from crdtledger.edge.client import AsyncClient

    loop = asyncio.get_running_loop()
    began = loop.time()
    changed = asyncio.Event()
    async with AsyncExitStack() as held:
        nodes = [_Watched(t, await held.enter_async_context(AsyncClient(t, cluster, ASK_S))) for t in targets]
        settling = all(_settles(node) for node in nodes)
        if settled and not settling:
            _refuse_to_wait(nodes)
        screen = console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches")
        bar = held.enter_context(Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal))
        tasks = [bar.add_task(node.target, total=None) for node in nodes]
        watchers = [asyncio.create_task(_watch(node, changed)) for node in nodes]
        if settling:
            watchers += [asyncio.create_task(_watch_base(node, changed)) for node in nodes]
        equal_since = loop.time()
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    now = loop.time()
                    equal_since = equal_since if _equal(nodes) else now
                    patient = settled or (now - equal_since < MOMENT_S and _can_settle(nodes))
                    if _equal(nodes) and (not settling or _settled(nodes) or (not patient and _same_base(nodes))):
                        break
                    await changed.wait()
                    changed.clear()
                    _show(bar, tasks, nodes)
                    for watcher in watchers:
                        if watcher.done():
                            watcher.result()  # whatever ended it is what there is to say
        except TimeoutError:
            return _too_late(nodes, timeout_s, settled)
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
        batches = sum(nodes[0].heads.values())
    row = {"equal": True, "nodes": list(targets), "batches": batches, "seconds": round(loop.time() - began, 3)}
    if settling and nodes[0].base:
        row |= {"height": nodes[0].base[0], "checkpoint": nodes[0].base[1]}
    emit_one(row, format)
    return GOOD


def _settles(node: _Watched) -> bool:
    genesis = node.client.endpoint.genesis
    return genesis is not None and genesis.policies.agreement != "none"


def _refuse_to_wait(nodes: Sequence[_Watched]) -> None:
    """Raise BadInput for a node of a cluster that settles nothing: nobody should wait for that."""
    from crdtledger.errors import BadInput

    why = "this cluster's genesis has no agreement: nothing is ever settled; wait without --settled"
    target = next(node.target for node in nodes if not _settles(node))
    raise BadInput(what=target, where="wait --settled", why=why)


def _can_settle(nodes: Sequence[_Watched]) -> bool:
    """Whether some node has, as far as it goes by heads, a quorum of validators within reach; or did not say yet."""
    genesis = nodes[0].client.endpoint.genesis
    assert genesis is not None
    validators = sum("validator" in member.roles for member in genesis.nodes)
    return any(node.base is None or 3 * (node.connected + 1) > 2 * validators for node in nodes)


def _same_base(nodes: Sequence[_Watched]) -> bool:
    return nodes[0].base is not None and len({node.base for node in nodes}) == 1


def _equal(nodes: Sequence[_Watched]) -> bool:
    return nodes[0].digest is not None and len({node.digest for node in nodes}) == 1


def _settled(nodes: Sequence[_Watched]) -> bool:
    """Whether all stand on one certified checkpoint with nothing above it, and said so of the frontier that they are known to
    hold."""
    current = all(node.digest is not None and node.settling == node.digest.hex() for node in nodes)
    certified = all(node.base is not None and node.certified >= node.base[0] for node in nodes)
    return current and certified and _same_base(nodes) and not any(node.unsettled or node.forks for node in nodes)


async def _watch(node: _Watched, changed: Any) -> None:
    """Keep ``node`` up to date for ever: the node answers when its durable frontier is another. A node that is down is
    asked again until somebody loses patience."""
    import asyncio

    from crdtledger.edge import api
    from crdtledger.errors import Unreachable

    hold_ms = 10_000
    try:
        while True:
            try:
                known = node.digest or b""
                patience_s = ASK_S + (hold_ms / 1000 if known else 0)
                digest = await node.client.request(api.Watch(known, hold_ms if known else 0), patience_s)
                if digest != node.digest:
                    node.rows = await node.client.query("frontier")
                    node.digest = digest
            except Unreachable:
                node.digest = None
                await asyncio.sleep(RETRY_S)
            changed.set()
    finally:
        changed.set()


async def _watch_base(node: _Watched, changed: Any) -> None:
    """Keep the base of ``node`` up to date for ever. A checkpoint moves no frontier, so it is asked for again and again."""
    import asyncio

    from crdtledger.errors import Unreachable

    try:
        while True:
            try:
                status = await node.client.query("status")
                node.base = (status["base"]["height"], status["base"]["digest"])
                node.certified = status["checkpoints"].get("certified_height", 0)
                node.unsettled, node.settling = status["unsettled_batches"], status["frontier"]
                node.forks = status["open_forks"]
                node.connected = status["connected"]
            except Unreachable:
                node.base = None
            changed.set()
            await asyncio.sleep(RETRY_S)
    finally:
        changed.set()


def _show(bar: Progress, tasks: Sequence[TaskID], nodes: Sequence[_Watched]) -> None:
    union = _union(nodes)
    for task, node in zip(tasks, nodes, strict=True):
        bar.update(task, completed=sum(node.heads.values()), total=sum(union.values()))


def _union(nodes: Sequence[_Watched]) -> dict[str, int]:
    union: dict[str, int] = {}
    for node in nodes:
        for lane, seq in node.heads.items():
            union[lane] = max(seq, union.get(lane, 0))
    return union


def _too_late(nodes: Sequence[_Watched], timeout_s: float, settled: bool) -> int:
    from crdtledger.errors import Unreachable

    for node in nodes:
        if node.digest is None:
            raise Unreachable(target=node.target, why=f"no answer within {timeout_s:g} s; is the node running?")
    if _equal(nodes):
        say(f"equal, but not {'settled' if settled else 'on one checkpoint'} after {timeout_s:g} s:")
        for node in nodes:
            height, digest = node.base or (0, "")
            certified = "" if node.certified >= height else ", not certified"
            above = f"{node.unsettled} batches" + (f" and {node.forks} forks" if node.forks else "")
            say(f"  {node.target} stands on checkpoint {height} {digest[:12]}{certified}, {above} are above it")
        return DIFFERENT
    union = _union(nodes)
    say(f"not equal after {timeout_s:g} s:")
    for node in nodes:
        heads = node.heads
        lacking = [
            f"{lane} {heads.get(lane, 0) + 1}-{seq}" for lane, seq in sorted(union.items()) if heads.get(lane, 0) < seq
        ]
        say(f"  {node.target} lacks {', '.join(lacking) or 'nothing'}")
    return DIFFERENT
