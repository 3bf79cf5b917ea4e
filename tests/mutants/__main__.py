"""``python -m tests.mutants``: change the pure core in 600 small ways, and see whether a test minds each of them.

mutmut makes the mutants and runs, for each, the tests that reach the changed function, quick ones first. Which mutants are looked at is
drawn from a seed, so two runs of one commit look at the same ones; what was judged once is kept under ``mutants/`` and not run again,
so a run that was stopped goes on where it was. The table counts a mutant as killed when a test failed or never ended. ``--least 85``
exits with 1 below that.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
MADE = ROOT / "mutants"
NOTHING = "no.such.mutant"
KILLED = {1, 3}
TIMEOUT = {-24, 24, 152, 36, 255}
SURVIVED, NO_TESTS = {0}, {5, 33}


def verdicts() -> Iterator[tuple[str, str, int | None]]:
    """(file, mutant, how its tests ended, None where they have not run) of every mutant there is."""
    for meta in sorted(MADE.rglob("*.meta")):
        of = str(meta.relative_to(MADE).with_suffix(""))
        for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
            yield of, name, code


def mutmut(*words: str) -> int:
    """Run mutmut on the project with the profile for mutants."""
    environment = os.environ | {"HYPOTHESIS_PROFILE": "mutants", "AGREEMENT_SEEDS": "6"}
    command = [sys.executable, "-m", "mutmut", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def sample(count: int, seed: int) -> list[str]:
    """Which mutants are looked at, in the order in which they were drawn."""
    names = sorted(name for _, name, _ in verdicts())
    return random.Random(seed).sample(names, min(count, len(names)))


def table(chosen: Sequence[str]) -> tuple[list[str], float]:
    """A line per file and one for all; and which part of the mutants was killed, in percent."""
    wanted = set(chosen)
    tally: dict[str, Counter[str]] = {}
    for of, name, code in verdicts():
        if name in wanted and code is not None:
            tally.setdefault(of, Counter())[outcome(code)] += 1
    total: Counter[str] = sum(tally.values(), Counter())
    lines = [f"{'file':<42} {'mutants':>8} {'killed':>7} {'survived':>9} {'untested':>9} {'rate':>6}"]
    for of, counts in [*sorted(tally.items()), ("all", total)]:
        every = counts.total()
        rate = 100 * counts["killed"] / every if every else 0.0
        lines.append(
            f"{of:<42} {every:>8} {counts['killed']:>7} {counts['survived']:>9} {counts['untested']:>9} {rate:>5.1f}%"
        )
    return lines, 100 * total["killed"] / total.total() if total else 0.0


def outcome(code: int) -> str:
    """What an exit code of mutmut's tests says. Crashes count as survivors until somebody has looked."""
    if code in KILLED or code in TIMEOUT:
        return "killed"
    return "untested" if code in NO_TESTS else "survived"


def main() -> int:
    """Make, sample, run, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=600, help="how many mutants (600)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--least", type=float, default=0.0, help="exit 1 when fewer percent are killed")
    parser.add_argument("--survivors", action="store_true", help="show what each survivor changed")
    given = parser.parse_args()
    if not any(MADE.rglob("*.meta")):
        mutmut("run", "--max-children", "1", NOTHING)  # makes the mutants and finds out which test reaches what
    chosen = sample(given.count, given.seed)
    done = {name: code for _, name, code in verdicts()}
    left = [name for name in chosen if done[name] is None]
    if left:
        mutmut("run", "--max-children", str(given.jobs), *left)
    lines, rate = table(chosen)
    sys.stdout.write("\n".join(lines) + "\n")
    if given.survivors:
        done = {name: code for _, name, code in verdicts()}
        for name in chosen:
            if done[name] is not None and outcome(done[name]) != "killed":
                mutmut("show", name)
    return int(rate < given.least)


if __name__ == "__main__":
    sys.exit(main())
