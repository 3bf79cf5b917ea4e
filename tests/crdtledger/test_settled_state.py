"""The settled state: one encoding, ids that only grow, contents that are equal exactly when the facts are."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InvalidProof
from crdtledger.ledger.body import stated
from crdtledger.ledger.breaks import Break
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import Deposit, Fact, Fill, Grant, Kind, Note, Post, Reserve, Transfer, Void, Withdrawal
from crdtledger.ledger.seenids import Contents, SeenIds
from crdtledger.ledger.settled import SettledState, decode_state
from crdtledger.ledger.settledparts import SettledPosition, cut_fills
from tests.crdtledger.settling import any_order, settle_plainly
from tests.crdtledger.test_convergence import POLICIES, Action, actions, batches_of, history
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, genesis, rows

FOUNDED = genesis(3)


def grown(steps: list[Action], seed: int) -> SettledState:
    """A state of several heights, with everything in it that a short history makes; and sums beyond 64 bits."""
    world = history(POLICIES[0], 3, steps)
    batches = any_order(batches_of(world), seed)
    state = SettledState.empty(world.genesis, seed)
    for part in (batches[: len(batches) // 2], batches[len(batches) // 2 :]):
        state = settle_plainly(world.genesis, state, part)
    wide = SettledPosition(bought=1 << 90, value_bought=-(1 << 150), cost=1 << 130, realised=-1)
    return msgspec.structs.replace(state, positions={**state.positions, ("wide", SPOT.name): wide})


@settings(max_examples=40)
@given(actions, st.integers(0, 1 << 30))
def test_saved_and_loaded_and_saved_again_it_is_the_same_bytes(steps: list[Action], seed: int) -> None:
    state = grown(steps, seed)
    raw = state.encode()
    loaded = decode_state(raw, FOUNDED, salt=seed + 1)
    assert loaded == state
    assert loaded.encode() == raw


def test_the_empty_state_is_saved_too() -> None:
    empty = SettledState.empty(FOUNDED)
    assert decode_state(empty.encode(), FOUNDED) == empty
    with pytest.raises(InvalidProof, match="another cluster"):
        decode_state(SettledState.empty(genesis(2)).encode(), FOUNDED)


def whole() -> SettledState:
    """A small state with something in every part."""
    pen, late = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    facts: list[list[Fact]] = [
        [SPOT, fill(1, fee=2, fee_asset="BTC")],
        [Note(break_id="0" * 16, field="owner", text="kim")],
        [deposit(1, 100), Reserve(id="r", account="A", asset="USDT", amount=5, expires_us=9)],
    ]
    batches = [pen.write(*some) for some in facts]
    batches.append(late.write(fill(7, instrument=INVERSE.name)))
    return msgspec.structs.replace(
        settle_plainly(FOUNDED, SettledState.empty(FOUNDED), batches), breaks=(Break("conflict", "x", "y"),)
    )


def fill(id: int | str, **terms: Any) -> Fill:
    said = {"venue": "v", "instrument": SPOT.name, "account": "A", "side": "buy", "qty": 2, "price": 5, **terms}
    return Fill(trade_id=id, **said)


def deposit(id: int, amount: int) -> Fact:
    return Deposit(id=id, account="A", asset="USDT", amount=amount)


def test_bytes_that_are_no_state_are_refused_and_nothing_else_happens() -> None:
    raw = whole().encode()
    rng = random.Random(5)
    for at in range(len(raw)):
        with pytest.raises(InvalidProof):
            decode_state(raw[:at], FOUNDED)
        for byte in {0, 255, raw[at] ^ 1, rng.randrange(256)} - {raw[at]}:
            changed = raw[:at] + bytes([byte]) + raw[at + 1 :]
            try:
                assert decode_state(changed, FOUNDED).encode() == changed
            except InvalidProof:
                continue
    with pytest.raises(InvalidProof):
        decode_state(raw + b"\0", FOUNDED)


@pytest.mark.parametrize(
    ("field", "at", "value", "says"),
    [
        (10, (0, 4), "6", "reserves do not add up"),
        (10, (0, 3), "6", "in - held - out is"),
        (10, (0, 1), "GBP", "no asset"),
        (10, (0, 2), "01", "no amount"),
        (10, (0, 2), "-1", "amount of -1"),
        (10, (0, 6, 0, 0), 9, "rights of nobody"),
        (10, (0, 6, 0, 1), "0", "amount of 0"),
        (4, (0, 0), bytes(22), "no member"),
        (4, (0, 1, 3), 4, "closed without evidence"),
        (5, (0, 0), "other", "cannot stand"),
        (14, (0, 0), 3, "a member that the genesis does not have"),
        (12, (2,), b"", "not of one length"),
        (16, (0, 2), [0, 1], "no fills wait"),
        (19, (0, 0), bytes(22), "of no member"),
        (19, (0, 1), [], "noted nothing"),
        (19, (0, 1, 0, 1), b"kim", "no note"),
        (19, (0, 1, 0, 0), 0, "no note"),
    ],
)
def test_what_cannot_stand_is_named(field: int, at: tuple[int, ...], value: object, says: str) -> None:
    wire = msgspec.msgpack.decode(whole().encode())
    part = wire[field]
    for step in at[:-1]:
        part = part[step]
    part[at[-1]] = value
    with pytest.raises(InvalidProof, match=says):
        decode_state(msgspec.msgpack.encode(wire), FOUNDED)


def test_a_state_on_whose_board_nothing_stands_has_the_bytes_that_it_had_before_there_was_one() -> None:
    bare = msgspec.structs.replace(whole(), board={})
    assert len(msgspec.msgpack.decode(bare.encode())) == 19
    assert decode_state(bare.encode(), FOUNDED).board == {}
    with pytest.raises(InvalidProof, match="one encoding"):
        decode_state(msgspec.msgpack.encode([*msgspec.msgpack.decode(bare.encode()), []]), FOUNDED)


def test_rows_out_of_order_are_refused() -> None:
    wire = msgspec.msgpack.decode(whole().encode())
    wire[4].reverse()
    with pytest.raises(InvalidProof, match="one encoding"):
        decode_state(msgspec.msgpack.encode(wire), FOUNDED)


# -- ids ----------------------------------------------------------------------------------------------------


def columns(pairs: list[tuple[int, int]]) -> tuple[Keys, Contents]:
    keys = np.array([key for key, _ in pairs], np.uint64)
    said = np.array([[value, value + 1] for _, value in pairs], np.uint64).reshape(-1, 2)
    return (keys, keys * np.uint64(3)), said


grow = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5)), max_size=30)


@given(st.lists(st.tuples(st.integers(0, 3), grow), max_size=8), st.integers(0, 99))
def test_ids_are_kept_as_a_dictionary_would_at_every_height_and_on_every_branch(
    steps: list[tuple[int, list[tuple[int, int]]]], salt: int
) -> None:
    heights: list[tuple[SeenIds, dict[int, int]]] = [(SeenIds(salt), {})]
    for parent, pairs in steps:
        seen, model = heights[min(parent, len(heights) - 1)]
        later = dict(model)
        for key, value in pairs:
            later.setdefault(key, value)
        heights.append((seen.extended(*columns(pairs)), later))
        for known, expected in heights:
            keys, said = columns(list(expected.items()))
            assert len(known) == len(expected)
            assert known.find(keys).tolist() == list(range(len(expected)))
            assert (known.says(known.find(keys)) == said).all()
            absent = [(key, 0) for key in range(41) if key not in expected]
            assert (known.find(columns(absent)[0]) == -1).all()


# -- contents -----------------------------------------------------------------------------------------------

few = st.integers(0, 1)


@given(st.sampled_from(list(Kind)[4:]), st.lists(st.tuples(few, few, few, few, few), min_size=2, max_size=2))
def test_two_facts_say_the_same_exactly_when_their_words_are_the_same(kind: Kind, terms: list[Any]) -> None:
    bodies = []
    for node, (a, b, c, d, e) in enumerate(terms):
        common: dict[str, Any] = {"id": 1, "account": "AB"[a], "asset": ("USDT", "BTC")[b], "amount": 1 + c}
        made: dict[Kind, Fact] = {
            Kind.VOID: Void(id=1, reserve=("7", "x")[d]),
            Kind.GRANT: Grant(node=f"n{d}", **common),
            Kind.RESERVE: Reserve(expires_us=e, **common),
            Kind.POST: Post(id=1, reserve=d, amount=1 + c, credit="AB"[a]),
            Kind.TRANSFER: Transfer(credit="AB"[d], **common),
            Kind.WITHDRAWAL: Withdrawal(**common),
        }
        if kind not in made:
            return
        other = Pen(FOUNDED, node).write(made[kind]) if kind is not Kind.GRANT else Pen(FOUNDED, 2).write(made[kind])
        bodies.append(other.body)
    one, two = bodies
    same = stated(one, kind, 0) == stated(two, kind, 0)
    assert (fact_contents(one, kind) == fact_contents(two, kind)).all() == same


@given(st.lists(st.tuples(few, few, few, few, few), min_size=1, max_size=6), st.integers(0, 1 << 20))
def test_fills_cut_out_of_a_batch_are_the_fills_they_were(terms: list[Any], seed: int) -> None:
    facts = [
        fill(
            ("x", number)[a],
            side=("buy", "sell")[b],
            account="AB"[c],
            fee=d,
            fee_asset=(None, "BTC")[d],
            instrument=(SPOT.name, INVERSE.name)[e],
            leg=str(number),
        )
        for number, (a, b, c, d, e) in enumerate(terms)
    ]
    batch = Pen(FOUNDED, 0).write(SPOT, *facts)
    picked = np.array(sorted(random.Random(seed).sample(range(len(facts)), 1 + seed % len(facts))), np.int64)
    part = cut_fills(batch.key, batch.seq, batch.body, Kind.FILL, picked, tuple(picked.tolist()))
    told = rows(batch, Kind.FILL)
    assert rows(part, Kind.FILL) == [told[row] for row in picked.tolist()]  # type: ignore[arg-type]
    assert (fact_contents(part.body, Kind.FILL) == fact_contents(batch.body, Kind.FILL, picked)).all()
    for mine, all_of in zip(fact_keys(part.body, Kind.FILL), fact_keys(batch.body, Kind.FILL), strict=True):
        assert (mine == all_of[picked]).all()
