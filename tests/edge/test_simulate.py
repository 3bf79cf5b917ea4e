"""``run`` finds what is broken, says it by seed, and gives the same run again; a small soak holds, as the large one must."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crdtledger.edge.effects import Effect
from crdtledger.edge.simulate.campaign import Campaign, died, here, run_job
from crdtledger.edge.simulate.liars import LIES
from crdtledger.edge.simulate.run import Outcome, SimulatedRun, run
from crdtledger.edge.simulate.scenario import Nemesis, Scenario, Workload, read_scenario
from crdtledger.edge.simulate.swarm import draw_scenario, with_trace
from crdtledger.errors import BadInput
from gossip.effects import Reply
from gossip.network import Faults
from tests.edge.faultcount import EVERY_FAULT, faults_in

SHORT = Scenario(seconds=30, checkpoint_ms=2_000, workload=Workload(pause_ms=400), nemesis=Nemesis(crash_s=5, down_s=1))
SOAKED = int(os.environ.get("CRDTLEDGER_SOAK", "20"))


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    first, again, other = run(SHORT, 3), run(SHORT, 3), run(SHORT, 4)
    assert first.ok, first.detail
    assert first == again
    assert first.digest != other.digest
    assert first.facts > 30
    assert first.height > 3
    assert first.events["crash"] > 0


def test_keeping_a_trace_changes_nothing() -> None:
    kept = run(with_trace(SHORT, 50_000), 3)
    assert kept.digest == run(SHORT, 3).digest
    assert len(kept.lines) > 1_000


@pytest.mark.timeout(0)
def test_a_swarm_of_short_runs_breaks_nothing() -> None:
    """What ``make soak`` does at length; and every fault that there is was among what the nodes went through."""
    found, faults = Campaign(), Counter[str]()
    for seed in range(1_380, 1_380 + SOAKED):
        outcome = run(with_trace(draw_scenario(seed, 30), 1_000_000), seed)
        assert outcome.ok, f"seed {seed} of the swarm, 30 s: {outcome.invariant} at {outcome.node}: {outcome.detail}"
        found.count(outcome)
        faults += faults_in(outcome.lines)
    assert [kind for kind in EVERY_FAULT if not faults[kind]] == []
    assert found.runs == SOAKED
    assert found.facts > 20 * SOAKED
    assert found.simulated_s > 30 * SOAKED


@pytest.mark.parametrize("lie", LIES)
def test_one_liar_of_four_breaks_nothing(lie: str) -> None:
    outcome = run(msgspec.structs.replace(SHORT, liars=(lie,), nemesis=Nemesis(crash_s=0)), 1)
    assert outcome.ok, f"{outcome.invariant}: {outcome.detail}"


class Hasty:
    """Passes for a core, and answers before what it answers is durable."""

    def __init__(self, core: Any) -> None:
        self._core = core

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def start(self, now_us: int) -> Sequence[Effect]:
        return self._hasten(self._core.start(now_us))

    def step(self, event: Any, now_us: int) -> Sequence[Effect]:
        return self._hasten(self._core.step(event, now_us))

    @staticmethod
    def _hasten(effects: Sequence[Effect]) -> list[Effect]:
        return [Reply(e.request, e.body, 0) if isinstance(e, Reply) else e for e in effects]


class HastyRun(SimulatedRun):
    def dress(self, name: str, core: Any, records: Sequence[bytes]) -> Any:
        return Hasty(super().dress(name, core, records))


def test_a_node_that_answers_too_soon_is_found_and_named_by_what_it_broke() -> None:
    outcome = HastyRun(SHORT, 3).go()
    assert not outcome.ok
    assert outcome.invariant == "durability"
    assert "acknowledged what is not on its disk" in outcome.detail
    assert HastyRun(SHORT, 3).go() == outcome


def test_what_raises_inside_a_run_is_an_outcome_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("crdtledger.edge.simulate.workload.Clients.act", fail)
    outcome = run(SHORT, 3)
    assert (outcome.ok, outcome.invariant) == (False, "no exception")
    assert "ZeroDivisionError: a defect" in outcome.detail


# -- scenarios ------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.integers(0, 10_000), st.integers(1, 3_600))
def test_every_scenario_of_the_swarm_can_be_and_reads_back(seed: int, seconds: int) -> None:
    drawn = draw_scenario(seed, seconds).checked()
    assert drawn == draw_scenario(seed, seconds)
    assert read_scenario(drawn.encode(), "x.json") == drawn


def test_the_swarm_leaves_every_kind_of_fault_out_and_in() -> None:
    drawn = [draw_scenario(seed, 60) for seed in range(200)]
    for kind in Nemesis.__struct_fields__[:-2]:
        assert {bool(getattr(one.nemesis, kind)) for one in drawn} == {False, True}, kind
    for fault in ("loss_ppm", "duplicate_ppm", "reorder", "torn"):
        assert {bool(getattr(one.faults, fault)) for one in drawn} == {False, True}, fault
    assert {len(one.liars) > 0 for one in drawn} == {one.agreement for one in drawn} == {False, True}


def test_a_scenario_is_written_as_toml() -> None:
    text = b'seconds = 60\nliars = ["replay"]\n[faults]\nloss_ppm = 50000\n[nemesis]\ncrash_s = 7\n'
    read = read_scenario(text, "storm.toml")
    assert (read.seconds, read.faults.loss_ppm, read.nemesis.crash_s, read.liars) == (60, 50_000, 7, ("replay",))


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"seconds = 0", "$.seconds"),
        (b"nodes = 65", "$.nodes"),
        (b"[nemesis]\nheal_s = 0", "$.nemesis.heal_s"),
        (b"[workload]\nfills = -1", "$.workload.fills"),
        (b"[faults]\nloss_ppm = 2000000", "$.faults.loss_ppm"),
        (b"[faults]\nlatency_mean_us = 1", "$.faults.latency_mean_us"),
        (b'liars = ["replay", "garbage"]', "$.liars"),
        (b'liars = ["charm"]', "$.liars[0]"),
        (b'agreement = false\nliars = ["replay"]', "$.liars"),
        (b"[faults]\nloss = 3", "storm.toml, $.faults"),
        (b"seconds = 'x'", "storm.toml, $.seconds"),
        (b"seconds", "storm.toml"),
        (b"\xff", "storm.toml"),
    ],
)
def test_a_scenario_that_cannot_be_is_refused_by_path(text: bytes, where: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_scenario(text, "storm.toml")
    assert refused.value.where.endswith(where)


# -- campaigns ------------------------------------------------------------------------------------------------


def deadly(seed: int) -> Scenario:
    return msgspec.structs.replace(SHORT, seconds=5, agreement=False, faults=Faults(), nodes=2 + seed % 2)


def test_outcomes_come_in_order_of_their_jobs_and_are_those_of_runs_alone() -> None:
    jobs = [(deadly(seed), seed) for seed in range(4)]
    together = list(here(jobs, 2))
    assert together == [run_job(job) for job in jobs]
    assert [outcome.seed for outcome in together] == [0, 1, 2, 3]


def test_a_run_whose_process_dies_is_an_outcome_that_says_so() -> None:
    outcome: Outcome = died((SHORT, 7))
    assert not outcome.ok
    assert outcome.seed == 7
    assert "process of this run died" in outcome.detail


def test_campaigns_add_up() -> None:
    good, bad = run(deadly(1), 1), died((SHORT, 7))
    found = Campaign()
    found.count(good)
    found.count(bad)
    assert (found.runs, found.facts, found.failed) == (2, good.facts, [bad])


# -- the command ----------------------------------------------------------------------------------------------


def test_a_failing_run_says_how_to_play_it_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from crdtledger.edge.cli import main

    monkeypatch.setattr("crdtledger.edge.simulate.run.SimulatedRun", HastyRun)
    trace, diagram = tmp_path / "run.txt", tmp_path / "run.svg"
    words = ["simulate", "--seed", "3", "--minutes", "0.2", "--jobs", "1"]
    assert main([*words, "--trace", str(trace), "--svg", str(diagram)]) == 1
    told = capsys.readouterr()
    assert "seed 3: durability broken" in told.err
    assert "play it again: crdtledger simulate --seed 3 --minutes 0.2" in told.err
    assert "commit " in told.err
    assert "runs 1 broken 1 seeds broken 3" in " ".join(told.out.split())
    assert " send " in trace.read_text()
    assert "durability" in diagram.read_text()


def test_the_command_prints_figures_and_the_scenario(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from crdtledger.edge.cli import main

    assert main(["simulate", "--show", "--nodes", "3", "--minutes", "0.1"]) == 0
    options = tmp_path / "scenario.json"
    options.write_text(capsys.readouterr().out)
    assert main(["simulate", "--options", str(options), "--jobs", "1", "--format", "json"]) == 0
    row = msgspec.json.decode(capsys.readouterr().out)
    assert (row["runs"], row["broken"]) == (1, 0)
    assert len(row["digest"]) == 64


@pytest.mark.parametrize(
    "words", [["--seeds", "0"], ["--minutes", "0"], ["--swarm", "--nodes", "3"], ["--jobs", "0"], ["--nodes", "99"]]
)
def test_wrong_options_are_refused_in_one_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from crdtledger.edge.cli import main

    assert main(["simulate", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
