"""What a run accepts, refuses and records; offline, read from its spool."""

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runtide
from runtide.spool.limits import SpoolLimits
from runtide.spool.recovery import recover
from runtide.tracking import plan
from runtide.tracking.run import Run
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ParamsLogged, RunEnded, RunStarted, RunUpdated, WriterOpened


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=str(tmp_path / "artifacts"))
    run = runtide.start_run("unit")
    yield run
    run.end()


def logged(run: Run) -> list[Any]:
    """End a run and return the bodies that its spool holds, lifecycle first."""
    directory = run.writer.spool.directory
    run.end()
    spool = recover(directory, SpoolLimits())
    bodies = [
        decode(event.value())
        for topic in (topics.RUNS, topics.METRICS, topics.REQUESTS)
        for event in spool.read(topic, 0, 10**9)
    ]
    spool.close(remove=False)
    return bodies


def points(run: Run) -> list[tuple[str, int, int, float]]:
    return [
        (event.keys[key], step, timestamp, value)
        for event in logged(run)
        if isinstance(event, MetricsLogged)
        for key, step, timestamp, value in zip(
            event.key_index.tolist(), event.step.tolist(), event.timestamp.tolist(), event.value.tolist(), strict=True
        )
    ]


Call = Callable[[], None]


class Tensor:
    """Looks like a one-element tensor."""

    def __float__(self) -> float:
        return 2.5


def test_whatever_is_a_number_is_a_metric(run: Run) -> None:
    for value in (1, 1.5, np.float32(0.5), np.int64(7), np.array(3.0), Tensor(), float("nan"), float("-inf"), 10**300):
        run.log_metric("m", value, timestamp=9)
    values = [value for _, _, _, value in points(run)]
    assert values[:6] == [1.0, 1.5, 0.5, 7.0, 3.0, 2.5]
    assert math.isnan(values[6])
    assert values[7:] == [-math.inf, 1e300]


def test_steps_repeat_come_late_and_may_be_negative(run: Run) -> None:
    steps = [5, 5, 3, -1, np.int32(8), 4.0, -(2**63), 2**63 - 1]
    for step in steps:
        run.log_metric("m", 0.0, step=step)  # type: ignore[arg-type]  # NumPy and whole floats are taken too
    run.log_metric("m", 0.0)
    assert [step for _, step, _, _ in points(run)] == [5, 5, 3, -1, 8, 4, -(2**63), 2**63 - 1, 0]


def test_points_without_a_step_are_numbered_when_asked(tmp_path: Path) -> None:
    runtide.init(broker="", spool=tmp_path / "spool")
    run = runtide.start_run(auto_step=True)
    for value in (1.0, 2.0):
        run.log_metric("loss", value)
    run.log_metrics({"loss": 3.0, "accuracy": 0.5})
    run.log_metric("loss", 9.0, step=100)
    run.log_metric("loss", 4.0)
    with pytest.raises(runtide.InvalidRequest):
        run.log_metrics({"loss": 5.0, "accuracy": "x"})  # type: ignore[dict-item]  # the point of the test
    run.log_metric("loss", 5.0)
    found = [(key, step, value) for key, step, _, value in points(run)]
    assert [(step, value) for key, step, value in found if key == "loss"] == [
        (0, 1.0), (1, 2.0), (2, 3.0), (100, 9.0), (3, 4.0), (4, 5.0),
    ]  # fmt: skip
    assert ("accuracy", 0, 0.5) in found


def test_an_epoch_is_an_axis_of_its_own_and_a_step_for_want_of_one(run: Run) -> None:
    run.log_metrics({"loss": 1.0}, step=70, epoch=0.5)
    run.log_metrics({"loss": 2.0}, epoch=3)
    with pytest.raises(runtide.InvalidRequest, match="whole number"):
        run.log_metrics({"loss": 3.0}, epoch=1.5)
    assert [(key, step, value) for key, step, _, value in points(run)] == [
        ("loss", 70, 1.0), ("epoch", 70, 0.5), ("loss", 3, 2.0), ("epoch", 3, 3.0),
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["0.5", True, None, [1.0], b"1", 1j, object(), 10**400])
def test_what_is_no_number_is_refused_and_nothing_is_lost(run: Run, value: Any) -> None:
    run.log_metric("m", 1.0)
    with pytest.raises(runtide.InvalidRequest, match="Metric 'm' must be a number"):
        run.log_metric("m", value)
    with pytest.raises(runtide.InvalidRequest, match="Metric 'm' must be a number"):
        run.log_metrics({"other": 1.0, "m": value})
    run.log_metric("m", 2.0)
    assert [(key, value) for key, _, _, value in points(run)] == [("m", 1.0), ("m", 2.0)]


@pytest.mark.parametrize("step", ["1", 1.5, 2**63, None, float("nan"), []])
def test_what_is_no_step_is_refused(run: Run, step: Any) -> None:
    if step is not None:
        with pytest.raises(runtide.InvalidRequest, match="step must be a whole number"):
            run.log_metric("m", 1.0, step=step)
        with pytest.raises(runtide.InvalidRequest, match="step must be a whole number"):
            run.log_metrics({"m": 1.0}, step=step)
    run.log_metric("m", 2.0, step=7)
    assert [(step, value) for _, step, _, value in points(run)] == [(7, 2.0)]


@pytest.mark.parametrize("timestamp", [-1, 2**63, "now"])
def test_what_is_no_time_is_refused(run: Run, timestamp: Any) -> None:
    logs: list[Call] = [
        lambda: run.log_metric("m", 1.0, 0, timestamp),
        lambda: run.log_metrics({"m": 1.0}, 0, timestamp),
    ]
    for log in logs:
        with pytest.raises(runtide.InvalidRequest, match="timestamp must be Unix time"):
            log()
    assert points(run) == []


@pytest.mark.parametrize("key", ["", "a" * 251, "a/../b", "new\nline", "tab\t", 7, None, ["a"]])
def test_names_are_checked_everywhere(run: Run, key: Any) -> None:
    logs: list[Call] = [
        lambda: run.log_metric(key, 1.0),
        lambda: run.log_param(key, 1),
        lambda: run.set_tag(key, 1),
        lambda: run.delete_tag(key),
    ]
    for log in logs:
        with pytest.raises((runtide.InvalidRequest, TypeError)):
            log()
    assert not [body for body in logged(run) if isinstance(body, MetricsLogged | ParamsLogged)]


def test_many_params_are_split_into_events_that_a_broker_takes(run: Run) -> None:
    params = {f"p{number}": "ü" * 6_000 for number in range(200)}
    run.log_params(params)
    events = [body for body in logged(run) if isinstance(body, ParamsLogged)]
    assert len(events) > 1
    assert {key: value for body in events for key, value in body.params.items()} == params


def test_an_over_long_value_names_the_limit(run: Run) -> None:
    with pytest.raises(runtide.InvalidRequest, match="the limit is 6000"):
        run.log_params({"good": 1, "long": "x" * 6_001})
    with pytest.raises(runtide.InvalidRequest, match="the limit is 36"):
        run.log_input("digits", "x" * 37)
    assert not [body for body in logged(run) if isinstance(body, ParamsLogged)], "all or nothing"


def test_an_ended_run_takes_no_more_and_says_what_to_do(run: Run) -> None:
    run.log_metric("m", 1.0)
    run.end()
    run.end()
    logs: list[Call] = [
        lambda: run.log_metric("m", 1.0),
        lambda: run.log_metric("n", 1.0),
        lambda: run.log_param("p", 1),
    ]
    for log in logs:
        with pytest.raises(runtide.InvalidRequest, match=r"runtide\.attach"):
            log()


def test_a_status_is_one_of_three(run: Run) -> None:
    with pytest.raises(runtide.InvalidRequest, match="FINISHED, FAILED, KILLED"):
        run.end("DONE")  # type: ignore[arg-type]  # the point of the test


def test_a_second_run_needs_nested(run: Run) -> None:
    with pytest.raises(runtide.InvalidRequest, match="nested=True"):
        runtide.start_run()
    assert runtide.active_run() is run


def test_logging_starts_a_run_when_there_is_none(tmp_path: Path) -> None:
    runtide.init(broker="", spool=tmp_path / "spool")
    assert runtide.active_run() is None
    runtide.log_metric("m", 1.0)
    run = runtide.active_run()
    assert run is not None
    runtide.log_param("p", 1)
    assert {type(body).__name__ for body in logged(run)} >= {"RunStarted", "MetricsLogged", "ParamsLogged"}
    assert runtide.active_run() is None


def test_the_default_experiment_needs_no_request(run: Run) -> None:
    (started,) = [body for body in logged(run) if isinstance(body, RunStarted)]
    assert (started.experiment_id, started.experiment_request, started.experiment_name) == ("0", "", "")
    assert started.name == "unit"
    assert started.artifact_uri == run.artifact_uri


def test_a_resumed_run_goes_on(tmp_path: Path) -> None:
    runtide.init(broker="", spool=tmp_path / "spool")
    bodies = logged(runtide.start_run(run_id="ab" * 16, tags={"attempt": 2}))
    assert [body.status for body in bodies if isinstance(body, RunUpdated)] == ["RUNNING"]
    assert not [body for body in bodies if isinstance(body, RunStarted)]
    assert [body.status for body in bodies if isinstance(body, RunEnded)] == ["FINISHED"]


@pytest.mark.parametrize(("rank", "starts"), [("0", True), ("3", False), ("", True)])
def test_ranks_share_the_run_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: str, starts: bool
) -> None:
    monkeypatch.setattr(plan, "_common_id_used_by", 0)
    monkeypatch.setenv("RUNTIDE_RUN_ID", "shared-run")
    for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", "4" if rank else "")):
        monkeypatch.setenv(name, value)
    runtide.init(broker="", spool=tmp_path / "spool")
    run = runtide.start_run()
    child = runtide.start_run(nested=True)
    assert run.run_id == "shared-run"
    assert child.run_id != "shared-run", "only the outermost run is the shared one"
    child.end()
    bodies = logged(run)
    assert bool([body for body in bodies if isinstance(body, RunStarted)]) is starts
    assert bool([body for body in bodies if isinstance(body, RunEnded)]) is starts
    (opened,) = [body for body in bodies if isinstance(body, WriterOpened)]
    assert opened.rank == (int(rank) if rank else None)
    assert opened.world_size == (4 if rank else None)
    assert runtide.start_run().run_id != "shared-run", "once per process"
    runtide.end_run()


def test_files_are_stored_with_their_checksums(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "a.txt").write_text("hello")
    (tree / "deep" / "b c.json").write_text("{}")
    stored = run.log_artifacts(tree, "saved")
    assert [file.path for file in stored] == ["saved/a.txt", "saved/deep/b c.json"]
    assert stored[0].sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert (stored[0].size, stored[1].content_type) == (5, "application/json")
    root = tmp_path / "artifacts" / run.run_id / "artifacts"
    assert (root / "saved" / "deep" / "b c.json").read_text() == "{}"
    run.log_dict({"a": np.arange(2)}, "config.json")
    run.log_dict({"b": [1]}, "config.yaml")
    assert (root / "config.yaml").read_text() == "b:\n- 1\n"
    assert not list(root.rglob("*.unfinished"))


@pytest.mark.parametrize(
    "path", ["../up", "/root", "a//b", "a/./b", "nul\x00", "back\\slash", "c:x", "", "a/", "\ud800"]
)
def test_artifact_paths_cannot_leave_the_run(run: Run, path: str) -> None:
    with pytest.raises(runtide.InvalidRequest, match=r"Artifact path|Invalid path"):
        run.log_text("x", path)


def test_what_cannot_be_stored_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(runtide.InvalidRequest, match="there is no such file"):
        run.log_artifact(tmp_path / "missing.txt")
    with pytest.raises(runtide.InvalidRequest, match="as JSON"):
        run.log_dict({"a": object()}, "a.json")
    with pytest.raises(runtide.InvalidRequest, match="Matplotlib"):
        run.log_figure(object(), "a.png")


def test_durable_flush_returns_what_the_broker_has(run: Run) -> None:
    run.log_metric("m", 1.0)
    assert not run.flush(durable=True, timeout=0), "there is no broker; but it is on the disk"


IMPORT = """
import sys, threading, os
before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
import runtide
assert threading.active_count() == 1
heavy = {"aiokafka", "fsspec", "numpy", "fastavro", "pydantic", "asyncio"} & set(sys.modules)
assert not heavy, heavy
assert set(os.listdir("/proc/self/fd")) == before
for name in runtide.__all__:
    assert getattr(runtide, name).__doc__, name
assert threading.active_count() == 1
assert dir(runtide) == runtide.__all__
"""


def test_importing_starts_nothing_and_every_public_name_is_documented() -> None:
    subprocess.run([sys.executable, "-c", IMPORT], check=True)


def cpu_seconds(code: str) -> float:
    """Return the processor time of a fresh interpreter: unlike the clock, it does not count who else is running."""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_importing_costs_less_than_150_ms() -> None:
    pairs = [(cpu_seconds("pass"), cpu_seconds("import runtide")) for _ in range(7)]
    bare, imported = (statistics.median(times) for times in zip(*pairs, strict=True))
    noise = max(abs(time - bare) for time, _ in pairs)
    assert imported - bare < 0.150 + noise, (bare, imported, noise)
    assert imported < 5 * bare, (bare, imported)


def test_the_table_of_names_is_what_type_checkers_see() -> None:
    from runtide.tracking import fluent

    homes = runtide._HOMES
    assert {name for name in runtide.__all__ if name not in homes} <= set(vars(fluent))
    assert set(homes) <= set(runtide.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        runtide.nonsense  # noqa: B018
