"""Large clusters, linked by the overlay: they agree through loss, a partition and crashes, and a batch comes to each about once."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from bench.fleet import Engines, NoAgreement, Nodes, Step, drill, main
from crdtledger.edge.simulate.fleet import Fleet
from gossip.network import Faults
from gossip.overlay import neighbours, rings
from gossip.replica import Head

LOSSY = Faults(loss_ppm=50_000, duplicate_ppm=20_000, reorder=True, torn=True, trace_lines=0)
QUIET = Faults(trace_lines=0)


def drilled(nodes: Nodes, writers: int) -> dict[str, Step]:
    """The steps of the drill by their names; it raises where the nodes do not come to agree."""
    return {step.step: step for step in drill(nodes, writers)}


def test_a_hundred_whole_nodes_agree_through_a_partition_and_crashes() -> None:
    steps = drilled(Fleet(100, 7, QUIET), 100)
    assert steps["first agreement"].copies == pytest.approx(1, abs=0.02)
    assert steps["first agreement"].virtual_s < 2
    assert steps["cut in two"].copies < 1, "a side cannot have what only the other wrote"
    assert 1 <= steps["healed, all agree"].copies < 1.5


def test_two_hundred_engines_agree_on_a_network_that_loses_repeats_and_reorders() -> None:
    steps = drilled(Engines(200, 7, LOSSY), 40)
    assert 1 <= steps["healed, all agree"].copies < 1.5


def test_fleets_side_by_side_agree_each_for_itself() -> None:
    nodes = Engines(20, 7, QUIET, fleets=3)
    steps = [*drill(nodes, 4, fleets=nodes.fleets)]
    lanes = [{lane for name in fleet for lane in nodes.heads(name)} for fleet in nodes.fleets]
    assert [len(each) for each in lanes] == [4, 4, 4]
    assert len(set().union(*lanes)) == 12
    assert steps[-1].batches == 24
    assert steps[1].copies == pytest.approx(1, abs=0.02)
    alone = [step.frames for step in drill(Engines(20, 7, QUIET), 4)]
    assert steps[-1].frames == pytest.approx(3 * alone[-1], rel=0.1)


def test_a_drill_of_fleets_ends_when_all_of_them_agree() -> None:
    nodes = Forgetful(20, 7, QUIET, fleets=2)
    with pytest.raises(NoAgreement):
        list(drill(nodes, 4, limit_s=1, fleets=nodes.fleets[::-1]))


def test_a_drill_without_an_end_says_so() -> None:
    with pytest.raises(NoAgreement, match="no agreement after 1 s"):
        list(drill(Forgetful(20, 7, QUIET), 4, limit_s=1))


class Forgetful(Engines):
    """Engines of which one shows nothing of what it holds."""

    def heads(self, name: str) -> Mapping[bytes, Head]:
        return {} if name == "n3" else super().heads(name)


def test_the_bench_prints_a_line_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--engine", "--nodes", "20", "--writers", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "20 engines, 3 write, seed 7"
    assert [line[:20].strip() for line in lines[2:]] == [
        "linked",
        "first agreement",
        "cut in two",
        "some restarted",
        "healed, all agree",
    ]


@pytest.mark.parametrize("nodes", [17, 100, 1_000])
def test_a_node_has_few_links_however_many_there_are(nodes: int) -> None:
    links = neighbours([f"n{at}" for at in range(nodes)])
    assert max(len(linked) for linked in links.values()) <= 2 * rings(nodes)
