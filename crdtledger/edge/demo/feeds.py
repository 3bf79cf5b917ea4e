"""Feeds: one venue's trades in one instrument, as columns, and which node records which part of them when.

``deal`` cuts feeds into consignments: a node, an act of the story, and some hundred trades that are handed over in one
call. Some trades are handed over twice, at two nodes, as happens when two offices listen to one venue; one of them comes
with another quantity the second time. Pure, and deterministic; no object per trade.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from crdtledger.ledger.drafting import FillColumns
from crdtledger.ledger.facts import Instrument

SOURCES: Final = 3
"""Nodes that take real flow at the same time."""
CONSIGNMENT: Final = 400
ECHOES: Final = 60
"""Trades of a feed that a second node reports too."""
SHARES: Final = (("trade", 40), ("cut", 50), ("after", 10))
"""Percent of every feed that is recorded in each act."""


class Feed(msgspec.Struct, frozen=True, eq=False):
    """Trades of one venue in one instrument, in the order in which they happened, and what the instrument means."""

    instrument: Instrument
    fills: FillColumns


class Consignment(msgspec.Struct, frozen=True, eq=False):
    """Trades that ``node`` records in one call during ``act``. ``echo``: another node reports the same ones."""

    node: str
    act: str
    instrument: str
    fills: FillColumns
    echo: bool = False


def select(fills: FillColumns, rows: slice) -> FillColumns:
    """Some rows of the columns."""
    changes: dict[str, Any] = {
        name: getattr(fills, name)[rows] for name in ("trade_id", "price", "qty", "side", "account")
    }
    for name in ("ts_us", "fee", "fee_asset", "text_ids"):
        if (column := getattr(fills, name)) is not None:
            changes[name] = column[rows]
    return msgspec.structs.replace(fills, **changes)


def deal(feeds: Sequence[Feed], sources: Sequence[str]) -> list[Consignment]:
    """Who records what and when, in one round over the feeds; fewer feeds than ``sources`` are shared out among them."""
    parts = [feed for feed in feeds if len(feed.fills)]
    while parts and len(parts) < len(sources) and len(max(parts, key=_size).fills) > 1:
        largest = max(parts, key=_size)
        at = parts.index(largest)
        middle = len(largest.fills) // 2
        halves = (slice(None, middle), slice(middle, None))
        parts[at : at + 1] = [Feed(largest.instrument, select(largest.fills, half)) for half in halves]
    out: list[Consignment] = []
    for number, part in enumerate(parts):
        out += _consignments(part, sources[number % len(sources)])
    return out + _echoes(parts, sources)


def _size(feed: Feed) -> int:
    return len(feed.fills)


def _consignments(feed: Feed, node: str) -> list[Consignment]:
    out = []
    start, percent = 0, 0
    for act, share in SHARES:
        percent += share
        end = len(feed.fills) * percent // 100
        for first in range(start, end, CONSIGNMENT):
            fills = select(feed.fills, slice(first, min(first + CONSIGNMENT, end)))
            out.append(Consignment(node, act, feed.instrument.name, fills))
        start = end
    return out


def _echoes(parts: Sequence[Feed], sources: Sequence[str]) -> list[Consignment]:
    """The first trades of what every feed brings during the cut, reported by the next node along as well; the very
    first of the first feed with a quantity that is larger by one."""
    out: list[Consignment] = []
    if len(sources) < 2:
        return out
    for number, part in enumerate(parts):
        node = sources[(number + 1) % len(sources)]
        start = len(part.fills) * SHARES[0][1] // 100
        fills = select(part.fills, slice(start, start + ECHOES))
        if not len(fills):
            continue
        if not out:
            qty = fills.qty.copy()
            qty[0] += 1
            fills = msgspec.structs.replace(fills, qty=qty)
        out.append(Consignment(node, "cut", part.instrument.name, fills, echo=True))
    return out


def accounts_of(feeds: Sequence[Feed]) -> list[str]:
    """Every account that a feed trades for, sorted."""
    found = {feed.fills.accounts[n] for feed in feeds for n in np.unique(feed.fills.account).tolist()}
    return sorted(found)
