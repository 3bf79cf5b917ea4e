"""Node processes: they end with whoever started them, and say why they did not start."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from crdtledger.edge import folders, process
from crdtledger.edge.client import AsyncClient
from tests.edge.processes import free_addresses

pytestmark = pytest.mark.processes

PARENT = """
import sys, time
from pathlib import Path
from crdtledger.edge import process
child = process.spawn(Path(sys.argv[1]))
print(child.pid, flush=True)
time.sleep(600)
"""


def test_a_node_does_not_outlive_a_parent_that_was_killed(tmp_path: Path) -> None:
    folders.found(tmp_path / "c", free_addresses(1))
    (folder,) = folders.node_folders(tmp_path / "c")
    with subprocess.Popen([sys.executable, "-c", PARENT, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        node = int(parent.stdout.readline())
        watch = os.pidfd_open(node)
        parent.kill()
    poll = select.poll()
    poll.register(watch)
    try:
        assert poll.poll(20_000), "the node ends by itself"
    finally:
        os.close(watch)
    assert '"node.stopped"' in (folder / folders.LOG).read_text()


def test_a_second_process_for_one_node_is_refused_in_one_line(tmp_path: Path) -> None:
    folders.found(tmp_path / "c", free_addresses(1))
    (folder,) = folders.node_folders(tmp_path / "c")
    with process.running(folder) as nodes:
        with pytest.raises(process.NodeNotStarted, match=f"in use by .*{nodes[folder.name].pid}"):
            process.spawn(folder)
        assert process.stop(nodes[folder.name], signal.SIGTERM) == 0


def test_whoever_got_the_number_of_a_killed_node_is_not_taken_for_it(tmp_path: Path) -> None:
    folders.found(tmp_path / "c", free_addresses(1))
    (folder,) = folders.node_folders(tmp_path / "c")
    with process.running(folder) as nodes, subprocess.Popen(["sleep", "600"]) as stranger:
        run = folders.read_run(folder)
        assert run is not None
        assert run.pid == nodes[folder.name].pid == process.kill(folder)
        assert process.stop(nodes[folder.name]) == -signal.SIGKILL
        assert (folder / folders.RUN).exists(), "it had no time to take it away"
        reused = folders.RunFile(stranger.pid, run.started_us)
        (folder / folders.RUN).write_bytes(msgspec.json.encode(reused))
        assert folders.read_run(folder) is None
        assert process.kill(folder) is None
        assert stranger.poll() is None, "it lives"
        stranger.terminate()
        nodes[folder.name] = process.spawn(folder)
        again = folders.read_run(folder)
        assert again is not None
        assert again.pid == nodes[folder.name].pid


def test_a_node_told_again_and_again_to_stop_still_ends_in_good_order(tmp_path: Path) -> None:
    folders.found(tmp_path / "c", free_addresses(1))
    (folder,) = folders.node_folders(tmp_path / "c")
    for _ in range(3):
        node = process.spawn(folder)
        while node.poll() is None:
            node.send_signal(signal.SIGTERM)
        assert process.stop(node) == 0


def test_a_request_that_is_cancelled_as_its_answer_comes_is_cancelled(tmp_path: Path) -> None:
    async def ask_for_ever(node: AsyncClient) -> None:
        while True:
            await node.query("status")

    async def cancel_at_the_answer(node: AsyncClient) -> bool:
        asking = asyncio.create_task(ask_for_ever(node))
        while not node._waiting:
            await asyncio.sleep(0)
        next(iter(node._waiting.values())).add_done_callback(lambda _: asking.cancel())
        ended, late = await asyncio.wait({asking}, timeout=2.0)
        for task in late:
            task.cancel()
        return bool(ended)

    async def all_of_it() -> list[bool]:
        async with AsyncClient(folder) as node:
            return [await cancel_at_the_answer(node) for _ in range(3)]

    folders.found(tmp_path / "c", free_addresses(1))
    folder = tmp_path / "c" / "node-1"
    with process.running(folder):
        assert asyncio.run(all_of_it()) == [True] * 3
