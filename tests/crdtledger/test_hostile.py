"""No bytes, signed by whomever, raise out of a replica, stall it, or leave it with figures that cannot be read."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.errors import InvalidBatch
from crdtledger.ledger import body as columns
from crdtledger.ledger.batch import MAX_DEPS, MAX_HEADER_BYTES, MAX_SEQ, Dep, open_batch
from crdtledger.ledger.body import MAX_BODY_BYTES, MAX_FACTS, AccountEntry, Cursor, WireBody
from crdtledger.ledger.clock import MAX_TIMESTAMP
from crdtledger.ledger.facts import (
    MAX_AMOUNT,
    TABLES,
    Accept,
    Account,
    Bust,
    Cancel,
    Deposit,
    Fact,
    Fill,
    Grant,
    Instrument,
    Kind,
    Mark,
    Match,
    Note,
    Order,
    Post,
    Reserve,
    Reveal,
    Share,
    Transfer,
    Void,
    Withdrawal,
)
from crdtledger.ledger.identity import digest
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.replica import Applied, Outcome, Rejected, Replica
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, dep_on, genesis, header_for, lane_of, seal_raw, sign_raw

FOUNDED = genesis(3)
ODD = msgspec.structs.replace(INVERSE, name="ODD", qty_decimals=18, contract_decimals=18, price_decimals=0)
TRADES: list[Fact] = [
    Account(name="A", label="first"),
    SPOT,
    INVERSE,
    ODD,
    *(
        kind(
            venue="v",
            trade_id=trade,
            instrument=name,
            account="A",
            side="buy" if asset is None else "sell",
            qty=3,
            price=7,
            fee=-1,
            fee_asset=asset,
            leg="l",
        )
        for kind in (Fill, Bust)
        for trade in (1, "x", (1 << 64) - 1)
        for name, asset in ((SPOT.name, None), ("ODD", "BTC"), (INVERSE.name, "no such"))
    ),
    Mark(instrument=SPOT.name, price=-5, ts_us=3, source="s", sequence=9),
    Note(break_id="0" * 16, field="owner", text="kim"),
    Note(break_id="0" * 16, field="comment", text="forged"),
]
MOVES: list[Fact] = [
    Deposit(id=1, account="A", asset="USDT", amount=1000),
    Deposit(id="x", account="B", asset="BTC", amount=MAX_AMOUNT),
    Deposit(id=2, account="B", asset="no such", amount=1),
    Grant(id=1, account="A", asset="USDT", amount=10, node="n1"),
    Reserve(id="r", account="A", asset="USDT", amount=100, expires_us=5),
    Post(id=1, reserve="r", amount=10, credit="B"),
    Transfer(id=1, account="A", asset="USDT", amount=10, credit="C"),
    Withdrawal(id=1, account="A", asset="USDT", amount=10),
]
ABOUT: list[Fact] = [
    Order(id=1, account="A", instrument=SPOT.name, side="buy", qty=5, price=7, reserve="r", amends="x"),
    Order(id="x", account="B", instrument="ODD", side="sell", qty=MAX_AMOUNT, price=1, reserve=2, hidden="0a" * 32),
    Order(id=3, account="B", instrument="ODD", side="sell", qty=9, price=7, reserve=2, tif="gtt", expires_us=5),
    Cancel(id="c", order="x"),
    Match(id=1, taker=1, maker_home="n0", maker=3, qty=2, price=7),
    Match(id="m", taker="x", maker_home="n2", maker="y", qty=2, price=7, survival=5),
    Accept(id=1, match_home="n1", match="m", qty=0, reason="gone"),
    Share(id=1, home="n0", order=3, node="n1", qty=4),
    Reveal(id=1, order="x", side="buy", qty=3, price=7, nonce="0b" * 32),
]
LATER: list[Fact] = [Void(id=1, reserve="r"), Withdrawal(id="again", account="B", asset="BTC", amount=MAX_AMOUNT)]


def pen_with(facts: list[Fact] | None) -> tuple[Pen, WireBody, Replica]:
    """A pen about to write ``facts`` (by default the ones that follow ``MOVES``), and a replica that holds what comes before."""
    pen, replica = Pen(FOUNDED, 0), Replica(FOUNDED, documents=False)
    odd = {"ODD": instrument_digest(ODD)}
    if facts is None:
        replica.admit(pen.seal(pen.draft(MOVES, odd)).raw)
        facts = LATER
    return pen, pen.draft(facts, odd), replica


def still_stands(replica: Replica, outcome: Outcome) -> None:
    replica.check_invariants()
    replica.view.canonical()
    replica.breaks()
    if isinstance(outcome, Rejected):
        assert replica.digest()
        assert outcome.reason


WIRES = [TRADES, MOVES, None, ABOUT]


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    replica = Replica(FOUNDED, documents=False)
    assert isinstance(replica.admit(raw), Rejected)
    assert isinstance(replica.admit_evidence(raw), Rejected)
    assert isinstance(replica.admit(seal_raw(Pen(FOUNDED, 0), raw)), Rejected)


@settings(max_examples=60)
@given(st.sampled_from(WIRES), st.data())
def test_a_flipped_byte_anywhere_is_refused(facts: list[Fact] | None, data: st.DataObject) -> None:
    pen, wire, replica = pen_with(facts)
    raw = bytearray(pen.seal(wire).raw)
    before = replica.digest()
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    outcome = replica.admit(bytes(raw))
    if bytes(raw) != pen.seal(wire).raw and isinstance(outcome, Applied):  # flipped back
        assert outcome.batches[0].raw == bytes(raw)
    else:
        assert replica.digest() == before or isinstance(outcome, Applied)
    still_stands(replica, outcome)


@settings(max_examples=100)
@given(st.sampled_from(WIRES), st.data())
def test_a_member_s_mutated_body_is_refused_or_folds(facts: list[Fact] | None, data: st.DataObject) -> None:
    """The bytes of a body changed, its hash and signature made to fit."""
    pen, wire, replica = pen_with(facts)
    raw = bytearray(columns.encode(wire))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(raw) - 1))
        word = data.draw(st.sampled_from(["byte", "cut", "insert", "extreme"]))
        if word == "byte":
            raw[at] = data.draw(st.integers(0, 255))
        elif word == "cut":
            del raw[at : at + data.draw(st.integers(1, 9))]
        elif word == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            raw[at : at + 8] = data.draw(
                st.sampled_from([b"\xff" * 8, bytes(8), b"\x00" * 7 + b"\x40", b"\xff" * 7 + b"\x7f"])
            )
        if not raw:
            return
    still_stands(replica, replica.admit(seal_raw(pen, bytes(raw))))


numbers = st.one_of(
    st.integers(0, 12),
    st.sampled_from([-1, 0xFFFF, 0xFFFE, 1 << 31, MAX_AMOUNT, MAX_AMOUNT + 1, (1 << 63) - 1, -(1 << 63)]),
)
texts = st.one_of(
    st.sampled_from(["", "A", "B", "x", "7", "07", "USDT", "BTC", SPOT.name, "ODD", "\x00", "é" * 129, "n" * 128]),
    st.text(max_size=5),
)


@st.composite
def wires(draw: st.DrawFn) -> WireBody:
    """A body whose parts are right or wrong one by one: the shape always decodes, the sense need not."""
    base = Pen(FOUNDED, 0).draft(draw(st.sampled_from([TRADES, MOVES, LATER, ABOUT])), {"ODD": instrument_digest(ODD)})
    tables = []
    for kind, packed in base.tables:
        table = np.frombuffer(packed, TABLES[Kind(kind)]).copy()
        for _ in range(draw(st.integers(0, 3))):
            column = draw(st.sampled_from(table.dtype.names or ()))
            info = np.iinfo(table.dtype[column])
            row = draw(st.integers(0, len(table) - 1))
            table[column][row] = min(max(draw(numbers), info.min), info.max)
        if draw(st.integers(0, 5)) == 0:
            table = np.concatenate([table] * draw(st.integers(1, 4)))
        tables.append(
            (
                draw(st.sampled_from([kind] * 12 + [0, 1, 2, 3, 10, 22, 30, 33, 40, 255, -3])),
                memoryview(table.tobytes()),
            )
        )
    change: dict[str, Any] = {"tables": tables}
    if draw(st.booleans()):
        spot = draw(st.sampled_from([SPOT, ODD, INVERSE]))
        fields = draw(
            st.dictionaries(
                st.sampled_from(
                    ["price_decimals", "qty_decimals", "contract_size", "strike", "expiry_us", "contract_decimals"]
                ),
                numbers,
                max_size=2,
            )
        )
        change["definitions"] = [msgspec.structs.replace(spot, name=draw(texts), **fields)] * draw(st.integers(1, 2))
    if draw(st.booleans()):
        change["strings"] = [*draw(st.lists(texts, max_size=2)), *base.strings, *draw(st.lists(texts, max_size=2))]
    if draw(st.booleans()):
        change["scopes"] = [(*s[:3], draw(st.integers(0, 3))) for s in base.scopes] + draw(
            st.lists(st.tuples(*[st.integers(-1, 9)] * 4), max_size=2)
        )
    if draw(st.booleans()):
        digests = st.one_of(st.just(instrument_digest(ODD)), st.binary(min_size=15, max_size=17))
        change["instruments"] = [*base.instruments, *draw(st.lists(st.tuples(st.integers(-1, 9), digests), max_size=2))]
    if draw(st.booleans()):
        change["accounts"] = draw(st.lists(st.builds(AccountEntry, texts, texts), max_size=2))
        change["cursors"] = draw(st.lists(st.builds(Cursor, texts, numbers, numbers), max_size=2))
    return msgspec.structs.replace(base, **change)


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 1), wires()), min_size=1, max_size=3))
def test_a_member_s_body_of_any_sense_is_refused_or_folds_alike_everywhere(told: list[tuple[int, WireBody]]) -> None:
    pens = [Pen(FOUNDED, 0), Pen(FOUNDED, 1)]
    one, two = Replica(FOUNDED, documents=False), Replica(FOUNDED, salt=3, documents=False)
    lots: list[list[bytes]] = [[], []]
    for node, wire in told:
        raw = seal_raw(pens[node], columns.encode(wire))
        outcome = one.admit(raw)
        still_stands(one, outcome)
        if isinstance(outcome, Applied):
            pens[node].seq, pens[node].head = outcome.batches[0].seq, outcome.batches[0].hash
            lots[node].append(raw)
    for raw in lots[1] + lots[0]:
        assert isinstance(two.admit(raw), Applied)
    assert two.view.canonical() == one.view.canonical()
    assert one.digest() == two.digest()


def refusal(raw: bytes) -> str:
    outcome = Replica(FOUNDED).admit(raw)
    assert isinstance(outcome, Rejected)
    return outcome.reason


BODY = columns.encode(Pen(FOUNDED, 0).draft([Account(name="A")]))
OTHER = lane_of(FOUNDED, 1).key
DEP = Dep(OTHER, 1, bytes(32))
STRANGER = b"strange!" + OTHER[8:]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"version": 2}, "header.version: 2, this program reads 1"),
        ({"cluster": bytes(32)}, "header.cluster: another cluster's"),
        ({"lane": OTHER[:-1]}, "lane: 21 bytes, not 22"),
        ({"lane": STRANGER}, "header.lane: no member has the id"),
        ({"lane": OTHER[:8] + bytes(4) + OTHER[12:]}, "header.lane: epochs count from 1"),
        ({"lane": OTHER[:-1] + b"\x01"}, "header.lane: shard 1 of 1"),
        ({"lane": OTHER}, "batch.signature: not n1's"),
        ({"seq": 0}, "header.seq: counts from 1"),
        ({"seq": MAX_SEQ + 1}, "header.seq: counts from 1"),
        ({"seq": 2}, "header.prev: zero for the first batch and only there"),
        ({"prev": b"\x01" * 32}, "header.prev: zero for the first batch and only there"),
        ({"prev": b""}, "header.prev: 32 bytes"),
        ({"clock": 0}, "header.clock: out of range"),
        ({"clock": MAX_TIMESTAMP + 1}, "header.clock: out of range"),
        ({"base": (-1, bytes(32))}, "header.base: a height and 32 bytes"),
        ({"base": (0, b"")}, "header.base: a height and 32 bytes"),
        ({"base": (0, bytes(32))}, "header.base: the checkpoint of height 0 is"),
        ({"deps": (DEP, DEP)}, "header.deps: sorted by lane, none twice"),
        ({"deps": (Dep(OTHER[:3], 1, bytes(32)),)}, "lane: 3 bytes, not 22"),
        ({"deps": (Dep(STRANGER, 1, bytes(32)),)}, "header.deps: another member's lane or epoch"),
        ({"deps": (Dep(lane_of(FOUNDED, 0).key, 1, bytes(32)),)}, "header.deps: another member's lane or epoch"),
        ({"deps": (Dep(OTHER, 0, bytes(32)),)}, "header.deps: a seq from 1 and 32 bytes"),
        ({"deps": (Dep(OTHER, 1, b""),)}, "header.deps: a seq from 1 and 32 bytes"),
        (
            {"deps": tuple(Dep(lane_of(FOUNDED, 1, 1, n).key, 1, bytes(32)) for n in range(MAX_DEPS + 1))},
            f"header.deps: at most {MAX_DEPS}",
        ),
        ({"counts": ((2, 0),)}, "header.counts: positive"),
        ({"counts": ((2, 2),)}, "header.counts: states ((2, 2),), the body holds ((2, 1),)"),
        ({"body_bytes": 1}, "batch.body: length or hash differs"),
        ({"body_hash": bytes(32)}, "batch.body: length or hash differs"),
        ({"seq": "1"}, "header: not a header"),
        ({"clock": 1.5}, "header: not a header"),
        ({"prev": None}, "header: not a header"),
        ({"counts": ((2, 1, 1),)}, "header: not a header"),
    ],
)
def test_each_header_field_has_its_rule(fields: dict[str, Any], says: str) -> None:
    assert refusal(seal_raw(Pen(FOUNDED, 0), BODY, **fields)).startswith(says)


def test_one_statement_has_one_encoding() -> None:
    pen = Pen(FOUNDED, 0)
    header = msgspec.msgpack.encode(header_for(pen, BODY, counts=((2, 1),)))
    assert isinstance(Replica(FOUNDED).admit(sign_raw(pen, header, BODY)), Applied)
    fields = msgspec.msgpack.decode(header)
    wide = b"\xdc\x00\x0b" + header[1:]  # the same array, its length in two more bytes
    floated = header[:1] + b"\xcb" + np.array(1.0, ">f8").tobytes() + header[2:]  # version 1.0
    longer = msgspec.msgpack.encode([*fields, None])
    for other in (wide, floated, longer, header + b"\x00", header[:-1]):
        assert refusal(sign_raw(pen, other, BODY)).startswith("header")
    sealed = sign_raw(pen, header, BODY)
    parts = msgspec.msgpack.decode(sealed)
    bare = len(msgspec.msgpack.encode(parts[0]))
    for other in (
        b"\xdc\x00\x03" + sealed[1:],
        sealed + b"\x00",
        sealed[:1] + b"\xc6" + len(parts[0]).to_bytes(4, "big") + parts[0] + sealed[1 + bare :],
        msgspec.msgpack.encode([*parts, 0]),
    ):
        assert refusal(other).startswith("batch")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"\xdd\xff\xff\xff\xff", "not a body"),
        (b"\x97" + b"\xdd\xff\xff\xff\xff" * 7, "not a body"),
        (b"\x91" * 100_000, "not a body"),
        (b"\x81\xa1x" * 60_000, "not a body"),
        (b"\x97\xc4\x00" + b"\x90" * 6, "not a body"),
        (b"\x97\x91\xa3\xed\xa0\x80" + b"\x90" * 6, "body"),  # a surrogate, in what is no UTF-8
        (b"\x97\x91\xa1\xff" + b"\x90" * 6, "body"),
        (bytes(MAX_BODY_BYTES + 1), "body: 262145 bytes"),
        (b"", "not a body"),
    ],
)
def test_bytes_that_promise_too_much_are_refused_at_once(raw: bytes, says: str) -> None:
    with pytest.raises(InvalidBatch, match=says):
        columns.decode(raw)
    refusal(seal_raw(Pen(FOUNDED, 0), raw))


def test_a_batch_that_says_nothing_is_refused() -> None:
    assert "says nothing" in refusal(seal_raw(Pen(FOUNDED, 0), b"\x97" + b"\x90" * 7))


def test_a_header_may_not_be_huge_nor_a_batch() -> None:
    pen = Pen(FOUNDED, 0)
    assert "at most" in refusal(sign_raw(pen, bytes(MAX_HEADER_BYTES + 1), BODY))
    assert "at most" in refusal(bytes(1 << 20))
    counts = tuple((2, 1) for _ in range(4000))
    assert "at most" in refusal(seal_raw(pen, BODY, counts=counts))


def wire(facts: list[Fact], **fields: Any) -> WireBody:
    return msgspec.structs.replace(Pen(FOUNDED, 0).draft(facts), **fields)


FILL = Fill(venue="v", trade_id="t", instrument=SPOT.name, account="A", side="buy", qty=1, price=1)
PAY = Withdrawal(id=5, account="A", asset="USDT", amount=1)


def with_cell(facts: list[Fact], column: str, number: int) -> WireBody:
    """The body of ``facts`` with one number of its only table put wrong."""
    base = wire(facts)
    kind, packed = base.tables[0]
    table = np.frombuffer(packed, TABLES[Kind(kind)]).copy()
    table[column][0] = number
    return msgspec.structs.replace(base, tables=[(kind, memoryview(table.tobytes()))])


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (with_cell([FILL], "account", 99), "fill[0].account: 99: points at no string"),
        (with_cell([FILL], "fee_asset", 0xFFFE), "fill[0].fee_asset: 65534: points at no string"),
        (with_cell([FILL], "scope", 1), "fill[0].scope: 1: points at no scope"),
        (with_cell([FILL], "id", 99), "fill[0].id: 99: points at no string"),
        (with_cell([FILL], "qty", 0), "fill[0].qty: 0: not within 1"),
        (with_cell([FILL], "qty", MAX_AMOUNT + 1), "fill[0].qty"),
        (with_cell([FILL], "price", MAX_AMOUNT + 1), "fill[0].price"),
        (with_cell([FILL], "price", -(1 << 63)), "fill[0].price"),
        (with_cell([FILL], "fee", -MAX_AMOUNT - 1), "fill[0].fee"),
        (with_cell([FILL], "ts_us", -1), "fill[0].ts_us"),
        (with_cell([FILL], "side", 0), "fill[0].side: 0: +1 or -1"),
        (with_cell([FILL], "side", -128), "fill[0].side"),
        (with_cell([FILL], "flags", 2), "fill[0].flags: 2: unknown flag"),
        (with_cell([PAY], "flags", 4), "withdrawal[0].flags"),
        (with_cell([PAY], "amount", 0), "withdrawal[0].amount"),
        (with_cell([PAY], "asset", 2), "withdrawal[0].asset: 2: points at no string"),
        (with_cell([Post(id=1, reserve=1, amount=1, credit="A")], "credit", 1), "post[0].credit"),
        (with_cell([Post(id=1, reserve="r", amount=1, credit="A")], "reserve", 9), "post[0].reserve"),
        (with_cell([Reserve(id=1, account="A", asset="USDT", amount=1)], "expires_us", -1), "reserve[0].expires_us"),
        (with_cell([Mark(instrument=SPOT.name, price=1, ts_us=1, source="s")], "instrument", 1), "mark[0].instrument"),
        (
            wire([FILL], strings=["7", "v", "trade", "", SPOT.name, "A"]),
            "'7' must be written as a number",
        ),
        (wire([PAY], strings=["A", "A"]), "body.strings: too many, or one twice"),
        (wire([PAY], strings=["A", "x" * 129]), "body.strings[1]: at most 128 printable"),
        (wire([PAY], strings=["A", "a\nb"]), "body.strings[1]"),
        (wire([PAY], strings=["A", *map(str, range(65_600))]), "body"),
        (wire([FILL], strings=["", "v", "trade", "x", SPOT.name, "A"]), "'' must be written as a number, or is empty"),
        (wire([FILL], scopes=[(0, 1, 2, 1)]), "body.scopes[0]: an index points nowhere"),
        (wire([FILL], scopes=[(0, 1, 2, 0)] * 2), "body.scopes: one stands twice"),
        (wire([FILL], instruments=[(0, b"short")]), "body.instruments[0]"),
        (wire([FILL], instruments=[(99, bytes(16))]), "body.instruments[0]"),
        (wire([FILL], instruments=[(0, bytes(16))] * 2), "body.instruments[1]"),
        (wire([PAY], tables=[(99, memoryview(b"x"))]), "body.tables: unknown kind 99"),
        (wire([PAY], tables=[(1, memoryview(b"x"))]), "body.tables: INSTRUMENT has no table"),
        (wire([PAY], tables=[(26, memoryview(b"x"))]), "withdrawal: 1 bytes are not whole rows of"),
        (wire([PAY], tables=[(26, memoryview(b""))]), "withdrawal: 0 bytes"),
        (wire([PAY], tables=wire([PAY]).tables * 2), "body.tables: WITHDRAWAL is out of order or twice"),
        (wire([PAY], tables=[*wire([PAY]).tables, *wire([FILL]).tables]), "out of order"),
        (wire([PAY], accounts=[AccountEntry("A", "")]), "share no batch"),
        (
            wire([FILL], tables=[(10, memoryview(bytes(TABLES[Kind.FILL].itemsize * (MAX_FACTS + 1))))]),
            "facts, at most",
        ),
        (wire([Account(name="A")], accounts=[AccountEntry("", "")]), "account[0]"),
        (wire([Account(name="A")], accounts=[AccountEntry("A", "\x00")]), "account[0]"),
        (wire([SPOT], definitions=[msgspec.structs.replace(SPOT, qty_decimals=19)]), "instrument[0]: qty_decimals"),
        (wire([Account(name="A")], cursors=[Cursor("s", -1, 0)]), "cursors[0]"),
        (wire([Account(name="A")], cursors=[Cursor("s" * 129, 1, 0)]), "cursors[0]"),
    ],
)
def test_each_rule_of_form_refuses_and_says_what_and_where(made: WireBody, says: str) -> None:
    body = columns.encode(made)
    with pytest.raises(InvalidBatch) as caught:
        columns.decode(body)
    assert says in str(caught.value)
    refusal(seal_raw(Pen(FOUNDED, 0), body))


def test_a_decoded_body_is_read_only_and_copies_nothing() -> None:
    batch = Pen(FOUNDED, 0).write(FILL)
    table = batch.body.tables[Kind.FILL]
    assert not table.flags.writeable
    assert np.shares_memory(np.frombuffer(batch.raw, np.uint8), table.view(np.uint8))
    again = open_batch(bytearray(batch.raw), FOUNDED)  # type: ignore[arg-type]
    assert not again.body.tables[Kind.FILL].flags.writeable


def test_a_body_full_of_one_id_folds_quickly() -> None:
    rows = np.zeros(MAX_FACTS, TABLES[Kind.FILL])
    rows["qty"] = np.arange(1, MAX_FACTS + 1)
    rows["side"] = 1
    rows["fee_asset"] = 0xFFFF
    made = wire([SPOT, FILL], tables=[(10, memoryview(rows.tobytes()))])
    made = msgspec.structs.replace(made, definitions=[])
    replica = Replica(FOUNDED)
    pen = Pen(FOUNDED, 0)
    assert isinstance(replica.admit(pen.write(SPOT).raw), Applied)
    assert isinstance(replica.admit(pen.seal(made).raw), Applied)
    assert [row.bought for row in replica.view.position_rows()] == [1], "the first row counts"
    replica.check_invariants()


def test_a_dep_chain_between_two_lanes_unwinds_whatever_arrives_last() -> None:
    one, two = Pen(FOUNDED, 0), Pen(FOUNDED, 1)
    chain = [one.write(Account(name="A"))]
    for number in range(40):
        chain.append((two, one)[number % 2].write(deps=[dep_on(chain[-1])]))
    replica = Replica(FOUNDED)
    for batch in reversed(chain):
        replica.admit(batch.raw)
    assert replica.waiting() == 0
    assert len(list(replica.batches())) == len(chain)


def test_what_is_signed_for_one_purpose_is_no_batch() -> None:
    pen = Pen(FOUNDED, 0)
    header = msgspec.msgpack.encode(header_for(pen, BODY, counts=((2, 1),)))
    other = pen.identity.sign(digest("something-else", digest("batch", header)))
    assert refusal(msgspec.msgpack.encode([header, other, BODY])) == "batch.signature: not n0's"


def test_a_definition_that_is_not_one_is_refused_in_a_body() -> None:
    raw = msgspec.msgpack.decode(columns.encode(wire([SPOT])))
    for change in ({"type": "swap"}, {"kind": "fill"}, {"extra": 1}, {"qty_decimals": "8"}, {"qty_decimals": None}):
        made = list(raw)
        made[4] = [{**raw[4][0], **change}]
        with pytest.raises(InvalidBatch, match="not a body"):
            columns.decode(msgspec.msgpack.encode(made))
    assert isinstance(msgspec.msgpack.decode(msgspec.msgpack.encode(SPOT), type=Instrument), Instrument)


def test_what_names_assets_that_nobody_knows_is_void_and_named() -> None:
    pen, replica = Pen(FOUNDED, 0), Replica(FOUNDED)
    lost = msgspec.structs.replace(INVERSE, name="LOST", settlement="EUR")
    names = {"LOST": instrument_digest(lost)}
    for facts in (
        [lost, SPOT],
        [msgspec.structs.replace(FILL, instrument="LOST"), msgspec.structs.replace(FILL, fee=1, fee_asset="EUR")],
        [Deposit(id=1, account="A", asset="EUR", amount=5), Deposit(id=1, account="A", asset="USDT", amount=5)],
        [Withdrawal(id=1, account="A", asset="EUR", amount=5)],
    ):
        assert isinstance(replica.admit(pen.seal(pen.draft(facts, names)).raw), Applied)
    replica.check_invariants()
    assert replica.view.position_rows() == []
    assert [(row.account, row.asset, row.held) for row in replica.view.collateral_rows()] == [("A", "USDT", 5)]
    told = [(one.type, one.detail) for one in replica.breaks()]
    assert ("void_fact", "1 x deposit: no such asset") in told
    assert ("void_fact", "1 x withdrawal: no such asset") in told
    assert ("void_fact", "1 x fill: its value or its fee's asset cannot be carried") in told
    assert [kind for kind, _ in told].count("suspended") == 1


@pytest.mark.parametrize("fills", [1, 6, 700, 2_000])
def test_an_envelope_opens_in_one_of_its_encodings_alone(fills: int) -> None:
    pen = Pen(FOUNDED, 1)
    facts = [
        Fill(venue="v", trade_id=number, instrument=SPOT.name, account="A", side="buy", qty=1, price=1)
        for number in range(fills)
    ]
    raw = pen.write(*facts).raw
    parts = msgspec.msgpack.decode(raw)

    def binary(part: bytes) -> list[bytes]:
        widths = [width for width in (1, 2, 4) if len(part) < 1 << 8 * width]
        return [
            {1: b"\xc4", 2: b"\xc5", 4: b"\xc6"}[width] + len(part).to_bytes(width, "big") + part for width in widths
        ]

    forms = [
        b"".join(form)
        for form in itertools.product([b"\x93", b"\xdc\x00\x03", b"\xdd\x00\x00\x00\x03"], *map(binary, parts))
    ]
    assert all(msgspec.msgpack.decode(form) == parts for form in forms)
    assert open_batch(raw, FOUNDED).raw == raw
    for form in [raw + b"\x00", raw[:-1], *forms]:
        if form != raw:
            with pytest.raises(InvalidBatch, match=r"^batch: "):
                open_batch(form, FOUNDED)
