"""A lane that says two things ends before it said them, everywhere; nobody else is touched."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InvalidBatch
from crdtledger.ledger import aside, waiting
from crdtledger.ledger.batch import Batch, fork_evidence, open_evidence
from crdtledger.ledger.facts import Deposit, Fill, Grant, Withdrawal
from crdtledger.ledger.replica import Applied, Duplicate, Forked, Pending, Rejected, Replica
from tests.crdtledger.worlds import SPOT, Pen, World, dep_on, documents, exchange, genesis, state

FOUNDED = genesis(4)


def fill(number: int, account: str = "A") -> Fill:
    return Fill(venue="v", trade_id=number, instrument=SPOT.name, account=account, side="buy", qty=1, price=1)


def tree(shape: Sequence[tuple[int, int]]) -> list[Batch]:
    """Batches of one lane: entry i goes on from batch ``parent % i`` (or from nothing), so lanes fork wherever it pleases."""
    root = Pen(FOUNDED, 0)
    pens: list[Pen] = [root.copy()]
    out = []
    for number, (parent, clock) in enumerate(shape):
        pen = pens[parent % len(pens)].copy()
        out.append(pen.write(fill(number), clock=(1 << 20) + clock))
        pens.append(pen)
    return out


def gossip(lots: Sequence[Sequence[Batch]]) -> list[Replica]:
    """A replica for each lot of batches, admitted in the lot's order; then all tell each other all, twice over the raw lots too."""
    out = [Replica(FOUNDED, salt=index) for index in range(len(lots))]
    for replica, lot in zip(out, lots, strict=True):
        for batch in lot:
            replica.admit(batch.raw)
            replica.check_invariants()
    exchange(out)
    return out


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=9), st.integers(0, 1 << 30))
def test_however_a_lane_forks_and_in_whatever_order_it_arrives_all_replicas_end_alike(
    shape: list[tuple[int, int]], seed: int
) -> None:
    batches = tree(shape)
    rng = random.Random(seed)
    lots = [rng.sample(batches, len(batches)) for _ in range(3)]
    ends = gossip(lots)
    for replica, lot in zip(ends, lots, strict=True):
        for batch in lot:  # nothing that comes again changes anything
            replica.admit(batch.raw)
    exchange(ends)
    assert len({state(replica) for replica in ends}) == 1
    assert len({tuple(documents(replica).items()) for replica in ends}) == 1
    forked = len({(batch.seq, batch.header.prev) for batch in batches}) < len({batch.hash for batch in batches})
    assert bool(ends[0].evidence()) == forked
    for replica in ends:
        replica.check_invariants()


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from(["honest", "grant", "twin", "spend", "bare"]), min_size=2, max_size=10),
    st.integers(0, 1 << 30),
)
def test_what_leaned_on_a_fork_is_void_or_counts_but_never_stuck(script: list[str], seed: int) -> None:
    """n0 may fork while it grants to n1, which spends what it was granted as an honest node would."""
    liar, twin, honest = Pen(FOUNDED, 0), None, Pen(FOUNDED, 1)
    batches = [liar.write(Deposit(id=0, account="A", asset="USDT", amount=1000))]
    for number, word in enumerate(script, 1):
        if word == "honest":
            batches.append(honest.write(fill(number)))
        elif word == "grant":
            grant = Grant(id=number, account="A", asset="USDT", amount=10, node="n1")
            batches.append(liar.write(grant))
        elif word == "bare":
            batches.append(liar.write(fill(1000 + number, "B")))
        elif word == "twin" and twin is None:
            twin = liar.copy()
            batches.append(twin.write(Grant(id=f"t{number}", account="A", asset="USDT", amount=500, node="n1")))
        else:
            giver = twin if twin is not None and number % 2 else liar
            last = next(b for b in reversed(batches) if b.hash == giver.head)
            spend = Withdrawal(id=number, account="A", asset="USDT", amount=10 * number)
            batches.append(honest.write(spend, deps=[dep_on(last)]))
    rng = random.Random(seed)
    lots = [rng.sample(batches, len(batches)) for _ in range(3)]
    ends = gossip(lots)
    for _ in range(3):
        for replica in ends:
            for batch in rng.sample(batches, len(batches)):
                replica.admit(batch.raw)
        exchange(ends)
    assert len({state(replica) for replica in ends}) == 1
    for replica in ends:
        replica.check_invariants()
        assert replica.waiting() == 0 or replica.head(honest.lane.key).seq < honest.seq
        assert all(node == "n0" for *_, node, _ in replica.view.collateral.overdrawn())
        # Honest batches that lean on the branch that lost are applied all the same.
        forked = bool(replica.evidence())
        assert not forked or replica.head(honest.lane.key).seq == honest.seq


def forked_grant() -> tuple[Batch, Batch, Batch, Batch, Batch]:
    """(deposit, first grant, its twin, a spend that leans on the first grant, a spend that follows it)."""
    liar, honest = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    deposit = liar.write(Deposit(id=1, account="A", asset="USDT", amount=100))
    other = liar.copy()
    grant = liar.write(Grant(id=1, account="A", asset="USDT", amount=50, node="n1"))
    twin = other.write(Grant(id=2, account="A", asset="USDT", amount=50, node="n2"))
    spend = honest.write(Withdrawal(id=1, account="A", asset="USDT", amount=50), deps=[dep_on(grant)])
    after = honest.write(fill(1))
    return deposit, grant, twin, spend, after


def test_a_dependent_of_a_condemned_batch_waits_for_the_part_of_the_lane_that_still_counts() -> None:
    deposit, grant, twin, spend, after = forked_grant()
    proof = fork_evidence(grant, twin)
    early, late = Replica(FOUNDED), Replica(FOUNDED)
    assert isinstance(early.admit_evidence(proof.raw), Forked)
    assert isinstance(early.admit(spend.raw), Pending)  # the deposit before the fork is missing
    early.admit(after.raw)
    outcome = early.admit(deposit.raw)
    assert isinstance(outcome, Applied)
    assert [batch.hash for batch in outcome.batches] == [deposit.hash, spend.hash, after.hash]
    for batch in (deposit, grant, spend, after):
        late.admit(batch.raw)
    late.admit_evidence(proof.raw)
    assert early.digest() == late.digest()
    assert [(void.lane, void.seq) for void in early.view.void_batches] == [(spend.key, 1)]


def test_evidence_releases_what_waited_and_says_so() -> None:
    deposit, grant, twin, spend, after = forked_grant()
    for prove in (fork_evidence(grant, twin).raw, None):
        replica = Replica(FOUNDED)
        replica.admit(deposit.raw)
        assert isinstance(replica.admit(after.raw), Pending)
        answer = replica.admit(spend.raw)
        assert isinstance(answer, Pending)
        assert [name.hash for name in answer.missing] == [grant.hash]
        replica.admit(twin.raw)
        outcome = replica.admit_evidence(prove) if prove else replica.admit(grant.raw)
        assert isinstance(outcome, Forked)
        assert outcome.new
        assert [batch.hash for batch in outcome.batches] == [spend.hash, after.hash]
        assert replica.waiting() == 0


def test_two_waiting_batches_that_clash_are_evidence_at_once() -> None:
    pen = Pen(FOUNDED, 0)
    first = pen.write(fill(1))
    other = pen.copy()
    second, twin = pen.write(fill(2)), other.write(fill(3))
    third = other.write(fill(4))
    for pair in itertools.permutations([second, twin], 2):
        replica = Replica(FOUNDED)
        assert isinstance(replica.admit(pair[0].raw), Pending)
        outcome = replica.admit(pair[1].raw)
        assert isinstance(outcome, Forked)
        assert outcome.evidence.seq == 2
    for pair in itertools.permutations([second, third], 2):
        replica = Replica(FOUNDED)
        replica.admit(pair[0].raw)
        outcome = replica.admit(pair[1].raw)
        assert isinstance(outcome, Forked), "the third denies the second"
        assert outcome.evidence.seq == 2
        assert isinstance(replica.admit(first.raw), Applied)
        assert replica.head(first.key).seq == 1


def test_an_arrival_never_answers_applied_for_what_is_not_held_afterwards() -> None:
    root = Pen(FOUNDED, 0)
    first = root.write(fill(1))
    other = root.copy()
    second, _ = root.write(fill(2)), other.write(fill(3))
    third = other.write(fill(4))
    for order in itertools.permutations([first, second, third]):
        replica = Replica(FOUNDED)
        told = [batch for one in order for batch in _applied(replica.admit(one.raw))]
        if isinstance(replica.admit(first.raw), Duplicate):
            assert first.hash in {batch.hash for batch in told}
        held = {batch.hash for batch in replica.batches()}
        assert held <= {batch.hash for batch in told}
        assert replica.head(first.key).fork_seq == 2


def _applied(outcome: object) -> tuple[Batch, ...]:
    return outcome.batches if isinstance(outcome, Applied | Forked) else ()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 2))
def test_honest_batches_prove_nothing(one: int, other: int, nodes: int) -> None:
    batches = list(_honest().desks[0].replica.batches())
    first, second = batches[one % len(batches)], batches[other % len(batches)]
    with pytest.raises(InvalidBatch):
        fork_evidence(first, second)
    for a, b in ((first, second), (second, first)):
        raw = msgspec.msgpack.encode([a.header_bytes, a.signature, b.header_bytes, b.signature])
        with pytest.raises(InvalidBatch):
            open_evidence(raw, _honest().genesis)


_HONEST: list[World] = []


def _honest() -> World:
    if not _HONEST:
        world = World(2).furnish()
        for number in range(6):
            for desk in world.desks:
                desk.record(fill(10 * number + desk.node))
        world.sync()
        _HONEST.append(world)
    return _HONEST[0]


def test_evidence_needs_the_signature_of_the_accused() -> None:
    _, grant, twin, *_ = forked_grant()
    stranger = Pen(FOUNDED, 2).write(fill(9))
    proof = fork_evidence(grant, twin)
    fields = msgspec.msgpack.decode(proof.raw)
    for index in (1, 3):
        forged = list(fields)
        forged[index] = stranger.signature
        with pytest.raises(InvalidBatch, match=r"batch\.signature"):
            open_evidence(msgspec.msgpack.encode(forged), FOUNDED)
    swapped = [fields[2], fields[3], fields[0], fields[1]]
    with pytest.raises(InvalidBatch, match="wrong order"):
        open_evidence(msgspec.msgpack.encode(swapped), FOUNDED)


@given(st.data())
def test_no_bytes_make_evidence_raise(data: st.DataObject) -> None:
    _, grant, twin, *_ = forked_grant()
    raw = bytearray(fork_evidence(grant, twin).raw)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    replica = Replica(FOUNDED)
    outcome = replica.admit_evidence(bytes(raw))
    assert isinstance(outcome, Rejected | Forked)
    assert isinstance(replica.admit_evidence(data.draw(st.binary(max_size=200))), Rejected)


def test_of_several_proofs_everybody_ends_with_the_least() -> None:
    root = Pen(FOUNDED, 0)
    root.write(fill(0))
    twins = []
    for number in range(1, 4):
        branch = root.copy()
        twins.append(branch.write(fill(number)))
    proofs = [fork_evidence(a, b) for a, b in itertools.combinations(twins, 2)]
    least = min(proof.raw for proof in proofs)
    for order in itertools.permutations(proofs):
        replica = Replica(FOUNDED)
        outcomes = [replica.admit_evidence(proof.raw) for proof in order]
        assert list(replica.evidence().values()) == [least]
        assert isinstance(outcomes[0], Forked)
        assert all(isinstance(replica.admit_evidence(proof.raw), Duplicate) for proof in order)


def test_the_waiting_room_and_the_shelf_of_forked_batches_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pen = Pen(FOUNDED, 0)
    first = pen.write(fill(0))
    later = [pen.write(fill(number)) for number in range(1, waiting.MAX_PENDING_PER_LANE + 20)]
    replica = Replica(FOUNDED)
    outcomes = [replica.admit(batch.raw) for batch in later]
    assert replica.waiting() == waiting.MAX_PENDING_PER_LANE
    assert [outcome.kept for outcome in outcomes if isinstance(outcome, Pending)].count(False) == 19
    assert isinstance(replica.admit(first.raw), Applied)
    assert replica.waiting() == 0
    for batch in later:
        replica.admit(batch.raw)
    assert replica.head(pen.lane.key).seq == pen.seq

    monkeypatch.setattr(waiting, "MAX_PENDING_BYTES", 3 * len(later[0].raw))
    small = Replica(FOUNDED)
    for batch in later:
        small.admit(batch.raw)
    assert small.waiting() <= 3

    monkeypatch.setattr(aside, "MAX_KEPT_ASIDE", 30)
    for number in range(40):
        branch = Pen(FOUNDED, 0)
        replica.admit(branch.write(fill(5000 + number)).raw)
    assert len(replica.aside()) == 30
