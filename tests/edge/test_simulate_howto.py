"""docs/how-to/simulate.md does what it says: each command runs, the long ones in small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_readme import blocks, shows, steps

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "simulate.md"


def shell(command: str, where: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "COLUMNS": "200"}
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=where, env=env, capture_output=True, text=True, timeout=150, check=False)


@pytest.mark.processes
def test_every_step_shows_what_the_page_shows(tmp_path: Path) -> None:
    found = steps(PAGE)
    assert len(found) >= 6
    for command, expected in found:
        ran = shell(command, tmp_path)
        assert ran.returncode == 0, f"$ {command}\n{ran.stderr}"
        for line in expected:
            assert shows(line, ran.stdout), f"$ {command}\nshould show: {line}\nprinted: {ran.stdout}"


@pytest.mark.processes
def test_the_long_commands_run_in_small(tmp_path: Path) -> None:
    commands = "".join(blocks("sh", PAGE)).splitlines()
    small = {
        "crdtledger simulate --swarm --seed 1 --seeds 500": " --seeds 2 --minutes 0.05",
        "python -m bench.fleet": " --nodes 20",
        "python -m bench.fleet --engine": " --nodes 20 --writers 4",
    }
    skipped = ["crdtledger simulate --seeds 8 --minutes 1 --ray local"]  # tests/edge/test_rayed.py
    assert sorted(commands) == sorted([*small, *skipped])
    for command, smaller in small.items():
        ran = shell(command.replace(" --seeds 500", "") + smaller, tmp_path)
        assert ran.returncode == 0, f"$ {command}\n{ran.stderr}"


def test_make_soak_is_the_command_that_the_page_shows() -> None:
    ran = shell(
        "make --no-print-directory -n -o .venv/.installed soak", ROOT
    )  # which make prints where make runs the tests
    (line,) = ran.stdout.splitlines()
    assert line.removeprefix(".venv/bin/") in "".join(blocks("sh", PAGE)).splitlines()
