"""The row that an operator reads: one difference, its cause, what it puts at risk and what would close it.

The id is a digest of what the row is about (account, instrument, field, sources) and of nothing that moves, so the same break has the
same id tomorrow and at another node, and what people write about it finds it again.

A value of None is *unknown*: it was not told, which is neither zero nor flat. ``status``: ``break`` (outlived its grace), ``in grace``
(still in flight), ``unknown`` (one side cannot be seen), ``noted`` (nothing to do: an account that one side lists as flat and the
other does not list).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, Final, Literal, TypeAlias

import msgspec

from crdtledger.ledger.identity import digest

Scope: TypeAlias = Literal[
    "replica/replica", "replica/checkpoint", "ledger/venue", "ledger/custodian", "three-way", "ledger"
]
Status: TypeAlias = Literal["break", "in grace", "unknown", "noted"]
Severity: TypeAlias = Literal["critical", "high", "medium", "low", "info"]


class Cause(enum.StrEnum):
    """Why two views differ. Each has its page in docs/how-to/on-duty.md."""

    IN_FLIGHT = "IN_FLIGHT"
    PARTITIONED = "PARTITIONED"
    MISSING_BATCH = "MISSING_BATCH"
    DUPLICATE_ID_CONFLICT = "DUPLICATE_ID_CONFLICT"
    RIGHTS_OVERSPENT = "RIGHTS_OVERSPENT"
    STALE_MARK = "STALE_MARK"
    FEE = "FEE"
    ROUNDING = "ROUNDING"
    REFERENCE_DATA = "REFERENCE_DATA"
    FORK = "FORK"
    EXTERNAL = "EXTERNAL"


SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low", "info")
STATUSES: Final[tuple[Status, ...]] = ("break", "unknown", "in grace", "noted")

_SEVERITY: Final[Mapping[Cause, Severity]] = {
    Cause.FORK: "critical",
    Cause.RIGHTS_OVERSPENT: "critical",
    Cause.PARTITIONED: "high",
    Cause.DUPLICATE_ID_CONFLICT: "high",
    Cause.EXTERNAL: "high",
    Cause.MISSING_BATCH: "medium",
    Cause.REFERENCE_DATA: "medium",
    Cause.STALE_MARK: "medium",
    Cause.FEE: "medium",
    Cause.ROUNDING: "low",
    Cause.IN_FLIGHT: "info",
}

AGES: Final = (("<1m", 60), ("<1h", 3_600), ("<1d", 86_400), ("1-2d", 172_800))
OLDEST: Final = ">2d"
NO_TIME: Final = "unknown"


class Correction(msgspec.Struct, frozen=True):
    """What would close a break. ``facts``: as ``crdtledger record`` takes them, recorded together; none when no fact can. ``action``:
    what to do, in words."""

    action: str
    facts: tuple[Mapping[str, Any], ...] = ()


class AtRisk(msgspec.Struct, frozen=True):
    """What a difference is worth by the newest mark: decimal text of an asset."""

    amount: str
    asset: str


class Handling(msgspec.Struct, frozen=True):
    """What people wrote about a break: who looks after it, how it ended, where it stands, and the newest comment."""

    owner: str = ""
    resolution: str = ""
    progress: str = ""
    comment: str = ""


class BreakRow(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. ``a``, ``b``, ``c``: what each of ``sources`` says, as exact text. ``difference``: a less b, or less c where a and
    b agree. ``missing``: batches by name (``lane#first-last``) and who lacks them. ``first_height``: the checkpoint that settled what it
    rests on, 0 while none has. ``root``: rows of one root are one problem. ``also``: further fields of the record that differ.
    ``owner``, ``progress``, ``resolution`` and ``comment`` are what the board says.
    ``commands``: what shows the cause, nearest first."""

    id: str
    scope: Scope
    account: str
    instrument: str
    field: str
    sources: tuple[str, ...]
    a: str | None = None
    b: str | None = None
    c: str | None = None
    difference: str | None = None
    tolerance: str = "0"
    type: str = "value"
    status: Status = "break"
    severity: Severity = "medium"
    cause: Cause = Cause.EXTERNAL
    why: str = ""
    missing: tuple[str, ...] = ()
    first_seen_us: int = 0
    first_height: int = 0
    last_seen_us: int = 0
    age: str = NO_TIME
    owner: str = ""
    progress: str = ""
    correction: Correction = Correction("")
    resolution: str = ""
    comment: str = ""
    at_risk: AtRisk | None = None
    root: str = ""
    also: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


def break_id(account: str, instrument: str, field: str, sources: Iterable[str]) -> str:
    """16 hex digits that name a break wherever and whenever it is found."""
    return digest("break", msgspec.msgpack.encode((account, instrument, field, tuple(sources)))).hex()[:16]


def age_bucket(first_us: int, now_us: int) -> str:
    """In which bucket of ``AGES`` a break that began at ``first_us`` stands; ``unknown`` without a time."""
    if not first_us:
        return NO_TIME
    seconds = max(0, now_us - first_us) // 1_000_000
    return next((name for name, limit in AGES if seconds < limit), OLDEST)


def severity_of(cause: Cause, status: Status) -> Severity:
    """How bad a cause is; what is merely in grace, or noted, is not bad yet."""
    return "info" if status in ("in grace", "noted") else _SEVERITY[cause]


def worst_first(rows: Iterable[BreakRow]) -> list[BreakRow]:
    """Sorted by severity, then status, then what is at risk, then age; the same for the same rows."""

    def key(row: BreakRow) -> tuple[Any, ...]:
        risk = Fraction(row.at_risk.amount) if row.at_risk else Fraction(0)
        first = row.first_seen_us or row.last_seen_us
        return SEVERITIES.index(row.severity), STATUSES.index(row.status), -risk, first, row.cause, row.id

    return sorted(rows, key=key)


def handled(rows: Iterable[BreakRow], board: Mapping[str, Handling]) -> list[BreakRow]:
    """The rows with what ``board`` says of them, by their ids."""
    out = []
    for row in rows:
        told = board.get(row.id)
        out.append(msgspec.structs.replace(row, **msgspec.structs.asdict(told)) if told else row)
    return out


class Problem(msgspec.Struct, frozen=True):
    """Rows of one cause and root: one thing that went wrong, however many figures show it."""

    cause: Cause
    root: str
    rows: tuple[BreakRow, ...]


def problems(rows: Iterable[BreakRow]) -> list[Problem]:
    """The rows that ask for somebody's attention, by what went wrong, worst first."""
    grouped: dict[tuple[Cause, str], list[BreakRow]] = {}
    for row in worst_first(rows):
        if row.status in ("break", "unknown"):
            grouped.setdefault((row.cause, row.root or row.id), []).append(row)
    # A row that is about no single figure tells of the problem itself.
    return [
        Problem(cause, root, tuple(sorted(some, key=lambda row: bool(row.account))))
        for (cause, root), some in grouped.items()
    ]
