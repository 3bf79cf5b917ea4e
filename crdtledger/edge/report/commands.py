"""What to run next for a break, nearest to its cause first: commands as they are typed, every name quoted for a shell."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

from reconcile.divergence.breakrow import BreakRow, Cause

RUNBOOK = "docs/how-to/on-duty.md"


def anchor(cause: Cause, runbook: str = RUNBOOK) -> str:
    """The place in the runbook that tells of a cause. ``runbook``: where it lies."""
    return f"{runbook}#{cause.value.lower()}"


def with_commands(row: BreakRow, target: str, peers: dict[str, str], statement: Sequence[str]) -> BreakRow:
    """The row with its commands. ``peers``: a node's target by its name; ``statement``: the arguments that name the statement."""
    return msgspec.structs.replace(row, commands=tuple(_commands(row, target, peers, statement)))


def _commands(row: BreakRow, target: str, peers: dict[str, str], statement: Sequence[str]) -> list[str]:
    out = []
    figure = [row.account, row.instrument] if row.account and row.instrument else []
    if row.cause is Cause.STALE_MARK:
        out.append(_line("explain", target, "-", row.instrument))
    elif row.cause is Cause.PARTITIONED:
        out.append(_line("explain", target, *figure))
    elif row.scope in ("ledger/venue", "ledger/custodian", "three-way"):
        out.append(_line("recon", target, *statement))
    elif row.cause is Cause.FORK:
        out.append(_line("members", target))
    elif figure:
        out.append(_line("explain", target, *figure))
    if row.scope == "replica/replica" and row.sources[-1] in peers:
        out.append(_line("diff", target, peers[row.sources[-1]]))
    elif row.cause in (Cause.PARTITIONED, Cause.MISSING_BATCH):
        out.append(_line("members", target))
    elif row.scope == "ledger" and row.cause is not Cause.STALE_MARK:
        out.append(_line("breaks", target))
    elif figure and not out[0].startswith("crdtledger explain"):
        out.append(_line("explain", target, *figure))
    return out


def _line(command: str, *arguments: str) -> str:
    return shlex.join(["crdtledger", command, *(str(argument) for argument in arguments)])
