"""What settlement says it did with each fact: one line an adjustment, in canonical order, with its rows and its cause."""

from __future__ import annotations

import msgspec
import pytest

from crdtledger.ledger.batch import Batch, fork_evidence, parse_lane
from crdtledger.ledger.facts import Account, Bust, Deposit, Fill, Grant, Post, Reserve, Transfer, Void, Withdrawal
from crdtledger.ledger.reference import instrument_digest
from reconcile.effects import fork_words
from reconcile.settlement import Settlement
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, dep_on
from tests.reconcile.settlement_worlds import RIVAL
from tests.reconcile.test_settlement import GENESIS, Bench, fill, funded


def told(settled: Settlement) -> list[str]:
    """The adjustments as lines: who recorded it where, what kind, what became of it, why, and in which rows."""
    lines = []
    for one in settled.adjustments:
        lane = parse_lane(one.lane)
        place = f"{GENESIS.by_id[lane.node].name}/{lane.epoch}#{one.seq}"
        rows = f" {one.rows()}" if one.runs else f" x{one.facts}"
        lines.append(
            f"{place} {one.kind_name or 'batch'} {one.effect}: {one.cause}{rows}{one.detail and ' | ' + one.detail}"
        )
    return lines


def withdrawal(id: str, amount: int) -> Withdrawal:
    return Withdrawal(id=id, account="A", asset="USDT", amount=amount)


def transfer(id: str, amount: int) -> Transfer:
    return Transfer(id=id, account="A", asset="USDT", amount=amount, credit="B")


def grant(id: str, amount: int, node: str = "n1") -> Grant:
    return Grant(id=id, account="A", asset="USDT", amount=amount, node=node)


def deposit(id: str, amount: int) -> Deposit:
    return Deposit(id=id, account="A", asset="USDT", amount=amount)


def either(settled: Settlement, *told_of: Batch) -> str:
    """The one line, told of either of these batches, whichever came later, without its place."""
    (line,) = told(settled)
    assert (settled.adjustments[0].lane, settled.adjustments[0].seq) in {(batch.key, batch.seq) for batch in told_of}
    return line.partition(" ")[2]


# -- the same id again --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "line"),
    [(5, "deposit deduplicated: recorded before [0]"), (6, "deposit conflict: same id, other content [0]")],
)
def test_a_deposit_told_by_two_lanes_of_its_custodian_is_minted_once_and_nothing_is_given_back(
    amount: int, line: str
) -> None:
    bench = Bench()
    one, two = Pen(GENESIS, 0).write(deposit("d", 5)), Pen(GENESIS, 0, epoch=2).write(deposit("d", amount))
    assert either(bench.settle(one, two), one, two) == line
    assert bench.state.collateral["A", "USDT"].deposited in (5, amount)


@pytest.mark.parametrize(
    ("amount", "line"),
    [(5, "transfer deduplicated: recorded before [1]"), (6, "transfer conflict: same id, other content [1]")],
)
def test_a_transfer_told_by_two_lanes_of_a_node_moves_once_and_lands_once(amount: int, line: str) -> None:
    bench = Bench()
    custodian, _ = funded(bench)
    one = custodian.write(transfer("own 1", 1), transfer("t", 5))
    two = Pen(GENESIS, 0, epoch=2).write(transfer("own 2", 1), transfer("t", amount))
    lines = sorted(text.partition(" ")[2] for text in told(bench.settle(one, two)))
    assert lines == sorted(["transfer credited: credit landed [0, 1]", "transfer credited: credit landed [0]", line])
    assert bench.state.collateral["B", "USDT"].held in (2 + 5, 2 + amount)
    assert sum(held.held for held in bench.state.collateral.values()) == 100


@pytest.mark.parametrize(
    ("amount", "line"),
    [(5, "n1/1#1 transfer refunded: recorded before [0]"), (6, "n1/1#1 transfer refunded: same id, other content [0]")],
)
def test_a_transfer_told_by_two_nodes_lands_once_and_the_second_teller_is_refunded(amount: int, line: str) -> None:
    bench = Bench()
    custodian, other = funded(bench)
    given = custodian.write(grant("g", 40))
    first = custodian.write(transfer("t", 5))
    again = other.write(transfer("t", amount), deps=[dep_on(first)])
    assert told(bench.settle(given, first, again)) == ["n0/1#3 transfer credited: credit landed [0]", line]
    assert bench.state.collateral["B", "USDT"].held == 5
    assert dict(bench.state.collateral["A", "USDT"].rights)[1] == 40


@pytest.mark.parametrize(("amount", "cause"), [(5, "recorded before"), (6, "same id, other content")])
def test_who_tells_again_what_another_has_settled_is_refunded_once(amount: int, cause: str) -> None:
    bench = Bench()
    custodian, other = funded(bench)
    bench.settle(custodian.write(grant("g", 40)), custodian.write(withdrawal("w", 5)), other.write(deps=[]))
    first = other.write(withdrawal("w", amount))
    assert told(bench.settle(first)) == [f"n1/1#2 withdrawal refunded: {cause} [0]"]
    assert bench.state.collateral["A", "USDT"].withdrawn == 5
    effect = "deduplicated" if amount == 5 else "conflict"
    mine = custodian.write(withdrawal("w", amount))
    assert told(bench.settle(mine)) == [f"n0/1#4 withdrawal {effect}: {cause} [0]"]
    assert bench.state.collateral["A", "USDT"].withdrawn == 5


def test_whichever_settled_id_is_told_again_by_another_node_moves_nothing_again() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    spent = [withdrawal(f"w{number}", 1) for number in range(12)]
    bench.settle(custodian.write(grant("g", 40)), custodian.write(*spent))
    held = bench.state.collateral["A", "USDT"]
    assert told(bench.settle(other.write(*spent))) == [f"n1/1#1 withdrawal refunded: recorded before {list(range(12))}"]
    assert told(bench.settle(custodian.write(*spent))) == [
        f"n0/1#4 withdrawal deduplicated: recorded before {list(range(12))}"
    ]
    assert bench.state.collateral["A", "USDT"] == held


def test_two_lanes_of_a_node_that_tell_what_another_has_settled_are_refunded_once_together() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    bench.settle(custodian.write(grant("g", 40)), custodian.write(withdrawal("w", 5)))
    one, two = other.write(withdrawal("w", 5)), Pen(GENESIS, 1, epoch=2).write(withdrawal("w", 5))
    assert sorted(text.partition(" ")[2] for text in told(bench.settle(one, two))) == [
        "withdrawal deduplicated: recorded before [0]",
        "withdrawal refunded: recorded before [0]",
    ]
    assert dict(bench.state.collateral["A", "USDT"].rights) == {0: 55, 1: 40}


def test_an_id_that_stands_twice_in_a_batch_or_was_used_by_its_lane_counts_once() -> None:
    bench = Bench()
    custodian, _ = funded(bench)
    twice = custodian.write(withdrawal("w", 5), withdrawal("x", 1), withdrawal("w", 5), withdrawal("x", 9))
    again = custodian.write(withdrawal("x", 2), withdrawal("y", 1), withdrawal("w", 5))
    assert told(bench.settle(twice, again)) == [
        "n0/1#2 withdrawal conflict: same id, other content [3]",
        "n0/1#2 withdrawal deduplicated: recorded before [2]",
        "n0/1#3 withdrawal conflict: same id, other content [0]",
        "n0/1#3 withdrawal deduplicated: recorded before [2]",
    ]
    assert bench.state.collateral["A", "USDT"].withdrawn == 7


def test_grants_reserves_posts_and_voids_are_ids_of_their_node_alone() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    bench.settle(custodian.write(grant("same", 40)))
    reserves = custodian.write(Reserve(id="same", account="A", asset="USDT", amount=10))
    posts = custodian.write(Post(id="same", reserve="same", amount=4, credit="B"))
    voids = custodian.write(Void(id="same", reserve="same"))
    theirs = other.write(Reserve(id="same", account="A", asset="USDT", amount=7), grant("same", 3, "n2"))
    settled = bench.settle(reserves, posts, voids, theirs)
    assert told(settled) == ["n0/1#4 post credited: credit landed [0]"]
    assert bench.state.collateral["A", "USDT"].rights == ((0, 56), (1, 30), (2, 3))
    assert bench.state.collateral["A", "USDT"].reserved == 7
    assert told(bench.settle(custodian.write(grant("same", 1), Void(id="same", reserve="same")))) == [
        "n0/1#6 void deduplicated: recorded before [0]",
        "n0/1#6 grant conflict: same id, other content [0]",
    ]


# -- batches without effect, by their root cause --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promised", "cause"), [(5, "stands on a void grant"), (4, "overspends")], ids=["all of it", "not enough"]
)
def test_a_void_grant_excuses_who_was_short_of_no_more_than_it(promised: int, cause: str) -> None:
    bench = Bench()
    custodian, other = funded(bench)
    void = custodian.write(grant("g", promised), withdrawal("too much", 100))
    user = other.write(withdrawal("w", 5), deps=[dep_on(void)])
    assert told(bench.settle(void, user)) == [
        "n0/1#2 batch voided: overspends x2",
        f"n1/1#1 batch voided: {cause} x1",
    ]


def test_void_grants_excuse_together_and_only_whom_they_were_for_and_who_named_them() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    first = custodian.write(grant("g1", 2), withdrawal("too much", 100))
    second = custodian.write(grant("g2", 3), grant("g3", 50, "n2"), withdrawal("too much again", 100))
    half = other.write(withdrawal("w1", 5), deps=[dep_on(first)])
    both = other.write(withdrawal("w2", 5), deps=[dep_on(second)])
    lines = told(bench.settle(first, second, half, both))
    assert "n1/1#1 batch voided: overspends x1" in lines
    assert "n1/1#2 batch voided: stands on a void grant x1" in lines


def test_what_was_held_is_taken_off_what_a_void_grant_must_make_up_for() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    bench.settle(custodian.write(grant("real", 10)))
    void = custodian.write(grant("g", 5), withdrawal("too much", 100))
    user = other.write(withdrawal("w", 15), deps=[dep_on(void)])
    assert told(bench.settle(void, user))[1] == "n1/1#1 batch voided: stands on a void grant x1"


def test_who_claims_what_came_after_a_fork_is_short_because_the_lane_forked_now_or_earlier() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    twin = custodian.copy()
    lost = custodian.write(grant("g", 40))
    proof = fork_evidence(lost, twin.write(grant("g", 41), clock=1 << 30))
    user = other.write(withdrawal("w", 5), deps=[dep_on(lost)])
    assert told(bench.settle(user, evidence=[proof])) == [
        "n0/1#1 batch closed: lane forked x0 | forks at seq 2: counts up to 1",
        "n1/1#1 batch voided: lane forked x1",
    ]
    later = other.write(withdrawal("w2", 5), deps=[dep_on(lost)])
    assert told(bench.settle(later)) == ["n1/1#2 batch voided: lane forked x1"]
    blunt = other.write(withdrawal("w3", 5))
    assert told(bench.settle(blunt)) == ["n1/1#3 batch voided: overspends x1"]


def test_who_claims_only_what_counts_of_a_forked_lane_has_nothing_to_blame() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    given = custodian.write(grant("g", 4))
    twin = custodian.copy()
    proof = fork_evidence(custodian.write(grant("h", 1)), twin.write(grant("h", 2), clock=1 << 30))
    user = other.write(withdrawal("w", 5), deps=[dep_on(given)])
    assert told(bench.settle(given, user, evidence=[proof])) == [
        "n0/1#2 batch closed: lane forked x0 | forks at seq 3: counts up to 2",
        "n1/1#1 batch voided: overspends x1",
    ]


def test_a_reserve_that_is_not_there_voids_its_batch_whole() -> None:
    bench = Bench()
    custodian, _ = funded(bench)
    posts = custodian.write(withdrawal("w", 1), Post(id="p", reserve="none", amount=1, credit="B"))
    assert told(bench.settle(posts)) == ["n0/1#2 batch voided: no such reserve x2"]
    assert bench.state.collateral["A", "USDT"].held == 100


def test_facts_that_are_void_by_themselves_are_counted_by_kind_and_reason_and_the_rest_counts() -> None:
    bench = Bench()
    custodian, other = funded(bench)
    gold = Withdrawal(id="x", account="A", asset="GOLD", amount=1)
    mixed = custodian.write(gold, msgspec.structs.replace(gold, id="y"), withdrawal("w", 3), grant("g", 1, "n0"))
    theirs = other.write(deposit("not mine to mint", 1))
    lines = told(bench.settle(mixed, theirs))
    assert sorted(lines) == [
        "n0/1#2 grant voided: no other member x1",
        "n0/1#2 withdrawal voided: no such asset x2",
        "n1/1#1 deposit voided: not the custodian x1",
    ]
    assert bench.state.collateral["A", "USDT"].held == 97


# -- lanes that close -----------------------------------------------------------------------------------------------


def test_where_a_fork_is_known_too_late_the_lane_counts_up_to_what_was_settled() -> None:
    assert fork_words(3, 2) == "forks at seq 3: counts up to 2"
    assert fork_words(3, 3) == "forks at seq 3: counts up to 3, settled before that was known"
    bench = Bench()
    custodian, _ = funded(bench)
    twin = custodian.copy()
    mine = custodian.write(
        Reserve(id="r1", account="A", asset="USDT", amount=5), Reserve(id="r2", account="A", asset="USDT", amount=6)
    )
    more = custodian.write(Reserve(id="r3", account="A", asset="USDT", amount=7), Void(id="v", reserve="r2"))
    proof = fork_evidence(mine, twin.write(withdrawal("y", 1), clock=1 << 30))
    bench.settle(mine, more)
    assert told(bench.settle(evidence=[proof])) == [
        "n0/1#3 batch closed: lane forked x0 | forks at seq 2: counts up to 3, settled before that was known",
        "n0/1#3 reserve expired: lane forked x2",
    ]
    assert bench.state.collateral["A", "USDT"].rights == ((0, 100),)
    assert bench.state.breaks[-1].detail == "forks at seq 2: counts up to 3, settled before that was known"


# -- definitions and the fills under them ---------------------------------------------------------------------------


def test_of_two_definitions_the_later_is_told_and_the_same_one_again_is_not() -> None:
    bench = Bench()
    first = Pen(GENESIS, 0).write(Account(name="A"), INVERSE, SPOT)
    second = Pen(GENESIS, 1).write(SPOT, INVERSE, RIVAL, deps=[dep_on(first)])
    (line,) = told(bench.settle(first, second))
    row = [instrument_digest(one) for one in second.body.definitions].index(instrument_digest(RIVAL))
    assert line == f"n1/1#1 instrument conflict: its definition lost its name [{row}]"
    third = Pen(GENESIS, 2).write(RIVAL)
    assert told(bench.settle(third)) == ["n2/1#1 instrument conflict: its definition lost its name [0]"]


def perpetual(trade: int) -> Fill:
    return msgspec.structs.replace(fill(trade), instrument="BTCUSD_PERP")


def test_fills_that_wait_are_told_by_their_rows_in_the_batch_that_recorded_them() -> None:
    bench, pen, other = Bench(), Pen(GENESIS, 0), Pen(GENESIS, 1)
    bench.settle(other.write(SPOT))
    mixed = pen.write(fill(1), perpetual(2), fill(3), perpetual(4), perpetual(5))
    assert told(bench.settle(mixed)) == ["n0/1#1 fill suspended: no such definition [1, 3, 4]"]
    (waiting,) = bench.state.suspended
    assert waiting.rows == (1, 3, 4)
    assert told(bench.settle(pen.write(perpetual(4), fill(1), fill(6)))) == [
        "n0/1#2 fill deduplicated: recorded before [0, 1]"
    ]
    assert bench.state.suspended == (waiting,)
    again = bench.settle(pen.write(perpetual(5), perpetual(7)), other.write(INVERSE))
    assert told(again)[0] == "n0/1#1 fill counted: its definition stands now [1, 3, 4]"
    assert told(again)[1:] == ["n0/1#3 fill deduplicated: recorded before [0]"]
    assert bench.state.positions["A", "BTCUSD_PERP"].fills == 4
    assert bench.state.suspended == ()


def test_what_had_waited_is_told_before_all_that_came_with_its_definition() -> None:
    bench, pens = Bench(), [Pen(GENESIS, node) for node in range(3)]
    bench.settle(pens[0].write(SPOT, fill(9)), *(pen.write(perpetual(pen.node)) for pen in pens))
    definition = pens[0].write(INVERSE)
    lines = told(bench.settle(definition, *(pen.write(fill(9)) for pen in pens for _ in range(3))))
    assert sorted(lines[:3]) == [f"n{n}/1#{2 - (n > 0)} fill counted: its definition stands now [0]" for n in range(3)]
    assert {line.partition(" ")[2] for line in lines[3:]} == {"fill deduplicated: recorded before [0]"}


def test_fills_that_waited_for_a_definition_that_never_stands_leave_and_are_told() -> None:
    bench, pen, other = Bench(), Pen(GENESIS, 0), Pen(GENESIS, 1)
    bench.settle(other.write(INVERSE))
    body = pen.draft([perpetual(1), fill(2), fill(3)], {"BTCUSDT": instrument_digest(RIVAL)})
    bench.settle(pen.seal(body))
    settled = bench.settle(other.write(SPOT))
    assert told(settled) == ["n0/1#1 fill suspended: its definition lost its name [1, 2]"]
    assert bench.state.suspended == ()
    assert ("A", "BTCUSDT") not in bench.state.positions


def test_a_fill_and_its_bust_each_count_once_at_whatever_height_they_are_told_again() -> None:
    bench, pen, other = Bench(), Pen(GENESIS, 0), Pen(GENESIS, 1)
    bust = fill(1, qty=3, kind=Bust)
    bench.settle(pen.write(SPOT), pen.write(fill(1, qty=3), fill(2)))
    assert told(bench.settle(pen.write(bust))) == []
    held = bench.state.positions["A", "BTCUSDT"]
    assert (held.bought, held.fills) == (1, 1)
    assert told(bench.settle(other.write(fill(2), bust, fill(1, qty=3)))) == [
        "n1/1#1 fill deduplicated: recorded before [0, 1]",
        "n1/1#1 bust deduplicated: recorded before [0]",
    ]
    assert told(bench.settle(other.write(fill(1, qty=4, kind=Bust)))) == [
        "n1/1#2 bust conflict: same id, other content [0]"
    ]
    assert bench.state.positions["A", "BTCUSDT"] == held
