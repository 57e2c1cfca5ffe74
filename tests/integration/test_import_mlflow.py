"""MLflow's file store and database into the log: exactly, once, also offline, grown, damaged and hostile ones."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.importing import ImportOptions, import_runs
from runtide.importing.mlflow import import_store
from runtide.importing.records import Attributes, Record, SourceRun
from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.events.runs import (
    ArtifactLogged,
    InputsLogged,
    ParamsLogged,
    RunDeleted,
    RunEnded,
    RunStarted,
    TagsSet,
)
from runtide_schemas.identity import new_run_id
from tests.broker_process import BrokerProcess
from tests.integration.import_samples import (
    HOSTILE_ROWS,
    FileStoreSample,
    broker,
    connection_to,
    log_of,
    packed_all,
    series,
)
from tests.integration.sdk_log import assert_complete, bodies, read_log

__all__ = ["broker"]


@pytest.fixture
def store(tmp_path: Path) -> FileStoreSample:
    return FileStoreSample(tmp_path / "mlruns")


def test_a_file_store_arrives_point_for_point_with_its_own_times(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    parent, child = new_run_id(), new_run_id()
    folder = store.run(parent)
    store.metric(parent, "loss", HOSTILE_ROWS)
    store.metric(parent, "valid/a b", [(step, 1_600_000_000_000 + step, step / 3) for step in range(20_000)])
    store.text(parent, "params", "rate", "0.1")
    store.text(parent, "tags", "mlflow.note.content", "a *note*\nof two lines")
    store.dataset(parent, "digits", "training")
    (folder / "artifacts" / "deep").mkdir(parents=True)
    (folder / "artifacts" / "deep" / "file.txt").write_bytes(b"content")
    store.run(child, status=4, run_name="child", end_time=1_600_000_001_234)
    store.text(child, "tags", "mlflow.parentRunId", parent)

    report = import_store(store.root, connection_to(broker, tmp_path))

    assert sorted(report.new) == sorted([parent, child]) and not report.left_out and not report.unsent
    assert report.points == 20_000 + len(HOSTILE_ROWS)
    events = log_of(broker, parent)
    assert_complete(events)
    assert series(events) == {
        "loss": packed_all(HOSTILE_ROWS),
        "valid/a b": packed_all([(step, 1_600_000_000_000 + step, step / 3) for step in range(20_000)]),
    }
    (started,) = bodies(events, RunStarted)
    (request,) = [event for event in events if isinstance(event.body, CreateExperiment)]
    assert (started.name, started.user, started.start_time) == ("swift-fox", "ada", 1_599_999_999_000)
    assert request.body == CreateExperiment(name="digits", if_exists="resolve")
    assert started.experiment_request == request.envelope.id
    (ended,) = [event for event in events if isinstance(event.body, RunEnded)]
    assert (ended.body.status, ended.body.end_time, ended.envelope.time) == ("FINISHED",) + (1_600_000_009_000,) * 2
    assert bodies(events, ParamsLogged)[0].params == {"rate": "0.1"}
    assert bodies(events, TagsSet)[0].tags["mlflow.note.content"] == "a *note*\nof two lines"
    assert bodies(events, InputsLogged)[0].datasets[0].tags == {"mlflow.data.context": "training"}
    (artifact,) = bodies(events, ArtifactLogged)
    assert artifact.path == "deep/file.txt" and artifact.size == 7
    assert (tmp_path / "artifacts" / parent / "artifacts" / "deep" / "file.txt").read_bytes() == b"content"
    events = log_of(broker, child)
    assert bodies(events, RunStarted)[0].parent_run_id == parent
    assert bodies(events, RunEnded)[0].status == "FAILED"


def test_again_is_nothing_and_on_another_machine_the_same_events(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    store.run(run_id)
    store.metric(run_id, "loss", [(step, 1_600_000_000_000 + step, 1 / (step + 1)) for step in range(30_000)])
    import_store(store.root, connection_to(broker, tmp_path / "one"))
    once = read_log(broker.address, run_id)

    report = import_store(store.root, connection_to(broker, tmp_path / "one"))
    assert report.unchanged == [run_id] and not report.points
    assert len(read_log(broker.address, run_id)) == len(once)

    shutil.copytree(store.root, tmp_path / "copied")  # other paths, other times of files
    report = import_store(tmp_path / "copied", connection_to(broker, tmp_path / "two"))
    assert report.new == [run_id] and report.points == 30_000
    twice = read_log(broker.address, run_id)
    assert len(twice) == 2 * len(once)
    assert len(log_of(broker, run_id)) == len(once)  # which also checks that equal numbers have equal ids
    assert series(log_of(broker, run_id)) == series(once)


def test_a_source_that_has_grown_adds_what_is_new_and_no_point_twice(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    here = connection_to(broker, tmp_path)
    rows = [(step, 1_600_000_000_000 + step, step * 0.5) for step in range(25_000)]
    store.run(run_id, status=1, end_time=None)
    store.metric(run_id, "a", rows[:9_000])
    import_store(store.root, here)
    assert not bodies(log_of(broker, run_id), RunEnded)

    store.metric(run_id, "a", rows[9_000:])
    store.metric(run_id, "b", HOSTILE_ROWS)
    store.text(run_id, "params", "late", "1")
    report = import_store(store.root, here)
    assert report.grown == [run_id] and report.points == 16_000 + len(HOSTILE_ROWS)

    store.run(run_id)  # it ends
    assert import_store(store.root, here).points == 0
    assert import_store(store.root, here).unchanged == [run_id]
    events = log_of(broker, run_id)
    assert_complete(events)
    assert series(events) == {"a": packed_all(rows), "b": packed_all(HOSTILE_ROWS)}
    assert len(bodies(events, RunStarted)) == len(bodies(events, RunEnded)) == len(bodies(events, ParamsLogged)) == 1


def test_a_run_that_grew_after_an_import_from_elsewhere_is_not_imported_again(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    store.run(run_id)
    store.metric(run_id, "loss", HOSTILE_ROWS[:3])
    import_store(store.root, connection_to(broker, tmp_path / "one"))
    there = {event.envelope.writer for event in log_of(broker, run_id) if isinstance(event.body, MetricsLogged)}
    ask = ImportOptions(points_writers=lambda asked: there if asked == run_id else ())
    assert import_store(store.root, connection_to(broker, tmp_path / "two"), ask).new == [run_id]  # the same: no harm
    store.metric(run_id, "loss", HOSTILE_ROWS[3:])
    report = import_store(store.root, connection_to(broker, tmp_path / "three"), ask)
    assert not report.new and "another spool directory" in report.left_out[0][1].why
    assert import_store(store.root, connection_to(broker, tmp_path / "one"), ask).points == len(HOSTILE_ROWS) - 3
    assert series(log_of(broker, run_id)) == {"loss": packed_all(HOSTILE_ROWS)}


def test_a_series_that_was_rewritten_is_said_and_not_mixed(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    here = connection_to(broker, tmp_path)
    store.run(run_id)
    store.metric(run_id, "loss", HOSTILE_ROWS)
    store.metric(run_id, "good", HOSTILE_ROWS)
    import_store(store.root, here)
    (store.folder / run_id / "metrics" / "loss").unlink()
    store.metric(run_id, "loss", [(0, 1_600_000_000_000, 99.0)] * 20)
    store.metric(run_id, "good", [(9, 1_600_000_000_000, 9.0)])
    report = import_store(store.root, here)
    assert report.points == 1
    assert [left_out.what for _, left_out in report.left_out] == ["new points of 'loss'"]
    assert series(log_of(broker, run_id))["loss"] == packed_all(HOSTILE_ROWS)


def test_offline_everything_waits_for_sync(broker: BrokerProcess, store: FileStoreSample, tmp_path: Path) -> None:
    run_id = new_run_id()
    store.run(run_id)
    store.metric(run_id, "loss", HOSTILE_ROWS)
    here = connection_to(None, tmp_path)
    report = import_store(store.root, here)
    assert len(report.unsent) == 2 and all(path.is_dir() for path in report.unsent)
    assert import_store(store.root, here).unchanged == [run_id]
    sent = sync([here.spool], KafkaSettings(bootstrap=broker.address))
    assert sent.complete and len(sent.spools) == 2
    events = log_of(broker, run_id)
    assert_complete(events)
    assert series(events) == {"loss": packed_all(HOSTILE_ROWS)}


def test_an_import_with_a_broker_sends_what_an_earlier_one_without_had_left(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    store.run(run_id)
    store.metric(run_id, "loss", HOSTILE_ROWS)
    import_store(store.root, connection_to(None, tmp_path))
    report = import_store(store.root, connection_to(broker, tmp_path))
    assert report.unchanged == [run_id] and not report.unsent
    assert series(log_of(broker, run_id)) == {"loss": packed_all(HOSTILE_ROWS)}


KILLED = """
import os, sys
from pathlib import Path
from runtide.connection import Connection
from runtide.importing import ledger, mlflow, writing
root, spool, when = sys.argv[1:]
def die(*_): os._exit(9)
if when == "writing": writing.write_rest.__globals__["_conclude"] = die
if when == "noted": ledger.Ledger.release = die
mlflow.import_store(root, Connection.resolve(broker="", spool=spool, data=spool + "/none", artifacts=spool + "/a"))
"""


@pytest.mark.parametrize("when", ["writing", "noted"])
def test_an_import_may_be_killed_and_the_source_grow_before_the_next(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path, when: str
) -> None:
    run_id = new_run_id()
    rows = [(step, 1_600_000_000_000 + step, step * 0.25) for step in range(9_000)]
    store.run(run_id)
    store.metric(run_id, "loss", rows[:5_000])
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, store.root, tmp_path / "spool", when], check=False, timeout=120
    )
    assert killed.returncode == 9
    here = connection_to(broker, tmp_path)
    sent = sync([here.spool], KafkaSettings(bootstrap=broker.address)).spools
    assert len(sent) == (2 if when == "noted" else 0)  # nothing can be sent before it is whole and noted
    store.metric(run_id, "loss", rows[5_000:])
    import_store(store.root, here)
    assert not sync(
        [here.spool], KafkaSettings(bootstrap=broker.address)
    ).spools  # nor is anything left of it that could be sent later
    events = log_of(broker, run_id)
    assert_complete(events)
    assert series(events) == {"loss": packed_all(rows)}


def test_deleted_ones_are_reported_and_come_as_deleted_when_asked_for(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    store.run(run_id, lifecycle_stage="deleted")
    report = import_store(store.root, connection_to(broker, tmp_path / "one"))
    assert not report.new and "--deleted" in report.left_out[0][1].why
    assert not read_log(broker.address, run_id)
    assert import_store(store.root, connection_to(broker, tmp_path / "two"), deleted=True).new == [run_id]
    assert len(bodies(log_of(broker, run_id), RunDeleted)) == 1


def test_what_does_not_fit_is_kept_whole_elsewhere_or_reported(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    run_id = new_run_id()
    store.run(run_id)
    long = "long " * 2_000
    store.text(run_id, "params", "prompt", long)
    store.text(run_id, "params", "nul", "a\x00b")
    store.metric(run_id, "loss (train) [%]", [(0, 1, 0.5)])
    store.metric(run_id, "odd", [(0, -5, 1.0), (1, 5, 2.0)])
    (store.folder / run_id / "metrics" / "odd").open("a").write("no point\n7 0.5")  # a line that is torn
    report = import_store(store.root, connection_to(broker, tmp_path))
    said = {left_out.what: left_out.why for _, left_out in report.left_out}
    assert "10000 characters" in said["param 'prompt'"] and "NUL" in said["param 'nul'"]
    assert said.keys() == {"param 'prompt'", "param 'nul'", "1 points of 'odd'", "2 lines of metric 'odd'"}
    events = log_of(broker, run_id)
    (artifact,) = bodies(events, ArtifactLogged)
    stored = tmp_path / "artifacts" / run_id / "artifacts" / artifact.path
    assert stored.read_text() == long and artifact.path in said["param 'prompt'"]
    (name,) = [name for name in series(events) if name.startswith("loss")]
    tags = bodies(events, TagsSet)[0].tags
    assert tags[f"runtide.import.name.{name[-8:]}"] == "loss (train) [%]" and name == f"loss _train_ ___-{name[-8:]}"
    assert series(events)["odd"] == packed_all([(1, 5, 2.0)])


def test_a_hostile_store_reads_nothing_outside_of_itself(
    broker: BrokerProcess, store: FileStoreSample, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    run_id, bomb, other = new_run_id(), new_run_id(), new_run_id()
    folder = store.run(run_id, artifact_uri=secret.as_uri())
    (folder / "params").mkdir()
    (folder / "params" / "leak").symlink_to(secret / "key")
    (folder / "metrics").mkdir()
    (folder / "metrics" / "leak").symlink_to(secret / "key")
    store.run(other)
    (store.folder / other / "artifacts").mkdir()
    (store.folder / other / "artifacts" / "leak").symlink_to(secret / "key")
    (store.folder / other / "artifacts" / "folder").symlink_to(secret)
    store.run(bomb)
    lists = "\n".join(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 9))
    (store.folder / bomb / "meta.yaml").write_text(f"a0: &a0 [x]\n{lists}\n")
    evil = store.run(new_run_id())
    (evil / "meta.yaml").write_text("!!python/object/apply:os.system ['touch pwned']")
    store.run("escapes", run_id="../../../etc")
    report = import_store(store.root, connection_to(broker, tmp_path))
    assert sorted(report.new) == sorted([run_id, other])
    events = [*log_of(broker, run_id), *log_of(broker, other)]
    assert not series(events) and not bodies(events, ParamsLogged) and not bodies(events, ArtifactLogged)
    why = json.dumps([f"{left_out.what}: {left_out.why}" for _, left_out in report.left_out])
    assert why.count("leaves the source") == 4 and "aliases" in why and "--artifact-root" in why and "etc" in why
    allowed = import_store(store.root, connection_to(broker, tmp_path), artifact_roots=(secret,))
    assert allowed.artifacts == 2  # the run's own, and the other's link to a file


class BrokenSource:
    """A source one of whose runs cannot be read, for a reason of the system's."""

    kind = "broken"

    def __init__(self, number: int) -> None:
        self._number = number

    def runs(self) -> Iterator[SourceRun]:
        """Yield a run that can be read, and before it one that cannot."""
        for label, read in (("bad", self._fail), ("good", lambda: iter([Attributes(name="good", start_time=1)]))):
            yield SourceRun(run_id=new_run_id(), label=label, origin=label, size=1, read=read)

    def _fail(self) -> Iterator[Record]:
        raise OSError(self._number, os.strerror(self._number))


def test_a_run_that_may_not_be_read_does_not_stop_the_others_but_a_full_disk_does(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    report = import_runs(BrokenSource(errno.EACCES), here)
    assert report.new == ["good"] and "Permission denied" in report.left_out[0][1].why
    with pytest.raises(FatalError, match="make room"):
        import_runs(BrokenSource(errno.ENOSPC), here)


def test_a_dry_run_leaves_no_trace(store: FileStoreSample, tmp_path: Path) -> None:
    run_id = new_run_id()
    store.run(run_id)
    store.metric(run_id, "loss", HOSTILE_ROWS)
    here = connection_to(None, tmp_path)
    report = import_store(store.root, here, ImportOptions(dry_run=True))
    assert (report.new, report.points) == ([run_id], len(HOSTILE_ROWS))
    assert not here.spool.exists() and not (tmp_path / "artifacts").exists()


def test_names_can_be_given(broker: BrokerProcess, store: FileStoreSample, tmp_path: Path) -> None:
    run_id = new_run_id()
    store.run(run_id)
    options = ImportOptions(experiment="archive", run_name="old {name}", artifacts=False)
    import_store(store.root, connection_to(broker, tmp_path), options)
    (started,) = bodies(log_of(broker, run_id), RunStarted)
    assert (started.name, started.experiment_name) == ("old swift-fox", "archive")


def test_no_source_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    here = connection_to(None, tmp_path)
    (tmp_path / "empty").mkdir()
    for nothing in ("empty", "missing"):
        with pytest.raises(InvalidRequest, match=nothing):
            import_store(tmp_path / nothing, here)
    (tmp_path / "text.db").write_text("no database")
    with pytest.raises(InvalidRequest, match="no MLflow file store"):
        import_store(tmp_path / "text.db", here)


def test_two_imports_at_once_do_not_mix(store: FileStoreSample, tmp_path: Path) -> None:
    import fcntl

    store.run(new_run_id())
    here = connection_to(None, tmp_path)
    (here.spool / "imports").mkdir(parents=True)
    with (here.spool / "imports" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TransientError, match="another import"):
            import_store(store.root, here)
