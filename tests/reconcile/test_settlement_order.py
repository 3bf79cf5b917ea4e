"""Canonical order: the same for everybody, after every lane and dep, and no recorder's to choose."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadCut
from crdtledger.ledger.batch import Batch, Dep
from crdtledger.ledger.identity import digest
from reconcile.checkpoint import cut_of
from reconcile.order import canonical_order, order_seed
from tests.crdtledger.worlds import Pen, dep_on, genesis

GENESIS = genesis(4)
SEED = bytes(32)


def scribbled(draws: list[tuple[int, list[int]]]) -> list[Batch]:
    """Batches of four lanes: who writes next, and on which earlier batches (by index) it depends."""
    pens = [Pen(GENESIS, node) for node in range(4)]
    written: list[Batch] = []
    for node, chosen in draws:
        newest: dict[bytes, Batch] = {}
        for index in chosen:
            if written:
                batch = written[index % len(written)]
                if batch.key != pens[node].lane.key and (batch.key not in newest or newest[batch.key].seq < batch.seq):
                    newest[batch.key] = batch
        written.append(pens[node].write(deps=[dep_on(batch) for batch in newest.values()]))
    return written


def ends(batches: list[Batch]) -> dict[bytes, int]:
    return {batch.key: max(one.seq for one in batches if one.key == batch.key) for batch in batches}


draws = st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 40), max_size=3)), max_size=25)


@given(told=draws, seed=st.binary(min_size=32, max_size=32), shuffle=st.integers(0, 99))
def test_every_batch_comes_after_its_lane_and_its_deps_whatever_the_order_of_arrival(
    told: list[tuple[int, list[int]]], seed: bytes, shuffle: int
) -> None:
    batches = scribbled(told)
    ordered = canonical_order(batches, ends(batches), seed)
    names = [(batch.key, batch.seq) for batch in ordered]
    assert sorted(names) == sorted((batch.key, batch.seq) for batch in batches)
    where = {name: index for index, name in enumerate(names)}
    for batch in batches:
        before = [(dep.lane, dep.seq) for dep in batch.header.deps]
        before += [(batch.key, batch.seq - 1)] if batch.seq > 1 else []
        assert all(where[name] < where[batch.key, batch.seq] for name in before)
    random.Random(shuffle).shuffle(batches)
    assert canonical_order(batches, ends(batches), seed) == ordered


@given(told=draws)
def test_of_those_that_may_come_next_the_one_with_the_least_digest_does(told: list[tuple[int, list[int]]]) -> None:
    left = scribbled(told)
    ordered = canonical_order(left, ends(left), SEED)
    out: set[tuple[bytes, int]] = set()
    for batch in ordered:
        ready = [
            one
            for one in left
            if (one.seq == 1 or (one.key, one.seq - 1) in out)
            and all((dep.lane, dep.seq) in out for dep in one.header.deps)
        ]
        assert batch is min(ready, key=lambda one: digest("canonical", SEED, one.key, one.seq.to_bytes(8, "big")))
        left.remove(batch)
        out.add((batch.key, batch.seq))


def test_another_cut_or_another_checkpoint_before_gives_another_seed() -> None:
    cut = cut_of({bytes(22): (3, bytes(32))})
    seeds = {order_seed(before, each) for before in (bytes(32), b"\x01" * 32) for each in (cut, ())}
    assert len(seeds) == 4


def test_the_order_does_not_depend_on_anybodys_clock() -> None:
    """Two lanes written alike but for their clocks: who claims to be early does not come early."""
    firsts = []
    for clock in (1, 1 << 40):
        pens = Pen(GENESIS, 0), Pen(GENESIS, 1)
        batches = [pens[0].write(clock=clock), pens[1].write(clock=1 << 20)]
        firsts.append([batch.key for batch in canonical_order(batches, ends(batches), SEED)])
    assert firsts[0] == firsts[1]


def test_a_dep_beyond_a_closed_lanes_end_stands_on_its_last_batch() -> None:
    giver, taker = Pen(GENESIS, 0), Pen(GENESIS, 1)
    given_batches = [giver.write() for _ in range(3)]
    batch = taker.write(deps=[Dep(giver.lane.key, 9, b"\x07" * 32)])
    for seed in (bytes([n]) * 32 for n in range(8)):
        assert canonical_order([batch, *given_batches], {giver.lane.key: 3, taker.lane.key: 1}, seed)[-1] is batch


def test_deps_that_go_in_circles_are_a_bad_cut() -> None:
    one, other = Pen(GENESIS, 0), Pen(GENESIS, 1)
    first = one.write(deps=[Dep(other.lane.key, 1, b"\x07" * 32)])
    second = other.write(deps=[dep_on(first)])
    with pytest.raises(BadCut, match="circles"):
        canonical_order([first, second], {one.lane.key: 1, other.lane.key: 1}, SEED)
