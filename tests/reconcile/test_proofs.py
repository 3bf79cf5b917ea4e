"""Proof files: what an outsider learns from one, and that no byte of it can change."""

from __future__ import annotations

import functools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput, InvalidProof
from reconcile.cells import CellName, encode_value, manifest_name, manifest_value
from reconcile.certificate import LogHead, assemble
from reconcile.heights import DOMAIN, NONE, HeightRecord, decode_record
from reconcile.log import MerkleLog
from reconcile.policy import quorum_of
from reconcile.proofs import AccountProof, AssetSums, CellOpening, Proven, _file, prove_account, verify_proof
from reconcile.salts import Salts
from reconcile.statetree import StateTree
from reconcile.sumtree import SumNode, SumProof, SumTree, liabilities_digest
from reconcile.tlogproof import LeafProof, parse_leaf_proof, verify_leaf_proof

from .signers import NODES, ORIGIN, cosignatures, keys_of, policy_of

CLUSTER = b"c" * 32
SALTS = Salts(1, bytes(range(32)))


def cells_of(account: str, count: int = 2) -> dict[CellName, bytes]:
    return {
        CellName("collateral", account, f"AS{i}"): encode_value({"available": 100 * i, "decimals": 2})
        for i in range(count)
    }


class World:
    """A settled state of a few accounts at height 3 of a log of five heights, certified by three of four."""

    def __init__(self) -> None:
        self.accounts = {f"A{i:03d}": cells_of(f"A{i:03d}", 1 + i % 3) for i in range(5)}
        cells: dict[CellName, bytes] = {}
        for account, own in self.accounts.items():
            cells |= {**own, manifest_name(account): manifest_value(own)}
        self.state = StateTree(SALTS, cells)
        self.sums = {
            "AS0": SumTree("AS0", SALTS, dict.fromkeys(self.accounts, 2**90 + 7)),
            "AS1": SumTree("AS1", SALTS, {"A001": 100, "A002": 100, "A004": 100}),
        }
        self.log = MerkleLog()
        self.records: list[HeightRecord] = []
        for height in range(1, 6):
            previous = self.records[-1].leaf_hash() if self.records else NONE
            record = HeightRecord(
                CLUSTER,
                height,
                previous,
                cut=bytes([height]) * 32,
                evidence=NONE,
                state_root=self.state.root,
                adjustments_root=NONE,
                liabilities=liabilities_digest({asset: tree.root for asset, tree in self.sums.items()}),
                salt_version=1,
            )
            assert record.follows(self.records[-1] if self.records else None)
            self.records.append(record)
            assert self.log.append(record.encode()) == record.index
        head = LogHead(ORIGIN, 5, self.log.root())
        self.certificate = assemble(head, cosignatures(head)[:3], policy_of())

    def paths(self, account: str) -> dict[str, tuple[SumNode, SumProof | None]]:
        def path(tree: SumTree) -> SumProof | None:
            try:
                return tree.prove(account)
            except BadInput:
                return None

        return {asset: (tree.root, path(tree)) for asset, tree in self.sums.items()}

    def prove(self, account: str, *, liabilities: bool = False) -> bytes:
        sums = self.paths(account) if liabilities else None
        own = self.accounts.get(account, {})
        return prove_account(account, own, self.state, self.records[2], self.log, self.certificate, 5, sums)

    def leaf(self) -> LeafProof:
        return LeafProof(self.records[2].encode(), 2, self.log.prove_inclusion(2, 5), self.certificate)


@functools.cache
def world() -> World:
    return World()


def verified(raw: bytes) -> Proven:
    return verify_proof(raw, policy_of(), ORIGIN, CLUSTER)


def refused(raw: bytes, why: str = ".") -> None:
    with pytest.raises(InvalidProof, match=why):
        verified(raw)


def test_a_stranger_learns_balances_height_and_who_certified() -> None:
    proven = verified(world().prove("A001"))
    assert (proven.account, proven.present, proven.height, proven.log_size) == ("A001", True, 3, 5)
    assert [(cell.kind, cell.subject, dict(cell.values)) for cell in proven.cells] == [
        ("collateral", "AS0", {"available": "0", "decimals": "2"}),
        ("collateral", "AS1", {"available": "100", "decimals": "2"}),
    ]
    assert [signer.key.name for signer in proven.signers] == [f"{ORIGIN}/{node}" for node in NODES[:3]]
    assert proven.record == world().records[2]
    assert proven.liabilities == {}


def test_people_can_read_the_file() -> None:
    lines = world().prove("A001").decode().split("\n")
    assert lines[:6] == [
        "crdtledger proof v1",
        "account A001",
        "height 3",
        f"state {world().state.root.hex()}",
        'collateral AS0 {"available":"0","decimals":"2"}',
        'collateral AS1 {"available":"100","decimals":"2"}',
    ]


def test_an_account_that_has_nothing_is_shown_to_have_nothing() -> None:
    raw = world().prove("nobody")
    assert b"the account has nothing at this height\n" in raw
    proven = verified(raw)
    assert (proven.account, proven.present, proven.cells) == ("nobody", False, ())
    refused(raw.replace(b"nobody", b"A001"))


def test_auditors_see_the_part_in_the_certified_total_and_are_told_what_it_shows() -> None:
    raw = world().prove("A001", liabilities=True)
    assert b"for auditors: the paths below show totals of other accounts\n" in raw
    proven = verified(raw)
    assert proven.liabilities == {
        "AS0": (2**90 + 7, world().sums["AS0"].root),
        "AS1": (100, world().sums["AS1"].root),
    }
    assert verified(world().prove("A000", liabilities=True)).liabilities.keys() == {"AS0"}


@pytest.mark.parametrize(("account", "flip"), [("A000", 1), ("A000", 0x20), ("nobody", 4), ("A003", 0x80)])
def test_no_byte_of_a_proof_file_can_change(account: str, flip: int) -> None:
    raw = world().prove(account, liabilities=account == "A003")
    for place in range(len(raw)):
        refused(raw[:place] + bytes([raw[place] ^ flip]) + raw[place + 1 :])


def test_nothing_can_be_cut_from_a_proof_file_or_added_to_it() -> None:
    raw = world().prove("A000")
    for place in range(len(raw)):
        refused(raw[:place])
        refused(raw[:place] + raw[place + 1 :])
        refused(raw[:place] + b"\n 0="[place % 4 : place % 4 + 1] + raw[place:])


@given(st.binary(max_size=300))
def test_no_bytes_do_worse_than_be_refused(raw: bytes) -> None:
    whole = world().prove("A000")
    for body in (raw, b"crdtledger proof v1\nbody " + raw + b"\n\n", whole[: len(whole) // 2] + raw):
        refused(body)


@given(st.data())
def test_no_json_does_worse_than_be_refused(data: st.DataObject) -> None:
    whole = world().prove("A001", liabilities=True)
    line = next(line for line in whole.split(b"\n") if line.startswith(b"body "))
    body = json.loads(line[5:])
    leaf = st.none() | st.integers(-(2**130), 2**130) | st.text(max_size=4) | st.lists(st.integers(0, 9), max_size=3)
    field = data.draw(st.sampled_from(sorted(body)))
    if field != "account" and body[field] and isinstance(body[field], list) and data.draw(st.booleans()):
        row = data.draw(st.sampled_from(body[field]))
        row[data.draw(st.integers(0, len(row) - 1))] = data.draw(leaf)
    else:
        body[field] = data.draw(leaf)
    changed = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    if b"body " + changed != line:
        refused(whole.replace(line, b"body " + changed))


def test_numbers_beyond_all_reason_are_refused_before_they_are_written() -> None:
    whole = world().prove("A001", liabilities=True)
    total = str(world().sums["AS0"].root.total).encode()
    for number in (b"9" * 5000, b"-" + b"9" * 50, b"1e400", b"1.0", str(2**128).encode()):
        refused(whole.replace(total, number))


def test_trust_comes_from_outside_the_file() -> None:
    raw = world().prove("A001")
    for policy, origin, cluster, why in (
        (quorum_of(keys_of(("m1", "m2", "m3", "m4"))), ORIGIN, CLUSTER, "no known key"),
        (quorum_of(keys_of((*NODES, "node-5"))), ORIGIN, CLUSTER, "quorum"),
        (policy_of(), "ledger.example/other", CLUSTER, "of the log"),
        (policy_of(), ORIGIN, b"d" * 32, "another cluster"),
    ):
        with pytest.raises(InvalidProof, match=why):
            verify_proof(raw, policy, origin, cluster)


def forged(**changes: object) -> bytes:
    """A's file with its body changed and every derived line written anew, as a careful forger would."""
    whole = world().prove("A002")
    line = next(line for line in whole.split(b"\n") if line.startswith(b"body "))
    body = msgspec.json.decode(line[5:], type=AccountProof)
    return _file(msgspec.structs.replace(body, **changes), world().records[2], world().leaf())


def openings() -> list[CellOpening]:
    whole = world().prove("A002")
    line = next(line for line in whole.split(b"\n") if line.startswith(b"body "))
    return list(msgspec.json.decode(line[5:], type=AccountProof).cells)


def test_a_cell_cannot_be_left_out() -> None:
    assert verified(forged()).account == "A002"
    cells = openings()
    assert len(cells) == 4
    for place in range(4):
        refused(forged(cells=tuple(cells[:place] + cells[place + 1 :])), "manifest does not name")
    refused(forged(cells=(*cells[:3], cells[2])), "sorted")
    refused(forged(cells=()), ".")


def test_a_cell_cannot_be_given_another_value_or_to_another_account() -> None:
    cells = openings()
    rich = msgspec.structs.replace(cells[2], value=cells[2].value.replace(b"100", b"900"))
    refused(forged(cells=(*cells[:2], rich, *cells[3:])), "another key or value")
    refused(forged(account="A003"), "another key or value")
    refused(forged(account=""), "no account")
    refused(forged(account="A002\nheight 9"), "no account")
    resalted = msgspec.structs.replace(cells[2], salt=bytes(32))
    refused(forged(cells=(*cells[:2], resalted, *cells[3:])), "another key or value")


def test_a_liability_cannot_be_given_another_amount_or_total() -> None:
    sums = tuple(AssetSums(asset, *pair) for asset, pair in sorted(world().paths("A002").items()))
    assert verified(forged(liabilities=sums)).liabilities["AS1"][0] == 100
    path, root = sums[1].path, sums[1].root
    assert path is not None
    less = msgspec.structs.replace(sums[1], path=msgspec.structs.replace(path, amount=99))
    refused(forged(liabilities=(sums[0], less)), "leads to another root")
    smaller = msgspec.structs.replace(sums[1], root=msgspec.structs.replace(root, total=root.total - 1))
    refused(forged(liabilities=(sums[0], smaller)), "not the certified ones")
    refused(forged(liabilities=sums[:1]), "not the certified ones")
    refused(forged(liabilities=(sums[1], sums[0])), "sorted")
    other = world().sums["AS1"].prove("A001")
    refused(forged(liabilities=(sums[0], msgspec.structs.replace(sums[1], path=other))), "another account")


def test_a_height_that_is_not_in_the_certified_log_is_refused() -> None:
    leaf = world().leaf()
    assert verify_leaf_proof(leaf, policy_of(), ORIGIN).record == world().records[2]
    assert parse_leaf_proof(leaf.encode()) == leaf
    other = msgspec.structs.replace(world().records[2], state_root=b"x" * 32)
    with pytest.raises(InvalidProof, match="another root"):
        verify_leaf_proof(msgspec.structs.replace(leaf, leaf=other.encode()), policy_of(), ORIGIN)
    with pytest.raises(InvalidProof):
        verify_leaf_proof(msgspec.structs.replace(leaf, index=3), policy_of(), ORIGIN)
    # A leaf that is in the log, but is no record of its own height.
    log = MerkleLog()
    for record in (*world().records[:2], world().records[0]):
        log.append(record.encode())
    head = LogHead(ORIGIN, 3, log.root())
    moved = LeafProof(
        world().records[0].encode(), 2, log.prove_inclusion(2), assemble(head, cosignatures(head), policy_of())
    )
    with pytest.raises(InvalidProof, match="record of height 1"):
        verify_leaf_proof(moved, policy_of(), ORIGIN)


def test_every_changed_byte_of_a_record_is_another_record_or_refused() -> None:
    raw = world().records[1].encode()
    assert decode_record(raw) == world().records[1]
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        try:
            assert decode_record(changed).encode() == changed
        except InvalidProof:
            continue
    number = raw.index(CLUSTER) + len(CLUSTER)
    longer = raw[:number] + b"\xcc" + raw[number:]  # the same height, in two bytes instead of one
    for bad in (
        longer,
        raw[:-1],
        raw + b"\0",
        b"",
        raw.replace(DOMAIN.encode(), DOMAIN[:-1].encode() + b"2"),
        b"x" * 2000,
    ):
        with pytest.raises(InvalidProof):
            decode_record(bad)


def test_records_that_do_not_follow_are_told_apart() -> None:
    first, second, third = world().records[:3]
    assert not first.follows(second)
    assert not third.follows(first)
    assert not second.follows(None)
    assert not second.follows(msgspec.structs.replace(first, cut=b"x" * 32))
    assert not second.follows(msgspec.structs.replace(first, cluster=b"x" * 32))
    for bad in ({"height": 0}, {"cut": b""}, {"salt_version": 0}, {"domain": "other"}):
        with pytest.raises(BadInput):
            msgspec.structs.replace(first, **bad).encode()


def test_parts_that_do_not_belong_together_make_no_file() -> None:
    w = world()
    own = w.accounts["A001"]
    with pytest.raises(BadInput):
        prove_account("A001", own, w.state.update({CellName("x", "y"): b"1"}), w.records[2], w.log, w.certificate, 5)
    for account, cells in (
        ("A002", own),
        ("A001", {**own, manifest_name("A001"): b"{}"}),
        ("A001", {CellName("collateral", "A001", "AS0"): b"not json"}),
        ("A001", cells_of("A001", 1)),
        ("A001", {}),
        ("", {}),
        ("a\nb", {}),
    ):
        with pytest.raises(BadInput):
            prove_account(account, cells, w.state, w.records[2], w.log, w.certificate, 5)
