"""What went wrong in a run, counted from its trace: the message lines say what the network did, the others what the nemesis did."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from gossip.trace import Line

NETWORK = ("lost", "repeated", "reordered", "quick", "slow", "delayed")
POWER = ("crash", "crash that lost all that was unsynced", "crash that left some of it")
NEMESIS = ("partition", "isolate", "cut", "clog", "skew", "disk", "heal")
EVERY_FAULT = NETWORK + POWER + NEMESIS


def faults_in(lines: Sequence[Line]) -> Counter[str]:
    """How often each kind of fault happened in a run, of which all ``lines`` were kept."""
    found: Counter[str] = Counter()
    sent: dict[int, Line] = {}
    newest: dict[tuple[str, str], int] = {}
    arrived: Counter[int] = Counter()
    for line in lines:
        if line.what == "send":
            sent[line.message] = line
        elif line.what == "lose":
            found["lost"] += 1
        elif line.what == "receive":
            arrived[line.message] += 1
            found["repeated"] += arrived[line.message] == 2
            way = (line.other, line.node)
            found["reordered"] += line.message < newest.get(way, 0)
            newest[way] = max(newest.get(way, 0), line.message)
            took_us = line.at_us - sent[line.message].at_us
            found["quick" if took_us < 1_000 else "slow" if took_us > 50_000 else "between"] += 1
            found["delayed"] += took_us > 200_000
        elif line.what == "crash":
            unsynced, surviving = map(int, re.findall(r"\d+", line.detail))
            found["crash"] += 1
            found["crash that lost all that was unsynced"] += unsynced > surviving == 0
            found["crash that left some of it"] += surviving > 0
        elif line.what in NEMESIS:
            found[line.what] += 1
    return found
