"""What a checker found: a verdict that a test asserts, figures that a program reads, a story that a person does.

Checkers of eventually consistent systems tell *final* reads from others: a read with ``f`` of ``"final"`` was made when everything was
healed and had come to rest, and has no excuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

from crdtledger.errors import BadInput
from crdtledger.testing.history import WHERE, Call, History, Op

Validity: TypeAlias = Literal["yes", "no", "unknown"]

READ: Final = "read"
FINAL: Final = "final"
TOLD: Final = 8
"""How many faults of a kind a story tells; the others are counted."""


class Verdict(msgspec.Struct, frozen=True):
    """``valid``: no where there is proof of a fault, unknown where there is too little to go by or a budget ran out. ``found``: figures
    and elements by name. ``offending``: the operations that prove the fault, in order. It is true where ``valid`` is yes."""

    valid: Validity
    found: Mapping[str, Any]
    offending: tuple[Op, ...]
    story: str

    def __bool__(self) -> bool:
        return self.valid == "yes"

    def __str__(self) -> str:
        return self.story


class Findings:
    """Faults as a checker comes across them, and what they come to."""

    def __init__(self, subject: str) -> None:
        self._subject = subject
        self._faults: dict[str, int] = {}
        self._lines: list[str] = []
        self._ops: dict[int, Op] = {}
        self._doubts: list[str] = []

    def fault(self, kind: str, line: str, calls: Iterable[Call] = ()) -> None:
        """A fault of a ``kind``, in words, proved by ``calls``."""
        self._faults[kind] = self._faults.get(kind, 0) + 1
        if self._faults[kind] <= TOLD:
            self._lines.append(f"{kind}: {line}")
        for call in calls:
            self._ops[call.began if call.ended is None else call.ended] = call.told

    def doubt(self, line: str) -> None:
        """Why nobody can tell, unless there is a fault."""
        self._doubts.append(line)

    def verdict(self, found: Mapping[str, Any]) -> Verdict:
        """What it all comes to."""
        valid: Validity = "no" if self._faults else "unknown" if self._doubts else "yes"
        more = [f"... and {n - TOLD} more: {kind}" for kind, n in self._faults.items() if n > TOLD]
        heading = {"yes": "holds", "no": "does not hold", "unknown": "cannot be told"}[valid]
        story = "\n".join([f"{self._subject}: {heading}", *(f"  {line}" for line in self._lines + more + self._doubts)])
        return Verdict(
            valid, {**found, "faults": dict(self._faults)}, tuple(op for _, op in sorted(self._ops.items())), story
        )


def key_of(value: Any) -> bytes:
    """Equal JSON values have equal keys, whatever they are; 1 is not 1.0 and not true."""
    return msgspec.json.encode(value, order="deterministic")


def shown(value: Any) -> str:
    """A value in a story."""
    text = key_of(value).decode()
    return text if len(text) <= 200 else f"{text[:200]}..."


def known(history: History, *names: str) -> None:
    """Raise BadInput for the first operation that is none of these."""
    for call in history.calls:
        if call.f not in names:
            raise misfit(call, f"this checker knows {', '.join(names)}")


def misfit(call: Call, why: str) -> BadInput:
    """The refusal of an operation that is not in the form that a checker needs."""
    return BadInput(what=f"operation {call.began + 1} ({call.told})", where=WHERE, why=why)


def whole(call: Call, value: Any) -> int:
    """``value`` as an integer; BadInput if it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise misfit(call, f"{shown(value)} should be an integer")
    return value


def listed(call: Call, value: Any) -> Sequence[Any]:
    """``value`` as a list; BadInput if it is none."""
    if not isinstance(value, list | tuple):
        raise misfit(call, f"{shown(value)} should be a list of elements")
    return value
