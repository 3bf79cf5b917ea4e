"""Adjustments: what settlement did with recorded facts beyond counting them as they were written, each with its cause.

One adjustment stands for all facts of one batch, kind, effect and cause; it names them as runs of rows. Those of a height come in
canonical order (what concerns no batch first, then the batches as they were settled) and are bound by one root: an RFC 6962 tree
over their encodings, so that one adjustment can be shown without the others.

Effects: ``voided`` has none; ``trimmed`` has less than it says; ``deduplicated`` was counted before; ``conflict`` says otherwise under an
id that counts already; ``suspended`` waits for its definition, or stands under one that lost its name; ``counted`` had waited and counts
from now on; ``credited`` reached the account it was sent to; ``refunded`` gave back what a second recording had taken; ``expired`` is a
closed lane's reserve that is free again, or an order that ended with its lane or unrevealed; ``closed`` ends a lane.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from crdtledger.errors import InvalidProof
from crdtledger.ledger.facts import Kind

from .log import MerkleLog

Effect = Literal[
    "voided",
    "trimmed",
    "deduplicated",
    "conflict",
    "suspended",
    "counted",
    "credited",
    "refunded",
    "expired",
    "closed",
]
MAX_DETAIL: Final = 400
"""Characters of a detail; the whole story of a contradiction is among the breaks."""

OVERSPENDS: Final = "overspends"
DIVIDED: Final = "divided"
VOID_GRANT: Final = "stands on a void grant"
LANE_FORKED: Final = "lane forked"
NO_RESERVE: Final = "no such reserve"
RECORDED_BEFORE: Final = "recorded before"
OTHER_CONTENT: Final = "same id, other content"
CREDIT: Final = "credit landed"
LOST_NAME: Final = "its definition lost its name"
NO_DEFINITION: Final = "no such definition"
DEFINED_NOW: Final = "its definition stands now"
NO_ORDER: Final = "no such order"
NO_MATCH: Final = "no such match waits for its answer"
NOT_MET: Final = "its orders do not meet"
ITSELF: Final = "an account does not trade with itself"
ITS_MODE: Final = "its instrument trades the other way"
BEYOND_HOLDER: Final = "beyond what its writer holds of the order"
BEYOND_MAKER: Final = "beyond what is open of its maker"
BEYOND_TAKER: Final = "beyond what is open of its taker"
MAKERS_RESERVE: Final = "beyond the reserve of its maker"
TAKERS_RESERVE: Final = "beyond the reserve of its taker"
REDUCES_ONLY: Final = "would not only reduce"
REFUSED: Final = "its maker's home refused it"
ACCEPTED_LESS: Final = "its maker's home accepted less"
ACCEPTED: Final = "its maker's home accepted it"
HOME_CLOSED: Final = "its home is closed"
NOT_REVEALED: Final = "it does not open the order"
REVEALED_LATE: Final = "revealed too late"
ENTRIES_CLOSED: Final = "the entries of its auction are closed"
FORFEITED: Final = "not revealed in time"
"""The causes. Facts that are void by themselves have the view's reason for one (``View.void_facts``)."""


class Adjustment(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One effect on facts of one batch. ``lane`` is empty and ``seq`` 0 where no batch is meant, ``kind`` 0 where no kind is.
    ``runs``: (first row, rows), left out where the reason alone says which. ``detail`` is for people."""

    effect: Effect
    cause: str
    lane: bytes
    seq: int
    kind: int
    facts: int
    runs: tuple[tuple[int, int], ...] = ()
    detail: str = ""

    @property
    def kind_name(self) -> str:
        """The kind's name in lower case, ``""`` where no kind is meant."""
        return Kind(self.kind).name.lower() if self.kind else ""

    def rows(self) -> list[int]:
        """The rows of the batch's table that are meant."""
        return [row for first, count in self.runs for row in range(first, first + count)]

    def encode(self) -> bytes:
        """Its one encoding: a leaf of the adjustments' tree."""
        return msgspec.msgpack.encode(self)


_decoder = msgspec.msgpack.Decoder(tuple[Adjustment, ...])


def runs_of(rows: npt.NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Ascending rows as (first row, rows)."""
    if not len(rows):
        return ()
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    starts = np.concatenate(([0], breaks))
    counts = np.diff(np.concatenate((starts, [len(rows)])))
    return tuple(zip(rows[starts].tolist(), counts.tolist(), strict=True))


def adjustments_root(adjustments: Iterable[Adjustment]) -> bytes:
    """The RFC 6962 root over the adjustments' encodings, in their order."""
    log = MerkleLog()
    for adjustment in adjustments:
        log.append(adjustment.encode())
    return log.root()


def encode_adjustments(adjustments: Sequence[Adjustment]) -> bytes:
    """A height's adjustments as bytes."""
    return msgspec.msgpack.encode(tuple(adjustments))


def decode_adjustments(raw: bytes) -> tuple[Adjustment, ...]:
    """The adjustments that ``raw`` spells. Raises InvalidProof unless it is exactly what ``encode_adjustments`` writes."""
    where = "adjustments"
    try:
        adjustments = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as fault:
        raise InvalidProof(where, f"they are no adjustments: {fault}") from None
    if encode_adjustments(adjustments) != raw:
        raise InvalidProof(where, "they are not in their one encoding")
    return adjustments


def summary(adjustments: Iterable[Adjustment]) -> dict[str, int]:
    """How many facts were adjusted, by cause, sorted by that."""
    out: dict[str, int] = {}
    for adjustment in adjustments:
        out[adjustment.cause] = out.get(adjustment.cause, 0) + adjustment.facts
    return dict(sorted(out.items()))
