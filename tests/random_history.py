"""Random but plausible histories for tests of folds: runs of several writers, and a catalogue that a registrar decided."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from runtide_consumers.projection import Event, Origin
from runtide_consumers.registrar.deciding import decide
from runtide_consumers.registrar.folding import apply
from runtide_consumers.registrar.state import Catalogue
from runtide_schemas import topics
from runtide_schemas.envelope import Envelope
from runtide_schemas.events import deployments, logged_models, requests, runs
from runtide_schemas.events.metrics import MetricsLogged
from tests.event_log import AT, EventLog

RUNS = tuple(f"{number:032x}" for number in range(4))
MODELS = ("m-" + "1" * 32, "m-" + "2" * 32)
"""Ids of logged models; each run claims them."""
_PLACES = (f"/u/models/{MODELS[0]}", f"/v/models/{MODELS[1]}/artifacts")
OUTSIDE = ("e" * 32, "f" * 32)
"""What stands in the place of a run in the events of two models that no run made."""
WRITERS = ("w0", "w1")
_KEYS = ("loss", "acc", "val/äcc")
_VALUES = (0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, -np.nan, 5e-324)

Make = Callable[[Random], Any]


def metrics(random: Random, run_id: str, most: int = 6) -> MetricsLogged:
    """Return points with many ties, zeros of both signs, NaNs of both signs and infinities."""
    n = random.randint(0, most)
    value = np.array([random.choice(_VALUES) for _ in range(n)], np.float64)
    return MetricsLogged(
        run_id=run_id,
        keys=_KEYS,
        key_index=np.array([random.randrange(len(_KEYS)) for _ in range(n)], np.int32),
        step=np.array([random.randint(-1, 2) for _ in range(n)], np.int64),
        timestamp=np.array([AT + random.randint(0, 1) for _ in range(n)], np.int64),
        value=value,
    )


def run_event(random: Random) -> Any:
    """Return any event about one of the runs."""
    run_id = random.choice(RUNS)
    return random.choice(_RUN_EVENTS)(random, run_id)


def request(random: Random) -> Any:
    """Return any request, many of which cannot be granted."""
    return random.choice(_REQUESTS)(random)


def deployment(random: Random) -> Any:
    """Return any fact about one of a few deployments."""
    about: dict[str, Any] = {
        "deployment_id": random.choice(("d1", "d2", "d3")),
        "endpoint": "digits",
        "model": "m",
        "at": AT + random.randint(0, 99),
    }
    return random.choice(
        (
            lambda: deployments.DeploymentStarted(
                **about, version=1, source="s", digest="x", target="local", generation=1
            ),
            lambda: deployments.DeploymentSucceeded(
                **about, version=1, url="http://x", instance={"pid": "1", "a": "b"}
            ),
            lambda: deployments.DeploymentFailed(**about, version=2, reason="no"),
            lambda: deployments.DeploymentStopped(**about, version=2, reason="replaced"),
            lambda: deployments.DeploymentRolledBack(
                **about, from_version=2, to_version=1, to_deployment_id="d1", reason="unhealthy"
            ),
        )
    )()


def random_history(random: Random, length: int, without: tuple[type, ...] = ()) -> EventLog:
    """Return a log of about ``length`` events of every topic, with duplicates, gaps, late events and zombie facts.

    Of run events there are none of the types ``without``.
    """
    log = EventLog()
    state = Catalogue()
    seen: list[Event] = []
    for number in range(length):
        kind = random.random()
        if kind < 0.6:
            body = run_event(random)
            while isinstance(body, without):
                body = run_event(random)
            seen.append(log.add(body, random.choice(WRITERS), seq=_number(random)))
        elif kind < 0.9:
            fact = decide(state, request_event(request(random), number))
            apply(state, fact)
            seen.append(log.add(fact, "registrar", cause=fact.answer.request_id))
        else:
            seen.append(log.add(deployment(random), "deployer"))
        if random.random() < 0.1:
            again = random.choice(seen)
            log.append(again.envelope, again.body)
        if random.random() < 0.05 and kind < 0.9 and seen[-1].origin.topic == topics.CATALOG:
            log.add(seen[-1].body, "zombie")
    return log


def request_event(body: Any, offset: int, writer: str = "client", seq: int | None = None) -> Event:
    """Return a request as the registrar reads it."""
    envelope = Envelope(
        id=f"request-{offset}",
        type=type(body).__name__,
        subject="",
        writer=writer,
        seq=offset if seq is None else seq,
        time=AT + offset,
        source="/test",
        actor="someone",
    )
    return Event(Origin(topics.REQUESTS, 0, offset, AT), envelope, body)


def _number(random: Random) -> int | None:
    return random.randint(0, 12) if random.random() < 0.2 else None


def _tags(random: Random) -> dict[str, str]:
    return {key: random.choice("xyz") for key in random.sample(("a", "b", "ä"), random.randint(1, 3))}


def _model(random: Random, run_id: str) -> dict[str, str]:
    """Return run and id of a model, now and then of one outside of any run."""
    if random.random() < 0.3:
        outside = random.choice(OUTSIDE)
        return {"run_id": outside, "model_id": f"m-{outside}"}
    return {"run_id": run_id, "model_id": random.choice(MODELS)}


def _points(random: Random) -> tuple[logged_models.ModelPoint, ...]:
    return tuple(
        logged_models.ModelPoint(
            model_id=random.choice((*MODELS, f"m-{OUTSIDE[0]}")),
            key=random.choice(_KEYS),
            step=random.randint(0, 1),
            timestamp=AT,
            value=float(random.choice(_VALUES)),
            dataset_name=random.choice(("", "digits")),
        )
        for _ in range(random.randint(0, 4))
    )


def _name(random: Random) -> str:
    return random.choice(("m", "n", "o"))


def _webhook(random: Random) -> str:
    return f"{random.randint(1, 3):036x}"


def _version(random: Random) -> int:
    return random.randint(1, 4)


_RUN_EVENTS: tuple[Callable[[Random, str], Any], ...] = (
    lambda random, run_id: runs.RunStarted(
        run_id=run_id,
        name=random.choice("AB"),
        experiment_request=f"request-{random.randint(0, 40)}",
        start_time=AT + random.randint(0, 9),
        tags=_tags(random),
    ),
    lambda random, run_id: runs.RunUpdated(
        run_id=run_id,
        name=random.choice((None, "C", "D")),
        status=random.choice((None, "RUNNING", "FAILED")),
        end_time=random.choice((None, AT)),
    ),
    lambda random, run_id: runs.RunEnded(run_id=run_id, status="FINISHED", end_time=AT + random.randint(0, 9)),
    lambda random, run_id: runs.RunDeleted(run_id=run_id, at=AT),
    lambda random, run_id: runs.RunRestored(run_id=run_id, at=AT),
    lambda random, run_id: runs.RunPurged(run_id=run_id, at=AT, points=random.randint(0, 9), reason="r"),
    lambda random, run_id: runs.RunArtifactsRemoved(run_id=run_id, at=AT, files=1, bytes=random.randint(0, 9)),
    lambda random, run_id: runs.ParamsLogged(run_id=run_id, params=_tags(random)),
    lambda random, run_id: runs.ParamsLogged(run_id=run_id, params=_tags(random)),
    lambda random, run_id: runs.TagsSet(run_id=run_id, tags=_tags(random)),
    lambda random, run_id: runs.TagsDeleted(run_id=run_id, keys=tuple(_tags(random))),
    lambda random, run_id: runs.InputsLogged(
        run_id=run_id,
        datasets=(runs.DatasetInput(name="digits", digest=random.choice("12"), tags=_tags(random)),),
    ),
    lambda random, run_id: runs.ArtifactLogged(
        run_id=run_id, path=random.choice(("a.png", "b/c")), uri="u", size=random.randint(0, 9), sha256="s", at=AT
    ),
    lambda random, run_id: runs.ModelLogged(
        run_id=run_id,
        model_id=random.choice(MODELS),
        name="model",
        artifact_path="p",
        uri=random.choice(_PLACES),
        digest="d",
        size=1,
        flavors=("sklearn", "python_function"),
        at=AT,
    ),
    lambda random, run_id: logged_models.LoggedModelCreated(
        **_model(random, run_id),
        name=random.choice("AB"),
        experiment_id=random.choice(("", "1")),
        params=_tags(random),
        tags=_tags(random),
        at=AT + random.randint(0, 9),
    ),
    lambda random, run_id: logged_models.LoggedModelFinalized(
        **_model(random, run_id), status=random.choice(("READY", "FAILED")), at=AT + random.randint(0, 9)
    ),
    lambda random, run_id: logged_models.LoggedModelTagsSet(**_model(random, run_id), tags=_tags(random), at=AT),
    lambda random, run_id: logged_models.LoggedModelTagsDeleted(
        **_model(random, run_id), keys=tuple(_tags(random)), at=AT
    ),
    lambda random, run_id: logged_models.LoggedModelParamsLogged(**_model(random, run_id), params=_tags(random), at=AT),
    lambda random, run_id: logged_models.LoggedModelDeleted(**_model(random, run_id), at=AT + random.randint(0, 9)),
    lambda random, run_id: logged_models.ModelMetricsLogged(run_id=run_id, model_points=_points(random)),
    lambda random, run_id: logged_models.RunModelsLinked(
        run_id=run_id,
        links=(
            logged_models.ModelLink(
                model_id=random.choice(MODELS), role=random.choice(("input", "output")), step=random.randint(0, 2)
            ),
        ),
    ),
    lambda random, run_id: runs.RunLost(
        run_id=run_id, episode=random.randint(1, 3), silent_since=random.randint(AT, AT + 9), at=AT
    ),
    lambda random, run_id: runs.RunRecovered(run_id=run_id, episode=random.randint(1, 3), at=AT),
    lambda random, run_id: runs.WriterOpened(run_id=run_id, writer_id=random.choice(WRITERS), host="h", pid=1, at=AT),
    lambda random, run_id: runs.WriterClosed(
        run_id=run_id,
        writer_id=random.choice(WRITERS),
        counts={topics.RUNS: random.randint(1, 9), topics.METRICS: random.randint(1, 9)},
        at=AT,
    ),
    metrics,
    metrics,
    metrics,
)

_REQUESTS: tuple[Make, ...] = (
    lambda random: requests.CreateWebhook(
        webhook_id=_webhook(random),
        name=_name(random),
        url="https://x/y",
        events=("model_version.created",),
        secret="s",
    ),
    lambda random: requests.UpdateWebhook(webhook_id=_webhook(random), status=random.choice((None, "DISABLED"))),
    lambda random: requests.DeleteWebhook(webhook_id=_webhook(random)),
    lambda random: requests.CreateExperiment(name=random.choice("EFG"), if_exists="resolve", tags=_tags(random)),
    lambda random: requests.CreateExperiment(name=random.choice("EFG")),
    lambda random: requests.RenameExperiment(experiment_id=str(random.randint(0, 3)), name=random.choice("EFGH")),
    lambda random: requests.SetExperimentTags(experiment_id=str(random.randint(0, 3)), tags=_tags(random)),
    lambda random: requests.DeleteExperimentTags(experiment_id=str(random.randint(0, 3)), keys=("a",)),
    lambda random: requests.DeleteExperiment(experiment_id=str(random.randint(0, 3))),
    lambda random: requests.RestoreExperiment(experiment_id=str(random.randint(0, 3))),
    lambda random: requests.CreateRegisteredModel(name=_name(random), tags=_tags(random)),
    lambda random: requests.UpdateRegisteredModel(name=_name(random), description=random.choice("xy")),
    lambda random: requests.RenameRegisteredModel(name=_name(random), new_name=_name(random)),
    lambda random: requests.DeleteRegisteredModel(name=_name(random)),
    lambda random: requests.SetRegisteredModelTags(name=_name(random), tags=_tags(random)),
    lambda random: requests.DeleteRegisteredModelTags(name=_name(random), keys=("a",)),
    lambda random: requests.RegisterModelVersion(
        name=_name(random), source="runs:/x/y", tags=_tags(random), aliases=("champion",), flavors=("sklearn",)
    ),
    lambda random: requests.RegisterModelVersion(name=_name(random), source="runs:/x/y", create_model=False),
    lambda random: requests.RegisterModelVersion(name=_name(random), source="runs:/x/z"),
    lambda random: requests.UpdateModelVersion(name=_name(random), version=_version(random), description="new"),
    lambda random: requests.DeleteModelVersion(name=_name(random), version=_version(random)),
    lambda random: requests.SetModelVersionTags(name=_name(random), version=_version(random), tags=_tags(random)),
    lambda random: requests.DeleteModelVersionTags(name=_name(random), version=_version(random), keys=("b",)),
    lambda random: requests.SetAlias(name=_name(random), alias="challenger", version=_version(random)),
    lambda random: requests.SetAlias(
        name=_name(random), alias="champion", version=_version(random), expected_version=_version(random)
    ),
    lambda random: requests.DeleteAlias(name=_name(random), alias="champion"),
    lambda random: requests.TransitionStage(
        name=_name(random),
        version=_version(random),
        stage=random.choice(("staging", "Production", "None")),
        archive_existing=random.random() < 0.5,
    ),
    lambda random: requests.RequestDeployment(endpoint="digits", model=_name(random)),
    lambda random: requests.RequestDeployment(
        endpoint="digits", model=_name(random), follow="version", version=_version(random)
    ),
    lambda random: requests.RemoveDeployment(endpoint="digits"),
)
