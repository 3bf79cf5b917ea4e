"""``crdtledger define``: reference data from a file or a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from crdtledger.edge.cli.blame import located
from crdtledger.edge.cli.options import GOOD, Format, Keys, Target
from crdtledger.edge.cli.output import emit, emit_one
from crdtledger.edge.cli.reach import connect
from crdtledger.edge.cli.record import BATCH_FACTS
from crdtledger.errors import BadInput, CallerError

COLUMNS = ("preset", "instrument", "venue", "type", "inverse", "settlement", "contract_size")


def define(
    target: Target,
    file: Annotated[Path | None, Parameter(help="A TOML file with [[instrument]] and [[account]] tables.")] = None,
    /,
    *,
    preset: Annotated[list[str] | None, Parameter(help="A ready-made set of instruments; see --list-presets.")] = None,
    list_presets: Annotated[bool, Parameter(help="Print the presets and record nothing.")] = False,
    format: Format = "table",
    cluster: Keys = None,
) -> int:
    """Define instruments and accounts. A definition is immutable; defining the same again changes nothing."""
    from crdtledger.edge import presets

    if list_presets:
        emit(presets.rows(), COLUMNS, format)
        return GOOD
    if (file is None) == (not preset):
        raise BadInput(what="define", where="command line", why="a FILE.toml or --preset NAME, one of the two")
    blocks = [(f"preset {name}", presets.lines(name)) for name in preset or []]
    if file is not None:
        blocks.append((str(file), presets.read(file)))
    totals = {"facts": 0, "duplicates": 0}
    with connect(target, cluster) as node:
        for name, lines in blocks:
            for start in range(0, len(lines), BATCH_FACTS):
                part = lines[start : start + BATCH_FACTS]
                try:
                    answer = node.record([fact for _, fact in part])
                except CallerError as error:
                    raise located(error, name, part, part[0][0] - 1 if start else 0) from None
                for key in totals:
                    totals[key] += answer[key]
    emit_one(totals, format)
    return GOOD
