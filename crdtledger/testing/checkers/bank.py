"""A bank: money moves between accounts and never comes into being or goes.

Operations: ``transfer`` with ``{"from": account, "to": account, "amount": n}``; ``read`` and ``final`` whose answer is
``{account: balance}``. Whatever was transferred, or may have been, every read that sees all accounts shows the same total, and no balance
is negative unless ``negative`` allows it. A read that lacks accounts (or says null of them) is *partial*: of it only what it shows is
judged, and that it is not more than everything, where balances cannot be negative.

With ``opening``, the balances at first, the final reads are held against the transfers, too: every acknowledged one must be in them, and
some choice of the indeterminate ones explains the rest. Choices are counted up to ``choices`` different balances; beyond, it is unknown.

The workload is Jepsen's bank (first for "Percona XtraDB Cluster", 2015); explaining the last balances is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from crdtledger.testing.checkers.verdict import FINAL, READ, Findings, Verdict, known, misfit, shown, whole
from crdtledger.testing.history import Call, History

TRANSFER: Final = "transfer"
CHOICES: Final = 100_000

Balances = Mapping[str, int]


def check_bank(
    history: History,
    total: int,
    accounts: Collection[str],
    *,
    negative: bool = False,
    opening: Balances | None = None,
    choices: int = CHOICES,
) -> Verdict:
    """Whether the money is always there. ``found``: how many reads were whole and how many partial, and what became of transfers."""
    known(history, TRANSFER, READ, FINAL)
    findings = Findings("bank")
    transfers = [(call, _moved(call, accounts)) for call in history.of(TRANSFER)]
    counts = {"whole": 0, "partial": 0}
    for call in history.of(READ, FINAL):
        if call.outcome != "ok":
            continue
        balances = _balances(call)
        unknown = sorted(set(balances) - set(accounts))
        if unknown:
            findings.fault("unexpected account", f"{', '.join(unknown)} in what {call.told.process} read", [call])
        below = {name: balance for name, balance in balances.items() if balance < 0}
        if below and not negative:
            findings.fault("negative balance", f"{shown(below)} in what {call.told.process} read", [call])
        lacking = set(accounts) - set(balances)
        counts["partial" if lacking else "whole"] += 1
        came_to = sum(balances.values())
        if came_to != total and not lacking:
            findings.fault(
                "wrong total", f"{call.told.process} read {came_to} instead of {total}: {shown(balances)}", [call]
            )
        elif came_to > total and not negative:
            line = f"{call.told.process} read {came_to} of {total} without having seen {', '.join(sorted(lacking))}"
            findings.fault("wrong total", line, [call])
        if call.f == FINAL and opening is not None and not lacking:
            _explain(call, balances, opening, transfers, choices, findings)
    if not counts["whole"]:
        findings.doubt("no read saw all accounts")
    outcomes = {what: sum(call.outcome == what for call, _ in transfers) for what in ("ok", "fail", "info")}
    return findings.verdict({**counts, "transfers": outcomes})


_Moves = tuple[str, str, int]


def _moved(call: Call, accounts: Collection[str]) -> _Moves:
    asked = call.asked
    if not isinstance(asked, Mapping) or set(asked) != {"from", "to", "amount"}:
        raise misfit(call, 'a transfer is {"from": account, "to": account, "amount": n}')
    for name in (asked["from"], asked["to"]):
        if name not in accounts:
            raise misfit(call, f"{shown(name)} is none of the accounts {', '.join(sorted(accounts))}")
    return asked["from"], asked["to"], whole(call, asked["amount"])


def _balances(call: Call) -> dict[str, int]:
    if not isinstance(call.answer, Mapping):
        raise misfit(call, "a read is answered with {account: balance}")
    return {str(name): whole(call, balance) for name, balance in call.answer.items() if balance is not None}


def _explain(
    read: Call,
    balances: Balances,
    opening: Balances,
    transfers: Sequence[tuple[Call, _Moves]],
    choices: int,
    findings: Findings,
) -> None:
    """Find a choice of the indeterminate transfers that makes the opening balances those that were read."""
    assert read.ended is not None
    names = sorted(balances)
    at = {name: number for number, name in enumerate(names)}
    missing = [balances[name] - opening.get(name, 0) for name in names]
    open_ones: list[tuple[Call, _Moves]] = []
    for call, moves in transfers:
        if call.outcome == "ok" and call.ended is not None and call.ended < read.began:
            _move(missing, at, moves, -1)
        elif call.outcome != "fail" and call.began < read.ended:
            open_ones.append((call, moves))
    wanted = tuple(missing)
    reached: set[tuple[int, ...]] = {(0,) * len(names)}
    for _, moves in open_ones:
        reached |= {_moved_on(one, at, moves) for one in reached}
        if len(reached) > choices:
            findings.doubt(f"{len(open_ones)} transfers are indeterminate: too many choices to explain the final read")
            return
    if wanted not in reached:
        gaps = {name: gap for name, gap in zip(names, wanted, strict=True) if gap}
        line = f"{read.told.process} read, beyond what was acknowledged, {shown(gaps)}"
        line += f", which none of the {len(reached)} outcomes of {len(open_ones)} indeterminate transfers makes"
        findings.fault("unexplained", line, [*(call for call, _ in open_ones), read])


def _move(balances: list[int], at: Mapping[str, int], moves: _Moves, sign: int) -> None:
    source, target, amount = moves
    balances[at[source]] -= sign * amount
    balances[at[target]] += sign * amount


def _moved_on(balances: tuple[int, ...], at: Mapping[str, int], moves: _Moves) -> tuple[int, ...]:
    changed: list[Any] = list(balances)
    _move(changed, at, moves, 1)
    return tuple(changed)
