"""The direction: from the command's arguments to an exit code. Impure.

It prepares the feeds, builds the stage in a temporary folder (or the one to keep), lets the performance run with a
picture or a log beside it, and passes the verdict. Interrupts and termination end the demo in good order: whatever
happens, no node process is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.live import Live

from crdtledger.edge.demo import curtain
from crdtledger.edge.demo.feeds import Feed
from crdtledger.edge.demo.market import generate
from crdtledger.edge.demo.observer import observe
from crdtledger.edge.demo.performance import Performance
from crdtledger.edge.demo.picture import Picture
from crdtledger.edge.demo.replay import read
from crdtledger.edge.demo.scene import Scene
from crdtledger.edge.demo.stage import Stage
from crdtledger.edge.demo.verdict import Verdict, judge
from crdtledger.errors import BadInput

FACTS: Final = 120_000
ACCOUNTS: Final = 12
NODES: Final = (2, 16)
MOST_FACTS: Final = 5_000_000
FRAMES_PER_S: Final = 6
INTERRUPTED: Final = 130


def direct(
    nodes: int, facts: int | None, replay: Sequence[Path], seed: int | None, format: str, keep: Path | None
) -> int:
    """See ``crdtledger.edge.demo.run``."""
    _check(nodes, facts, format, keep)
    seed = secrets.randbelow(1_000_000) if seed is None else seed
    console = Console(highlight=False)
    if replay:
        _log(f"reading {', '.join(path.name for path in replay)}")
    try:
        feeds = read(replay, ACCOUNTS, facts) if replay else generate(seed, facts or FACTS, ACCOUNTS)
        with _folder(keep) as folder:
            verdict = asyncio.run(_perform(folder, nodes, feeds, seed, console, format, keep is not None))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.stderr.write("interrupted; every node was stopped\n")
        return INTERRUPTED
    except BaseExceptionGroup as group:
        raise _first(group) from group
    if format == "json":
        sys.stdout.write(curtain.as_json(verdict) + "\n")
        sys.stdout.flush()
    else:
        curtain.show(console, verdict, str(keep) if keep else None)
    return 0 if verdict.good else 1


def _first(error: BaseException) -> BaseException:
    """The one failure that stopped everything else, out of the groups that tasks put around it."""
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _check(nodes: int, facts: int | None, format: str, keep: Path | None) -> None:
    if not NODES[0] <= nodes <= NODES[1]:
        raise BadInput(what=f"{nodes} nodes", where="--nodes", why=f"{NODES[0]} to {NODES[1]}")
    if facts is not None and not 1 <= facts <= MOST_FACTS:
        raise BadInput(what=f"{facts} facts", where="--facts", why=f"1 to {MOST_FACTS:,}")
    if format not in ("table", "json"):
        raise BadInput(what=f"format {format!r}", where="--format", why="table or json")
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise BadInput(what=str(keep), where="--keep", why="a new or an empty folder")


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="crdtledger-demo-", ignore_cleanup_errors=True) as directory:
        yield Path(directory) / "cluster"


async def _perform(
    folder: Path, nodes: int, feeds: Sequence[Feed], seed: int, console: Console, format: str, keep: bool
) -> Verdict:
    live = format == "table" and console.is_terminal and not console.is_dumb_terminal
    stage = Stage(folder, nodes, {feed.instrument.settlement for feed in feeds})
    scene = Scene(stage.names, seed, None if live else _log)
    with _orderly_end():
        try:
            async with stage, asyncio.TaskGroup() as beside:
                if live:
                    picture = Live(Picture(scene), console=console, refresh_per_second=FRAMES_PER_S, transient=True)
                    watching = [beside.create_task(observe(stage, scene)), beside.create_task(_show(picture))]
                else:
                    watching = []
                try:
                    performance = Performance(stage, feeds, seed, scene)
                    views = await performance.run()
                finally:
                    for task in watching:
                        task.cancel()
            if keep:
                await asyncio.to_thread(stage.close, signal.SIGTERM)
            return judge(performance.books, performance.record, views, stage.kills, seed, scene.elapsed_s)
        finally:
            stage.close()


async def _show(picture: Live) -> None:
    with picture:
        while True:
            await asyncio.sleep(1)


def _log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


@contextlib.contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP cancel the demo instead of ending the process before its nodes."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    cancel: Callable[[], object] = task.cancel
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, cancel)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
