"""A history is checked as it is written and as it is read, and the complaint names the line."""

from __future__ import annotations

import pytest
from hypothesis import given

from crdtledger.errors import BadInput
from crdtledger.testing.history import History, Op, Recorder, read_history
from tests.testing.histories import Script, history, register_history, scripts


@given(scripts(20))
def test_what_is_recorded_reads_back_the_same(script: Script) -> None:
    recorded = register_history(script)
    again = read_history(recorded.encode())
    assert list(again) == list(recorded)
    assert again.calls == recorded.calls


@given(scripts(20))
def test_every_invocation_is_one_call_in_its_order_and_only_what_completed_for_certain_ends(script: Script) -> None:
    recorded = register_history(script)
    assert [call.invoked for call in recorded.calls] == [op for op in recorded if op.type == "invoke"]
    for call in recorded.calls:
        assert recorded[call.began] is call.invoked
        assert (call.ended is None) == (call.outcome == "info")
        assert call.ended is None or recorded[call.ended] is call.completed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a invoke read; a invoke read", r"operation 2 \(a invoke read\): the process has not completed operation 1"),
        ("a ok read 1", r"operation 1 \(a ok read 1\): the process has nothing open"),
        ("a invoke read; a ok write 1", "the process waits for read, not for write"),
        ("a invoke read; a info read; a invoke read", "ended with the info at operation 2"),
        ("a invoke read; a ok read 1; a ok read 1", "nothing open"),
        ("a invoke read; b info read", "nothing open"),
    ],
)
def test_what_cannot_have_happened_is_refused_with_its_place(text: str, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        history(text)


def test_time_does_not_go_back() -> None:
    with pytest.raises(BadInput, match="its time 4 is before 5"):
        History([Op(1, "invoke", "read", time_us=5), Op(2, "invoke", "read", time_us=4)])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b'{"process": 1, "type": "invoke", "f": "read"}\n\n{"process": 1', "line 3"),
        (b'{"process": 1, "type": "done", "f": "read"}', "line 1.*done"),
        (b'{"process": 1, "type": "ok", "f": "read", "valeu": 1}', "line 1.*valeu"),
        (b"\xff\xfe", "line 1"),
        (b"[" * 100_000, "line 1"),
    ],
)
def test_a_line_that_does_not_fit_is_named(raw: bytes, why: str) -> None:
    with pytest.raises(BadInput, match=why):
        read_history(raw)


def test_a_recorder_refuses_at_once_and_keeps_what_it_has() -> None:
    recorder = Recorder(clock=iter(range(10)).__next__)
    recorder.invoke("a", "write", 1)
    with pytest.raises(BadInput, match="has not completed"):
        recorder.invoke("a", "read")
    with pytest.raises(BadInput, match="nothing open"):
        recorder.ok("b")
    assert recorder.open() == ["a"]
    recorder.ok("a")
    assert [str(op) for op in recorder.history()] == ["a invoke write 1", "a ok write 1"]
    assert [op.value for op in recorder.history()] == [1, 1]
