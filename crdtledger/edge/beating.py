"""A node that may record, and does not, says now and then that it is still there: else it would hold the floor of ids for ever.

It is due when the newest settled batch of this node's lane, and the last beat, are a span of the window old, and nothing of the lane waits
to be settled: who is cut off writes one and no more. Its cursor names no import. Once this epoch is open, the batch also takes over the
lanes of earlier ones, which nothing more will come of: they would hold the floor, too. Where no window is set, nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from crdtledger.ledger.batch import MAX_DEPS, Batch, Dep
from crdtledger.ledger.body import Cursor
from crdtledger.ledger.idwindow import ENDED, SPANS, UNHEARD
from crdtledger.ledger.recorder import Recorder
from gossip.effects import StartTimer

BEAT_TIMER: Final = "beat"
STILL_HERE: Final = Cursor("still here", 0, 0)
SLOWEST_US: Final = 60_000_000
FASTEST_US: Final = 100_000


class Beating:
    """The beat of the node that writes with ``recorder``. ``note`` takes batches recorded here; ``quiet``: whether none may be."""

    def __init__(self, recorder: Recorder, note: Callable[[Sequence[Batch]], None], quiet: Callable[[], bool]) -> None:
        genesis = recorder.genesis
        window_us = genesis.policies.id_window_us
        records = recorder.lane.node in {member.id for member in genesis.recorders}
        self._recorder, self._note, self._quiet = recorder, note, quiet
        self._span_us = window_us // SPANS
        self._beaten_us = 0
        self._every_us = min(max(self._span_us // 2, FASTEST_US), SLOWEST_US) if window_us and records else 0

    def start(self) -> list[StartTimer]:
        """Call once."""
        return [StartTimer(BEAT_TIMER, FASTEST_US)] if self._every_us else []

    def timer(self, now_us: int) -> list[StartTimer]:
        """Write a beat if one is due; when to look again."""
        deps = None if self._quiet() else self._due(now_us)
        if deps is not None:
            self._beaten_us = now_us
            self._note([self._recorder.claim(deps, now_us, [STILL_HERE])])
        return [StartTimer(BEAT_TIMER, self._every_us)]

    def _due(self, now_us: int) -> Sequence[Dep] | None:
        recorder, replica = self._recorder, self._recorder.replica
        window, lane = replica.state.window, recorder.lane.key
        head, settled = replica.head(lane), replica.state.lanes.get(lane)
        if window is None or head.fork_seq or head.seq > (settled.seq if settled else 0):
            return None
        older = [
            key for key, at in window.heard.items() if key[:8] == lane[:8] and key != lane and at.until_us != ENDED
        ]
        deps = [Dep(key, replica.head(key).seq, replica.head(key).hash) for key in sorted(older)[:MAX_DEPS]]
        if recorder.locked:
            deps = []
        late = now_us - max(window.heard.get(lane, UNHEARD).said_us, self._beaten_us) >= self._span_us
        return deps if deps or late else None
