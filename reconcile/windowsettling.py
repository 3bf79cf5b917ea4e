"""How a height moves the window of ids: which ids it takes in, what was heard of each lane, how high the floor is now, and what goes.

Everything follows from the state and the cut's batches; no clock of whoever settles is asked. In this order:

1. A lane is known until its newest settled batch says that it was written, or until the furthest of the other nodes' clocks had come, if
   that is less. One that is closed, or that a later epoch of its node names in a settled batch's deps, is ended: nothing that is
   recorded there is waited for.
2. The floor lies a window below the least that any member which may record is known until, and below the newest settled fill. A member
   of which nothing was ever settled keeps it where it is. It never falls.
3. Ids of this height come in under the floor that it was settled by; then those of spans that are past go.

So clocks that run ahead at every node move the floor no further than venues' times, and a venue's time that is wrong moves it no further
than clocks. One clock that runs behind holds the floor back; one that runs ahead moves nothing, and does not let its node go unwaited for.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crdtledger.ledger.batch import Batch, parse_lane
from crdtledger.ledger.dedupe import Rows
from crdtledger.ledger.factkeys import Keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.genesis import NODE_ID_BYTES, Genesis
from crdtledger.ledger.idwindow import ENDED, UNHEARD, Heard, IdWindow, clock_us, low_span, spans_of
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
    keys, contents = view.settled_fills.taken(kind)
    if view.base.window is None:
        return TakenIds((keys, contents), None)
    said, recorded, by_hand = view.settled_fills.taken_at(kind)
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


def _heard(before: Mapping[bytes, Heard], ordered: Sequence[Batch], extension: Extension) -> dict[bytes, Heard]:
    said = {lane: clock_us(grown[-1].header.clock) for lane, grown in extension.grown.items()}
    newest: dict[bytes, int] = {}
    for lane, at in (*((lane, was.said_us) for lane, was in before.items()), *said.items()):
        newest[lane[:NODE_ID_BYTES]] = max(at, newest.get(lane[:NODE_ID_BYTES], 0))
    # A node's clock is believed as far as the furthest of the others' has come; where there are no others, as it is.
    first, second = heapq.nlargest(2, [(at, node) for node, at in newest.items()] + [(ENDED, b"")] * (2 - len(newest)))
    heard = dict(before)
    for lane, at in said.items():
        was, others = before.get(lane, UNHEARD), (second if first[1] == lane[:NODE_ID_BYTES] else first)[0]
        heard[lane] = Heard(max(was.said_us, at), max(was.until_us, min(at, others)))
    ended = {dep.lane for batch in ordered for dep in batch.header.deps if _takes_over(batch, dep.lane)}
    for lane in ended | extension.closed.keys():
        heard[lane] = heard.get(lane, UNHEARD)._replace(until_us=ENDED)
    return heard


def _takes_over(batch: Batch, lane: bytes) -> bool:
    """Whether ``lane`` is of an earlier epoch of the batch's node."""
    of = parse_lane(lane)
    return of.node == batch.lane.node and of.epoch < batch.lane.epoch


def _floor(genesis: Genesis, heard: Mapping[bytes, Heard], newest_us: int, window_us: int) -> int:
    """Where lanes and fills let the floor be; below every time where a member was not heard."""
    least: dict[bytes, int] = {}
    for lane, at in heard.items():
        node = lane[:NODE_ID_BYTES]
        least[node] = min(at.until_us, least.get(node, ENDED))
    return min([newest_us, *(least.get(member.id, 0) for member in genesis.recorders)]) - window_us
