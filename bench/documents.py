"""The same fills put into CRDT libraries used plainly: a map entry a fill, in one document and, by its update, in a second one.

Both documents keep a log of the updates, synced before the next block, and both are in one process: no network, no signature, no sums.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Callable, Sequence

from bench.join import Fills, entries
from bench.measured import Run, Wrong, timed


def documents(work: Sequence[Fills], expected: int) -> tuple[dict[str, Run], list[str]]:
    """The libraries that are here, each by name, and the names of those that are not installed. ``expected``: different fills."""
    here: dict[str, Run] = {}
    missing: list[str] = []
    for name, make in (("pycrdt", with_pycrdt), ("loro", with_loro)):
        if importlib.util.find_spec(name) is None:
            missing.append(name)
        else:
            here[f"{name}, a map entry a fill"] = _run(name, make, work, expected)
    return here, missing


Pair = tuple[Callable[[list[tuple[str, bytes]]], bytes], Callable[[bytes], None], Callable[[], int]]
"""Put a block in and give the update; take an update in; how many entries the second document has."""


def _run(name: str, make: Callable[[], Pair], work: Sequence[Fills], expected: int) -> Run:
    def run() -> float:
        put, take, count = make()
        with tempfile.TemporaryFile(buffering=0) as first, tempfile.TemporaryFile(buffering=0) as second:

            def replicate() -> None:
                for fills in work:
                    update = put([(f"{fills.instrument}/{key}", value) for key, value in entries(fills)])
                    first.write(update)
                    os.fdatasync(first.fileno())
                    take(update)
                    second.write(update)
                    os.fdatasync(second.fileno())

            seconds = timed(replicate)
        if count() != expected:
            raise Wrong(f"{name} holds {count()} fills, not {expected}")
        return seconds

    return run


def with_pycrdt() -> Pair:
    """Two pycrdt documents."""
    from pycrdt import Doc, Map

    source: Doc[Map[bytes]] = Doc()
    target: Doc[Map[bytes]] = Doc()
    held, arrived = source.get("fills", type=Map), target.get("fills", type=Map)

    def put(pairs: list[tuple[str, bytes]]) -> bytes:
        before = source.get_state()
        with source.transaction():
            for key, value in pairs:
                held[key] = value
        return source.get_update(before)

    return put, target.apply_update, lambda: len(arrived)


def with_loro() -> Pair:
    """Two loro documents."""
    from loro import ExportMode, LoroDoc

    source, target = LoroDoc(), LoroDoc()
    held = source.get_map("fills")

    def put(pairs: list[tuple[str, bytes]]) -> bytes:
        before = source.oplog_vv
        for key, value in pairs:
            held.insert(key, value)
        source.commit()
        return bytes(source.export(ExportMode.Updates(before)))

    def take(update: bytes) -> None:
        target.import_(update)

    return put, take, lambda: len(target.get_map("fills"))
