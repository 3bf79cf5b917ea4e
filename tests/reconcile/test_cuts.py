"""A cut extends the settled state by hash on every lane, with everything it stands on, or it is refused by name."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from crdtledger.errors import BadCut
from crdtledger.ledger.batch import Batch, Dep, ForkEvidence, fork_evidence
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.settledparts import SettledLane
from reconcile.checkpoint import LaneCut, cut_of
from reconcile.cuts import Extension, extend, fitting_evidence
from tests.crdtledger.worlds import Pen, dep_on, genesis

GENESIS = genesis(3)
EMPTY = SettledState.empty(GENESIS)


def cut(*batches: Batch) -> tuple[LaneCut, ...]:
    """The cut whose lanes end with these batches."""
    return cut_of({batch.key: (batch.seq, batch.hash) for batch in batches})


def stands(*heads: Batch, base: int = 0) -> SettledState:
    """A state in which these batches are the settled heads of their lanes."""
    lanes = {batch.key: SettledLane(batch.seq, batch.hash, base) for batch in heads}
    return msgspec.structs.replace(EMPTY, lanes=lanes)


def extended(
    state: SettledState,
    entries: Sequence[LaneCut],
    batches: Sequence[Batch],
    evidence: Sequence[ForkEvidence] = (),
    height: int = 1,
) -> Extension:
    return extend(GENESIS, state, entries, batches, evidence, height)


def refused(
    state: SettledState, entries: Sequence[LaneCut], batches: Sequence[Batch], why: str, **more: object
) -> None:
    with pytest.raises(BadCut, match=why):
        extended(state, entries, batches, **more)  # type: ignore[arg-type]


def chain(pen: Pen, length: int) -> list[Batch]:
    return [pen.write() for _ in range(length)]


def test_lanes_go_on_from_where_they_were_settled() -> None:
    one, other = chain(Pen(GENESIS, 0), 4), chain(Pen(GENESIS, 1), 2)
    extension = extended(stands(one[1]), cut(one[3], other[1]), [other[1], one[3], other[0], one[2]])
    assert extension.ends == {one[0].key: 4, other[0].key: 2}
    assert extension.grown == {one[0].key: one[2:], other[0].key: other}
    assert extended(stands(one[1]), cut(one[1]), []).grown == {}


def test_a_lane_never_goes_back_or_goes_missing() -> None:
    one, other = chain(Pen(GENESIS, 0), 3), chain(Pen(GENESIS, 1), 1)
    refused(stands(one[1]), cut(one[0]), [], "goes from 2 to 1")
    refused(stands(one[1]), cut(other[0]), other, "settled up to 2 and missing")


def test_the_batches_are_exactly_what_the_cut_adds() -> None:
    one, other = chain(Pen(GENESIS, 0), 3), chain(Pen(GENESIS, 1), 1)
    refused(EMPTY, cut(one[2]), [one[0], one[2]], "with 2 batches")
    refused(EMPTY, cut(one[2]), [one[0], one[0], one[2]], "does not go on from 1")
    refused(EMPTY, cut(one[2]), [*one, other[0]], "is not in it")
    refused(EMPTY, (*cut(one[2]), *cut(one[1])), one, "stands in it twice")


def test_another_branch_is_not_an_extension() -> None:
    pen = Pen(GENESIS, 0)
    pen.write()
    fork = pen.copy()
    mine, theirs = pen.write(), fork.write(clock=1 << 30)
    refused(stands(mine), cut(theirs), [], "has another batch at 2")
    refused(stands(mine), cut(after := fork.write()), [after], "does not go on from 2")


def test_what_deps_name_is_settled_with_it_or_was() -> None:
    giver, taker = chain(Pen(GENESIS, 0), 2), Pen(GENESIS, 1)
    batch = taker.write(deps=[dep_on(giver[1])])
    refused(EMPTY, cut(giver[0], batch), [giver[0], batch], "depends on n0/1.*#2, which is not in it")
    extended(EMPTY, cut(giver[1], batch), [*giver, batch])
    extended(stands(giver[1]), cut(giver[1], batch), [batch])
    lying = Pen(GENESIS, 2).write(deps=[Dep(giver[0].key, 2, b"\x07" * 32)])
    refused(EMPTY, cut(giver[1], lying), [*giver, lying], "which is not in it")


def test_no_batch_stands_on_a_height_that_is_not_settled_or_falls_back() -> None:
    pen = Pen(GENESIS, 0)
    pen.base = (3, bytes(32))
    batch = pen.write()
    refused(EMPTY, cut(batch), [batch], "stands on checkpoint 3 at 1: not within 0..2", height=3)
    extended(EMPTY, cut(batch), [batch], height=4)
    pen.base = (2, bytes(32))
    after = pen.write()
    refused(stands(batch, base=3), cut(after), [after], "stands on checkpoint 2 at 2: not within 3..8", height=9)


@pytest.mark.parametrize(("settled", "fork", "end"), [(0, 3, 2), (1, 3, 2), (2, 3, 2), (2, 2, 2), (2, 1, 2), (0, 1, 0)])
def test_a_forked_lane_ends_before_its_fork_or_where_it_was_settled(settled: int, fork: int, end: int) -> None:
    pen = Pen(GENESIS, 0)
    batches, proof = [], None
    for seq in range(1, 4):
        other = pen.copy()
        batches.append(pen.write())
        if seq == fork:
            proof = fork_evidence(batches[-1], other.write(clock=1 << 30))
    assert proof is not None
    state = stands(batches[settled - 1]) if settled else EMPTY
    for last in range(settled, 4):
        entries = cut(batches[last - 1]) if last else ()
        if last == end:
            assert extended(state, entries, batches[settled:last], [proof]).closed == {proof.lane: proof}
            assert fitting_evidence(state, entries, [proof]) == [proof]
        else:
            refused(state, entries, batches[settled:last], "its fork is at", evidence=[proof])
            assert fitting_evidence(state, entries, [proof]) == []


def test_a_closed_lane_stays_where_it_was_closed_and_takes_no_second_proof() -> None:
    pen = Pen(GENESIS, 0)
    first = pen.write()
    other = pen.copy()
    second, third = pen.write(), pen.write()
    proof = fork_evidence(second, other.write(clock=1 << 30))
    closed = SettledLane(1, first.hash, 0, 2, proof.raw)
    state = msgspec.structs.replace(EMPTY, lanes={first.key: closed})
    extended(state, cut(first), [])
    refused(state, cut(second), [second], "was closed at 1 and moves to 2")
    refused(state, cut(first), [], "closed without this evidence", evidence=[proof])
    refused(EMPTY, cut(first), [first], "closed without this evidence", evidence=[proof, proof])
    assert fitting_evidence(state, cut(first), [proof]) == []
    user = Pen(GENESIS, 1).write(deps=[dep_on(third)])
    extended(state, cut(first, user), [user])  # beyond the fork nothing counts, so it need not be here
    extended(EMPTY, cut(first, user), [first, user], [proof])
    refused(EMPTY, cut(first, user), [first, user], "which is not in it")


def test_of_evidence_the_earliest_fork_of_each_lane_is_taken_in_the_order_of_its_bytes() -> None:
    proofs, heads = [], []
    for node in range(3):
        pen = Pen(GENESIS, node)
        for _ in range(2):
            twin = pen.copy()
            batch = pen.write()
            proofs.append(fork_evidence(batch, twin.write(clock=1 << 30)))
        heads.append(batch)
    state = stands(*heads)  # settled beyond both forks, so either piece would close the lane where it stands
    expected = sorted(proofs[::2], key=lambda one: one.raw)
    assert [one.seq for one in expected] == [1, 1, 1]
    for order in (proofs, proofs[::-1]):
        assert fitting_evidence(state, cut(*heads), order) == expected
    assert extended(state, cut(*heads), [], expected).closed == {one.lane: one for one in expected}
    # A lane that no batch of is in the cut closes at its start, and only by a fork at its first batch.
    assert fitting_evidence(EMPTY, (), proofs) == expected
