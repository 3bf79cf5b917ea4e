"""How a height moves the window of ids: which ids it takes in, what was heard of each lane, how high the floor is now, and what goes.

Everything follows from the state and the cut's batches; no clock of whoever settles is asked. In this order:

1. A lane was heard when its newest settled batch says that it was written. A lane that is closed, or that a later epoch of its node
   names in a settled batch's deps, is ended: nothing that is recorded there is waited for.
2. The floor lies a window below the least of what was last heard of each member that may record, and of the newest settled fill. A
   member of which nothing was ever settled keeps it where it is. It never falls.
3. Ids of this height come in under the floor that it was settled by; then those of spans that are past go.

So clocks that run ahead at every node move the floor no further than venues' times, and a venue's time that is wrong moves it no further
than clocks. Ledger clocks are each lane's own word: one that lies low holds the floor back, and one that lies high moves nothing alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crdtledger.ledger.batch import Batch, parse_lane
from crdtledger.ledger.body import Keys
from crdtledger.ledger.dedupe import Rows
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import NODE_ID_BYTES, Genesis
from crdtledger.ledger.idwindow import ENDED, IdWindow, clock_us, low_span, spans_of
from crdtledger.ledger.seenids import Contents
from crdtledger.ledger.view import View

from .cuts import Extension


class TimedTaken(NamedTuple):
    """Ids of one kind that a height takes, and when what takes them happened; ``newest_us`` as far as clocks had come."""

    kind: Kind
    keys: Keys
    contents: Contents
    times_us: Rows
    newest_us: int


class TakenIds(NamedTuple):
    """Ids of one kind that a height takes: to be kept for good, and for a while. Without a window all are ``kept``."""

    kept: tuple[Keys, Contents]
    timed: TimedTaken | None


class Moved(NamedTuple):
    """The window after a height, and what changed in it. ``heard``: lanes; ``spans``: those that got or lost ids."""

    window: IdWindow | None
    heard: frozenset[bytes] = frozenset()
    spans: frozenset[tuple[Kind, int]] = frozenset()


def taken_ids(view: View, kind: Kind) -> TakenIds:
    """The ids that a finished settling view takes."""
    keys, contents = view.positions.taken(kind)
    if view.base.window is None:
        return TakenIds((keys, contents), None)
    said, recorded, by_hand = view.positions.taken_at(kind)
    timed = ~by_hand
    newest = int(np.minimum(said, recorded)[timed].max(initial=0))
    return TakenIds(
        ((keys[0][by_hand], keys[1][by_hand]), contents[by_hand]),
        TimedTaken(kind, (keys[0][timed], keys[1][timed]), contents[timed], said[timed], newest),
    )


def settle_window(view: View, ordered: Sequence[Batch], extension: Extension, taken: Sequence[TimedTaken]) -> Moved:
    """What becomes of the base's window."""
    before, genesis = view.base.window, view.genesis
    if before is None:
        return Moved(None)
    window_us = genesis.policies.id_window_us
    heard = _heard(before.heard, ordered, extension)
    newest = max([before.newest_us, *(ids.newest_us for ids in taken)])
    floor = max(before.floor_us, _floor(genesis, heard, newest, window_us))
    low = low_span(floor, window_us)
    spans: set[tuple[Kind, int]] = set()
    held = {Kind.FILL: before.fills, Kind.BUST: before.busts}
    for ids in taken:
        of = spans_of(ids.times_us, window_us)
        extended = held[ids.kind].extended(ids.keys, ids.contents, of)
        spans |= {(ids.kind, span) for span in [*np.unique(of).tolist(), *extended.spans(low)]}
        held[ids.kind] = extended.without(low)
    after = IdWindow(floor_us=floor, newest_us=newest, heard=heard, fills=held[Kind.FILL], busts=held[Kind.BUST])
    changed = frozenset(lane for lane, at in heard.items() if at != before.heard.get(lane))
    return Moved(after, changed, frozenset(spans))


def _heard(before: Mapping[bytes, int], ordered: Sequence[Batch], extension: Extension) -> dict[bytes, int]:
    heard = dict(before)
    for lane, grown in extension.grown.items():
        heard[lane] = max(heard.get(lane, 0), clock_us(grown[-1].header.clock))
    for batch in ordered:
        heard |= {dep.lane: ENDED for dep in batch.header.deps if _takes_over(batch, dep.lane)}
    return heard | dict.fromkeys(extension.closed, ENDED)


def _takes_over(batch: Batch, lane: bytes) -> bool:
    """Whether ``lane`` is of an earlier epoch of the batch's node."""
    of = parse_lane(lane)
    return of.node == batch.lane.node and of.epoch < batch.lane.epoch


def _floor(genesis: Genesis, heard: Mapping[bytes, int], newest_us: int, window_us: int) -> int:
    """Where lanes and fills let the floor be; below every time where a member was not heard."""
    least: dict[bytes, int] = {}
    for lane, at in heard.items():
        node = lane[:NODE_ID_BYTES]
        least[node] = min(at, least.get(node, ENDED))
    return min([newest_us, *(least.get(member.id, 0) for member in genesis.recorders)]) - window_us
