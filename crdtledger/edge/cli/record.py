"""``crdtledger record``: facts as JSON lines, from a file or from standard input."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.blame import Line, located
from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit_one
from crdtledger.edge.cli.reach import connect
from crdtledger.errors import BadInput, CallerError

BATCH_FACTS = 2_000
BATCH_BYTES = 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
_SAFE_DIGITS = 18


def record(
    target: Target,
    file: Annotated[str, Parameter(allow_leading_hyphen=True, help="One JSON object per line; - for standard input.")],
    /,
    *,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Record facts written as JSON lines, e.g. {"kind":"account","name":"A001"}. Repeating it changes nothing.

    Facts that move rights and stand in one block of 2,000 lines are recorded all or none; facts about orders end a block. An order that
    names no reserve gets one of its own; {"kind":"amend","id":"o2","order":"o1","price":"100"} replaces an order.
    """
    totals = {"facts": 0, "duplicates": 0, "lines": 0}
    name = "standard input" if file == "-" else file
    with ExitStack() as held:
        lines = read_lines(held.enter_context(_open(file)), name)
        node = held.enter_context(connect(target, cluster))
        for chunk in itertools.chain.from_iterable(map(runs_of, blocks(lines))):
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


def blocks(lines: Iterator[tuple[Line, int]]) -> Iterator[list[Line]]:
    """Lines in the blocks that are sent at once: at most ``BATCH_FACTS`` and about ``BATCH_BYTES``."""
    block: list[Line] = []
    size = 0
    for line, length in lines:
        block.append(line)
        size += length
        if len(block) == BATCH_FACTS or size >= BATCH_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def runs_of(block: Sequence[Line]) -> Iterator[Sequence[Line]]:
    """A block in the runs that a node records all or none."""
    from crdtledger.edge.ordering import runs

    for first, run in runs([fact for _, fact in block]):
        yield block[first - 1 : first - 1 + len(run)]


def read_lines(file: IO[bytes], name: str) -> Iterator[tuple[Line, int]]:
    """Each line's JSON object and its length in bytes; ``BadInput`` names the line that holds none. Blank lines are
    skipped."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        where = f"{name}:{number}"
        if len(raw) > MAX_LINE_BYTES:
            raise BadInput(what="line", where=where, why=f"longer than {MAX_LINE_BYTES} bytes")
        if not raw.strip():
            continue
        try:
            fact = json.loads(raw, parse_int=_integer)
            if b"\\u" in raw:
                json.dumps(fact, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            raise BadInput(what="line", where=where, why=f"not JSON: {error}") from None
        if not isinstance(fact, dict):
            raise BadInput(what="line", where=where, why="one JSON object per line")
        yield (number, fact), len(raw)


def _integer(digits: str) -> Any:
    """Integers beyond 64 bits travel as text, which is as exact."""
    return int(digits) if len(digits) <= _SAFE_DIGITS else digits
