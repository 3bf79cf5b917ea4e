"""Runs a fuzz target under atheris (libFuzzer, with coverage), or without it on plain random mutations.

    python -m tests.fuzz.frames -max_total_time=60

A target is a function of bytes that must not raise, hang or grow; its module calls ``run`` with it. What it may draw from the
bytes is atheris' own provider, or ``Draw``, which offers the few methods used here on top of a seeded generator.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

HAS_ATHERIS = importlib.util.find_spec("atheris") is not None
PACKAGES = ["crdtledger", "gossip"]


class Draw:
    """Values out of fuzzer bytes: when they run out, zeros."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not drawn yet."""
        return max(0, len(self._data) - self._at)

    def bytes(self, most: int) -> bytes:
        """Up to ``most`` bytes."""
        taken = self._data[self._at : self._at + most]
        self._at += most
        return taken

    def integer(self, low: int, high: int) -> int:
        """A number within ``low..high``."""
        width = max(1, ((high - low).bit_length() + 7) // 8)
        return low + int.from_bytes(self.bytes(width), "little") % (high - low + 1)

    def one_of(self, values: Sequence[Any]) -> Any:
        """One of these."""
        return values[self.integer(0, len(values) - 1)]

    def number(self) -> int:
        """A number as hostile ones are: at an edge of some type, or small."""
        edge = 1 << self.one_of((7, 8, 15, 16, 31, 32, 48, 53, 61, 62, 63, 64, 126))
        number: int = self.one_of((1, -1)) * (edge * self.integer(0, 1) + self.integer(-2, 2))
        return number

    def text(self) -> str:
        """Text as hostile ones are."""
        usual = (
            "",
            "A",
            "USDT",
            "BTCUSDT",
            "1",
            "07",
            "1e9",
            "-0",
            "NaN",
            "\0",
            "\ud800",
            "é" * 70,
            "x" * 129,
            "9" * 40,
        )
        return str(self.one_of(usual)) if self.integer(0, 3) else self.bytes(12).decode("latin-1")

    def value(self, depth: int = 3) -> Any:
        """Any JSON-like value."""
        kind = self.integer(0, 8 if depth else 5)
        if kind == 6:
            return [self.value(depth - 1) for _ in range(self.integer(0, 4))]
        if kind >= 7:
            return {self.text(): self.value(depth - 1) for _ in range(self.integer(0, 4))}
        return self.one_of((None, True, 1.5, float("inf"), self.number(), self.text(), self.text(), self.bytes(9)))


def run(target: Callable[[bytes], None], seeds: Sequence[bytes] = ()) -> None:
    """Fuzz ``target`` as the command line says (libFuzzer's options)."""
    if not HAS_ATHERIS:
        _mutate(target, seeds)
        return
    import tempfile
    from pathlib import Path

    import atheris  # type: ignore[import-untyped]

    draw = random.Random(0)
    noise = [draw.randbytes(draw.randrange(1_500)) for _ in range(64)]  # libFuzzer would begin with a byte or two
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate([*seeds, *noise]):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-len_control=0", *sys.argv[1:], corpus], target)
        atheris.Fuzz()


def _mutate(target: Callable[[bytes], None], seeds: Sequence[bytes]) -> None:
    options = dict(argument.partition("=")[::2] for argument in sys.argv[1:] if "=" in argument)
    draw = random.Random(int(options.get("-seed", 0)))
    end = time.monotonic() + float(options.get("-max_total_time", 60))
    while time.monotonic() < end:
        data = bytearray(draw.choice([*seeds, draw.randbytes(draw.randrange(1_500))]))
        for _ in range(draw.randrange(6)):
            at = draw.randrange(len(data) + 1)
            data[at : at + draw.randrange(5)] = draw.randbytes(draw.randrange(9))
        target(bytes(data))


def imports() -> Any:
    """A context in which the packages are imported with coverage, where atheris is there."""
    if not HAS_ATHERIS:
        import contextlib

        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=PACKAGES)
