"""The state tree against a model written from the definition, and its proofs against whoever changes them."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import BadInput, InvalidProof
from crdtledger.ledger.identity import digest
from reconcile import ics23, statetree
from reconcile.cells import CellName, ValueForm, decode_value, encode_value, manifest_name, manifest_value
from reconcile.ics23 import ExistenceProof, InnerOp, NonExistenceProof
from reconcile.rowhashes import Bytes
from reconcile.salts import Salts
from reconcile.statetree import EMPTY_ROOT, OpenedCell, StateTree, verify_absent, verify_cell

SALTS = Salts(1, bytes(range(32)))
NAMES = [CellName(kind, f"A{i:02d}", asset) for kind in ("collateral", "position") for i in range(12) for asset in "XY"]
CELLS = st.dictionaries(st.sampled_from(NAMES), st.binary(min_size=1, max_size=4), max_size=30)
CHANGES = st.dictionaries(st.sampled_from(NAMES), st.none() | st.binary(min_size=1, max_size=4), max_size=30)


def plain_root(cells: dict[CellName, bytes]) -> bytes:
    """SmtSpec over the cells, from its definition: no tree, only sets split by bits."""
    leaves = {}
    for name, value in cells.items():
        key = digest("cell", name.kind.encode(), name.account.encode(), name.subject.encode())
        salt = hashlib.blake2b((1).to_bytes(4, "big") + key + value, key=SALTS.secret, digest_size=32, person=b"cell")
        committed = digest("cell-value", salt.digest(), value)
        path = hashlib.sha256(key).digest()
        leaves[path] = hashlib.sha256(b"\x00" + path + hashlib.sha256(committed).digest()).digest()

    def root(paths: list[bytes], depth: int) -> bytes:
        if not paths:
            return bytes(32)
        if len(paths) == 1:
            return leaves[paths[0]]
        sides: tuple[list[bytes], list[bytes]] = ([], [])
        for path in paths:
            sides[path[depth // 8] >> (7 - depth % 8) & 1].append(path)
        return hashlib.sha256(b"\x01" + root(sides[0], depth + 1) + root(sides[1], depth + 1)).digest()

    return root(list(leaves), 0)


def applied(cells: dict[CellName, bytes], changes: dict[CellName, bytes | None]) -> dict[CellName, bytes]:
    return {name: value for name, value in {**cells, **changes}.items() if value is not None}


@given(CELLS, st.lists(CHANGES, max_size=4))
def test_the_root_is_the_definitions_after_every_update(
    cells: dict[CellName, bytes], rounds: list[dict[CellName, bytes | None]]
) -> None:
    tree = StateTree(SALTS, cells)
    assert tree.root == plain_root(cells)
    for changes in rounds:
        before, root = tree, tree.root
        cells = applied(cells, changes)
        tree = tree.update(changes)
        assert tree.root == plain_root(cells)
        assert before.root == root
        assert len(list(tree.commitments())) == len(cells)


@given(CELLS, CHANGES, st.randoms(use_true_random=False))
def test_order_and_history_leave_no_trace(
    cells: dict[CellName, bytes], extra: dict[CellName, bytes | None], random: st.DataObject
) -> None:
    tree = StateTree(SALTS, cells)
    names = list(extra)
    random.shuffle(names)  # type: ignore[attr-defined]
    wandering = StateTree(SALTS)
    for name in names:
        wandering = wandering.update({name: b"once"})
    wandering = wandering.update(dict.fromkeys(names))
    assert wandering.root == EMPTY_ROOT
    shuffled = list(cells)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for name in shuffled:
        wandering = wandering.update({name: cells[name]})
    assert wandering.root == tree.root


@given(CELLS)
def test_an_update_that_changes_nothing_is_the_same_tree(cells: dict[CellName, bytes]) -> None:
    tree = StateTree(SALTS, cells)
    assert tree.update(cells) is tree
    assert tree.update({name: None for name in NAMES if name not in cells}) is tree


def test_an_update_costs_the_cells_changed_not_the_cells_held(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {CellName("position", f"A{i}", "X"): b"1" for i in range(3000)}
    calls = 0

    def counted(left: Bytes, right: Bytes) -> Bytes:
        nonlocal calls
        calls += len(left)
        return ics23.inner_hashes(left, right)

    monkeypatch.setattr(statetree, "_LABELS", statetree._LABELS._replace(combine=counted))
    tree = StateTree(SALTS, cells)
    built, calls = calls, 0
    tree.update(dict.fromkeys(list(cells)[:5], b"2"))
    assert built >= 2999
    assert 0 < calls <= 5 * 40


@given(CELLS.filter(bool), st.data())
def test_every_cell_is_provable_and_every_other_is_provably_absent(
    cells: dict[CellName, bytes], data: st.DataObject
) -> None:
    tree = StateTree(SALTS, cells)
    name = data.draw(st.sampled_from(NAMES))
    if name in cells:
        assert name in tree
        cell = tree.prove(name, cells[name])
        verify_cell(cell, tree.root)
        assert ics23.decode(cell.proof.encode()) == cell.proof
        with pytest.raises(BadInput):
            tree.prove_absent(name)
        with pytest.raises(BadInput):
            tree.prove(name, cells[name] + b"0")
        for other in (b"", cells[name] + b"0"):
            with pytest.raises(InvalidProof):
                verify_cell(msgspec.structs.replace(cell, value=other), tree.root)
        with pytest.raises(InvalidProof):
            verify_cell(cell, bytes(32))
        with pytest.raises(InvalidProof):
            verify_cell(msgspec.structs.replace(cell, name=CellName("x", "y")), tree.root)
    else:
        assert name not in tree
        absent = tree.prove_absent(name)
        verify_absent(name, absent, tree.root)
        assert ics23.decode(absent.encode()) == absent
        with pytest.raises(BadInput):
            tree.prove(name, b"1")
        present = data.draw(st.sampled_from(sorted(cells)))
        with pytest.raises(InvalidProof):
            verify_absent(present, msgspec.structs.replace(absent, key=present.key()), tree.root)


@given(CELLS.filter(lambda cells: len(cells) > 2), st.data())
def test_leaves_that_are_not_neighbours_prove_no_absence(cells: dict[CellName, bytes], data: st.DataObject) -> None:
    tree = StateTree(SALTS, cells)
    ordered = [
        ics23.existence(key, value, tree._radix.siblings(ics23.key_hash(key))) for key, value in tree.commitments()
    ]
    place = data.draw(st.integers(1, len(ordered) - 2))
    hidden, before, after = ordered[place].key, ordered[place - 1], ordered[place + 1]
    for left, right in ((before, after), (None, after), (before, None), (None, None)):
        with pytest.raises(InvalidProof):
            ics23.verify_non_existence(NonExistenceProof(hidden, left, right), hidden, tree.root)


def test_every_changed_byte_and_step_of_a_proof_is_refused() -> None:
    cells = dict.fromkeys(NAMES[:20], b"1")
    tree = StateTree(SALTS, cells)
    cell = tree.prove(NAMES[0], b"1")
    proof = cell.proof
    raw = proof.encode()
    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(InvalidProof):
            verify_decoded(changed, cell, tree.root)
        with pytest.raises(InvalidProof):
            ics23.decode(raw[:place])
    steps = proof.path
    for path in (steps[1:], steps[:-1], (*steps, steps[0]), (*steps, InnerOp(b"\x01", bytes(32))), (steps[0], *steps)):
        with pytest.raises(InvalidProof):
            verify_cell(msgspec.structs.replace(cell, proof=ExistenceProof(proof.key, proof.value, path)), tree.root)
    for step in (InnerOp(b"\x00", bytes(32)), InnerOp(b"\x01", bytes(64)), InnerOp(b"\x01", b""), InnerOp(b"", b"")):
        with pytest.raises(InvalidProof, match="not an inner node"):
            ics23.verify_existence(ExistenceProof(b"k", b"v", (step,)), b"k", b"v", bytes(32))
    with pytest.raises(InvalidProof, match="levels"):
        ics23.verify_existence(ExistenceProof(b"k", b"v", (steps[0],) * 257), b"k", b"v", bytes(32))


def test_a_leaf_moved_to_another_place_is_refused() -> None:
    # The reference verifier takes whatever side a step claims. Here the leaf must stand where its key says.
    hashed = ics23.leaf_hash(b"k", b"v")
    turn = ics23.key_hash(b"k")[0] >> 7
    here = InnerOp(b"\x01" + bytes(32), b"") if turn else InnerOp(b"\x01", bytes(32))
    there = InnerOp(b"\x01", bytes(32)) if turn else InnerOp(b"\x01" + bytes(32), b"")
    ics23.verify_existence(
        ExistenceProof(b"k", b"v", (here,)), b"k", b"v", hashlib.sha256(here.prefix + hashed + here.suffix).digest()
    )
    with pytest.raises(InvalidProof, match="turns away"):
        ics23.verify_existence(
            ExistenceProof(b"k", b"v", (there,)),
            b"k",
            b"v",
            hashlib.sha256(there.prefix + hashed + there.suffix).digest(),
        )


@given(CELLS.filter(bool))
def test_a_proof_discloses_its_own_salt_and_no_other(cells: dict[CellName, bytes]) -> None:
    tree = StateTree(SALTS, cells)
    name = sorted(cells)[0]
    cell = tree.prove(name, cells[name])
    shown = cell.proof.encode() + cell.salt
    for other, value in cells.items():
        salt = SALTS.of(b"cell", other.key(), value)
        assert (salt in shown) == (other == name)
    # An old salt of a cell does not open, or confirm a guess of, its next value.
    assert SALTS.of(b"cell", name.key(), b"next") != cell.salt


@given(CELLS)
def test_a_new_secret_changes_every_commitment_and_no_cell(cells: dict[CellName, bytes]) -> None:
    tree = StateTree(SALTS, cells)
    new = Salts(2, SALTS.secret)
    again = tree.resalted(new, cells)
    assert again.root == StateTree(new, cells).root
    assert not {c for _, c in tree.commitments()} & {c for _, c in again.commitments()}
    with pytest.raises(BadInput):
        tree.resalted(new, {**cells, CellName("one", "more"): b"1"})


def test_an_empty_tree_has_a_root_and_no_neighbours() -> None:
    assert StateTree(SALTS).root == EMPTY_ROOT
    with pytest.raises(BadInput, match="empty tree"):
        StateTree(SALTS).prove_absent(NAMES[0])


def test_secrets_are_of_their_size_and_do_not_print() -> None:
    for version, secret in ((0, bytes(32)), (1, bytes(31)), (2**32, bytes(32))):
        with pytest.raises(BadInput):
            Salts(version, secret)
    assert SALTS.secret.hex() not in repr(SALTS)
    assert repr(SALTS.secret) not in repr(SALTS)


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_to_a_decoder_than_be_refused(raw: bytes) -> None:
    for prefix in (b"", b"\x0a", b"\x12", b"\x0a\x10"):
        with pytest.raises(InvalidProof):
            ics23.decode(prefix + raw)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)))
def test_a_value_has_one_spelling(fields: dict[str, str | int]) -> None:
    try:
        raw = encode_value(fields)
    except BadInput:
        assert not all(name.isprintable() and str(value).isprintable() for name, value in fields.items())
        return
    assert decode_value(raw) == {name: str(value) for name, value in fields.items()}
    for other in (raw + b" ", b" " + raw, raw.replace(b":", b": "), b"{" + raw[1:-1] + b"," + raw[1:], raw[:-1]):
        if other != raw:
            with pytest.raises(InvalidProof):
                decode_value(other)


@given(st.binary(max_size=60))
def test_no_bytes_do_worse_to_a_value_than_be_refused(raw: bytes) -> None:
    for body in (raw, b'{"a":"' + raw + b'"}', b'{"a":"\\ud800"}'):
        try:
            fields = decode_value(body)
        except InvalidProof:
            continue
        assert encode_value(fields) == body


def test_a_manifest_names_a_set_of_cells() -> None:
    a, b = CellName("position", "A", "X"), CellName("position", "A", "Y")
    assert manifest_value([a, b]) == manifest_value([b, a])
    assert len({manifest_value(cells) for cells in ([], [a], [b], [a, b])}) == 4
    assert manifest_name("A") == CellName("account", "A", "")


def verify_decoded(raw: bytes, cell: OpenedCell, root: bytes) -> None:
    proof = ics23.decode(raw)
    assert isinstance(proof, ExistenceProof)
    verify_cell(msgspec.structs.replace(cell, proof=proof), root)


@given(
    st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
    st.dictionaries(st.sampled_from("abc%d"), st.integers(), max_size=4),
)
def test_a_form_spells_a_value_as_it_is_spelt_alone(texts: dict[str, str], numbers: dict[str, int]) -> None:
    texts = {name: text for name, text in texts.items() if name not in numbers and "%" not in name}
    numbers = {name: number for name, number in numbers.items() if "%" not in name}
    try:
        plain = encode_value(texts | numbers)
    except BadInput:
        with pytest.raises(BadInput):
            ValueForm(texts, numbers)
        return
    assert ValueForm(texts, numbers).encode(*(numbers[name] for name in sorted(numbers))) == plain


def test_a_form_refuses_what_is_too_long() -> None:
    with pytest.raises(BadInput, match="at most 4096"):
        ValueForm({}, ["a"]).encode(10**4_000 * 10**200)
