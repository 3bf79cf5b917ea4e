"""``crdtledger simulate``: a whole cluster in one process and in virtual time, with everything going wrong, the same way twice."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from crdtledger.edge.cli.options import DIFFERENT, GOOD, Format
from crdtledger.edge.cli.output import emit_one, say

if TYPE_CHECKING:
    from crdtledger.edge.simulate.campaign import Campaign
    from crdtledger.edge.simulate.run import Outcome
    from crdtledger.edge.simulate.scenario import Scenario

MINUTES = 10.0
TRACE_LINES = 200_000
TOLD = 40
BLAMED = 5


def simulate(
    *,
    seed: Annotated[int, Parameter(help="The first seed. A scenario and a seed are a run, byte for byte.")] = 1,
    seeds: Annotated[int, Parameter(help="How many seeds, one run each.")] = 1,
    minutes: Annotated[float | None, Parameter(help="Virtual minutes that things go wrong for. Default: 10.")] = None,
    nodes: Annotated[int | None, Parameter(help="How many nodes. Default: what the scenario says, or 4.")] = None,
    options: Annotated[Path | None, Parameter(help="A scenario: TOML or JSON, as --show prints it.")] = None,
    swarm: Annotated[bool, Parameter(help="Draw the scenario itself at random from each seed.")] = False,
    show: Annotated[bool, Parameter(help="Print the scenario and run nothing.")] = False,
    trace: Annotated[
        Path | None, Parameter(help="Write the trace of messages of the (first failing) run there.")
    ] = None,
    svg: Annotated[Path | None, Parameter(help="Draw the end of the (first failing) run there, nodes by time.")] = None,
    jobs: Annotated[int | None, Parameter(help="How many runs at once on this machine. Default: one a core.")] = None,
    ray: Annotated[str | None, Parameter(help="Run on this Ray cluster instead (an address, or 'local').")] = None,
    format: Format = "table",
) -> int:
    """Simulate real nodes under faults and look after every step whether anything that is promised breaks.

    At the end everything is healed, and agreement is demanded. Exit 1 when something broke, with the command that plays it again.
    """
    from crdtledger.edge.simulate.campaign import Campaign, here
    from crdtledger.edge.simulate.scenario import Scenario, read_scenario
    from crdtledger.edge.simulate.swarm import draw_scenario, with_trace
    from crdtledger.errors import BadInput

    if seeds < 1 or (minutes is not None and not 0 < minutes <= 1_440) or (jobs is not None and jobs < 1):
        raise BadInput(
            what="options", where="simulate", why="--seeds, --jobs and --minutes (at most 1440) are above zero"
        )
    if swarm and (options or nodes):
        raise BadInput(
            what="--swarm", where="simulate", why="it draws all options itself: leave out --options, --nodes"
        )
    given = read_scenario(options.read_bytes(), str(options)) if options else None

    def scenario_of(number: int) -> Scenario:
        if swarm:
            return draw_scenario(number, round((minutes or MINUTES) * 60))
        return _changed(given or Scenario(), nodes, minutes if minutes or given else MINUTES)

    if show:
        sys.stdout.write(scenario_of(seed).encode().decode() + "\n")
        return GOOD
    work = [(with_trace(scenario_of(number), 0), number) for number in range(seed, seed + seeds)]
    began = time.monotonic()
    found = Campaign()
    last: Outcome | None = None
    for last in _runner(ray)(work) if ray else here(work, min(jobs or 1_000, seeds) if seeds == 1 or jobs else None):
        found.count(last)
        if seeds > 1:
            _progress(found, last, seeds, time.monotonic() - began)
    assert last is not None
    again = found.failed[0] if found.failed else last
    if trace or svg:
        _look_again(again, scenario_of(again.seed), trace, svg)
    for outcome in found.failed[:BLAMED]:
        _blame(outcome, _command(outcome.seed, minutes, nodes, options, swarm))
    emit_one(_summary(found, last, seeds, time.monotonic() - began), format)
    return DIFFERENT if found.failed else GOOD


def _changed(scenario: Scenario, nodes: int | None, minutes: float | None) -> Scenario:
    import msgspec

    changes: dict[str, Any] = {"nodes": nodes or scenario.nodes}
    changes["seconds"] = scenario.seconds if minutes is None else max(1, round(minutes * 60))
    return msgspec.structs.replace(scenario, **changes).checked()


def _runner(address: str) -> Any:
    from crdtledger.edge.simulate.rayed import on_ray

    return on_ray(address)


def _look_again(outcome: Outcome, scenario: Scenario, trace: Path | None, svg: Path | None) -> None:
    """Run it once more with its trace kept: the same run, or something is very wrong."""
    from crdtledger.edge.simulate.run import run
    from crdtledger.edge.simulate.swarm import with_trace
    from gossip.spacetime import draw

    again = run(with_trace(scenario, TRACE_LINES), outcome.seed)
    if again.digest != outcome.digest:
        say(f"seed {outcome.seed}: played again it is another run; something draws on more than the seed")
    if trace:
        trace.write_text("".join(f"{line}\n" for line in again.lines))
        say(f"trace of seed {outcome.seed}: {trace}")
    if svg:
        failure = again.detail and f"{again.invariant}: {again.detail}"
        svg.write_text(
            draw(again.lines, failure=failure, title=f"Seed {outcome.seed}: the last messages between nodes")
        )
        say(f"diagram of seed {outcome.seed}: {svg}")


def _progress(found: Campaign, outcome: Outcome, seeds: int, took_s: float) -> None:
    state = "held" if outcome.ok else f"BROKEN: {outcome.invariant}"
    say(f"{found.runs}/{seeds} seed {outcome.seed} {state}, {outcome.at_us / 1e6:.0f} s simulated, {took_s:.0f} s gone")


def _blame(outcome: Outcome, command: str) -> None:
    where = f" at {outcome.node}" if outcome.node else ""
    say(f"seed {outcome.seed}: {outcome.invariant} broken{where} after {outcome.at_us / 1e6:.6f} s: {outcome.detail}")
    for at_us, what in outcome.story[-TOLD:]:
        say(f"  {at_us / 1e6:12.6f} {what}")
    say(f"  commit {_commit()}; play it again: {command}")


def _command(seed: int, minutes: float | None, nodes: int | None, options: Path | None, swarm: bool) -> str:
    words = ["crdtledger simulate", f"--seed {seed}"]
    words += [f"--minutes {minutes:g}"] if minutes is not None else []
    words += [f"--nodes {nodes}"] if nodes else []
    words += [f"--options {options}"] if options else []
    return " ".join([*words, *(["--swarm"] if swarm else [])])


def _commit() -> str:
    """The commit that this program is of, or its version where it is installed without one."""
    from importlib.metadata import version

    def git(*words: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (" with changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"of version {version('crdtledger')}"


def _summary(found: Campaign, last: Outcome, seeds: int, took_s: float) -> dict[str, Any]:
    row: dict[str, Any] = {"runs": found.runs, "broken": len(found.failed)}
    if found.failed:
        row["seeds_broken"] = " ".join(str(outcome.seed) for outcome in found.failed)
    row |= {"simulated_s": found.simulated_s, "facts": found.facts, "heights": found.heights, "frames": found.frames}
    row |= {"faults": " ".join(f"{kind}:{times}" for kind, times in sorted(found.events.items()))}
    if seeds == 1:
        row["digest"] = last.digest
    return {**row, "took_s": round(took_s, 1)}
