"""TensorBoard's event files, written by tensorboardX: the writer that needs no deep learning framework."""

import struct
from collections.abc import Mapping
from pathlib import Path

from tests.benchmarks.trackers import Started, log_folder


def started(folder: Path) -> Started:
    """Open a writer with its defaults."""
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(log_folder(folder)))

    def log_many(metrics: Mapping[str, float], step: int) -> None:
        for key, value in metrics.items():
            writer.add_scalar(key, value, step)

    return Started(writer.add_scalar, log_many, writer.close)


def arrived(folder: Path) -> int:
    """Return how many scalars can be read from the event files: TFRecords, the last of which may be torn."""
    from tensorboardX.proto.event_pb2 import Event

    found = 0
    for path in log_folder(folder).iterdir():
        data, start = path.read_bytes(), 0
        while start + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, start)
            end = start + 12 + length + 4
            if end > len(data):
                break
            found += len(Event.FromString(data[start + 12 : end - 4]).summary.value)
            start = end
    return found
