"""Reserves of this node's lane that say when they end: which are due, and when the next one will be.

Expiry is nothing but the lane's own void with local time as its reason: no other node ever infers it from a clock. A reserve that open
orders still need is kept, and looked at again a while later. Pure: time comes in, what is due goes out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from crdtledger.errors import CallerError
from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import fact_id
from crdtledger.ledger.factkeys import Keys, reserve_keys
from crdtledger.ledger.facts import MAX_TEXT, FactId, Kind, Void
from crdtledger.ledger.recorder import Recorder
from crdtledger.ledger.settledparts import Reserved
from gossip.effects import Notify

AGAIN_US: Final = 10_000_000
"""A reserve that could not be voided is looked at again so much later."""


class Expiry(NamedTuple):
    """One reserve of the lane and when it ends, in microseconds since the Unix epoch."""

    expires_us: int
    high: int
    low: int
    reserve: FactId

    @property
    def keys(self) -> Keys:
        """The reserve's identity, as the lane's rights know it."""
        return np.array([self.high], np.uint64), np.array([self.low], np.uint64)


class Expiries:
    """What is still to end."""

    def __init__(self) -> None:
        self._waiting: list[Expiry] = []

    def note(self, batch: Batch) -> None:
        """Remember the reserves of a batch of the lane that say when they end."""
        table = batch.body.tables.get(Kind.RESERVE)
        if table is None or not table["expires_us"].any():
            return
        high, low = reserve_keys(batch.body, Kind.RESERVE)
        for row in np.flatnonzero(table["expires_us"]).tolist():
            reserve = fact_id(batch.body, Kind.RESERVE, row)
            expiry = Expiry(int(table["expires_us"][row]), int(high[row]), int(low[row]), reserve)
            heapq.heappush(self._waiting, expiry)

    def note_settled(self, reserves: Mapping[tuple[int, int], Reserved]) -> None:
        """Remember the lane's reserves that a checkpoint holds open, by their keys."""
        for (high, low), reserve in reserves.items():
            if reserve.expires_us:
                heapq.heappush(self._waiting, Expiry(reserve.expires_us, high, low, reserve.id))

    def due(self, now_us: int) -> list[Expiry]:
        """Take out what has ended by ``now_us``."""
        ended = []
        while self._waiting and self._waiting[0].expires_us <= now_us:
            ended.append(heapq.heappop(self._waiting))
        return ended

    def void_ended(self, recorder: Recorder, note: Callable[[Sequence[Batch]], None], now_us: int) -> Iterator[Notify]:
        """Have what is left of each reserve that has ended voided. ``note`` takes the batches; what operators are told."""
        lane, rights = recorder.lane.key, recorder.replica.view.rights
        voided = []
        for expiry in self.due(now_us):
            if (rights.reserve(lane, expiry.keys) or (0, 0))[1] <= 0:
                continue
            void = Void(id=f"expired {expiry.reserve}"[:MAX_TEXT], reserve=expiry.reserve)
            try:
                note(recorder.record([void], now_us).batches)
                voided.append(expiry.reserve)
            except CallerError as error:
                heapq.heappush(self._waiting, expiry._replace(expires_us=now_us + AGAIN_US))
                yield Notify("reserve.kept", {"reserve": expiry.reserve, "why": str(error)})
        if voided:
            yield Notify("reserve.expired", {"reserves": voided})

    def next_us(self) -> int | None:
        """When the next one ends."""
        return self._waiting[0].expires_us if self._waiting else None
