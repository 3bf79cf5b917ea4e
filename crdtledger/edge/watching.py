"""Clients that wait for news: each is answered when the durable frontier is not what it has seen, or when its time is up.

Pure: the digest and the time come in, replies and timers go out. Bounded: one watcher too many is answered at once.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from crdtledger.edge import api
from gossip.effects import Effect, Reply, StartTimer

WATCH_TIMER: Final = "watch"
MAX_WATCHERS: Final = 256
MAX_WATCH_MS: Final = 60_000


class _Watcher(NamedTuple):
    request: Any
    seen: bytes
    until_us: int


class Watchers:
    """The waiting clients of one node."""

    def __init__(self) -> None:
        self._waiting: list[_Watcher] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, request: Any, watch: api.Watch, current: bytes, now_us: int) -> list[Effect]:
        """Let a client wait, or answer it if there is news already, no patience, or no room."""
        if current != watch.seen or watch.timeout_ms <= 0 or len(self._waiting) >= MAX_WATCHERS:
            return [Reply(request, api.encode_answer(current))]
        self._waiting.append(_Watcher(request, watch.seen, now_us + min(watch.timeout_ms, MAX_WATCH_MS) * 1000))
        return self._timer(now_us)

    def news(self, current: bytes, now_us: int) -> list[Effect]:
        """Answer whoever has not seen ``current``, and whoever's time is up."""
        due = [w for w in self._waiting if w.seen != current or w.until_us <= now_us]
        self._waiting = [w for w in self._waiting if w.seen == current and w.until_us > now_us]
        return [*(Reply(w.request, api.encode_answer(current)) for w in due), *self._timer(now_us)]

    def _timer(self, now_us: int) -> list[Effect]:
        if not self._waiting:
            return []
        return [StartTimer(WATCH_TIMER, min(w.until_us for w in self._waiting) - now_us)]
