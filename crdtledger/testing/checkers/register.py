"""A register: reads, writes and compare-and-sets, each as if at one instant between its beginning and its end.

Operations: ``read`` (and ``final``), whose answer is the value, null before anything was written; ``write`` of a value; ``cas`` of
``[old, new]``, which is ok if it found ``old`` and fails if it did not. A failed operation says nothing. With ``keyed`` there are many
registers: every value is ``[key, value]``, and each key is a history of its own, because registers that are linearizable one by one are so
together (Herlihy, Wing, 1990, theorem 1).

The search and its sources are in ``linearise``. Where there is no order, the history is cut off at the first operation for which there is
none, and reads are left out as long as it stays impossible: what remains is the shortest reason that was found. (Leaving a read out only
allows more, so what is impossible without it is impossible with it; a write cannot be left out.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from crdtledger.testing.checkers.linearise import Budget, Exhausted, Ordered, State, Stuck, Task, linearise
from crdtledger.testing.checkers.verdict import FINAL, READ, Findings, Verdict, key_of, known, misfit, shown
from crdtledger.testing.history import Call, History

WRITE: Final = "write"
CAS: Final = "cas"
BUDGET: Final = 10_000_000
"""Configurations and calls that are tried, over all keys: some seconds."""
SHORTENING: Final = 200_000
"""As many more to find a shorter reason."""


def check_register(history: History, *, initial: Any = None, keyed: bool = False, budget: int = BUDGET) -> Verdict:
    """Whether the history is linearizable. ``initial``: what every register held at first. ``found``: how many keys are, by verdict."""
    known(history, READ, FINAL, WRITE, CAS)
    findings = Findings("register")
    registers: dict[bytes, _Register] = {}
    for call in history.calls:
        key = _pair(call, call.asked)[0] if keyed else None
        registers.setdefault(key_of(key), _Register(key, initial, keyed)).add(call)
    verdicts = {"yes": 0, "no": 0, "unknown": 0}
    for register in registers.values():
        verdicts[register.judge(budget // len(registers), findings)] += 1
    return findings.verdict({"keys": verdicts})


def _pair(call: Call, value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise misfit(call, f"{shown(value)} should be a list of two")
    return value


class _Register:
    """One register's calls."""

    def __init__(self, key: Any, initial: Any, keyed: bool) -> None:
        self._name = f"{shown(key)}: " if keyed else ""
        self._keyed = keyed
        self._start = key_of(initial).decode()
        self._calls: list[Call] = []
        self._args: list[tuple[str, str, str]] = []

    def add(self, call: Call) -> None:
        """The next call. BadInput if its values are not of its kind."""
        if call.outcome == "fail":
            return
        value = call.answer if call.f in (READ, FINAL) else call.asked
        if self._keyed and (call.f not in (READ, FINAL) or call.outcome == "ok"):
            value = _pair(call, value)[1]
        if call.f == CAS:
            old, new = _pair(call, value)
            self._args.append((CAS, key_of(old).decode(), key_of(new).decode()))
        else:
            held = key_of(value).decode()
            self._args.append((READ if call.f in (READ, FINAL) else WRITE, held, held))
        self._calls.append(call)

    def judge(self, budget: int, findings: Findings) -> str:
        """The verdict; what is wrong goes to ``findings``."""
        numbers = list(range(len(self._calls)))
        outcome = self._linearise(numbers, Budget(budget))
        if isinstance(outcome, Exhausted):
            at = self._calls[outcome.task]
            findings.doubt(f"{self._name}undecided after {budget} tries, at {at.told}; raise the budget")
            return "unknown"
        if isinstance(outcome, Ordered):
            return "yes"
        numbers, outcome = self._shortened(numbers, outcome, Budget(min(budget, SHORTENING)))
        self._tell(numbers, outcome, findings)
        return "no"

    def _linearise(self, numbers: Sequence[int], budget: Budget) -> Ordered | Stuck | Exhausted:
        tasks = [
            Task(call.began, call.ended, args, pure=args[0] == READ, blind=args[0] == WRITE)
            for args, call in ((self._args[number], self._calls[number]) for number in numbers)
        ]

        def effect(state: State, task: int) -> State | None:
            kind, old, new = self._args[numbers[task]]
            return new if kind == WRITE or state == old else None

        return linearise(tasks, self._start, effect, budget)

    def _shortened(self, numbers: list[int], stuck: Stuck, budget: Budget) -> tuple[list[int], Stuck]:
        """Fewer calls that are still impossible: those up to the end of the stuck one, without the reads that are not needed."""
        last = numbers[stuck.task]
        end = self._calls[last].ended
        assert end is not None
        numbers = [number for number in numbers if self._calls[number].began < end]
        size = len(numbers)
        while size:
            at = len(numbers)
            while at > 0:
                chunk = [n for n in numbers[max(0, at - size) : at] if self._args[n][0] == READ and n != last]
                at -= size
                fewer = [n for n in numbers if n not in chunk]
                again = self._linearise(fewer, budget) if chunk else None
                if isinstance(again, Stuck) and fewer[again.task] == last:
                    numbers, stuck = fewer, again
            size //= 2
        return numbers, Stuck(numbers.index(last), stuck.reached, stuck.under_way)

    def _tell(self, numbers: Sequence[int], stuck: Stuck, findings: Findings) -> None:
        impossible = numbers[stuck.task]
        offending = {impossible}
        lines = [f"{self._name}{self._calls[impossible].told} cannot be"]
        for state, order in stuck.reached.items():
            made = next((numbers[task] for task in reversed(order) if self._args[numbers[task]][0] != READ), None)
            how = "as at first" if made is None else f"after {self._calls[made].told}"
            lines.append(f"    before it the register may have held {state}, {how}")
            offending |= set() if made is None else {made}
        reads = [number for number in numbers if self._args[number][0] == READ and number != impossible]
        lines += [f"    because of {self._calls[number].told}" for number in reads]
        under_way = [numbers[task] for task in stuck.under_way if self._args[numbers[task]][0] != READ]
        lines += [f"    meanwhile there may have been {self._calls[number].invoked}" for number in under_way[-8:]]
        offending |= {*reads, *under_way[-8:]}
        findings.fault("not linearizable", "\n".join(lines), [self._calls[number] for number in sorted(offending)])
