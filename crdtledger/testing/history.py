"""What the clients of a system did and heard, in the order in which it happened: the input of the checkers.

A history is a list of operations. A *process* is one client that does one thing after the other: it invokes something, and later learns
that it took effect (``ok``), that it did not and never will (``fail``), or nothing it can rely on (``info``: a timeout, a lost link).
What is ``info`` may take effect at any time after its invocation, or never; its process never returns, because whoever goes on after it
is somebody else. An invocation that the history ends with is the same as ``info``.

    recorder = Recorder(clock=lambda: now_us)
    recorder.invoke("client 1", "add", 7)
    recorder.ok("client 1")
    history = recorder.history()

The idea of histories, their four types and their words are those of Jepsen (Kyle Kingsbury, https://jepsen.io), whose tests write the
same in EDN; here an operation is a line of JSON. Not here: what a history means (``crdtledger.testing.checkers``), who makes one of a
simulated cluster (``crdtledger.testing.recording``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias, overload

import msgspec

from crdtledger.errors import BadInput

Type: TypeAlias = Literal["invoke", "ok", "fail", "info"]
Process: TypeAlias = int | str

WHERE: Final = "history"


class Op(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One line of a history. ``f``: what is done, for instance ``"read"``; ``value``: what it is done with or, of an ``ok``, what came
    back: any JSON. ``time_us``: microseconds on the recorder's clock, never going back. ``error``: why it failed, for people."""

    process: Process
    type: Type
    f: str
    value: Any = None
    time_us: int = 0
    error: str = ""

    def __str__(self) -> str:
        words = [f"{self.process} {self.type} {self.f}"]
        words += [] if self.value is None else [msgspec.json.encode(self.value).decode()]
        return " ".join([*words, *([f"({self.error})"] if self.error else [])])


class Call(msgspec.Struct, frozen=True):
    """An invocation and what became of it. ``outcome`` is ``info`` where it was never heard of again. ``began`` and ``ended`` are places
    in the history; what is ``info`` ends nowhere: None."""

    invoked: Op
    completed: Op | None
    began: int
    ended: int | None

    @property
    def f(self) -> str:
        return self.invoked.f

    @property
    def outcome(self) -> Type:
        return "info" if self.completed is None else self.completed.type

    @property
    def asked(self) -> Any:
        """What it was invoked with."""
        return self.invoked.value

    @property
    def answer(self) -> Any:
        """What came back; None unless it is ok."""
        return self.completed.value if self.completed is not None and self.outcome == "ok" else None

    @property
    def told(self) -> Op:
        """The line that says most: the answer if there is one."""
        return self.invoked if self.completed is None else self.completed


class History(Sequence[Op]):
    """Well-formed operations in order. Raises BadInput, naming the line, where they are not: two open operations of one process, an
    answer to nothing or to something else, a process that returns after ``info``, a clock that goes back."""

    def __init__(self, ops: Iterable[Op]) -> None:
        self._ops = tuple(ops)
        self.calls: tuple[Call, ...] = tuple(_paired(self._ops))
        """In order of their invocation."""

    def __len__(self) -> int:
        return len(self._ops)

    @overload
    def __getitem__(self, at: int) -> Op: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Op]: ...

    def __getitem__(self, at: int | slice) -> Op | Sequence[Op]:
        return self._ops[at]

    def __iter__(self) -> Iterator[Op]:
        return iter(self._ops)

    def encode(self) -> bytes:
        """One line of JSON an operation."""
        return b"".join(msgspec.json.encode(op) + b"\n" for op in self._ops)

    def of(self, *names: str) -> list[Call]:
        """The calls of these functions."""
        return [call for call in self.calls if call.f in names]


def read_history(raw: bytes | str) -> History:
    """The history of JSON lines; empty lines do not count. Raises BadInput with the number of the first line that does not fit."""
    lines = (raw.encode() if isinstance(raw, str) else raw).splitlines()
    ops: list[Op] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            ops.append(msgspec.json.decode(line, type=Op))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadInput(what=f"line {number}", where=WHERE, why=str(error)) from None
    return History(ops)


class Recorder:
    """Writes down what processes do, checked as it comes. ``clock`` gives microseconds, real or virtual."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._ops: list[Op] = []
        self._rules = _Rules()

    def invoke(self, process: Process, f: str, value: Any = None) -> None:
        """A process begins something."""
        self._note(process, "invoke", f, value, "")

    def ok(self, process: Process, value: Any = None) -> None:
        """What it began took effect. Without a ``value``, what it was invoked with stands."""
        begun = self._rules.begun(process)
        self._note(process, "ok", begun.f, begun.value if value is None else value, "")

    def fail(self, process: Process, error: str = "") -> None:
        """What it began did not take effect, and never will."""
        begun = self._rules.begun(process)
        self._note(process, "fail", begun.f, begun.value, error)

    def info(self, process: Process, error: str = "") -> None:
        """Nobody knows whether what it began took effect, or will. The process is not heard of again."""
        begun = self._rules.begun(process)
        self._note(process, "info", begun.f, begun.value, error)

    def open(self) -> list[Process]:
        """The processes that wait for an answer."""
        return list(self._rules.opened)

    def history(self) -> History:
        """What was written down so far."""
        return History(self._ops)

    def _note(self, process: Process, type: Type, f: str, value: Any, error: str) -> None:
        op = Op(process, type, f, value, self._clock(), error)
        self._rules.take(len(self._ops), op)
        self._ops.append(op)


class _Rules:
    """What may come next."""

    def __init__(self) -> None:
        self.opened: dict[Process, tuple[int, Op]] = {}
        self._gone: dict[Process, int] = {}
        self._last_us: int | None = None

    def begun(self, process: Process) -> Op:
        """What the process waits for."""
        if process not in self.opened:
            why = "it has nothing open: an answer needs an invocation first"
            raise BadInput(what=f"process {process!r}", where=WHERE, why=why)
        return self.opened[process][1]

    def take(self, at: int, op: Op) -> tuple[int, Op] | None:
        """Operation number ``at``; for one that completes, where its invocation stands, and that."""

        def refuse(why: str) -> BadInput:
            return BadInput(what=f"operation {at + 1} ({op})", where=WHERE, why=why)

        if self._last_us is not None and op.time_us < self._last_us:
            raise refuse(f"its time {op.time_us} is before {self._last_us}, that of the operation before it")
        if op.process in self._gone:
            gone = self._gone[op.process] + 1
            raise refuse(f"the process ended with the info at operation {gone}; who goes on is another process")
        open_at, begun = self.opened.get(op.process, (0, None))
        if op.type == "invoke":
            if begun is not None:
                raise refuse(f"the process has not completed operation {open_at + 1} ({begun})")
            self.opened[op.process] = (at, op)
        elif begun is None:
            raise refuse("the process has nothing open that this could complete")
        elif begun.f != op.f:
            raise refuse(f"the process waits for {begun.f}, not for {op.f}")
        self._last_us = op.time_us
        if op.type == "info":
            self._gone[op.process] = at
        return None if op.type == "invoke" else self.opened.pop(op.process)


def _paired(ops: Sequence[Op]) -> list[Call]:
    rules = _Rules()
    calls: list[Call] = []
    for at, op in enumerate(ops):
        pair = rules.take(at, op)
        if pair:
            began, invoked = pair
            calls.append(Call(invoked, op, began, None if op.type == "info" else at))
    calls += [Call(invoked, None, began, None) for began, invoked in rules.opened.values()]
    return sorted(calls, key=lambda call: call.began)
