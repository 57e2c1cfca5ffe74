"""The registrar's rules: what is granted, what is refused and with which of MLflow's codes."""

from typing import Any

import pytest

from runtide_consumers.registrar.deciding import DECISIONS, decide
from runtide_consumers.registrar.folding import FOLDS, apply
from runtide_consumers.registrar.state import Catalogue
from runtide_schemas import topics
from runtide_schemas.events.catalog import RequestRejected
from runtide_schemas.events.requests import (
    CreateExperiment,
    CreateRegisteredModel,
    CreateWebhook,
    DeleteAlias,
    DeleteExperiment,
    DeleteExperimentTags,
    DeleteModelVersion,
    DeleteModelVersionTags,
    DeleteRegisteredModel,
    DeleteRegisteredModelTags,
    DeleteWebhook,
    RegisterModelVersion,
    RemoveDeployment,
    RenameExperiment,
    RenameRegisteredModel,
    RequestDeployment,
    RestoreExperiment,
    SetAlias,
    SetExperimentTags,
    SetModelVersionTags,
    SetRegisteredModelTags,
    TransitionStage,
    UpdateModelVersion,
    UpdateRegisteredModel,
    UpdateWebhook,
)
from runtide_schemas.registry import EVENT_TYPES
from tests.random_history import request_event


class Catalog:
    """A catalogue that requests are put to, one after the other."""

    def __init__(self, *requests: Any) -> None:
        self.state = Catalogue()
        self._offset = 0
        for request in requests:
            fact = self.ask(request)
            assert not isinstance(fact, RequestRejected), fact

    def ask(self, request: Any) -> Any:
        """Return the fact that answers a request; it is folded."""
        event = request_event(request, self._offset)
        self._offset += 1
        fact = decide(self.state, event)
        assert apply(self.state, fact)
        assert fact.at == event.envelope.time
        assert fact.answer.request_id == event.envelope.id
        assert fact.answer.request_offset == event.origin.offset
        return fact


def version(name: str = "m", **values: Any) -> RegisterModelVersion:
    """Return a request for a version."""
    return RegisterModelVersion(name=name, source="runs:/x/model", **values)


def webhook(**values: Any) -> CreateWebhook:
    """Return a request for a webhook."""
    told: dict[str, Any] = {"webhook_id": HOOK, "name": "w", "url": "https://x/y", "events": ("model_version.created",)}
    return CreateWebhook(**told | values)


HOOK = "0" * 36
M1 = (version(),)
M2 = (version(), version())
EXPERIMENT = (CreateExperiment(name="e", tags={"a": "1"}),)
DELETED = (*EXPERIMENT, DeleteExperiment(experiment_id="1"))


def test_every_request_has_a_decision_and_every_fact_a_fold() -> None:
    of_topic = {
        topic: {event_type.cls for event_type in EVENT_TYPES.values() if event_type.topic == topic}
        for topic in (topics.REQUESTS, topics.CATALOG)
    }
    assert set(DECISIONS) == of_topic[topics.REQUESTS]
    assert set(FOLDS) == of_topic[topics.CATALOG]


@pytest.mark.parametrize(
    ("before", "request_body", "code", "message"),
    [
        ((), CreateExperiment(name=" "), "INVALID_PARAMETER_VALUE", "Experiment name"),
        ((), CreateExperiment(name="x" * 501), "INVALID_PARAMETER_VALUE", "limit is 500"),
        ((), CreateExperiment(name="e", if_exists="maybe"), "INVALID_PARAMETER_VALUE", "if_exists"),
        ((), CreateExperiment(name="e", artifact_location="runs:/x"), "INVALID_PARAMETER_VALUE", "runs:/"),
        ((), CreateExperiment(name="e", artifact_location="s3://x#y"), "INVALID_PARAMETER_VALUE", "fragment"),
        ((), CreateExperiment(name="e", tags={"a": "x" * 20_001}), "INVALID_PARAMETER_VALUE", "20000"),
        ((), CreateExperiment(name="Default"), "RESOURCE_ALREADY_EXISTS", "already exists"),
        (EXPERIMENT, CreateExperiment(name="e"), "RESOURCE_ALREADY_EXISTS", "already exists"),
        (DELETED, CreateExperiment(name="e"), "RESOURCE_ALREADY_EXISTS", "restore it"),
        ((), RenameExperiment(experiment_id="1", name="x"), "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=1"),
        ((), RenameExperiment(experiment_id="x", name="x"), "INVALID_PARAMETER_VALUE", "must be a valid integer"),
        (EXPERIMENT, RenameExperiment(experiment_id="1", name="Default"), "BAD_REQUEST", "already exists"),
        (DELETED, RenameExperiment(experiment_id="1", name="x"), "INVALID_STATE", "non-active"),
        (DELETED, DeleteExperiment(experiment_id="1"), "RESOURCE_DOES_NOT_EXIST", "No Experiment with id=1"),
        (EXPERIMENT, RestoreExperiment(experiment_id="1"), "RESOURCE_DOES_NOT_EXIST", "id=1"),
        (DELETED, SetExperimentTags(experiment_id="1", tags={"a": "1"}), "INVALID_PARAMETER_VALUE", "'active' state"),
        (EXPERIMENT, DeleteExperimentTags(experiment_id="1", keys=("b",)), "RESOURCE_DOES_NOT_EXIST", "No tag with"),
        ((), CreateRegisteredModel(name="a/b"), "INVALID_PARAMETER_VALUE", "'/'"),
        ((), CreateRegisteredModel(name=""), "INVALID_PARAMETER_VALUE", "not empty"),
        (M1, CreateRegisteredModel(name="m"), "RESOURCE_ALREADY_EXISTS", "(name=m) already exists"),
        ((), UpdateRegisteredModel(name="m"), "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=m not found"),
        ((), RenameRegisteredModel(name="m", new_name="n"), "RESOURCE_DOES_NOT_EXIST", "name=m"),
        (M1, RenameRegisteredModel(name="m", new_name="a:b"), "INVALID_PARAMETER_VALUE", "':'"),
        ((*M1, version("n")), RenameRegisteredModel(name="m", new_name="n"), "RESOURCE_ALREADY_EXISTS", "name=n"),
        ((), DeleteRegisteredModel(name="m"), "RESOURCE_DOES_NOT_EXIST", "name=m"),
        ((), SetRegisteredModelTags(name="m", tags={"a": "1"}), "RESOURCE_DOES_NOT_EXIST", "name=m"),
        (M1, SetRegisteredModelTags(name="m", tags={"a/../b": "1"}), "INVALID_PARAMETER_VALUE", "resolve"),
        ((), DeleteRegisteredModelTags(name="m", keys=("a",)), "RESOURCE_DOES_NOT_EXIST", "name=m"),
        ((), version(create_model=False), "RESOURCE_DOES_NOT_EXIST", "name=m"),
        ((), version(run_id="../x"), "INVALID_PARAMETER_VALUE", "run id"),
        ((), version(aliases=("latest",)), "INVALID_PARAMETER_VALUE", "reserved"),
        ((), RegisterModelVersion(name="m", source=""), "INVALID_PARAMETER_VALUE", "source"),
        ((), RegisterModelVersion(name="m", source="s3://a/%252e%252e/b"), "INVALID_PARAMETER_VALUE", "'..'"),
        (M1, UpdateModelVersion(name="m", version=2), "RESOURCE_DOES_NOT_EXIST", "(name=m, version=2) not found"),
        (M1, DeleteModelVersion(name="m", version=2), "RESOURCE_DOES_NOT_EXIST", "version=2"),
        (M1, SetModelVersionTags(name="m", version=2, tags={}), "RESOURCE_DOES_NOT_EXIST", "version=2"),
        (M1, DeleteModelVersionTags(name="m", version=2, keys=()), "RESOURCE_DOES_NOT_EXIST", "version=2"),
        (M1, SetAlias(name="m", alias="v1", version=1), "INVALID_PARAMETER_VALUE", "reserved"),
        (M1, SetAlias(name="m", alias="a b", version=1), "INVALID_PARAMETER_VALUE", "may only contain alphanumerics"),
        (M1, SetAlias(name="m", alias="a", version=2), "RESOURCE_DOES_NOT_EXIST", "version=2"),
        (M1, SetAlias(name="m", alias="a", version=1, expected_version=1), "RESOURCE_CONFLICT", "is not set"),
        (
            (*M2, SetAlias(name="m", alias="a", version=2)),
            SetAlias(name="m", alias="a", version=1, expected_version=0),
            "RESOURCE_CONFLICT",
            "points at version 2, expected version 0",
        ),
        ((), DeleteAlias(name="m", alias="a"), "RESOURCE_DOES_NOT_EXIST", "name=m"),
        (M1, TransitionStage(name="m", version=1, stage="Live"), "INVALID_PARAMETER_VALUE", "must be one of None"),
        (
            M1,
            TransitionStage(name="m", version=1, stage="None", archive_existing=True),
            "INVALID_PARAMETER_VALUE",
            "not an Active stage",
        ),
        (M1, TransitionStage(name="m", version=2, stage="Staging"), "RESOURCE_DOES_NOT_EXIST", "version=2"),
        ((), webhook(name="-a"), "INVALID_PARAMETER_VALUE", "Webhook name '-a' is invalid"),
        ((), webhook(name="a" * 64), "INVALID_PARAMETER_VALUE", "is invalid"),
        ((), webhook(url="ftp://x/y"), "INVALID_PARAMETER_VALUE", "Invalid webhook URL scheme: 'ftp'"),
        ((), webhook(url="https://"), "INVALID_PARAMETER_VALUE", "must include a hostname"),
        ((), webhook(url="https://[x"), "INVALID_PARAMETER_VALUE", "Invalid webhook URL"),
        ((), webhook(url="https://x/a b"), "INVALID_PARAMETER_VALUE", "Webhook URL"),
        ((), webhook(events=()), "INVALID_PARAMETER_VALUE", "non-empty list"),
        ((), webhook(events=("run.created",)), "INVALID_PARAMETER_VALUE", "run.created"),
        ((), webhook(status="PAUSED"), "INVALID_PARAMETER_VALUE", "ACTIVE, DISABLED"),
        ((), webhook(webhook_id="1"), "INVALID_PARAMETER_VALUE", "no UUID"),
        ((webhook(),), webhook(), "INVALID_PARAMETER_VALUE", "taken"),
        ((), UpdateWebhook(webhook_id=HOOK), "RESOURCE_DOES_NOT_EXIST", f"Webhook with ID {HOOK} not found."),
        ((webhook(),), UpdateWebhook(webhook_id=HOOK, url="x"), "INVALID_PARAMETER_VALUE", "scheme"),
        ((webhook(), DeleteWebhook(webhook_id=HOOK)), DeleteWebhook(webhook_id=HOOK), "RESOURCE_DOES_NOT_EXIST", HOOK),
        ((), RequestDeployment(endpoint="No_Label", model="m"), "INVALID_PARAMETER_VALUE", "Endpoint"),
        (M1, RequestDeployment(endpoint="e", model="m", follow="x"), "INVALID_PARAMETER_VALUE", "follow"),
        (M1, RequestDeployment(endpoint="e", model="m", follow="alias"), "INVALID_PARAMETER_VALUE", "alias"),
        (M1, RequestDeployment(endpoint="e", model="m", target=" "), "INVALID_PARAMETER_VALUE", "target"),
        (
            M1,
            RequestDeployment(endpoint="e", model="m", follow="version", version=2),
            "RESOURCE_DOES_NOT_EXIST",
            "version=2",
        ),
        ((), RemoveDeployment(endpoint="e"), "RESOURCE_DOES_NOT_EXIST", "Endpoint e"),
    ],
)
def test_what_cannot_be_is_refused(before: tuple[Any, ...], request_body: Any, code: str, message: str) -> None:
    fact = Catalog(*before).ask(request_body)
    assert isinstance(fact, RequestRejected)
    assert (fact.code, fact.request_type) == (code, type(request_body).__name__)
    assert message in fact.message


def test_experiments_are_counted_and_found_again() -> None:
    catalog = Catalog()
    assert catalog.ask(CreateExperiment(name="e")).experiment_id == "1"
    assert catalog.ask(CreateExperiment(name="f")).experiment_id == "2"
    assert catalog.ask(CreateExperiment(name="e", if_exists="resolve")).experiment_id == "1"
    assert catalog.ask(CreateExperiment(name="Default", if_exists="resolve")).experiment_id == "0"
    assert catalog.ask(DeleteExperiment(experiment_id="1")).experiment_id == "1"
    assert catalog.ask(CreateExperiment(name="e", if_exists="resolve")).experiment_id == "1"
    assert catalog.ask(RestoreExperiment(experiment_id="1")).experiment_id == "1"
    assert catalog.ask(RenameExperiment(experiment_id="1", name="g")).previous_name == "e"
    assert catalog.ask(CreateExperiment(name="e")).experiment_id == "3"


def test_version_numbers_are_never_used_twice_under_a_name() -> None:
    catalog = Catalog(*M2, DeleteModelVersion(name="m", version=2))
    assert catalog.ask(version()).version == 3
    catalog.ask(DeleteRegisteredModel(name="m"))
    again = catalog.ask(version())
    assert (again.version, again.model_created) == (4, True)
    catalog.ask(RenameRegisteredModel(name="m", new_name="n"))
    assert catalog.ask(version("m")).version == 5
    assert catalog.ask(version("n")).version == 5


def test_a_model_may_be_renamed_back_but_not_over_the_numbers_of_another() -> None:
    catalog = Catalog(*M2, RenameRegisteredModel(name="m", new_name="n"))
    assert catalog.ask(RenameRegisteredModel(name="n", new_name="m")).name == "m"
    catalog.ask(version("gone"))
    catalog.ask(DeleteRegisteredModel(name="gone"))
    fact = catalog.ask(RenameRegisteredModel(name="m", new_name="gone"))
    assert isinstance(fact, RequestRejected)
    assert "versions 1 under that name" in fact.message


def test_aliases_move_and_go_with_their_version() -> None:
    catalog = Catalog(*M2)
    assert catalog.ask(SetAlias(name="m", alias="best", version=1)).previous_version is None
    assert catalog.ask(SetAlias(name="m", alias="best", version=2, expected_version=1)).previous_version == 1
    catalog.ask(DeleteModelVersion(name="m", version=2))
    assert catalog.ask(SetAlias(name="m", alias="best", version=1, expected_version=0)).previous_version is None
    assert catalog.ask(DeleteAlias(name="m", alias="never-set")).alias == "never-set"
    third = catalog.ask(version(aliases=("best", "new", "best")))
    assert third.aliases == ("best", "new")
    assert catalog.ask(SetAlias(name="m", alias="best", version=1, expected_version=3)).version == 1


def test_stages_take_any_case_and_archive_the_others() -> None:
    catalog = Catalog(*M2, version())
    for number in (1, 2):
        assert catalog.ask(TransitionStage(name="m", version=number, stage="production")).stage == "Production"
    fact = catalog.ask(TransitionStage(name="m", version=3, stage="PRODUCTION", archive_existing=True))
    assert (fact.stage, fact.previous_stage, fact.archived_versions) == ("Production", "None", (1, 2))
    assert catalog.ask(TransitionStage(name="m", version=1, stage="none")).previous_stage == "Archived"


def test_wishes_for_an_endpoint_are_counted_over_its_removal() -> None:
    catalog = Catalog(*M1)
    assert catalog.ask(RequestDeployment(endpoint="e", model="m")).generation == 1
    assert catalog.ask(RequestDeployment(endpoint="e", model="m", follow="alias", alias="best")).generation == 2
    catalog.ask(RemoveDeployment(endpoint="e"))
    assert isinstance(catalog.ask(RemoveDeployment(endpoint="e")), RequestRejected)
    pinned = catalog.ask(RequestDeployment(endpoint="e", model="m", follow="version", version=1, alias="ignored"))
    assert (pinned.generation, pinned.version, pinned.alias) == (3, 1, "")


def test_a_refusal_changes_nothing_and_names_what_is_wrong_in_few_words() -> None:
    catalog = Catalog(*M1)
    fact = catalog.ask(CreateRegisteredModel(name="/" * 100_000))
    assert isinstance(fact, RequestRejected)
    assert len(fact.message) <= 2_000
    assert catalog.ask(version()).version == 2


def test_a_webhook_keeps_what_is_not_changed() -> None:
    catalog = Catalog(webhook(description="d", secret="s", events=("prompt.created", "prompt.created")))
    changed = catalog.ask(UpdateWebhook(webhook_id=HOOK, status="DISABLED", secret=""))
    assert (changed.name, changed.url, changed.events) == ("w", "https://x/y", ("prompt.created",))
    assert (changed.description, changed.secret, changed.status) == ("d", "", "DISABLED")
    told = catalog.ask(UpdateWebhook(webhook_id=HOOK, events=("model_version_tag.set",), name="v"))
    assert (told.name, told.events, told.status) == ("v", ("model_version_tag.set",), "DISABLED")


def test_prompts_and_models_share_their_names() -> None:
    mark = {"mlflow.prompt.is_prompt": "true"}
    catalog = Catalog(CreateRegisteredModel(name="p", tags=mark), CreateRegisteredModel(name="m"))
    assert catalog.ask(CreateRegisteredModel(name="p", tags=mark)).message == "Prompt (name=p) already exists."
    assert "already taken by a prompt" in catalog.ask(CreateRegisteredModel(name="p")).message
    assert "already taken by a registered model" in catalog.ask(CreateRegisteredModel(name="m", tags=mark)).message
    catalog.ask(SetRegisteredModelTags(name="m", tags=mark))
    catalog.ask(DeleteRegisteredModelTags(name="p", keys=tuple(mark)))
    assert "(name=p) already exists" in catalog.ask(CreateRegisteredModel(name="p")).message
    assert "Prompt (name=m)" in catalog.ask(CreateRegisteredModel(name="m", tags=mark)).message
