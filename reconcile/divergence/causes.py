"""What the evidence says a difference comes from.

The evidence between replicas is what each holds: the batches that touch a figure, who lacks them, which lanes fork, and when each peer
was last heard. A cause is read off in this order, because each one hides those below it:

1. FORK: a batch in question lies at or beyond the place where its lane forks.
2. PARTITIONED: one of the two has not been heard of for longer than ``silent_us``; since when is when it last was. What it holds is
   not known, so nothing is said of it but that.
3. IN_FLIGHT: batches are missing, and the youngest of them is within its grace. It closes by itself, when they arrive.
4. MISSING_BATCH: both are heard, the grace is over, and batches are missing, by name.
5. EXTERNAL: both hold the same batches. Nothing that travels between nodes explains it.

Against a statement: a name the ledger does not have is REFERENCE_DATA; less than a unit of the coarser side is ROUNDING; fees are FEE;
prices of marks are STALE_MARK; what a node that is not heard of may have recorded is PARTITIONED, and unknown; the rest is EXTERNAL.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from reconcile.divergence.breakrow import Cause, Status
from reconcile.divergence.compare import NULL, Difference

FEES: Final = ("fees", "fee")
MARKS: Final = ("mark", "price")


class Rules(msgspec.Struct, frozen=True):
    """``grace_us``: how long a batch may be on its way. ``silent_us``: how long a peer may say nothing; heads go round every second.
    ``mark_age_us``: how old a mark may be, against now and against the newest of its instrument."""

    grace_us: int = 10_000_000
    silent_us: int = 5_000_000
    mark_age_us: int = 300_000_000


class Holder(msgspec.Struct, frozen=True):
    """What a node holds, as far as the observer knows. ``heads``: lane's name -> seq. ``heard_us``: when it last said so, None for the
    observer itself, 0 for never. ``silences``: (from, to) of the spells, now over, in which the observer heard nothing of it."""

    node: str
    heads: Mapping[str, int] = {}
    heard_us: int | None = None
    connected: bool = True
    silences: tuple[tuple[int, int], ...] = ()

    def silent(self, now_us: int, rules: Rules) -> bool:
        """Whether it must be taken for cut off."""
        return self.heard_us is not None and (not self.connected or now_us - self.heard_us > rules.silent_us)


class Touch(msgspec.Struct, frozen=True, order=True):
    """A batch that a figure rests on: ``lane#seq``, who recorded it and when."""

    lane: str
    seq: int
    node: str
    recorded_us: int

    @property
    def name(self) -> str:
        """Its name."""
        return f"{self.lane}#{self.seq}"


class Found(NamedTuple):
    """A cause and what shows it. ``first_us``: since when, 0 where nothing says so."""

    cause: Cause
    status: Status
    why: str
    missing: tuple[str, ...] = ()
    first_us: int = 0
    root: str = ""


def between(
    a: Holder, b: Holder, touches: Iterable[Touch], forks: Mapping[str, int], now_us: int, rules: Rules
) -> Found:
    """Why two replicas differ in a figure that rests on ``touches``. ``forks``: lane's name -> where it forks."""
    lacking = [(t, holder) for t in sorted(touches) for holder in (a, b) if t.seq > holder.heads.get(t.lane, 0)]
    forked = [t for t, _ in lacking if 0 < forks.get(t.lane, 0) <= t.seq]
    missing = tuple(f"{touch.name} at {holder.node}" for touch, holder in lacking) or gaps(a, b)
    first_us = min((touch.recorded_us for touch, _ in lacking), default=0)
    if forked:
        lane = forked[0].lane
        why = f"lane {lane} forks at {forks[lane]}"
        return Found(Cause.FORK, "break", why, missing, first_us, f"fork {lane}")
    for holder in (a, b):
        if holder.silent(now_us, rules):
            return _unheard(holder, missing)
    if missing:
        young = bool(lacking) and now_us - max(touch.recorded_us for touch, _ in lacking) <= rules.grace_us
        if young:
            return Found(Cause.IN_FLIGHT, "in grace", "batches are on their way", missing, first_us, "in flight")
        holders = ", ".join(sorted({name.rpartition(" at ")[2] for name in missing}))
        why = f"{holders} is heard and still lacks {len(missing)} of the batches"
        return Found(Cause.MISSING_BATCH, "break", why, missing, first_us, f"missing at {holders}")
    why = "both hold the same batches and show different figures: save both replicas and report it"
    return Found(Cause.EXTERNAL, "break", why)


def _unheard(holder: Holder, missing: tuple[str, ...]) -> Found:
    why = f"{holder.node} has not been heard of" + ("" if holder.heard_us else " at all")
    return Found(Cause.PARTITIONED, "break", why, missing, holder.heard_us or 0, PARTITION)


PARTITION: Final = "partition"
"""All that is cut off is one problem: from one side it cannot be told how many cuts there are."""


def gaps(a: Holder, b: Holder) -> tuple[str, ...]:
    """Batches that one of two lacks, as ``lane#first-last at node``."""
    out = []
    for lane in sorted({*a.heads, *b.heads}):
        one, other = a.heads.get(lane, 0), b.heads.get(lane, 0)
        if one != other:
            first, last = min(one, other) + 1, max(one, other)
            span = f"{first}-{last}" if first < last else str(first)
            out.append(f"{lane}#{span} at {(a if one < other else b).node}")
    return tuple(out)


def against_statement(
    difference: Difference,
    known: bool,
    unheard: Sequence[str],
    behind: Sequence[str],
) -> Found:
    """Why the ledger and a statement differ. ``known``: whether the ledger has the account and the instrument. ``unheard``: nodes that
    may have recorded what is not here. ``behind``: batches that peers have told of and that are not here."""
    if difference.type == NULL:
        return Found(Cause.EXTERNAL, "noted", "flat on one side, without activity on the other")
    if not known:
        why = "the ledger has no such account or instrument"
        return Found(Cause.REFERENCE_DATA, "break", why, root=f"unknown {difference.account} {difference.subject}")
    if difference.field in MARKS:
        return Found(Cause.STALE_MARK, "break", "the statement marks it at another price")
    if difference.rounding:
        return Found(Cause.ROUNDING, "break", "less than a unit in the last place of the coarser side")
    if difference.field in FEES and not difference.also:
        return Found(Cause.FEE, "break", "quantities agree, fees do not")
    if behind:
        return Found(
            Cause.MISSING_BATCH, "break", "peers tell of batches that are not here", tuple(behind), 0, "behind"
        )
    if unheard and lacks_more(difference):
        why = f"{', '.join(unheard)} has not been heard of, and may have recorded it"
        return Found(Cause.PARTITIONED, "unknown", why, root=PARTITION)
    return Found(Cause.EXTERNAL, "break", "the ledger holds everything its nodes told of, and the statement differs")


def lacks_more(difference: Difference) -> bool:
    """Whether the statement may hold something that the ledger does not: then a node that is not heard of may explain it."""
    return difference.values[0] is None or difference.type != "missing"


CAUSE_OF_FINDING: Final[Mapping[str, Cause]] = {
    "conflict": Cause.DUPLICATE_ID_CONFLICT,
    "bust": Cause.DUPLICATE_ID_CONFLICT,
    "void_batch": Cause.RIGHTS_OVERSPENT,
    "overdraft": Cause.RIGHTS_OVERSPENT,
    "void_fact": Cause.REFERENCE_DATA,
    "suspended": Cause.REFERENCE_DATA,
    "definitions": Cause.REFERENCE_DATA,
    "fork": Cause.FORK,
}
"""What the ledger itself names as a break, by ``ledger.breaks.Break.type``."""


class MarkTold(NamedTuple):
    """One mark: an integer at the instrument's price decimals; None when its definition is not known."""

    instrument: str
    source: str
    price: int | None
    ts_us: int
    sequence: int = 0


def newest_marks(marks: Iterable[MarkTold], now_us: int, rules: Rules) -> dict[str, MarkTold]:
    """The newest mark of each instrument. One from the future is none: whoever's clock runs ahead would make all others stale."""
    newest: dict[str, MarkTold] = {}
    for mark in marks:
        best = newest.get(mark.instrument)
        later = best is None or (mark.ts_us, mark.sequence, mark.source) > (best.ts_us, best.sequence, best.source)
        if later and mark.ts_us <= now_us + rules.mark_age_us:
            newest[mark.instrument] = mark
    return newest


def stale_marks(marks: Sequence[MarkTold], now_us: int, rules: Rules) -> list[tuple[MarkTold, MarkTold | None, str]]:
    """Marks that are too old, or from the future, each with the newest fresh one of its instrument (None if there is none), and why."""
    newest = newest_marks(marks, now_us, rules)
    out: list[tuple[MarkTold, MarkTold | None, str]] = []
    for mark in marks:
        best = newest.get(mark.instrument)
        fresh = best if best is not None and now_us - best.ts_us <= rules.mark_age_us else None
        if mark.ts_us > now_us + rules.mark_age_us:
            out.append((mark, fresh, f"{(mark.ts_us - now_us) // 1_000_000} s ahead of the time: its clock is wrong"))
        elif best is not None and best.ts_us - mark.ts_us > rules.mark_age_us:
            behind = (best.ts_us - mark.ts_us) // 1_000_000
            out.append((mark, best, f"{behind} s older than the mark of {best.source}"))
        elif now_us - mark.ts_us > rules.mark_age_us:
            out.append((mark, None, f"{(now_us - mark.ts_us) // 1_000_000} s old, and no source has a newer one"))
    return out
