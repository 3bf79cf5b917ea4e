"""Maelstrom's workloads over real processes with partitions and loss, judged as Maelstrom does; and its protocol, line by line."""

from __future__ import annotations

import base64
import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.edge.maelstrom.node import Complain, MaelstromNode, Output, Say
from crdtledger.testing.checkers import check_counter, check_set, check_set_full
from gossip.protocol import HEADS_TIMER
from tests.edge.processes import spawn_cli
from tests.interop.maelstrom import Workbench

# -- whole clusters -------------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize("workload", ["g-set", "broadcast"])
def test_a_set_loses_nothing_across_partitions(workload: str) -> None:
    with Workbench(workload, nodes=4, seed=1) as bench:
        bench.drive(250, [[["n1"], ["n2", "n3", "n4"]], [["n1", "n2"], ["n3", "n4"]]])
        history = bench.finish()
    verdict = check_set(history)
    assert verdict, verdict.story
    assert verdict.found["acknowledged"] == verdict.found["present"] > 150
    assert check_set_full(history, fresh=False)
    assert check_set_full(history).found["stale"], "the partitions were not felt"
    assert bench.lost > 0
    assert (bench.codes, bench.complaints) == ([0] * 4, "")


@pytest.mark.processes
def test_a_counter_comes_to_the_sum_across_partitions() -> None:
    with Workbench("pn-counter", nodes=5, seed=2) as bench:
        bench.drive(250, [[["n1", "n2"], ["n3", "n4", "n5"]], [["n1"], ["n2"], ["n3", "n4", "n5"]]])
        history = bench.finish()
    verdict = check_counter(history, fresh=False)
    assert verdict, verdict.story
    total = sum(call.asked for call in history.of("add"))
    assert [call.answer for call in history.of("final")] == [total] * 5
    assert check_counter(history, fresh=True).valid == "no", "the partitions were not felt"
    assert (bench.codes, bench.complaints) == ([0] * 5, "")


# -- line by line ---------------------------------------------------------------------------------------------


def line(body: Any, src: str = "c1", dest: str = "n1") -> bytes:
    return json.dumps({"src": src, "dest": dest, "body": body}).encode()


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


INIT = {"type": "init", "msg_id": 1, "node_id": "n1", "node_ids": ["n1", "n2"]}


class Told(MaelstromNode):
    """A node whose answers to clients are looked at."""

    def __init__(self, workload: Any, init: bool = True, seed: int = 0) -> None:
        super().__init__(workload, Random(seed).randbytes)
        self.now_us = 1_000_000
        self.frames: list[bytes] = []
        if init:
            assert self.ask(INIT) == [{"type": "init_ok", "in_reply_to": 1}]

    def ask(self, body: Any, src: str = "c1") -> list[Any]:
        """The bodies of its answers; what it complained about, as text."""
        return self.raw(line(body, src))

    def raw(self, given: bytes) -> list[Any]:
        self.now_us += 1_000
        return self._looked(self.line(given, self.now_us))

    def tell_heads(self) -> list[bytes]:
        """The lines for its peer, after another round of telling what it holds."""
        self.now_us += 300_000
        self._looked(self.timer(HEADS_TIMER, self.now_us))
        frames, self.frames = self.frames, []
        return frames

    def _looked(self, outputs: list[Output]) -> list[Any]:
        out: list[Any] = []
        for output in outputs:
            if isinstance(output, Complain):
                out.append(output.text)
            elif isinstance(output, Say):
                message = json.loads(output.line)
                if message["body"]["type"] == "gossip":
                    self.frames.append(output.line)
                else:
                    out.append(message["body"])
        return out


def test_the_lines_of_the_protocol_are_answered_as_it_says() -> None:
    lines = [
        line(INIT),
        line({"type": "topology", "msg_id": 2, "topology": {"n1": ["n2"], "n2": ["n1"]}}),
        line({"type": "broadcast", "msg_id": 3, "message": 1000}),
        line({"type": "read", "msg_id": 4}),
    ]
    ran = spawn_cli("maelstrom", "broadcast", stdin=b"\n".join(lines).decode())
    assert (ran.code, ran.err) == (0, "")
    bodies = [json.loads(said)["body"] for said in ran.out.splitlines()]
    assert [body for body in bodies if body["type"] != "gossip"] == [
        {"type": "init_ok", "in_reply_to": 1},
        {"type": "topology_ok", "in_reply_to": 2},
        {"type": "broadcast_ok", "in_reply_to": 3},
        {"type": "read_ok", "in_reply_to": 4, "messages": [1000]},
    ]


def test_whatever_is_json_is_an_element_and_comes_back_as_it_was_once() -> None:
    node = Told("g-set")
    elements = [7, "7", -1, 1.5, None, True, [1, [2]], {"b": 1, "a": "ü\x00"}, 10**30, "\ud800"]
    for number, element in enumerate(elements * 2):
        assert node.ask({"type": "add", "msg_id": number, "element": element})[0]["type"] == "add_ok"
    (answer,) = node.ask({"type": "read", "msg_id": 99})
    assert sorted(map(text, answer["value"])) == sorted(map(text, elements))


def test_a_counter_counts_a_request_once_and_goes_as_far_as_it_is_told() -> None:
    node = Told("pn-counter")
    for number, delta in ((2, 5), (3, -7), (3, -7), (4, 0), (5, 1 << 62), (6, 1 << 62), (7, 1 << 62)):
        assert node.ask({"type": "add", "msg_id": number, "delta": delta}) == [
            {"type": "add_ok", "in_reply_to": number}
        ]
    assert node.ask({"type": "add", "msg_id": 3, "delta": -7}, src="c2")[0]["type"] == "add_ok"  # another client's
    assert node.ask({"type": "read", "msg_id": 9}) == [{"type": "read_ok", "in_reply_to": 9, "value": (3 << 62) - 9}]


@pytest.mark.parametrize(
    ("workload", "body", "code"),
    [
        ("g-set", {"type": "add", "msg_id": 2, "delta": 1}, 12),
        ("g-set", {"type": "add", "msg_id": 2, "element": "x" * 200}, 10),
        ("g-set", {"type": "broadcast", "msg_id": 2, "message": 1}, 10),
        ("g-set", {"type": "topology", "msg_id": 2, "topology": {}}, 10),
        ("g-set", {"type": 7, "msg_id": 2}, 12),
        ("g-set", {"msg_id": 2}, 12),
        ("pn-counter", {"type": "add", "msg_id": 2, "delta": 1.5}, 12),
        ("pn-counter", {"type": "add", "msg_id": 2, "delta": True}, 12),
        ("pn-counter", {"type": "add", "msg_id": 2, "delta": 1 << 63}, 12),
        ("broadcast", {"type": "init", "msg_id": 2, "node_id": "n2", "node_ids": ["n1", "n2"]}, 22),
        ("broadcast", {"type": "init", "msg_id": 2, "node_id": "n3", "node_ids": ["n1", "n2"]}, 12),
    ],
)
def test_what_a_node_does_not_do_is_answered_with_the_error_for_it(workload: str, body: Any, code: int) -> None:
    node = Told(workload)
    (answer,) = node.ask(body)
    assert (answer["type"], answer["in_reply_to"], answer["code"]) == ("error", 2, code)
    assert answer["text"]
    (read,) = node.ask({"type": "read", "msg_id": 3})
    assert read.get("value", read.get("messages")) in (0, [])


@pytest.mark.parametrize("names", [[], ["n1", "n1"], ["n1", 2], ["n1", "n 2"], "n1", None])
def test_an_init_that_cannot_be_is_refused_and_leaves_the_node_waiting(names: Any) -> None:
    node = Told("g-set", init=False)
    assert node.ask({**INIT, "node_ids": names})[0]["code"] == 12
    assert node.ask({"type": "read", "msg_id": 2})[0]["code"] == 11
    assert node.ask(INIT) == [{"type": "init_ok", "in_reply_to": 1}]
    assert node.ask({**INIT, "msg_id": 3}) == [{"type": "init_ok", "in_reply_to": 3}]


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense",
        b"\xff",
        b"[" * 100_000,
        b"1" * 10_000,
        b'{"src": "c1", "dest": "n1"}',
        b'{"src": "c1", "dest": "n1", "body": {"type": "read", "msg_id": NaN}}',
        line({"type": "read"}),
        line({"type": "read", "msg_id": "2"}),
        line({"type": "error", "msg_id": 3, "in_reply_to": 2}),
        line({"type": "gossip", "frame": "AAAA"}),
        line({"type": "gossip", "frame": "%"}, src="n2"),
        line({"type": "gossip", "frame": 7}, src="n2"),
        line({"type": "gossip", "frame": "ü"}, src="n2"),
    ],
)
def test_a_line_that_nobody_can_answer_is_complained_about(raw: bytes) -> None:
    (complaint,) = Told("g-set").raw(raw)
    assert isinstance(complaint, str)


def test_a_frame_that_was_changed_on_its_way_adds_nothing() -> None:
    one, other = Told("g-set"), Told("g-set", init=False, seed=1)
    assert other.raw(line({**INIT, "node_id": "n2"}, dest="n2"))
    for _ in range(4):
        for source, target in ((one, other), (other, one)):
            for told in source.tell_heads():
                target.raw(told)
    one.frames.clear()
    assert one.ask({"type": "add", "msg_id": 2, "element": 1})[0]["type"] == "add_ok"
    (pushed,) = one.frames
    frame = bytearray(base64.b64decode(json.loads(pushed)["body"]["frame"]))
    for at in range(0, len(frame), 3):
        changed = bytearray(frame)
        changed[at] ^= 1
        body = {"type": "gossip", "frame": base64.b64encode(changed).decode()}
        other.raw(line(body, src="n1", dest="n2"))
        other.now_us += 10_000_000
        assert other.ask({"type": "read", "msg_id": 5})[0]["value"] == []
    other.raw(pushed)
    assert other.ask({"type": "read", "msg_id": 6})[0]["value"] == [1]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("type", "msg_id", "in_reply_to", "element", "delta", "message", "frame", "node_id", "node_ids", "topology")
TYPES = ("init", "topology", "add", "broadcast", "read", "gossip")


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["g-set", "broadcast", "pn-counter"]),
    st.booleans(),
    st.lists(
        st.binary(max_size=40)
        | st.builds(
            lambda kind, body, src: line({"type": kind, "msg_id": 2, **body}, src),
            st.sampled_from(TYPES),
            st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
            st.sampled_from(["c1", "n2", "n9", "\ud800"]),
        ),
        max_size=5,
    ),
)
def test_no_line_ends_a_node(workload: str, init: bool, lines: list[bytes]) -> None:
    node = Told(workload, init)
    for raw in lines:
        for answer in node.raw(raw):
            assert isinstance(answer, str) or answer["type"] in {"error", *(f"{kind}_ok" for kind in TYPES)}
    (answer,) = node.ask({"type": "read", "msg_id": 7})
    assert answer["type"] in ("read_ok", "error")
    assert node.ask(INIT)[0]["type"] in ("init_ok", "error")
