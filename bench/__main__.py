"""All benches, or those that are named: the table, and with ``--keep`` results as JSON and a picture each.

    python -m bench [NAME ...] [--quick] [--runs 5] [--keep] [--captures FOLDER]

Each runs in a process of its own: what one leaves in memory is not another's cost. Ends with 1 when a result was wrong, never because
something was slow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench.measured import Plan
from bench.one import Told, one

BENCHES = (
    "join",
    "endtoend",
    "latency",
    "catchup",
    "heal",
    "checkpoint",
    "certified",
    "million",
    "importing",
    "memory",
    "startup",
    "growth",
)
"""Modules of this package, in the order of the table."""

CAPTURES = "binance-*.gz"


def alone(name: str, plan: Plan, keep: bool) -> Told:
    """One bench in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(one, name, plan, keep).result()


def main(arguments: list[str] | None = None) -> int:
    """Run them all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHES))
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that results are right; no goals")
    parser.add_argument("--runs", type=int, default=0, help="rounds; 5, or 2 with --quick")
    parser.add_argument("--keep", action="store_true", help="write bench/results/NAME.json and NAME.svg")
    parser.add_argument("--captures", type=Path, help="a folder with captures of real trades")
    given = parser.parse_args(arguments)
    unknown = sorted({*given.names} - {*BENCHES})
    if unknown:
        parser.error(f"no such bench: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if given.captures and not any(given.captures.glob(CAPTURES)):
        parser.error(f"no captures, {CAPTURES}, in {given.captures}")
    names = given.names or BENCHES
    plan = Plan(given.quick, given.runs or (2 if given.quick else 5), given.captures)
    goals: list[tuple[bool, str]] = []
    left_out = [] if plan.captures or "importing" not in names else ["importing: captures of real trades (--captures)"]
    wrong: list[str] = []
    for name in names:
        try:
            told = alone(name, plan, given.keep)
        except Exception as error:
            told = Told(f"{name}: WRONG: {type(error).__name__}: {error}\n")
            wrong.append(name)
        goals += told.goals
        left_out += told.left_out
        say(told.table)
    for holds, text in goals:
        say(f"{'holds ' if holds else 'MISSED'} {text}")
    for text in left_out:
        say(f"left out: {text}")
    if wrong:
        say(f"wrong: {', '.join(wrong)}")
    return 1 if wrong else 0


def say(text: str) -> None:
    """A line, or some, to whoever reads: the next may take minutes. Ends quietly when nobody reads any more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would complain at its end
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
