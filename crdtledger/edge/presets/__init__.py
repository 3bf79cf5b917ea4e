"""Definitions in TOML: files that people write, and ready-made ones for common venues.

    [[instrument]]
    name = "BTCUSD-PERP"
    type = "perp"
    ...

    [[account]]
    name = "A001"

A table is one fact and has the fact's fields (``crdtledger.ledger.facts``); sizes and strikes are text or whole numbers. A
preset is such a file beside this module, with a ``venue`` above the tables: trades of these
instruments are imported under that venue's name. Impure: reads files.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from crdtledger.errors import BadInput, UnknownName

_FOLDER: Final = Path(__file__).parent
_KINDS: Final = ("instrument", "account")

Line: TypeAlias = tuple[int, dict[str, Any]]
"""The line that a table starts on, and the fact in it."""


def names() -> list[str]:
    """Every preset, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def lines(name: str) -> list[Line]:
    """The facts of a preset. ``UnknownName`` names the nearest one."""
    if name not in names():
        raise UnknownName(kind="preset", name=name, known=names())
    return read(_FOLDER / f"{name}.toml")


def venue_of(instrument: str) -> str | None:
    """The venue of the preset that defines ``instrument``, or None."""
    return next((row["venue"] for row in rows() if row["instrument"] == instrument), None)


def rows() -> list[dict[str, Any]]:
    """Every instrument of every preset, for people to choose from."""
    return [_row(name, instrument, venue) for name in names() for venue, instrument in _instruments(name)]


def _instruments(name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))
    for instrument in content["instrument"]:
        yield content["venue"], instrument


def _row(preset: str, instrument: Mapping[str, Any], venue: str) -> dict[str, Any]:
    return {
        "preset": preset,
        "instrument": instrument["name"],
        "venue": venue,
        "type": instrument["type"],
        "inverse": instrument.get("inverse", False),
        "settlement": instrument["settlement"],
        "contract_size": str(instrument.get("contract_size", 1)),
    }


def read(file: Path) -> list[Line]:
    """The facts of a TOML file in its order, each with the line of its table. ``BadInput`` names what does not fit."""
    try:
        text = file.read_text("utf-8")
        content = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(what="definitions", where=str(file), why=f"cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise BadInput(what="definitions", where=str(file), why=f"not TOML: {error}") from None
    out: list[Line] = []
    for kind in _KINDS:
        places = [number for number, line in enumerate(text.splitlines(), 1) if line.strip() == f"[[{kind}]]"]
        tables = content.pop(kind, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise BadInput(what=kind, where=str(file), why=f"write each one as a table headed [[{kind}]]")
        for index, table in enumerate(tables):
            out.append((places[index] if index < len(places) else 1, {"kind": kind, **_portable(table)}))
    content.pop("venue", None)
    if content:
        known = ", ".join(f"[[{kind}]]" for kind in _KINDS)
        raise BadInput(what=next(iter(content)), where=str(file), why=f"only {known} tables are read")
    if not out:
        raise BadInput(what="definitions", where=str(file), why="no [[instrument]] or [[account]] table")
    return sorted(out, key=lambda line: line[0])


def _portable(table: dict[str, Any]) -> dict[str, Any]:
    """Dates and the like as text: the node says what it wants instead."""
    return {
        key: value if isinstance(value, str | int | float | bool) else str(value)
        for key, value in table.items()
        if key != "kind"
    }
