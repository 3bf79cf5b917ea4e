"""Filling the store of checkpoints: heights that this node passed by, or that its store lost, come from peers' stores.

A store takes heights in order, so while it lacks some, nothing newer is handed to it: all of it is fetched, until it has caught up. What
is fetched is believed only where it is what the log here, which is certified, says: the body by its leaf hash, the adjustments by the
record's root, the certificate by its signatures. It costs heights and adjustments, never facts, and holds up nothing else.

Adjustments too long for one answer come in parts, all from one peer: only the whole can be judged, and nobody is to answer for another's.
What a peer is asked for may be read from disk again for each part, so whoever serves keeps the last long one for a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from crdtledger.edge.certifying import Certifying
from crdtledger.edge.checkpointmessages import (
    MAX_ADJUSTMENTS_BYTES,
    MAX_PARTED_BYTES,
    MAX_SERVED,
    MAX_SERVED_BYTES,
    RecordsTell,
    Standing,
)
from crdtledger.edge.effects import Output, StoreCheckpoint
from crdtledger.edge.setup import Archive
from crdtledger.errors import InvalidProof
from reconcile.adjustments import adjustments_root, decode_adjustments
from reconcile.checkpoint import decode_checkpoint
from reconcile.stores import StoredCheckpoint, stored_checkpoint

PATIENCE_US: Final = 2_000_000


class StoreFilling:
    """``next``: the height that the store is to take next. ``start``: the height that this node starts from."""

    def __init__(self, archive: Archive, start: int) -> None:
        self._archive = archive
        self.next = _end(archive, start) + 1
        self._asked_us = -PATIENCE_US
        self._asked = ""
        self._goes_on = False  # whoever was asked answered with a part, and is asked for the next one
        self._parts = bytearray()
        self._long: tuple[StoredCheckpoint, int] | None = None  # served in parts; last at

    @property
    def held(self) -> int:
        """How many bytes of the next height's adjustments are here, while they come in parts."""
        return len(self._parts)

    def hand_on(self, outputs: Iterable[StoreCheckpoint]) -> list[Output]:
        """Of what is to be stored, that which the store can take."""
        out: list[Output] = []
        for one in outputs:
            if one.stored.height <= self.next:
                out.append(one)
                self._move(max(self.next, one.stored.height + 1))
        return out

    def ask(self, certified: int, standings: Mapping[str, Standing], now_us: int) -> str:
        """Whom to ask for records from ``next`` on, behind ``held`` bytes; ``""``: nobody, or not yet."""
        if self._long and now_us - self._long[1] >= PATIENCE_US:
            self._long = None
        ahead = sorted(peer for peer, one in standings.items() if one.certified >= self.next)
        if self.next > certified or not ahead or now_us - self._asked_us < PATIENCE_US:
            return ""
        self._asked_us = now_us
        if not (self._goes_on and self._asked in ahead):
            self._parts.clear()
            self._asked = next((peer for peer in ahead if peer > self._asked), ahead[0])
        self._goes_on = False
        return self._asked

    def told(self, peer: str, tell: RecordsTell, certifying: Certifying, certified: int, now_us: int) -> list[Output]:
        """What the store takes of an answer, as far as it holds. Raises InvalidProof at the first record that does not: then nothing."""
        out: list[Output] = []
        height = tell.first
        if height != self.next:
            return out
        for value, told, certificate in tell.records:
            if height > certified:
                break
            checkpoint = decode_checkpoint(value)
            if checkpoint.digest != certifying.log.leaf_hash_at(height - 1):
                raise InvalidProof(f"height {height}", "it is another one than the certified log has")
            adjustments = self._joined(peer, told, tell) if tell.whole else told
            if adjustments is None:
                return out
            if adjustments_root(decode_adjustments(adjustments)) != checkpoint.record.adjustments_root:
                raise InvalidProof(f"height {height}", "its adjustments are not those that it commits to")
            fault = certifying.fault(height, certificate)
            if fault:
                raise InvalidProof(f"height {height}", fault)
            out.append(StoreCheckpoint(stored_checkpoint(value, adjustments, certificate, now_us), 0))
            height += 1
        self._move(height)
        self._asked_us = -PATIENCE_US
        return out

    def _move(self, height: int) -> None:
        if height != self.next:
            self._parts.clear()
        self.next = height

    def _joined(self, peer: str, part: bytes, tell: RecordsTell) -> bytes | None:
        """The adjustments of which ``part`` was the last one; None while others are to come. Raises InvalidProof for what is no part."""
        if peer != self._asked or tell.held != self.held:
            return None  # asked for long ago
        if len(tell.records) != 1 or not part or self.held + len(part) > tell.whole:
            self._parts.clear()
            raise InvalidProof(
                f"height {tell.first}", f"{len(part)} bytes behind {tell.held} are no part of {tell.whole}"
            )
        self._parts += part
        if self.held < tell.whole:
            self._goes_on, self._asked_us = True, -PATIENCE_US
            return None
        whole = bytes(self._parts)
        self._parts.clear()
        return whole

    def serve(self, first: int, held: int, now_us: int) -> RecordsTell:
        """What the store here has from ``first`` on, as much as one answer carries; of a long one the part behind ``held`` bytes."""
        served: list[tuple[bytes, bytes, bytes]] = []
        size = 0
        for height in range(first, first + MAX_SERVED):
            one = self._long[0] if self._long and self._long[0].height == height else self._archive(height)
            if one is None:
                break
            whole = len(one.adjustments)
            if whole > MAX_ADJUSTMENTS_BYTES:
                if served or not held < whole <= MAX_PARTED_BYTES:
                    break
                self._long = (one, now_us)
                part = one.adjustments[held : held + MAX_ADJUSTMENTS_BYTES]
                return RecordsTell(first, ((one.body, part, one.certificate),), held, whole)
            size += len(one.body) + whole + len(one.certificate)
            if held or (served and size > MAX_SERVED_BYTES):
                break
            served.append((one.body, one.adjustments, one.certificate))
        return RecordsTell(first, tuple(served))


def _end(archive: Archive, most: int) -> int:
    """The newest height up to ``most`` that a store, which has no gap, holds."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if archive(middle) else (low, middle - 1)
    return low
