"""``crdtledger wait``: until nodes hold exactly the same, for good."""

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


def wait(
    *targets: Annotated[str, Parameter(help="Two or more nodes: folders or addresses.")],
    settled: Annotated[bool, Parameter(help="Until they stand on the same checkpoint.")] = False,
    timeout: Annotated[float, Parameter(help="Give up after so many seconds.")] = 60.0,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Wait until the nodes' durable frontiers are equal. Exit 1 when they are not in time, and say who lacks what."""
    import asyncio

    from crdtledger.errors import BadInput

    if settled:
        why = "there are no checkpoints yet: wait without it for equal frontiers"
        raise BadInput(what="--settled", where="wait", why=why)
    if len(targets) < 2:
        raise BadInput(what="targets", where="wait", why="two or more nodes")
    if not timeout > 0:
        raise BadInput(what=str(timeout), where="--timeout", why="more than 0 seconds")
    return asyncio.run(_wait(targets, timeout, cluster, format))


class _Watched:
    """What is known of one node. ``rows`` is its durable frontier, None before it was heard."""

    def __init__(self, target: str, client: AsyncClient) -> None:
        self.target = target
        self.client = client
        self.digest: bytes | None = None
        self.rows: list[dict[str, Any]] | None = None

    @property
    def heads(self) -> dict[str, int]:
        return {row["name"]: row["seq"] for row in self.rows or ()}


async def _wait(targets: Sequence[str], timeout_s: float, cluster: Path | None, format: Any) -> int:
    import asyncio
    from contextlib import AsyncExitStack

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from crdtledger.edge.client import AsyncClient

    loop = asyncio.get_running_loop()
    began = loop.time()
    changed = asyncio.Event()
    async with AsyncExitStack() as held:
        nodes = [_Watched(t, await held.enter_async_context(AsyncClient(t, cluster, ASK_S))) for t in targets]
        screen = console(stderr=True)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("batches")
        bar = held.enter_context(Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal))
        tasks = [bar.add_task(node.target, total=None) for node in nodes]
        watchers = [asyncio.create_task(_watch(node, changed)) for node in nodes]
        try:
            async with asyncio.timeout(timeout_s):
                while len({node.digest for node in nodes}) > 1 or nodes[0].digest is None:
                    await changed.wait()
                    changed.clear()
                    _show(bar, tasks, nodes)
                    for watcher in watchers:
                        if watcher.done():
                            watcher.result()  # whatever ended it is what there is to say
        except TimeoutError:
            return _too_late(nodes, timeout_s)
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)
        batches = sum(nodes[0].heads.values())
    row = {"equal": True, "nodes": list(targets), "batches": batches, "seconds": round(loop.time() - began, 3)}
    emit_one(row, format)
    return GOOD


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


def _too_late(nodes: Sequence[_Watched], timeout_s: float) -> int:
    from crdtledger.errors import Unreachable

    for node in nodes:
        if node.digest is None:
            raise Unreachable(target=node.target, why=f"no answer within {timeout_s:g} s; is the node running?")
    union = _union(nodes)
    say(f"not equal after {timeout_s:g} s:")
    for node in nodes:
        heads = node.heads
        lacking = [
            f"{lane} {heads.get(lane, 0) + 1}-{seq}" for lane, seq in sorted(union.items()) if heads.get(lane, 0) < seq
        ]
        say(f"  {node.target} lacks {', '.join(lacking) or 'nothing'}")
    return DIFFERENT
