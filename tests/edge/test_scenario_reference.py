"""docs/reference/scenario.md lists every option of a scenario with its default, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from crdtledger.edge.simulate.liars import LIES
from crdtledger.edge.simulate.scenario import Scenario

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "scenario.md"


def options(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in part.items():
        if isinstance(value, dict):
            yield from options(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def test_every_option_is_documented_with_its_default_and_no_other_is() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \| ([^|]*) \|", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE)
    told = {name: msgspec.json.decode(default) for name, default in rows}
    assert len(told) == len(rows)
    assert told == dict(options(msgspec.json.decode(Scenario().encode())))


def test_every_lie_is_named() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    assert all(f"`{lie}`" in text for lie in LIES)
