"""The scenario families of Algorithm 1, each a transcript that shows every message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.reconcile.transcript import replay

FOLDER = Path(__file__).parent / "transcripts"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_core_does_what_the_transcript_says(path: Path) -> None:
    text = path.read_text()
    played = replay(text)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        path.write_text(played)
    assert played == text or os.environ.get("UPDATE_TRANSCRIPTS")


def test_there_are_transcripts() -> None:
    assert len(list(FOLDER.glob("*.txt"))) > 15
