"""A quantity is put right by a trade that changes something, or by none: with a node that remembers what it is told to."""

from __future__ import annotations

from typing import Any, cast

import pytest

from crdtledger.edge import api
from crdtledger.edge.client import Client
from crdtledger.edge.report.booking import Booked
from reconcile.divergence.breakrow import Correction


class Node:
    """Holds ``held`` (kind, number) by their facts, and of the fills that are ``settled`` only their ids."""

    def __init__(self, held: set[tuple[str, int]], settled: set[int]) -> None:
        self._held, self._settled = held, settled
        self.asked = 0

    def request(self, request: api.Request) -> Any:
        self.asked += 1
        if isinstance(request, api.Trace):
            assert request.id_space == "correction"
            return [
                named(number) | {"kind": kind, "id": f"t{number}", "became": "counts"} for kind, number in self._held
            ]
        assert isinstance(request, api.Told)
        return ["same" if int(fill["trade_id"][1:]) in self._settled else "" for fill in request.fills]


def named(number: int) -> dict[str, Any]:
    return {"venue": "v", "instrument": "PERP", "trade_id": f"t{number}"}


def propose(taken_back: int) -> Correction:
    return Correction("book it", (named(taken_back),))


@pytest.mark.parametrize(
    ("held", "settled", "proposed"),
    [
        (set(), set(), "t0"),
        ({("fill", 0), ("bust", 0)}, set(), "t1"),
        ({("bust", 0)}, {0}, "t1"),
        ({("fill", 0), ("bust", 0), ("fill", 1), ("bust", 1)}, set(), "t2"),
        ({("fill", 0)}, set(), None),
        (set(), {0}, None),
        ({("fill", 0), ("bust", 0), ("fill", 1)}, set(), None),
    ],
)
def test_what_counts_is_not_proposed_and_what_was_taken_back_comes_under_another_id(
    held: set[tuple[str, int]], settled: set[int], proposed: str | None
) -> None:
    told = Booked(cast("Client", Node(held, settled)), True).again(propose)
    assert [fact["trade_id"] for fact in told.facts] == ([proposed] if proposed else [])
    assert told.facts or told.action.startswith("nothing to record: t")


def test_a_thousand_differences_are_one_question_where_nothing_is_settled() -> None:
    node = Node(set(), set())
    booked = Booked(cast("Client", node), False)
    for _ in range(1_000):
        booked.again(propose)
    assert node.asked == 1
