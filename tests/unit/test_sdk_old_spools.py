"""Spools of every version stay readable: the corpus in ``tests/spools``, one archive per format, made by ``generate.py``."""

import math
import zipfile
from pathlib import Path

import pytest

from runtide.spool import segment_format
from runtide.spool.inspection import summarize, verify
from runtide.spool.limits import SpoolLimits
from runtide.spool.recovery import recover
from runtide.sync import find_spools
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ParamsLogged, RunEnded, TagsSet, WriterClosed

CORPUS = sorted((Path(__file__).parents[1] / "spools").glob("*.zip"))
VALUES = [0.5, math.nan, math.inf, -math.inf, -0.0]


@pytest.fixture(params=CORPUS, ids=lambda path: path.stem)
def old_spool(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with zipfile.ZipFile(request.param) as archive:
        archive.extractall(tmp_path)
    (directory,) = find_spools([tmp_path])
    return directory


def test_the_corpus_has_the_present_format_and_all_before_it() -> None:
    assert [path.stem for path in CORPUS] == [f"format-{number}" for number in sorted(segment_format.READABLE_FORMATS)]
    assert segment_format.FORMAT in segment_format.READABLE_FORMATS


def test_an_old_spool_is_listed_and_sound(old_spool: Path) -> None:
    summary = summarize(old_spool)
    assert (summary.events, summary.unsent, summary.points) == (8, 6, 29)
    assert (summary.state, summary.problem) == ("left behind", "")
    assert list(verify(old_spool)) == []


def test_an_old_spool_is_recovered_to_the_last_point(old_spool: Path) -> None:
    spool = recover(old_spool, SpoolLimits(), ended=True)
    runs = [event for seq in range(spool.written(topics.RUNS)) for event in spool.read(topics.RUNS, seq, 1)]
    bodies = [decode(event.value()) for event in runs]
    kinds = [type(body) for body in bodies]
    assert kinds == [ParamsLogged] * 5 + [TagsSet, RunEnded, WriterClosed]
    assert [body.params for body in bodies if isinstance(body, ParamsLogged)][2] == {"p2": "wärmwärm"}
    assert [event.time for event in runs[:6]] == [1_700_000_000_000 + number for number in range(6)]
    assert spool.acked(topics.RUNS) == 2
    metrics = [
        decode(event.value())
        for seq in range(spool.written(topics.METRICS))
        for event in spool.read(topics.METRICS, seq, 1)
    ]
    points = [
        (body.keys[key], step, time, value)
        for body in metrics
        if isinstance(body, MetricsLogged)
        for key, step, time, value in zip(body.key_index, body.step, body.timestamp, body.value, strict=True)
    ]
    expected = [
        (("loss", "lernrate/ü")[step % 2], step, 1_700_000_000_000 + step, VALUES[step % 5]) for step in range(100)
    ]
    assert repr([(key, int(step), int(time), float(value)) for key, step, time, value in points]) == repr(expected)
    spool.close(remove=False)
