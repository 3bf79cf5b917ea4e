"""Which mutants are looked at, what their tests say, and the table of it. Pure: mutmut and its files are the driver's business."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

KILLED = frozenset({1, 3})
"""A test failed, or the tests could not even be loaded."""
ENDLESS = frozenset({-24, 24, 152, 36, 255})
"""mutmut ended tests that did not end."""
UNREACHED = frozenset({5, 33})
"""No test reaches the mutant."""

HEADING = f"{'file':<36} {'mutants':>8} {'killed':>7} {'survived':>9} {'untested':>9} {'rate':>7}"


class Mutant(NamedTuple):
    """One mutant. ``code``: how its tests ended, None where they have not run."""

    file: str
    name: str
    code: int | None


def sample(names: Iterable[str], count: int, seed: int) -> list[str]:
    """``count`` of the names, drawn by hash: a mutant stays in the sample when others come and go with the code around it, and a
    smaller sample is the beginning of a greater one."""

    def lot(name: str) -> bytes:
        return hashlib.sha256(f"{seed} {name}".encode()).digest()

    return sorted(names, key=lot)[:count]


def outcome(code: int) -> str:
    """What an exit code of a mutant's tests says. Crashes count as survivors until somebody has looked."""
    if code in KILLED or code in ENDLESS:
        return "killed"
    return "untested" if code in UNREACHED else "survived"


def alive(mutants: Iterable[Mutant]) -> list[Mutant]:
    """Those that no test minds."""
    return [one for one in mutants if one.code is not None and outcome(one.code) != "killed"]


def rate(counts: Counter[str]) -> float:
    """Which part was killed, in percent; all of nothing."""
    return 100 * counts["killed"] / counts.total() if counts else 100.0


def table(mutants: Sequence[Mutant]) -> tuple[list[str], float]:
    """A line per file and one for all, of the mutants whose tests have run; and which part of them was killed, in percent."""
    tally: dict[str, Counter[str]] = {}
    for one in mutants:
        if one.code is not None:
            tally.setdefault(one.file, Counter())[outcome(one.code)] += 1
    total: Counter[str] = sum(tally.values(), Counter())
    lines = [HEADING]
    for file, counts in [*sorted(tally.items()), ("all", total)]:
        parts = f"{counts['killed']:>7} {counts['survived']:>9} {counts['untested']:>9}"
        lines.append(f"{file:<36} {counts.total():>8} {parts} {rate(counts):>6.1f}%")
    return lines, rate(total)
