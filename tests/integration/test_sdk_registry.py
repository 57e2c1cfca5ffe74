"""Requests to a real registrar: versions, aliases, deployments, refusals, and no answer at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import runtide
from runtide.kafka import KafkaSettings
from runtide.publisher.pool import stop_all
from runtide.sync import sync
from runtide_schemas.events.catalog import ExperimentResolved, ModelVersionRegistered
from runtide_schemas.events.requests import SetAlias
from runtide_schemas.events.runs import ArtifactLogged, ModelLogged
from tests.broker_process import BrokerProcess, wait_until
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, read_log

linear_model = pytest.importorskip("sklearn.linear_model")


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("registry") / "broker") as process:
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
            stop_all()


@pytest.fixture
def here(broker: BrokerProcess, tmp_path: Path) -> Path:
    runtide.init(experiment="digits", broker=broker.address, spool=tmp_path / "spool")
    return tmp_path


def a_model() -> object:
    return linear_model.LogisticRegression().fit([[0.0], [1.0]], [0, 1])


def test_a_logged_model_is_registered_with_all_that_a_deployer_needs(broker: BrokerProcess, here: Path) -> None:
    with runtide.start_run() as run:
        model = run.log_model(a_model(), "classifier", input_example=[[0.5]])
        version = run.register_model("digits", model, aliases=("champion",), tags={"team": "blue"})
    assert (version.name, version.version, version.aliases) == ("digits", 1, ("champion",))
    events = read_log(broker.address, run.run_id)
    assert_complete(events)
    (logged,) = bodies(events, ModelLogged)
    assert (logged.model_id, logged.uri, logged.digest) == (model.model_id, model.uri, model.digest)
    assert "sklearn" in logged.flavors
    assert logged.size == sum(body.size for body in bodies(events, ArtifactLogged))
    (fact,) = bodies(read_log(broker.address), ModelVersionRegistered)
    assert (fact.source, fact.run_id, fact.model_id, fact.digest) == (
        model.uri,
        run.run_id,
        model.model_id,
        model.digest,
    )


def test_a_model_is_registered_by_its_uri_from_anywhere(broker: BrokerProcess, here: Path) -> None:
    with runtide.start_run() as run:
        model = run.log_model(a_model(), "classifier")
    version = runtide.register_model("by-uri", model.uri)
    assert (version.version, version.run_id, version.model_id) == (1, run.run_id, model.model_id)
    assert runtide.register_model("by-uri", model.uri).version == 2


def test_refusals_are_errors_with_the_registrars_words(here: Path) -> None:
    with pytest.raises(runtide.InvalidRequest) as caught:
        runtide.set_alias("no-such-model", "champion", 1)
    assert caught.value.code == "RESOURCE_DOES_NOT_EXIST"
    with pytest.raises(runtide.InvalidRequest, match="is not a model"):
        runtide.register_model("digits", (here / "nowhere").as_uri())


def test_an_endpoint_is_asked_for(here: Path) -> None:
    with runtide.start_run() as run:
        run.register_model("served", run.log_model(a_model(), "classifier"))
    first = runtide.deploy("answers", "served")
    second = runtide.deploy("answers", "served", follow=1)
    assert (first.follow, second.follow) == ("latest", "version")
    assert second.generation == first.generation + 1
    with pytest.raises(runtide.InvalidRequest, match="Endpoint"):
        runtide.deploy("No Such Name", "served")
    with pytest.raises(runtide.InvalidRequest, match="follow must be"):
        runtide.deploy("answers", "served", follow=0)


def test_a_run_by_experiment_name_is_resolved(broker: BrokerProcess, here: Path) -> None:
    for _ in range(2):
        with runtide.start_run(experiment="resolved"):
            pass
    wait_until(lambda: "resolved" in {fact.name for fact in bodies(read_log(broker.address), ExperimentResolved)})


def test_without_an_answer_the_request_is_kept_and_said(broker: BrokerProcess, tmp_path: Path) -> None:
    runtide.init(broker="", spool=tmp_path / "spool")
    with pytest.raises(runtide.AnswerPending, match="do not make it again") as caught:
        runtide.set_alias("digits", "later", 1)
    assert sync([tmp_path / "spool"], KafkaSettings(bootstrap=broker.address)).complete
    sent = [event for event in read_log(broker.address) if event.envelope.id == caught.value.request_id]
    assert [event.body for event in sent] == [SetAlias(name="digits", alias="later", version=1)]
