"""W&B in offline mode."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.trackers import Started, log_folder

_BLOCK = 32_768
_FILE_HEADER = 7
_RECORD_HEADER = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_SETTLE_S = 3.0


def started(folder: Path) -> Started:
    """Start an offline run that logs what it is told and nothing by itself."""
    import wandb

    log_folder(folder).mkdir(parents=True)
    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True)
    run = wandb.init(project="benchmark", mode="offline", dir=str(log_folder(folder)), settings=settings)
    return Started(lambda key, value, step: run.log({key: value}, step), run.log, run.finish)


def arrived(folder: Path) -> int:
    """Return how many calls are in the transaction log, once the sidecar process that writes it has come to rest."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = log_folder(folder).rglob("*.wandb")
    size = -1
    while size != (size := path.stat().st_size):
        time.sleep(_SETTLE_S)
    return sum(Record.FromString(data).HasField("history") for data in _records(path.read_bytes()))


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log: pieces in blocks of 32 KiB, behind a header of W&B's own."""
    start, pieces = _FILE_HEADER, b""
    while start + _RECORD_HEADER.size <= len(data):
        left = _BLOCK - start % _BLOCK
        if left < _RECORD_HEADER.size:
            start += left
            continue
        _, length, kind = _RECORD_HEADER.unpack_from(data, start)
        body = data[start + _RECORD_HEADER.size : start + _RECORD_HEADER.size + length]
        if len(body) < length:
            return
        start += _RECORD_HEADER.size + length
        pieces = body if kind in (_FULL, _FIRST) else pieces + body
        if kind in (_FULL, _LAST):
            yield pieces
