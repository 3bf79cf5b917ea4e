"""Honest nodes record, hear of each other and adopt checkpoints at different times, settled by the real settlement.

What ``test_replica_on_base`` says of lanes alone is said here of the whole replica: figures, rights and invariants too.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crdtledger.ledger.facts import Account, Note
from crdtledger.ledger.genesis import Policies
from crdtledger.ledger.identity import digest
from crdtledger.ledger.replica import Missing, Replica
from crdtledger.ledger.settled import SettledState, decode_state
from reconcile.checkpoint import LaneCut, cut_of
from reconcile.settlement import settle
from tests.crdtledger.test_convergence import POLICIES, fact
from tests.crdtledger.worlds import INVERSE, SPOT, Desk, World, documents

ACCOUNTS = ("A", "B", "Cc")
WORDS = [
    "fill",
    "bust",
    "deposit",
    "deposit",
    "grant",
    "grant",
    "withdraw",
    "transfer",
    "reserve",
    "post",
    "void",
    "rival",
    "note",
    "note",
]
small = st.integers(0, 3)
scripts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(WORDS), small, small, small, small, st.integers(1, 400)),
        st.tuples(st.sampled_from(["send", "send", "settle", "adopt"]), small, small, small, small, small),
    ),
    min_size=6,
    max_size=40,
)


class Height(msgspec.Struct, frozen=True):
    """A checkpoint as everybody gets it: its cut, and the state that settling it gives."""

    number: int
    cut: tuple[LaneCut, ...]
    state: SettledState

    @property
    def digest(self) -> bytes:
        return digest("test-height", self.state.encode())

    def adopt(self, replica: Replica) -> bool:
        """Collect, settle and rebase as a node does; whether it was the replica's turn and everything was held."""
        if replica.base[0] != self.number - 1:
            return False
        batches = replica.collect(self.cut)
        if isinstance(batches, Missing):
            return False
        settled = settle(
            replica.genesis, replica.state, replica.base[1], self.cut, batches, [], self.number, height=self.number
        )
        assert settled.state.encode() == self.state.encode(), "whoever settles the cut gets the same state"
        replica.rebase(self.number, self.digest, settled.state)
        replica.check_invariants()
        return True


class Group:
    """The nodes, and the checkpoints so far."""

    def __init__(self, policies: Policies, nodes: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.world = World(nodes, policies)
        self.heights: list[Height] = []
        for desk in self.world.desks:
            desk.record(*(Account(name=name) for name in ACCOUNTS))
        self.world.desks[0].record(SPOT, INVERSE)

    def send(self, source: Desk, target: Desk) -> None:
        """What the source holds of every lane, settled or not."""
        for lane, head in source.replica.frontier().items():
            for seq in range(1, head.seq + 1):
                batch = source.replica.batch(lane, seq)
                assert batch is not None
                target.replica.admit(batch.raw)
        target.replica.check_invariants()

    def adopt(self, desk: Desk) -> None:
        for height in self.heights:
            height.adopt(desk.replica)

    def settle(self, desk: Desk, everything: bool = False) -> None:
        """A cut within what the node holds, closed under deps, on the newest height (which the node adopts first)."""
        self.adopt(desk)
        replica = desk.replica
        if replica.base[0] != len(self.heights):
            return
        settled = {lane: replica.state.lanes[lane].seq for lane in replica.state.lanes}
        heads = {lane: head.seq for lane, head in replica.frontier().items()}
        ends = {lane: seq if everything else self.rng.randint(settled.get(lane, 0), seq) for lane, seq in heads.items()}
        open_batches = list(replica.batches())
        grown = True
        while grown:
            grown = False
            for batch in open_batches:
                for dep in batch.header.deps if batch.seq <= ends[batch.key] else ():
                    grown |= dep.seq > ends[dep.lane]
                    ends[dep.lane] = max(ends[dep.lane], dep.seq)
        names = {lane: (seq, replica.hash_at(lane, seq) or b"") for lane, seq in ends.items()}
        cut, number = cut_of(names), len(self.heights) + 1
        batches = replica.collect(cut)
        assert not isinstance(batches, Missing)
        state = settle(self.world.genesis, replica.state, replica.base[1], cut, batches, [], height=number).state
        self.heights.append(Height(number, cut, state))

    def meet(self) -> None:
        """Everybody hears everything and adopts every height."""
        for _ in range(3):
            for source in self.world.desks:
                self.adopt(source)
                for target in self.world.desks:
                    self.send(source, target)
                    self.adopt(target)

    def joiner(self) -> Replica:
        """A node that starts from the newest state as it is stored, and hears of what came after."""
        newest, desk = self.heights[-1], self.world.desks[0]
        bases = {height.number: height.digest for height in self.heights}
        state = decode_state(newest.state.encode(), self.world.genesis, salt=5)
        late = Replica(self.world.genesis, 5, state=state, base=(newest.number, newest.digest), bases=bases)
        tail = list(desk.replica.batches())
        for batch in self.rng.sample(tail, len(tail)):
            late.admit(batch.raw)
            late.check_invariants()
        return late


def played(policies: Policies, nodes: int, script: Sequence[tuple[str, int, int, int, int, int]], seed: int) -> Group:
    group = Group(policies, nodes, seed)
    for word, node, a, b, c, amount in script:
        desk, other = group.world.desks[node % nodes], group.world.desks[a % nodes]
        if word == "send":
            group.send(desk, other)
        elif word == "adopt":
            group.adopt(desk)
        elif word == "settle":
            group.settle(desk)
        else:
            desk.tries(fact(word, node, a, b, c, amount))
        desk.replica.check_invariants()
    group.meet()
    return group


@settings(max_examples=50)
@given(st.sampled_from(POLICIES), st.integers(2, 3), scripts, st.integers(0, 1 << 30))
def test_nodes_that_adopt_checkpoints_whenever_they_can_hold_the_same_ledger(
    policies: Policies, nodes: int, script: list[tuple[str, int, int, int, int, int]], seed: int
) -> None:
    group = played(policies, nodes, script, seed)
    replicas = [desk.replica for desk in group.world.desks]
    if group.heights:
        replicas.append(group.joiner())
    assert {replica.base[0] for replica in replicas} == {len(group.heights)}
    assert len({replica.view.canonical() for replica in replicas}) == 1
    assert len({replica.digest() for replica in replicas}) == 1
    assert len({tuple(sorted(documents(replica).items())) for replica in replicas}) == 1
    group.settle(group.world.desks[0], everything=True)
    group.meet()
    for replica in (*(desk.replica for desk in group.world.desks), group.joiner()):
        assert replica.unsettled() == 0
        cut = cut_of({lane: (head.seq, head.hash) for lane, head in replica.frontier().items()})
        assert cut == group.heights[-1].cut
        assert replica.digest() == group.world.desks[0].replica.digest()
        assert all(len(replica.lane_document(lane)) == 0 for lane in replica.frontier())


noted = st.tuples(st.just("note"), small, small, small, small, st.integers(1, 9))
meets = st.tuples(st.sampled_from(["send", "settle", "adopt"]), small, small, small, small, small)


@settings(max_examples=15)
@given(st.lists(noted | meets | noted, min_size=4, max_size=30), st.integers(0, 1 << 30))
@example(
    2 * [("settle", 0, 0, 0, 0, 0)] + [("note", 0, 0, 0, 1, 1), ("send", 0, 1, 0, 0, 0), ("note", 1, 0, 0, 1, 1)], 0
)
def test_checkpoints_and_pruning_change_nothing_on_the_board(
    script: list[tuple[str, int, int, int, int, int]], seed: int
) -> None:
    """Whoever is sent something adopts what the sender stands on: else he does not know it yet, and may note what is noted already."""
    plain = played(Policies(), 3, [step for step in script if step[0] in ("note", "send")], seed)
    adopting = [
        one for step in script for one in (step, ("adopt", step[2], 0, 0, 0, 0)) if one is step or step[0] == "send"
    ]
    group = played(Policies(), 3, adopting, seed)
    for desk, other in zip(plain.world.desks, group.world.desks, strict=True):
        after = Note(break_id="0" * 16, field="comment", text="after all that")
        assert desk.record(after).facts == other.record(after).facts == 1
    for one in (plain, group):
        one.meet()
    said = [one._replace(settled=False) for one in plain.world.desks[0].replica.view.board.notes()]
    group.settle(group.world.desks[0], everything=True)
    group.meet()
    for replica in (*(desk.replica for desk in group.world.desks), group.joiner()):
        board = replica.view.board
        assert all(one.settled for one in board.notes())
        assert [one._replace(settled=False) for one in board.notes()] == said
        assert board.dump() == plain.world.desks[0].replica.view.board.dump()
