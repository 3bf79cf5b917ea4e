"""The how-to guides on histories and on Maelstrom do what they say: their Python prints, and their commands answer, what they show."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDES = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(guide: str, language: str) -> list[str]:
    text = (GUIDES / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_python_of_the_guide_prints_what_its_comments_say() -> None:
    namespace: dict[str, object] = {}
    compared = 0
    for block in blocks("check-histories.md", "python"):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, "check-histories.md", "exec"), namespace)
        promised = re.findall(r"^ *print\(.*\)  # (.*)$|^# (.*)$", block, re.MULTILINE)
        said = [one or other for one, other in promised]
        assert out.getvalue().splitlines() == said
        compared += len(said)
    assert compared == 9


@pytest.mark.processes
def test_the_session_by_hand_is_answered_as_shown(tmp_path: Path) -> None:
    (session,) = blocks("maelstrom.md", "console")
    lines = session.splitlines()
    script = "\n".join(line[2:] for line in lines if line.startswith(("$ ", "> ")))
    shown = [line for line in lines if not line.startswith(("$ ", "> "))]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == shown
    assert done.stderr == ""
