"""Why a figure is in no checkpoint yet, though it was recorded longer ago than the grace allows.

A checkpoint needs validators of more than two thirds of the weight (``reconcile.quorum``), and settles what they hold. So, in this order:

1. PARTITIONED: those that are heard, the observer with them, weigh too little. Silent nodes that vote on nothing, or whose votes are
   not needed, hold nothing up.
2. MISSING_BATCH: enough are heard, but those of them that hold the batches weigh too little. Who lacks what is named.
3. IN_FLIGHT, and a break: a quorum is heard and holds everything. Checkpoints stand still for another reason, which is none of the
   network's: what the observer says about its own agreement stands beside it.

Within the grace it is IN_FLIGHT, whoever is silent. Pure. It says nothing of the votes themselves: nobody here sees them.
"""

from __future__ import annotations

from collections.abc import Sequence

from reconcile.divergence.breakrow import Cause
from reconcile.divergence.causes import PARTITION, Found, Holder, Rules, Touch
from reconcile.quorum import Committee

CHECKPOINT = "checkpoint"


def unsettled(
    touches: Sequence[Touch],
    height: int,
    holders: Sequence[Holder],
    committee: Committee,
    agreement: str,
    now_us: int,
    rules: Rules,
) -> Found:
    """What keeps ``touches``, which no checkpoint up to ``height`` has, from being settled. ``holders``: everybody, the observer too.
    ``agreement``: how the observer's own takes part in it, in words."""
    first_us = min((touch.recorded_us for touch in touches), default=0)
    names = tuple(f"{touch.name} at checkpoint {height}" for touch in touches)
    why = "recorded, and in no checkpoint yet"
    if not first_us or now_us - first_us <= rules.grace_us:
        return Found(Cause.IN_FLIGHT, "in grace", why, names, first_us, CHECKPOINT)
    voting = {validator.name for validator in committee.validators}
    silent = {holder.node for holder in holders if holder.node in voting and holder.silent(now_us, rules)}
    if not _certify(committee, voting - silent):
        told = f"{why}: without {', '.join(sorted(silent))} the validators are too few to certify one"
        return Found(Cause.PARTITIONED, "break", told, names, first_us, PARTITION)
    heard = [holder for holder in holders if holder.node in voting - silent]
    lacking = [(h.node, t.name) for h in heard for t in sorted(touches) if t.seq > h.heads.get(t.lane, 0)]
    behind = {node for node, _ in lacking}
    if not _certify(committee, voting - silent - behind):
        told = f"{why}: too few validators hold it; heard, and without batches of it: {', '.join(sorted(behind))}"
        missing = tuple(f"{name} at {node}" for node, name in lacking)
        return Found(Cause.MISSING_BATCH, "break", told, missing, first_us, CHECKPOINT)
    told = f"{why}: enough validators are heard and hold it, and checkpoints stand still; agreement here: {agreement}"
    return Found(Cause.IN_FLIGHT, "break", told, names, first_us, CHECKPOINT)


def _certify(committee: Committee, nodes: set[str]) -> bool:
    places = (place for place, validator in enumerate(committee.validators) if validator.name in nodes)
    return committee.is_quorum(committee.weigh(places))
