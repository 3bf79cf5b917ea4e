"""The sum tree: totals equal plain sums, and the forgery that works on total-only hashes does not work here."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.errors import AmountOutOfRange, BadInput, InvalidProof
from reconcile import sumtree
from reconcile.salts import Salts
from reconcile.sumtree import EMPTY, MAX_AMOUNT, SumNode, SumProof, SumTree, liabilities_digest, verify_sum

SALTS = Salts(1, bytes(range(32)))
ACCOUNTS = [f"A{i:02d}" for i in range(16)]
AMOUNT = st.integers(0, 2**100)
AMOUNTS = st.dictionaries(st.sampled_from(ACCOUNTS), AMOUNT, max_size=16)
CHANGES = st.dictionaries(st.sampled_from(ACCOUNTS), st.none() | AMOUNT, max_size=16)


def tree_of(amounts: dict[str, int]) -> SumTree:
    return SumTree("USDT", SALTS, amounts)


@given(AMOUNTS, st.lists(CHANGES, max_size=3))
def test_the_root_owes_the_plain_sum_whatever_the_history(
    amounts: dict[str, int], rounds: list[dict[str, int | None]]
) -> None:
    tree = tree_of(amounts)
    for changes in rounds:
        tree = tree.update(changes)
        amounts = {name: n for name, n in {**amounts, **changes}.items() if n is not None}
    assert (tree.root.total, tree.root.count) == (sum(amounts.values()), len(amounts))
    assert tree.root == tree_of(dict(sorted(amounts.items(), reverse=True))).root
    assert tree.update(amounts) is tree


@given(AMOUNTS.filter(bool), st.data())
def test_every_account_is_provable_in_the_total_and_no_change_is(amounts: dict[str, int], data: st.DataObject) -> None:
    tree = tree_of(amounts)
    account = data.draw(st.sampled_from(sorted(amounts)))
    proof = tree.prove(account)
    assert proof.amount == amounts[account]
    verify_sum(proof, tree.root)
    root = tree.root
    change = msgspec.structs.replace
    wrong = [
        (change(proof, amount=proof.amount + 1), root),
        (change(proof, amount=-1), root),
        (change(proof, amount=MAX_AMOUNT + 1), root),
        (change(proof, account="B"), root),
        (change(proof, asset="BTC"), root),
        (change(proof, salt=bytes(32)), root),
        (change(proof, salt=b""), root),
        (change(proof, siblings=(*proof.siblings, EMPTY)), root),
        (change(proof, siblings=(*proof.siblings, root)), root),
        (proof, change(root, total=root.total + 1)),
        (proof, change(root, count=root.count + 1)),
        (proof, change(root, hash=bytes(32))),
    ]
    if proof.siblings:
        place = data.draw(st.integers(0, len(proof.siblings) - 1))
        before, sibling, after = proof.siblings[:place], proof.siblings[place], proof.siblings[place + 1 :]
        wrong.append((change(proof, siblings=(*before, *after)), root))
        wrong += [
            (change(proof, siblings=(*before, other, *after)), root)
            for other in (
                change(sibling, total=sibling.total + 1),
                change(sibling, total=-1),
                change(sibling, count=sibling.count + 1),
                change(sibling, hash=hashlib.sha256(sibling.hash).digest()),
                change(sibling, hash=b""),
                change(sibling, total=MAX_AMOUNT),
            )
        ]
    for bad, against in wrong:
        with pytest.raises(InvalidProof):
            verify_sum(bad, against)


# -- the forgery ------------------------------------------------------------------------------------------


def total_only(left: SumNode, right: SumNode, total: int) -> SumNode:
    """A node that binds its own total and both children's hashes, but not their totals."""
    raw = b"\x01" + total.to_bytes(16, "big") + left.hash + right.hash
    return SumNode(hashlib.sha256(raw).digest(), total, left.count + right.count)


def test_the_classic_forgery_works_when_a_node_binds_only_its_total() -> None:
    rich, poor = SumNode(b"r" * 32, 900, 1), SumNode(b"p" * 32, 100, 1)
    # The operator owes 1000 and publishes 900: to each the other's part is shown as what is left of 900.
    published = total_only(rich, poor, 900)
    for mine, other in ((rich, poor), (poor, rich)):
        shown = msgspec.structs.replace(other, total=900 - mine.total)
        left, right = (mine, shown) if mine is rich else (shown, mine)
        assert total_only(left, right, left.total + right.total) == published


def test_the_classic_forgery_fails_here() -> None:
    # The same lie: 900 is published, as the way of the rich one with the other's part cut to nothing leads to it.
    tree = tree_of({"rich": 900, "poor": 100})
    rich, poor = (with_other(tree.prove(account), 900) for account in ("rich", "poor"))
    published = led_to(rich)
    assert published.total == 900
    verify_sum(rich, published)
    with pytest.raises(InvalidProof, match="another root"):
        verify_sum(poor, published)


def with_other(proof: SumProof, total: int) -> SumProof:
    """The proof with its one sibling shown as owed whatever is left of ``total``."""
    siblings = tuple(
        msgspec.structs.replace(s, total=max(0, total - proof.amount)) if s.count else s for s in proof.siblings
    )
    if proof.amount == 100:
        assert any(s.total == 800 for s in siblings)
    return msgspec.structs.replace(proof, siblings=siblings)


def led_to(proof: SumProof) -> SumNode:
    """Where a path leads, whatever its numbers."""
    place = sumtree._place(proof.salt, proof.asset, proof.account)
    node = sumtree._leaf(place, proof.amount)
    for level, sibling in enumerate(proof.siblings):
        turn = int.from_bytes(place, "big") >> (256 - len(proof.siblings) + level) & 1
        node = sumtree._joined(sibling, node) if turn else sumtree._joined(node, sibling)
    return node


# -- bounds -----------------------------------------------------------------------------------------------


def test_no_sum_reaches_the_bound_or_falls_below_nothing() -> None:
    full = tree_of({"a": MAX_AMOUNT})
    assert full.root.total == MAX_AMOUNT
    verify_sum(full.prove("a"), full.root)
    for changes in ({"b": 1}, {"b": -1}, {"b": MAX_AMOUNT + 1}, {"b": MAX_AMOUNT, "c": MAX_AMOUNT}):
        with pytest.raises(AmountOutOfRange):
            full.update(changes)
    assert full.update({"b": 0}).root.count == 2
    # Wrapping around 2**128 on the way up is refused to a prover too.
    proof = full.update({"b": 0}).prove("b")
    wrapped = tuple(msgspec.structs.replace(s, total=MAX_AMOUNT) if s.count else s for s in proof.siblings)
    with pytest.raises(InvalidProof, match="outside"):
        verify_sum(msgspec.structs.replace(proof, amount=1, siblings=wrapped), full.root)


def test_padding_owes_nothing_and_only_padding_is_empty() -> None:
    assert tree_of({}).root == EMPTY
    SumNode(b"x" * 32, 0, 1).check("here")
    EMPTY.check("here")
    for node in (SumNode(bytes(32), 1, 0), SumNode(bytes(32), 0, 1), SumNode(b"x" * 32, 0, 0)):
        with pytest.raises(InvalidProof):
            node.check("here")


def test_the_tree_hides_whose_place_is_whose() -> None:
    tree = tree_of({"a": 1, "b": 2})
    assert SumTree("USDT", Salts(1, bytes(32)), {"a": 1, "b": 2}).root != tree.root
    assert tree.prove("a").salt != tree.prove("b").salt
    with pytest.raises(BadInput):
        tree.prove("c")


def test_the_roots_of_all_assets_have_one_digest() -> None:
    one, two = tree_of({"a": 1}).root, tree_of({"a": 2}).root
    assert liabilities_digest({"X": one, "Y": two}) == liabilities_digest({"Y": two, "X": one})
    assert liabilities_digest({"X": one, "Y": two}) != liabilities_digest({"X": two, "Y": one})
    assert liabilities_digest({}) != liabilities_digest({"X": EMPTY})
