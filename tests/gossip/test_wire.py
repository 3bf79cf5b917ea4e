"""Frames: what is written is read, what is newer is kept, and no bytes at all make the decoder raise."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip import wire
from gossip.wire import Malformed

digests = st.binary(min_size=32, max_size=32)
lanes = st.binary(min_size=1, max_size=wire.MAX_LANE_BYTES)
counts = st.integers(0, 2**63 - 1)
seqs = st.integers(1, 2**63 - 1)
blobs = st.lists(st.binary(max_size=40), max_size=5).map(tuple)
extras = st.lists(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=9),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    ).map(lambda value: msgspec.Raw(msgspec.msgpack.encode(value))),
    max_size=wire.MAX_EXTRA,
).map(tuple)
versions = st.integers(1, 2**16 - 1)

messages: st.SearchStrategy[wire.Message] = st.one_of(
    st.builds(wire.Hello, versions, versions, digests, counts, seqs, counts, extras),
    st.builds(
        wire.Heads,
        digests,
        st.lists(st.builds(wire.LaneHead, lanes, counts, digests), max_size=4).map(tuple),
        st.booleans(),
        st.lists(digests, max_size=3).map(tuple),
        st.booleans(),
        extras,
    ),
    st.builds(wire.Push, blobs, extras),
    st.builds(wire.Want, counts, lanes, seqs, seqs, digests | st.just(b""), counts, extras),
    st.builds(wire.Range, counts, lanes, seqs, blobs, st.booleans(), extras),
    st.builds(wire.Busy, counts, st.integers(0, 2**31 - 1), extras),
    st.builds(wire.Refused, counts, st.text(max_size=30), extras),
    st.builds(wire.Evidence, blobs, extras),
    st.builds(wire.App, st.text(max_size=16), st.binary(max_size=30), extras),
)


@given(messages)
def test_a_message_is_read_as_it_was_written(message: wire.Message) -> None:
    assert wire.decode(wire.encode(message)) == message


@given(st.lists(st.sampled_from((0, 1, 255, 256, 65_535, 65_536)), max_size=18), counts, lanes, seqs, st.booleans())
def test_batches_stand_in_a_frame_as_msgpack_writes_them(
    sizes: list[int], request: int, lane: bytes, first: int, more: bool
) -> None:
    batches = tuple(bytes(size) for size in sizes)
    for message in (wire.Push(batches), wire.Range(request, lane, first, batches, more)):
        written = msgspec.msgpack.encode(message)  # its last byte is the empty list of additive fields
        assert wire.encode(message) == bytes((written[0] - 1,)) + written[1:-1]


@given(messages)
def test_fields_of_a_newer_version_are_written_back_when_relayed(message: wire.Message) -> None:
    frame = wire.encode(message)
    decoded = wire.decode(frame)
    assert not isinstance(decoded, Malformed)
    assert wire.encode(decoded) == frame


def test_a_frame_of_an_older_version_lacks_only_what_has_a_default() -> None:
    hello = wire.Hello(1, 1, bytes(32), 0, 5)
    values = msgspec.msgpack.decode(wire.encode(hello))
    assert wire.decode(msgspec.msgpack.encode(values[:-1])) == hello
    assert isinstance(wire.decode(msgspec.msgpack.encode(values[:-2])), Malformed)


@given(st.binary(max_size=300))
def test_no_bytes_make_the_decoder_raise(frame: bytes) -> None:
    wire.decode(frame)


@given(messages, st.data())
def test_no_damage_to_a_valid_frame_makes_the_decoder_raise(message: wire.Message, data: st.DataObject) -> None:
    frame = bytearray(wire.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(frame) - 1))
        match data.draw(st.sampled_from(("set", "cut", "put"))):
            case "set":
                frame[at] = data.draw(st.integers(0, 255))
            case "cut" if at:
                del frame[at:]
            case _:
                frame[at:at] = data.draw(st.binary(max_size=6))
    read = wire.decode(bytes(frame))
    if not isinstance(read, Malformed):
        assert not isinstance(wire.decode(wire.encode(read)), Malformed)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "not an array"),
        (b"\x91", "not an array"),
        (b"\xc0\x01", "not an array"),
        (b"\x91\x63", "unknown tag 99 at $[0]"),
        (b"\x92\x03\x91\x05", "Push: Expected `bytes`, got `int` at $[1][0]"),
        (b"\x92\x03\xdd\xff\xff\xff\xff", "length <= 1024 at $[1]"),
        (b"\x93\x03\x90" + b"\x91" * 100_000, "nested too deeply"),
        (b"\x9f\x03\x90" + b"\xc0" * 13, "additive fields"),
        (b"\x92\x03\x90\xc0", "Push"),
        (b"\x93\x07\x00\xa1\xff", "Refused"),
        (bytes(wire.MAX_FRAME_BYTES + 1), "at most"),
    ],
)
def test_a_refusal_names_what_where_and_why(frame: bytes, says: str) -> None:
    refusal = wire.decode(frame)
    assert isinstance(refusal, Malformed)
    assert says in str(refusal)


def test_counts_are_bounded() -> None:
    too_many = wire.Push((b"",) * (wire.MAX_BATCHES + 1))
    assert isinstance(wire.decode(wire.encode(too_many)), Malformed)
    fits = wire.Push((b"",) * wire.MAX_BATCHES)
    assert wire.decode(wire.encode(fits)) == fits


def test_the_largest_heads_message_fits_a_frame() -> None:
    rows = tuple(
        wire.LaneHead(at.to_bytes(wire.MAX_LANE_BYTES, "big"), 2**63 - 1, bytes(32)) for at in range(wire.MAX_LANES)
    )
    frame = wire.encode(wire.Heads(bytes(32), rows, True, (bytes(32),) * wire.MAX_EVIDENCE))
    assert len(frame) <= wire.MAX_FRAME_BYTES


@given(st.lists(st.integers(0, 3_000_000), max_size=12))
def test_packed_batches_keep_their_order_and_fit_their_frames(sizes: list[int]) -> None:
    batches = [bytes(size) for size in sizes]
    runs = wire.pack(batches)
    assert [len(batch) for run in runs for batch in run] == sizes
    assert all(
        len(wire.encode(wire.Range(2**62, bytes(128), 2**62, run, True))) <= wire.MAX_FRAME_BYTES for run in runs
    )


def test_a_batch_that_fits_no_frame_ends_the_packing() -> None:
    assert wire.pack([b"one", bytes(wire.MAX_FRAME_BYTES), b"three"]) == [(b"one",)]
