"""The scene: what there is to see while the demo runs. Written by the performance, read by the picture and the log.

Plain state and nothing else; who looks at it, and how often, is not its business.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

ACTS: Final = {
    "found": "A cluster is founded",
    "trade": "Everybody trades and spends",
    "cut": "The network is cut in two; both sides go on",
    "heal": "The network heals",
    "after": "Back to work, as one",
    "settle": "What is left is settled",
    "check": "Every node is held against the driver's books",
}
WORDS_KEPT: Final = 50


class NodeScene:
    """One node as it is shown, by its own word. ``lacks``: acknowledged facts, anybody's, that it has not seen yet, about.
    ``spendable``: its rights in whole USDT. ``height``: the checkpoint that it stands on; ``unsettled``: batches above it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = "starting"
        self.side = ""
        self.facts = 0
        self.lacks = 0
        self.spendable = ""
        self.height = 0
        self.unsettled = 0
        self.moves = 0
        self.refused = 0
        self.positions: dict[tuple[str, str], str] = {}


class Scene:
    """The whole picture at this moment. ``say`` adds a line to the story."""

    def __init__(self, names: list[str], seed: int, listener: Callable[[str], None] | None = None) -> None:
        self.seed = seed
        self.began = time.monotonic()
        self.act = "found"
        self.nodes = {name: NodeScene(name) for name in names}
        self.facts = 0
        self.expected = 0
        self.words: deque[str] = deque(maxlen=WORDS_KEPT)
        self.watched: list[tuple[str, str]] = []
        self._listener = listener
        self._flow: deque[tuple[float, int]] = deque([(self.began, 0)], maxlen=64)

    def enter(self, act: str) -> None:
        """The next act begins."""
        self.act = act
        self.say(ACTS[act])

    def say(self, words: str) -> None:
        """One line of the story."""
        line = f"{self.elapsed_s:5.1f} s  {words}"
        self.words.append(line)
        if self._listener is not None:
            self._listener(line)

    def count(self, facts: int) -> None:
        """So many more facts were acknowledged."""
        self.facts += facts
        now = time.monotonic()
        if now - self._flow[-1][0] > 0.1:
            self._flow.append((now, self.facts))

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> int:
        """Facts per second over the last two seconds or so."""
        now = time.monotonic()
        start, facts = next((point for point in self._flow if now - point[0] < 2.0), self._flow[-1])
        return int((self.facts - facts) / (now - start)) if now - start > 0.2 else 0
