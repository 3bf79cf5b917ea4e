"""How long a million positions take against a million rows of a statement, and how much memory.

    python bench/recon.py [ROWS]

Written first, and not counted: a statement as CSV, and the ledger's positions as columns. Counted: reading the statement, holding the two
against each other, and making the differences. One row in a thousand differs, and as many are missing on either side.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from crdtledger.edge.statements.positions import FIELDS
from crdtledger.edge.statements.reading import Reference, StatementPlan, read_statement
from reconcile.divergence.compare import compare
from reconcile.divergence.corrections import Units
from reconcile.divergence.figures import Column, Figures

INSTRUMENTS = [f"PERP{number:02d}" for number in range(50)]
DECIMALS = 8
ONE_IN = 1_000


def ledger(rows: int) -> Figures:
    """Positions of ``rows`` / 50 accounts in 50 instruments."""
    number = np.arange(rows)
    each = len(INSTRUMENTS)
    decimals = np.full(rows, DECIMALS)
    known = np.ones(rows, np.bool_)
    columns = {
        "qty": Column((number * 7_919 % 100_003 - 50_000) * 10**6, decimals, known),
        "fees": Column(number * 104_729 % 1_000_003, decimals, known),
    }
    accounts = [f"ACCOUNT-{n:07d}" for n in range(-(-rows // each))]
    return Figures("ledger", "replica", accounts, INSTRUMENTS, number // each, number % each, columns)


def write_statement(file: Path, held: Figures) -> None:
    """What the ledger says, with the planted differences."""
    qty, fees = (held.columns[field].values.tolist() for field in ("qty", "fees"))
    with file.open("w") as out:
        out.write("account,instrument,qty,fees\n")
        for row in range(len(held)):
            if row % ONE_IN == 1:
                continue
            name = f"{held.accounts[held.account[row]]},{INSTRUMENTS[held.subject[row]]}"
            amount = qty[row] + (row % ONE_IN == 0)
            out.write(f"{name},{_text(amount)},{_text(fees[row])}\n")
            if row % ONE_IN == 2:
                out.write(f"{held.accounts[held.account[row]]},NEW{row},1,0\n")


def _text(amount: int) -> str:
    sign = "-" if amount < 0 else ""
    return f"{sign}{abs(amount) // 10**DECIMALS}.{abs(amount) % 10**DECIMALS:0{DECIMALS}d}"


def main(rows: int) -> int:
    """Print the figures; how many differences there were."""
    held = ledger(rows)
    plan_mapping = "account=account,instrument=instrument,qty=qty,fees=fees"
    units = {name: Units(2, DECIMALS, {"USDT": DECIMALS}) for name in INSTRUMENTS}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "statement.csv"
        write_statement(file, held)
        began, began_cpu = time.perf_counter(), time.process_time()
        plan = StatementPlan(file=file, format="csv-positions", mapping=plan_mapping)
        statement = read_statement(plan, Reference(units, lambda subject, field: DECIMALS))
        read = time.perf_counter()
    assert statement.figures is not None
    differences = compare([held, statement.figures], FIELDS)
    ended, cpu = time.perf_counter(), time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    kinds = {kind: sum(one.type == kind for one in differences) for kind in ("value", "missing", "null")}
    print(f"{rows} positions against {len(statement.figures)} rows: {ended - began:.1f} s, {peak:.0f} MiB at most")
    print(f"  {cpu:.1f} s of one core, which other work on the machine does not change")
    print(f"  read {read - began:.1f} s, compared {ended - read:.1f} s; differences: {kinds}")
    return len(differences)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
