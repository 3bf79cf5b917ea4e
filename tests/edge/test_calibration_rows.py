"""What is said of survival in reports: every match is counted once, and predicted is held against what became of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from crdtledger.edge.calibration import calibrate

FATES = {"tentative": "0.000", "settled": "4.000", "accepted": "4.000", "trimmed": "1.000", "voided": "0.000"}


def row(survival: int, status: str) -> dict[str, object]:
    stands = "4.000" if not survival else FATES[status]
    return {"qty": "4.000", "stands": stands, "survival": survival, "status": status}


@given(st.lists(st.tuples(st.integers(0, 999_999), st.sampled_from(sorted(FATES)))))
def test_every_match_is_counted_once(drawn: list[tuple[int, str]]) -> None:
    seen = calibrate([row(survival, status) for survival, status in drawn])
    asked = [(survival, status) for survival, status in drawn if survival]
    answered = [(survival, FATES[status] == "4.000") for survival, status in asked if status != "tentative"]
    assert seen.matches == len(drawn) == seen.firm + seen.waiting + seen.tentative
    assert seen.tentative == seen.survived + seen.trimmed + seen.voided == sum(one.matches for one in seen.bins)
    assert seen.survived == sum(whole for _, whole in answered)
    assert abs(seen.predicted - sum(survival for survival, _ in answered) / 1e6) < 0.001


def test_a_report_says_what_was_to_survive_and_what_did() -> None:
    seen = calibrate([row(800_000, "settled"), row(600_000, "voided"), row(500_000, "tentative"), row(0, "settled")])
    assert "4 matches: 1 firm, 2 tentative and answered, 1 waiting" in str(seen)
    assert "1 survived whole where 1.4 were promised (Brier score 0.200), 0 trimmed, 1 voided" in str(seen)
    assert "nothing to calibrate" in str(calibrate([]))
