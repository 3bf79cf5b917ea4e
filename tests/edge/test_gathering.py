"""A node, its peers and what it says, held against each other: with nodes that answer from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from crdtledger.edge import api
from crdtledger.edge.client import Client
from crdtledger.edge.report.gathering import Asked, Gathered, gather
from crdtledger.errors import Unreachable
from crdtledger.ledger.genesis import Genesis
from tests.edge.sightings import NOW_US, PERP, SECOND_US, made_genesis, position

LANE = "node-2/1.aabbccdd"


@pytest.fixture(scope="module")
def genesis(tmp_path_factory: pytest.TempPathFactory) -> Genesis:
    return made_genesis(tmp_path_factory.mktemp("genesis"))


class Node:
    """A client of a node that says what it is told to. ``heads``: what it holds; ``heard``: seconds since it heard of each peer;
    ``told``: what peers told it that they hold."""

    def __init__(
        self, genesis: Genesis, name: str, heads: Mapping[str, int], heard: Mapping[str, int], **more: Any
    ) -> None:
        self.endpoint = SimpleNamespace(genesis=genesis, target=genesis.member(name).address, folder=None)
        instrument = msgspec.to_builtins(PERP) | {"contract_size": "1", "inverse": False}
        holders = [
            {
                "node": member.name,
                "connected": True,
                "heard_us": None if member.name == name else NOW_US - heard.get(member.name, 1) * SECOND_US,
                "silences": [],
                "heads": dict(heads) if member.name == name else more.get("told", {}),
            }
            for member in genesis.nodes
        ]
        self._said: dict[str, Any] = {
            "heard": {"now_us": NOW_US, "node": name, "holders": holders},
            "status": {"base": {"height": more.get("height", 0)}, "checkpoints": {"agreement": "running"}},
            "positions": more.get("positions", []),
            "instruments": [instrument],
            "board": more.get("board", []),
            "members": [{"node": member.name, "offences": more.get("offences", [])} for member in genesis.nodes],
            "digest": {"frontier": "", "view": ""},
        }
        self._digests = more.get("digests", [])
        self._traced = more.get("traced", [])

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def query(self, view: str) -> Any:
        if view == "digest" and self._digests:
            return self._digests.pop()
        return self._said.get(view, [])

    def request(self, request: api.Request) -> Any:
        return self._traced if isinstance(request, api.Trace) else []


def gathered_of(genesis: Genesis, nodes: Sequence[Node | None], asked: Asked | None = None) -> Gathered:
    """The rows of node-1, whose peers are those given; None is out of reach."""

    def connect(target: str, cluster: Path | None) -> Client:
        for member, node in zip(genesis.nodes, nodes, strict=True):
            if member.address == target and node is not None:
                return cast("Client", node)
        raise Unreachable(target=target, why="nobody listens")

    return gather(connect, genesis.nodes[0].address, asked or Asked())


def fact(recorded_s: int, seq: int = 2) -> dict[str, Any]:
    return {"lane": LANE, "seq": seq, "node": "node-2", "recorded_us": NOW_US - recorded_s * SECOND_US}


def pair(genesis: Genesis, recorded_s: int, heard_s: int = 1, **more: Any) -> list[Node | None]:
    """node-2 has a fill that node-1 lacks; node-3 holds what node-1 does."""
    ahead = {"positions": [position("A", "1.000")], "traced": [fact(recorded_s)]}
    return [
        Node(genesis, "node-1", {LANE: 1}, {"node-2": heard_s}, **more),
        Node(genesis, "node-2", {LANE: 2}, {}, **ahead),
        Node(genesis, "node-3", {LANE: 1}, {}),
    ]


def test_a_cluster_that_agrees_has_no_rows(genesis: Genesis) -> None:
    nodes = [Node(genesis, f"node-{n}", {LANE: 1}, {}, positions=[position("A", "1.000")]) for n in (1, 2, 3)]
    assert gathered_of(genesis, nodes).rows == ()


@pytest.mark.parametrize(
    ("recorded_s", "heard_s", "cause", "status"),
    [(1, 1, "IN_FLIGHT", "in grace"), (60, 1, "MISSING_BATCH", "break"), (60, 60, "PARTITIONED", "break")],
)
def test_what_a_peer_has_and_the_node_lacks(
    genesis: Genesis, recorded_s: int, heard_s: int, cause: str, status: str
) -> None:
    rows = [row for row in gathered_of(genesis, pair(genesis, recorded_s, heard_s)).rows if row.account]
    assert [(row.cause.value, row.status, row.a, row.b, row.missing) for row in rows] == [
        (cause, status, None, "1.000", (f"{LANE}#2 at node-1",))
    ]


def test_figures_read_at_two_moments_are_not_called_a_break(genesis: Genesis) -> None:
    nodes = pair(genesis, 60, digests=[{"frontier": str(n), "view": ""} for n in range(9)])
    gathered = gathered_of(genesis, nodes)
    assert gathered.seen.moved
    assert [(row.cause.value, row.status) for row in gathered.rows] == [("IN_FLIGHT", "in grace")]


def test_a_peer_out_of_reach_is_told_and_is_not_equal(genesis: Genesis) -> None:
    nodes = [Node(genesis, "node-1", {LANE: 1}, {"node-3": 60}), Node(genesis, "node-2", {LANE: 1}, {}), None]
    gathered = gathered_of(genesis, nodes)
    assert [(peer.node, bool(peer.unreachable)) for peer in gathered.peers] == [("node-2", False), ("node-3", True)]
    (row,) = gathered.rows
    assert (row.cause.value, row.sources, row.b) == ("PARTITIONED", ("node-1", "node-3"), None)


def test_what_no_checkpoint_settles_in_time_is_a_break_and_names_the_batches(genesis: Genesis) -> None:
    late = position("A", "1.000", settled_qty="0.000")
    for recorded_s, status in ((60, "break"), (1, "in grace")):
        nodes = [
            Node(
                genesis,
                f"node-{n}",
                {LANE: 2},
                {},
                positions=[late],
                traced=[fact(recorded_s)],
                height=4,
                told={LANE: 2},
            )
            for n in (1, 2, 3)
        ]
        (row,) = gathered_of(genesis, nodes).rows
        assert (row.scope, row.cause.value, row.status) == ("replica/checkpoint", "IN_FLIGHT", status)
        assert row.missing == (f"{LANE}#2 at checkpoint 4",)


@pytest.mark.parametrize(
    ("silent", "told", "cause"),
    [
        ({"node-2": 60, "node-3": 60}, {LANE: 2}, "PARTITIONED"),
        ({}, {LANE: 1}, "MISSING_BATCH"),
        ({}, {LANE: 2}, "IN_FLIGHT"),
    ],
)
def test_what_is_not_settled_is_put_down_to_what_holds_it_up(
    genesis: Genesis, silent: dict[str, int], told: dict[str, int], cause: str
) -> None:
    late = position("A", "1.000", settled_qty="0.000")
    node = Node(genesis, "node-1", {LANE: 2}, silent, positions=[late], traced=[fact(60)], height=4, told=told)
    rows = [row for row in gathered_of(genesis, [node, None, None]).rows if row.scope == "replica/checkpoint"]
    assert [(row.cause.value, row.status) for row in rows] == [(cause, "break")]


def test_votes_that_contradict_each_other_are_a_fork_of_their_voter(genesis: Genesis) -> None:
    nodes = [Node(genesis, f"node-{n}", {LANE: 1}, {}, offences=["prevote at height 3"]) for n in (1, 2, 3)]
    assert {(row.cause.value, row.field) for row in gathered_of(genesis, nodes).rows} == {
        ("FORK", f"fork votes of node-{n}") for n in (1, 2, 3)
    }


def test_what_people_wrote_about_a_break_stands_beside_it(genesis: Genesis) -> None:
    (row,) = [row for row in gathered_of(genesis, pair(genesis, 60)).rows if row.account]
    noted = {
        "break": row.id,
        "owner": "kim",
        "status": "in progress",
        "resolution": "",
        "last_comment": "cable",
        "last_by": "n",
    }
    (again,) = [row for row in gathered_of(genesis, pair(genesis, 60, board=[noted])).rows if row.account]
    assert (again.owner, again.progress, again.comment) == ("kim", "in progress", "cable (n)")
    assert (again.id, again.status, again.why) == (row.id, row.status, row.why)
