"""Ctrl-C between any two steps of a call: as in notebooks, where the process goes on after it."""

import os
from pathlib import Path

import pytest

from runtide.spool.limits import SpoolLimits
from runtide.spool.segment import segment_files
from runtide.spool.writer_spool import WriterSpool
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.runs import ParamsLogged

RUN = "ab" * 16


class InterruptedOnce(list[int]):
    """Descriptors of segments; Ctrl-C comes when the first is to be kept."""

    interrupted = False

    def append(self, descriptor: int) -> None:
        if not self.interrupted:
            self.interrupted = True
            os.close(descriptor)
            raise KeyboardInterrupt
        super().append(descriptor)


def test_an_interrupt_while_a_segment_is_made_leaves_one_segment(tmp_path: Path) -> None:
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits())
    spool._logs[topics.RUNS]._descriptors = InterruptedOnce()
    bodies = [ParamsLogged(run_id=RUN, params={f"p{number}": "x"}) for number in range(2)]
    with pytest.raises(KeyboardInterrupt):
        spool.append(bodies[0])
    spool.append(bodies[1])
    spool.acknowledge(topics.RUNS, 1)
    spool.save_acknowledged()
    assert [first for topic, first, _ in segment_files(spool.directory) if topic == topics.RUNS] == [0]
    assert [decode(event.value()) for event in spool.read(topics.RUNS, 0, 1_000_000)] == bodies
