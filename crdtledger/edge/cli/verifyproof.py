"""``crdtledger verify-proof``: check a proof file with the genesis alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.heights import read_genesis
from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format
from crdtledger.edge.cli.output import emit, emit_one, say
from crdtledger.edge.cli.stamps import moment

PARTS = ("collateral", "positions", "liabilities")
CSV = ("part", "subject", "field", "value")


def verify_proof(
    file: Annotated[Path, Parameter(help="A proof, as written by `crdtledger prove`.")],
    /,
    *,
    genesis: Annotated[Path, Parameter(name="--genesis", help="The cluster's genesis file, from whom you trust.")],
    format: Format = "table",
) -> int:
    """Check a proof with no node running: what the account has, at which height, and who certified it. Exit 1 if it does not hold.

    The genesis says whose signatures count, so it must come from somebody you trust, not with the proof.
    """
    from crdtledger.edge.statement import statement
    from crdtledger.errors import InvalidProof
    from reconcile.founding import log_origin, policy_of
    from reconcile.proofs import MAX_FILE_BYTES
    from reconcile.proofs import verify_proof as verified

    founded = read_genesis(genesis)
    with file.open("rb") as opened:
        raw = opened.read(MAX_FILE_BYTES + 1)
    try:
        told = statement(verified(raw, policy_of(founded), log_origin(founded), founded.hash), founded)
    except InvalidProof as fault:
        say(f"{file}: does not hold: {fault}")
        return DIFFERENT
    if format == "json":
        emit_one(told, format)
    elif format == "csv":
        emit(_flat(told), CSV, format)
    else:
        _print(told, file)
    return GOOD


def _print(told: Mapping[str, Any], file: Path) -> None:
    """For people: of when and by whom, then a table for each part that has something in it."""
    signers = told["certified_by"]
    first, last = moment(told["certified_from_s"] * 1_000_000), moment(told["certified_to_s"] * 1_000_000)
    head = {
        "proof": f"{file} holds",
        "account": told["account"] if told["present"] else f"{told['account']} has nothing at this height",
        "cluster": f"{told['cluster']} (genesis {told['genesis'][:16]})",
        "height": told["height"],
        "certified_by": f"{', '.join(signers)} ({len(signers)} of {told['validators']} validators)",
        "certified": first if first == last else f"{first} to {last}",
    }
    emit_one(head, "table")
    for part in PARTS:
        rows = told[part]
        if rows:
            print(f"\n{part}")
            emit(rows, tuple(rows[0]), "table")
    if told["liabilities"]:
        print("\nowed: this account's part in the total that is owed to all accounts of the asset")
    print("\nIt says what was settled at this height, not that no later height exists.")


def _flat(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each figure."""
    rows: list[tuple[str, str, str, Any]] = []
    for key, value in told.items():
        if key in (*PARTS, "other"):
            for row in value:
                subject = str(next(iter(row.values())))
                rows += [(key, subject, field, item) for field, item in row.items()]
        else:
            rows.append(("proof", told["account"], key, value))
    return [dict(zip(CSV, row, strict=True)) for row in rows]
