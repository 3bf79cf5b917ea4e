"""Parameters that several commands share, with one help text each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

OutputFormat: TypeAlias = Literal["table", "json", "csv"]

Target: TypeAlias = Annotated[str, Parameter(help="A node's folder, or its address (tcp://HOST:PORT).")]
Format: TypeAlias = Annotated[
    OutputFormat, Parameter(name="--format", help="How to print. Amounts are decimal strings in JSON and CSV.")
]
Keys: TypeAlias = Annotated[
    Path | None,
    Parameter(
        name="--cluster",
        help="The cluster's folder, which holds the keys for addresses. Default: $CRDTLEDGER_CLUSTER, else the current one.",
    ),
]
Account: TypeAlias = Annotated[str, Parameter(name="--account", help="Only this account.")]
Instrument: TypeAlias = Annotated[str, Parameter(name="--instrument", help="Only this instrument.")]

GOOD = 0
DIFFERENT = 1
WRONG_USE = 2
INTERRUPTED = 130
