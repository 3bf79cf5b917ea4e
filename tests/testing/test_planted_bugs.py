"""Bugs that are planted on purpose are found within the kit's budget, and shrunk to a few steps that a person can follow."""

from __future__ import annotations

import pytest
from hypothesis import Phase, seed
from hypothesis.stateful import run_state_machine_as_test

from crdtledger.errors import InvariantBroken
from crdtledger.testing.machine import budget
from crdtledger.testing.story import steps_of, story_of
from tests.testing import bugs

FEW = 10
BROKEN = (InvariantBroken, AssertionError)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("bug", "told", "broken"),
    [
        (bugs.join_skipped, "record", "exactness|convergence"),
        (bugs.client_id_reused, "backup", "single writer"),
        (bugs.spend_without_rights, "USDT of A", "overdraft"),
        (bugs.sync_dropped, "crashes", "lost what it had acknowledged"),
        (bugs.vote_sent_early, "record", "sends a vote before it is durable"),
        (bugs.ties_up, "COIN at 1024000.0", "exactness|convergence"),
    ],
    ids=["join", "client id", "rights", "sync", "vote", "rounding"],
)
def test_a_planted_bug_is_told_in_a_few_steps(
    bug: bugs.Bug, told: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the budget that every machine has. Not the same examples at every run: one time in twenty Hypothesis draws a number that it has
    read in the source of whatever is imported. So what is asked of a story holds for any seed."""
    with pytest.raises(BROKEN) as caught:
        run_state_machine_as_test(seed(1)(bug(monkeypatch)), settings=budget(database=None))
    story = story_of(caught.value)
    assert 0 < len(steps_of(story)) < FEW, story or repr(caught.value)
    assert told in story
    assert any(words in story.splitlines()[-2] for words in broken.split("|"))


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("bug", bugs.VARIATIONS.values(), ids=bugs.VARIATIONS)
def test_others_of_their_kind_are_found_whatever_the_seed(
    bug: bugs.Bug, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = seed(at)(bug(monkeypatch))
    with pytest.raises(BROKEN) as caught:
        run_state_machine_as_test(machine, settings=budget(database=None, phases=[Phase.generate]))
    assert story_of(caught.value)
