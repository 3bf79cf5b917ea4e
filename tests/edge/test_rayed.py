"""A campaign on Ray gives what it gives here; where there is no Ray, one line says what to install."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import msgspec
import pytest

from crdtledger.edge.cli import main
from crdtledger.edge.simulate.campaign import here
from crdtledger.edge.simulate.rayed import on_ray
from crdtledger.edge.simulate.scenario import Scenario, Workload
from crdtledger.errors import Unreachable
from gossip.network import Faults

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'crdtledger[ray]'")
SHORT = Scenario(nodes=2, seconds=5, agreement=False, workload=Workload(pause_ms=500))


def test_without_ray_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["simulate", "--seeds", "2", "--minutes", "0.1", "--ray", "local"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'crdtledger[ray]'" in line


@needs_ray
@pytest.mark.filterwarnings("default")
def test_ray_gives_the_outcomes_that_this_machine_gives_in_the_order_of_the_jobs() -> None:
    hopeless = msgspec.structs.replace(SHORT, settle_s=1, faults=Faults(latency_mean_us=60_000_000))
    jobs = [(SHORT, 0), (SHORT, 1), (hopeless, 2), (SHORT, 3), (SHORT, 4)]
    outcomes = list(on_ray("local")(jobs))
    assert outcomes == list(here(jobs, 1))
    assert [outcome.ok for outcome in outcomes] == [True, True, False, True, True]
    assert outcomes[2].story, "a broken run travels whole"


@needs_ray
@pytest.mark.filterwarnings("default")
def test_a_cluster_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="no Ray cluster answers"):
        list(on_ray("127.0.0.1:1")([(SHORT, 1)]))
