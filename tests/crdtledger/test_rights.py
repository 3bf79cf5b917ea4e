"""No node spends what it does not hold: the bounded counter, its epochs, and what liars can and cannot do to it."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InsufficientRights, UnknownReserve
from crdtledger.ledger.batch import Batch, Dep
from crdtledger.ledger.facts import Account, Deposit, Fact, Grant, Post, Reserve, Transfer, Void, Withdrawal
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.replica import Replica
from tests.crdtledger import model
from tests.crdtledger.test_convergence import balances
from tests.crdtledger.worlds import Pen, World, dep_on, exchange, genesis, shuffled_admits, state

FOUNDED = genesis(3)


def deposit(id: int | str, amount: int, account: str = "A") -> Deposit:
    return Deposit(id=id, account=account, asset="USDT", amount=amount)


def grant(id: int | str, amount: int, node: str) -> Grant:
    return Grant(id=id, account="A", asset="USDT", amount=amount, node=node)


def withdrawal(id: int | str, amount: int, account: str = "A") -> Withdrawal:
    return Withdrawal(id=id, account=account, asset="USDT", amount=amount)


def rights(replica: Replica, account: str = "A") -> dict[str, int]:
    return next((dict(row.rights) for row in replica.view.collateral_rows() if row.account == account), {})


def void(replica: Replica) -> set[tuple[bytes, int]]:
    return {(one.lane, one.seq) for one in replica.view.void_batches}


def everywhere(batches: list[Batch]) -> Replica:
    """The batches admitted in several orders at several replicas: all alike, conserving, and as the plain model has it."""
    ends = [Replica(FOUNDED, salt=seed) for seed in range(4)]
    for seed, replica in enumerate(ends):
        order = list(batches) if seed == 0 else random.Random(seed).sample(batches, len(batches))
        for batch in order:
            replica.admit(batch.raw)
        replica.check_invariants()
        assert not replica.view.collateral.imbalance()
    assert len({state(replica) for replica in ends}) == 1
    held = list(ends[0].batches())
    assert len(held) == len(batches)
    slow = model.Collateral(FOUNDED, held)
    assert balances(ends[0].view.collateral_rows()) == slow.balances()
    assert void(ends[0]) == {(b.key, b.seq) for b in held if b.hash in slow.void}
    for lane in ends[0].frontier():
        for (account, asset), amount in slow.spendable(lane).items():
            view = ends[0].view
            assert view.rights.available(lane, view.rights.cell(account, asset)) == amount
    return ends[0]


# -- the bounded counter of AntidoteDB (antidote_crdt_counter_b, eunit) ----------------------------------------


def test_rights_follow_increments_transfers_and_consumption() -> None:
    world = World(2).furnish()
    one, two = world.desks
    one.record(deposit(1, 10))
    one.record(grant(1, 6, "n1"))
    world.sync()
    assert rights(one.replica) == {"n0": 4, "n1": 6}
    assert two.recorder.spendable("A", "USDT") == 6
    refused = one.tries(grant(2, 5, "n1"))
    assert isinstance(refused, InsufficientRights)
    assert (refused.held_here, refused.held_elsewhere, refused.requested) == (4, {"n1": 6}, 5)
    two.record(withdrawal(1, 4))
    assert isinstance(two.tries(withdrawal(2, 3)), InsufficientRights)
    two.record(grant(1, 2, "n0"))
    world.sync()
    assert rights(one.replica) == {"n0": 6}
    one.record(withdrawal(3, 6))
    assert isinstance(one.tries(withdrawal(4, 1)), InsufficientRights)


def test_a_grant_is_spendable_when_seen_or_only_when_settled_as_the_genesis_says() -> None:
    for finality, spendable in (("immediate", 6), ("settled", 0)):
        world = World(2, Policies(grant_finality=finality)).furnish()  # type: ignore[arg-type]
        one, two = world.desks
        one.record(deposit(1, 10))
        one.record(grant(1, 6, "n1"))
        assert two.recorder.spendable("A", "USDT") == 0, "not seen yet"
        world.sync()
        assert two.recorder.spendable("A", "USDT") == spendable
        assert (two.tries(withdrawal(1, 6)) is None) == (spendable == 6)


moves = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(["deposit", "grant", "withdraw", "reserve", "post", "void", "transfer", "send"]),
        st.integers(0, 2),
        st.integers(1, 120),
    ),
    max_size=40,
)


@given(moves)
def test_no_schedule_of_honest_nodes_overdraws(steps: list[tuple[int, str, int, int]]) -> None:
    world = World(3).furnish()
    world.desks[0].record(deposit("seed", 300))
    union = Replica(world.genesis)
    for number, (node, word, other, amount) in enumerate(steps):
        made: dict[str, Fact] = {
            "deposit": deposit(number, amount),
            "grant": grant(number, amount, f"n{other}"),
            "withdraw": withdrawal(number, amount),
            "reserve": Reserve(id=other, account="A", asset="USDT", amount=amount),
            "post": Post(id=number, reserve=other, amount=amount, credit="B"),
            "void": Void(id=number, reserve=other),
            "transfer": Transfer(id=number, account="A", asset="USDT", amount=amount, credit="B"),
        }
        if word == "send":
            world.send(node, other)
        else:
            world.desks[node].tries(made[word])
        for desk in world.desks:
            desk.replica.check_invariants()
            for batch in desk.replica.batches():
                union.admit(batch.raw)
        union.check_invariants()
        assert not union.view.void_batches
        assert not union.view.collateral.overdrawn()
        out = sum(row.withdrawn + row.in_transit for row in union.view.collateral_rows())
        assert out <= sum(row.deposited for row in union.view.collateral_rows())


# -- restored nodes --------------------------------------------------------------------------------------------


def restored_world() -> World:
    """n0 held 1000, granted 400 to n1, withdrew 100, and holds 500."""
    world = World(2).furnish()
    world.desks[0].record(deposit("d1", 1000))
    world.desks[0].record(grant("g1", 400, "n1"))
    world.desks[0].record(withdrawal("w1", 100))
    world.sync()
    return world


def test_a_restored_node_spends_nothing_before_its_claim_and_exactly_what_was_left_after() -> None:
    world = restored_world()
    again = world.desks[0] = world.desks[0].restored()
    world.sync()
    refused = again.tries(withdrawal("w2", 1))
    assert isinstance(refused, InsufficientRights)
    assert "restored" in str(refused)
    again.claim()
    assert again.recorder.spendable("A", "USDT") == 500
    assert isinstance(again.tries(withdrawal("w2", 501)), InsufficientRights)
    again.record(withdrawal("w2", 500))
    world.sync()
    assert rights(again.replica) == {"n1": 400}


def test_a_deposit_recorded_again_before_the_claim_mints_once() -> None:
    world = restored_world()
    again = world.desks[0] = world.desks[0].restored()
    again.tries(*_accounts())
    again.record(deposit("d1", 1000))
    again.record(deposit("d2", 7))
    world.sync()
    again.claim()
    assert again.recorder.spendable("A", "USDT") == 507
    assert again.record(deposit("d1", 1000)).facts == 0
    world.sync()
    assert rights(again.replica) == {"n0": 507, "n1": 400}


def _accounts() -> list[Fact]:
    return [Account(name="A"), Account(name="B")]


@pytest.mark.parametrize("forgetful", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("claims_between", [False, True])
def test_chains_of_epochs_carry_everything_once(forgetful: tuple[bool, bool], claims_between: bool) -> None:
    world = restored_world()
    spent, minted = 0, 0
    for number, forgets in enumerate(forgetful):
        again = world.desks[0] = world.desks[0].restored()
        again.tries(*_accounts())
        if forgets:
            again.record(deposit("d1", 1000))
        again.record(deposit(f"n{number}", 50))
        minted += 50
        world.sync()
        if claims_between or number == 1:
            again.claim()
            again.record(withdrawal(f"x{number}", 20))
            spent += 20
        world.sync()
    assert world.desks[0].epoch == 3
    assert world.desks[0].recorder.spendable("A", "USDT") == 500 + minted - spent
    assert rights(world.desks[1].replica) == {"n0": 500 + minted - spent, "n1": 400}
    assert isinstance(world.desks[0].tries(withdrawal("last", 501 + minted - spent)), InsufficientRights)
    everywhere_like(world)


def everywhere_like(world: World) -> None:
    fresh = Replica(world.genesis, salt=3)
    shuffled_admits(fresh, list(world.desks[0].replica.batches()), seed=5)
    exchange([fresh, world.desks[0].replica])
    assert fresh.digest() == world.desks[0].replica.digest()


def test_a_second_claim_takes_what_came_to_light_later_and_only_that() -> None:
    first, second = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    a = first.write(deposit("d1", 100))
    claim = second.write(deps=[dep_on(a)])
    b = first.write(deposit("d2", 30))
    again = second.write(deps=[dep_on(b)])
    spend = second.write(withdrawal("w", 130))
    more = second.write(withdrawal("w2", 1))
    replica = everywhere([a, claim, b, again, spend, more])
    assert void(replica) == {(more.key, more.seq)}


def test_a_transfer_that_lost_to_another_leaves_no_trace_where_it_would_have_gone() -> None:
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    start = one.write(deposit(1, 100))
    gift = one.write(grant(1, 50, "n1"))
    loses = two.write(
        Transfer(id=1, account="A", asset="USDT", amount=5, credit="C"), deps=[dep_on(gift)], clock=9 << 20
    )
    wins = one.write(Transfer(id=1, account="A", asset="USDT", amount=5, credit="B"))
    replica = everywhere([start, gift, loses, wins])
    assert [row.account for row in replica.view.collateral_rows()] == ["A", "B"]
    assert [row.refundable for row in replica.view.collateral_rows()] == [5, 0]


def test_naming_less_than_was_claimed_before_changes_nothing() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    first, second = old.write(deposit(1, 100)), old.write(deposit(2, 10))
    names = [new.write(deps=[dep_on(batch)]) for batch in (second, first, second)]
    spend = new.write(withdrawal(1, 111))
    assert void(everywhere([first, second, *names, spend])) == {(spend.key, spend.seq)}


# -- liars -----------------------------------------------------------------------------------------------------


def test_an_overspending_batch_is_void_everywhere_and_its_lane_goes_on() -> None:
    pen = Pen(FOUNDED, 0)
    start = pen.write(deposit(1, 100))
    over = pen.write(grant(1, 60, "n1"), withdrawal(1, 41))
    fine = pen.write(withdrawal(2, 100))
    replica = everywhere([start, over, fine])
    assert void(replica) == {(over.key, over.seq)}
    assert rights(replica) == {}


def test_a_grant_out_of_nothing_gives_nothing() -> None:
    liar, honest = Pen(FOUNDED, 1), Pen(FOUNDED, 2)
    minted = liar.write(deposit(1, 100))  # not the custodian
    gift = liar.write(grant(1, 100, "n2"))
    spend = honest.write(withdrawal(1, 100), deps=[dep_on(gift)])
    replica = everywhere([minted, gift, spend])
    assert void(replica) == {(gift.key, 2), (spend.key, 1)}
    assert replica.view.collateral_rows() == []


def test_reserves_of_other_lanes_cannot_be_touched() -> None:
    owner, liar = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    start = owner.write(deposit(1, 100))
    hold = owner.write(Reserve(id="r", account="A", asset="USDT", amount=60))
    post = liar.write(Post(id=1, reserve="r", amount=10, credit="B"), deps=[dep_on(hold)])
    free = liar.write(Void(id=2, reserve="r"))
    twice = owner.write(Post(id=1, reserve="r", amount=40, credit="B"), Post(id=2, reserve="r", amount=21, credit="B"))
    replica = everywhere([start, hold, post, free, twice])
    assert void(replica) == {(post.key, 1), (free.key, 2), (twice.key, 3)}
    assert rights(replica) == {"n0": 40}


def test_two_lanes_that_both_claim_a_third_cannot_hurt_anybody_else() -> None:
    old, left, right, honest = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2), Pen(FOUNDED, 0, 2, nonce=1), Pen(FOUNDED, 1)
    last = Pen(FOUNDED, 0, 3)
    start = old.write(deposit(1, 100))
    batches = [start]
    for pen in (left, right):
        batches.append(pen.write(deps=[dep_on(start)]))
        batches.append(pen.write(grant(f"{pen.lane.nonce.hex()}", 100, "n1")))
    batches.append(honest.write(withdrawal(1, 200), deps=[dep_on(batches[2]), dep_on(batches[4])]))
    batches.append(last.write(deps=[dep_on(batches[2]), dep_on(batches[4])]))
    batches.append(last.write(withdrawal(2, 1)))
    replica = everywhere(batches)
    assert {node for *_, node, _ in replica.view.collateral.overdrawn()} == {"n0"}
    assert any(one.type == "overdraft" and one.subject.startswith("n0 ") for one in replica.breaks())
    assert (last.lane.key, 2) in void(replica)


def test_a_lane_that_goes_on_after_its_successor_took_over_hurts_only_its_own_node() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    start = old.write(deposit(1, 100))
    claim = new.write(deps=[dep_on(start)])
    spends = [pen.write(withdrawal(pen.lane.epoch, 100)) for pen in (old, new)]
    late = new.write(deps=[dep_on(spends[0])])
    refill = new.write(deposit(2, 30))
    replica = everywhere([start, claim, *spends, late, refill])
    assert void(replica) == set()
    assert [entry[2:] for entry in replica.view.collateral.overdrawn()] == [("n0", -70)]


def test_who_is_overdrawn_may_still_record_what_spends_nothing_on_balance() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    start = old.write(deposit(1, 100))
    claim = new.write(deps=[dep_on(start)])
    spends = [pen.write(withdrawal(pen.lane.epoch, 100)) for pen in (old, new)]
    late = new.write(deps=[dep_on(spends[0])])
    even = new.write(deposit(2, 30), withdrawal(3, 30))
    more = new.write(deposit(3, 30), withdrawal(4, 31))
    replica = everywhere([start, claim, *spends, late, even, more])
    assert void(replica) == {(more.key, more.seq)}


def test_a_lane_may_grant_in_its_very_first_batch() -> None:
    giver, taker = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    first = giver.write(deposit(1, 100), grant(1, 30, "n1"))
    replica = everywhere([first, taker.write(withdrawal(1, 30), deps=[dep_on(first)]), taker.write(withdrawal(2, 1))])
    assert void(replica) == {(taker.lane.key, 2)}
    assert rights(replica) == {"n0": 70}


def test_what_a_dep_covers_is_read_at_its_seq_not_at_what_came_since() -> None:
    one, two, three = (Pen(FOUNDED, 0, epoch) for epoch in (1, 2, 3))
    start = one.write(deposit(1, 100))
    before = two.write(deposit(2, 10))
    takes = two.write(deps=[dep_on(start)])
    names = three.write(deps=[dep_on(before)])  # two had not covered one yet
    early = three.write(withdrawal(0, 110))
    then = three.write(deps=[dep_on(start)])
    spend = three.write(withdrawal(1, 110))
    replica = everywhere([start, before, takes, names, early, then, spend])
    assert void(replica) == {(early.key, early.seq)}


def test_a_dep_on_a_lane_without_rights_counts_alike_whenever_its_rights_come() -> None:
    old, new = Pen(FOUNDED, 0, 1), Pen(FOUNDED, 0, 2)
    empty = old.write(Account(name="A"))
    claim = new.write(deps=[dep_on(empty)])
    later = old.write(deposit(1, 100))
    again = new.write(deps=[dep_on(later)])
    spend = new.write(withdrawal(1, 100))
    replica = everywhere([empty, claim, later, again, spend])
    assert void(replica) == set()


def test_grants_claimed_by_two_epochs_count_once_when_they_meet() -> None:
    giver, one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 1, 1), Pen(FOUNDED, 1, 2)
    start = giver.write(deposit(1, 100))
    gifts = [giver.write(grant(number, 10, "n1")) for number in range(3)]
    first = one.write(deps=[dep_on(gifts[0])])
    second = two.write(deps=[dep_on(gifts[2])])
    meet = two.write(deps=[dep_on(first)])
    spend = two.write(withdrawal(1, 30))
    more = two.write(withdrawal(2, 1))
    replica = everywhere([start, *gifts, first, second, meet, spend, more])
    assert void(replica) == {(more.key, more.seq)}


def test_deps_that_name_nothing_wait_alone() -> None:
    honest, liar = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    start = honest.write(deposit(1, 100))
    nowhere = Dep(Pen(FOUNDED, 2, 7).lane.key, 1, bytes([1]) * 32)
    other = Dep(start.key, 1, bytes([2]) * 32)
    for dep in (nowhere, other):
        replica = Replica(FOUNDED)
        pen = liar.copy()
        replica.admit(pen.write(withdrawal(1, 1), deps=[dep]).raw)
        assert replica.waiting() == 1
        replica.admit(start.raw)
        assert replica.head(start.key).seq == 1
        assert replica.waiting() == 1
        replica.check_invariants()


chaos = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.sampled_from(["deposit", "grant", "withdraw", "reserve", "post", "void", "transfer", "claim"]),
        st.integers(0, 3),
        st.integers(1, 60),
        st.lists(st.integers(0, 30), max_size=3),
    ),
    max_size=18,
)


@settings(max_examples=80)
@given(chaos)
def test_whatever_liars_seal_replicas_agree_and_nothing_is_created(
    steps: list[tuple[int, str, int, int, list[int]]],
) -> None:
    """Six lanes of three nodes (two epochs each) seal anything with any deps; ids are few, so that they meet."""
    pens = [Pen(FOUNDED, lane % 3, 1 + lane // 3) for lane in range(6)]
    batches: list[Batch] = []
    for lane, word, id, amount, wanted in steps:
        pen = pens[lane]
        made: dict[str, list[Fact]] = {
            "deposit": [deposit(id, amount)],
            "grant": [grant(id, amount, f"n{(lane + 1 + id) % 3}")] if (1 + id) % 3 else [],
            "withdraw": [withdrawal(id, amount)],
            "reserve": [Reserve(id=id, account="A", asset="USDT", amount=amount)],
            "post": [Post(id=amount, reserve=id, amount=amount, credit="B")],
            "void": [Void(id=amount, reserve=id)],
            "transfer": [Transfer(id=id, account="A", asset="USDT", amount=amount, credit="AB"[id % 2])],
            "claim": [],
        }
        known = [batches[n % len(batches)] for n in wanted if batches]
        deps = {batch.key: dep_on(batch) for batch in known if batch.key != pen.lane.key}
        batches.append(pen.write(*made[word], deps=list(deps.values())))
    replica = everywhere(batches)
    total = sum(row.held + row.withdrawn for row in replica.view.collateral_rows())
    assert total == sum(row.deposited for row in replica.view.collateral_rows())


def test_a_void_row_does_not_keep_its_id_from_a_later_row_of_its_batch() -> None:
    pen = Pen(FOUNDED, 0)
    start = pen.write(deposit(1, 100))
    gold = Withdrawal(id=1, account="A", asset="GOLD", amount=7)
    replica = everywhere([start, pen.write(gold, withdrawal(1, 60), withdrawal(1, 5))])
    assert rights(replica) == {"n0": 40}
    assert [one.type for one in replica.breaks()] == ["void_fact"]


def test_a_post_of_an_unknown_reserve_is_refused_by_name() -> None:
    world = World(2).furnish()
    refused = world.desks[0].tries(Post(id=1, reserve="nope", amount=1, credit="B"))
    assert isinstance(refused, UnknownReserve)
