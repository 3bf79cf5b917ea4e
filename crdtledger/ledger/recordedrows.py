"""Which rows of a body are recorded already: before, or earlier in this body, in the same words.

A fill that says something else under an id that is taken is no row that is known: two venue statements disagree, and both are kept.
Anything else that contradicts what is recorded is its caller's mistake: ``Conflict``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from crdtledger.errors import Conflict
from crdtledger.ledger.body import Body, WireBody, fact_id, opened, stated
from crdtledger.ledger.collateral import SHARED_IDS
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import Keys, fact_keys
from crdtledger.ledger.facts import ORDER_KINDS, Kind
from crdtledger.ledger.fillterms import fill_terms
from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.orderfacts import said
from crdtledger.ledger.replica import Replica

Mask: TypeAlias = npt.NDArray[np.bool_]


class RecordedRows:
    """What is recorded, as the writer of ``lane`` sees it, whose node is called ``name``."""

    def __init__(self, replica: Replica, lane: bytes, name: str) -> None:
        self._replica = replica
        self._lane = lane
        self._name = name

    def known(self, kind: Kind, body: Body) -> Mask:
        """Which rows of a table would change nothing. ``Conflict`` for those that say something else, unless they are fills."""
        view = self._replica.view
        if kind is Kind.MARK:
            return view.catalog.known_marks(body)
        keys = fact_keys(body, kind)
        if kind in (Kind.FILL, Kind.BUST):
            return self._known_fills(kind, body, keys)
        first, new = _first_rows(keys)
        known = ~new
        for row in np.flatnonzero(known).tolist():
            self._check_same(kind, body, row, _words(body, kind, int(first[row])))
        for row, words in enumerate(self._recorded_words(kind, body, keys)):
            if words is not None:
                self._check_same(kind, body, row, words)
                known[row] = True
        return known | self._settled_rows(kind, body, keys)

    def known_fills(self, kind: Kind, wires: Sequence[WireBody]) -> Iterator[Mask]:
        """``known`` of fills or busts that are recorded body by body: a mask for each, to be taken when those before it are recorded.

        Where ids ascend, no body says anything about another one's, and what was recorded before them all tells.
        """
        bodies = [opened(wire) for wire in wires]
        if _ascend(kind, bodies):
            yield from [self._known_of_ascending(kind, body) for body in bodies]
        else:
            yield from (self._known_fills(kind, body, fact_keys(body, kind)) for body in bodies)

    def _known_of_ascending(self, kind: Kind, body: Body) -> Mask:
        """``known`` of fills or busts, no id of which is there twice. Most are above all that were heard of."""
        view = self._replica.view
        heard = np.zeros(len(body.tables[kind]), np.bool_)
        looked_for = (
            np.ones(len(heard), np.bool_) if len(view.positions.seen(kind)) else ~view.highest.above(kind, body)
        )
        if not looked_for.any():
            return heard
        high, low = keys = fact_keys(body, kind)
        heard[looked_for] = view.positions.heard(kind, (high[looked_for], low[looked_for]))
        return self._known_of_heard(kind, body, keys, heard)

    def _known_fills(self, kind: Kind, body: Body, keys: Keys) -> Mask:
        """``known`` of fills or busts. Where no id is there twice and none was heard of, terms need no comparing."""
        view = self._replica.view
        known = self._known_of_heard(kind, body, keys, view.positions.heard(kind, keys))
        if _holds_twins(keys):
            first, new = _first_rows(keys)
            terms = fill_terms(body.tables[kind], view.catalog.bind(body))
            known |= ~new & (terms == terms[first]).all(axis=1)
        return known

    def _known_of_heard(self, kind: Kind, body: Body, keys: Keys, heard: Mask) -> Mask:
        """Which fills or busts are recorded in the same words, when some ids were ``heard``."""
        view, rows, known = self._replica.view, heard.nonzero()[0], np.zeros(len(heard), np.bool_)
        if len(rows):
            terms = fill_terms(body.tables[kind][rows], view.catalog.bind(body))
            known[rows] = view.positions.known(kind, body, rows, (keys[0][rows], keys[1][rows]), terms)
        return known

    def _settled_rows(self, kind: Kind, body: Body, keys: Keys) -> Mask:
        """Rows that a checkpoint has settled, in the same words. ``Conflict`` in others."""
        view = self._replica.view
        settled = view.base.shared if kind in SHARED_IDS else view.rights.settled_ids(self._lane)
        found = settled.find(keys) if settled is not None else np.full(len(keys[0]), -1)
        rows = np.flatnonzero(found >= 0)
        if settled is not None and len(rows):
            differs = (fact_contents(body, kind, rows) != settled.says(found[rows])).any(axis=1)
            for row in rows[differs].tolist():
                why = "it is settled, and says something else"
                raise Conflict(kind=kind.name.lower(), id=str(fact_id(body, kind, row)), why=why)
        known: Mask = found >= 0
        return known

    def _check_same(self, kind: Kind, body: Body, row: int, words: tuple[object, ...]) -> None:
        if _words(body, kind, row) != words:
            told = " ".join(str(word) for word in words)
            raise Conflict(kind=kind.name.lower(), id=str(fact_id(body, kind, row)), why=f"{told} (minor units)")

    def _recorded_words(self, kind: Kind, body: Body, keys: Keys) -> Iterator[tuple[object, ...] | None]:
        """What unsettled batches say under each id: anywhere for ids that the cluster shares, else in this node's lanes."""
        view = self._replica.view
        spots = view.rights.recorded(self._lane, keys)
        if kind in ORDER_KINDS:
            names = [(self._name, str(fact_id(body, kind, row))) for row in range(len(keys[0]))]
            told = [view.orders.known(kind, name) for name in names]
            spots = [(one.lane, one.seq, one.row) if one else None for one in told]
        if kind in SHARED_IDS:
            shared = view.collateral.known(kind, keys)
            spots = [(one.lane, one.seq, one.row) if one else None for one in shared]
        for spot in spots:
            batch = self._replica.batch(*spot[:2]) if spot else None
            yield _words(batch.body, kind, spot[2]) if batch and spot else None


def _ascend(kind: Kind, bodies: Sequence[Body]) -> bool:
    """Whether the ids of fills in all these bodies are numbers of one scope, each higher than the one before: then none is there twice."""
    tables = [body.tables[kind] for body in bodies]
    scopes = {
        (one.venue, one.id_space, one.leg, body.instruments[one.instrument]) for body in bodies for one in body.scopes
    }
    if len(scopes) != 1 or any(table["flags"].any() for table in tables):
        return False
    ids = np.concatenate([table["id"] for table in tables])
    return bool((ids[1:] > ids[:-1]).all())


def _holds_twins(keys: Keys) -> bool:
    """Whether an id may be there twice: some halves of ids are equal."""
    if len(keys[0]) == 1:
        return False
    halves = np.sort(keys[0])
    return bool((halves[1:] == halves[:-1]).any())


def _first_rows(keys: Keys) -> tuple[npt.NDArray[np.int64], Mask]:
    """For each row the first row of its id, and whether that is the row itself."""
    ordinals, new = KeyTable(capacity=len(keys[0])).insert(*keys)
    return np.flatnonzero(new)[ordinals], new


def _words(body: Body, kind: Kind, row: int) -> tuple[object, ...]:
    """What one row says, its names resolved."""
    return said(body, kind, row) if kind in ORDER_KINDS else stated(body, kind, row)
