"""The documents of the kit do what they say: their code runs and prints what they show, and the reference has every public name."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from crdtledger import testing
from crdtledger.testing import strategies

DOCS = Path(__file__).parents[1] / "docs"


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, content) of every block of a document, in order."""
    return re.findall(r"^```(python|text)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def told_by(code: str, names: dict[str, Any]) -> str:
    """What a block prints; or, if it raises, the exception with its notes."""
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "document", "exec"), names)
    except Exception as error:
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
    return out.getvalue().strip()


@pytest.fixture
def same_every_time() -> Iterator[None]:
    """Hypothesis draws alike at every run: which of several shortest stories is told depends on it."""
    profile = settings.get_current_profile_name()
    settings.register_profile("documents", settings.default, derandomize=True, database=None)
    settings.load_profile("documents")
    yield
    settings.load_profile(profile)


@pytest.mark.usefixtures("same_every_time")
def test_the_laws_say_of_the_faults_in_the_document_what_it_shows() -> None:
    names: dict[str, Any] = {}
    told, shown = "", 0
    for language, content in blocks(DOCS / "how-to/test-your-crdt.md"):
        if language == "python":
            assert not told, f"not shown in the document: {told}"
            told = told_by(content, names)
        else:
            assert told == content.strip()
            told, shown = "", shown + 1
    assert not told
    assert shown == 4


@pytest.mark.timeout(240)
def test_the_code_of_the_document_about_ledgers_is_a_test_suite_that_passes(tmp_path: Path) -> None:
    code = "\n\n".join(content for _, content in blocks(DOCS / "how-to/test-your-ledger.md"))
    (tmp_path / "test_document.py").write_text(code)
    command = [sys.executable, "-m", "pytest", "-q", "--strict-markers", "-p", "no:cacheprovider", "-W", "error"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=220)
    assert "5 passed" in ran.stdout, ran.stdout + ran.stderr


def test_the_public_names_are_those_of_the_reference() -> None:
    _, kit, drawn, _ = (DOCS / "reference/testing.md").read_text(encoding="utf-8").split("\n## ")
    for section, package in ((kit, testing), (drawn, strategies)):
        named = re.findall(r"^\| `(\w+)` \| \S", section, re.MULTILINE)
        assert named == sorted(package.__all__)
        for name in named:
            assert getattr(package, name) is not None
    assert {"ClusterMachine", "strategies"} <= set(dir(testing))
