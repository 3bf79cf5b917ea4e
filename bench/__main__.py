"""All benches, or those that are named: the table, and with ``--keep`` results as JSON and a picture each.

    python -m bench [NAME ...] [--quick] [--runs 5] [--keep] [--captures FOLDER]

Each runs in a process of its own: what one leaves in memory is not another's cost. Ends with 1 when a result was wrong, never because
something was slow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.measured import Plan
from bench.one import one

BENCHES = (
    "join",
    "endtoend",
    "latency",
    "catchup",
    "heal",
    "checkpoint",
    "certified",
    "importing",
    "memory",
    "startup",
    "growth",
)
"""Modules of this package, in the order of the table."""

LONG = ("million",)
"""Others that take minutes for one figure: only when they are named."""


def alone(name: str, plan: Plan, keep: bool) -> list[tuple[bool, str]]:
    """One bench in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(one, name, plan, keep).result()


def main(arguments: list[str] | None = None) -> int:
    """Run them all."""
    known = (*BENCHES, *LONG)
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that the results are right")
    parser.add_argument("--runs", type=int, default=0, help="rounds; 5, or 2 with --quick")
    parser.add_argument("--keep", action="store_true", help="write bench/results/NAME.json and NAME.svg")
    parser.add_argument("--captures", type=Path, help="a folder with captures of real trades")
    given = parser.parse_args(arguments)
    unknown = sorted({*given.names} - {*known})
    if unknown:
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(known)}")
    plan = Plan(given.quick, given.runs or (2 if given.quick else 5), given.captures)
    goals: list[tuple[bool, str]] = []
    wrong: list[str] = []
    for name in given.names or BENCHES:
        try:
            goals += alone(name, plan, given.keep)
        except Exception as error:
            sys.stdout.write(f"{name}: WRONG: {type(error).__name__}: {error}\n\n")
            wrong.append(name)
    if not given.quick:
        sys.stdout.writelines(f"{'holds ' if holds else 'MISSED'} {text}\n" for holds, text in goals)
    if wrong:
        sys.stdout.write(f"wrong: {', '.join(wrong)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
