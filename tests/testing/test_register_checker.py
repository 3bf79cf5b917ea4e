"""The register checker against brute force on small histories, and against registers that are right, and wrong, on long ones."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import event, given, settings

from crdtledger.errors import BadInput
from crdtledger.testing.checkers import check_register
from crdtledger.testing.history import History, Op
from tests.testing.histories import (
    Script,
    history,
    linearizable_by_trying,
    real_register,
    register_history,
    scripts,
)


@settings(max_examples=300, deadline=None)
@given(scripts(12))
def test_it_says_what_trying_every_order_says(script: Script) -> None:
    drawn = register_history(script)
    verdict = check_register(drawn, initial=0)
    event(f"linearizable: {verdict.valid}")
    assert verdict.valid == ("yes" if linearizable_by_trying(drawn, 0) else "no"), drawn.encode().decode()


def test_both_verdicts_appear_among_small_histories() -> None:
    draw = Random(7)
    told = []
    for _ in range(200):
        drawn = register_history([(draw.randrange(4), draw.randrange(64)) for _ in range(11)])
        told.append(check_register(drawn, initial=0).valid)
        assert told[-1] == ("yes" if linearizable_by_trying(drawn, 0) else "no"), drawn.encode().decode()
    assert told.count("no") > 40
    assert told.count("yes") > 40


@pytest.mark.parametrize("crash", [0.0, 0.03])
def test_long_histories_of_a_right_register_are_decided(crash: float) -> None:
    for seed in range(3):
        assert check_register(real_register(seed, 400, 5, crash), budget=300_000).valid == "yes"


@pytest.mark.parametrize("crash", [0.0, 0.03])
def test_a_value_that_nobody_had_written_by_then_is_found_in_a_long_history(crash: float) -> None:
    for seed in range(3):
        good = real_register(seed, 400, 5, crash)
        reads = [at for at, op in enumerate(good) if op.type == "ok" and op.f == "read"]
        at = Random(seed).choice(reads[10:])
        wrong = [*good]
        wrong[at] = msgspec.structs.replace(wrong[at], value=99)
        verdict = check_register(History(wrong), budget=300_000)
        assert verdict.valid == "no"
        assert wrong[at] in verdict.offending
        assert len(verdict.offending) <= 12 + sum(op.type == "info" for op in good)


def test_stale_reads_that_are_planted_in_long_histories_are_mostly_found() -> None:
    """A read that answers what an earlier read answered may happen to be right; most are not."""
    found = 0
    for seed in range(8):
        good = real_register(seed, 200, 4)
        reads = [at for at, op in enumerate(good) if op.type == "ok" and op.f == "read"]
        early, late = reads[5], reads[-3]
        wrong = [*good]
        wrong[late] = msgspec.structs.replace(
            wrong[late], value=next(good[at].value for at in reads[5:] if good[at].value != good[late].value)
        )
        assert early != late
        found += check_register(History(wrong)).valid == "no"
    assert found >= 5


def test_the_counterexample_is_short_and_names_what_could_have_been() -> None:
    verdict = check_register(
        history(
            """a invoke write 1; a ok write 1; b invoke read; b ok read 1
            a invoke write 2; c invoke read; c ok read 2; b invoke read; b ok read 1; a ok write 2"""
        )
    )
    assert verdict.valid == "no"
    assert [str(op) for op in verdict.offending] == ["c ok read 2", "b ok read 1", "a ok write 2"]
    assert verdict.story.splitlines() == [
        "register: does not hold",
        "  not linearizable: b ok read 1 cannot be",
        "    before it the register may have held 2, after a ok write 2",
        "    because of c ok read 2",
        "    meanwhile there may have been a invoke write 2",
    ]


def test_an_indeterminate_write_may_take_effect_late_or_never() -> None:
    begun = "a invoke write 1; a info write 1; b invoke read; b ok read null; "
    assert check_register(history(begun))
    assert check_register(history(begun + "b invoke write 2; b ok write 2; b invoke read; b ok read 1"))
    again = "b invoke read; b ok read 1; b invoke write 2; b ok write 2; b invoke read; b ok read 1"
    assert check_register(history(begun + again)).valid == "no"


ONE_THEN_TWO = "x invoke write 1; x info write 1; y invoke cas [1, 2]; y info cas [1, 2]; "
EITHER = ("p invoke write 1; p info write 1; ", "q invoke cas [0, 1]; q info cas [0, 1]; ")
BOTH = "b invoke read; b ok read 1; b invoke write 5; b ok write 5; b invoke read; b ok read 1"


@pytest.mark.parametrize(
    "text",
    [
        ONE_THEN_TWO + "b invoke read; b ok read 2",  # one indeterminate call after the other
        EITHER[0] + EITHER[1] + BOTH,  # the first read leaves the write to the second
        EITHER[1] + EITHER[0] + BOTH,
        # The indeterminate 1 is read before the 2 that undoes it, all within one read of 2.
        """a invoke read; b invoke write 2; x invoke write 1; x info write 1; c invoke read; c ok read 2; a ok read 1
        d invoke read; d ok read 2; b ok write 2""",
    ],
)
def test_indeterminate_calls_are_used_where_they_are_needed_and_no_sooner(text: str) -> None:
    assert linearizable_by_trying(history(text), 0)
    verdict = check_register(history(text), initial=0)
    assert verdict, verdict.story


def test_a_failed_write_must_not_be_seen() -> None:
    assert check_register(history("a invoke write 1; a fail write 1; b invoke read; b ok read 1")).valid == "no"


def test_keys_are_histories_of_their_own() -> None:
    good = """a invoke write ["x", 1]; b invoke write ["y", 2]; a ok write ["x", 1]; b ok write ["y", 2]
        a invoke read ["x", null]; b invoke cas ["y", [2, 3]]; a ok read ["x", 1]; b ok cas ["y", [2, 3]]"""
    verdict = check_register(history(good), keyed=True)
    assert verdict
    assert verdict.found["keys"] == {"yes": 2, "no": 0, "unknown": 0}
    wrong = check_register(history(good + '; a invoke read ["y", null]; a ok read ["y", 2]'), keyed=True)
    assert wrong.found["keys"] == {"yes": 1, "no": 1, "unknown": 0}
    assert '"y": a ok read ["y",2] cannot be' in wrong.story


def test_a_search_that_has_no_budget_left_says_that_it_does_not_know() -> None:
    """Forty writes at once, then a read of each way they may have gone."""
    ops = [Op(number, "invoke", "write", number) for number in range(40)]
    ops += [Op(number, "ok", "write", number) for number in range(40)]
    verdict = check_register(History(ops), budget=2_000)
    assert verdict.valid == "unknown"
    assert "raise the budget" in verdict.story


def test_many_indeterminate_writes_do_not_drown_the_search() -> None:
    begun = "".join(f"x{n} invoke write {n % 3}; x{n} info write {n % 3}; " for n in range(60))
    more = "".join(f"a invoke write {n}; a ok write {n}; a invoke read; a ok read {n}; " for n in range(10, 40))
    assert check_register(history(begun + more), budget=50_000)
    assert check_register(history(begun + more + "a invoke read; a ok read 99"), budget=50_000).valid == "no"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a invoke incr 1", "this checker knows read, final, write, cas"),
        ("a invoke cas 1", "1 should be a list of two"),
    ],
)
def test_what_is_not_of_a_register_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        check_register(history(text))
