"""Banks, sets and counters: what is right passes, each fault is found by its name, and brute force agrees."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from crdtledger.errors import BadInput
from crdtledger.testing.checkers import Verdict, check_bank, check_counter, check_set, check_set_full
from crdtledger.testing.history import History
from tests.testing.histories import Script, counted_by_trying, counter_history, history, scripts

# -- counter --------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(scripts(16))
def test_a_counter_is_judged_as_by_trying_every_choice_of_additions(script: Script) -> None:
    drawn = counter_history(script)
    verdict = check_counter(drawn)
    event(f"possible: {verdict.valid}")
    read = any(call.outcome == "ok" for call in drawn.of("read"))
    assert verdict.valid == ("no" if not counted_by_trying(drawn) else "yes" if read else "unknown")


def test_a_counter_of_either_verdict_appears() -> None:
    draw = Random(3)
    drawn = [counter_history([(draw.randrange(4), draw.randrange(64)) for _ in range(14)]) for _ in range(200)]
    told = [check_counter(one).valid for one in drawn]
    assert min(told.count("yes"), told.count("no")) > 20
    assert all((valid == "no") == (not counted_by_trying(one)) for valid, one in zip(told, drawn, strict=True))


@pytest.mark.parametrize(
    ("text", "valid", "fault"),
    [
        ("a invoke add 2; a ok add 2; b invoke read; b ok read 2", "yes", None),
        ("a invoke add 2; a ok add 2; b invoke read; b ok read 0", "no", "out of bounds"),
        ("a invoke add -2; a ok add -2; b invoke read; b ok read 0", "no", "out of bounds"),
        ("a invoke add -2; b invoke read; b ok read -2; a ok add -2", "yes", None),
        ("a invoke add 2; a info add 2; b invoke read; b ok read 2; b invoke read; b ok read 0", "yes", None),
        ("a invoke add 2; b invoke read; b ok read 1; a ok add 2", "no", "no such sum"),
        ("a invoke add 2; a fail add 2; b invoke read; b ok read 2", "no", "out of bounds"),
        ("b invoke read; b ok read 2; a invoke add 2; a ok add 2", "no", "out of bounds"),
        ("a invoke add 2; a ok add 2", "unknown", None),
    ],
)
def test_what_a_counter_may_show(text: str, valid: str, fault: str | None) -> None:
    verdict = check_counter(history(text))
    assert verdict.valid == valid, verdict.story
    assert list(verdict.found["faults"]) == ([fault] if fault else [])


def test_an_eventual_counter_may_be_behind_before_the_final_read_only() -> None:
    behind = "a invoke add 2; a ok add 2; b invoke {f}; b ok {f} 0"
    assert check_counter(history(behind.format(f="read")), fresh=False).valid == "yes"
    assert check_counter(history(behind.format(f="final")), fresh=False).valid == "no"


def test_too_many_sums_leave_the_bounds() -> None:
    many = "".join(f"x{n} invoke add {1 << n}; x{n} info add {1 << n}; " for n in range(40))
    assert check_counter(history(many + f"a invoke read; a ok read {(1 << 40) - 1}"), sums=1_000)
    assert check_counter(history(many + f"a invoke read; a ok read {1 << 40}"), sums=1_000).valid == "no"


# -- set ------------------------------------------------------------------------------------------------------

ADDED = "a invoke add 1; a ok add 1; a invoke add 2; a ok add 2; c invoke add 3; c info add 3; "


@pytest.mark.parametrize(
    ("text", "valid", "fault"),
    [
        (ADDED + "b invoke final; b ok final [1, 2]", "yes", None),
        (ADDED + "b invoke final; b ok final [3, 2, 1]", "yes", None),
        (ADDED + "b invoke final; b ok final [1]", "no", "lost"),
        (ADDED + "b invoke read; b ok read [1]", "no", "lost"),
        (ADDED + "b invoke read; b ok read [1]; b invoke final; b ok final [1, 2]", "yes", None),
        (ADDED + "b invoke final; b ok final [1, 2, 4]", "no", "unexpected"),
        (ADDED + "b invoke final; b ok final [1, 2, 2]", "no", "duplicated"),
        (ADDED + "b invoke final; b ok final [1, 2]; d invoke final; d ok final [1, 2, 3]", "no", "diverged"),
        (ADDED + "b invoke final; b ok final [1, 2]; d invoke final; d ok final [1]", "no", "lost"),
        (ADDED + "d invoke add 5; d fail add 5; b invoke final; b ok final [1, 2, 5]", "no", "unexpected"),
        (
            "b invoke read; b ok read [1]; a invoke add 1; a ok add 1; b invoke final; b ok final [1]",
            "no",
            "unexpected",
        ),
        (ADDED, "unknown", None),
    ],
)
def test_what_a_set_may_show_in_the_end(text: str, valid: str, fault: str | None) -> None:
    verdict = check_set(history(text))
    assert verdict.valid == valid, verdict.story
    assert list(verdict.found["faults"]) == ([fault] if fault else [])


def test_the_set_checker_says_what_came_back_and_what_is_gone() -> None:
    verdict = check_set(history(ADDED + "b invoke final; b ok final [1, 3]"))
    assert verdict.found | {"faults": {}} == {
        "attempted": 3,
        "acknowledged": 2,
        "present": 2,
        "lost": [2],
        "recovered": [3],
        "faults": {},
    }
    assert [str(op) for op in verdict.offending] == ["a ok add 2", "b ok final [1,3]"]
    assert "lost: 2 was acknowledged and is not in what b read at last" in verdict.story


@pytest.mark.parametrize(
    ("text", "fresh", "valid", "found"),
    [
        ("b invoke read; b ok read [1, 2]", True, "yes", {"stable": [1, 2]}),
        ("b invoke read; b ok read [2]; b invoke read; b ok read [1, 2]", True, "no", {"stale": [1]}),
        ("b invoke read; b ok read [2]; b invoke read; b ok read [1, 2]", False, "yes", {"stale": [1]}),
        ("b invoke read; b ok read [1, 2]; b invoke read; b ok read [2]", False, "no", {"lost": [1]}),
        ("b invoke read; b ok read [1, 2, 3]; b invoke read; b ok read [1, 2]", True, "no", {"lost": [3]}),
        ("b invoke read; b ok read [1, 2]; c2 invoke add 4; c2 ok add 4", True, "yes", {"never_read": [3, 4]}),
        ("b invoke read; b ok read [1, 2, 3]", True, "yes", {"recovered": [3]}),
        ("b invoke read; b info read", True, "unknown", {"never_read": [1, 2, 3]}),
    ],
)
def test_what_each_element_of_a_set_came_to(text: str, fresh: bool, valid: str, found: dict[str, Any]) -> None:
    verdict = check_set_full(history(ADDED + text), fresh=fresh)
    assert verdict.valid == valid, verdict.story
    assert {name: verdict.found[name] for name in found} == found


def test_a_read_that_began_before_the_acknowledgement_may_miss_it() -> None:
    text = "b invoke read; a invoke add 1; a ok add 1; b ok read []; b invoke read; b ok read [1]"
    verdict = check_set_full(history(text))
    assert verdict
    assert verdict.found["stale"] == []


def real_set(seed: int) -> History:
    """Clients of a set on two machines that hear of each other now and then; in the end all is exchanged."""
    draw, lines = Random(seed), []
    held: list[set[int]] = [set(), set()]
    for number in range(60):
        at = draw.randrange(2)
        if draw.random() < 0.2:
            held[0] = held[1] = held[0] | held[1]
            held[1] = set(held[0])
        if draw.random() < 0.5:
            ends = draw.choice(("ok", "ok", "info"))
            held[at] |= {number} if ends == "ok" or draw.random() < 0.5 else set()
            lines += [f"c{number} invoke add {number}", f"c{number} {ends} add {number}"]
        else:
            lines += [f"c{number} invoke read", f"c{number} ok read {sorted(held[at])}"]
    lines += [f"z{at} {kind} final {sorted(held[0] | held[1])}" for at in range(2) for kind in ("invoke", "ok")]
    return history("\n".join(lines))


@given(st.integers(0, 500), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_one_element_taken_from_a_final_read_or_put_into_it_is_found(seed: int, draw: Random) -> None:
    good = real_set(seed)
    assert check_set(good), check_set(good).story
    assert check_set_full(good, fresh=False), check_set_full(good, fresh=False).story
    ops = list(good)
    at = draw.choice([at for at, op in enumerate(ops) if op.f == "final" and op.type == "ok"])
    elements = list(ops[at].value)
    change = draw.choice(["drop", "add", "twice"] if elements else ["add"])
    if change == "drop":
        gone = elements.pop(draw.randrange(len(elements)))
    else:
        elements.append(draw.choice(elements) if change == "twice" else 1_000)
    ops[at] = msgspec.structs.replace(ops[at], value=elements)
    verdict = check_set(History(ops))
    assert verdict.valid == "no"
    assert ops[at] in verdict.offending
    if change == "drop":
        assert gone in verdict.found["lost"] or "diverged" in verdict.found["faults"]


# -- bank -----------------------------------------------------------------------------------------------------


def bank(text: str, **options: Any) -> Verdict:
    return check_bank(history(text), 30, ("A", "B", "C"), **options)


MOVED = 'a invoke transfer {"from": "A", "to": "B", "amount": 4}; a ok transfer; '
DOUBTFUL = 'x invoke transfer {"from": "A", "to": "C", "amount": 5}; x info transfer; '
OPENING = {"A": 10, "B": 10, "C": 10}


@pytest.mark.parametrize(
    ("text", "valid", "fault"),
    [
        ('b invoke read; b ok read {"A": 6, "B": 14, "C": 10}', "yes", None),
        ('b invoke read; b ok read {"A": 10, "B": 14, "C": 10}', "no", "wrong total"),
        ('b invoke read; b ok read {"A": 6, "B": 13, "C": 10}', "no", "wrong total"),
        ('b invoke read; b ok read {"A": -4, "B": 24, "C": 10}', "no", "negative balance"),
        ('b invoke read; b ok read {"A": 6, "B": 14, "C": 10, "D": 0}', "no", "unexpected account"),
        ('b invoke read; b ok read {"A": 6, "B": 14, "C": null}', "unknown", None),
        ('b invoke read; b ok read {"A": 6, "B": 25}', "no", "wrong total"),
        ("b invoke read; b fail read", "unknown", None),
        ('b invoke final; b ok final {"A": 6, "B": 14, "C": 10}', "yes", None),
        ('b invoke final; b ok final {"A": 1, "B": 14, "C": 15}', "yes", None),
        ('b invoke final; b ok final {"A": 10, "B": 10, "C": 10}', "no", "unexplained"),
        ('b invoke final; b ok final {"A": 5, "B": 10, "C": 15}', "no", "unexplained"),
    ],
)
def test_what_a_bank_may_show(text: str, valid: str, fault: str | None) -> None:
    verdict = bank(MOVED + DOUBTFUL + text, opening=OPENING)
    assert verdict.valid == valid, verdict.story
    assert list(verdict.found["faults"]) == ([fault] if fault else [])


def test_a_bank_with_credit_may_be_below_zero() -> None:
    assert bank('b invoke read; b ok read {"A": -4, "B": 24, "C": 10}', negative=True)
    assert bank('b invoke read; b ok read {"A": -4, "B": 40}', negative=True).valid == "unknown"


def test_too_many_indeterminate_transfers_are_not_explained_for_ever() -> None:
    many = "".join(
        f'x{n} invoke transfer {{"from": "A", "to": "B", "amount": {1 << n}}}; x{n} info transfer; ' for n in range(30)
    )
    final = 'b invoke final; b ok final {"A": 10, "B": 10, "C": 10}'
    assert bank(many + final, opening=OPENING, choices=1_000).valid == "unknown"


@pytest.mark.parametrize(
    ("check", "text", "why"),
    [
        (bank, "a invoke transfer 7", "a transfer is"),
        (bank, 'a invoke transfer {"from": "A", "to": "Z", "amount": 1}', "none of the accounts"),
        (bank, "a invoke read; a ok read [1]", "answered with"),
        (lambda text: check_set(history(text)), "a invoke read; a ok read 1", "should be a list"),
        (lambda text: check_counter(history(text)), "a invoke add true", "should be an integer"),
        (lambda text: check_counter(history(text)), "a invoke incr 1", "knows add, read, final"),
    ],
)
def test_what_is_not_in_a_checkers_form_is_refused(check: Any, text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        check(text)


def test_a_story_tells_a_few_faults_and_counts_the_others() -> None:
    text = "".join(f"a invoke add {n}; a ok add {n}; " for n in range(20)) + "b invoke final; b ok final []"
    verdict = check_set(history(text))
    assert verdict.found["faults"] == {"lost": 20}
    assert "... and 12 more: lost" in verdict.story
    assert not verdict
