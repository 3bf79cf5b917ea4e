"""The README does what it says: its tutorial's commands and its Python run, and print what it shows."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.edge.processes import free_addresses

README = Path(__file__).parent.parent / "README.md"
MARK = "=====next====="


def blocks(language: str, page: Path = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def steps(page: Path = README) -> list[tuple[str, list[str]]]:
    """(command, the lines that it should print) of a whole tutorial, in order."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks("console", page)).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> "):
            command, expected = found[-1]
            found[-1] = (f"{command}\n{line[2:]}", expected)
        elif line:
            found[-1][1].append(line)
    return found


def shows(expected: str, printed: str) -> bool:
    """Whether a line of ``printed`` has the words of ``expected``, in which ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.split("..."))
    return re.search(pattern, printed) is not None


@pytest.mark.processes
@pytest.mark.timeout(180)
def test_the_five_minute_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    commands = steps()
    assert len(commands) > 15
    addresses = " ".join(f"--address {address}" for address in free_addresses(4))
    script = [command.replace("--nodes 4", f"--nodes 4 {addresses}") for command, _ in commands]
    text = "set -m\n" + "".join(f"{command}\necho; echo '{MARK}'\n" for command in script) + "wait\n"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    printed = done.stdout.split(MARK)
    for (command, expected), output in zip(commands, printed, strict=False):
        for line in expected:
            assert shows(line, output), f"$ {command}\nshould show: {line}\nprinted: {output}"
    assert len(printed) == len(commands) + 1
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize(("code", "prints"), list(zip(blocks("python"), (2, 1), strict=True)), ids=("library", "kit"))
def test_the_examples_print_what_their_comments_say(code: str, prints: int) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "README.md", "exec"), {})
    promised = re.findall(r"print\(.*?\)  # (.*)", code)
    assert out.getvalue().splitlines() == promised
    assert len(promised) == prints
