"""Whoever hands in a proof or a cut that does not hold, or asks for what is not there, is told what, where and why, in these words.

One line a refusal: the words are what an operator reads in a log and an auditor in a verdict, so a change of them is meant, or a defect.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from crdtledger.errors import LedgerError
from reconcile import ics23
from reconcile.cells import CellName
from reconcile.ics23 import EMPTY_CHILD, ExistenceProof, InnerOp, NonExistenceProof
from reconcile.log import EMPTY_ROOT, MAX_SIZE, MerkleLog, leaf_hash, node_hash, verify_consistency, verify_inclusion
from reconcile.salts import Salts
from reconcile.statetree import OpenedCell, StateTree, verify_cell
from reconcile.sumtree import EMPTY, MAX_AMOUNT, MAX_COUNT, SumNode, SumTree, verify_sum
from tests.reconcile.test_sumtree import led_to

SALTS = Salts(1, bytes(range(32)))
changed = msgspec.structs.replace
Asked = Callable[[], object]


def refused(words: str, ask: Asked) -> None:
    with pytest.raises(LedgerError) as caught:
        ask()
    assert str(caught.value) == words


# -- the log of checkpoints -------------------------------------------------------------------------------------

LEAVES = [leaf_hash(bytes([number])) for number in range(3)]
LOG = MerkleLog(LEAVES)
ROOT = LOG.root()
PATH, BRIDGE = LOG.prove_inclusion(2), LOG.prove_consistency(1)
OTHER = bytes(32)


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        ("log: a leaf hash of 5 bytes: a hash has 32", lambda: LOG.append_hash(b"short")),
        ("log: index 3: a log of 3 leaves has no such leaf", lambda: LOG.leaf_hash_at(3)),
        ("log: index -1: a log of 3 leaves has no such leaf", lambda: LOG.leaf_hash_at(-1)),
        ("log: size 4: the log has 3 leaves", lambda: LOG.root(4)),
        ("log: size -1: the log has 3 leaves", lambda: LOG.root(-1)),
        ("log: size 4: the log has 3 leaves", lambda: LOG.prove_inclusion(0, 4)),
        ("log: index 2: a log of 2 leaves has no such leaf", lambda: LOG.prove_inclusion(2, 2)),
        ("log: index -1: a log of 3 leaves has no such leaf", lambda: LOG.prove_inclusion(-1)),
        ("log: size 4: the log has 3 leaves", lambda: LOG.prove_consistency(0, 4)),
        ("log: old size 3: not within 0..2", lambda: LOG.prove_consistency(3, 2)),
        ("log: old size -1: not within 0..3", lambda: LOG.prove_consistency(-1)),
    ],
)
def test_the_log_names_what_it_does_not_hold(words: str, ask: Asked) -> None:
    refused(words, ask)


@pytest.mark.parametrize(
    ("why", "given"),
    [
        ("there is no leaf 3 in a log of 3 leaves", (LEAVES[2], 3, 3, PATH, ROOT)),
        ("there is no leaf -1 in a log of 3 leaves", (LEAVES[2], -1, 3, PATH, ROOT)),
        ("there is no leaf 0 in a log of 0 leaves", (LEAVES[2], 0, 0, (), EMPTY_ROOT)),
        (f"there is no leaf 0 in a log of {MAX_SIZE + 1} leaves", (LEAVES[0], 0, MAX_SIZE + 1, (OTHER,) * 64, ROOT)),
        ("a hash of 31 bytes instead of 32", (LEAVES[2][1:], 2, 3, PATH, ROOT)),
        ("a hash of 31 bytes instead of 32", (LEAVES[2], 2, 3, (PATH[0][1:],), ROOT)),
        ("a hash of 33 bytes instead of 32", (LEAVES[2], 2, 3, PATH, ROOT + b"0")),
        ("2 nodes where leaf 2 of 3 takes 1", (LEAVES[2], 2, 3, (*PATH, OTHER), ROOT)),
        ("0 nodes where leaf 2 of 3 takes 1", (LEAVES[2], 2, 3, (), ROOT)),
        ("leaf 2 leads to another root than the one given", (LEAVES[2], 2, 3, PATH, OTHER)),
    ],
)
def test_an_inclusion_proof_that_fails_says_why(
    why: str, given: tuple[bytes, int, int, tuple[bytes, ...], bytes]
) -> None:
    refused(f"inclusion proof: {why}", lambda: verify_inclusion(*given))


@pytest.mark.parametrize(
    ("why", "given"),
    [
        ("a log does not go from 4 leaves to 3", (4, ROOT, 3, ROOT, ())),
        ("a log does not go from -1 leaves to 3", (-1, ROOT, 3, ROOT, ())),
        (f"a log does not go from 1 leaves to {MAX_SIZE + 1}", (1, ROOT, MAX_SIZE + 1, ROOT, ())),
        ("a hash of 31 bytes instead of 32", (1, LEAVES[0][1:], 3, ROOT, BRIDGE)),
        ("a hash of 31 bytes instead of 32", (1, LEAVES[0], 3, ROOT[1:], BRIDGE)),
        ("a hash of 31 bytes instead of 32", (1, LEAVES[0], 3, ROOT, (BRIDGE[0], BRIDGE[1][1:]))),
        ("the root of an empty log is not the hash of nothing", (0, OTHER, 3, ROOT, ())),
        ("the root of an empty log is not the hash of nothing", (0, OTHER, 0, OTHER, ())),
        ("1 nodes where none is called for", (0, EMPTY_ROOT, 3, ROOT, (OTHER,))),
        ("1 nodes where none is called for", (3, ROOT, 3, ROOT, (OTHER,))),
        ("two roots for one size, 3", (3, ROOT, 3, OTHER, ())),
        ("1 nodes where 1 to 3 takes 2", (1, LEAVES[0], 3, ROOT, BRIDGE[:1])),
        ("3 nodes where 1 to 3 takes 2", (1, LEAVES[0], 3, ROOT, (*BRIDGE, OTHER))),
        ("it does not lead to the root at 3", (1, LEAVES[0], 3, OTHER, BRIDGE)),
        ("it does not lead to the root at 3", (1, OTHER, 3, ROOT, BRIDGE)),
    ],
)
def test_a_consistency_proof_that_fails_says_why(
    why: str, given: tuple[int, bytes, int, bytes, tuple[bytes, ...]]
) -> None:
    refused(f"consistency proof: {why}", lambda: verify_consistency(*given))


def test_a_consistency_proof_that_does_not_start_from_the_old_root_says_so() -> None:
    log = MerkleLog([*LEAVES, leaf_hash(b"3")])
    path = log.prove_consistency(3)
    verify_consistency(3, ROOT, 4, log.root(), path)
    refused(
        "consistency proof: it does not start from the old root at 3",
        lambda: verify_consistency(3, OTHER, 4, log.root(), path),
    )


def test_a_log_may_be_as_large_as_its_sizes_can_say() -> None:
    root = LEAVES[0]
    for _ in range(63):
        root = node_hash(root, OTHER)
    verify_inclusion(LEAVES[0], 0, MAX_SIZE, (OTHER,) * 63, root)
    verify_consistency(1, LEAVES[0], MAX_SIZE, root, (OTHER,) * 63)
    verify_consistency(MAX_SIZE, root, MAX_SIZE, root, ())


# -- the state tree and its ICS-23 proofs -----------------------------------------------------------------------

KEY, VALUE = b"key", b"value"
TURN = ics23.key_hash(KEY)[0] >> 7
"""Which child of the root the key's leaf is."""


def steps(depth: int) -> tuple[InnerOp, ...]:
    """A way of ``depth`` levels up from where the key stands, past empty siblings."""
    return ics23.existence(KEY, VALUE, (EMPTY_CHILD,) * depth).path


def over(path: tuple[InnerOp, ...]) -> bytes:
    """The root that a way from the key's leaf leads to."""
    hashed = ics23.leaf_hash(KEY, VALUE)
    for step in path:
        hashed = hashlib.sha256(step.prefix + hashed + step.suffix).digest()
    return hashed


def exists(path: tuple[InnerOp, ...], key: bytes = KEY, value: bytes = VALUE, root: bytes | None = None) -> Asked:
    proof = ExistenceProof(key, value, path)
    return lambda: ics23.verify_existence(proof, key, value, over(path) if root is None else root)


NOT_INNER = "is not an inner node of a sparse Merkle tree"


@pytest.mark.parametrize(
    ("why", "ask"),
    [
        (
            "it is about another key or value",
            lambda: ics23.verify_existence(ExistenceProof(b"x", VALUE, ()), KEY, VALUE, OTHER),
        ),
        (
            "it is about another key or value",
            lambda: ics23.verify_existence(ExistenceProof(KEY, b"x", ()), KEY, VALUE, OTHER),
        ),
        ("an empty key or value proves nothing", exists((), key=b"")),
        ("an empty key or value proves nothing", exists((), value=b"")),
        ("257 levels are more than 256", exists((*steps(256), InnerOp(b"\x01", EMPTY_CHILD)))),
        (f"step 1 {NOT_INNER}", exists((steps(2)[0], InnerOp(b"\x00", EMPTY_CHILD)))),
        (f"step 0 {NOT_INNER}", exists((InnerOp(b"\x01", EMPTY_CHILD[1:]),))),
        (f"step 0 {NOT_INNER}", exists((InnerOp(b"\x01" + EMPTY_CHILD, b"0"),))),
        (f"step 0 {NOT_INNER}", exists((InnerOp(b"\x01", b""),))),
        (f"step 0 {NOT_INNER}", exists((InnerOp(b"\x01" + EMPTY_CHILD + b"0", b""),))),
        (
            "step 0 turns away from where the key stands",
            exists((InnerOp(b"\x01", OTHER) if TURN else InnerOp(b"\x01" + OTHER, b""),)),
        ),
        ("it leads to another root than the one given", exists(steps(3), root=OTHER)),
    ],
)
def test_a_proof_of_existence_that_fails_says_why(why: str, ask: Asked) -> None:
    refused(f"existence proof: {why}", ask)


@pytest.mark.parametrize("depth", [0, 1, 255, 256])
def test_a_leaf_may_stand_as_deep_as_its_key_has_bits(depth: int) -> None:
    exists(steps(depth))()


def eight_leaves() -> tuple[StateTree, list[ExistenceProof]]:
    tree = StateTree(SALTS, {CellName("position", f"A{number}"): b"1" for number in range(8)})
    proofs = [
        ics23.existence(key, value, tree._radix.siblings(ics23.key_hash(key))) for key, value in tree.commitments()
    ]
    return tree, proofs


def absent(key: bytes, left: ExistenceProof | None, right: ExistenceProof | None, root: bytes) -> Asked:
    return lambda: ics23.verify_non_existence(NonExistenceProof(key, left, right), key, root)


def test_a_proof_of_absence_that_fails_says_why() -> None:
    tree, proofs = eight_leaves()
    first, second, *_, before_last, last = proofs
    gone, root, where = first.key, tree.root, "non-existence proof"
    about_another = NonExistenceProof(b"x", first, second)
    refused(f"{where}: it is about another key", lambda: ics23.verify_non_existence(about_another, gone, root))
    refused(f"{where}: it shows no neighbour", absent(gone, None, None, root))
    # A leaf is no neighbour of its own key, on either side, and none on the wrong side.
    for left in (first, second):
        refused(f"{where}: the left neighbour is not left of the key", absent(gone, left, None, root))
    for right in (last, before_last):
        refused(f"{where}: the right neighbour is not right of the key", absent(last.key, None, right, root))
    refused(f"{where}: its two leaves are not neighbours", absent(second.key, first, last, root))
    refused(f"{where}: its left leaf is not the last of the tree", absent(last.key, first, None, root))
    refused(f"{where}: its right leaf is not the first of the tree", absent(gone, None, last, root))
    refused("existence proof: it leads to another root than the one given", absent(second.key, first, last, OTHER))


def encoded(*fields: tuple[int, bytes]) -> bytes:
    return b"".join(ics23._field(number, body) for number, body in fields)


STEP = b"\x08\x01" + encoded((2, b"\x01"), (3, OTHER))
LEAF = ((1, KEY), (2, VALUE), (3, ics23._LEAF_OP))
NO_EXISTENCE = "its fields are not those of an existence proof"
NO_ABSENCE = "its fields are not those of a non-existence proof"
NO_STEP = "a step is not a SHA-256 inner node"
CUT_OFF = "is cut off, or not of bytes"
NOT_CANONICAL = "its encoding is not the canonical one of a sparse Merkle tree proof"


@pytest.mark.parametrize(
    ("why", "raw"),
    [
        (f"{(1 << 16) + 1} bytes are more than {1 << 16}", bytes((1 << 16) + 1)),
        ("it is neither an existence nor a non-existence proof", b""),
        ("it is neither an existence nor a non-existence proof", encoded((3, b""))),
        ("it is neither an existence nor a non-existence proof", encoded((1, encoded(*LEAF)), (2, b""))),
        (NO_ABSENCE, encoded((2, encoded((1, KEY))))),
        (NO_ABSENCE, encoded((2, encoded((2, encoded(*LEAF)), (1, KEY))))),
        (NO_EXISTENCE, encoded((1, encoded(*LEAF[:2])))),
        (NO_EXISTENCE, encoded((1, encoded(*LEAF, (5, STEP))))),
        (NO_EXISTENCE, encoded((2, encoded((1, KEY), (2, b""))))),
        (NO_STEP, encoded((1, encoded(*LEAF, (4, b"\x08\x02" + STEP[2:]))))),
        (NO_STEP, encoded((1, encoded(*LEAF, (4, b"\x08\x01"))))),
        (NO_STEP, encoded((1, encoded(*LEAF, (4, b"\x08\x01" + encoded((3, OTHER))))))),
        (NOT_CANONICAL, encoded((1, encoded(*LEAF[:2], (3, b"another hash"))))),
        (NOT_CANONICAL, encoded((1, encoded(*LEAF, (4, STEP[:2] + encoded((2, b"\x01"), (3, b""))))))),
        ("a length at byte 1 does not end", b"\x0a"),
        ("a length at byte 2 does not end", b"\x0a\x80"),
        ("a length at byte 6 does not end", b"\x0a\x80\x80\x80\x80\x80\x00"),
        (f"the field before byte 2 {CUT_OFF}", b"\x0a\x01"),
        (f"the field before byte 2 {CUT_OFF}", b"\x08\x00"),
    ],
)
def test_bytes_that_are_no_proof_are_told_why(why: str, raw: bytes) -> None:
    refused(f"ICS-23 proof: {why}", lambda: ics23.decode(raw))


def test_a_proof_may_be_as_long_as_it_may_be() -> None:
    room = ics23.MAX_PROOF_BYTES - len(ExistenceProof(KEY, bytes(ics23.MAX_PROOF_BYTES - 64), ()).encode())
    proof = ExistenceProof(KEY, bytes(ics23.MAX_PROOF_BYTES - 64 + room), ())
    assert len(proof.encode()) == ics23.MAX_PROOF_BYTES
    assert ics23.decode(proof.encode()) == proof


CELL = CellName("collateral", "A", "USDT")
TREE = StateTree(SALTS, {CELL: b"1"})


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        (f"state tree: {CELL}: it commits to no such cell and value", lambda: TREE.prove(CELL, b"2")),
        (f"state tree: {CELL}: there is such a cell", lambda: TREE.prove_absent(CELL)),
        (f"state tree: {CELL}: an empty tree is shown by its root", lambda: StateTree(SALTS).prove_absent(CELL)),
        ("state tree: 0 cells: this tree commits to others", lambda: TREE.resalted(Salts(2, SALTS.secret), {})),
    ],
)
def test_the_state_tree_names_what_it_does_not_commit_to(words: str, ask: Asked) -> None:
    refused(words, ask)


def test_a_cell_that_does_not_verify_is_named_with_its_subject_where_it_has_one() -> None:
    cell = TREE.prove(CELL, b"1")
    short = changed(cell, salt=cell.salt[1:])
    refused("cell collateral USDT: a salt of 31 bytes instead of 32", lambda: verify_cell(short, TREE.root))
    other = changed(cell, value=b"2")
    why = "existence proof: it is about another key or value"
    refused(f"cell collateral USDT: {why}", lambda: verify_cell(other, TREE.root))
    bare = OpenedCell(CellName("account", "A"), b"1", cell.salt, cell.proof)
    refused(f"cell account: {why}", lambda: verify_cell(bare, TREE.root))


# -- the sum tree -----------------------------------------------------------------------------------------------

OWED = SumTree("USDT", SALTS, {"A": 5, "B": 7, "C": 9})
SHOWN = OWED.prove("A")


@pytest.mark.parametrize("total", [0, MAX_AMOUNT])
@pytest.mark.parametrize("count", [1, MAX_COUNT])
def test_a_subtree_may_owe_and_count_as_much_as_its_fields_can_say(total: int, count: int) -> None:
    SumNode(b"x" * 32, total, count).check("here")


@pytest.mark.parametrize(
    ("why", "node"),
    [
        ("a hash of 31 bytes instead of 32", SumNode(bytes(31), 0, 0)),
        ("its total or count is out of range", SumNode(b"x" * 32, -1, 1)),
        ("its total or count is out of range", SumNode(b"x" * 32, MAX_AMOUNT + 1, 1)),
        ("its total or count is out of range", SumNode(b"x" * 32, 1, -1)),
        ("its total or count is out of range", SumNode(b"x" * 32, 1, MAX_COUNT + 1)),
        ("an empty side owes nothing to nobody, and only an empty one", SumNode(bytes(32), 1, 0)),
        ("an empty side owes nothing to nobody, and only an empty one", SumNode(bytes(32), 1, 1)),
        ("an empty side owes nothing to nobody, and only an empty one", SumNode(b"x" * 32, 0, 0)),
    ],
)
def test_what_can_be_no_subtree_is_told_why(why: str, node: SumNode) -> None:
    refused(f"here: {why}", lambda: node.check("here"))


def sums(depth: int) -> tuple[SumNode, ...]:
    return (EMPTY,) * depth


@pytest.mark.parametrize(
    ("why", "proof"),
    [
        (": its salt or amount is out of range", changed(SHOWN, salt=SHOWN.salt[1:])),
        (": its salt or amount is out of range", changed(SHOWN, amount=-1)),
        (": its salt or amount is out of range", changed(SHOWN, amount=MAX_AMOUNT + 1)),
        (": 257 levels are more than 256", changed(SHOWN, siblings=sums(257))),
        (", level 1: a hash of 0 bytes instead of 32", changed(SHOWN, siblings=(EMPTY, SumNode(b"", 0, 0)))),
        (
            f": sum of liabilities: {MAX_AMOUNT + 5} is outside 0..{MAX_AMOUNT}",
            changed(SHOWN, siblings=(SumNode(b"x" * 32, MAX_AMOUNT, 1),)),
        ),
        (
            f": count of liabilities: {MAX_COUNT + 1} is outside 0..{MAX_COUNT}",
            changed(SHOWN, siblings=(SumNode(b"x" * 32, 0, MAX_COUNT),)),
        ),
        (": it leads to another root or total than the one given", changed(SHOWN, siblings=SHOWN.siblings[1:])),
        (": it leads to another root or total than the one given", changed(SHOWN, siblings=sums(256))),
    ],
)
def test_a_liability_that_does_not_verify_says_where_and_why(why: str, proof: object) -> None:
    refused(f"liability of USDT to A{why}", partial(verify_sum, proof, OWED.root))


def test_an_account_may_stand_as_deep_as_its_place_has_bits() -> None:
    deep = changed(SHOWN, siblings=sums(256))
    verify_sum(deep, led_to(deep))


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        ("liabilities of USDT: D: the account is not in the tree", lambda: OWED.prove("D")),
        (f"liability of USDT to D: -1 is outside 0..{MAX_AMOUNT}", lambda: OWED.update({"D": -1})),
        (
            f"liability of USDT to D: {MAX_AMOUNT + 1} is outside 0..{MAX_AMOUNT}",
            lambda: OWED.update({"D": MAX_AMOUNT + 1}),
        ),
    ],
)
def test_the_sum_tree_names_what_it_does_not_owe(words: str, ask: Asked) -> None:
    refused(words, ask)
