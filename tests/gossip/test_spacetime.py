"""A diagram shows what happened: every message once, at its ends' lines and times, lost ones as lost, whatever nodes are called."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossip.network import Faults
from gossip.spacetime import draw
from gossip.trace import Line
from tests.gossip.toy import SECOND, Record, cluster

SVG = "{http://www.w3.org/2000/svg}"


def a_run(seed: int, names: tuple[str, ...] = ("london", "tokyo", "zurich")) -> list[Line]:
    """A second and a half in which frames are lost and repeated, the network is cut, and a node crashes and comes back."""
    faults = Faults(loss_ppm=100_000, duplicate_ppm=150_000, reorder=True, torn=True, latency_mean_us=30_000)
    sim = cluster(names, faults, seed)
    for at in range(8):
        sim.submit(names[at % 3], Record(at, b"fact"))
        sim.run_for(SECOND // 6)
        if at == 2:
            sim.partition([names[:1], names[1:]])
        if at == 4:
            sim.crash(names[2])
        if at == 6:
            sim.restart(names[2])
            sim.heal()
    sim.run_for(SECOND)
    return sim.trace.tail()


def drawn(lines: list[Line], **options: Any) -> ElementTree.Element:
    return ElementTree.fromstring(draw(lines, **options))


def messages(svg: ElementTree.Element) -> list[tuple[int, str, list[float]]]:
    """(number, class, x and y of both ends) of every path that is a message."""
    found = []
    for path in svg.iter(f"{SVG}path"):
        if "data-message" in path.attrib:
            ends = [float(number) for number in re.findall(r"-?\d+\.?\d*", path.attrib["d"].partition("m")[0])]
            found.append((int(path.attrib["data-message"]), path.attrib["class"], ends[:4]))
    return found


def columns(svg: ElementTree.Element) -> dict[str, float]:
    """Where each node's line is."""
    return {text.text or "": float(text.attrib["x"]) for text in svg.iter(f"{SVG}text") if text.get("class") == "name"}


@settings(max_examples=15)
@given(st.integers(0, 1_000))
def test_every_message_that_arrived_has_one_arrow_from_its_sender_to_its_receiver(seed: int) -> None:
    lines = a_run(seed)
    svg = drawn(lines, most=10_000)
    x = columns(svg)
    times: dict[int, float] = {}
    sent = {line.message: line for line in lines if line.what == "send"}
    arrived = Counter(line.message for line in lines if line.what == "receive")
    arrows = [entry for entry in messages(svg) if entry[1].startswith("arrow")]
    assert Counter(number for number, style, _ in arrows if arrived[number]) == arrived
    for number, _, (x1, y1, x2, y2) in arrows:
        if arrived[number]:
            assert x1 == x[sent[number].node]
            assert x2 == x[sent[number].other]
            assert y1 < y2
            times.setdefault(sent[number].at_us, y1)
            assert times[sent[number].at_us] == y1, "one moment is one height"
    heights = [times[at_us] for at_us in sorted(times)]
    assert heights == sorted(heights), "time runs down"
    again = Counter(number for number, style, _ in arrows if style.endswith("again"))
    assert again == Counter({number: count - 1 for number, count in arrived.items() if count > 1})


@settings(max_examples=15)
@given(st.integers(0, 1_000))
def test_what_was_lost_is_crossed_out(seed: int) -> None:
    lines = a_run(seed)
    lost = Counter(line.message for line in lines if line.what == "lose")
    assert lost, "the network loses a tenth"
    assert Counter(number for number, style, _ in messages(drawn(lines, most=10_000)) if style == "lost") == lost


def test_a_crash_interrupts_a_line_until_the_start_and_a_partition_is_named() -> None:
    lines = a_run(4)
    svg = drawn(lines)
    x = columns(svg)["zurich"]
    pieces = [path for path in svg.iter(f"{SVG}path") if path.get("class") == "node" and f"M{x:g}," in path.attrib["d"]]
    assert len(pieces) == 2
    words = [text.text or "" for text in svg.iter(f"{SVG}text")]
    assert any(word.startswith("crash: ") for word in words)
    assert any(word.startswith("partition london | tokyo") for word in words)


@settings(max_examples=30)
@given(st.lists(st.text(min_size=1, max_size=30), min_size=3, max_size=3, unique=True), st.text(max_size=200))
def test_it_is_well_formed_whatever_nodes_are_called_and_whatever_failed(names: list[str], failure: str) -> None:
    known = a_run(4)
    other = dict(zip(("london", "tokyo", "zurich"), names, strict=True))
    lines = [
        Line(line.at_us, other.get(line.node, line.node), line.what, line.detail, line.size, failure[:40])
        for line in known
    ]
    svg = drawn(lines, names=names, failure=failure, title=failure)
    assert len(columns(svg)) == len({*columns(svg)})


def test_it_says_how_much_it_leaves_out_and_stays_small() -> None:
    lines = a_run(4)
    total = len({line.message for line in lines if line.message})
    told = draw(lines, most=20)
    assert f"{total - 20} earlier messages left out" in told
    assert len({number for number, _, _ in messages(ElementTree.fromstring(told))}) <= 20
    assert len(draw(lines * 40)) < 400_000


@pytest.mark.parametrize("lines", [[], [Line(5, "a", "start", "1", 0)], [Line(5, "", "heal", "", 0)]])
def test_next_to_nothing_is_drawn_too(lines: list[Line]) -> None:
    assert drawn(lines).tag == f"{SVG}svg"


def test_the_same_lines_are_the_same_bytes() -> None:
    assert draw(a_run(7)) == draw(a_run(7))
