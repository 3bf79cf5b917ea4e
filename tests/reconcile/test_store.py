"""Kept checkpoints: a store holds one history, and no byte of it can change without somebody with the genesis noticing."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.batch import FIRST_PREV, Lane, fork_evidence, seal
from crdtledger.ledger.body import Cursor, WireBody
from crdtledger.ledger.genesis import Asset, Genesis
from reconcile.adjustments import Adjustment, adjustments_root, encode_adjustments
from reconcile.checkpoint import LaneCut
from reconcile.founding import log_origin, policy_of, policy_text
from reconcile.history import CertifiedCheckpoint, History
from reconcile.notes import parse_note
from reconcile.policy import parse_policy
from reconcile.stores import StoreConflict, StoredCheckpoint, StoreUnusable
from reconcile.stores.sqlite import SqliteStore

from .chains import GENESIS, MEMBERS, VOIDED, Chain, batch_name, changed, cut_at, lane
from .signers import NODES, identity

WHOLE = Chain().grow(3)


def judge(stored: Sequence[StoredCheckpoint], genesis: Genesis = GENESIS) -> list[CertifiedCheckpoint]:
    history = History(genesis)
    return [history.extend(one) for one in stored]


def filled(path: Path, chain: Chain = WHOLE) -> Path:
    with SqliteStore.create(path) as store:
        assert all(store.append(one) for one in chain.stored)
    return path


# -- names --------------------------------------------------------------------------------------------------


def test_the_log_is_named_after_the_cluster_and_its_genesis() -> None:
    assert log_origin(GENESIS) == f"crdtledger/desk-{GENESIS.hash.hex()[:16]}"
    twin = Genesis("desk", "1" * 32, MEMBERS, (Asset("USDT", 8),))
    assert log_origin(twin) != log_origin(GENESIS)


def test_the_policy_is_read_by_others_as_it_was_meant() -> None:
    policy = parse_policy(policy_text(GENESIS).encode())
    assert policy == policy_of(GENESIS)
    assert [name for name, _ in policy.witnesses] == list(NODES)
    assert policy.groups[0].threshold == 3


# -- one history --------------------------------------------------------------------------------------------


def test_a_store_gives_back_what_was_appended(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    with SqliteStore.open(path) as store:
        assert list(store.entries()) == WHOLE.stored
        assert store.read(2, 1) == WHOLE.stored[1:2]
        assert store.read(4, 9) == []
        assert store.last() == WHOLE.stored[-1]


def test_the_same_height_again_changes_nothing_and_another_is_refused(tmp_path: Path) -> None:
    other = Chain().grow(2, adjustments=())
    with SqliteStore.create(filled(tmp_path / "store")) as store:
        for one in WHOLE.stored:
            again = changed(one, certificate=b"cosigned by others", decided_us=1)
            assert store.append(again) is False
        for one in other.stored:
            with pytest.raises(StoreConflict, match="another one"):
                store.append(one)
        assert list(store.entries()) == WHOLE.stored


@given(order=st.permutations(range(4)))
def test_heights_are_appended_in_order_or_not_at_all(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    chain = Chain().grow(4)
    with SqliteStore.create(tmp_path_factory.mktemp("order") / "store") as store:
        held = 0
        for index in order:
            if index == held:
                assert store.append(chain.stored[index])
                held += 1
            else:
                with pytest.raises(StoreConflict, match=f"ends at {held}"):
                    store.append(chain.stored[index])
        assert list(store.entries()) == chain.stored[:held]


def test_what_follows_another_predecessor_is_refused(tmp_path: Path) -> None:
    other = Chain().grow(4, adjustments=())
    with SqliteStore.create(filled(tmp_path / "store")) as store, pytest.raises(StoreConflict, match="does not follow"):
        store.append(other.stored[3])


def _append_all(path: Path, chain: Chain) -> None:
    with SqliteStore.create(path) as store:
        for one in chain.stored:
            store.append(one)


def test_two_writers_of_one_history_leave_one_history(tmp_path: Path) -> None:
    chain = Chain().grow(12)
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_append_all, args=(tmp_path / "store", chain)) for _ in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    with SqliteStore.open(tmp_path / "store") as store:
        assert list(store.entries()) == chain.stored


# -- reading from the file alone ----------------------------------------------------------------------------


def test_a_reader_sees_what_a_writer_appends_meanwhile(tmp_path: Path) -> None:
    chain = Chain().grow(2)
    with SqliteStore.create(tmp_path / "store") as writer:
        writer.append(chain.stored[0])
        with SqliteStore.open(tmp_path / "store") as reader:
            assert list(reader.entries()) == chain.stored[:1]
            writer.append(chain.stored[1])
            assert list(reader.entries()) == chain.stored


def test_what_a_killed_writer_appended_is_read(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        store = SqliteStore.create(tmp_path / "store")
        for one in WHOLE.stored:
            store.append(one)
        os._exit(0)  # no close: the write-ahead log stays as it is
    os.waitpid(pid, 0)
    assert (tmp_path / "store-wal").exists()
    with SqliteStore.open(tmp_path / "store") as store:
        assert list(store.entries()) == WHOLE.stored


def test_a_store_in_a_folder_where_nothing_can_be_written_is_read(tmp_path: Path, monkeypatch: Any) -> None:
    path = filled(tmp_path / "store")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with SqliteStore.open(path) as store:
        assert list(store.entries()) == WHOLE.stored
        assert [file.name for file in tmp_path.iterdir()] == ["store"]


def test_reading_changes_no_byte_of_the_file(tmp_path: Path) -> None:
    path = filled(tmp_path / "store")
    before = path.read_bytes()
    with SqliteStore.open(path) as store:
        list(store.entries())
        with pytest.raises(StoreUnusable, match="cannot be written"):
            store.append(Chain().grow(4).stored[3])
    assert path.read_bytes() == before


def test_what_is_no_store_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="nothing is settled here yet"):
        SqliteStore.open(tmp_path / "nothing")
    (tmp_path / "text").write_bytes(b"not a database, but long enough to be looked at as one" * 40)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE t (a)")
    other.close()
    newer = filled(tmp_path / "newer")
    connection = apsw.Connection(str(newer))
    connection.pragma("user_version", 2)
    connection.close()
    for name, why in (
        ("text", "no checkpoint store"),
        ("other", "is no checkpoint store"),
        ("newer", "format 2"),
    ):
        for way in (SqliteStore.open, SqliteStore.create):
            with pytest.raises(StoreUnusable, match=why):
                way(tmp_path / name)


def test_a_damaged_row_is_named_and_read_as_nothing_else(tmp_path: Path) -> None:
    for column, value in (
        ("body", b"x"),
        ("certificate", b""),
        ("adjustments", b"\x91"),
        ("digest", bytes(32)),
        ("previous", bytes(32)),
        ("decided_us", 7),
        ("checksum", bytes(16)),
    ):
        path = filled(tmp_path / column)
        connection = apsw.Connection(str(path))
        connection.execute(f"UPDATE checkpoints SET {column} = ? WHERE height = 2", (value,))
        connection.close()
        with SqliteStore.open(path) as store:
            assert store.read(1, 1) == WHOLE.stored[:1]
            with pytest.raises(InvalidProof, match="height 2"):
                list(store.entries())
        with SqliteStore.create(path) as store, pytest.raises(StoreUnusable, match="height 2"):
            store.append(WHOLE.stored[1])


@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_bit_that_decayed_in_the_file_is_refused_or_was_in_nobodys_use(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    path = filled(tmp_path_factory.mktemp("decay") / "store")
    raw = bytearray(path.read_bytes())
    raw[place % len(raw)] ^= 1 << bit
    path.write_bytes(raw)
    try:
        with SqliteStore.open(path) as store:
            assert list(store.entries()) == WHOLE.stored
    except (StoreUnusable, InvalidProof):
        pass


@pytest.mark.parametrize("lost", [1, 100, 3_000, 5_000, 15_000, 16_384, 20_000, 32_000])
def test_a_file_that_was_cut_short_does_not_pass_for_a_shorter_history(tmp_path: Path, lost: int) -> None:
    path = filled(tmp_path / "store")
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises((StoreUnusable, InvalidProof)), SqliteStore.open(path) as store:
        list(store.entries())


# -- judging ------------------------------------------------------------------------------------------------


def test_a_whole_history_holds_and_tells_who_certified() -> None:
    judged = judge(WHOLE.stored)
    assert [one.height for one in judged] == [1, 2, 3]
    assert judged[2].adjustments == (VOIDED,)
    origin = log_origin(GENESIS)
    assert [signer.key.name for signer in judged[2].certificate.signers] == [f"{origin}/{name}" for name in NODES[:3]]


@pytest.mark.parametrize("field", ["body", "certificate", "adjustments", "digest", "previous"])
def test_no_byte_of_a_kept_checkpoint_can_change(field: str) -> None:
    """Every byte in turn; of large fields with one other value, which is enough for a refusal to be due."""
    stored = WHOLE.stored[1]
    raw = getattr(stored, field)
    history = History(GENESIS)
    history.extend(WHOLE.stored[0])
    for place in range(len(raw)):
        for mask in (0x01, 0x80):
            other = raw[:place] + bytes((raw[place] ^ mask,)) + raw[place + 1 :]
            with pytest.raises(InvalidProof, match=r"^height 2: "):
                history.extend(changed(stored, **{field: other}))
    history.extend(stored)


@pytest.mark.parametrize("field", ["body", "certificate", "adjustments"])
@given(data=st.data())
def test_nothing_can_be_put_in_or_taken_out(field: str, data: st.DataObject) -> None:
    raw = getattr(WHOLE.stored[0], field)
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, len(raw)))
    other = raw[:start] + data.draw(st.binary(max_size=8)) + raw[end:]
    if other != raw:
        with pytest.raises(InvalidProof, match=r"^height 1: "):
            History(GENESIS).extend(changed(WHOLE.stored[0], **{field: other}))


@given(order=st.lists(st.integers(0, 2), min_size=1, max_size=4))
def test_heights_hold_in_their_order_only(order: list[int]) -> None:
    if order == [0, 1, 2][: len(order)]:
        judge([WHOLE.stored[index] for index in order])
    else:
        with pytest.raises(InvalidProof):
            judge([WHOLE.stored[index] for index in order])


def test_checkpoints_of_another_cluster_hold_nothing() -> None:
    twin = Genesis("desk", "1" * 32, MEMBERS, (Asset("USDT", 8),))
    with pytest.raises(InvalidProof, match="not of the cluster 'desk' that this genesis founds"):
        judge(WHOLE.stored, twin)


def test_a_genesis_without_validators_judges_nothing() -> None:
    nobody = Genesis("desk", "0" * 32, tuple(edge(member) for member in MEMBERS), (Asset("USDT", 8),))
    with pytest.raises(BadInput, match="nobody votes"):
        History(nobody)


def edge(member: object) -> object:
    return changed(member, roles=("edge",))  # type: ignore[arg-type]


def test_two_of_four_certify_nothing() -> None:
    few = parse_note(WHOLE.stored[0].certificate)
    lacking = changed(few, lines=few.lines[:2]).encode()  # type: ignore[arg-type]
    with pytest.raises(InvalidProof, match=r"height 1: policy: the quorum .* is missed: 2 of 4"):
        judge([changed(WHOLE.stored[0], certificate=lacking)])


def test_a_certificate_of_another_height_or_log_is_not_this_ones() -> None:
    fork = Chain().grow(1)
    fork.grow(1, adjustments=())
    for certificate in (WHOLE.stored[0].certificate, WHOLE.stored[2].certificate, fork.stored[1].certificate):
        with pytest.raises(InvalidProof, match="height 2: certificate"):
            judge([WHOLE.stored[0], changed(WHOLE.stored[1], certificate=certificate)])


def test_adjustments_are_the_certified_ones_or_refused() -> None:
    for others in ((), (VOIDED, VOIDED), (Adjustment("voided", "divided", VOIDED.lane, 1, 0, 3),)):
        assert adjustments_root(others) != adjustments_root((VOIDED,))
        with pytest.raises(InvalidProof, match="adjustments"):
            judge([changed(WHOLE.stored[0], adjustments=encode_adjustments(others))])


@pytest.mark.parametrize(
    ("cut", "why"),
    [
        (cut_at((lane(0), 2)), "goes back"),
        (cut_at((lane(0), 2), (lane(1), 1)), "goes back"),
        (tuple(sorted((LaneCut(lane(0), 2, bytes(32)), *cut_at((lane(1), 3))))), "goes back"),
        (cut_at((lane(0), 2), (lane(1), 2), (Lane(b"stranger", 1, b"n" * 8).key, 1)), "no member"),
    ],
    ids=["leaves a lane out", "is shorter", "has another batch", "knows a stranger"],
)
def test_a_cut_that_goes_back_is_refused_even_when_certified(cut: tuple[LaneCut, ...], why: str) -> None:
    chain = Chain().grow(2)
    chain.add(chain.checkpoint(cut))
    with pytest.raises(InvalidProof, match=f"height 3: cut: .*{why}"):
        judge(chain.stored)


def test_a_record_that_names_another_predecessor_is_refused_even_when_certified() -> None:
    chain = Chain().grow(2)
    checkpoint = chain.checkpoint(cut_at((lane(0), 3), (lane(1), 3)))
    record = msgspec.structs.replace(checkpoint.record, previous=chain.records[0].leaf_hash())
    chain.add(msgspec.structs.replace(checkpoint, record=record))
    with pytest.raises(InvalidProof, match=r"height 3: record: .* does not follow height 2"):
        judge(chain.stored)


# -- evidence -----------------------------------------------------------------------------------------------


def forked(seq: int, node: int = 0) -> bytes:
    """Evidence that the node's lane forks at ``seq``."""
    previous = batch_name(lane(node), seq - 1) if seq > 1 else FIRST_PREV
    one, other = (
        seal(
            identity(NODES[node]),
            GENESIS,
            Lane(MEMBERS[node].id, 1, b"n" * 8),
            seq,
            previous,
            1 << 20,
            (0, GENESIS.hash),
            (),
            WireBody([], [], [], [], [], [], [Cursor("branch", branch, 0)]),
        )
        for branch in (1, 2)
    )
    return fork_evidence(one, other).raw


@given(fork=st.integers(1, 5), ends=st.integers(2, 6), later=st.integers(0, 2))
def test_a_forked_lane_ends_right_before_its_fork_or_where_it_was_settled(fork: int, ends: int, later: int) -> None:
    chain = Chain().grow(2)
    chain.add(chain.checkpoint(cut_at((lane(0), ends), (lane(1), 2)), [forked(fork)]))
    chain.add(chain.checkpoint(cut_at((lane(0), ends + later), (lane(1), 3))))
    if ends == max(fork - 1, 2) and not later:
        assert [one.height for one in judge(chain.stored)] == [1, 2, 3, 4]
    else:
        with pytest.raises(InvalidProof, match=r"height [34]: cut: lane node-1/1\.6e6e6e6e (forks|was closed)"):
            judge(chain.stored)


def test_evidence_that_proves_nothing_is_refused_even_when_certified() -> None:
    good = forked(3)
    for bad in (b"", good[:-1], good[:-1] + bytes((good[-1] ^ 1,)), forked(3)[:200]):
        chain = Chain().grow(2)
        chain.add(chain.checkpoint(cut_at((lane(0), 2), (lane(1), 2)), [bad]))
        with pytest.raises(InvalidProof, match="height 3: evidence 1"):
            judge(chain.stored)


def test_a_lane_is_closed_once() -> None:
    chain = Chain().grow(2)
    cut = cut_at((lane(0), 2), (lane(1), 2))
    chain.add(chain.checkpoint(cut, [forked(3)]))
    chain.add(chain.checkpoint(cut, [forked(4)]))
    with pytest.raises(InvalidProof, match=r"height 4: evidence 1: lane node-1/.* is closed without it"):
        judge(chain.stored)
