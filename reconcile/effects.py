"""What a settling view did with definitions and with facts that move rights, told as adjustments.

It decides nothing: the view has. It names causes by their root: a batch that is short of rights because it claimed a grant that
turned out void *stands on a void grant*, and whoever recorded it is not blamed; one that claimed what came after a fork is short
because the *lane forked*; two lanes of one node that spent the same rights, not knowing of each other, are *divided*.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from crdtledger.ledger.batch import Batch
from crdtledger.ledger.body import definition_digests
from crdtledger.ledger.collateral import Statement
from crdtledger.ledger.contents import fact_contents
from crdtledger.ledger.factkeys import fact_keys
from crdtledger.ledger.facts import Kind
from crdtledger.ledger.rights import DIVIDED as DIVIDED_NODE
from crdtledger.ledger.seenids import SeenIds
from crdtledger.ledger.view import Judged, View

from .adjustments import (
    CREDIT,
    DIVIDED,
    LANE_FORKED,
    LOST_NAME,
    NO_RESERVE,
    OTHER_CONTENT,
    OVERSPENDS,
    RECORDED_BEFORE,
    VOID_GRANT,
    Adjustment,
    Effect,
    runs_of,
)
from .cuts import Extension

Rows = npt.NDArray[np.int64]


class _Void:
    """Grants of void batches, to tell who was short because of them: (member, cell) -> (lane, seq, amount)."""

    def __init__(self, view: View, extension: Extension) -> None:
        self._view, self._extension = view, extension
        self._grants: dict[tuple[int, int], list[tuple[bytes, int, int]]] = {}

    def cause(self, judged: Judged, batch: Batch) -> str:
        """The root of a batch's being void. Batches come in canonical order, so grants come before who claims them."""
        verdict = judged.verdict
        for member, cells in verdict.granted.items():
            for cell, amount in cells.items():
                self._grants.setdefault((member, cell), []).append((batch.key, batch.seq, amount))
        if verdict.fault == DIVIDED_NODE:
            return DIVIDED
        if verdict.shortage is None:
            return NO_RESERVE
        missing = verdict.shortage.needed - verdict.shortage.available
        promised = sum(
            amount
            for lane, seq, amount in self._grants.get((self._view.member(batch.key), verdict.shortage.cell), ())
            if seq <= verdict.claimed.get(lane, 0)
        )
        if promised >= missing:
            return VOID_GRANT
        # A cut is causally closed: only a lane that forked can be named beyond where it ends.
        beyond = any(seq > self._extension.ends.get(lane, 0) for lane, seq in verdict.claimed.items())
        return LANE_FORKED if beyond else OVERSPENDS


class Told:
    """Adjustments of one view, grouped by batch, kind, effect and cause."""

    def __init__(self, view: View, ordered: Sequence[Batch]) -> None:
        self._view = view
        self._at = {(batch.key, batch.seq): place for place, batch in enumerate(ordered)}
        self._rows: dict[tuple[int, int, Effect, str], list[int]] = {}
        self._ordered = ordered
        self._others: list[Adjustment] = []

    def adjustments(self, more: Iterable[Adjustment]) -> tuple[Adjustment, ...]:
        """All of them and ``more``, in canonical order: what had waited first, then batch by batch, kind by kind."""
        for (place, kind, effect, cause), listed in self._rows.items():
            rows = np.unique(np.array(listed, np.int64))
            batch = self._ordered[place]
            self._others.append(Adjustment(effect, cause, batch.key, batch.seq, kind, len(rows), runs_of(rows)))

        def order(one: Adjustment) -> tuple[int, bytes, int, int, str, str]:
            return self._at.get((one.lane, one.seq), -1), one.lane, one.seq, one.kind, one.effect, one.cause

        return tuple(sorted([*self._others, *more], key=order))

    def _note(self, effect: Effect, cause: str, kind: Kind, place: int, rows: Rows | Sequence[int]) -> None:
        if len(rows):
            self._rows.setdefault((place, int(kind), effect, cause), []).extend(map(int, rows))

    def definitions(self) -> None:
        """Definitions of a name that another one has."""
        for place, batch in enumerate(self._ordered):
            told = zip(batch.body.definitions, definition_digests(batch.body), strict=True)
            standing = self._view.catalog.standing
            lost = [row for row, (one, digest) in enumerate(told) if standing(one.name) not in (None, digest)]
            self._note("conflict", LOST_NAME, Kind.INSTRUMENT, place, lost)

    def void(self, extension: Extension) -> None:
        """Batches without effect, and facts that are void by themselves."""
        void = _Void(self._view, extension)
        for judged in self._view.refused:
            batch = self._batch(judged)
            cause = void.cause(judged, batch)
            self._others.append(Adjustment("voided", cause, batch.key, batch.seq, 0, batch.facts))
        for one in self._view.void_facts():
            self._others.append(Adjustment("voided", one.reason, one.lane, one.seq, int(one.kind), one.facts))

    def _batch(self, judged: Judged) -> Batch:
        return self._ordered[self._place(judged)]

    def _place(self, judged: Judged) -> int:
        return judged.number - len(self._view.base.suspended)

    # -- facts that move rights -----------------------------------------------------------------------------

    def rights(self, salt: int) -> dict[int, SeenIds]:
        """Facts of batches that count: repeated, contradicted, credited, refunded. The ids that each member has used by now."""
        taken_back = self._statements()
        used = dict(self._view.base.used)
        for judged in self._view.judged:
            batch, place = self._batch(judged), self._place(judged)
            member = self._view.member(batch.key)
            for kind, rows in judged.verdict.effective.items():
                ids = used[member] if member in used else SeenIds(salt)
                high, low = fact_keys(batch.body, kind)
                contents = fact_contents(batch.body, kind, rows)
                used[member] = ids.extended((high[rows], low[rows]), contents)
                self._idle(kind, place, judged.verdict.repeated[kind], used[member])
                if kind in (Kind.TRANSFER, Kind.POST):
                    landed = [row for row in rows.tolist() if (place, kind, row) not in taken_back]
                    self._note("credited", CREDIT, kind, place, landed)
        return {member: ids for member, ids in used.items() if len(ids)}

    def _idle(self, kind: Kind, place: int, rows: Rows, used: SeenIds) -> None:
        """Rows under ids that their node has used before, or that another row of their batch uses: ``used`` has those too."""
        body = self._ordered[place].body
        high, low = fact_keys(body, kind)
        found = used.find((high[rows], low[rows]))
        known = found >= 0
        differs = np.zeros(len(rows), np.bool_)
        said = used.says(found[known])
        differs[known] = (fact_contents(body, kind, rows[known]) != said).any(axis=1)
        self._note("deduplicated", RECORDED_BEFORE, kind, place, rows[~differs])
        self._note("conflict", OTHER_CONTENT, kind, place, rows[differs])

    def _statements(self) -> set[tuple[int, Kind, int]]:
        """Statements of ids that the cluster shares which others had made: what they took is given back. Their (place, kind, row)."""
        collateral = self._view.collateral
        back: set[tuple[int, Kind, int]] = set()
        for (kind, _), statements in collateral.repeated.items():
            first, *later = sorted(statements, key=lambda one: (one.place, one.row))
            contradict = {one for one in later if one.content != first.content}
            back.update(self._given_back(kind, later, {first.node}, contradict))
        for key, statements in collateral.restated.items():
            later = sorted(statements, key=lambda one: (one.place, one.row))
            back.update(self._given_back(key[0], later, set(), set(collateral.overruled.get(key, ()))))
        return back

    def _given_back(
        self, kind: Kind, later: Sequence[Statement], nodes: set[int], contradict: set[Statement]
    ) -> Iterator[tuple[int, Kind, int]]:
        for one in later:
            place = self._at[one.lane, one.seq]
            if one.node not in nodes and kind is not Kind.DEPOSIT:
                nodes.add(one.node)
                self._note("refunded", OTHER_CONTENT if one in contradict else RECORDED_BEFORE, kind, place, [one.row])
            else:
                effect: Effect = "conflict" if one in contradict else "deduplicated"
                self._note(effect, OTHER_CONTENT if one in contradict else RECORDED_BEFORE, kind, place, [one.row])
            yield place, kind, one.row


def fork_words(seq: int, end: int) -> str:
    """Where a lane forks, and how far it counts: up to the fork, or to where it was settled before anybody knew."""
    return f"forks at seq {seq}: counts up to {end}{'' if end < seq else ', settled before that was known'}"


def closings(extension: Extension, released: Mapping[bytes, int]) -> Iterator[Adjustment]:
    """What evidence did: lanes closed, and how many reserves of each are free again."""
    for lane, proof in sorted(extension.closed.items()):
        end = extension.ends.get(lane, 0)
        yield Adjustment("closed", LANE_FORKED, lane, end, 0, 0, (), fork_words(proof.seq, end))
        if released.get(lane):
            yield Adjustment("expired", LANE_FORKED, lane, end, int(Kind.RESERVE), released[lane])
