"""What an image of a state is believed for: a change anywhere in it gives another root, or nothing that can be read. Nothing raises."""

from __future__ import annotations

import functools
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.edge import storefilling
from crdtledger.edge.checkpointmessages import PIECE_BYTES, PieceTell, RecordsTell, Standing, StateAsk, StateOffer
from crdtledger.edge.setup import no_archive
from crdtledger.edge.simulate.cluster import SALTS
from crdtledger.edge.stateimage import Image, image_of, open_image, open_state, piece_digest
from crdtledger.edge.storefilling import StoreFilling
from crdtledger.errors import InvalidProof
from crdtledger.ledger.facts import Account, Bust
from crdtledger.ledger.genesis import Authority, Genesis, Policies
from crdtledger.ledger.idwindow import BY_HAND
from crdtledger.ledger.settled import SettledState
from tests.crdtledger.worlds import Pen, genesis
from tests.edge.test_checkpointing import Ledger
from tests.reconcile.match_worlds import ASSETS, SPOT
from tests.reconcile.test_id_window import START, WINDOW, Writing
from tests.reconcile.test_id_window import told as told_of
from tests.reconcile.test_match_rules import Bench


@functools.cache
def certified() -> tuple[Genesis, Image]:
    """An image of a height that four validators certified."""
    ledger = settled_ledger(5, 60)
    desk = ledger.checkpoints("n0").desk
    settled = desk.book.get(desk.book.certified)
    assert settled is not None
    return ledger.genesis, image_of(settled, desk.book.certificate, desk.certifying.log)


@functools.cache
def traded() -> tuple[Genesis, SettledState]:
    """A state with orders, matches that wait, contracts that are carried, and reserves."""
    bench = Bench()
    bench.order(0, 1, "sell", 50, 100)
    bench.order(1, 2, "buy", 40, 100)
    bench.order(1, 3, "buy", 7, 101, "P")
    bench.order(2, 4, "sell", 9, 99, "P")
    bench.match(1, 5, 2, (0, 1), 10, 100)
    bench.match(2, 6, 4, (1, 3), 3, 100)
    bench.settle()
    return bench.genesis, bench.state


@functools.cache
def windowed() -> tuple[Genesis, SettledState]:
    """A state that remembers ids for a while: of some spans, with a floor, and some that are booked by hand."""
    told = Writing()
    for at in range(4):
        when = START + at * WINDOW // 2
        told.at(when, told_of(at, when), told_of(10 + at, when, Bust), told_of(20 + at, 0, id_space=BY_HAND))
    assert told.floor > START
    return told.genesis, told.state


def settled_ledger(seed: int, rounds: int) -> Ledger:
    """A ledger that settled and certified what was recorded in ``rounds``. All of them have one genesis."""
    ledger = Ledger(seed, interval_ms=100)
    ledger.open_books()
    ledger.work(rounds)
    ledger.settles()
    return ledger


def raw_of(image: Image) -> bytes:
    return b"".join(image.pieces)[32 * image.height :]


def opened(offer: StateOffer, body: bytes, founded: Genesis) -> Any:
    """What whoever takes ``body`` for an image, in pieces that are offered as they are, makes of it."""
    pieces = tuple(body[at : at + PIECE_BYTES] for at in range(0, len(body), PIECE_BYTES))
    told = msgspec.structs.replace(offer, pieces=tuple(map(piece_digest, pieces)))
    return open_image(told, pieces, founded, SALTS, 7)


def test_an_image_opens_to_the_state_that_it_is_of() -> None:
    founded, image = certified()
    state = opened(image.offer, b"".join(image.pieces), founded).state
    assert state.encode() == raw_of(image)
    assert state.used
    assert len(state.fills)


@given(data=st.data())
@settings(max_examples=300)
def test_a_changed_byte_anywhere_is_refused(data: st.DataObject) -> None:
    founded, image = certified()
    body = bytearray(b"".join(image.pieces))
    match data.draw(st.sampled_from(("flip", "cut", "add", "insert"))):
        case "flip":
            at = data.draw(st.integers(0, len(body) - 1))
            body[at] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del body[data.draw(st.integers(0, len(body) - 1)) :]
        case "add":
            body += data.draw(st.binary(min_size=1, max_size=40))
        case _:
            body.insert(data.draw(st.integers(0, len(body))), data.draw(st.integers(0, 255)))
            if bytes(body) == b"".join(image.pieces):
                return
    with pytest.raises(InvalidProof):
        opened(image.offer, bytes(body), founded)


@given(data=st.data())
@settings(max_examples=100)
def test_an_offer_with_a_changed_byte_is_refused(data: st.DataObject) -> None:
    founded, image = certified()
    field = data.draw(st.sampled_from(("value", "certificate", "path")))
    if field == "path":
        path = [bytearray(one) for one in image.offer.path]
        step = data.draw(st.sampled_from(path))
        step[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        changed: Any = tuple(map(bytes, path))
    else:
        said = bytearray(getattr(image.offer, field))
        said[data.draw(st.integers(0, len(said) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        changed = bytes(said)
    with pytest.raises(InvalidProof):
        opened(msgspec.structs.replace(image.offer, **{field: changed}), b"".join(image.pieces), founded)


def _changed(value: Any, draw: random.Random) -> Any:
    """``value`` with one change somewhere in it."""
    if isinstance(value, list):
        if value and draw.random() < 0.85:
            at = draw.randrange(len(value))
            return [*value[:at], _changed(value[at], draw), *value[at + 1 :]]
        at = draw.randrange(len(value) + 1)
        match draw.randrange(4):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return value[:at] + value[at - 1 : at] + value[at:]
            case 2:
                return value[::-1]
            case _:
                return [*value[:at], draw.choice((0, "", b"", [], None)), *value[at:]]
    if isinstance(value, bool) or value is None:
        return draw.choice((0, 1, None, True, False))
    if isinstance(value, int):
        return max(-(2**63), min(draw.choice((value + 1, value - 1, -value, 0, 2**63, -(2**63))), 2**64 - 1))
    if isinstance(value, str):
        return draw.choice(
            (value + "0", "-" + value, value[1:], value.swapcase(), "", "1" * 5_000, "\ud800"[:0] + "\x00", "٣")
        )
    if isinstance(value, bytes):
        at = draw.randrange(len(value) + 1)
        flipped = (
            value[:at] + bytes([value[at] ^ (1 << draw.randrange(8))]) + value[at + 1 :] if at < len(value) else b"\x00"
        )
        return draw.choice((flipped, value[:at], value + b"\x00", b"", value[16:] + value[:16]))
    if isinstance(value, dict):
        return {}
    return None


def _held_apart(raw: bytes, founded: Genesis, seed: int) -> bool:
    """Whether a changed spelling was read and found to be another state; it is never found to be this one."""
    changed = msgspec.msgpack.encode(_changed(msgspec.msgpack.decode(raw), random.Random(seed)))
    if changed == raw:
        return False
    state, commitments = open_state(raw, founded, SALTS, 0)
    try:
        other, others = open_state(changed, founded, SALTS, 0)
    except InvalidProof:
        return False
    assert (others.state_root, others.liabilities) != (commitments.state_root, commitments.liabilities), (
        "one root, two states"
    )
    assert other.encode() == changed
    return other.encode() != state.encode()


@given(seed=st.integers(0, 1 << 40), which=st.sampled_from((traded, windowed, certified)))
@settings(max_examples=900)
def test_no_other_state_has_the_same_root_and_none_that_cannot_be_read_raises(seed: int, which: Any) -> None:
    if which is not certified:
        founded, state = which()
        _held_apart(state.encode(), founded, seed)
    else:
        cluster, image = certified()
        _held_apart(raw_of(image), cluster, seed)


@pytest.mark.parametrize("which", [traded, windowed])
def test_changes_that_can_be_read_are_among_those_that_are_tried(which: Any) -> None:
    founded, state = which()
    raw = state.encode()
    assert sum(_held_apart(raw, founded, seed) for seed in range(600)) > 10


def test_a_member_none_of_whose_orders_were_allowed_used_no_id() -> None:
    """Or its honest state would not open: no cell stands for a member without an id."""
    bench = Bench.__new__(Bench)
    bench.genesis = genesis(3, Policies(beneficiary="F", authorities=(Authority("n2", ("B",)),)), ASSETS)
    bench.pens = [Pen(bench.genesis, node) for node in range(3)]
    bench.written, bench.state, bench.height = [], SettledState.empty(bench.genesis), 0
    bench.write(0, SPOT, *(Account(name=name) for name in "ABC"))
    bench.settle()
    bench.order(2, 1, "sell", 50, 100)
    bench.settle()
    assert bench.state.used.keys() <= {0}
    state, _ = open_state(bench.state.encode(), bench.genesis, SALTS, 0)
    assert state.encode() == bench.state.encode()


def test_a_certified_state_that_does_not_follow_what_is_settled_here_stops_the_node_and_is_not_written_down() -> None:
    """More than a third of the validators have two histories: nobody can say which is the right one."""
    ledger = settled_ledger(6, 10)
    founded, image = certified()
    assert founded == ledger.genesis
    assert image.height > ledger.height("n3")
    checkpoints, now_us = ledger.checkpoints("n3"), 10**13
    transfer = checkpoints.desk.jumping._transfer
    checkpoints.desk.following.stands("n0", Standing(image.height, image.height))
    assert transfer.ask(0, checkpoints.desk.following.standings, now_us) == [("n0", StateAsk(0))]
    written = checkpoints._journaling.needed
    checkpoints.desk.heard("n0", image.offer, False, now_us)
    for number, piece in enumerate(image.pieces):
        checkpoints.desk.heard("n0", PieceTell(image.height, number, piece), False, now_us)
    checkpoints.durable(now_us)
    assert "does not follow" in checkpoints.stopped
    assert checkpoints._journaling.needed == written
    assert checkpoints.height < image.height


@given(data=st.data())
@settings(max_examples=100)
def test_a_changed_byte_of_a_height_that_the_store_lacks_is_refused(data: st.DataObject) -> None:
    ledger, told, tells = filling()
    desk = ledger.checkpoints("n0").desk
    at = data.draw(st.integers(0, len(tells.records) - 1))
    record = [bytearray(part) for part in tells.records[at]]
    part = data.draw(st.sampled_from([one for one in record if one]))
    part[data.draw(st.integers(0, len(part) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    value, adjustments, certificate = map(bytes, record)
    records = (*tells.records[:at], (value, adjustments, certificate), *tells.records[at + 1 :])
    with pytest.raises(InvalidProof):
        told.told("n0", RecordsTell(1, records), desk.certifying, desk.book.certified, 0)
    assert told.next == 1, "nothing of it is taken"
    assert not told.told("n0", RecordsTell(2, tells.records), desk.certifying, desk.book.certified, 0)


@functools.cache
def filling() -> tuple[Ledger, StoreFilling, RecordsTell]:
    """A settled ledger, the filling of an empty store, and what another's has."""
    ledger = settled_ledger(7, 30)
    tell = ledger.checkpoints("n0").desk.filling.serve(1, 0, 0)
    assert len(tell.records) > 2
    return ledger, StoreFilling(no_archive, 0), tell


def test_what_the_store_lacks_is_taken_from_another_one() -> None:
    ledger, _, tell = filling()
    desk = ledger.checkpoints("n0").desk
    lacking = StoreFilling(no_archive, 0)
    out = lacking.told("n0", tell, desk.certifying, desk.book.certified, 0)
    assert [one.stored.digest for one in out] == [one.digest for one in ledger.stores["n0"][: len(out)]]
    assert lacking.next == len(tell.records) + 1


@functools.cache
def long_heights() -> tuple[Ledger, int, list[tuple[bytes, bytes, bytes]]]:
    """A settled ledger, and what a store has of its heights, some of which adjust more than the others."""
    ledger, _, tell = filling()
    most = max(len(adjustments) for _, adjustments, _ in tell.records)
    assert most > 30
    return ledger, most, list(tell.records)


def asked(lacking: StoreFilling, certified: int, now_us: int) -> str:
    return lacking.ask(certified, {peer: Standing(certified, certified) for peer in ("n1", "n2", "n3")}, now_us)


@given(limit=st.integers(1, 150), seed=st.integers(0, 1 << 40))
@settings(max_examples=100)
def test_adjustments_that_are_too_long_for_one_answer_come_in_parts(limit: int, seed: int) -> None:
    draw = random.Random(seed)
    ledger, _, records = long_heights()
    desk = ledger.checkpoints("n0").desk
    lacking = StoreFilling(no_archive, 0)
    taken, now, parts = [], 0, 0
    peer, goes_on = "", False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storefilling, "MAX_ADJUSTMENTS_BYTES", limit)
        while len(taken) < len(records):
            before, now = peer, now + (0 if goes_on else storefilling.PATIENCE_US)
            peer = asked(lacking, len(records), now)
            assert not goes_on or peer == before, "the next part comes from the same one"
            assert goes_on or not lacking.held, "nobody answers for another's parts"
            goes_on = False
            if not draw.randrange(10 + 1_000 // limit):
                continue  # the answer is lost: the next peer is asked, from the first byte on
            tell = desk.filling.serve(lacking.next, lacking.held, now)
            if tell.whole and not draw.randrange(10):
                assert not lacking.told("n9", tell, desk.certifying, len(records), now), "nobody asked it"
            out = lacking.told(peer, tell, desk.certifying, len(records), now)
            goes_on = bool(tell.whole) and not out
            parts += bool(tell.whole)
            assert bool(out) == (not tell.whole or tell.held + len(tell.records[0][1]) == tell.whole)
            assert not lacking.told(peer, tell, desk.certifying, len(records), now), "what comes twice counts once"
            taken += out
    told = [(one.stored.body, one.stored.adjustments, one.stored.certificate) for one in taken]
    assert told == records
    assert parts >= sum(-(-len(one) // limit) for _, one, _ in records if len(one) > limit)


@given(data=st.data())
@settings(max_examples=100)
def test_a_changed_byte_of_a_part_is_refused_and_another_peer_is_asked_for_all_of_it(data: st.DataObject) -> None:
    ledger, most, records = long_heights()
    desk = ledger.checkpoints("n0").desk
    at = next(at for at, (_, adjustments, _) in enumerate(records) if len(adjustments) == most)
    lacking = StoreFilling(no_archive, 0)
    lacking.next = at + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storefilling, "MAX_ADJUSTMENTS_BYTES", data.draw(st.integers(1, most - 1)))
        honest = asked(lacking, len(records), storefilling.PATIENCE_US)
        wrong = data.draw(st.integers(0, most - 1))
        for held in range(0, most, storefilling.MAX_ADJUSTMENTS_BYTES):
            tell = desk.filling.serve(lacking.next, held, 0)
            ((value, part, certificate),) = tell.records
            if 0 <= wrong - held < len(part):
                told = bytearray(part)
                told[wrong - held] ^= 1 << data.draw(st.integers(0, 7))
                tell = msgspec.structs.replace(tell, records=((value, bytes(told), certificate),))
            if held + len(part) < most:
                assert not lacking.told(honest, tell, desk.certifying, len(records), 0)
                assert asked(lacking, len(records), storefilling.PATIENCE_US) == honest
        with pytest.raises(InvalidProof):
            lacking.told(honest, tell, desk.certifying, len(records), 0)
    assert (lacking.next, lacking.held) == (at + 1, 0), "nothing of it is kept"
    assert asked(lacking, len(records), 2 * storefilling.PATIENCE_US) != honest


def test_what_is_no_part_is_refused() -> None:
    ledger, most, records = long_heights()
    desk = ledger.checkpoints("n0").desk
    lacking = StoreFilling(no_archive, 0)
    peer = asked(lacking, len(records), storefilling.PATIENCE_US)
    value, adjustments, certificate = records[0]
    for parts in ([(value, b"", certificate)], [(value, bytes(most), certificate)], [(value, b"1", certificate)] * 2):
        with pytest.raises(InvalidProof):
            lacking.told(peer, RecordsTell(1, tuple(parts), 0, 9), desk.certifying, len(records), 0)
        assert lacking.held == 0
    assert not desk.filling.serve(1, len(adjustments) + 1, 0).records, "nobody has so much of it"


def test_a_part_of_a_height_that_was_settled_meanwhile_is_let_go() -> None:
    ledger, most, records = long_heights()
    desk = ledger.checkpoints("n0").desk
    at = next(at for at, (_, adjustments, _) in enumerate(records) if len(adjustments) == most)
    lacking = StoreFilling(no_archive, 0)
    lacking.next = at + 1
    peer = asked(lacking, len(records), storefilling.PATIENCE_US)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storefilling, "MAX_ADJUSTMENTS_BYTES", most - 1)
        assert not lacking.told(peer, desk.filling.serve(at + 1, 0, 0), desk.certifying, len(records), 0)
    assert lacking.held == most - 1
    other = StoreFilling(no_archive, 0)
    other.next = at + 1
    whole = other.told(peer, RecordsTell(at + 1, (records[at],)), desk.certifying, len(records), 0)
    assert lacking.hand_on(whole)
    assert (lacking.next, lacking.held) == (at + 2, 0)
