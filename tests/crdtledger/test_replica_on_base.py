"""A replica that stands on a checkpoint is the same replica, wherever it was when the checkpoint came.

The states here settle lanes and nothing else: what facts come to is settlement's matter, and has tests of its own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.edge.adapter import GossipReplica
from crdtledger.ledger import aside
from crdtledger.ledger.batch import FIRST_PREV, Batch, ForkEvidence, fork_evidence
from crdtledger.ledger.facts import Deposit, Fill, Grant
from crdtledger.ledger.identity import digest
from crdtledger.ledger.lane import LaneDocument, rebuild
from crdtledger.ledger.replica import (
    Applied,
    Duplicate,
    Forked,
    Missing,
    Name,
    Pending,
    Rejected,
    Replica,
    Settled,
)
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SettledLane
from crdtledger.ledger.shelf import Shelf
from tests.crdtledger.worlds import SPOT, Pen, dep_on, documents, genesis, state

FOUNDED = genesis(3)
LANE = bytes(range(22))


class Step(msgspec.Struct, frozen=True):
    """One checkpoint: where lanes are cut, and what a replica is told to move there."""

    height: int
    state: SettledState

    @property
    def digest(self) -> bytes:
        return digest("test-checkpoint", self.state.encode())

    @property
    def base(self) -> tuple[int, bytes]:
        return (self.height, self.digest)

    @property
    def cut(self) -> list[Name]:
        return [Name(lane, settled.seq, settled.hash) for lane, settled in self.state.lanes.items()]

    def move(self, replica: Replica) -> bool:
        """Rebase if the replica stands on the height before and holds what is settled; whether it did."""
        if replica.base[0] != self.height - 1 or isinstance(replica.collect(self.cut), Missing):
            return False
        replica.rebase(self.height, self.digest, self.state)
        replica.check_invariants()
        return True

    def start(self, steps: Sequence[Step]) -> Replica:
        """A replica that starts here, with nothing of what came before but the digests of the heights."""
        bases = {step.height: step.digest for step in steps}
        return Replica(FOUNDED, state=self.state, base=self.base, bases=bases)


def checkpoint(height: int, lanes: Mapping[bytes, SettledLane | Batch]) -> Step:
    """A checkpoint that settles each lane up to the batch given."""
    cut = {
        key: SettledLane(end.seq, end.hash, end.header.base[0]) if isinstance(end, Batch) else end
        for key, end in lanes.items()
    }
    count = sum(lane.seq for lane in cut.values())
    return Step(
        height, msgspec.structs.replace(SettledState.empty(FOUNDED), lanes=dict(sorted(cut.items())), batches=count)
    )


def fill(number: int) -> Fill:
    return Fill(venue="v", trade_id=number, instrument=SPOT.name, account="A", side="buy", qty=1, price=1)


def written(count: int, node: int = 0) -> tuple[Pen, list[Batch]]:
    pen = Pen(FOUNDED, node)
    return pen, [pen.write(fill(1000 * node + number)) for number in range(count)]


def holding(batches: Iterable[Batch]) -> Replica:
    replica = Replica(FOUNDED)
    for batch in batches:
        replica.admit(batch.raw)
    return replica


def hashes(found: Sequence[Batch] | Missing) -> list[bytes]:
    assert not isinstance(found, Missing)
    return [batch.hash for batch in found]


# -- documents ----------------------------------------------------------------------------------------------

pieces = st.lists(st.binary(min_size=1, max_size=60), max_size=30)


@given(st.binary(min_size=22, max_size=22), pieces, pieces, st.data())
def test_a_document_does_not_show_how_its_prefix_went(
    lane: bytes, gone: list[bytes], kept: list[bytes], data: st.DataObject
) -> None:
    """It may go in any steps, between any appends, or never have been there: the bytes are the same."""
    lived = LaneDocument(lane)
    appended = pruned = 0
    everything = gone + kept
    while appended < len(everything) or pruned < len(gone):
        if appended < len(everything):
            more = data.draw(st.integers(0, len(everything) - appended))
            lived.append(everything[appended : appended + more])
            appended += more
        less = data.draw(st.integers(0, min(appended, len(gone)) - pruned))
        lived.prune(less)
        pruned += less
    at_once = rebuild(lane, everything)
    at_once.prune(len(gone))
    joined = rebuild(lane, kept, len(gone))
    assert lived.dump() == at_once.dump() == joined.dump()
    assert lived.elements() == joined.elements() == kept
    assert (len(joined), joined.pruned) == (len(kept), len(gone)) == (len(lived), lived.pruned)


@pytest.mark.parametrize("count", [1, 127, 128, 1000, 17_000])
def test_a_long_settled_lane_begins_as_if_it_had_been_lived_through(count: int) -> None:
    lived = rebuild(LANE, [bytes([number % 256]) * 300 for number in range(count)])
    lived.prune(count // 3)
    lived.prune(count - count // 3)
    lived.append([b"tail"])
    assert rebuild(LANE, [b"tail"], count).dump() == lived.dump()
    assert len(lived.dump()) < 100


# -- convergence --------------------------------------------------------------------------------------------


class History:
    """Honest lanes that lean on each other's grants, and checkpoints between; ``script`` says who does what."""

    def __init__(self, script: Sequence[tuple[int, int, int]], seed: int) -> None:
        self.rng = random.Random(seed)
        self.pens = [Pen(FOUNDED, node) for node in range(3)]
        self.lanes: dict[bytes, list[Batch]] = {pen.lane.key: [] for pen in self.pens}
        self.steps: list[Step] = []
        self.cut = dict.fromkeys(self.lanes, 0)
        for number, (what, node, other) in enumerate(script):
            if what == 0:
                self.settle()
            elif what == 1:  # a node hears of the newest checkpoint
                self.pens[node].base = self.steps[-1].base if self.steps else self.pens[node].base
            else:
                self.write(number, node, other)

    def write(self, number: int, node: int, other: int) -> None:
        pen, giver = self.pens[node], self.lanes[self.pens[other].lane.key]
        deps = [dep_on(giver[-1])] if giver and node != other and number % 2 else []
        grant = Grant(id=number, account="A", asset="USDT", amount=1, node=f"n{(node + 1) % 3}")
        self.lanes[pen.lane.key].append(pen.write(grant, deps=deps))

    def settle(self) -> None:
        """A cut that is causally closed, otherwise anywhere."""
        cut = {key: self.rng.randint(self.cut[key], len(lane)) for key, lane in self.lanes.items()}
        grown = True
        while grown:
            grown = False
            for key, end in list(cut.items()):
                for dep in (dep for batch in self.lanes[key][:end] for dep in batch.header.deps):
                    grown |= dep.seq > cut[dep.lane]
                    cut[dep.lane] = max(cut[dep.lane], dep.seq)
        self.cut = cut
        ends: dict[bytes, SettledLane | Batch] = {key: self.lanes[key][seq - 1] for key, seq in cut.items() if seq}
        self.steps.append(checkpoint(len(self.steps) + 1, ends))

    def batches(self) -> list[Batch]:
        return [batch for lane in self.lanes.values() for batch in lane]

    def play(self, seed: int) -> Replica:
        """Any order of delivery, checkpoints adopted whenever they can be."""
        rng = random.Random(seed)
        replica = Replica(FOUNDED, salt=seed, documents=seed % 2 == 0, shelf=Shelf(heights_max=seed % 3))
        for batch in rng.sample(self.batches(), len(self.batches())) + self.batches():
            replica.admit(batch.raw)
            replica.check_invariants()
            for step in self.steps if rng.random() < 0.3 else ():
                step.move(replica)
        for step in self.steps:
            step.move(replica)
        return replica


scripts = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 2)), min_size=5, max_size=25)


@settings(max_examples=60)
@given(scripts, st.integers(0, 1 << 30))
def test_whenever_checkpoints_come_and_whoever_starts_from_one_all_end_alike(
    script: list[tuple[int, int, int]], seed: int
) -> None:
    history = History(script, seed)
    ends = [history.play(seed + number) for number in range(3)]
    if history.steps:
        late = history.steps[-1].start(history.steps)
        for batch in random.Random(seed).sample(history.batches(), len(history.batches())):
            late.admit(batch.raw)
            late.check_invariants()
        ends.append(late)
    heads = {key: (len(lane), lane[-1].hash) for key, lane in history.lanes.items() if lane}
    for replica in ends:
        assert replica.base == (history.steps[-1].base if history.steps else (0, FOUNDED.hash))
        assert {key: (head.seq, head.hash) for key, head in replica.frontier().items()} == heads
        assert replica.unsettled() == len(history.batches()) - sum(history.cut.values())
        assert replica.waiting() == 0
        for batch in history.batches():
            below = batch.seq <= history.cut[batch.key]
            assert isinstance(replica.admit(batch.raw), Settled if below else Duplicate)
    assert len({replica.digest() for replica in ends}) == 1
    assert len({tuple(sorted(documents(replica).items())) for replica in ends}) == 1


def test_equal_frontiers_on_other_bases_are_other_replicas() -> None:
    _, batches = written(3)
    one, two = holding(batches), holding(batches)
    checkpoint(1, {batches[0].key: batches[1]}).move(one)
    assert one.frontier() == two.frontier()
    assert one.digest() != two.digest()
    step = checkpoint(1, {})
    one, two = holding(batches), holding(batches)
    one.rebase(1, step.digest, step.state)
    two.rebase(1, bytes(32), step.state)
    assert one.view.canonical() == two.view.canonical()
    assert one.digest() != two.digest()


class Tree:
    """One lane as its liar wrote it: a tree of batches; ``heights`` settle ever longer paths down one of its branches."""

    def __init__(self, shape: Sequence[int], heights: int, closing: bool, seed: int) -> None:
        rng = random.Random(seed)
        pens = [Pen(FOUNDED, 0)]
        self.batches: list[Batch] = []
        for number, parent in enumerate(shape):
            pen = pens[parent % len(pens)].copy()
            self.batches.append(pen.write(fill(number)))
            pens.append(pen)
        self.key = pens[0].lane.key
        by_hash = {batch.hash: batch for batch in self.batches}
        path = [rng.choice(self.batches)]
        while path[0].seq > 1:
            path.insert(0, by_hash[path[0].header.prev])
        self.proofs = list(_proofs(self.batches))
        self.steps: list[Step] = []
        before = 0
        for height in range(1, heights + 1):
            seq = rng.randint(before, len(path))
            proof = rng.choice(self.proofs) if closing and height == heights and self.proofs else None
            seq = seq if proof is None else min(seq, max(proof.seq - 1, before))
            end = path[seq - 1] if seq else None
            lane = SettledLane(
                seq, end.hash if end else FIRST_PREV, 0, proof.seq if proof else 0, proof.raw if proof else b""
            )
            self.steps.append(checkpoint(height, {self.key: lane} if seq or proof else {}))
            before = seq


def _proofs(batches: Sequence[Batch]) -> Iterable[ForkEvidence]:
    for one in batches:
        for other in batches:
            if one.seq == other.seq and one.hash < other.hash:
                yield fork_evidence(one, other)


@settings(max_examples=120)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=10), st.integers(1, 3), st.booleans(), st.integers(0, 1 << 30))
def test_whatever_branch_of_a_forked_lane_is_settled_stands_and_all_end_alike(
    shape: list[int], heights: int, closing: bool, seed: int
) -> None:
    tree = Tree(shape, heights, closing, seed)
    rng = random.Random(seed)
    ends = []
    for number in range(3):
        replica = Replica(FOUNDED, documents=number != 1, shelf=Shelf(heights_max=number))
        todo = list(tree.steps)
        for batch in rng.sample(tree.batches, len(tree.batches)) + tree.batches:
            replica.admit(batch.raw)
            replica.check_invariants()
            while todo and rng.random() < 0.4 and todo[0].move(replica):
                todo.pop(0)
        while todo:
            replica.collect(todo[0].cut)
            for batch in tree.batches[::-1] * 2:  # a peer serves what is missing
                replica.admit(batch.raw)
            assert todo.pop(0).move(replica)
        ends.append(replica)
    ends.append(tree.steps[-1].start(tree.steps))
    for _ in range(3):
        for replica in ends:
            for other in ends:
                for proof in other.evidence().values():
                    replica.admit_evidence(proof)
            for batch in tree.batches:
                replica.admit(batch.raw)
            replica.check_invariants()
    assert len({state(replica) for replica in ends}) == 1
    assert len({tuple(documents(replica).items()) for replica in ends}) == 1
    cut = tree.steps[-1].state.lanes.get(tree.key, SettledLane(0))
    for replica in ends:
        head = replica.head(tree.key)
        assert head.seq >= cut.seq
        assert not cut.closed or head.seq == cut.seq
        assert not head.fork_seq or head.seq <= max(head.fork_seq - 1, cut.seq)


# -- what a batch stands on ---------------------------------------------------------------------------------


def test_a_batch_on_a_height_to_come_waits_for_it_and_says_so() -> None:
    pen, batches = written(2)
    step = checkpoint(1, {pen.lane.key: batches[0]})
    pen.base = step.base
    later = [pen.write(fill(7)), pen.write(fill(8))]
    replica = holding(batches)
    assert isinstance(replica.admit(later[1].raw), Pending)
    assert replica.admit(later[0].raw) == Pending((), kept=True)
    assert replica.wanted_height == 1
    assert [batch.seq for batch in replica.rebase(1, step.digest, step.state)] == [3, 4]
    assert (replica.wanted_height, replica.waiting()) == (0, 0)


def test_a_wrong_digest_is_refused_whether_it_came_before_its_height_or_after() -> None:
    pen, batches = written(2)
    step = checkpoint(1, {pen.lane.key: batches[0]})
    pen.base = (1, bytes(32))
    wrong = pen.write(fill(7))
    early, late = holding(batches), holding(batches)
    assert isinstance(early.admit(wrong.raw), Pending)
    assert early.rebase(1, step.digest, step.state) == []
    assert early.waiting() == 0
    late.rebase(1, step.digest, step.state)
    for replica in (early, late):
        answer = replica.admit(wrong.raw)
        assert isinstance(answer, Rejected)
        assert "header.base" in answer.reason
    assert early.digest() == late.digest()


def test_a_base_never_falls_within_a_lane_not_even_over_the_cut() -> None:
    pen, batches = written(1)
    first = checkpoint(1, {pen.lane.key: batches[0]})
    pen.base = first.base
    risen = pen.write(fill(7))
    second = checkpoint(2, {pen.lane.key: risen})
    pen.base = (0, FOUNDED.hash)
    fallen, after = pen.write(fill(8)), pen.write(fill(9))
    for settled in (False, True):
        for order in ([fallen, after], [after, fallen]):
            replica = holding(batches)
            first.move(replica)
            replica.admit(risen.raw)
            if settled:
                second.move(replica)
            answers = [replica.admit(batch.raw) for batch in order]
            assert isinstance(answers[order.index(fallen)], Rejected)
            assert replica.head(pen.lane.key).seq == 2
    replica = holding([fallen, *batches])
    first.move(replica)
    replica.admit(risen.raw)
    assert (replica.head(pen.lane.key).seq, replica.waiting()) == (2, 0)


def test_a_height_before_the_start_without_a_known_digest_is_waited_for() -> None:
    pen, batches = written(1)
    first = checkpoint(1, {pen.lane.key: batches[0]})
    second = checkpoint(2, {pen.lane.key: batches[0]})
    pen.base = first.base
    risen = pen.write(fill(7))
    forgetful = Replica(FOUNDED, state=second.state, base=second.base)
    assert forgetful.admit(risen.raw) == Pending((), kept=True)
    assert forgetful.wanted_height == 0
    assert isinstance(second.start([first]).admit(risen.raw), Applied)


def test_the_cut_meets_deps_whichever_branch_they_name() -> None:
    giver, twin, taker = Pen(FOUNDED, 0), Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    grant = giver.write(Grant(id=1, account="A", asset="USDT", amount=5, node="n1"))
    other = twin.write(Grant(id=2, account="A", asset="USDT", amount=5, node="n1"))
    leaning = [taker.write(fill(1), deps=[dep_on(other)]), taker.write(fill(2), deps=[dep_on(grant)])]
    replica = holding([*leaning, grant])
    assert replica.waiting() == 2
    step = checkpoint(1, {grant.key: grant})
    assert [batch.hash for batch in replica.rebase(1, step.digest, step.state)] == [batch.hash for batch in leaning]
    assert isinstance(step.start([]).admit(leaning[0].raw), Applied)


def test_what_waits_is_settled_where_it_waits() -> None:
    """It leans on a branch that was never seen here; the checkpoint knows that branch to be void."""
    giver, twin, taker = Pen(FOUNDED, 0), Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    grant = giver.write(Grant(id=1, account="A", asset="USDT", amount=5, node="n1"))
    other = twin.write(Grant(id=2, account="A", asset="USDT", amount=5, node="n1"))
    leaning, after = taker.write(fill(1), deps=[dep_on(other)]), taker.write(fill(2))
    replica = holding([grant, leaning, after])
    assert replica.waiting() == 2
    assert checkpoint(1, {grant.key: grant, leaning.key: leaning}).move(replica)
    assert replica.waiting() == 0
    assert [batch.hash for batch in replica.batches()] == [after.hash]


# -- forks at the cut ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_fork_below_at_or_above_the_cut_is_proven_and_what_is_settled_stays(at: int) -> None:
    """``at``: the seq of the twin. The cut is at 2, the lane goes on to 4."""
    liar = Pen(FOUNDED, 0)
    branches: list[Batch] = []
    batches: list[Batch] = []
    for number in range(4):
        if number + 1 == at:
            branches.append(liar.copy().write(fill(99)))
        batches.append(liar.write(fill(number)))
    replica = holding(batches)
    step = checkpoint(1, {liar.lane.key: batches[1]})
    step.move(replica)
    outcome = replica.admit(branches[0].raw)
    assert isinstance(outcome, Forked)
    assert (outcome.new, outcome.evidence.seq) == (True, at)
    assert replica.head(liar.lane.key).seq == 2
    assert replica.head(liar.lane.key).fork_seq == at
    assert replica.lane_document(liar.lane.key).elements() == []
    assert {batch.seq for batch in replica.aside().values()} >= {3, 4}
    replica.check_invariants()


def test_who_starts_from_a_checkpoint_proves_a_fork_at_the_cut_by_the_cut_s_batch() -> None:
    pen, batches = written(4)
    key = pen.lane.key
    step = checkpoint(1, {key: batches[1]})
    liar = Pen(FOUNDED, 0)
    twins = [liar.write(fill(10)), liar.write(fill(11)), liar.write(fill(12))]
    for waits in (True, False):  # what denies the cut's batch may be here first
        for shelved in (True, False):
            replica = step.start([])
            for twin in twins[1:] if waits else ():
                answer = replica.admit(twin.raw)
                assert isinstance(answer, Pending)
                assert answer.missing == (Name(key, 2, batches[1].hash),)
            if shelved:
                replica.shelve(batches[:2])
                assert [replica.batch(key, seq) is not None for seq in (1, 2, 3)] == [True, True, False]
            outcome = replica.admit(batches[1].raw)
            assert isinstance(outcome, Forked if waits else Settled)
            outcome = replica.admit(twins[2].raw)
            assert isinstance(outcome, Forked)
            assert outcome.evidence.seq == 2
            assert isinstance(replica.admit(batches[2].raw), Forked)
            assert (replica.head(key).seq, replica.waiting()) == (2, 0)
            replica.check_invariants()


def test_a_fork_just_above_the_cut_is_proven_without_the_cut_s_batch() -> None:
    pen, batches = written(3)
    step = checkpoint(1, {pen.lane.key: batches[1]})
    liar = Pen(FOUNDED, 0)
    twins = [liar.write(fill(10)), liar.write(fill(11)), liar.write(fill(12))]
    for order in ([twins[2], batches[2]], [batches[2], twins[2]]):
        replica = step.start([])
        for batch in order:
            outcome = replica.admit(batch.raw)
        assert isinstance(outcome, Forked)
        assert outcome.evidence.seq == 3
        assert replica.head(pen.lane.key).seq == 2


def test_what_a_journal_kept_is_shelved_below_what_was_settled_since() -> None:
    pen, batches = written(8)
    key = pen.lane.key
    first, second = checkpoint(1, {key: batches[3]}), checkpoint(2, {key: batches[5]})
    replica = first.start([])
    for batch in batches:
        replica.admit(batch.raw)
    second.move(replica)
    assert [seq for seq in range(1, 9) if replica.batch(key, seq)] == [5, 6, 7, 8]
    other = Pen(FOUNDED, 0)
    replica.shelve([*batches[1:4], other.write(fill(70)), *written(3, node=1)[1]])
    assert [replica.hash_at(key, seq) for seq in range(1, 9)] == [None, *hashes(batches[1:])]


def test_a_lane_that_the_base_closed_takes_nothing_more() -> None:
    liar = Pen(FOUNDED, 0)
    first = liar.write(fill(0))
    twins = [liar.copy().write(fill(number)) for number in range(1, 4)]
    proof = fork_evidence(twins[0], twins[1])
    closed = SettledLane(1, first.hash, 0, proof.seq, proof.raw)
    step = checkpoint(1, {liar.lane.key: closed})
    for replica in (holding([first, twins[0]]), step.start([])):
        step.move(replica)
        before = state(replica)
        assert list(replica.evidence().values()) == [proof.raw]
        for twin in twins:
            outcome = replica.admit(twin.raw)
            assert isinstance(outcome, Forked)
            assert (outcome.new, outcome.evidence.raw) == (False, proof.raw)
        for one in range(3):
            other = fork_evidence(twins[one], twins[one - 1])
            assert isinstance(replica.admit_evidence(other.raw), Duplicate)
        assert isinstance(replica.admit(first.raw), Settled)
        assert state(replica) == before
        assert not [item for item in replica.breaks() if item.type == "fork"], "the base tells of it"
        replica.check_invariants()


# -- collecting ---------------------------------------------------------------------------------------------


def test_a_cut_is_collected_from_the_lane_the_waiting_room_and_beyond_forks() -> None:
    liar = Pen(FOUNDED, 0)
    root = liar.write(fill(0))
    other = liar.copy()
    branch = [liar.write(fill(number)) for number in range(1, 4)]
    twin = other.write(fill(9))
    replica = holding([root, twin])
    cut = [Name(root.key, 4, branch[2].hash)]
    assert replica.collect(cut) == Missing((Name(root.key, 4, branch[2].hash),))
    for batch in branch:
        replica.admit(batch.raw)
    assert hashes(replica.collect(cut)) == hashes([root, *branch])
    step = checkpoint(1, {root.key: branch[2]})
    assert step.move(replica)
    assert replica.head(root.key).seq == 4
    assert twin.hash in replica.aside()
    waits = holding(branch[1:])
    assert waits.collect(cut) == Missing((Name(root.key, 2, branch[0].hash),))
    waits.admit(branch[0].raw)
    assert waits.collect(cut) == Missing((Name(root.key, 1, root.hash),))


def test_a_wanted_branch_longer_than_what_is_kept_aside_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "MAX_KEPT_ASIDE", 2)
    liar = Pen(FOUNDED, 0)
    other = liar.copy()
    branch = [liar.write(fill(number)) for number in range(9)]
    twins = [other.write(fill(100 + number)) for number in range(9)]
    replica = holding([twins[0], branch[0]])
    cut = [Name(branch[0].key, 9, branch[8].hash)]
    assert isinstance(replica.collect(cut), Missing)
    for batch, twin in zip(
        reversed(branch), reversed(twins), strict=True
    ):  # as asked for, downwards, and what nobody asked for
        replica.admit(batch.raw)
        replica.admit(twin.raw)
    assert hashes(replica.collect(cut)) == hashes(branch)
    assert len(replica.aside()) <= 9 + 2
    assert checkpoint(1, {branch[0].key: branch[8]}).move(replica)
    assert len(replica.aside()) <= 2


def test_a_rebase_onto_what_is_not_held_or_does_not_follow_is_refused_and_changes_nothing() -> None:
    pen, batches = written(4)
    liar = Pen(FOUNDED, 0)
    twins = [liar.write(fill(number)) for number in range(10, 14)]
    replica = holding(batches[:3])
    checkpoint(1, {pen.lane.key: batches[1]}).move(replica)
    before = replica.digest()
    replica.admit_evidence(fork_evidence(batches[3], twins[3]).raw)
    for batch in twins:
        replica.collect([Name(pen.lane.key, 4, twins[3].hash)])
        replica.admit(batch.raw)
    for height, end in ((2, batches[3]), (2, twins[3]), (2, batches[0]), (1, batches[2])):
        step = checkpoint(height, {pen.lane.key: end})
        with pytest.raises(ValueError, match=r"does not follow"):
            replica.rebase(height, step.digest, step.state)
    assert replica.base[0] == 1
    assert before != replica.digest(), "the fork is known"
    replica.check_invariants()


# -- the shelf, and gossip over pruned lanes ----------------------------------------------------------------


@given(st.integers(0, 5), st.integers(0, 3000), st.lists(st.integers(0, 3), min_size=1, max_size=8))
def test_the_shelf_keeps_the_newest_heights_within_its_bounds(heights: int, most: int, sizes: list[int]) -> None:
    _, batches = written(sum(sizes))
    shelf = Shelf(heights_max=heights, bytes_max=most)
    at = 0
    for size in sizes:
        shelf.add({LANE: batches[at : at + size]})
        at += size
        kept = [batch for batch in batches[:at] if shelf.at(LANE, batch.seq) is batch]
        assert kept == batches[at - len(kept) : at]
        assert len(shelf) == len(kept)
        assert shelf.bytes == _bytes(kept) <= most
        assert shelf.at(LANE, 0) is shelf.at(LANE, at + 1) is None
    fits = [
        k for k in range(min(heights, len(sizes)) + 1) if _bytes(batches[at - sum(sizes[len(sizes) - k :]) :]) <= most
    ]
    assert len(shelf) == sum(sizes[len(sizes) - max(fits) :])


def _bytes(batches: Sequence[Batch]) -> int:
    return sum(len(batch.raw) for batch in batches)


def durable(batches: Sequence[Batch], shelf: Shelf | None = None) -> GossipReplica:
    gossip = GossipReplica(Replica(FOUNDED, shelf=shelf))
    for batch in batches:
        gossip.admit(batch.raw, "peer")
    gossip.persisting(1, gossip.take_fresh()[0])
    gossip.durable(1)
    return gossip


def test_ranges_are_served_across_the_border_between_shelf_and_lane() -> None:
    pen, batches = written(6)
    key = pen.lane.key
    gossip = durable(batches, Shelf(heights_max=2))
    for height in (1, 2, 3):
        step = checkpoint(height, {key: batches[height]})
        gossip.rebase(height, step.digest, step.state)
        assert gossip.heads()[key].seq == 6
    raw = [batch.raw for batch in batches]
    assert gossip.read(key, 3, 6, 1 << 20) == raw[2:]
    assert gossip.read(key, 4, 5, 1 << 20) == raw[3:5]
    assert gossip.read(key, 1, 6, 1 << 20) == []
    assert [gossip.hash_at(key, seq) for seq in range(8)] == [
        *[None] * 3,
        *[batch.hash for batch in batches[2:]],
        None,
    ]


def test_a_durable_head_outlives_the_batch_that_it_names() -> None:
    pen, batches = written(3)
    key = pen.lane.key
    gossip = durable(batches, Shelf(heights_max=0))
    step = checkpoint(1, {key: batches[2]})
    gossip.rebase(1, step.digest, step.state)
    assert (gossip.heads()[key].seq, gossip.heads()[key].hash) == (3, batches[2].hash)
    assert gossip.durable_frontier()[key].hash == batches[2].hash
    late = GossipReplica(step.start([]))
    late.replayed()
    assert late.heads() == gossip.heads()
    assert late.durable_frontier() == gossip.durable_frontier()
    pen.base = step.base
    after = pen.write(fill(50))
    for node in (gossip, late):
        node.admit(after.raw, "peer")
        assert node.heads()[key].seq == 3
        node.persisting(2, node.take_fresh()[0])
        node.durable(2)
        assert node.heads()[key].seq == 4


def test_the_head_of_a_lane_moves_to_the_branch_that_was_settled() -> None:
    liar = Pen(FOUNDED, 0)
    root = liar.write(fill(0))
    other = liar.copy()
    ours, theirs = [liar.write(fill(n)) for n in (1, 2)], [other.write(fill(n)) for n in (3, 4, 5)]
    gossip = durable([root, *ours])
    for batch in theirs:
        gossip.admit(batch.raw, "peer")
    gossip.take_fresh()
    gossip.persisting(2, theirs)
    assert gossip.heads()[root.key].seq == 1
    gossip.durable(2)
    assert gossip.heads()[root.key].seq == 1, "what was set aside is no head"
    step = checkpoint(1, {root.key: theirs[2]})
    gossip.rebase(1, step.digest, step.state)
    assert (gossip.heads()[root.key].seq, gossip.heads()[root.key].hash) == (4, theirs[2].hash)


def test_a_branch_set_aside_makes_nothing_durable_but_itself() -> None:
    liar = Pen(FOUNDED, 0)
    lane = [liar.write(fill(number)) for number in range(3)]
    twins = [liar.copy().write(fill(number)) for number in (10, 11)]
    gossip = durable(lane[:1])
    gossip.admit_evidence(fork_evidence(*twins).raw, "peer")
    gossip.admit(twins[0].raw, "peer")
    gossip.persisting(2, [twins[0]])
    for batch in lane[1:]:
        gossip.admit(batch.raw, "peer")
    assert gossip.admitted(liar.lane.key) == 3
    gossip.durable(2)
    assert gossip.heads()[liar.lane.key].seq == 1
    gossip.persisting(3, gossip.take_fresh()[0])
    gossip.durable(3)
    assert gossip.heads()[liar.lane.key].seq == 3


def test_what_is_not_durable_is_not_settled() -> None:
    pen, batches = written(2)
    gossip = durable(batches[:1])
    gossip.admit(batches[1].raw, "peer")
    step = checkpoint(1, {pen.lane.key: batches[1]})
    for _ in range(2):
        with pytest.raises(AssertionError, match="durable"):
            gossip.rebase(1, step.digest, step.state)
        fresh = gossip.take_fresh()[0]
        if fresh:
            gossip.persisting(2, fresh)
    gossip.durable(2)
    gossip.rebase(1, step.digest, step.state)


def test_what_waited_for_a_base_is_to_be_persisted() -> None:
    pen, batches = written(1)
    step = checkpoint(1, {pen.lane.key: batches[0]})
    pen.base = step.base
    gossip = durable(batches)
    later = pen.write(Deposit(id=1, account="A", asset="USDT", amount=1))
    gossip.admit(later.raw, "peer")
    assert gossip.take_fresh() == ([], [])
    assert [batch.hash for batch in gossip.rebase(1, step.digest, step.state)] == [later.hash]
    assert [batch.hash for batch in gossip.take_fresh()[0]] == [later.hash]
