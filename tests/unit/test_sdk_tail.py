"""The mapped tail: every point that was stored is there, whoever stored it and whatever interrupted."""

import signal
import threading
from itertools import count
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

from runtide.spool.limits import SpoolLimits
from runtide.spool.point_tail import PointTail
from runtide.spool.tail import FIRST_CAPACITY, RECORD, TailFile, tail_files
from runtide_schemas.errors import FatalError, InvalidRequest


def open_tail(directory: Path, sealed: int | None = None, limits: SpoolLimits | None = None) -> PointTail:
    tails: list[PointTail] = []
    tails.append(PointTail(directory, limits or SpoolLimits(), lambda: tails[0].size if tails else 0, sealed))
    return tails[0]


def drain(tail: PointTail) -> list[tuple[int, float]]:
    """All (step, value) that are not sealed, in order; sealed afterwards."""
    points: list[tuple[int, float]] = []
    while (chunk := tail.next_chunk(1000)) is not None:
        records, tail.sealed = chunk
        written = records[records["key"] != 0]
        points += list(zip(written["step"].tolist(), written["value"].tolist(), strict=True))
    for file in tail.take_drained():
        file.remove()
    return points


def test_what_goes_in_comes_out_across_files(tmp_path: Path) -> None:
    tail = open_tail(tmp_path)
    count = FIRST_CAPACITY + 10_000
    for step in range(count):
        tail.append(1, step, 5, step * 0.5)
    assert drain(tail) == [(step, step * 0.5) for step in range(count)]
    assert [path.name for path in tail_files(tmp_path)] == ["points-000002.tail"], "sealed files are deleted"


def test_values_are_kept_bit_for_bit(tmp_path: Path) -> None:
    values = [float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1.7976931348623157e308]
    tail = open_tail(tmp_path)
    tail.append_all([(7, -(2**63), 2**63 - 1, value) for value in values])
    records, _ = tail.next_chunk(100) or (None, 0)
    assert records is not None
    assert records["value"].tobytes() == np.array(values).tobytes()
    assert set(records["step"].tolist()) == {-(2**63)}
    assert set(records["timestamp"].tolist()) == {2**63 - 1}


def test_another_process_takes_over_what_is_not_sealed(tmp_path: Path) -> None:
    tail = open_tail(tmp_path)
    for step in range(FIRST_CAPACITY + 5):
        tail.append(1, step, 5, 0.0)
    assert [step for step, _ in drain(open_tail(tmp_path, sealed=100))] == list(range(100, FIRST_CAPACITY + 5))


def test_a_hole_is_skipped_and_what_follows_is_kept(tmp_path: Path) -> None:
    tail = open_tail(tmp_path)
    tail.append(1, 0, 5, 0.0)
    tail._files[0].reserve()  # what an exception between reserving and storing leaves
    tail.append(1, 2, 5, 0.0)
    assert [step for step, _ in drain(tail)] == [0, 2]


def test_signal_handlers_that_log_lose_nothing(tmp_path: Path) -> None:
    tail = open_tail(tmp_path)
    numbers, handled = count(), list[int]()

    def handler(number: int, frame: FrameType | None) -> None:
        step = next(numbers)  # one atomic step: handlers nest
        tail.append(2, step, 5, 0.0)
        handled.append(step)

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)  # far above the time of a rotation: handlers nest
    most = 20 * FIRST_CAPACITY  # an end, whatever the timer does
    try:
        logged = 0
        while (len(handled) < 200 or logged < 3 * FIRST_CAPACITY) and logged < most:
            tail.append(1, logged, 5, 0.0)
            logged += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    records = []
    while (chunk := tail.next_chunk(10_000)) is not None:
        records.append(chunk[0])
        tail.sealed = chunk[1]
    together = np.concatenate(records)
    for key, returned in ((1, logged), (2, len(handled))):
        assert sorted(together["step"][together["key"] == key].tolist()) == list(range(returned))


def test_threads_share_a_tail(tmp_path: Path) -> None:
    tail = open_tail(tmp_path)
    seen: list[tuple[int, float]] = []
    done = threading.Event()

    def work(number: int) -> None:
        for step in range(20_000):
            tail.append(1, step, 5, float(number))

    def seal() -> None:
        while not done.is_set():
            seen.extend(drain(tail))

    sealer = threading.Thread(target=seal)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in (sealer, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    sealer.join()
    seen += drain(tail)
    for number in range(4):
        assert [step for step, value in seen if value == number] == list(range(20_000)), "in order for each thread"


def test_the_bound_drops_counts_and_warns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tail = open_tail(tmp_path, limits=SpoolLimits(most_bytes=1_000_000, policy="drop"))
    for step in range(FIRST_CAPACITY + 7):
        tail.append(1, step, 5, 0.0)
    assert tail.dropped == 7
    assert "metric points are dropped" in caplog.text
    assert len(drain(tail)) == FIRST_CAPACITY


def test_the_bound_blocks_until_there_is_room(tmp_path: Path) -> None:
    occupied = 5_000_000
    limits = SpoolLimits(most_bytes=6_000_000, policy="block", wait=20)
    tail = PointTail(tmp_path, limits, lambda: occupied, None)
    tail.append_all([(1, step, 5, 0.0) for step in range(FIRST_CAPACITY)])
    blocked = threading.Thread(target=tail.append, args=(1, -1, 5, 0.0))
    blocked.start()
    blocked.join(0.3)
    assert blocked.is_alive(), "the call waits"
    occupied = 0
    tail.made_room()
    blocked.join(10)
    assert not blocked.is_alive()
    assert drain(tail)[-1][0] == -1
    assert tail.dropped == 0


def test_waiting_in_vain_happens_once(tmp_path: Path) -> None:
    limits = SpoolLimits(most_bytes=1_000_000, policy="block", wait=0.1)
    tail = open_tail(tmp_path, limits=limits)
    tail.append_all([(1, step, 5, 0.0) for step in range(FIRST_CAPACITY + 1000)])
    assert tail.dropped == 1000, "a second wait for each of them would take 100 s"


def test_a_closed_tail_takes_no_points(tmp_path: Path) -> None:
    tail = open_tail(tmp_path)
    tail.append(1, 0, 5, 0.0)
    tail.close()
    with pytest.raises(InvalidRequest, match="has ended"):
        tail.append(1, 1, 5, 0.0)
    assert [step for step, _ in drain(tail)] == [0]
    assert list(tail_files(tmp_path)) == []


def test_a_tail_of_another_format_is_refused(tmp_path: Path) -> None:
    file = TailFile.create(tmp_path, 0, 10)
    file.publish(1)
    file.map[8:12] = (2).to_bytes(4, "little")
    with pytest.raises(FatalError, match="newer Runtide"):
        TailFile.open(file.path)
    assert RECORD.size == 32
