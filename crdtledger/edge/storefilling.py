"""Filling the store of checkpoints: heights that this node passed by, or that its store lost, come from peers' stores.

A store takes heights in order, so while it lacks some, nothing newer is handed to it: all of it is fetched, until it has caught up. What
is fetched is believed only where it is what the log here, which is certified, says: the body by its leaf hash, the adjustments by the
record's root, the certificate by its signatures. It costs heights and adjustments, never facts, and holds up nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from crdtledger.edge.certifying import Certifying
from crdtledger.edge.checkpointmessages import (
    MAX_ADJUSTMENTS_BYTES,
    MAX_SERVED,
    MAX_SERVED_BYTES,
    RecordsTell,
    Standing,
)
from crdtledger.edge.effects import Output, StoreCheckpoint
from crdtledger.errors import InvalidProof
from reconcile.adjustments import adjustments_root, decode_adjustments
from reconcile.checkpoint import decode_checkpoint
from reconcile.stores import StoredCheckpoint, stored_checkpoint

PATIENCE_US: Final = 2_000_000

Archive = Callable[[int, int], Sequence[StoredCheckpoint]]


class StoreFilling:
    """``next``: the height that the store is to take next. ``start``: the height that this node starts from."""

    def __init__(self, archive: Archive, start: int) -> None:
        self._archive = archive
        self.next = _end(archive, start) + 1
        self._asked_us = -PATIENCE_US
        self._asked = ""

    def hand_on(self, outputs: Iterable[StoreCheckpoint]) -> list[Output]:
        """Of what is to be stored, that which the store can take."""
        out: list[Output] = []
        for one in outputs:
            if one.stored.height <= self.next:
                out.append(one)
                self.next = max(self.next, one.stored.height + 1)
        return out

    def ask(self, certified: int, standings: Mapping[str, Standing], now_us: int) -> str:
        """Whom to ask for records from ``next`` on; ``""``: nobody, or not yet."""
        ahead = sorted(peer for peer, one in standings.items() if one.certified >= self.next)
        if self.next > certified or not ahead or now_us - self._asked_us < PATIENCE_US:
            return ""
        self._asked_us = now_us
        self._asked = next((peer for peer in ahead if peer > self._asked), ahead[0])
        return self._asked

    def told(self, tell: RecordsTell, certifying: Certifying, certified: int, now_us: int) -> list[Output]:
        """What the store takes of an answer, as far as it holds. Raises InvalidProof at the first record that does not: then nothing."""
        out: list[Output] = []
        height = tell.first
        if height != self.next:
            return out
        for value, adjustments, certificate in tell.records:
            if height > certified:
                break
            checkpoint = decode_checkpoint(value)
            if checkpoint.digest != certifying.log.leaf_hash_at(height - 1):
                raise InvalidProof(f"height {height}", "it is another one than the certified log has")
            if adjustments_root(decode_adjustments(adjustments)) != checkpoint.record.adjustments_root:
                raise InvalidProof(f"height {height}", "its adjustments are not those that it commits to")
            fault = certifying.fault(height, certificate)
            if fault:
                raise InvalidProof(f"height {height}", fault)
            out.append(StoreCheckpoint(stored_checkpoint(value, adjustments, certificate, now_us), 0))
            height += 1
        self.next = height
        self._asked_us = -PATIENCE_US
        return out

    def serve(self, first: int) -> RecordsTell:
        """What the store here has from ``first`` on, as much as one answer carries."""
        served: list[tuple[bytes, bytes, bytes]] = []
        size = 0
        for one in self._archive(first, MAX_SERVED):
            size += len(one.body) + len(one.adjustments) + len(one.certificate)
            if len(one.adjustments) > MAX_ADJUSTMENTS_BYTES:
                break  # no message carries them
            if one.height != first + len(served) or (served and size > MAX_SERVED_BYTES):
                break
            served.append((one.body, one.adjustments, one.certificate))
        return RecordsTell(first, tuple(served))


def _end(archive: Archive, most: int) -> int:
    """The newest height up to ``most`` that a store, which has no gap, holds."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        held = archive(middle, 1)
        low, high = (middle, high) if held and held[0].height == middle else (low, middle - 1)
    return low
