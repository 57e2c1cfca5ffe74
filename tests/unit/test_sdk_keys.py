"""Metric names: whole lines on the disk, or in memory until it takes them."""

import errno
import os
from pathlib import Path

import pytest

from runtide.spool.keys import KeyTable, read_keys
from runtide.spool.limits import SpoolLimits
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.metrics import MetricsLogged

RUN = "ab" * 16


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_new_names_in_memory_until_it_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits())
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        loss, rate = spool.keys.add("loss"), spool.keys.add("rate")
    assert loss != rate
    assert spool.keys.add("loss") == loss
    assert read_keys(spool.directory) == {}
    assert caplog.text.count("cannot write metric names") == 1, "said once, not per name"
    spool.points.append(rate, 1, 1, 0.5)
    assert spool.seal()
    (event,) = spool.read(topics.METRICS, 0, 10**6)
    body = decode(event.value())
    assert isinstance(body, MetricsLogged)
    assert body.keys == ("rate",)
    spool.maintain()
    assert read_keys(spool.directory) == {loss: "loss", rate: "rate"}


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = KeyTable(tmp_path)
    first = keys.add("first")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:4]))
        second = keys.add("second")
    assert read_keys(tmp_path) == {first: "first"}
    third = keys.add("third")
    assert read_keys(tmp_path) == {first: "first", second: "second", third: "third"}
    keys.close()


def test_a_durable_flush_fails_when_a_name_is_not_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits())
    monkeypatch.setattr(os, "write", full)
    spool.keys.add("loss")
    with pytest.raises(OSError, match="No space left"):
        spool.sync()
