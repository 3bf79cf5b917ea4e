"""Fills of many batches read as one say what they say batch by batch, and settle to the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import Body
from crdtledger.ledger.catalog import Place
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.facts import NO_STRING, Bust, Fill, Kind
from crdtledger.ledger.joinedfills import joined, runs
from crdtledger.ledger.reference import instrument_digest
from crdtledger.ledger.settled import SettledState
from crdtledger.ledger.view import View
from tests.crdtledger.settling import any_order, settle_plainly
from tests.crdtledger.worlds import INVERSE, SPOT, Pen, genesis
from tests.reconcile.settlement_worlds import RIVAL, UNHEARD, stories, written

NAMES = ("A", "B", "Ä")
_fills = st.builds(
    Fill,
    venue=st.sampled_from(("V", "W")),
    trade_id=st.integers(0, 3) | st.sampled_from(("x", "y")),
    instrument=st.sampled_from((SPOT.name, INVERSE.name)),
    account=st.sampled_from(NAMES),
    side=st.sampled_from(("buy", "sell")),
    qty=st.integers(1, 9),
    price=st.integers(1, 9),
    fee=st.integers(-2, 2),
    fee_asset=st.sampled_from((None, "USDT", "BTC")),
)
_bodies = st.lists(st.lists(_fills, min_size=1, max_size=4), min_size=1, max_size=6)


class Source:
    """Whatever has a body."""

    def __init__(self, body: Body) -> None:
        self.body = body


def bodies(told: Sequence[Sequence[Fill]]) -> list[Body]:
    """A body of each list, by one pen."""
    pen = Pen(genesis(1), 0)
    return [pen.write(SPOT, INVERSE, *facts).body for facts in told]


def stated(body: Body) -> list[tuple[Any, ...]]:
    """What the rows of a table of fills say, by name."""
    out = []
    for row in body.tables[Kind.FILL]:
        scope = body.scopes[int(row["scope"])]
        fee_asset = None if row["fee_asset"] == NO_STRING else body.strings[int(row["fee_asset"])]
        named = (scope.venue, scope.id_space, scope.leg, body.instruments[scope.instrument], fee_asset)
        plain = [int(row[column]) for column in ("price", "qty", "fee", "ts_us", "side", "flags")]
        out.append((*named, body.strings[int(row["account"])], *plain))
    return out


@given(_bodies, st.data(), st.integers(2, 9))
def test_joined_rows_say_what_they_said(told: list[list[Fill]], data: st.DataObject, most: int) -> None:
    sources = [Source(body) for body in bodies(told)]
    picked = [np.flatnonzero(data.draw(st.lists(st.booleans(), min_size=len(one), max_size=len(one)))) for one in told]
    numbers, rows = np.repeat(np.arange(len(told)), [len(one) for one in picked]), np.concatenate(picked)
    parts = [*joined(Kind.FILL, sources, numbers, rows, most)]
    assert [at for part, _ in parts for at in range(len(rows))[part]] == list(range(len(rows)))
    for part, body in parts:
        assert len(body.tables[Kind.FILL]) == part.stop - part.start
        assert part.stop - part.start <= most or len({*numbers[part].tolist()}) == 1
        keys, contents, words = fact_keys(body, Kind.FILL), fact_contents(body, Kind.FILL), stated(body)
        for number, of in runs(numbers[part]):
            mine, source = rows[part][of], sources[number].body
            high, low = fact_keys(source, Kind.FILL)
            assert (keys[0][of] == high[mine]).all()
            assert (keys[1][of] == low[mine]).all()
            assert (contents[of] == fact_contents(source, Kind.FILL, mine)).all()
            assert words[of] == [stated(source)[row] for row in mine.tolist()]


def finished(view: View, side_by_side: bool) -> View:
    """A settling view whose fills are folded: as it does it, or one batch after the other."""
    if side_by_side:
        view.finish()
    else:
        for number in view._unfolded:
            for kind in (Kind.FILL, Kind.BUST):
                if kind in view.batches[number].body.tables:
                    view.positions.apply(number, kind, view._recordable(number, kind))
    return view


def figures(view: View) -> dict[str, Any]:
    """What a finished view says of its fills, in whichever pieces it says it."""
    positions, out = view.positions, dict[str, Any]()
    for kind in (Kind.FILL, Kind.BUST):
        keys, contents = positions.taken(kind)
        index = positions.indexes[kind]
        out[f"{kind.name} taken"] = [keys[0].tolist(), keys[1].tolist(), contents.tolist()]
        out[f"{kind.name} rivals"] = {index.spot(ordinal): told for ordinal, told in index.variants.items()}
        out[f"{kind.name} rival keys"] = dict(sorted(index.conflict_keys.items()))
    for name in ("repeated", "contradicted", "lost"):
        held = getattr(positions, name)
        out[name] = sorted((kind, number, row) for kind, number, rows in held for row in rows.tolist())
    by_instrument: dict[tuple[str, bytes], list[Any]] = {}
    for part in positions.counted:  # in order, of each instrument: by name, for numbers are given out in any order
        for row, terms, values in zip(part.rows.tolist(), part.terms.tolist(), part.values.tolist(), strict=True):
            key = view.catalog.instrument_keys[terms[1]]
            told = (part.kind, part.number, row, view.catalog.account_names[terms[0]], terms[2:], values)
            by_instrument.setdefault((key.name, key.digest), []).append(told)
    out["counted"] = by_instrument
    out["waiting"] = sorted((kind, number, row) for kind, number, rows in positions.waiting() for row in rows.tolist())
    out["out of range"] = sorted(positions.out_of_range)
    out["overruled"] = {key: sorted(told.values()) for key, told in positions.overruled.items()}
    out["breaks"], out["void"] = view.lasting_breaks(), sorted(view.void_facts())
    return out


@settings(max_examples=200)
@given(stories, st.integers(0, 1 << 30), st.integers(0, 99))
def test_side_by_side_they_settle_as_one_after_the_other(drawn: Any, seed: int, part: int) -> None:
    story = written(drawn)
    batches = any_order(story.batches, seed)
    cut = len(batches) * part // 100
    state = settle_plainly(story.genesis, SettledState.empty(story.genesis), batches[:cut])
    agree(story.genesis, state, batches[cut:])


@settings(max_examples=150)
@given(
    _bodies, _bodies, st.sampled_from((Fill, Bust)), st.lists(st.sampled_from((SPOT, SPOT, RIVAL, UNHEARD)), min_size=7)
)
def test_desks_that_repeat_and_contradict_each_other(before: Any, told: Any, kind: type[Fill], meant: Any) -> None:
    founded = genesis(2)
    one, other = Pen(founded, 0), Pen(founded, 1)
    first = [one.write(SPOT, INVERSE), one.write(RIVAL), *(one.write(*facts) for facts in before)]
    state = settle_plainly(founded, SettledState.empty(founded), first)
    taken_back = kind(**{name: getattr(told[0][0], name) for name in kind.__struct_fields__})
    drafts = [
        other.draft(facts, {SPOT.name: instrument_digest(of)})
        for facts, of in zip((*told[:3], [taken_back], *told[3:]), meant, strict=False)
    ]
    agree(founded, state, [other.seal(draft) for draft in drafts])


def agree(founded: Any, state: SettledState, batches: Sequence[Batch]) -> None:
    views = []
    for side_by_side in (True, False):
        view = View(founded, base=state, settling=True)
        for number, batch in enumerate(batches):
            view.apply(batch, Place(number, batch.key, batch.seq))
        views.append(figures(finished(view, side_by_side)))
    assert views[0] == views[1]
