"""``crdtledger record``: facts as JSON lines, from a file or from standard input."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import IO, Annotated

from cyclopts import Parameter

from crdtledger.edge.cli.blame import Line, located
from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit_one
from crdtledger.edge.cli.reach import connect
from crdtledger.errors import BadInput, CallerError

BATCH_FACTS = 2_000
MAX_LINE_BYTES = 64 * 1024


def record(
    target: Target,
    file: Annotated[str, Parameter(help="One JSON object per line; - for standard input.")],
    /,
    *,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Record facts written as JSON lines, e.g. {"kind":"account","name":"A001"}. Repeating it changes nothing.

    Facts that move rights and stand in one block of 2,000 lines are recorded all or none.
    """
    totals = {"facts": 0, "duplicates": 0, "lines": 0}
    name = "standard input" if file == "-" else file
    with ExitStack() as held:
        lines = read_lines(held.enter_context(_open(file)), name)
        node = held.enter_context(connect(target, cluster))
        while chunk := list(islice(lines, BATCH_FACTS)):
            try:
                answer = node.record([fact for _, fact in chunk])
            except CallerError as error:
                raise located(error, name, chunk, totals["lines"]) from None
            for key in ("facts", "duplicates"):
                totals[key] += answer[key]
            totals["lines"] = chunk[-1][0]
    emit_one(totals, format)
    return GOOD


def _open(file: str) -> IO[bytes]:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise BadInput(what="facts", where=file, why=f"cannot be read: {error.strerror}") from None


def read_lines(file: IO[bytes], name: str) -> Iterator[Line]:
    """Each line's JSON object; ``BadInput`` names the line that holds none. Blank lines are skipped."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name}:{number}"
        if len(raw) > MAX_LINE_BYTES:
            raise BadInput(what="line", where=where, why=f"longer than {MAX_LINE_BYTES} bytes")
        if not raw.strip():
            continue
        try:
            fact = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise BadInput(what="line", where=where, why=f"not JSON: {error}") from None
        if not isinstance(fact, dict):
            raise BadInput(what="line", where=where, why="one JSON object per line")
        yield number, fact
