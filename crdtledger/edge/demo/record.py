"""What happened on the stage, in figures: written by the performance, read by the verdict."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct):
    """What happened, in figures. Times in seconds."""

    flow_s: float = 0.0
    cut_s: float = 0.0
    heal_s: float = 0.0
    refusals: int = 0
    repeated: int = 0
    paid: dict[str, int] = {}
    """Spends that were acknowledged during the cut, by side."""
    traded: dict[str, int] = {}
    """Trades that were acknowledged during the cut, by side."""
    apart: bool = False
    lanes: tuple[str, str] = ("", "")
    """What the killed node wrote in before and after: the same lane means the same epoch."""
    heists: int = 0
    twice: int = 0
    surprises: list[str] = []
    """Refusals for any other reason than rights."""
