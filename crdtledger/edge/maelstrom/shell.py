"""A Maelstrom node's standard input, standard output, standard error, and clock. Impure, and thin.

Whatever stands on standard output is a message; everything else goes to standard error. The end of standard input is the end of the node.
"""

from __future__ import annotations

import heapq
import os
import select
import sys
import time
from collections.abc import Iterable

from crdtledger.edge.maelstrom.node import Complain, MaelstromNode, Output, Say
from crdtledger.edge.maelstrom.workloads import Workload

READ_BYTES = 65_536
MAX_LINE_BYTES = 8 * 1024 * 1024


class _Shell:
    def __init__(self, workload: Workload) -> None:
        self._node = MaelstromNode(workload, os.urandom)
        self._timers: list[tuple[float, int, str]] = []
        self._due: dict[str, int] = {}  # key -> the number of the wake-up that counts
        self._count = 0
        self._now_us = 0

    def run(self) -> None:
        fd = sys.stdin.fileno()
        rest = b""
        while True:
            if select.select([fd], [], [], self._pause_s())[0]:
                read = os.read(fd, READ_BYTES)
                *lines, rest = (rest + read).split(b"\n")
                if (
                    not read or len(rest) > MAX_LINE_BYTES
                ):  # an endless line is met piece by piece, and none makes sense
                    lines, rest = [*lines, rest], b""
                for line in lines:
                    if line.strip():
                        self._do(self._node.line(line, self._clock()))
                if not read:
                    return
            self._wake()
            sys.stdout.buffer.flush()

    def _clock(self) -> int:
        self._now_us = max(self._now_us, time.time_ns() // 1000)
        return self._now_us

    def _pause_s(self) -> float | None:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    def _wake(self) -> None:
        while self._timers and self._timers[0][0] <= time.monotonic():
            _, number, key = heapq.heappop(self._timers)
            if self._due.get(key) == number:
                self._do(self._node.timer(key, self._clock()))

    def _do(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            if isinstance(output, Say):
                sys.stdout.buffer.write(output.line)
            elif isinstance(output, Complain):
                sys.stderr.write(f"{output.text}\n")
                sys.stderr.flush()
            else:
                self._count += 1
                self._due[output.key] = self._count
                heapq.heappush(self._timers, (time.monotonic() + output.delay_us / 1e6, self._count, output.key))


def serve(workload: Workload) -> None:
    """Be a node until standard input ends."""
    shell = _Shell(workload)
    shell.run()
    sys.stdout.buffer.flush()
