"""From a fact to a proof in a stranger's hands, on four real nodes; and what becomes of one that forks its lane."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import folders
from crdtledger.ledger.genesis import Policies
from tests.edge.processes import Cluster, Ran, cluster, run, start_cli

pytestmark = pytest.mark.processes

AGREES = Policies(agreement="tendermint", checkpoint_interval_ms=100)


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Four nodes with the account A, which holds 1000 USDT of which 50 are reserved."""
    with cluster(tmp_path_factory.mktemp("settling"), nodes=4, policies=AGREES) as made:
        record(
            made,
            1,
            {"kind": "account", "name": "A"},
            {"kind": "deposit", "id": "d1", "account": "A", "asset": "USDT", "amount": "1000"},
            {"kind": "reserve", "id": "r1", "account": "A", "asset": "USDT", "amount": "50"},
        )
        yield made


def record(it: Cluster, number: int, *facts: dict[str, Any]) -> None:
    with it.client(number) as node:
        node.record(list(facts))


def settled(it: Cluster, *numbers: int) -> dict[str, Any]:
    targets = [it.node(number) for number in numbers] or it.paths
    waited = run("wait", *targets, "--settled", "--timeout", 60, "--format", "json")
    assert waited.code == 0, waited.err
    row: dict[str, Any] = waited.json()
    return row


def prove(it: Cluster, file: Path, *more: object) -> Ran:
    return run("prove", "account", "A", "--target", it.node(2), "-o", file, "--format", "json", *more)


def test_waiting_for_settlement_ends_on_one_certified_checkpoint(it: Cluster) -> None:
    row = settled(it)
    newest = [run("checkpoint", "show", path, "--format", "json").json() for path in it.paths]
    assert {(shown["height"], shown["digest"]) for shown in newest} == {(row["height"], row["checkpoint"])}


def test_a_figure_says_by_which_checkpoint_it_is_settled(it: Cluster) -> None:
    height = settled(it)["height"]
    for path in it.paths:
        (row,) = run("collateral", path, "--account", "A", "--format", "json").json()
        assert (row["held"], row["state"]) == ("1000.00000000", f"settled({height})")


def test_a_stranger_checks_with_two_files_what_a_node_proved(it: Cluster, tmp_path: Path) -> None:
    height = settled(it)["height"]
    shutil.copy(it.directory / folders.GENESIS, tmp_path / "genesis.json")
    proved = prove(it, tmp_path / "a.proof")
    assert (proved.code, proved.json()["height"]) == (0, height)
    told = run("verify-proof", tmp_path / "a.proof", "--genesis", tmp_path / "genesis.json", "--format", "json").json()
    (balance,) = told["collateral"]
    assert (balance["held"], balance["free"], balance["reserved"]) == ("1000.00000000", "950.00000000", "50.00000000")
    assert len(told["certified_by"]) >= 3
    audited = prove(it, tmp_path / "a.audit", "--liabilities")
    assert (audited.code, "totals of other accounts" in audited.err) == (0, True)
    told = run("verify-proof", tmp_path / "a.audit", "--genesis", tmp_path / "genesis.json", "--format", "json").json()
    assert [(row["asset"], row["owed"]) for row in told["liabilities"]] == [("USDT", "1000.00000000")]


def test_a_proof_goes_to_standard_output_or_under_a_name_of_its_own(
    it: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    height = settled(it)["height"]
    ran = run("prove", "account", "A", "--cluster", it.directory, "--format", "json")
    assert (ran.code, ran.json()["file"]) == (0, f"A-h{height}.proof")
    shown = run("prove", "account", "A", "--cluster", it.directory, "-o", "-")
    assert shown.out == (tmp_path / f"A-h{height}.proof").read_text()


def test_an_account_that_nobody_defined_is_a_mistake_unless_it_is_meant(it: Cluster, tmp_path: Path) -> None:
    settled(it)
    typo = run("prove", "account", "AA", "--target", it.node(1))
    assert (typo.code, typo.err) == (2, "crdtledger: unknown account 'AA'; did you mean 'A'?\n")
    meant = run("prove", "account", "AA", "--target", it.node(1), "--absent", "-o", tmp_path / "aa.proof")
    assert meant.code == 0
    told = run("verify-proof", tmp_path / "aa.proof", "--genesis", it.directory / folders.GENESIS)
    assert (told.code, "AA has nothing at this height" in told.out) == (0, True)


def test_a_running_node_tells_its_checkpoints_over_its_address_too(it: Cluster, tmp_path: Path) -> None:
    height = settled(it)["height"]
    address = folders.open_node(it.node(3)).member.address
    genesis = it.directory / folders.GENESIS
    ran = run("checkpoint", "verify", address, *it.paths, "--genesis", genesis, "--cluster", it.directory)
    assert ran.code == 0, ran.err
    copied = run("checkpoint", "copy", address, tmp_path / "mine.db", "--cluster", it.directory, "--format", "json")
    assert copied.json() == {"file": str(tmp_path / "mine.db"), "heights": height, "copied": height}
    verdicts = {row["check"]: row["verdict"] for row in run("doctor", it.node(3), "--format", "json").json()}
    assert verdicts["checkpoints"] == "good"


def test_what_cannot_be_settled_is_waited_for_and_said(it: Cluster) -> None:
    settled(it)
    it.partition("node-1,node-2", "node-3,node-4")
    record(it, 1, {"kind": "account", "name": "CUT"})
    it.wait(1, 2)
    late = run("wait", it.node(1), it.node(2), "--settled", "--timeout", 1)
    assert (late.code, late.out) == (1, "")
    assert late.err.startswith("equal, but not settled after 1 s:\n")
    assert "1 batches are above it" in late.err
    waiting = start_cli("wait", *it.paths, "--settled", "--timeout", 60)
    it.heal()
    assert waiting.communicate(timeout=60)[1] == ""
    assert waiting.returncode == 0


def test_a_node_that_forks_is_named_by_all_and_the_rest_go_on_settling(it: Cluster) -> None:
    """Last in this file: the lane stays forked."""
    settled(it)
    ran = run("drill", "fork", it.node(2))
    assert (ran.code, ran.out.startswith("node-2 forked its lane node-2/1.")) == (0, True)
    record(it, 3, {"kind": "account", "name": "AFTER"})
    record(it, 2, {"kind": "account", "name": "AGAIN"})
    settled(it)
    for path in it.paths:
        broken = run("breaks", path, "--format", "json")
        assert broken.code == 1
        assert [row["subject"].partition("/")[0] for row in broken.json()] == ["node-2"]
        accused = {row["node"]: row["offences"] for row in run("members", path, "--format", "json").json()}
        assert [node for node, offences in accused.items() if offences] == ["node-2"]
        assert "forked node-2/1." in accused["node-2"][0]
        evidence = [row["evidence"] for row in run("checkpoint", "list", path, "--format", "json").json()]
        assert sum(evidence) == 1
    verified = run("checkpoint", "verify", *it.paths, "--genesis", it.directory / folders.GENESIS)
    assert verified.code == 0, verified.err
