"""The trace is the run: its digest covers what happened, its lines say it in words, and a message is one number from end to end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gossip import wire
from gossip.trace import Line, Trace, describe_frame
from tests.gossip.test_spacetime import a_run


def test_lines_say_who_told_whom_what_in_words() -> None:
    lines = [str(line) for line in a_run(4)]
    assert any("send     #1 to " in line and ": hello" in line for line in lines)
    assert any(": heads " in line for line in lines)
    assert any("receive" in line and " from " in line and "batch" in line for line in lines)
    assert any("lose" in line for line in lines)
    assert any("crash" in line for line in lines)


def test_every_message_that_arrives_or_is_lost_was_sent_before_under_its_number() -> None:
    sent: dict[int, Line] = {}
    for line in a_run(9):
        if line.what == "send":
            assert line.message not in sent
            sent[line.message] = line
        elif line.message:
            assert sent[line.message].at_us <= line.at_us
            assert {line.node, line.other} == {sent[line.message].node, sent[line.message].other}


def test_every_message_sent_has_arrived_or_is_lost_or_is_under_way_in_the_end() -> None:
    lines = a_run(9)
    told = {line.message for line in lines if line.what in ("receive", "lose")}
    last_us = lines[-1].at_us
    assert all(line.message in told or last_us - line.at_us < 500_000 for line in lines if line.what == "send")


@given(st.binary(max_size=200))
def test_a_frame_that_is_none_is_described_as_such(frame: bytes) -> None:
    assert describe_frame(frame)


def test_frames_are_described_by_what_they_ask_or_bring() -> None:
    assert describe_frame(wire.encode(wire.App("vote", b"x"))) == "vote"
    assert describe_frame(wire.encode(wire.Push((b"one", b"two")))) == "push 2 batches"
    assert describe_frame(wire.encode(wire.Heads(bytes(32), (), True, (), True))) == "heads 0 all asks"


def test_words_are_no_part_of_the_digest() -> None:
    one, other = Trace(10), Trace(0)
    other.describe = lambda frame: "something else"
    for trace in (one, other):
        trace.note(1, "a", "send", "1 b", b"frame")
    assert one.digest() == other.digest()
    assert other.tail() == []
