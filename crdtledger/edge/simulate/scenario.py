"""All options of a simulated run, in one struct: what ``run`` is given besides the seed.

    Scenario(nodes=4, seconds=600, nemesis=Nemesis(partition_s=20), workload=Workload(pause_ms=200))

A scenario and a seed are a run, byte for byte. Everything has a unit in its name: seconds of virtual time, parts per million, mean
times between events (0: never). It reads and writes JSON, and TOML in, with the path of what does not fit.
"""

from __future__ import annotations

import tomllib
from typing import Any

import msgspec

from crdtledger.edge.simulate.liars import LIES
from crdtledger.errors import BadInput
from gossip.network import Faults

MAX_NODES = 64
MAX_SECONDS = 86_400
TRADING = ("orders", "cancels", "shares", "matches", "accepts")
"""The kinds of requests that are about orders."""


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What clients do. ``pause_ms``: mean time between two requests, at random nodes. The others are weights: how often, in proportion,
    fills are recorded, told otherwise, taken back, imported as columns; money deposited, spent, granted, reserved; names defined; orders
    placed, cancelled, shared with other nodes, matched, and matches answered."""

    pause_ms: int = 1_000
    fills: int = 8
    contradictions: int = 1
    busts: int = 1
    columns: int = 1
    deposits: int = 1
    spends: int = 6
    grants: int = 1
    reserves: int = 2
    definitions: int = 1
    orders: int = 3
    cancels: int = 1
    shares: int = 1
    matches: int = 3
    accepts: int = 3


class Nemesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What goes wrong: mean seconds between events of a kind, 0 for never. ``heal_s``: mean time until the network is whole again after
    it was cut, ``down_s`` until a crashed node is started again. ``restore_s``: an old backup is put under a node."""

    partition_s: int = 30
    isolate_s: int = 40
    cut_s: int = 40
    clog_s: int = 40
    crash_s: int = 30
    skew_s: int = 60
    restore_s: int = 0
    heal_s: int = 10
    down_s: int = 5


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``nodes`` of which the last ``liars`` lie, one lie each (see ``liars``), for ``seconds`` of virtual time; then all is healed, and
    agreement must come within ``settle_s``.

    ``agreement``: whether validators certify checkpoints, every ``checkpoint_ms``. ``prunes``: whether journals let go of what a
    snapshot stands for; ``shelf_heights``: how many settled heights stay in memory. ``jump_heights``: who is so many behind takes the
    settled state from a peer; 0: nobody does.
    """

    nodes: int = 4
    seconds: int = 600
    agreement: bool = True
    checkpoint_ms: int = 5_000
    prunes: bool = False
    shelf_heights: int = 16
    jump_heights: int = 0
    liars: tuple[str, ...] = ()
    settle_s: int = 600
    faults: Faults = Faults(latency_mean_us=5_000, loss_ppm=10_000, torn=True)
    workload: Workload = Workload()
    nemesis: Nemesis = Nemesis()

    def encode(self) -> bytes:
        """As indented JSON, every option spelt out."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2)

    def checked(self) -> Scenario:
        """This scenario, or ``BadInput`` with the path of what cannot be."""
        for path, value, low, high in self._ranges():
            if not low <= value <= high:
                raise BadInput(what=str(value), where=f"scenario, $.{path}", why=f"{low} to {high}")
        for at, lie in enumerate(self.liars):
            if lie not in LIES:
                raise BadInput(what=repr(lie), where=f"scenario, $.liars[{at}]", why=f"one of {', '.join(LIES)}")
        if len(self.liars) > (self.nodes - 1) // 3:
            why = f"{self.nodes} validators bear {(self.nodes - 1) // 3}"
            raise BadInput(what=f"{len(self.liars)} liars", where="scenario, $.liars", why=why)
        if self.liars and not self.agreement:
            raise BadInput(what="liars", where="scenario, $.liars", why="they lie about checkpoints: set agreement")
        if self.faults.latency_mean_us < self.faults.latency_min_us:
            why = f"at least latency_min_us ({self.faults.latency_min_us})"
            where = "scenario, $.faults.latency_mean_us"
            raise BadInput(what=str(self.faults.latency_mean_us), where=where, why=why)
        return self

    def _ranges(self) -> list[tuple[str, int, int, int]]:
        """(path, value, least, most) of every number."""
        most = 1_000_000
        loads = [("workload", field, getattr(self.workload, field)) for field in self.workload.__struct_fields__[1:]]
        events = [("nemesis", field, getattr(self.nemesis, field)) for field in self.nemesis.__struct_fields__]
        chances = [(field, getattr(self.faults, field)) for field in ("loss_ppm", "duplicate_ppm")]
        times = [(f, getattr(self.faults, f)) for f in ("latency_min_us", "latency_mean_us", "detect_us", "sync_us")]
        return [
            ("nodes", self.nodes, 1, MAX_NODES),
            ("seconds", self.seconds, 1, MAX_SECONDS),
            ("checkpoint_ms", self.checkpoint_ms, 50, 600_000),
            ("shelf_heights", self.shelf_heights, 1, 1_024),
            ("jump_heights", self.jump_heights, 0, 1_024),
            ("settle_s", self.settle_s, 1, MAX_SECONDS),
            ("workload.pause_ms", self.workload.pause_ms, 1, 3_600_000),
            ("workload", sum(value for _, _, value in loads), 1, 10 * most),
            *((f"{part}.{field}", value, 0, most) for part, field, value in loads),
            *((f"{part}.{f}", value, int(f in ("heal_s", "down_s")), most) for part, f, value in events),
            *((f"faults.{field}", value, 0, 900_000) for field, value in chances),
            *((f"faults.{field}", value, 0, 3_600_000_000) for field, value in times),
            ("faults.trace_lines", self.faults.trace_lines, 0, 10_000_000),
        ]


def read_scenario(raw: bytes, file: str) -> Scenario:
    """A scenario from TOML (``file`` ends so) or JSON. ``BadInput`` names the path of the first thing that does not fit."""
    try:
        plain: Any = tomllib.loads(raw.decode()) if file.endswith(".toml") else msgspec.json.decode(raw)
        return msgspec.convert(plain, Scenario).checked()
    except msgspec.ValidationError as error:
        why, _, path = str(error).partition(" - at `")
        raise BadInput(what="scenario", where=f"{file}, {path.rstrip('`') or '$'}", why=why) from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(what="scenario", where=file, why=str(error)) from None
