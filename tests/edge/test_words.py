"""A frame is put into words whatever its bytes are, and what nodes say to each other is told by what it is about."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.simulate.run import run
from crdtledger.edge.simulate.scenario import Nemesis, Scenario, Workload
from crdtledger.edge.simulate.swarm import with_trace
from crdtledger.edge.simulate.words import describe
from gossip import wire


@given(st.binary(max_size=80) | st.builds(lambda c, b: wire.encode(wire.App(c, b)), st.text(max_size=8), st.binary()))
def test_no_frame_is_beyond_words(frame: bytes) -> None:
    assert describe(frame) == describe(frame)


@pytest.mark.parametrize("channel", ["vote", "checkpoint", "rights", "epoch"])
def test_noise_on_a_channel_is_called_unreadable(channel: str) -> None:
    assert describe(wire.encode(wire.App(channel, b"\xc1"))) == f"{channel}, unreadable"


def test_a_trace_tells_votes_by_height_and_round_and_requests_by_what_is_asked_for() -> None:
    busy = Workload(pause_ms=200, fills=0, spends=20, grants=0, deposits=5)
    scenario = Scenario(seconds=20, checkpoint_ms=2_000, workload=busy, nemesis=Nemesis(crash_s=5, restore_s=8))
    lines = run(with_trace(scenario, 100_000), 3).lines
    said = {line.says for line in lines}
    for words in ("proposal 1.0 ", "prevote 1.0 ", "precommit 1.0 ", "summary ", "cosigned 1", "asks for ", "lane ask"):
        assert any(text.startswith(words) for text in said), words
    assert not any("unreadable" in text for text in said)
