"""Running a cluster by hand: found it, run it, cut it, compare, kill, back up, restore, examine and repair."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from crdtledger.edge import folders, process
from tests.edge.processes import CLI, Cluster, cluster, free_addresses, run, spawn_cli, start_cli

pytestmark = pytest.mark.processes


def record(it: Cluster, number: int, *facts: dict[str, Any]) -> None:
    with it.client(number) as node:
        node.record(list(facts))


def accounts(first: int, count: int) -> list[dict[str, Any]]:
    return [{"kind": "account", "name": f"C{n}"} for n in range(first, first + count)]


def deposit(name: str, account: str, amount: str = "100") -> dict[str, Any]:
    return {"kind": "deposit", "id": name, "account": account, "asset": "USDT", "amount": amount}


# -- founding and running -----------------------------------------------------------------------------------


def test_a_founded_cluster_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    home = tmp_path / "desk"
    addresses = [word for address in free_addresses(2) for word in ("--address", address)]
    made = run("init", home, "--nodes", 2, *addresses, "--cluster", "desk", "--asset", "EUR:2", "--asset", "BTC:8")
    assert made.code == 0, made.err
    genesis = folders.open_node(home / "node-1").genesis
    assert (genesis.cluster, dict(genesis.asset_decimals)) == ("desk", {"EUR": 2, "BTC": 8})
    assert (home / "node-1" / folders.SECRETS).stat().st_mode & 0o077 == 0
    up = start_cli("up", home)
    assert up.stdout is not None
    said = [up.stdout.readline() for _ in range(3)]
    assert said[0].startswith("node-1 ready at tcp://127.0.0.1:")
    assert "all 2 nodes run" in said[2]
    assert run("wait", home / "node-1", home / "node-2", "--timeout", 30).code == 0
    again = spawn_cli("node", home / "node-1")
    assert (again.code, again.err.count("\n")) == (2, 1)
    assert "in use by process" in again.err
    assert folders.read_run(home / "node-2") is not None
    up.send_signal(signal.SIGINT)
    _, err = up.communicate(timeout=30)
    assert (up.returncode, err.splitlines()) == (0, ["node-1 stopped", "node-2 stopped"])
    assert folders.read_run(home / "node-2") is None, "they stopped in good order"


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--nodes", "0"], "at least one node"),
        (["--nodes", "2", "--address", "tcp://127.0.0.1:1"], "one for each of 2 nodes"),
        (["--nodes", "1", "--address", "127.0.0.1:1"], "$.nodes[0].address"),
        (["--asset", "EUR"], "NAME:DECIMALS"),
        (["--asset", "EUR:99"], "$.assets[0].decimals"),
        (["--cluster", "a b"], "$.cluster"),
        (["--grant-finality", "soon"], "immediate"),
        (["--agreement", "raft"], "tendermint"),
        (["--validators", "5"], "0 to 4"),
        (["--validators", "0"], "$.policies.agreement"),
        (["--checkpoint-interval-ms", "-1"], "$.policies.checkpoint_interval_ms"),
        (["--id-window-ms", "-1"], "$.policies.id_window_ms"),
        (["--id-window-ms", str(1 << 62)], "$.policies.id_window_ms"),
        (["--id-window-ms", "1000", "--agreement", "none"], "$.policies.id_window_ms"),
    ],
)
def test_a_cluster_that_cannot_stand_is_not_founded(tmp_path: Path, more: list[str], complaint: str) -> None:
    ran = run("init", tmp_path / "x", *more)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert complaint in ran.err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("more", "voting", "said"),
    [
        ([], 4, "3 of 4 validators certify a checkpoint; 1 may fail or lie"),
        (["--nodes", "8", "--validators", "7"], 7, "5 of 7 validators certify a checkpoint; 2 may fail or lie"),
        (["--nodes", "3"], 3, "3 of 3 validators certify a checkpoint; none of them may fail or lie"),
        (["--agreement", "none"], 4, "no checkpoints: every figure stays provisional"),
    ],
)
def test_who_founds_a_cluster_is_told_who_votes_and_how_many_may_lie(
    tmp_path: Path, more: list[str], voting: int, said: str
) -> None:
    ran = run("init", tmp_path / "x", *more, "--checkpoint-interval-ms", 250)
    assert (ran.code, ran.err) == (0, "")
    genesis = folders.open_node(tmp_path / "x" / "node-1").genesis
    assert [("validator" in member.roles) for member in genesis.nodes] == [
        number < voting for number in range(len(genesis.nodes))
    ]
    assert ran.out.count("  validator\n") == voting
    assert genesis.policies.agreement == ("none" if "none" in more else "tendermint")
    assert genesis.policies.checkpoint_interval_ms == 250
    assert said in ran.out


def test_a_cluster_remembers_ids_for_good_unless_its_founder_says_for_how_long(tmp_path: Path) -> None:
    for name, more, window_us in (("x", [], 0), ("y", ["--id-window-ms", 5_000], 5_000_000)):
        assert run("init", tmp_path / name, *more).code == 0
        genesis = folders.open_node(tmp_path / name / "node-1").genesis
        assert genesis.policies.id_window_us == window_us
        assert (b"id_window" in genesis.encode()) == bool(more)


def test_founding_overwrites_nothing(tmp_path: Path) -> None:
    assert run("init", tmp_path / "x").code == 0
    before = (tmp_path / "x" / folders.GENESIS).read_bytes()
    assert run("init", tmp_path / "x").code == 2
    assert (tmp_path / "x" / folders.GENESIS).read_bytes() == before


def test_a_node_runs_in_the_foreground_until_sigterm(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1, start=False) as it:
        node = start_cli("node", it.node(1))
        assert node.stdout is not None
        assert node.stdout.readline() == "ready\n"
        assert run("status", it.node(1), "--format", "json").json()["node"] == "node-1"
        node.send_signal(signal.SIGTERM)
        assert node.communicate(timeout=30) == ("", "")
        assert node.returncode == 0


def test_up_says_which_node_cannot_start_and_stops_the_others(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2, start=False) as it:
        it.start(2)
        ran = spawn_cli("up", it.directory)
        assert ran.code == 2
        assert "node-2 did not start" in ran.err
        assert "node-1 stopped" in ran.err
        assert folders.read_run(it.node(1)) is None


# -- cutting, comparing, waiting ----------------------------------------------------------------------------


def test_a_cut_is_seen_named_and_healed(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=3) as it:
        record(it, 1, *accounts(0, 1), deposit("d0", "C0"))
        it.wait()
        assert run("diff", it.node(1), it.node(2)).code == 0

        it.partition("node-1", "node-2,node-3")
        record(it, 1, deposit("d1", "C0", "11"))
        record(it, 2, *accounts(1, 1))
        it.wait(2, 3)
        late = run("wait", it.node(1), it.node(2), it.node(3), "--timeout", 0.5)
        assert (late.code, late.out) == (1, "")
        said = late.err.splitlines()
        assert said[0] == "not equal after 0.5 s:"
        assert [line.split(" lacks ")[0].strip() for line in said[1:]] == [str(it.node(n)) for n in (1, 2, 3)]
        assert "node-2/1." in said[1]
        assert said[2].endswith(said[3].split(" lacks ")[1]), "nodes on one side of a cut lack the same"

        compared = run("diff", it.node(1), it.node(2), "--format", "json")
        assert compared.code == 1
        rows = compared.json()
        lanes = {row["subject"].partition("/")[0]: row for row in rows if row["what"] == "lane"}
        assert (lanes["node-1"]["missing_at"], lanes["node-2"]["missing_at"]) == ("node-2", "node-1")
        low, _, high = lanes["node-1"]["missing"].partition("-")
        assert (int(lanes["node-1"]["b"]) + 1, int(lanes["node-1"]["a"])) == (int(low), int(high))
        held = next(row for row in rows if row["what"] == "collateral" and row["field"] == "held")
        assert (held["subject"], held["a"], held["b"]) == ("C0 USDT", "111.00000000", "100.00000000")

        waiting = start_cli("wait", *it.paths, "--timeout", 60, "--format", "json")
        it.heal()
        out, err = waiting.communicate(timeout=60)
        assert (waiting.returncode, err) == (0, "")
        assert json.loads(out)["equal"] is True
        assert run("diff", it.node(1), it.node(3), "--format", "json").json() == []


def test_waiting_for_a_node_that_is_down_ends_when_it_is_back(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2, start=False) as it:
        it.start(1)
        record(it, 1, *accounts(0, 3))
        down = run("wait", *it.paths, "--timeout", 0.5)
        assert (down.code, str(it.node(2)) in down.err) == (3, True)
        waiting = start_cli("wait", *it.paths, "--timeout", 60)
        it.start(2)
        assert waiting.communicate(timeout=60)[1] == ""
        assert waiting.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["partition", "node-1"], "node-1"),
        (["partition", "node-1", "node-1"], "two groups"),
        (["partition", "node-1", "node-7"], "unknown node 'node-7'"),
        (["kill", "nod-2"], "did you mean 'node-2'?"),
    ],
)
def test_a_drill_that_makes_no_sense_is_refused(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    with cluster(tmp_path, nodes=1 if arguments == ["partition", "node-1"] else 2, start=False) as it:
        ran = run("drill", *arguments, "--cluster", it.directory)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert complaint in ran.err


def test_killed_nodes_come_back_with_everything_they_acknowledged(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2) as it:
        record(it, 2, *accounts(0, 50))
        killed = run("drill", "kill", "node-2", "--cluster", it.directory)
        assert (killed.code, "node-2 killed" in killed.out) == (0, True)
        assert it.processes["node-2"].wait() == -signal.SIGKILL
        assert run("status", it.node(2)).code == 3
        assert run("drill", "kill", "node-2", "--cluster", it.directory).code == 3, "it is dead already"
        process.stop(it.processes.pop("node-2"))
        it.start(2)
        it.wait()
        status = run("status", it.node(2), "--format", "json").json()
        assert (status["facts"], status["epoch"], status["locked"]) == (50, 1, "")


# -- backup, restore, doctor --------------------------------------------------------------------------------


def test_a_restored_node_opens_a_new_epoch_and_gets_its_later_batches_back(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2) as it:
        record(it, 2, *accounts(0, 10))
        first = run("backup", it.node(2), tmp_path / "first.bak", "--format", "json")
        assert (first.code, first.json()["path"]) == (0, str(tmp_path / "first.bak"))
        record(it, 2, *accounts(10, 10))
        it.wait()
        running = run("restore", it.node(2), tmp_path / "first.bak")
        assert (running.code, "in use by" in running.err) == (2, True)
        assert it.stop(2) == 0
        offline = run("backup", it.node(2), tmp_path / "second.bak", "--format", "json")
        assert offline.json()["position"] > first.json()["position"]
        assert run("backup", it.node(2), tmp_path / "second.bak").code == 2, "a backup overwrites nothing"

        restored = run("restore", it.node(2), tmp_path / "first.bak", "--format", "json")
        assert restored.code == 0
        assert "new epoch" in restored.err
        assert Path(restored.json()["replaced"]).exists()
        it.start(2)
        it.wait()
        while (status := run("status", it.node(2), "--format", "json").json())["locked"]:
            it.wait()  # it claims what its old lane left once it may spend: one batch more
        it.wait()
        assert (status["epoch"], status["facts"]) == (2, 20)
        shown = [run("frontier", it.node(number), "--format", "json").json() for number in (1, 2)]
        assert shown[0] == shown[1]
        assert all(row["forks_at"] is None for row in shown[0])
        it.stop(2)
        assert run("restore", it.node(2), it.node(2) / folders.NODE).code == 2, "that is no backup"


def test_the_doctor_names_what_is_wrong_and_keeps_what_is_not(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=2) as it:
        for first in range(0, 40, 10):
            record(it, 2, *accounts(first, 10))
        it.wait()
        healthy = run("doctor", it.node(2), "--format", "json")
        assert (healthy.code, {row["verdict"] for row in healthy.json()}) == (0, {"good"})
        it.stop(2)
        break_journal(it.node(2) / folders.JOURNAL)

        ill = run("doctor", it.node(2), "--format", "json")
        assert ill.code == 1
        (bad,) = (row for row in ill.json() if row["verdict"] == "bad")
        assert (bad["check"], "record " in bad["detail"]) == ("journal", True)
        refused = spawn_cli("node", it.node(2))
        assert (refused.code, "crdtledger doctor" in refused.err, refused.err.count("\n")) == (2, True, 1)

        repaired = run("doctor", it.node(2), "--repair", "--format", "json")
        assert repaired.code == 0
        assert "peers send what was cut off" in repaired.err
        it.start(2)
        it.wait()
        status = run("status", it.node(2), "--format", "json").json()
        assert (status["facts"], status["epoch"]) == (40, 2)
        running = run("doctor", it.node(2), "--repair")
        assert (running.code, "nothing to repair" in running.err) == (0, True)


def break_journal(path: Path) -> None:
    """Change one byte in the body of the last record but one, as a bad disk would."""
    with sqlite3.connect(path) as file:
        tables = [name for (name,) in file.execute("select name from sqlite_master where type = 'table'")]
        assert "records" in tables
        (row,) = file.execute("select rowid, body from records order by rowid desc limit 1 offset 1").fetchall()
        body = bytes([row[1][0] ^ 1]) + row[1][1:]
        file.execute("update records set body = ? where rowid = ?", (body, row[0]))
    file.close()


def test_the_doctor_sees_secrets_that_others_can_read(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1, start=False) as it:
        secrets = it.node(1) / folders.SECRETS
        secrets.chmod(0o644)
        ran = run("doctor", it.node(1))
        assert (ran.code, f"chmod 600 {secrets}" in ran.out) == (1, True)


# -- the picture while it runs ------------------------------------------------------------------------------


def test_up_draws_a_table_where_there_is_a_terminal(tmp_path: Path) -> None:
    with cluster(tmp_path, nodes=1, start=False) as it:
        screen, inside = pty.openpty()
        up = subprocess.Popen([*CLI, "up", str(it.directory)], stdin=inside, stdout=inside, stderr=inside)
        os.close(inside)
        seen = b""
        while b"catch-up" not in seen and up.poll() is None:
            seen += os.read(screen, 4096)
        up.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
            while piece := os.read(screen, 4096):
                seen += piece
        os.close(screen)
        assert up.wait(timeout=30) == 0
        assert b"catch-up" in seen
        assert b"node-1 stopped" in seen
