"""``python -m tests.mutants``: change the pure core in 500 small ways, and see whether a test minds each of them.

mutmut makes the mutants and runs, for each, the tests that reach the changed function, quick ones first, up to the first that fails.
Which mutants are looked at is drawn from a seed, so two runs of one commit look at the same ones. What was judged once is kept under
``mutants/`` and not run again, so a run that was stopped goes on where it was; ``--again`` runs the survivors once more, after a test
was written. The table counts a mutant as killed when a test failed or never ended. ``--least 85`` exits with 1 below that.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from .tally import Mutant, alive, sample, table

ROOT = Path(__file__).parents[2]
MADE = ROOT / "mutants"
NOTHING = "no.such.mutant"


def mutants() -> list[Mutant]:
    """Every mutant there is."""
    found = []
    for meta in sorted(MADE.rglob("*.meta")):
        of = str(meta.relative_to(MADE).with_suffix(""))
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        found += [Mutant(of, name, code) for name, code in codes.items()]
    return found


def mutmut(*words: str, quietly: bool = False) -> str:
    """Run mutmut on the project with the profile for mutants. What it wrote, where ``quietly``."""
    environment = os.environ | {"HYPOTHESIS_PROFILE": "mutants", "AGREEMENT_SEEDS": "4"}
    told = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quietly else {}
    command = [sys.executable, "-m", "mutmut", *words]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, text=True, **told).stdout or ""


def make() -> None:
    """Make the mutants and find out which test reaches what: all that mutmut does before it finds that there is nothing to run."""
    told = mutmut("run", "--max-children", "1", NOTHING, quietly=True)
    if NOTHING not in told.splitlines()[-1]:
        sys.exit(f"{told}\nno mutants were made")


def main() -> int:
    """Make, sample, run, tell."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500, help="how many mutants (500)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument("--least", type=float, default=0.0, help="exit 1 when fewer percent are killed")
    parser.add_argument("--again", action="store_true", help="run the survivors of the sample once more")
    parser.add_argument("--survivors", action="store_true", help="show what each survivor changed")
    given = parser.parse_args()
    make()
    chosen = set(sample([one.name for one in mutants()], given.count, given.seed))

    def drawn() -> list[Mutant]:
        return [one for one in mutants() if one.name in chosen]

    left = [one for one in drawn() if one.code is None] + (alive(drawn()) if given.again else [])
    if left:
        mutmut("run", "--max-children", str(given.jobs), *[one.name for one in left])
    lines, rate = table(drawn())
    sys.stdout.write("\n".join(lines) + "\n")
    for survivor in alive(drawn()) if given.survivors else ():
        sys.stdout.flush()
        mutmut("show", survivor.name)
    return int(rate < given.least)


if __name__ == "__main__":
    sys.exit(main())
