"""Stories for settlement: what four lanes of three members, honest or not, may write, and how heights cut it.

Ids, accounts and amounts come from small sets, so that statements repeat and contradict each other; now and then they are as large,
or as odd, as a batch can carry.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from hypothesis import strategies as st

from crdtledger.errors import CallerError
from crdtledger.ledger.batch import FIRST_PREV, Batch, Dep, ForkEvidence, fork_evidence, parse_lane
from crdtledger.ledger.facts import (
    Account,
    Bust,
    Deposit,
    Fact,
    Fill,
    Grant,
    Mark,
    Note,
    Post,
    Reserve,
    Transfer,
    Void,
    Withdrawal,
)
from crdtledger.ledger.genesis import Authority, Custodian, Genesis, Policies
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.settled import SettledState
from reconcile.checkpoint import LaneCut, cut_of
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, dep_on, genesis

RIVAL = msgspec.structs.replace(SPOT, price_decimals=3)
UNHEARD = msgspec.structs.replace(SPOT, price_decimals=1)
FOREIGN = msgspec.structs.replace(SPOT, name="XYZ", settlement="XYZ")
ODD = ("", "\u200b\U0001f600" * 60, "a/b c", "A\u00a0")
ACCOUNTS = ("A", "B", "B2", *ODD)
BIG = 1 << 62

OPEN = Policies()
RULED = Policies(
    authorities=(Authority("n1", ("A", "B*")), Authority("n2", ("*",))),
    custodians=(Custodian("n1", "B*"), Custodian("n2", "*", "BTC")),
)
SETTLED_GRANTS = Policies(grant_finality="settled")

_id = st.integers(0, 3) | st.sampled_from(("x", "\u202ey"))
_account = st.sampled_from(("A", "A", "A", "B", "B", "B2")) | st.sampled_from(ODD)
_asset = st.sampled_from(("USDT", "USDT", "USDT", "BTC", "GOLD"))
_amount = st.integers(1, 20) | st.sampled_from((BIG, BIG - 1))
_member = st.integers(0, 2).map(lambda n: f"n{n}")
_price = st.integers(1, 9) | st.sampled_from((0, -3, BIG, -BIG))


def _fills(kind: type[Fill]) -> st.SearchStrategy[Fact]:
    return st.builds(
        kind,
        venue=st.just("V"),
        trade_id=_id,
        instrument=st.sampled_from(("BTCUSDT", "BTCUSDT", "BTCUSD_PERP", "XYZ", "odd \u200bname")),
        account=_account,
        side=st.sampled_from(("buy", "sell")),
        qty=_amount,
        price=_price,
        fee=st.integers(-2, 2) | st.sampled_from((BIG, -BIG)),
        fee_asset=st.sampled_from((None, "USDT", "BTC", "GOLD")),
    )


_trades = st.lists(_fills(Fill) | _fills(Fill) | _fills(Bust), min_size=1, max_size=5)
_parts: dict[str, st.SearchStrategy[Any]] = {"id": _id, "account": _account, "asset": _asset, "amount": _amount}
_money: st.SearchStrategy[Fact] = st.one_of(
    st.builds(Deposit, **_parts),
    st.builds(Deposit, **_parts),
    st.builds(Withdrawal, **_parts),
    st.builds(Transfer, **_parts, credit=_account),
    st.builds(Grant, **_parts, node=_member),
    st.builds(Reserve, **_parts),
    st.builds(Post, id=_id, reserve=_id, amount=st.integers(1, 9), credit=_account),
    st.builds(Void, id=_id, reserve=_id),
)
_moves = st.lists(_money, min_size=1, max_size=4)
_reference = st.lists(
    st.sampled_from((SPOT, RIVAL, INVERSE, FOREIGN))
    | st.builds(Account, name=st.sampled_from(tuple(a for a in ACCOUNTS if a)), label=st.sampled_from(("l", *ODD)))
    | st.builds(
        Mark, instrument=st.just("BTCUSDT"), price=_price, ts_us=st.integers(0, 3), source=st.sampled_from(("", "s"))
    )
    | st.builds(
        Note,
        break_id=st.sampled_from(("0" * 16, "f" * 16)),
        field=st.sampled_from(("owner", "comment")),
        text=st.sampled_from(("kim", "lee", "forged")),
    ),
    min_size=1,
    max_size=3,
)
_step = st.tuples(
    st.integers(0, 3),  # who writes
    _trades | _moves | _moves | _reference | st.just([]),
    st.lists(st.integers(0, 30), max_size=2),  # deps, by index into what was written
    st.sampled_from((None, None, None, SPOT, RIVAL, UNHEARD)),  # what BTCUSDT means to the writer
    st.integers(0, 11),  # 0: the lane forks here
)
opened: tuple[tuple[int, list[Fact]], ...] = (
    (0, [SPOT, INVERSE, Account(name="A", label="first")]),
    (0, [Deposit(id="open", account=name, asset=asset, amount=40) for name in ("A", "B") for asset in ("USDT", "BTC")]),
    (0, [Grant(id=f"to {to}", account="A", asset="USDT", amount=9, node=to) for to in ("n1", "n2")]),
    (1, []),
    (3, []),
)
"""How most stories begin: with definitions, deposits at the custodian, and grants that the other two claim."""
stories = st.tuples(
    st.booleans() | st.just(True),
    st.sampled_from((OPEN, OPEN, RULED, SETTLED_GRANTS)),
    st.lists(_step, min_size=1, max_size=14),
)


class Story(NamedTuple):
    """What was written, in an order that respects lanes and deps, and proof against lanes that fork."""

    genesis: Genesis
    batches: list[Batch]
    evidence: list[ForkEvidence]

    @property
    def lanes(self) -> dict[bytes, list[Batch]]:
        out: dict[bytes, list[Batch]] = {}
        for batch in self.batches:
            out.setdefault(batch.key, []).append(batch)
        return out


Step = tuple[int, list[Fact], list[int], Any, int]


def written(drawn: tuple[bool, Policies, Sequence[Step]]) -> Story:
    """The story that a draw of ``stories`` tells."""
    opens, policies, told = drawn
    opening: list[Step] = [(who, facts, [2] if not facts else [], None, 9) for who, facts in opened]
    steps = [*(opening if opens else []), *told]
    founded = genesis(3, policies)
    pens = [Pen(founded, 0), Pen(founded, 1), Pen(founded, 1, epoch=2), Pen(founded, 2)]
    batches: list[Batch] = []
    proofs: dict[bytes, ForkEvidence] = {}
    for who, facts, chosen, meant, fork in steps:
        pen = pens[who]
        deps: dict[bytes, Dep] = {}
        for index in chosen:
            if batches and batches[index % len(batches)].key != pen.lane.key:
                dep = dep_on(batches[index % len(batches)])
                deps[dep.lane] = max(dep, deps.get(dep.lane, dep), key=lambda one: one.seq)
        meanings = {"odd \u200bname": bytes(16), "XYZ": instrument_digest(FOREIGN)}
        if meant is not None:
            meanings["BTCUSDT"] = instrument_digest(meant)
        other = pen.copy()
        try:
            body = pen.draft(facts, meanings) if facts else None
        except CallerError:
            continue  # what no body can carry
        batch = pen.write(deps=list(deps.values())) if body is None else pen.seal(body, list(deps.values()))
        batches.append(batch)
        if fork == 0:
            proof = fork_evidence(batch, other.write(clock=1 << 30))
            proofs.setdefault(proof.lane, proof)
    return Story(founded, batches, list(proofs.values()))


def cut_at(story: Story, state: SettledState, wanted: Mapping[bytes, int], evidence: Sequence[ForkEvidence]) -> Height:
    """The greatest cut that goes no further than ``wanted``, is causally closed, and takes in what it can of ``evidence``."""
    proofs = {proof.lane: proof for proof in evidence if proof.lane not in _closed(state)}
    lanes = story.lanes
    while True:
        forks = _closed(state) | {lane: proof.seq for lane, proof in proofs.items()}
        ends: dict[bytes, int] = {}
        for lane, batches in lanes.items():
            settled = state.lanes[lane].seq if lane in state.lanes else 0
            last = settled if lane in _closed(state) else max(settled, min(wanted.get(lane, 0), len(batches)))
            ends[lane] = max(settled, proofs[lane].seq - 1) if lane in proofs else last
        moved = True
        while moved:
            moved = False
            for lane, batches in lanes.items():
                settled = state.lanes[lane].seq if lane in state.lanes else 0
                for batch in batches[settled : ends[lane]]:
                    if any(
                        dep.seq > ends[dep.lane] and not (dep.lane in forks and dep.seq >= forks[dep.lane])
                        for dep in batch.header.deps
                    ):
                        ends[lane], moved = batch.seq - 1, True
                        break
        kept = {
            lane: proof
            for lane, proof in proofs.items()
            if ends.get(lane, 0) == max(proof.seq - 1, state.lanes[lane].seq if lane in state.lanes else 0)
        }
        if kept == proofs:
            break
        proofs = kept
    heads = {lane: (end, lanes[lane][end - 1].hash if end else FIRST_PREV) for lane, end in ends.items()}
    heads |= {lane: (s.seq, s.hash) for lane, s in state.lanes.items() if lane in _closed(state) or lane not in heads}
    new = [
        batch
        for lane, batches in lanes.items()
        for batch in batches[(state.lanes[lane].seq if lane in state.lanes else 0) : ends[lane]]
    ]
    return Height(cut_of(heads), new, [proofs[lane] for lane in sorted(proofs)])


class Height(NamedTuple):
    """What one height settles."""

    cut: tuple[LaneCut, ...]
    batches: list[Batch]
    evidence: list[ForkEvidence]


def _closed(state: SettledState) -> dict[bytes, int]:
    return {lane: settled.closed for lane, settled in state.lanes.items() if settled.closed}


def wants(story: Story, seed: int, heights: int) -> Iterator[tuple[dict[bytes, int], list[ForkEvidence]]]:
    """How far each height would like to come, some of the evidence in each, and all of it at last."""
    luck = random.Random(seed)
    lanes = story.lanes
    for _ in range(heights - 1):
        wanted = {lane: luck.randint(0, len(batches)) for lane, batches in lanes.items()}
        yield wanted, [proof for proof in story.evidence if luck.random() < 0.4]
    yield {lane: len(batches) for lane, batches in lanes.items()}, story.evidence


def node_name(founded: Genesis, lane: bytes) -> str:
    return founded.by_id[parse_lane(lane).node].name
