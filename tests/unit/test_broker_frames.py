"""Cutting a byte stream into request frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtide_deploy.broker.errors import MalformedRequest
from runtide_deploy.broker.wire.frames import FrameReader

LIMIT = 300_000


def receive(reader: FrameReader, data: bytes, step: int) -> list[bytes]:
    """Feed data as a socket would, at most ``step`` bytes a time."""
    frames = []
    while data:
        space = reader.space()
        count = min(step, len(space), len(data))
        space[:count] = data[:count]
        data = data[count:]
        frames += [bytes(frame) for frame in reader.received(count)]
    return frames


@given(sizes=st.lists(st.integers(10, 200_000), max_size=5), step=st.integers(1, 100_000))
def test_frames_come_out_as_they_went_in(sizes: list[int], step: int) -> None:
    frames = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    reader = FrameReader(LIMIT)
    assert receive(reader, stream, max(step, len(stream) // 500)) == frames
    assert not reader.is_mid_frame


def test_a_started_frame_is_noticed() -> None:
    reader = FrameReader(LIMIT)
    receive(reader, (20).to_bytes(4, "big") + b"x", 100)
    assert reader.is_mid_frame
    receive(reader, b"x" * 19, 100)
    assert not reader.is_mid_frame


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"GET / HTTP/1.1\r\n", "HTTP"),
        (b"POST /x HTTP/1.1\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        ((LIMIT + 1).to_bytes(4, "big"), "the limit is 300000"),
        (b"\xff\xff\xff\xff", "too few"),
        (b"\x00\x00\x00\x00", "too few"),
    ],
)
def test_other_protocols_and_sizes_are_refused(start: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest, match=message):
        receive(FrameReader(LIMIT), start, 100)
