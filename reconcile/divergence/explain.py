"""Why a number is what it is: from the figure to its facts, their batches, who recorded them and when, what is settled, and who has not
seen what yet.

A fact that does not simply count says by which cause; so does a node that lacks a batch: PARTITIONED when it has not been heard of,
IN_FLIGHT while the batch is young, MISSING_BATCH after that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from reconcile.divergence.breakrow import Cause
from reconcile.divergence.causes import Holder, MarkTold, Rules, Touch, gaps, stale_marks

FILLS: Final = ("fill", "bust")


class Unseen(msgspec.Struct, frozen=True):
    """Batches that a node lacks, or that the node which was asked lacks itself, and why. ``since_us``: when it was last heard of, or
    since when the oldest of them is on its way; 0 for never."""

    node: str
    cause: Cause
    since_us: int
    batches: tuple[str, ...]


class FactLine(msgspec.Struct, frozen=True):
    """One fact behind the figure. ``fact``: as the node traced it; ``batch``: ``lane#seq``; ``height``: the checkpoint that settled it, 0
    for none, None for one that is older than the heights that are known. ``cause``: why it does not simply count, empty when it does."""

    fact: Mapping[str, Any]
    batch: str
    height: int | None
    cause: str
    unseen_by: tuple[str, ...]


class Explanation(msgspec.Struct, frozen=True):
    """Everything behind a figure. ``older``: settled fills that are in the figure and no longer held one by one. ``stale``: marks that are
    too old, each with why."""

    facts: tuple[FactLine, ...]
    older: int
    unseen: tuple[Unseen, ...]
    stale: tuple[tuple[MarkTold, str], ...]


def explain(
    traced: Sequence[Mapping[str, Any]],
    settled_fills: int | None,
    holders: Sequence[Holder],
    marks: Sequence[MarkTold],
    cuts: Sequence[tuple[int, Mapping[str, int]]],
    now_us: int,
    rules: Rules,
) -> Explanation:
    """The story. ``traced``: the facts as the node holds them. ``settled_fills``: how many fills the settled figure says, None where there
    is no position. ``holders``: the node itself (``heard_us`` None) and its peers. ``cuts``: heights, each with how far it settled each
    lane."""
    own = next(holder for holder in holders if holder.heard_us is None)
    others = [holder for holder in holders if holder is not own]
    back = {_fill(row) for row in traced if row["kind"] == "bust" and row["became"] == "counts"}
    lines = tuple(_line(_taken_back(row, back), others, cuts) for row in traced)
    counted = sum((1 if r["kind"] == "fill" else -1) for r in traced if r["kind"] in FILLS and counts_settled(r))
    older = 0 if settled_fills is None else max(0, settled_fills - counted)
    touches = {Touch(row["lane"], row["seq"], row["node"], row["recorded_us"]) for row in traced}
    unseen = tuple(one for holder in others for one in _unseen(own, holder, touches, now_us, rules))
    stale = tuple((mark, why) for mark, _, why in stale_marks(marks, now_us, rules))
    return Explanation(lines, older, unseen, stale)


def _fill(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[part] for part in ("venue", "id_space", "instrument", "id", "leg"))


def _taken_back(row: Mapping[str, Any], back: set[tuple[Any, ...]]) -> Mapping[str, Any]:
    """The row, which says so if a bust takes it back."""
    taken = row["kind"] == "fill" and row["became"] == "counts" and _fill(row) in back
    return {**row, "became": "taken back"} if taken else row


def counts_settled(row: Mapping[str, Any]) -> bool:
    """Whether a fact counts and is settled."""
    return bool(row["settled"]) and row["became"] == "counts"


def _line(row: Mapping[str, Any], others: Sequence[Holder], cuts: Sequence[tuple[int, Mapping[str, int]]]) -> FactLine:
    lane, seq = row["lane"], row["seq"]
    height: int | None = 0
    if row["settled"]:
        height = next((height for height, lanes in cuts if lanes.get(lane, 0) >= seq), None)
        if cuts and height == cuts[0][0] and height > 1:
            height = None  # settled by the oldest height that is known, or before it
    unseen = tuple(holder.node for holder in others if holder.heads.get(lane, 0) < seq)
    return FactLine(row, f"{lane}#{seq}", height, _cause(row), unseen)


def _cause(row: Mapping[str, Any]) -> str:
    became = row["became"]
    if became == "contradicts":
        return Cause.DUPLICATE_ID_CONFLICT.value
    if became == "void":
        return (Cause.REFERENCE_DATA if row["kind"] in FILLS else Cause.RIGHTS_OVERSPENT).value
    return Cause.REFERENCE_DATA.value if became == "waits" else ""


def _unseen(own: Holder, holder: Holder, touches: set[Touch], now_us: int, rules: Rules) -> list[Unseen]:
    """What one peer lacks of these batches; what the node itself lacks of the peer's; and whether the peer is heard of at all."""
    lacks = sorted(touch for touch in touches if holder.heads.get(touch.lane, 0) < touch.seq)
    names = tuple(touch.name for touch in lacks)
    if holder.silent(now_us, rules):
        return [Unseen(holder.node, Cause.PARTITIONED, holder.heard_us or 0, names)]
    out = []
    if lacks:
        young = now_us - max(touch.recorded_us for touch in lacks) <= rules.grace_us
        cause = Cause.IN_FLIGHT if young else Cause.MISSING_BATCH
        out.append(Unseen(holder.node, cause, min(touch.recorded_us for touch in lacks), names))
    ahead = tuple(gap for gap in gaps(own, holder) if gap.endswith(f" at {own.node}"))
    if ahead:
        out.append(Unseen(own.node, Cause.MISSING_BATCH, holder.heard_us or 0, ahead))
    return out
