"""MLflow's own client against the registry of a gateway: registered models, versions, aliases, stages; and its errors' words."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from runtide_schemas.events.runs import ModelLogged, RunStarted
from tests.integration.gateway_stack import wait_until
from tests.integration.registry_stack import RegistryStack, running_registry_stack
from tests.postgres import PostgresServer

pytestmark = pytest.mark.gate

RUN, OTHER_RUN = "a" * 32, "b" * 32
MODEL, LOCAL_MODEL = "m-" + "1" * 32, "m-" + "2" * 32
ROOT = f"mlflow-artifacts:/0/{RUN}/artifacts"
HOME = f"mlflow-artifacts:/0/models/{MODEL}/artifacts"
S3 = "s3://bucket/model"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer) -> Iterator[RegistryStack]:
    """A stack with two runs and two logged models."""
    folder = tmp_path_factory.mktemp("registry")
    with postgres_server.database() as dsn, running_registry_stack(folder, dsn) as stack:
        local = folder / "local"
        local.mkdir()
        stack.state(
            RunStarted(run_id=RUN, name="one", experiment_id="0", start_time=1, artifact_uri=ROOT),
            RunStarted(run_id=OTHER_RUN, name="two", experiment_id="0", start_time=1, artifact_uri=local.as_uri()),
            ModelLogged(
                run_id=RUN, model_id=MODEL, name="net", artifact_path="net", uri=HOME, digest="d" * 64, size=1,
                flavors=("sklearn",), at=2,
            ),
            ModelLogged(
                run_id=OTHER_RUN, model_id=LOCAL_MODEL, name="net", artifact_path="net", uri=(local / "net").as_uri(),
                digest="e" * 64, size=1, flavors=("sklearn",), at=2,
            ),
        )  # fmt: skip
        for model_id in (MODEL, LOCAL_MODEL):  # reads do not wait for ever for what others than the gateway wrote
            there = partial(stack.call, "GET", f"logged-models/{model_id}")
            wait_until(lambda there=there: there().status_code == 200, "the state store to know the models")  # type: ignore[misc]  # bound now
        yield stack


@pytest.fixture(scope="module")
def client(stack: RegistryStack) -> MlflowClient:
    """MLflow's client of the stack."""
    return stack.client()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return str(request.node.name).replace("/", "").replace(":", "")[:200]


def refused(code: str, text: str, call: Callable[..., Any], *arguments: Any, **named: Any) -> None:
    """Hold an error of MLflow's client to its code and words."""
    with pytest.raises(MlflowException) as found:
        call(*arguments, **named)
    assert (found.value.error_code, text in found.value.message) == (code, True), found.value


def test_a_registered_model_from_its_creation_to_its_end(client: MlflowClient, name: str) -> None:
    made = client.create_registered_model(name, tags={"team": "vision"}, description="Reads digits.")
    assert (made.name, made.description, made.tags, made.latest_versions) == (
        name,
        "Reads digits.",
        {"team": "vision"},
        [],
    )
    assert made.creation_timestamp == made.last_updated_timestamp > 0
    assert dict(client.get_registered_model(name)) == dict(made)
    updated = client.update_registered_model(name, "Reads letters.")
    assert (updated.description, updated.creation_timestamp) == ("Reads letters.", made.creation_timestamp)
    assert updated.last_updated_timestamp >= made.last_updated_timestamp
    client.set_registered_model_tag(name, "empty", "")
    client.delete_registered_model_tag(name, "team")
    client.delete_registered_model_tag(name, "never set")
    assert client.get_registered_model(name).tags == {"empty": ""}
    first = client.create_model_version(name, S3, tags={"a": "1"})
    client.set_registered_model_alias(name, "champion", first.version)
    client.rename_registered_model(name, f"{name}-new")
    renamed = client.get_registered_model(f"{name}-new")
    assert (renamed.aliases, [one.version for one in renamed.latest_versions]) == ({"champion": "1"}, ["1"])
    assert client.get_model_version(f"{name}-new", "1").tags == {"a": "1"}
    refused(
        "RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name} not found", client.get_registered_model, name
    )
    client.delete_registered_model(f"{name}-new")
    gone = f"Model Version (name={name}-new, version=1) not found"
    refused("RESOURCE_DOES_NOT_EXIST", gone, client.get_model_version, f"{name}-new", "1")
    again = client.create_registered_model(f"{name}-new")
    assert (again.tags, again.aliases, again.latest_versions) == ({}, {}, [])


def test_a_version_from_its_registration_to_its_end(client: MlflowClient, name: str) -> None:
    client.create_registered_model(name)
    link = "https://elsewhere/run"
    made = client.create_model_version(name, S3, RUN, tags={"a": "1", "b": ""}, run_link=link, description="First.")
    assert (made.version, made.status, made.current_stage, made.run_link) == ("1", "READY", "None", link)
    assert (made.source, made.run_id, made.tags, made.aliases) == (S3, RUN, {"a": "1", "b": ""}, [])
    assert dict(client.get_model_version(name, "1")) == dict(made)
    assert client.update_model_version(name, "1", "Better.").description == "Better."
    client.set_model_version_tag(name, "1", "a", "2")
    client.delete_model_version_tag(name, "1", "b")
    client.delete_model_version_tag(name, "1", "never set")
    assert client.get_model_version(name, "1").tags == {"a": "2"}
    assert client.get_model_version_download_uri(name, "1") == S3
    client.create_model_version(name, S3)
    client.delete_model_version(name, "2")
    gone = f"Model Version (name={name}, version=2) not found"
    for call in (
        client.get_model_version,
        client.get_model_version_download_uri,
        client.delete_model_version,
    ):
        refused("RESOURCE_DOES_NOT_EXIST", gone, call, name, "2")
    refused("RESOURCE_DOES_NOT_EXIST", gone, client.update_model_version, name, "2", "Worse.")
    assert [one.version for one in client.get_registered_model(name).latest_versions] == ["1"]
    assert client.create_model_version(name, S3).version == "3"


def test_aliases_move_and_go_with_their_version(client: MlflowClient, name: str) -> None:
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, S3)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "champion", "2")
    client.set_registered_model_alias(name, "other", "2")
    assert client.get_model_version_by_alias(name, "champion").version == "2"
    assert client.get_model_version(name, "2").aliases == ["champion", "other"]
    assert client.get_registered_model(name).aliases == {"champion": "2", "other": "2"}
    assert client.get_model_version_by_alias(name, "latest").version == "3"
    client.delete_registered_model_alias(name, "other")
    client.delete_registered_model_alias(name, "never-set")
    client.delete_model_version(name, "2")
    for alias in ("champion", "other"):
        words = f"Registered model alias {alias} not found."
        refused("INVALID_PARAMETER_VALUE", words, client.get_model_version_by_alias, name, alias)
    gone = f"Model Version (name={name}, version=2) not found"
    refused("RESOURCE_DOES_NOT_EXIST", gone, client.set_registered_model_alias, name, "champion", "2")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_stages(client: MlflowClient, stack: RegistryStack, name: str) -> None:
    client.create_registered_model(name)
    for _ in range(4):
        client.create_model_version(name, S3)
    assert client.transition_model_version_stage(name, "1", "staging").current_stage == "Staging"
    client.transition_model_version_stage(name, "2", "STAGING")
    client.transition_model_version_stage(name, "3", "Staging", archive_existing_versions=True)
    assert [client.get_model_version(name, str(one)).current_stage for one in (1, 2, 3, 4)] == [
        "Archived",
        "Archived",
        "Staging",
        "None",
    ]
    latest = {one.current_stage: one.version for one in client.get_latest_versions(name)}
    assert latest == {"None": "4", "Staging": "3", "Archived": "2"}
    assert [one.version for one in client.get_latest_versions(name, ["archived", "Production"])] == ["2"]
    got = stack.call("GET", "registered-models/get-latest-versions", name=name, stages=["Staging", "None"])
    assert [one["version"] for one in got.json()["model_versions"]] == ["3", "4"]
    unknown = "Invalid Model Version stage: Live. Value must be one of None, Staging, Production, Archived."
    refused("INVALID_PARAMETER_VALUE", unknown, client.transition_model_version_stage, name, "1", "Live")
    refused("INVALID_PARAMETER_VALUE", unknown, client.get_latest_versions, name, ["Live"])
    idle = "because 'Archived' is not an Active stage. Valid stages are ['Staging', 'Production']"
    archive = client.transition_model_version_stage
    refused("INVALID_PARAMETER_VALUE", idle, archive, name, "1", "Archived", archive_existing_versions=True)


def test_versions_are_numbered_without_a_gap_whoever_asks(client: MlflowClient, name: str) -> None:
    client.create_registered_model(name)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: client.create_model_version(name, S3).version, range(20)))
    assert sorted(map(int, made)) == list(range(1, 21))
    assert [one.version for one in client.get_registered_model(name).latest_versions] == ["20"]


def test_a_copy_has_the_files_and_the_origin_of_what_it_copies(client: MlflowClient, name: str) -> None:
    client.create_registered_model(name)
    client.create_model_version(name, f"models:/{MODEL}", model_id=MODEL, tags={"a": "1"}, description="Good.")
    copy = client.copy_model_version(f"models:/{name}/1", f"{name}-copy")
    assert (copy.version, copy.source, copy.run_id) == ("1", f"models:/{name}/1", RUN)
    assert (copy.tags, copy.description) == ({"a": "1"}, "Good.")
    assert client.get_model_version_download_uri(f"{name}-copy", "1") == HOME
    again = client.copy_model_version(f"models:/{name}-copy/1", f"{name}-copy")
    assert (again.version, again.source) == ("2", f"models:/{name}-copy/1")
    client.delete_model_version(f"{name}-copy", "1")
    assert client.get_model_version_download_uri(f"{name}-copy", "2") == HOME


def test_a_logged_model_is_resolved_when_it_is_registered(
    client: MlflowClient, stack: RegistryStack, name: str
) -> None:
    client.create_registered_model(name)
    made = client.create_model_version(name, f"models:/{MODEL}", model_id=MODEL)
    assert (made.source, made.run_id) == (f"models:/{MODEL}", RUN)
    assert client.get_model_version_download_uri(name, "1") == HOME
    below = client.create_model_version(name, f"{HOME}/", model_id=MODEL)
    assert (below.source, below.run_id) == (f"{HOME}/", RUN)
    client.set_registered_model_alias(name, "champion", "1")
    of_alias = client.create_model_version(name, f"models:/{name}@champion")
    assert (of_alias.source, of_alias.run_id) == (f"models:/{name}/1", RUN)
    of_latest = client.create_model_version(name, f"models:/{name}/latest")
    assert of_latest.source == f"models:/{name}/3"
    shown = stack.call("GET", "model-versions/get", name=name, version="4").json()["model_version"]
    assert shown["run_link"] == shown["description"] == ""


def test_a_logged_model_tells_what_it_was_registered_as(client: MlflowClient, stack: RegistryStack, name: str) -> None:
    client.create_registered_model(name)
    for _ in range(2):
        client.create_model_version(name, f"models:/{MODEL}", model_id=MODEL)
    tags = client.get_logged_model(MODEL).tags
    mine = [one for one in json.loads(tags["mlflow.modelVersions"]) if one["name"] == name]
    assert mine == [{"name": name, "version": 1}, {"name": name, "version": 2}]


def test_searches_find_what_was_just_written(client: MlflowClient, name: str) -> None:
    client.create_registered_model(name, tags={"team": name})
    client.create_model_version(name, S3, RUN, run_link="https://elsewhere/run", tags={"a": "1"})
    client.create_model_version(name, f"{S3}/2")
    client.set_registered_model_alias(name, "best", "1")
    [model] = client.search_registered_models(f"tags.team = '{name}'")
    assert (model.aliases, [one.version for one in model.latest_versions]) == ({"best": "1"}, ["2"])
    found = client.search_model_versions(f"name = '{name}'", order_by=["version_number ASC"])
    assert [one.version for one in found] == ["1", "2"]
    assert (found[0].run_id, found[0].run_link, found[0].tags) == (RUN, "https://elsewhere/run", {"a": "1"})
    assert found[0].aliases == ["best"]
    pages = client.search_model_versions(f"name = '{name}'", max_results=1)
    assert (len(pages), bool(pages.token)) == (1, True)
    client.delete_model_version(name, "1")
    assert [one.version for one in client.search_model_versions(f"name = '{name}'")] == ["2"]
    client.delete_registered_model(name)
    assert client.search_registered_models(f"tags.team = '{name}'") == []
    assert client.search_model_versions(f"name = '{name}'") == []


@pytest.mark.parametrize(
    ("source", "run_id", "model_id", "words"),
    [
        (f"runs:/{RUN}/net", None, None, "The run_id request parameter must identify the resource"),
        (f"runs:/{RUN}/net", OTHER_RUN, None, "The run_id request parameter must identify the resource"),
        (f"{ROOT}/net", None, None, "The run_id request parameter must identify the resource"),
        (f"{ROOT}/net", OTHER_RUN, None, "The run_id request parameter must identify the resource"),
        (f"{ROOT}/net", "c" * 32, None, "The run_id request parameter must identify the resource"),
        (f"{ROOT}-secret/net", RUN, None, "The run_id request parameter must identify the resource"),
        (f"{ROOT}/../../x", RUN, None, "without relative path references"),
        (f"{ROOT}/..%2f..%2fx", RUN, None, "without relative path references"),
        (f"{ROOT}/%252e%252e/x", RUN, None, "without relative path references"),
        (f"{ROOT}/..%5cx", RUN, None, "without relative path references"),
        (f"{ROOT}/a%00b", RUN, None, "without relative path references"),
        ("s3:bucket/x", None, None, "Please provide an absolute path"),
        ("/etc/passwd", None, None, "To use a local path as a model version source, the run_id"),
        ("file:///etc/passwd", RUN, None, "To use a local path as a model version source, the run_id"),
        ("file:///etc/passwd", OTHER_RUN, None, "To use a local path as a model version source, the run_id"),
        ("file://elsewhere/x", OTHER_RUN, None, "is not a valid remote uri"),
        ("net", None, LOCAL_MODEL, "To use a local path as a model version source, the model_id"),
        (f"models:/{MODEL}", None, None, "The model_id request parameter must identify the resource"),
        (f"models:/{MODEL}", RUN, LOCAL_MODEL, "The model_id request parameter must identify the resource"),
        (f"models:/{'m-' + '9' * 32}", None, "m-" + "9" * 32, "Unable to fetch model from model URI source"),
        (f"runs:/{RUN}/net", RUN, MODEL, "The model_id request parameter must identify the resource"),
        (ROOT, RUN, MODEL, "The model_id request parameter must identify the resource"),
        ("models:/a/b/c", None, None, "The model_id request parameter must identify the resource"),
        ("models://host/a", None, None, "The model_id request parameter must identify the resource"),
        ("https://elsewhere/model", None, None, "'source' cannot use the 'https' scheme"),
        ("http://[broken/model", None, None, "Invalid model version source"),
    ],
)
def test_sources_that_lead_elsewhere_are_refused(
    stack: RegistryStack, client: MlflowClient, source: str, run_id: str | None, model_id: str | None, words: str
) -> None:
    if not any(one.name == "guarded" for one in _models(stack, "guarded")):
        client.create_registered_model("guarded")
    fields = {"run_id": run_id, "model_id": model_id}
    answer = stack.call("POST", "model-versions/create", name="guarded", source=source, **fields)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_code"] == "INVALID_PARAMETER_VALUE"
    assert words in answer.json()["message"]


def _models(stack: RegistryStack, name: str) -> list[Any]:
    try:
        return [stack.client().get_registered_model(name)]
    except MlflowException:
        return []


def test_what_lies_within_the_run_or_model_may_be_a_source(
    client: MlflowClient, stack: RegistryStack, name: str
) -> None:
    client.create_registered_model(name)
    assert client.create_model_version(name, f"runs:/{RUN}/net", RUN).source == f"runs:/{RUN}/net"
    assert client.create_model_version(name, f"{ROOT}/net", RUN).run_id == RUN
    local = stack.call("GET", "runs/get", run_id=OTHER_RUN).json()["run"]["info"]["artifact_uri"]
    assert client.create_model_version(name, f"{local}/net", OTHER_RUN).source == f"{local}/net"
    path = f"{local}/net/model".removeprefix("file://")
    assert client.create_model_version(name, path, model_id=LOCAL_MODEL).run_id == OTHER_RUN


def test_a_version_of_another_that_claims_another_origin_is_refused(client: MlflowClient, name: str) -> None:
    client.create_registered_model(name)
    client.create_model_version(name, f"models:/{MODEL}", model_id=MODEL)
    words = "The run_id and model_id request parameters must match the referenced model version."
    refused("INVALID_PARAMETER_VALUE", words, client.create_model_version, name, f"models:/{name}/1", OTHER_RUN)
    missing = f"Model Version (name={name}, version=7) not found"
    refused("RESOURCE_DOES_NOT_EXIST", missing, client.create_model_version, name, f"models:/{name}/7")
    refused(
        "RESOURCE_DOES_NOT_EXIST",
        "Registered Model with name=nobody not found",
        client.create_model_version,
        name,
        "models:/nobody/1",
    )


def test_prompts_share_the_names_of_models(stack: RegistryStack, name: str) -> None:
    def create(path: str, *tags: str, **fields: Any) -> Any:
        marked = [{"key": "mlflow.prompt.is_prompt", "value": value} for value in tags]
        return stack.call("POST", f"{path}/create", name=name, tags=marked, **fields).json()

    assert create("registered-models", "true")["registered_model"]["name"] == name
    taken = f"Tried to create a registered model with name {name!r}, but the name is already taken by a prompt."
    for tags, words in (((), taken), (("false",), taken), (("true",), f"Prompt (name={name}) already exists.")):
        answer = create("registered-models", *tags)
        assert answer["error_code"] == "RESOURCE_ALREADY_EXISTS"
        assert answer["message"].startswith(words)
    refusal = create("model-versions", "true", source=S3)
    assert refusal["message"] == f"Invalid prompt source: '{S3}'. Prompt sources must use an MLflow placeholder."
    assert create("model-versions", "true", source="dummy-source")["model_version"]["version"] == "1"
    copied = stack.call("POST", "model-versions/create", name=name, source=f"models:/{name}/1").json()
    assert "Prompt versions cannot be used as model version sources." in copied["message"]


MODELS, VERSIONS = "registered-models", "model-versions"
LONG = "x" * 100_001


@pytest.mark.parametrize(
    ("method", "path", "fields", "status", "code", "words"),
    [
        ("POST", f"{MODELS}/create", {}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'name'."),
        ("POST", f"{MODELS}/create", {"name": 7}, 400, "INVALID_PARAMETER_VALUE", "Invalid value 7 for parameter 'name'"),
        ("POST", f"{MODELS}/create", {"name": "  "}, 400, "INVALID_PARAMETER_VALUE", "required parameter 'name'"),
        ("POST", f"{MODELS}/create", {"name": "a/b"}, 400, "INVALID_PARAMETER_VALUE", "Invalid model name 'a/b'. Names cannot contain '/' or ':'."),
        ("POST", f"{MODELS}/create", {"name": "a:b"}, 400, "INVALID_PARAMETER_VALUE", "Invalid model name 'a:b'."),
        ("POST", f"{MODELS}/create", {"name": ".."}, 400, "INVALID_PARAMETER_VALUE", "This name would resolve to '..'"),
        ("POST", f"{MODELS}/create", {"name": "x" * 257}, 400, "INVALID_PARAMETER_VALUE", "the limit is 256"),
        ("POST", f"{MODELS}/create", {"name": "a\u0000b"}, 400, "INVALID_PARAMETER_VALUE", "NUL"),
        ("POST", f"{MODELS}/create", {"name": "taken"}, 400, "RESOURCE_ALREADY_EXISTS", "Registered Model (name=taken) already exists."),
        ("POST", f"{MODELS}/create", {"name": "n", "tags": [{"key": "a/../b", "value": "1"}]}, 400, "INVALID_PARAMETER_VALUE", "This name would resolve to 'b'"),
        ("POST", f"{MODELS}/create", {"name": "n", "tags": [{"key": "k" * 251, "value": "1"}]}, 400, "INVALID_PARAMETER_VALUE", "'key' exceeds the maximum length of 250 characters"),
        ("POST", f"{MODELS}/create", {"name": "n", "tags": [{"key": "k", "value": LONG}]}, 400, "INVALID_PARAMETER_VALUE", "'value' exceeds the maximum length of 100000 characters"),
        ("GET", f"{MODELS}/get", {}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'name'."),
        ("GET", f"{MODELS}/get", {"name": "nobody"}, 404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found"),
        ("PATCH", f"{MODELS}/update", {"name": "nobody", "description": ""}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("POST", f"{MODELS}/rename", {"name": "taken"}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'new_name'."),
        ("POST", f"{MODELS}/rename", {"name": "nobody", "new_name": "n"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("POST", f"{MODELS}/rename", {"name": "taken", "new_name": "taken too"}, 400, "RESOURCE_ALREADY_EXISTS", "Registered Model (name=taken too) already exists."),
        ("DELETE", f"{MODELS}/delete", {"name": "nobody"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("POST", f"{MODELS}/set-tag", {"name": "taken"}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'key'."),
        ("POST", f"{MODELS}/set-tag", {"name": "nobody", "key": "k"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("DELETE", f"{MODELS}/delete-tag", {"name": "nobody", "key": "k"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("POST", f"{MODELS}/get-latest-versions", {"name": "nobody"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("POST", f"{MODELS}/alias", {"name": "taken", "alias": "a b", "version": "1"}, 400, "INVALID_PARAMETER_VALUE", "Invalid alias name: 'a b'. Names may only contain alphanumerics, underscores (_), and dashes (-)."),
        ("POST", f"{MODELS}/alias", {"name": "taken", "alias": "Latest", "version": "1"}, 400, "INVALID_PARAMETER_VALUE", "'latest' alias name (case insensitive) is reserved."),
        ("POST", f"{MODELS}/alias", {"name": "taken", "alias": "v1", "version": "1"}, 400, "INVALID_PARAMETER_VALUE", "Version alias name 'v1' is reserved."),
        ("POST", f"{MODELS}/alias", {"name": "taken", "alias": "a" * 256, "version": "1"}, 400, "INVALID_PARAMETER_VALUE", "'Registered model alias name' exceeds the maximum length of 255 characters"),
        ("POST", f"{MODELS}/alias", {"name": "taken", "alias": "a", "version": "one"}, 400, "INVALID_PARAMETER_VALUE", "Parameter 'version' must be an integer, got 'one'."),
        ("POST", f"{MODELS}/alias", {"name": "taken", "alias": "a", "version": 1}, 400, "INVALID_PARAMETER_VALUE", "Invalid value 1 for parameter 'version'"),
        ("POST", f"{MODELS}/alias", {"name": "nobody", "alias": "a", "version": "1"}, 404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=nobody, version=1) not found"),
        ("GET", f"{MODELS}/alias", {"name": "taken", "alias": "nowhere"}, 400, "INVALID_PARAMETER_VALUE", "Registered model alias nowhere not found."),
        ("GET", f"{MODELS}/alias", {"name": "taken", "alias": "latest"}, 404, "RESOURCE_DOES_NOT_EXIST", "Latest version not found for model taken."),
        ("GET", f"{MODELS}/alias", {"name": "nobody", "alias": "a"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("DELETE", f"{MODELS}/alias", {"name": "nobody", "alias": "a"}, 404, "RESOURCE_DOES_NOT_EXIST", "name=nobody not found"),
        ("POST", f"{VERSIONS}/create", {"name": "taken"}, 400, "INVALID_PARAMETER_VALUE", "Missing value for required parameter 'source'."),
        ("POST", f"{VERSIONS}/create", {"name": "nobody", "source": S3}, 404, "RESOURCE_DOES_NOT_EXIST", "Registered Model with name=nobody not found"),
        ("POST", f"{VERSIONS}/create", {"name": "taken", "source": S3, "run_id": "../x"}, 400, "INVALID_PARAMETER_VALUE", "run id"),
        ("GET", f"{VERSIONS}/get", {"name": "taken", "version": "x"}, 400, "INVALID_PARAMETER_VALUE", "Parameter 'version' must be an integer, got 'x'."),
        ("GET", f"{VERSIONS}/get", {"name": "taken", "version": "-1"}, 404, "RESOURCE_DOES_NOT_EXIST", "Model Version (name=taken, version=-1) not found"),
        ("GET", f"{VERSIONS}/get", {"name": "taken", "version": "9" * 30}, 400, "INVALID_PARAMETER_VALUE", "must be an integer"),
        ("PATCH", f"{VERSIONS}/update", {"name": "taken", "version": "1"}, 404, "RESOURCE_DOES_NOT_EXIST", "version=1) not found"),
        ("DELETE", f"{VERSIONS}/delete", {"name": "taken", "version": "1"}, 404, "RESOURCE_DOES_NOT_EXIST", "version=1) not found"),
        ("POST", f"{VERSIONS}/transition-stage", {"name": "taken", "version": "1"}, 400, "INVALID_PARAMETER_VALUE", "required parameter 'stage'"),
        ("POST", f"{VERSIONS}/set-tag", {"name": "taken", "version": "1", "key": "k", "value": "v"}, 404, "RESOURCE_DOES_NOT_EXIST", "version=1) not found"),
        ("DELETE", f"{VERSIONS}/delete-tag", {"name": "taken", "version": "1", "key": "k"}, 404, "RESOURCE_DOES_NOT_EXIST", "version=1) not found"),
        ("GET", f"{VERSIONS}/get-download-uri", {"name": "taken", "version": "1"}, 404, "RESOURCE_DOES_NOT_EXIST", "version=1) not found"),
    ],
)  # fmt: skip
def test_errors_have_mlflows_codes_and_words(
    stack: RegistryStack,
    taken: None,
    method: str,
    path: str,
    fields: dict[str, Any],
    status: int,
    code: str,
    words: str,
) -> None:
    answer = stack.call(method, path, **fields)
    assert (answer.status_code, answer.json()["error_code"]) == (status, code), answer.text
    assert words in answer.json()["message"]


@pytest.fixture(scope="module")
def taken(client: MlflowClient) -> None:
    """Two names that are taken."""
    for one in ("taken", "taken too"):
        client.create_registered_model(one)


def test_the_twin_of_a_call_answers_too(stack: RegistryStack, taken: None) -> None:
    url = stack.gateway.url.rstrip("/") + "/ajax-api/2.0/mlflow/registered-models/get?name=taken"
    assert httpx.get(url, trust_env=False, timeout=60).json()["registered_model"]["name"] == "taken"
