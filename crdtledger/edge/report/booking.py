"""Quantities that were put right before: which of the trades that did it count at a node, and which were taken back. Impure: asks the node.

The node is asked once for all of them, when the first is needed, so a statement with thousands of differences is no slower for it. What
is settled is not all held by its facts any more; the node remembers such ids longer, and is asked for them one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cached_property

from crdtledger.edge import api
from crdtledger.edge.client import Client
from crdtledger.edge.report.sighting import Row
from reconcile.divergence.breakrow import Correction
from reconcile.divergence.corrections import ID_SPACE, booked_already


class Booked:
    """What a node holds of such trades. ``settles``: whether it stands on a checkpoint."""

    def __init__(self, client: Client, settles: bool) -> None:
        self._client = client
        self._settles = settles

    def again(self, propose: Callable[[int], Correction]) -> Correction:
        """The correction that changes something. ``propose`` makes it of how often it was taken back before."""
        for taken_back in itertools.count():
            correction = propose(taken_back)
            if not correction.facts or not self._recorded(correction.facts[0]):
                break
            if not self._counts("bust", correction.facts[0]):
                return booked_already(correction.facts[0]["trade_id"])
        return correction

    def _recorded(self, fill: Row) -> bool:
        if self._counts("fill", fill):
            return True
        return self._settles and self._client.request(api.Told([dict(fill)])) != [""]

    def _counts(self, kind: str, fill: Row) -> bool:
        return (kind, fill["venue"], fill["instrument"], fill["trade_id"]) in self._counting

    @cached_property
    def _counting(self) -> set[tuple[str, str, str, str]]:
        rows = self._client.request(api.Trace(id_space=ID_SPACE))
        return {(row["kind"], row["venue"], row["instrument"], row["id"]) for row in rows if row["became"] == "counts"}
