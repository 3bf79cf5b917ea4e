"""The documents of the kit do what they say: their code runs and prints what they show, and the reference has every public name."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crdtledger import testing
from crdtledger.testing import strategies

DOCS = Path(__file__).parents[1] / "docs"


def blocks(path: Path) -> list[tuple[str, str]]:
    """(language, content) of every block of a document, in order."""
    return re.findall(r"^```(python|text)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


RUNNER = """
import contextlib, io, json, sys
from hypothesis import settings

settings.register_profile("documents", settings.default, derandomize=True, database=None)
settings.load_profile("documents")
names, told = {}, []
for code in json.load(sys.stdin):
    out = io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(code, "document", "exec"), names)
    except Exception as error:
        told.append("\\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]))
    else:
        told.append(out.getvalue().strip())
json.dump(told, sys.stdout)
"""
"""Runs blocks one after the other, and tells what each prints; or, if it raises, the exception with its notes.

In a process of its own: which of several shortest stories Hypothesis tells hangs on the modules that are loaded, too.
"""


def test_the_laws_say_of_the_faults_in_the_document_what_it_shows(tmp_path: Path) -> None:
    parts = blocks(DOCS / "how-to/test-your-crdt.md")
    code = json.dumps([content for language, content in parts if language == "python"])
    command = [sys.executable, "-c", RUNNER]
    ran = subprocess.run(command, cwd=tmp_path, input=code, capture_output=True, text=True, check=True, timeout=220)
    printed = iter(json.loads(ran.stdout))
    told, shown = "", 0
    for language, content in parts:
        if language == "python":
            assert not told, f"not shown in the document: {told}"
            told = next(printed)
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
