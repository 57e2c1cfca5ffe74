"""MLflow's client in processes of its own: kills, forks, exits, and a broker that comes late or never."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide.sync import sync
from runtide_schemas.events.catalog import ExperimentCreated, ModelVersionRegistered
from runtide_schemas.events.runs import ParamsLogged, RunEnded, RunStarted, TagsSet, WriterClosed, WriterOpened
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import (
    RUN_TOPICS,
    assert_complete,
    bodies,
    broker_with_topics,
    child,
    deduplicated,
    finished,
    points_of,
    read_log,
)
from tests.ports import free_port

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_TRACKING_URI": "runtide://"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("mlflow") / "broker") as process:
        environment = os.environ | {"RUNTIDE_KAFKA_BOOTSTRAP": process.address}
        registrar = subprocess.Popen(
            [sys.executable, "-m", "runtide_consumers.registrar"], env=environment, stdout=subprocess.PIPE, text=True
        )
        try:
            assert registrar.stdout is not None
            assert registrar.stdout.readline().startswith("ready")
            yield process
        finally:
            registrar.kill()
            registrar.communicate()


def trainer(
    code: str, broker: str, spool: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    return child(code, *arguments, broker=broker, spool=spool, variables=QUIET | dict(variables or {}))


def trained(code: str, broker: str, spool: Path, *arguments: str) -> tuple[int, str, str]:
    return finished(trainer(code, broker, spool, *arguments))


VICTIM = """
import os
import mlflow
run = mlflow.start_run()
client, run_id = mlflow.MlflowClient(), run.info.run_id
os.write(1, f"{run_id}\\n".encode())
for step in range(10**9):
    client.log_metric(run_id, "loss", step * 0.5, step=step)
    os.write(1, b"m%d\\n" % step)
    if step % 20 == 0:
        mlflow.log_param(f"p{step}", step)
        os.write(1, b"p%d\\n" % step)
        mlflow.set_tag("t", step)
        os.write(1, b"t%d\\n" % step)
"""


@pytest.mark.parametrize("online", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_kill_loses_nothing_that_returned(broker: BrokerProcess, tmp_path: Path, online: bool) -> None:
    victims = [trainer(VICTIM, broker.address if online else "", tmp_path / "spool") for _ in range(2)]
    told = []
    for number, victim in enumerate(victims):
        assert victim.stdout is not None
        run_id = victim.stdout.readline().strip()
        assert run_id, victim.communicate()[1]
        begun = [victim.stdout.readline().strip() for _ in range(20)]
        time.sleep(0.1 + number * 0.13)
        victim.kill()
        out, _ = victim.communicate(timeout=120)
        told.append((run_id, [*begun, *out[: out.rfind("\n") + 1].split()]))
    assert [
        spool for spool in sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).spools if spool.problem
    ] == []
    for run_id, words in told:
        events = deduplicated(read_log(broker.address, run_id))
        assert_complete(events)
        steps = [int(word[1:]) for word in words if word[0] == "m"]
        assert len(steps) > 10
        points = points_of(events, "loss")
        assert points == [(step, step * 0.5) for step in range(len(points))]
        assert len(points) > max(steps)
        params = {key for body in bodies(events, ParamsLogged) for key in body.params}
        assert {word for word in words if word[0] == "p"} <= params
        tags = [body.tags["t"] for body in bodies(events, TagsSet) if "t" in body.tags]
        assert {word[1:] for word in words if word[0] == "t"} <= set(tags)
        assert [body.status for body in bodies(events, RunEnded)] == ["KILLED"]


@pytest.mark.slow
def test_an_end_that_returned_survives_a_kill(broker: BrokerProcess, tmp_path: Path) -> None:
    code = """
import os, signal
import mlflow
with mlflow.start_run() as run:
    mlflow.log_metric("m", 1.0)
print(run.info.run_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    _, out, _ = trained(code, "", tmp_path / "spool")
    sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address))
    events = read_log(broker.address, out.strip())
    assert_complete(events)
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"]
    assert [body.reason for body in bodies(events, WriterClosed)] == ["finished"]


@pytest.mark.parametrize(
    ("last_line", "status", "reason"),
    [
        ("raise ValueError('too deep')", "FAILED", "ValueError: too deep"),
        pytest.param("pass", "FINISHED", "", marks=pytest.mark.slow),
        pytest.param("raise KeyboardInterrupt", "KILLED", "KeyboardInterrupt", marks=pytest.mark.slow),
        pytest.param("mlflow.end_run('KILLED')", "KILLED", "", marks=pytest.mark.slow),
    ],
)
def test_every_way_out_ends_the_run(
    broker: BrokerProcess, tmp_path: Path, last_line: str, status: str, reason: str
) -> None:
    code = f"import mlflow\nprint(mlflow.start_run().info.run_id, flush=True)\nmlflow.log_metric('m', 1.0)\n{last_line}"
    _, out, _ = trained(code, broker.address, tmp_path / "spool")
    events = read_log(broker.address, out.strip())
    assert_complete(events)
    assert [(body.status, body.reason) for body in bodies(events, RunEnded)] == [(status, reason)]
    assert not list((tmp_path / "spool").glob("*/*")), "what was delivered is not kept"


@pytest.mark.slow
def test_a_forked_child_is_its_own_writer(broker: BrokerProcess, tmp_path: Path) -> None:
    code = """
import multiprocessing, os
import mlflow

def work(run_id, number):
    for step in range(100):
        mlflow.MlflowClient().log_metric(run_id, f"m{number}", step, step=step)

with mlflow.start_run() as run:
    mlflow.log_metric("parent", 1.0)
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(run.info.run_id, number)) for number in range(2)]
    [one.start() for one in children]
    [one.join() for one in children]
    if (pid := os.fork()) == 0:
        mlflow.MlflowClient().log_param(run.info.run_id, "of", "the child")
        os._exit(0)
    os.waitpid(pid, 0)
    mlflow.log_metric("parent", 2.0, step=1)
print(run.info.run_id, [one.exitcode for one in children])
"""
    _, out, errors = trained(code, broker.address, tmp_path / "spool")
    run_id, _, codes = out.strip().partition(" ")
    assert codes == "[0, 0]", errors
    sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address))
    events = deduplicated(read_log(broker.address, run_id))
    assert_complete(events)
    assert len(bodies(events, WriterOpened)) == 4
    assert [body.status for body in bodies(events, RunEnded)] == ["FINISHED"], "only who started it ends it"
    assert [dict(body.params) for body in bodies(events, ParamsLogged)] == [{"of": "the child"}]
    for number in range(2):
        assert points_of(events, f"m{number}") == [(step, float(step)) for step in range(100)]
    assert points_of(events, "parent") == [(0, 1.0), (1, 2.0)]


@pytest.mark.slow
def test_a_broker_that_is_away_at_the_start_gets_everything_when_it_comes(tmp_path: Path) -> None:
    code = """
import sys, time
import mlflow
began = time.monotonic()
mlflow.set_experiment("late")
with mlflow.start_run() as run:
    mlflow.log_param("p", 1)
    for step in range(500):
        mlflow.log_metric("m", step, step=step)
print(run.info.run_id, time.monotonic() - began, flush=True)
sys.stdin.readline()
"""
    late = BrokerProcess(tmp_path / "broker")
    late.port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        env={key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
        | QUIET
        | {"RUNTIDE_SPOOL": str(tmp_path / "spool"), "RUNTIDE_DATA": str(tmp_path)}
        | {"MLFLOW_TRACKING_URI": f"runtide://127.0.0.1:{late.port}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    run_id, seconds = process.stdout.readline().split() or ("", "0")
    assert run_id, process.communicate()
    assert float(seconds) < 15, "nothing but the question for the experiment's number waits, and that is bounded"
    late.start()
    try:
        from asyncio import run

        from runtide.kafka import ensure_topics

        run(ensure_topics(KafkaSettings(bootstrap=late.address), spread=2))
        process.communicate("end\n", timeout=60)
        events = read_log(late.address, run_id)
        assert_complete(events)
        assert points_of(events, "m") == [(step, float(step)) for step in range(500)]
        (started,) = bodies(events, RunStarted)
        assert (started.experiment_id, started.experiment_name) == ("", "late")
        assert started.experiment_request
    finally:
        late.stop()


@pytest.mark.slow
def test_ends_do_not_wait_for_a_broker_that_is_away_and_the_exit_says_what_is_left(tmp_path: Path) -> None:
    code = """
import json, time
import mlflow
took = []
for number in range(5):
    with mlflow.start_run():
        mlflow.log_metric("m", number)
        before = time.monotonic()
    took.append(time.monotonic() - before)
print(json.dumps(took), flush=True)
"""
    before = time.monotonic()
    process = trainer(code, f"127.0.0.1:{free_port()}", tmp_path / "spool", variables={"RUNTIDE_EXIT_DEADLINE": "5"})
    code_of_exit, out, errors = finished(process)
    assert code_of_exit == 0
    assert max(json.loads(out)) < 2
    assert errors.count("runtide sync") == 5
    assert time.monotonic() - before < 30


@pytest.mark.slow
def test_an_experiment_has_one_number_whoever_asks_first(broker: BrokerProcess, tmp_path: Path) -> None:
    code = """
import mlflow
experiment = mlflow.set_experiment("shared")
with mlflow.start_run() as run:
    pass
print(run.info.run_id, run.info.experiment_id, experiment.experiment_id)
try:
    mlflow.create_experiment("shared")
except mlflow.MlflowException as error:
    print(error.error_code)
"""
    answers = [trained(code, broker.address, tmp_path / "spool")[1].split() for _ in range(2)]
    again = "import mlflow\ntry:\n    mlflow.create_experiment('shared')\nexcept mlflow.MlflowException as e:\n    print(e.error_code)"
    assert trained(again, broker.address, tmp_path / "spool")[1].split() == ["RESOURCE_ALREADY_EXISTS"]
    events = read_log(broker.address)
    (created,) = [body for body in bodies(events, ExperimentCreated) if body.name == "shared"]
    for run_id, *ids, refusal in answers:
        assert ids == [created.experiment_id, created.experiment_id]
        assert refusal == "RESOURCE_ALREADY_EXISTS"
        (started,) = [body for body in bodies(events, RunStarted) if body.run_id == run_id]
        assert (started.experiment_id, started.experiment_request) == (created.experiment_id, "")


@pytest.mark.slow
def test_another_process_logs_to_a_run_by_its_id_alone(broker: BrokerProcess, tmp_path: Path) -> None:
    first = "import mlflow\nprint(mlflow.MlflowClient().create_run('0').info.run_id)\n"
    _, out, _ = trained(first, broker.address, tmp_path / "spool")
    run_id = out.strip()
    second = """
import sys
import mlflow
client = mlflow.MlflowClient()
client.log_metric(sys.argv[1], "m", 3.0)
client.set_terminated(sys.argv[1], "FAILED", end_time=7_000_000_000_000)
"""
    assert trained(second, broker.address, tmp_path / "spool", run_id)[0] == 0
    events = read_log(broker.address, run_id)
    assert_complete(events)
    assert [body.status for body in bodies(events, RunEnded)][-1] == "FAILED"
    assert points_of(events, "m") == [(0, 3.0)]
    assert {event.topic for event in events} <= {*RUN_TOPICS}


@pytest.mark.slow
def test_without_a_gateway_models_can_be_registered(broker: BrokerProcess, tmp_path: Path) -> None:
    code = """
import sys
import mlflow
client = mlflow.MlflowClient()
client.create_registered_model("plain", description="d", tags={"a": "b"})
version = client.create_model_version("plain", sys.argv[1])
print(version.version, version.status)
for ask in (lambda: client.get_registered_model("plain"), lambda: client.create_model_version("nobody", sys.argv[1])):
    try:
        ask()
    except mlflow.MlflowException as error:
        print(error.error_code)
"""
    model = tmp_path / "model"
    model.mkdir()
    (model / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: mine\nmodel_uuid: abc\n")
    _, out, errors = trained(code, broker.address, tmp_path / "spool", model.as_uri())
    expected = ["1", "READY", "TEMPORARILY_UNAVAILABLE", "RESOURCE_DOES_NOT_EXIST"]
    assert out.split() == expected, errors
    (registered,) = bodies(read_log(broker.address), ModelVersionRegistered)
    assert (registered.name, registered.version, registered.flavors) == ("plain", 1, ("python_function",))
    assert (registered.source, len(registered.digest)) == (model.as_uri(), 64)
