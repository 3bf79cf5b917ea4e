"""For how long the ids of settled fills and busts are remembered, where the genesis sets a window. docs/decisions/0023-id-window.md.

A settled state then has a *floor*: a time that only rises. Its rules:

- Who says that a fill happened before the floor is not believed to say something new: whether it counted already cannot be told any more.
  It counts for nothing, and is named. A fill that does not say when it happened is below every floor.
- Ids are let go of a span at a time, a ``SPANS``-th part of the window, and only when the whole span and another one lie below the
  floor: so statements of one trade whose times differ by less than a span count once.
- What is booked by hand, in the id spaces ``BY_HAND`` and ``CORRECTION``, needs no time, is below no floor, and its ids are kept for good.
- The floor never passes, less a window, what was last heard of any member that may record, nor the newest time of a settled fill; so a
  node that refuses what is older than a window by its own clock (``bound_us``) never records what turns out to lie below the floor.

How a height moves it is ``reconcile.windowsettling``'s to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.ledger.body import Body
from crdtledger.ledger.clock import COUNTER_BITS, MAX_DRIFT_MS
from crdtledger.ledger.facts import MAX_AMOUNT, Kind
from crdtledger.ledger.timedids import Spans, TimedIds

Rows = npt.NDArray[np.int64]

BY_HAND: Final = "by-hand"
"""The id space of fills and busts that somebody answers for: that they were not counted before."""
CORRECTION: Final = "correction"
"""The id space of what makes positions those of a statement. Somebody answers for that, too; it happened at no time."""
FIRST_FLOOR_US: Final = 1
"""Above the time of a fill that states none."""
SPANS: Final = 16
"""Parts of a window."""
ENDED: Final = MAX_AMOUNT
"""Until when a lane is known that is closed, or that a later epoch of its node has taken over."""


class Heard(NamedTuple):
    """What was heard of a lane: when its newest settled batch says that it was written, and until when the lane is therefore known, which
    is no later than another node's clock had come. ``ENDED``: nothing is waited for."""

    said_us: int
    until_us: int


UNHEARD: Final = Heard(0, 0)
_NOTHING: Final[Mapping[bytes, Heard]] = MappingProxyType({})


class IdWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What a settled state remembers under a window. Times are in microseconds since the Unix epoch.

    ``floor_us``: see the module. ``newest_us``: of the newest settled fill, as far as its recorder's clock had come. ``heard``: by lane.
    ``fills``, ``busts``: ids that are taken, but for those booked by hand.
    """

    floor_us: int = FIRST_FLOOR_US
    newest_us: int = 0
    heard: Mapping[bytes, Heard] = _NOTHING
    fills: TimedIds
    busts: TimedIds

    @classmethod
    def empty(cls, salt: int = 0) -> IdWindow:
        """Nothing settled yet."""
        return cls(fills=TimedIds(salt), busts=TimedIds(salt))

    def ids(self, kind: Kind) -> TimedIds:
        """The ids of fills, or of busts."""
        return self.fills if kind is Kind.FILL else self.busts

    def below(self, body: Body, kind: Kind, rows: Rows) -> Rows:
        """Which of the rows of a table of fills or busts say that they happened before the floor."""
        return older_than(self.floor_us, body, kind, rows)


def older_than(bound_us: int, body: Body, kind: Kind, rows: Rows) -> Rows:
    """Which of the rows happened before ``bound_us``, and are not booked by hand."""
    old = rows[body.tables[kind]["ts_us"][rows] < bound_us]
    return old[~booked_by_hand(body, kind, old)] if len(old) else old


def booked_by_hand(body: Body, kind: Kind, rows: Rows) -> npt.NDArray[np.bool_]:
    """Which of the rows are in an id space of what somebody answers for."""
    by_hand = np.array([scope.id_space in (BY_HAND, CORRECTION) for scope in body.scopes], np.bool_)
    booked: npt.NDArray[np.bool_] = by_hand[body.tables[kind]["scope"][rows]]
    return booked


def clock_us(clock: int) -> int:
    """The wall time in a hybrid clock's timestamp."""
    return (clock >> COUNTER_BITS) * 1_000


def spans_of(times_us: Rows, window_us: int) -> Spans:
    """The spans that these times are of."""
    spans: Spans = times_us // _span_us(window_us)
    return spans


def low_span(floor_us: int, window_us: int) -> int:
    """The first span whose ids are kept."""
    return max(0, floor_us // _span_us(window_us) - 1)


def bound_us(clock: int, now_us: int, window_us: int) -> int:
    """Older than this, a node records nothing whose wall clock says ``now_us`` and whose lane's last said ``clock``.

    That may be ahead of the wall, by what was merged of others' clocks, or by as much as the wall was wrong before: then it is not
    believed any further than others' are, nor does settlement believe it (``reconcile.windowsettling``).
    """
    return max(now_us, min(clock_us(clock), now_us + 1_000 * MAX_DRIFT_MS)) - window_us


def _span_us(window_us: int) -> int:
    return max(1, window_us // SPANS)
