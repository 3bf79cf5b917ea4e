"""A counter: every read is a sum that the additions allow.

Operations: ``add`` with an integer, negative ones too; ``read`` and ``final`` whose answer is an integer. An addition *must* be in a read
that began after it was acknowledged; it *cannot* be in one that ended before it began, nor in any if it failed; of the others (under way
meanwhile, or indeterminate) any may be in it. So the sum lies between two bounds: what must be plus all that may be and is negative, and
plus all that may be and is positive. Inside the bounds not every sum can be made of whole additions: as long as the sums that can be are
not more than ``sums``, that is looked at, too.

A counter that is only eventually consistent (``fresh=False``) owes acknowledged additions to final reads alone; before, a read may lack
any of them, but holds nothing that was not begun.

Each read is looked at alone: whether reads contradict each other is for ``check_register`` and its kind. The bounds are those of
Jepsen's counter checker, which knows no negative additions; the sums are ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from crdtledger.testing.checkers.verdict import FINAL, READ, Findings, Verdict, known, whole
from crdtledger.testing.history import Call, History

ADD: Final = "add"
SUMS: Final = 100_000


def check_counter(history: History, *, start: int = 0, fresh: bool = True, sums: int = SUMS) -> Verdict:
    """Whether every read is possible. ``start``: what the counter held at first. ``found``: reads, and the widest bounds."""
    known(history, ADD, READ, FINAL)
    findings = Findings("counter")
    adds = [(call, whole(call, call.asked)) for call in history.of(ADD) if call.outcome != "fail"]
    reads = [call for call in history.of(READ, FINAL) if call.outcome == "ok"]
    widest = 0
    for read in reads:
        value = whole(read, read.answer)
        must, may = _parts(read, adds, fresh or read.f == FINAL)
        base = start + sum(delta for _, delta in must)
        low = base + sum(delta for _, delta in may if delta < 0)
        high = base + sum(delta for _, delta in may if delta > 0)
        widest = max(widest, high - low)
        if not low <= value <= high:
            line = f"{read.told} although it must lie in {low}..{high}"
            findings.fault("out of bounds", line, [*_blamed(value < low, must, may), read])
            continue
        reachable = _reachable((delta for _, delta in may), sums)
        if reachable is not None and value - base not in reachable:
            line = (
                f"{read.told}: {base} must be in it, and no choice among {sorted(d for _, d in may)} makes up the rest"
            )
            findings.fault("no such sum", line, [*(call for call, _ in may), read])
    if not reads:
        findings.doubt("nobody read it")
    return findings.verdict({"adds": len(adds), "reads": len(reads), "widest_bounds": widest})


_Adds = list[tuple[Call, int]]


def _parts(read: Call, adds: _Adds, fresh: bool) -> tuple[_Adds, _Adds]:
    """The additions that must be in a read, and those that may be. A read that was answered ended."""
    assert read.ended is not None
    must: _Adds = []
    may: _Adds = []
    for call, delta in adds:
        acknowledged = call.outcome == "ok" and call.ended is not None and call.ended < read.began
        if acknowledged and fresh:
            must.append((call, delta))
        elif call.began < read.ended:
            may.append((call, delta))
    return must, may


def _blamed(too_low: bool, must: _Adds, may: _Adds) -> Iterable[Call]:
    """The additions that keep a read's bound where it is, but for those that are many: the newest."""
    towards = [(call, delta) for call, delta in must + may if (delta > 0) == too_low]
    return (call for call, _ in towards[-8:])


def _reachable(deltas: Iterable[int], sums: int) -> set[int] | None:
    """Every sum of some of the ``deltas``; None when they are too many."""
    found = {0}
    for delta in deltas:
        found |= {one + delta for one in found}
        if len(found) > sums:
            return None
    return found
