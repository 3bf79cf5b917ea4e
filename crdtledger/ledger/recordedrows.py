"""Which rows of a body are recorded already: before, or earlier in this body, in the same words.

A fill that says something else under an id that is taken is no row that is known: two venue statements disagree, and both are kept.
Anything else that contradicts what is recorded is its caller's mistake: ``Conflict``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from crdtledger.errors import Conflict
from crdtledger.ledger.body import Body, Keys, WireBody, fact_id, fact_keys, opened, stated
from crdtledger.ledger.collateral import SHARED_IDS
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.facts import ORDER_KINDS, Kind
from crdtledger.ledger.fillterms import fill_terms
from crdtledger.ledger.keytable import KeyTable
from crdtledger.ledger.orderfacts import said
from crdtledger.ledger.replica import Replica

Mask: TypeAlias = npt.NDArray[np.bool_]
_NO_KEYS: Keys = (np.zeros(0, np.uint64), np.zeros(0, np.uint64))


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

        Where no id is in two bodies, what is recorded before them all tells, and it is asked once: a long column takes little longer
        than a short one.
        """
        bodies = [opened(wire) for wire in wires]
        keys = [fact_keys(body, kind) if kind in body.tables else _NO_KEYS for body in bodies]
        if len(bodies) > 1 and (_ascend(kind, bodies) or not _hold_twins(keys)):
            heard = self._replica.view.positions.heard(kind, _joined(keys))
            ends = np.cumsum([len(high) for high, _ in keys])
            yield from map(functools.partial(self._known_of_heard, kind), bodies, keys, np.split(heard, ends[:-1]))
            return
        for body, own in zip(bodies, keys, strict=True):
            yield self._known_fills(kind, body, own) if len(own[0]) else np.zeros(0, np.bool_)

    def _known_fills(self, kind: Kind, body: Body, keys: Keys) -> Mask:
        """``known`` of fills or busts. Where no id is there twice and none was heard of, terms need no comparing."""
        view = self._replica.view
        known = self._known_of_heard(kind, body, keys, view.positions.heard(kind, keys))
        if not _ascend(kind, [body]) and _hold_twins([keys]):
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
    tables = [body.tables[kind] for body in bodies if kind in body.tables]
    scopes = {(one.venue, one.id_space, one.leg, body.instruments[one.instrument]) for body in bodies for one in body.scopes}
    if len(scopes) > 1 or any(table["flags"].any() for table in tables):
        return False
    ids = np.concatenate([table["id"] for table in tables])
    return bool((ids[1:] > ids[:-1]).all())


def _joined(keys: Sequence[Keys]) -> Keys:
    """The ids of several bodies, one behind the other."""
    return np.concatenate([high for high, _ in keys]), np.concatenate([low for _, low in keys])


def _hold_twins(keys: Sequence[Keys]) -> bool:
    """Whether an id may be there twice: some halves of ids are equal."""
    halves = np.sort(np.concatenate([high for high, _ in keys]))
    return bool((halves[1:] == halves[:-1]).any())


def _first_rows(keys: Keys) -> tuple[npt.NDArray[np.int64], Mask]:
    """For each row the first row of its id, and whether that is the row itself."""
    ordinals, new = KeyTable(capacity=len(keys[0])).insert(*keys)
    return np.flatnonzero(new)[ordinals], new


def _words(body: Body, kind: Kind, row: int) -> tuple[object, ...]:
    """What one row says, its names resolved."""
    return said(body, kind, row) if kind in ORDER_KINDS else stated(body, kind, row)
