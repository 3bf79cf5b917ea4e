"""A grow-only set: what was added is there in the end, and nothing else is.

Operations: ``add`` with an element (any JSON), ``read`` and ``final`` whose answer is the list of elements. ``check_set`` looks at what is
there in the end, which is all that an eventually consistent set promises; ``check_set_full`` looks at every read, and says of each element
when it could be seen for good.

* *lost*: acknowledged (or seen), and not there in the end; *recovered*: nobody knew whether it was added, and it is there: no fault;
* *unexpected*: read, though nobody ever began to add it by then, or its addition had failed for certain;
* *duplicated*: twice in one read; *stale*: missing from a read that began after it was known, and there again later;
* *never read*: added, and no later read that could have shown it; nobody can tell what became of it.

The words, and what they mean, are those of Jepsen's set and set-full checkers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from crdtledger.testing.checkers.verdict import FINAL, READ, Findings, Verdict, key_of, known, listed, shown
from crdtledger.testing.history import Call, History

ADD: Final = "add"


class _Read(msgspec.Struct, frozen=True):
    """A read that was answered. ``began`` and ``ended``: places in the history."""

    call: Call
    elements: frozenset[bytes]
    began: int
    ended: int


def check_set(history: History) -> Verdict:
    """Whether the final reads (or, if none is called so, the last read) hold what they must. ``found``: lists of elements by name."""
    known(history, ADD, READ, FINAL)
    findings = Findings("set")
    adds, values = _adds(history)
    reads = _reads(history, findings, values)
    _look_for_strangers(reads, adds, values, findings)
    last = [read for read in reads if read.call.f == FINAL] or reads[-1:]
    acknowledged = {key for key, calls in adds.items() if _acknowledged(calls)}
    everywhere = frozenset.intersection(*(read.elements for read in last)) if last else frozenset()
    lost = {key for key in acknowledged if last and key not in everywhere}
    for key in _sorted(lost):
        without = [read.call for read in last if key not in read.elements]
        where = ", ".join(dict.fromkeys(str(call.told.process) for call in without))
        findings.fault(
            "lost",
            f"{shown(values[key])} was acknowledged and is not in what {where} read at last",
            [*adds[key], *without],
        )
    for read in last[1:]:
        differing = (read.elements ^ last[0].elements) - lost
        if differing:
            line = f"{read.call.told.process} and {last[0].call.told.process} differ at last in {_named(differing, values)}"
            findings.fault("diverged", line, [last[0].call, read.call])
    if not last:
        findings.doubt("nobody read it")
    recovered = {key for key in everywhere if key in adds and key not in acknowledged}
    return findings.verdict(
        {
            "attempted": len(adds),
            "acknowledged": len(acknowledged),
            "present": len(everywhere),
            "lost": [values[key] for key in _sorted(lost)],
            "recovered": [values[key] for key in _sorted(recovered)],
        }
    )


def check_set_full(history: History, *, fresh: bool = True) -> Verdict:
    """Whether every element, once known, is seen by all that look later. ``fresh=False``: a read may be stale, as long as the element is
    seen for good in the end. ``found``: lists of elements by name, and the longest time until an element was stable."""
    known(history, ADD, READ, FINAL)
    findings = Findings("set")
    adds, values = _adds(history)
    reads = _reads(history, findings, values)
    _look_for_strangers(reads, adds, values, findings)
    found: dict[str, list[Any]] = {"stable": [], "stale": [], "lost": [], "never_read": [], "recovered": []}
    slowest_us = 0
    for key, calls in adds.items():
        after = _known_at(key, calls, reads)
        later = [read for read in reads if after is not None and read.began > after]
        present = [read for read in reads if key in read.elements]
        missing = [read for read in later if key not in read.elements]
        since = max((read.began for read in missing), default=-1)
        seen = [read for read in present if read.began > since]
        value = values[key]
        if missing and not seen:
            found["lost"].append(value)
            line = f"{shown(value)} was known by operation {(after or 0) + 1} and not there at last"
            findings.fault("lost", line, [*calls, *(read.call for read in missing[-2:])])
        elif not seen:
            found["never_read"].append(value)
        else:
            found["stable"].append(value)
            if not _acknowledged(calls):
                found["recovered"].append(value)
            if missing:
                found["stale"].append(value)
                slowest_us = max(slowest_us, missing[-1].call.invoked.time_us - history[after or 0].time_us)
                if fresh:
                    line = f"{shown(value)} was known by operation {(after or 0) + 1}, missing later, and came back"
                    findings.fault("stale", line, [*calls, missing[-1].call])
    if not found["stable"] and not found["lost"]:
        findings.doubt("no read tells anything of what was added")
    return findings.verdict({"attempted": len(adds), **found, "slowest_stable_us": slowest_us})


# -- what both look at ----------------------------------------------------------------------------------------


def _adds(history: History) -> tuple[dict[bytes, list[Call]], dict[bytes, Any]]:
    """The additions of each element, and the elements, by key."""
    adds: dict[bytes, list[Call]] = {}
    for call in history.of(ADD):
        adds.setdefault(key_of(call.asked), []).append(call)
    return adds, {key: calls[0].asked for key, calls in adds.items()}


def _acknowledged(calls: Sequence[Call]) -> bool:
    return any(call.outcome == "ok" for call in calls)


def _reads(history: History, findings: Findings, values: dict[bytes, Any]) -> list[_Read]:
    """Every answered read in order of its beginning; what is twice in one is a fault."""
    reads: list[_Read] = []
    for call in history.of(READ, FINAL):
        if call.ended is None or call.outcome != "ok":
            continue
        elements = listed(call, call.answer)
        keys = [key_of(element) for element in elements]
        values.update((key, element) for key, element in zip(keys, elements, strict=True) if key not in values)
        once = frozenset(keys)
        if len(once) < len(keys):
            twice = {key for key in once if keys.count(key) > 1}
            findings.fault(
                "duplicated", f"{_named(twice, values)} more than once in one read of {call.told.process}", [call]
            )
        reads.append(_Read(call, once, call.began, call.ended))
    return reads


def _look_for_strangers(
    reads: Sequence[_Read], adds: dict[bytes, list[Call]], values: dict[bytes, Any], findings: Findings
) -> None:
    """What was read and cannot have been there."""
    told: set[bytes] = set()
    for read in reads:
        for key in _sorted(read.elements - told):
            calls = adds.get(key, [])
            if any(call.outcome != "fail" and call.began < read.ended for call in calls):
                continue
            told.add(key)
            why = (
                "its addition had failed"
                if any(call.outcome == "fail" for call in calls)
                else "nobody had begun to add it"
            )
            findings.fault(
                "unexpected",
                f"{shown(values[key])} was read by {read.call.told.process}, and {why}",
                [*calls, read.call],
            )


def _known_at(key: bytes, calls: Sequence[Call], reads: Sequence[_Read]) -> int | None:
    """The place in the history from which on the element must be seen: its acknowledgement, or the first read that shows it."""
    acknowledged = [call.ended for call in calls if call.outcome == "ok" and call.ended is not None]
    return min([*acknowledged, *(read.ended for read in reads if key in read.elements)], default=None)


def _sorted(keys: set[bytes] | frozenset[bytes]) -> list[bytes]:
    return sorted(keys, key=lambda key: (len(key), key))


def _named(keys: set[bytes] | frozenset[bytes], values: dict[bytes, Any]) -> str:
    told = [shown(values[key]) for key in _sorted(keys)]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more" if len(told) > 8 else "")
