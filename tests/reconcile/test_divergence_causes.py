"""What the evidence says: a cause is read off what nodes hold and when they were heard of, and of nothing else."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.breaks import Break
from reconcile.divergence.breakrow import (
    Cause,
    Handling,
    age_bucket,
    break_id,
    handled,
    problems,
    severity_of,
    worst_first,
)
from reconcile.divergence.causes import (
    Holder,
    MarkTold,
    Rules,
    Touch,
    against_statement,
    between,
    gaps,
    newest_marks,
    stale_marks,
)
from reconcile.divergence.compare import Difference
from reconcile.divergence.explain import explain
from reconcile.divergence.rows import Moment, SettledCut
from reconcile.divergence.worth import Worth

S = 1_000_000
NOW = 1_000 * S
RULES = Rules(grace_us=10 * S, silent_us=5 * S, mark_age_us=60 * S)
OLD, YOUNG = Touch("l", 2, "n", NOW - 60 * S), Touch("l", 3, "n", NOW - S)


def peer(seq: int, heard_s: int = 1, connected: bool = True) -> Holder:
    return Holder("b", {"l": seq}, NOW - heard_s * S, connected)


def own(seq: int = 3) -> Holder:
    return Holder("a", {"l": seq})


@pytest.mark.parametrize(
    ("other", "touches", "forks", "cause", "status"),
    [
        (peer(2), [YOUNG], {}, Cause.IN_FLIGHT, "in grace"),
        (peer(1), [OLD], {}, Cause.MISSING_BATCH, "break"),
        (peer(1, heard_s=6), [OLD], {}, Cause.PARTITIONED, "break"),
        (peer(3, heard_s=6), [], {}, Cause.PARTITIONED, "break"),
        (peer(3, connected=False), [], {}, Cause.PARTITIONED, "break"),
        (peer(1, heard_s=6), [OLD], {"l": 2}, Cause.FORK, "break"),
        (peer(1), [OLD], {"l": 3}, Cause.MISSING_BATCH, "break"),
        (peer(3), [OLD], {}, Cause.EXTERNAL, "break"),
    ],
)
def test_the_cause_between_two_replicas(
    other: Holder, touches: list[Touch], forks: dict[str, int], cause: Cause, status: str
) -> None:
    found = between(own(), other, touches, forks, NOW, RULES)
    assert (found.cause, found.status) == (cause, status)


def test_missing_batches_are_named_with_who_lacks_them_whichever_side_that_is() -> None:
    assert between(own(), peer(1), [OLD], {}, NOW, RULES).missing == ("l#2 at b",)
    assert between(own(1), peer(3), [OLD], {}, NOW, RULES).missing == ("l#2 at a",)
    assert between(own(), peer(1), [], {}, NOW, RULES).missing == ("l#2-3 at b",)


@given(
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 5)),
    st.dictionaries(st.sampled_from("xyz"), st.integers(1, 5)),
)
def test_gaps_are_all_that_one_of_two_lacks_and_nothing_else(one: dict[str, int], other: dict[str, int]) -> None:
    told = gaps(Holder("a", one), Holder("b", other))
    assert sorted(told) == sorted({*told})
    count = 0
    for gap in told:
        first, _, last = gap.partition("#")[2].partition(" ")[0].partition("-")
        count += int(last or first) - int(first) + 1
    assert count == sum(abs(one.get(lane, 0) - other.get(lane, 0)) for lane in "xyz")


def difference(
    field: str = "qty", values: tuple[int | None, ...] = (1, 2), kind: str = "value", **more: bool
) -> Difference:
    return Difference("A", "X", field, values, 0, kind, more.get("rounding", False))


def test_the_cause_against_a_statement() -> None:
    assert against_statement(difference(), False, [], []).cause is Cause.REFERENCE_DATA
    assert against_statement(difference("fees"), True, ["n"], []).cause is Cause.FEE
    assert against_statement(difference("fees", rounding=True), True, [], []).cause is Cause.ROUNDING
    assert against_statement(difference("mark"), True, [], []).cause is Cause.STALE_MARK
    assert against_statement(difference(), True, [], []).cause is Cause.EXTERNAL
    assert against_statement(difference(), True, [], ["l#4 at a"]).cause is Cause.MISSING_BATCH
    assert against_statement(difference(values=(0, None), kind="null"), True, [], []).status == "noted"


def test_what_a_silent_node_may_hold_is_unknown_and_what_it_cannot_explain_is_not() -> None:
    lacking_here = difference(values=(None, 2), kind="missing")
    lacking_there = difference(values=(1, None), kind="missing")
    assert against_statement(lacking_here, True, ["n"], [])[:2] == (Cause.PARTITIONED, "unknown")
    assert against_statement(lacking_there, True, ["n"], [])[:2] == (Cause.EXTERNAL, "break")


def test_a_mark_is_stale_beside_a_fresh_one_or_beside_the_time() -> None:
    old, fresh = MarkTold("X", "desk", 1, NOW - 100 * S), MarkTold("X", "venue", 2, NOW - S)
    alone = MarkTold("Y", "desk", 1, NOW - 100 * S)
    assert [(mark, best) for mark, best, _ in stale_marks([old, fresh, alone], NOW, RULES)] == [
        (old, fresh),
        (alone, None),
    ]


def test_a_mark_from_the_future_is_named_and_makes_no_other_stale() -> None:
    ahead, fresh = MarkTold("X", "ahead", 1, NOW + 1_000 * S), MarkTold("X", "venue", 2, NOW - S)
    assert [(mark, best) for mark, best, _ in stale_marks([ahead, fresh], NOW, RULES)] == [(ahead, fresh)]
    assert newest_marks([ahead, fresh], NOW, RULES) == {"X": fresh}


@given(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4))
def test_an_id_is_of_what_a_break_is_about_and_no_two_are_confused(account: str, instrument: str, field: str) -> None:
    assert break_id(account, instrument, field, ["s"]) == break_id(account, instrument, field, ["s"])
    assert break_id(account + "x", instrument, field, ["s"]) != break_id(account, "x" + instrument, field, ["s"])


def test_ages_fall_into_the_buckets_that_operators_use() -> None:
    for seconds, bucket in ((59, "<1m"), (60, "<1h"), (3_600, "<1d"), (86_400, "1-2d"), (172_800, ">2d")):
        assert age_bucket(NOW, NOW + seconds * S) == bucket
    assert age_bucket(0, NOW) == "unknown"


def moment() -> Moment:
    return Moment(now_us=NOW, observer="a", worth=Worth({}, {}), decimals={})


def test_what_is_cut_off_is_one_problem_and_its_row_about_no_figure_comes_first() -> None:
    silent = peer(1, heard_s=60)
    found = between(own(), silent, [OLD], {}, NOW, RULES)
    figure = moment().row("replica/replica", ("A", "X", "qty"), ["a", "b"], found)
    (problem,) = problems([figure, *moment().of_unheard(own(), [silent])])
    assert [row.account for row in problem.rows] == ["", "A"]
    assert (problem.rows[0].b, problem.rows[0].first_seen_us) == (None, NOW - 60 * S)


def test_what_is_in_grace_is_no_problem_yet() -> None:
    row = moment().row(
        "replica/replica", ("A", "X", "qty"), ["a", "b"], between(own(), peer(2), [YOUNG], {}, NOW, RULES)
    )
    assert (row.severity, problems([row])) == ("info", [])


def test_a_void_batch_is_an_overspending_and_as_old_as_the_checkpoint_that_settled_it() -> None:
    cuts = (SettledCut(1, NOW - 99 * S, {"l": 6}), SettledCut(2, NOW - 70 * S, {"l": 7}, ("k",)))
    at = msgspec.structs.replace(moment(), cuts=cuts)
    void = at.of_finding(Break("void_batch", "l#7", "it spends more than it may"), (), ())
    assert (void.cause, void.severity, void.first_seen_us) == (Cause.RIGHTS_OVERSPENT, "critical", NOW - 70 * S)
    assert (void.first_height, void.age, void.correction.facts) == (2, "<1h", ())
    assert at.of_finding(Break("fork", "k", "forks at seq 3"), (), ()).first_height == 2


def test_the_board_is_found_by_the_break_and_changes_nothing_else() -> None:
    rows = moment().of_unheard(own(), [peer(1, heard_s=60)])
    (told,) = handled(rows, {rows[0].id: Handling("kim", "cable"), "other": Handling("x")})
    assert (told.owner, told.resolution) == ("kim", "cable")
    assert msgspec.structs.replace(told, owner="", resolution="") == rows[0]
    assert handled(rows, {}) == rows


def test_every_cause_has_a_severity_and_the_worst_comes_first() -> None:
    rows = [
        moment().row("ledger", ("", "", c.value), ["a"], between(own(), peer(3), [], {}, NOW, RULES)._replace(cause=c))
        for c in Cause
    ]
    order = [severity_of(row.cause, row.status) for row in worst_first(rows)]
    assert order == sorted(order, key=("critical", "high", "medium", "low", "info").index)


def traced(seq: int, became: str = "counts", settled: bool = True, **more: object) -> dict[str, object]:
    told = {
        "kind": "fill",
        "id": "1",
        "venue": "v",
        "id_space": "trade",
        "instrument": "X",
        "leg": "",
        "became": became,
    }
    return {
        **told,
        "settled": settled,
        "node": "n",
        "lane": "l",
        "seq": seq,
        "row": 0,
        "recorded_us": NOW - 60 * S,
        **more,
    }


def test_an_explanation_says_what_is_settled_by_whom_and_what_is_no_longer_held() -> None:
    cuts = [(1, {"l": 1}), (2, {"l": 2})]
    rows = [traced(2), traced(3, settled=False, id="2")]
    told = explain(rows, 5, [own(), peer(2)], [], cuts, NOW, RULES)
    assert [(line.batch, line.height, line.unseen_by) for line in told.facts] == [("l#2", 2, ()), ("l#3", 0, ("b",))]
    assert told.older == 4
    assert [(one.node, one.cause, one.batches) for one in told.unseen] == [("b", Cause.MISSING_BATCH, ("l#3",))]


def test_an_explanation_names_the_cause_of_what_does_not_count() -> None:
    rows = [traced(1), traced(1, "contradicts"), traced(1, "waits"), traced(1, "void"), traced(2, kind="bust")]
    told = explain(rows, None, [own()], [], [], NOW, RULES)
    assert told.facts[0].fact["became"] == "taken back"
    assert [line.cause for line in told.facts] == ["", "DUPLICATE_ID_CONFLICT", "REFERENCE_DATA", "REFERENCE_DATA", ""]
