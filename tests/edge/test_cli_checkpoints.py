"""Checkpoints and proofs through the command line, from files alone: no node runs in any of these tests."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge import folders
from crdtledger.ledger.genesis import Policies
from reconcile.cells import CellName, encode_value, manifest_name, manifest_value
from reconcile.founding import log_origin, policy_of
from reconcile.log import MerkleLog
from reconcile.policy import parse_policy
from reconcile.proofs import prove_account
from reconcile.salts import Salts
from reconcile.statetree import StateTree
from reconcile.stores.sqlite import SqliteStore
from reconcile.sumtree import SumTree, liabilities_digest
from tests.edge.processes import cluster, run
from tests.reconcile.chains import GENESIS, VOIDED, Chain, changed, cut_at, lane
from tests.reconcile.signers import NODES

SALTS = Salts(1, bytes(32))
MONEY = {
    "decimals": 8,
    "held": 12_345_000_000,
    "free": 12_000_000_000,
    "reserved": 345_000_000,
    "shortfall": 0,
    "deposited": 2 * 10**30,
    "withdrawn": 2 * 10**30 - 12_345_000_000,
    "rights_digest": "ab",
}
TRADED = {
    "qty": -1_500,
    "bought": 500,
    "sold": 2_000,
    "qty_decimals": 3,
    "value_bought": 5_000,
    "value_sold": 21_000,
    "cost": 15_750,
    "realised": 250,
    "value_decimals": 5,
    "fees": 7,
    "fee_asset": "USDT",
    "fee_decimals": 8,
    "fills": 4,
    "other_fees": "BTC 12 8, ETH -3 2",
}
CELLS = {
    CellName("collateral", "A001", "USDT"): encode_value(MONEY),
    CellName("label", "A001"): encode_value({"label": "the desk"}),
    CellName("position", "A001", "BTCUSDT"): encode_value(TRADED),
}
OTHERS = {CellName("collateral", f"B{n}", "USDT"): encode_value({**MONEY, "held": n}) for n in range(4)}


def settled() -> tuple[Chain, StateTree, SumTree]:
    """Four heights; what ``CELLS`` say is settled at the third."""
    cells = {**CELLS, **OTHERS, manifest_name("A001"): manifest_value(CELLS)}
    state = StateTree(SALTS, cells)
    sums = SumTree("USDT", SALTS, {"A001": 12_345_000_000, **{f"B{n}": 10**9 + n for n in range(4)}})
    chain = Chain().grow(2)
    roots = {"state_root": state.root, "liabilities": liabilities_digest({"USDT": sums.root})}
    chain.add(chain.checkpoint(cut_at((lane(0), 4), (lane(1), 3)), **roots), names=NODES[1:])
    chain.grow(1)
    return chain, state, sums


CHAIN, STATE, SUMS = settled()


def proof(account: str = "A001", liabilities: bool = False, size: int = 4) -> bytes:
    path = {"USDT": (SUMS.root, SUMS.prove(account))} if liabilities else None
    log = MerkleLog(record.leaf_hash() for record in CHAIN.records)
    cells = CELLS if account == "A001" else {}
    return prove_account(account, cells, STATE, CHAIN.records[2], log, CHAIN.stored[size - 1].certificate, size, path)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the genesis, a store and a proof: what a stranger may have been given."""
    (tmp_path / folders.GENESIS).write_bytes(GENESIS.encode())
    store_of(tmp_path / folders.CHECKPOINTS, CHAIN)
    (tmp_path / "A001.proof").write_bytes(proof())
    return tmp_path


def store_of(path: Path, chain: Chain) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    with SqliteStore.create(path) as store:
        for one in chain.stored:
            store.append(one)
    return path


# -- list, show ---------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_with_what_they_took_in_and_who_certified_them(place: Path) -> None:
    ran = run("checkpoint", "list", place, "--format", "json")
    rows = ran.json()
    assert (ran.code, [row["height"] for row in rows]) == (0, [1, 2, 3, 4])
    assert rows[2] == {
        "height": 3,
        "digest": CHAIN.stored[2].digest.hex(),
        "lanes": 2,
        "batches": 3,
        "evidence": 0,
        "adjustments": 0,
        "certified_by": ["node-2", "node-3", "node-4"],
        "decided": "2027-01-15 08:00:00 UTC",
    }
    assert rows[0]["adjustments"] == VOIDED.facts
    (newest,) = run("checkpoint", "list", place, "--last", 1, "--format", "json").json()
    assert newest["height"] == 4
    table = run("checkpoint", "list", place / folders.CHECKPOINTS)
    assert (table.code, "node-2, node-3, node-4" in table.out) == (0, True)
    assert len(list(csv.DictReader(io.StringIO(run("checkpoint", "list", place, "--format", "csv").out)))) == 4


def test_a_checkpoint_is_shown_whole(place: Path) -> None:
    shown = run("checkpoint", "show", place, 3, "--format", "json").json()
    assert shown["cut"] == {"node-1/1.6e6e6e6e": 4, "node-2/1.6e6e6e6e": 3}
    assert (shown["cluster"], shown["genesis"]) == ("desk", GENESIS.hash.hex())
    assert shown["previous"] == CHAIN.stored[1].digest.hex()
    assert shown["state_root"] == STATE.root.hex()
    assert shown["log"] == log_origin(GENESIS)
    assert list(shown["certified"]) == ["node-2", "node-3", "node-4"]
    assert run("checkpoint", "show", place, "--format", "json").json()["adjustments"] == {"overspends": 3}
    (row,) = run("checkpoint", "show", place, 4, "--adjustments", "--format", "json").json()
    assert row == {
        "effect": "voided",
        "cause": "overspends",
        "lane": "node-1/1.6e6e6e6e",
        "seq": 1,
        "kind": "",
        "facts": 3,
        "detail": "",
    }


def test_the_note_is_the_certificate_as_stock_tools_read_it(place: Path) -> None:
    tlog = pytest.importorskip("tlog_scales.tlog", reason="tlog-scales is not installed")
    signing = pytest.importorskip("tlog_scales.signing", reason="tlog-scales is not installed")
    note = run("checkpoint", "show", place, 3, "--note").out
    assert note.encode() == CHAIN.stored[2].certificate
    policy = run("checkpoint", "policy", "--genesis", place / folders.GENESIS).out
    assert parse_policy(policy.encode()) == policy_of(GENESIS)
    keys = [line.split()[2] for line in policy.splitlines() if line.startswith("witness ")]
    checkpoint = tlog.Checkpoint.from_text(note)
    vkeys = signing.VkeySet(*(signing.Vkey.from_string(key) for key in keys))
    assert len(vkeys.verify(checkpoint.signatures, checkpoint)) == 3
    assert (checkpoint.origin, checkpoint.size) == (log_origin(GENESIS), 3)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["show", ".", "9"], "height 9: the newest is 4"),
        (["show", ".", "0"], "height 0: the newest is 4"),
        (["list", "nothing"], "there is no checkpoint store"),
        (["list", "genesis.json"], "no checkpoint store"),
        (["list", ".", "--genesis", "missing.json"], "missing.json: $: cannot be read"),
        (["list", ".", "--genesis", "A001.proof"], "A001.proof: $: not JSON"),
        (["list", "alone/checkpoints.db"], "--genesis FILE"),
        (["show", "empty"], "there is no checkpoint yet"),
        (["list", "tcp://127.0.0.1:1"], "unknown address"),
    ],
)
def test_what_cannot_be_shown_is_one_line_that_says_why(
    place: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], why: str
) -> None:
    monkeypatch.chdir(place)
    (place / folders.OPERATOR).write_bytes(msgspec.json.encode(folders.new_curve_keys()))
    (place / "alone").mkdir()
    shutil.copy(folders.CHECKPOINTS, "alone")
    store_of(place / "empty" / folders.CHECKPOINTS, Chain())
    shutil.copy(folders.GENESIS, "empty")
    ran = run("checkpoint", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert why in ran.err


def test_a_store_alone_is_judged_by_the_genesis_that_is_given(place: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(place / folders.CHECKPOINTS, alone)
    ran = run("checkpoint", "list", alone / folders.CHECKPOINTS, "--genesis", place / folders.GENESIS)
    assert ran.code == 0


# -- verify -------------------------------------------------------------------------------------------------


def verify(*sources: Path, genesis: Path) -> Any:
    return run("checkpoint", "verify", *sources, "--genesis", genesis, "--format", "json")


def test_several_stores_of_one_history_are_verified_and_what_for_is_said(place: Path) -> None:
    shorter = Chain().grow(2)
    assert [one.digest for one in shorter.stored] == [one.digest for one in CHAIN.stored[:2]]
    behind = store_of(place / "behind.db", shorter)
    ran = verify(place, behind, place / folders.CHECKPOINTS, genesis=place / folders.GENESIS)
    assert ran.code == 0
    assert [row["heights"] for row in ran.json()] == [4, 2, 4]
    assert ran.json()[0]["digest"] == CHAIN.stored[3].digest.hex()
    assert "chain, cuts, evidence, adjustments and certificates hold" in ran.err
    assert GENESIS.hash.hex()[:16] in ran.err


def test_two_certified_histories_of_one_cluster_are_told_apart(place: Path) -> None:
    other = Chain().grow(1)
    other.grow(2, adjustments=())
    forked = store_of(place / "other.db", other)
    ran = verify(place, forked, genesis=place / folders.GENESIS)
    assert (ran.code, ran.out) == (1, "")
    assert "height 2: certified here and in" in ran.err


def test_checkpoints_of_another_cluster_or_of_nobody_hold_nothing(place: Path) -> None:
    twin = place / "twin.json"
    twin.write_bytes(msgspec.structs.replace(GENESIS, nonce="1" * 32).encode())
    ran = verify(place, genesis=twin)
    assert (ran.code, ran.out) == (1, "")
    assert "does not hold: height 1: record: it is not of the cluster" in ran.err
    empty = store_of(place / "empty.db", Chain())
    assert verify(empty, genesis=place / folders.GENESIS).code == 1
    nobody = place / "nobody.json"
    members = tuple(msgspec.structs.replace(member, roles=("edge",)) for member in GENESIS.nodes)
    nobody.write_bytes(msgspec.structs.replace(GENESIS, nodes=members).encode())
    assert verify(place, genesis=nobody).code == 2


@given(
    height=st.integers(1, 4),
    field=st.sampled_from(["body", "certificate", "adjustments"]),
    at=st.integers(0, 10**6),
    bit=st.integers(0, 7),
)
def test_a_changed_byte_is_named_by_its_height(
    tmp_path_factory: pytest.TempPathFactory, height: int, field: str, at: int, bit: int
) -> None:
    """The change is made by somebody who also mends the row's checksum."""
    raw = bytearray(getattr(CHAIN.stored[height - 1], field))
    raw[at % len(raw)] ^= 1 << bit
    chain = Chain()
    chain.stored = [*CHAIN.stored]
    chain.stored[height - 1] = changed(chain.stored[height - 1], **{field: bytes(raw)})
    place = tmp_path_factory.mktemp("changed")
    (place / folders.GENESIS).write_bytes(GENESIS.encode())
    store_of(place / folders.CHECKPOINTS, chain)
    ran = verify(place, genesis=place / folders.GENESIS)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert f"does not hold: height {height}: " in ran.err
    assert run("checkpoint", "list", place).code == 1
    assert run("checkpoint", "show", place).code == 1


def test_a_store_is_copied_verified_and_gone_on_with(place: Path) -> None:
    mine = store_of(place / "mine.db", Chain().grow(1))
    for copied in (3, 0):
        ran = run("checkpoint", "copy", place, mine, "--format", "json")
        assert (ran.code, ran.json()) == (0, {"file": str(mine), "heights": 4, "copied": copied})
    assert verify(place, mine, genesis=place / folders.GENESIS).code == 0
    (place / "lost").mkdir()
    assert run("checkpoint", "copy", place / folders.CHECKPOINTS, place / "lost").code == 0
    assert verify(place / "lost", genesis=place / folders.GENESIS).code == 0


def test_what_does_not_hold_or_does_not_continue_is_not_copied(place: Path) -> None:
    bad = Chain()
    bad.stored = [*CHAIN.stored[:2], changed(CHAIN.stored[2], certificate=CHAIN.stored[1].certificate)]
    ran = run("checkpoint", "copy", store_of(place / "bad.db", bad), place / "mine.db")
    assert (ran.code, "does not hold: height 3: certificate" in ran.err) == (1, True)
    with SqliteStore.open(place / "mine.db") as store:
        assert list(store.entries()) == CHAIN.stored[:2]
    other = store_of(place / "other.db", Chain().grow(1, adjustments=()))
    ran = run("checkpoint", "copy", place, other)
    assert (ran.code, "another one" in ran.err, ran.err.count("\n")) == (2, True, 1)


# -- proofs -------------------------------------------------------------------------------------------------


def check(file: Path, *more: object) -> Any:
    return run("verify-proof", file, "--genesis", file.parent / folders.GENESIS, *more)


def test_a_proof_tells_the_account_and_who_certified_it_with_decimals_applied(place: Path) -> None:
    ran = check(place / "A001.proof", "--format", "json")
    told = ran.json()
    assert (ran.code, ran.err) == (0, "")
    assert (told["account"], told["present"], told["height"], told["log_size"]) == ("A001", True, 3, 4)
    assert (told["certified_by"], told["validators"]) == (["node-1", "node-2", "node-3"], 4)
    assert (told["certified_from_s"], told["certified_to_s"]) == (1_800_000_000, 1_800_000_002)
    assert told["collateral"] == [
        {
            "asset": "USDT",
            "held": "123.45000000",
            "free": "120.00000000",
            "reserved": "3.45000000",
            "shortfall": "0.00000000",
            "deposited": "20000000000000000000000.00000000",
            "withdrawn": "19999999999999999999876.55000000",
        }
    ]
    (position,) = told["positions"]
    assert (position["qty"], position["realised"], position["cost"]) == ("-1.500", "0.00250", "0.15750")
    assert (position["fees"], position["fills"]) == ("0.00000007", 4)
    assert position["other_fees"] == {"BTC": "0.00000012", "ETH": "-0.03"}
    assert told["other"] == [{"kind": "label", "subject": "", "label": "the desk"}]
    assert told["liabilities"] == []


def test_people_read_the_same_in_words(place: Path) -> None:
    told = check(place / "A001.proof").out
    for words in (
        "A001.proof holds",
        f"desk (genesis {GENESIS.hash.hex()[:16]})",
        "node-1, node-2, node-3 (3 of 4 validators)",
        "2027-01-15 08:00:00 UTC to 2027-01-15 08:00:02 UTC",
        "123.45000000",
        "-1.500",
        "not that no later height exists",
    ):
        assert words in told
    rows = list(csv.DictReader(io.StringIO(check(place / "A001.proof", "--format", "csv").out)))
    assert {"part": "collateral", "subject": "USDT", "field": "free", "value": "120.00000000"} in rows


def test_an_account_that_has_nothing_is_said_to_have_nothing(place: Path) -> None:
    (place / "A001.proof").write_bytes(proof("NOBODY"))
    told = check(place / "A001.proof", "--format", "json").json()
    assert (told["account"], told["present"], told["collateral"], told["positions"]) == ("NOBODY", False, [], [])
    assert "NOBODY has nothing at this height" in check(place / "A001.proof").out


def test_an_auditors_proof_shows_the_part_in_the_total(place: Path) -> None:
    (place / "A001.proof").write_bytes(proof(liabilities=True))
    told = check(place / "A001.proof", "--format", "json").json()
    assert told["liabilities"] == [{"asset": "USDT", "owed": "123.45000000", "total": "163.45000006", "accounts": 5}]
    assert "owed: this account's part in the total" in check(place / "A001.proof").out


RAW = proof(liabilities=True)


@given(at=st.integers(0, len(RAW) - 1), bit=st.integers(0, 7))
def test_a_changed_byte_of_a_proof_is_refused(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    place = tmp_path_factory.mktemp("proof")
    (place / folders.GENESIS).write_bytes(GENESIS.encode())
    file = place / "changed.proof"
    file.write_bytes(RAW[:at] + bytes((RAW[at] ^ 1 << bit,)) + RAW[at + 1 :])
    ran = check(file)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert f"{file}: does not hold: " in ran.err


def test_a_proof_of_another_cluster_or_no_proof_at_all_is_refused(place: Path) -> None:
    twin = place / "twin.json"
    twin.write_bytes(msgspec.structs.replace(GENESIS, nonce="1" * 32).encode())
    ran = run("verify-proof", place / "A001.proof", "--genesis", twin)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert run("verify-proof", place / folders.GENESIS, "--genesis", place / folders.GENESIS).code == 1
    missing = run("verify-proof", place / "none", "--genesis", place / folders.GENESIS)
    assert (missing.code, missing.err) == (2, f"crdtledger: {place / 'none'}: No such file or directory\n")
    assert run("verify-proof", place / "A001.proof", "--genesis", place / "none").code == 2
    assert run("verify-proof", place, "--genesis", place / folders.GENESIS).code == 2


@pytest.mark.parametrize(
    "fields",
    [{"decimals": "x"}, {"decimals": -1}, {"decimals": 10**9}, {"held": "1.5"}, {"held": ""}],
)
def test_a_certified_cell_of_another_form_is_not_guessed_at(place: Path, fields: dict[str, Any]) -> None:
    cells = {CellName("collateral", "A001", "USDT"): encode_value({**MONEY, **fields})}
    state = StateTree(SALTS, {**cells, manifest_name("A001"): manifest_value(cells)})
    chain = Chain()
    chain.add(chain.checkpoint(cut_at((lane(0), 1)), state_root=state.root))
    log = MerkleLog(record.leaf_hash() for record in chain.records)
    raw = prove_account("A001", cells, state, chain.records[0], log, chain.stored[0].certificate, 1)
    (place / "odd.proof").write_bytes(raw)
    ran = check(place / "odd.proof")
    assert (ran.code, ran.out) == (1, "")
    assert "cell collateral USDT: its" in ran.err


def test_liabilities_in_an_asset_that_the_genesis_has_not_are_not_printed(place: Path) -> None:
    sums = SumTree("GOLD", SALTS, {"A001": 5})
    chain = Chain()
    roots = {"state_root": STATE.root, "liabilities": liabilities_digest({"GOLD": sums.root})}
    chain.add(chain.checkpoint(cut_at((lane(0), 1)), **roots))
    log = MerkleLog(record.leaf_hash() for record in chain.records)
    path = {"GOLD": (sums.root, sums.prove("A001"))}
    raw = prove_account("A001", CELLS, STATE, chain.records[0], log, chain.stored[0].certificate, 1, path)
    (place / "gold.proof").write_bytes(raw)
    ran = check(place / "gold.proof")
    assert (ran.code, ran.out, "no asset 'GOLD'" in ran.err) == (1, "", True)


# -- where nothing is settled -------------------------------------------------------------------------------


def test_a_cluster_without_agreement_says_that_nothing_is_ever_settled(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2, start=False) as it:
        waited = run("wait", *it.paths, "--settled")
        assert (waited.code, "nothing is ever settled" in waited.err, waited.err.count("\n")) == (2, True, 1)
        assert run("checkpoint", "list", it.node(1)).code == 2
        assert [row["check"] for row in run("doctor", it.node(1), "--format", "json").json()][-1] != "checkpoints"


def test_the_doctor_judges_the_checkpoints_too(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=4, policies=Policies(agreement="tendermint"), start=False) as it:
        node = folders.open_node(it.node(1))
        (note,) = (row for row in doctor(it.node(1)) if row["check"] == "checkpoints")
        assert (note["verdict"], "no store yet" in note["detail"]) == ("note", True)
        store_of(node.checkpoints, CHAIN)
        (bad,) = (row for row in doctor(it.node(1)) if row["check"] == "checkpoints")
        assert (bad["verdict"], "not of the cluster" in bad["detail"]) == ("bad", True)


def doctor(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("doctor", folder, "--format", "json").out)
    return rows


def test_nodes_that_agree_share_a_secret_for_salts_and_say_when_it_is_missing(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2, policies=Policies(agreement="tendermint"), start=False) as it:
        one, other = (folders.open_node(path) for path in it.paths)
        assert one.salts is not None
        assert one.salts == other.salts
        file = it.node(1) / folders.SECRETS
        kept = json.loads(file.read_text())
        for salts, why in ((None, "is missing"), ({"version": 0, "secret": "00" * 32}, "version"), ({}, "version")):
            secrets = {key: value for key, value in kept.items() if key != "salts"}
            file.write_text(json.dumps(secrets if salts is None else {**secrets, "salts": salts}))
            ran = run("doctor", it.node(1))
            assert (ran.code, ran.err.count("\n")) == (2, 1)
            assert f"{file}: $.salts" in ran.err
            assert why in ran.err
