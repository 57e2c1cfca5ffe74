"""The model registry through MLflow's client: names, versions, stages, aliases, tags, searches, copies."""

import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tests.acceptance.mlflow_scenarios.expectations import refused, unique


def _version(client: MlflowClient, name: str, **more: Any) -> Any:
    """Make a version of a model whose files are a run's."""
    run_id = client.create_run(client.create_experiment(unique("registry"))).info.run_id
    client.log_text(run_id, "x", "model/MLmodel")
    uri = f"{client.get_run(run_id).info.artifact_uri}/model"
    return client.create_model_version(name, uri, run_id, **more)


def models_are_made_described_renamed_deleted() -> None:
    client, name = MlflowClient(), unique("model")
    made = client.create_registered_model(name, tags={"a": "1"}, description="first words")
    assert (made.name, made.description, made.tags) == (name, "first words", {"a": "1"})
    assert made.last_updated_timestamp >= made.creation_timestamp > 0
    with refused("RESOURCE_ALREADY_EXISTS", name):
        client.create_registered_model(name)
    client.set_registered_model_tag(name, "b", 2)
    client.delete_registered_model_tag(name, "a")
    client.update_registered_model(name, "other words")
    found = client.get_registered_model(name)
    assert (found.description, found.tags) == ("other words", {"b": "2"})
    _version(client, name)
    client.set_registered_model_alias(name, "kept", "1")
    client.rename_registered_model(name, f"{name}-renamed")
    with refused("RESOURCE_DOES_NOT_EXIST", name):
        client.get_registered_model(name)
    renamed = client.get_registered_model(f"{name}-renamed")
    assert ([one.version for one in renamed.latest_versions], renamed.aliases) == (["1"], {"kept": "1"})
    assert client.get_model_version(f"{name}-renamed", "1").version == "1"
    client.delete_registered_model(f"{name}-renamed")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_registered_model(f"{name}-renamed")
    assert list(client.search_model_versions(f"name = '{name}-renamed'")) == []
    client.create_registered_model(f"{name}-renamed")
    # MLflow counts from 1 again; Runtide never gives a number twice under a name.
    made = _version(client, f"{name}-renamed")
    assert [one.version for one in client.search_model_versions(f"name = '{name}-renamed'")] == [made.version]


def names_that_no_model_may_have() -> None:
    client = MlflowClient()
    for name in ("", "a/b", "a:b"):
        with refused("INVALID_PARAMETER_VALUE"):
            client.create_registered_model(name)
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.rename_registered_model(unique("nobody's"), unique("other"))
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_registered_model(unique("nobody's"))
    with refused("RESOURCE_DOES_NOT_EXIST"):
        _version(client, unique("nobody's"))


def versions_are_made_described_tagged_deleted() -> None:
    client, name = MlflowClient(), unique("versions")
    client.create_registered_model(name)
    first = _version(client, name, tags={"a": "1"}, description="the first")
    second, third = _version(client, name), _version(client, name)
    assert [first.version, second.version, third.version] == ["1", "2", "3"]
    found = client.get_model_version(name, "1")
    assert (found.name, found.description, found.tags, found.status) == (name, "the first", {"a": "1"}, "READY")
    assert (found.current_stage, found.run_id, found.source) == ("None", first.run_id, first.source)
    client.update_model_version(name, "1", "described")
    client.set_model_version_tag(name, "1", "b", "2")
    client.delete_model_version_tag(name, "1", "a")
    found = client.get_model_version(name, "1")
    assert (found.description, found.tags) == ("described", {"b": "2"})
    assert client.get_model_version_download_uri(name, "1") == first.source
    client.delete_model_version(name, "3")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.get_model_version(name, "3")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.delete_model_version(name, "3")
    with refused("INVALID_PARAMETER_VALUE"):
        client.get_model_version(name, "abc")
    with tempfile.TemporaryDirectory() as target:
        from mlflow.artifacts import download_artifacts

        assert (Path(download_artifacts(f"models:/{name}/1", dst_path=target)) / "MLmodel").read_text() == "x"


def aliases_move() -> None:
    client, name = MlflowClient(), unique("aliases")
    client.create_registered_model(name)
    _version(client, name)
    _version(client, name)
    client.set_registered_model_alias(name, "champion", "1")
    client.set_registered_model_alias(name, "challenger", "2")
    assert client.get_model_version(name, "1").aliases == ["champion"]
    client.set_registered_model_alias(name, "champion", "2")
    assert client.get_model_version_by_alias(name, "champion").version == "2"
    assert sorted(client.get_model_version(name, "2").aliases) == ["challenger", "champion"]
    assert client.get_registered_model(name).aliases == {"champion": "2", "challenger": "2"}
    client.delete_registered_model_alias(name, "champion")
    client.delete_registered_model_alias(name, "champion")
    with refused("INVALID_PARAMETER_VALUE", "alias champion not found"):
        client.get_model_version_by_alias(name, "champion")
    for alias in ("latest", "v1", "a b", ""):
        with refused("INVALID_PARAMETER_VALUE"):
            client.set_registered_model_alias(name, alias, "1")
    with refused("RESOURCE_DOES_NOT_EXIST"):
        client.set_registered_model_alias(name, "fine", "9")
    client.delete_model_version(name, "2")
    assert client.get_registered_model(name).aliases == {}


def stages_are_passed_through() -> None:
    client, name = MlflowClient(), unique("stages")
    client.create_registered_model(name)
    for _ in range(3):
        _version(client, name)
    assert client.transition_model_version_stage(name, "1", "Production").current_stage == "Production"
    client.transition_model_version_stage(name, "2", "production", archive_existing_versions=True)
    client.transition_model_version_stage(name, "3", "Staging")
    stages = [client.get_model_version(name, str(number)).current_stage for number in (1, 2, 3)]
    assert stages == ["Archived", "Production", "Staging"]
    latest = {one.current_stage: one.version for one in client.get_latest_versions(name)}
    assert latest == {"Archived": "1", "Production": "2", "Staging": "3"}
    assert [one.version for one in client.get_latest_versions(name, ["Production"])] == ["2"]
    with refused("INVALID_PARAMETER_VALUE"):
        client.transition_model_version_stage(name, "1", "Somewhere")


def a_version_is_copied() -> None:
    client, name = MlflowClient(), unique("copied")
    client.create_registered_model(name)
    source = _version(client, name)
    copy = client.copy_model_version(f"models:/{name}/1", f"{name}-copy")
    assert (copy.name, copy.version, copy.run_id) == (f"{name}-copy", "1", source.run_id)
    assert client.get_model_version_download_uri(f"{name}-copy", "1") == source.source
    again = client.copy_model_version(f"models:/{name}/1", f"{name}-copy")
    assert again.version == "2"


def models_are_searched() -> None:
    client, prefix = MlflowClient(), unique("found")
    for place in range(5):
        client.create_registered_model(f"{prefix}-{place}", tags={"place": str(place)})

    def names(given: str, **more: Any) -> list[str]:
        return [one.name.rpartition("-")[2] for one in client.search_registered_models(given, **more)]

    mine = f"name LIKE '{prefix}%'"
    assert names(mine) == ["0", "1", "2", "3", "4"]
    assert names(mine, order_by=["name DESC"]) == ["4", "3", "2", "1", "0"]
    assert names(f"name = '{prefix}-2'") == ["2"]
    assert names(f"name ILIKE '{prefix.upper()}-1'") == ["1"]
    assert names(f"{mine} AND tags.place != '1'") == ["0", "2", "3", "4"]
    assert names(f"{mine} AND tag.place = '3'") == ["3"]
    client.update_registered_model(f"{prefix}-0", "touched")
    assert names(mine, order_by=["last_updated_timestamp DESC", "name ASC"])[0] == "0"
    first = client.search_registered_models(mine, max_results=3)
    second = client.search_registered_models(mine, max_results=3, page_token=first.token)
    assert ([one.name for one in [*first, *second]], second.token or None) == (
        [f"{prefix}-{place}" for place in range(5)],
        None,
    )
    with refused("INVALID_PARAMETER_VALUE"):
        client.search_registered_models("run_id = 'x'")


def versions_are_searched() -> None:
    client, name = MlflowClient(), unique("searched")
    client.create_registered_model(name)
    made = [_version(client, name, tags={"place": str(place)}) for place in range(4)]

    def found(given: str, **more: Any) -> list[str]:
        return [one.version for one in client.search_model_versions(given, **more)]

    mine = f"name = '{name}'"
    assert sorted(found(mine)) == ["1", "2", "3", "4"]
    assert found(mine, order_by=["version_number ASC"]) == ["1", "2", "3", "4"]
    assert found(f"run_id = '{made[1].run_id}'") == ["2"]
    assert sorted(found(f"run_id IN ('{made[0].run_id}', '{made[3].run_id}')")) == ["1", "4"]
    assert found(f"source_path = '{made[2].source}'") == ["3"]
    assert sorted(found(f"{mine} AND version_number > 2")) == ["3", "4"]
    assert found(f"{mine} AND tags.place = '0'") == ["1"]
    first = client.search_model_versions(mine, max_results=3, order_by=["version_number DESC"])
    second = client.search_model_versions(mine, max_results=3, order_by=["version_number DESC"], page_token=first.token)
    assert [one.version for one in [*first, *second]] == ["4", "3", "2", "1"]
    client.delete_model_version(name, "4")
    assert sorted(found(mine)) == ["1", "2", "3"]
