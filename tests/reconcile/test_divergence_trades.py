"""Single trades against a statement's lines: by id, one against many, and the facts that would close what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.ledger.decimals import to_minor
from reconcile.divergence.corrections import Units, trade_correction
from reconcile.divergence.trades import Trade, match_trades

UNITS = Units(2, 3, {"USDT": 8})
HOUR_US = 3_600_000_000


def trade(id_: object, qty: int = 1_000, price: int = 100, **more: object) -> Trade:
    told: dict[str, object] = {"account": "A", "instrument": "X", "side": 1, "fee_asset": "USDT", "venue": "v"}
    return Trade(id=str(id_), qty=qty, price=price, **{**told, **more})  # type: ignore[arg-type]


trades = st.builds(
    trade,
    st.integers(0, 8),
    st.integers(1, 4),
    st.integers(1, 2),
    fee=st.integers(0, 1),
    side=st.sampled_from((1, -1)),
    account=st.sampled_from(("A", "B")),
    ts_us=st.integers(1, 3),
)
lists = st.lists(trades, max_size=8, unique_by=lambda one: one.id)


@given(lists)
def test_trades_agree_with_themselves_in_any_order(some: list[Trade]) -> None:
    matched = match_trades(some, reversed(some))
    assert (matched.gaps, matched.same) == ((), len(some))


@given(lists, lists)
def test_every_trade_takes_part_once_and_none_is_lost(ours: list[Trade], theirs: list[Trade]) -> None:
    matched = match_trades(ours, theirs)
    left = [one for gap in matched.gaps for one in gap.ours]
    right = [one for gap in matched.gaps for one in gap.theirs]
    assert len(left) == len(set(left))
    assert set(left) <= set(ours)
    assert set(right) <= set(theirs)
    assert matched.same + len(left) >= len(ours) - matched.split * len(ours)
    by_id = {one.id: one for one in theirs}
    for one in ours:
        if one.id in by_id and one == by_id[one.id]:
            assert one not in left


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.booleans())
def test_a_fill_listed_in_parts_is_one_fill_and_its_fees_are_held_against_it(
    parts: list[int], whole_is_ours: bool
) -> None:
    whole = trade("whole", sum(parts), fee=len(parts))
    split = [trade(f"p{n}", qty, fee=1, ts_us=n) for n, qty in enumerate(parts)]
    matched = match_trades(*(([whole], split) if whole_is_ours else (split, [whole])))
    assert (matched.gaps, matched.split) == ((), 1)
    dearer = trade("whole", sum(parts), fee=len(parts) + 1)
    (gap,) = match_trades(*(([dearer], split) if whole_is_ours else (split, [dearer]))).gaps
    assert gap.field == "fees"


def test_parts_of_another_hour_account_or_price_are_not_parts() -> None:
    whole = trade("whole", 4, ts_us=1)
    for parts in (
        [trade("a", 2, ts_us=HOUR_US), trade("b", 2, ts_us=HOUR_US)],
        [trade("a", 2, account="B"), trade("b", 2, account="B")],
        [trade("a", 2, price=101), trade("b", 2, price=100)],
    ):
        assert [gap.field for gap in match_trades([whole], parts).gaps] == ["fill"] * 3


def test_like_terms_under_another_id_are_two_trades() -> None:
    assert [gap.field for gap in match_trades([trade("1")], [trade("2")]).gaps] == ["fill", "fill"]


def test_lines_that_name_the_order_are_the_fill_by_that_id() -> None:
    parts = [trade("e1", 400, group="o1"), trade("e2", 500, group="o1")]
    (gap,) = match_trades([trade("o1", 1_000)], parts).gaps
    assert (gap.field, len(gap.theirs)) == ("qty", 2)


def test_a_wrong_fee_is_put_right_by_taking_the_fill_back_and_recording_it_anew() -> None:
    (gap,) = match_trades([trade(7, fee=100)], [trade(7, fee=250)]).gaps
    correction = trade_correction(gap, UNITS, "v")
    bust, fill = correction.facts
    assert (bust["kind"], bust["trade_id"], bust["fee"], bust.get("leg")) == ("bust", "7", "0.00000100", None)
    assert (fill["kind"], fill["trade_id"], fill["fee"], fill["leg"][:4]) == ("fill", "7", "0.00000250", "fix-")
    assert trade_correction(gap, UNITS, "v") == correction


class Ledger:
    """Fills and busts as the ledger counts them: each id once, whatever it is told again."""

    def __init__(self, fills: list[Trade]) -> None:
        self.fills = {self._key(one): one for one in fills}
        self.busted: set[tuple[object, ...]] = set()
        self.recorded = 0

    @staticmethod
    def _key(one: Trade) -> tuple[object, ...]:
        return one.venue, one.id_space, one.instrument, one.id, one.leg

    def live(self) -> list[Trade]:
        return [one for key, one in self.fills.items() if key not in self.busted]

    def taken_back(self) -> Counter[str]:
        return Counter(str(key[3]) for key in self.busted)

    def record(self, fact: Mapping[str, Any]) -> None:
        told = {key: fact[key] for key in ("account", "instrument", "venue", "id_space")}
        amounts = {"qty": to_minor(fact["qty"], 3), "price": to_minor(fact["price"], 2)}
        fee = to_minor(fact["fee"], 8, signed=True) if "fee" in fact else 0
        one = Trade(
            id=fact["trade_id"],
            side=1 if fact["side"] == "buy" else -1,
            fee=fee,
            fee_asset=fact.get("fee_asset", ""),
            leg=fact.get("leg", ""),
            ts_us=fact.get("ts_us", 0),
            **told,
            **amounts,
        )
        if fact["kind"] == "bust":
            assert self.fills[self._key(one)] == one, "a bust carries the full terms of its fill"
            self.recorded += self._key(one) not in self.busted
            self.busted.add(self._key(one))
        else:
            self.recorded += self._key(one) not in self.fills
            self.fills.setdefault(self._key(one), one)

    def correct(self, theirs: list[Trade]) -> None:
        for gap in match_trades(self.live(), theirs).gaps:
            for fact in trade_correction(gap, UNITS, "v", self.taken_back()).facts:
                self.record(fact)


@given(lists, st.lists(lists, min_size=1, max_size=3))
def test_corrections_make_the_ledger_say_what_each_statement_says_and_once_is_enough(
    ours: list[Trade], statements: list[list[Trade]]
) -> None:
    ledger = Ledger(ours)
    for theirs in statements:
        ledger.correct(theirs)
        assert match_trades(ledger.live(), theirs).gaps == ()
        recorded = ledger.recorded
        ledger.correct(theirs)
        assert ledger.recorded == recorded


def test_a_fill_that_was_taken_back_before_comes_again_in_a_leg_of_its_own() -> None:
    (gap,) = match_trades([], [trade(7)]).gaps
    assert "leg" not in trade_correction(gap, UNITS, "v").facts[0]
    assert trade_correction(gap, UNITS, "v", {"7": 1}).facts[0]["leg"].startswith("fix-")
