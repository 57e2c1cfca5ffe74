"""MLflow's model registry store: changes are requests to the registrar, questions are the gateway's to answer.

A change returns when the registrar has decided and, for at most a few seconds more, when the gateway shows it, so that MLflow
reads back what it wrote. Without a gateway models and versions can be created; before any other change MLflow's client asks for
the model, and that question says what is missing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, ModelVersionTag, RegisteredModel, RegisteredModelTag
from mlflow.entities.model_registry.model_version_stages import get_canonical_stage
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.store.artifact.utils.models import _parse_model_uri
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry import (
    SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD,
    SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD,
)
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.utils.search_utils import SearchModelUtils, SearchModelVersionUtils, SearchUtils
from mlflow.utils.validation import (
    _validate_model_name,
    _validate_model_version,
    _validate_model_version_tag,
    _validate_registered_model_tag,
)

from runtide.artifacts.models import LoggedModel, describe_directory, describe_model
from runtide.mlflow_plugin.address import read_address
from runtide.mlflow_plugin.asking import Asking
from runtide.mlflow_plugin.errors import in_mlflows_terms, invalid, not_found
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.registry_answers import (
    created_model,
    model_of,
    newest_by_stage,
    registered_version,
    versions_of,
)
from runtide.mlflow_plugin.unsupported import refuse_the_rest
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError
from runtide_schemas.events.requests import (
    CreateRegisteredModel,
    DeleteAlias,
    DeleteModelVersion,
    DeleteModelVersionTags,
    DeleteRegisteredModel,
    DeleteRegisteredModelTags,
    RegisterModelVersion,
    RenameRegisteredModel,
    SetAlias,
    SetModelVersionTags,
    SetRegisteredModelTags,
    TransitionStage,
    UpdateModelVersion,
    UpdateRegisteredModel,
)

_VISIBLE_WAIT_S = 5.0
_POLL_S = 0.05
_LATEST = "latest"
USED_AS_THEY_ARE = frozenset({"copy_model_version"})
"""Methods of MLflow's abstract registry store that do what they say through ours."""

Told = Mapping[str, Any]


@refuse_the_rest(USED_AS_THEY_ARE)
class RuntideRegistryStore(AbstractStore):
    """The registry of ``runtide:`` URIs. Every method raises ``MlflowException``, and only that."""

    @in_mlflows_terms
    def __init__(self, store_uri: str | None = None, tracking_uri: str | None = None) -> None:
        """Use the log at a URI; nothing is opened before it is needed."""
        uri = store_uri or "runtide://"
        super().__init__(uri, tracking_uri)  # type: ignore[no-untyped-call]  # MLflow does not say its types
        configuration = read_address(uri)
        self._tracking_uri = tracking_uri or uri
        self._asking = Asking(configuration)
        self._gateway = Gateway(configuration.connection.gateway)
        self._artifacts_gateway = configuration.connection.gateway

    # Registered models

    @in_mlflows_terms
    def create_registered_model(
        self,
        name: str,
        tags: Sequence[RegisteredModelTag] | None = None,
        description: str | None = None,
        deployment_job_id: str | None = None,  # noqa: ARG002 - Databricks' own
    ) -> RegisteredModel:
        """Create a model under a free name."""
        _validate_model_name(name)
        for tag in tags or ():
            _validate_registered_model_tag(tag.key, tag.value)
        told = {tag.key: str(tag.value) for tag in tags or ()}
        fact = self._asking.ask(CreateRegisteredModel(name=name, description=description or "", tags=told))
        self._shown(name, lambda _: True)
        return created_model(fact)

    @in_mlflows_terms
    def update_registered_model(
        self,
        name: str,
        description: str | None,
        deployment_job_id: str | None = None,  # noqa: ARG002 - Databricks' own
    ) -> RegisteredModel:
        """Change a model's description."""
        said = description or ""
        self._asking.ask(UpdateRegisteredModel(name=name, description=said))
        self._shown(name, lambda told: (told["model"]["description"] or "") == said)
        return self.get_registered_model(name)

    @in_mlflows_terms
    def rename_registered_model(self, name: str, new_name: str) -> RegisteredModel:
        """Give a model another name."""
        _validate_model_name(new_name)
        self._asking.ask(RenameRegisteredModel(name=name, new_name=new_name))
        self._shown(new_name, lambda _: True)
        return self.get_registered_model(new_name)

    @in_mlflows_terms
    def delete_registered_model(self, name: str) -> None:
        """Delete a model with its versions; their numbers are never used again."""
        self._asking.ask(DeleteRegisteredModel(name=name))
        self._shown(name, lambda _: False, gone=True)

    @in_mlflows_terms
    def get_registered_model(self, name: str) -> RegisteredModel:
        """Return a model."""
        return model_of(self._told(name))

    @in_mlflows_terms
    def search_registered_models(
        self,
        filter_string: str | None = None,
        max_results: int | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[RegisteredModel]:
        """Search models; the filter's grammar is MLflow's, applied here to all of them."""
        most = _page(max_results, SEARCH_REGISTERED_MODEL_MAX_RESULTS_THRESHOLD)
        found = SearchModelUtils.filter([model_of(told) for told in self._every()], filter_string)
        return PagedList(
            *SearchUtils.paginate(SearchModelUtils.sort(found, order_by), page_token, most or len(found) or 1)
        )

    @in_mlflows_terms
    def get_latest_versions(self, name: str, stages: Sequence[str] | None = None) -> list[ModelVersion]:
        """Return the highest version of each stage."""
        wanted = {get_canonical_stage(stage).lower() for stage in stages} if stages else None
        newest = newest_by_stage(versions_of(self._told(name)))
        return [version for stage, version in newest.items() if wanted is None or stage.lower() in wanted]

    @in_mlflows_terms
    def set_registered_model_tag(self, name: str, tag: RegisteredModelTag) -> None:
        """Set a tag of a model."""
        _validate_registered_model_tag(tag.key, tag.value)
        self._asking.ask(SetRegisteredModelTags(name=name, tags={tag.key: str(tag.value)}))
        self._shown(name, lambda told: told["tags"].get(tag.key) == str(tag.value))

    @in_mlflows_terms
    def delete_registered_model_tag(self, name: str, key: str) -> None:
        """Delete a tag of a model."""
        self._asking.ask(DeleteRegisteredModelTags(name=name, keys=(key,)))
        self._shown(name, lambda told: key not in told["tags"])

    # Versions

    @in_mlflows_terms
    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Sequence[ModelVersionTag] | None = None,
        run_link: str | None = None,  # noqa: ARG002 - for registries apart from their tracking server
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> ModelVersion:
        """Register the next version of a model that exists; its source is the place itself, whatever URI led there."""
        _validate_model_name(name)
        for tag in tags or ():
            _validate_model_version_tag(tag.key, tag.value)
        place, logged_by, logged = self._resolved(source, model_id)
        described = _described(place, local_model_path, self._artifacts_gateway)
        fact = self._asking.ask(
            RegisterModelVersion(
                name=name,
                source=place,
                run_id=run_id or logged_by or (described.run_id if described else ""),
                model_id=logged or (described.model_id if described else ""),
                digest=described.digest if described else "",
                flavors=described.flavors if described else (),
                description=description or "",
                tags={tag.key: str(tag.value) for tag in tags or ()},
                create_model=False,
            )
        )
        self._shown(name, lambda told: any(version["version"] == fact.version for version in told["versions"]))
        return registered_version(fact)

    @in_mlflows_terms
    def update_model_version(self, name: str, version: str, description: str | None) -> ModelVersion:
        """Change a version's description."""
        number, said = _number(version), description or ""
        self._asking.ask(UpdateModelVersion(name=name, version=number, description=said))
        self._version_shown(name, number, lambda told: (told["description"] or "") == said)
        return self.get_model_version(name, version)

    @in_mlflows_terms
    def transition_model_version_stage(
        self, name: str, version: str, stage: str, archive_existing_versions: bool
    ) -> ModelVersion:
        """Move a version to a stage."""
        number = _number(version)
        fact = self._asking.ask(
            TransitionStage(
                name=name,
                version=number,
                stage=stage,
                archive_existing=str(archive_existing_versions).lower() == "true",
            )
        )
        self._version_shown(name, number, lambda told: told["stage"] == fact.stage)
        return self.get_model_version(name, version)

    @in_mlflows_terms
    def delete_model_version(self, name: str, version: str) -> None:
        """Delete a version; its aliases go with it."""
        number = _number(version)
        self._asking.ask(DeleteModelVersion(name=name, version=number))
        self._shown(name, lambda told: all(found["version"] != number for found in told["versions"]))

    @in_mlflows_terms
    def get_model_version(self, name: str, version: str) -> ModelVersion:
        """Return a version."""
        number = str(_number(version))
        for found in versions_of(self._told(name)):
            if str(found.version) == number:
                return found
        raise not_found(f"Model Version (name={name}, version={version}) not found")

    @in_mlflows_terms
    def get_model_version_download_uri(self, name: str, version: str) -> str:
        """Return the place of a version's files."""
        return str(self.get_model_version(name, version).source)

    @in_mlflows_terms
    def search_model_versions(
        self,
        filter_string: str | None = None,
        max_results: int | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[ModelVersion]:
        """Search versions; the filter's grammar is MLflow's, applied here to all of them."""
        most = _page(max_results, SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD)
        every = [version for told in self._every() for version in versions_of(told)]
        found = SearchModelVersionUtils.filter(every, filter_string)
        found = SearchModelVersionUtils.sort(found, order_by or ["last_updated_timestamp DESC"])
        return PagedList(*SearchUtils.paginate(found, page_token, most or len(found) or 1))

    @in_mlflows_terms
    def set_model_version_tag(self, name: str, version: str, tag: ModelVersionTag) -> None:
        """Set a tag of a version."""
        _validate_model_version_tag(tag.key, tag.value)
        number = _number(version)
        self._asking.ask(SetModelVersionTags(name=name, version=number, tags={tag.key: str(tag.value)}))
        self._version_shown(name, number, lambda told: told["tags"].get(tag.key) == str(tag.value))

    @in_mlflows_terms
    def delete_model_version_tag(self, name: str, version: str, key: str) -> None:
        """Delete a tag of a version."""
        number = _number(version)
        self._asking.ask(DeleteModelVersionTags(name=name, version=number, keys=(key,)))
        self._version_shown(name, number, lambda told: key not in told["tags"])

    # Aliases

    @in_mlflows_terms
    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias at a version."""
        number = _number(version)
        self._asking.ask(SetAlias(name=name, alias=alias, version=number))
        self._shown(name, lambda told: told["model"]["aliases"].get(alias) == number)

    @in_mlflows_terms
    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        """Delete an alias."""
        self._asking.ask(DeleteAlias(name=name, alias=alias))
        self._shown(name, lambda told: alias not in told["model"]["aliases"])

    @in_mlflows_terms
    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        """Return the version that an alias points at; ``latest`` is the highest."""
        versions = versions_of(self._told(name))
        if alias.lower() == _LATEST and versions:
            return versions[0]
        for version in versions:
            if alias in version.aliases:
                return version
        raise invalid(f"Registered model alias {alias} not found.")

    def _told(self, name: str) -> Told:
        try:
            told: Told = self._gateway.get("models", name)
        except NotFound as error:
            raise not_found(f"Registered Model with name={name} not found") from error
        return told

    def _every(self) -> list[Told]:
        names: list[str] = []
        token = ""
        while True:
            page = self._gateway.get("models", page_size=1_000, page_token=token)
            names += [model["name"] for model in page["models"]]
            if not (token := page["next_page_token"]):
                return [self._told(name) for name in names]

    def _shown(self, name: str, condition: Callable[[Told], bool], *, gone: bool = False) -> None:
        """Wait, within bounds, until the gateway shows a change. No gateway, or none that answers, is no reason to fail."""
        if not self._gateway.known:
            return
        deadline = time.monotonic() + _VISIBLE_WAIT_S
        while time.monotonic() < deadline:
            try:
                if condition(self._gateway.get("models", name)):
                    return
            except NotFound:
                if gone:
                    return
            except TransientError:
                return
            time.sleep(_POLL_S)

    def _version_shown(self, name: str, version: int, condition: Callable[[Told], bool]) -> None:
        self._shown(
            name, lambda told: any(condition(found) for found in told["versions"] if found["version"] == version)
        )

    def _resolved(self, source: str, model_id: str | None) -> tuple[str, str, str]:
        """Return the place that a URI leads to, and the run and logged model that it is of, if that is known."""
        if RunsArtifactRepository.is_runs_uri(source):
            return str(RunsArtifactRepository.get_underlying_uri(source, self._tracking_uri)), "", model_id or ""
        if source.startswith("models:/"):
            named = _parse_model_uri(source)
            if named.name and named.version:
                version = self.get_model_version(named.name, str(named.version))
                return str(version.source), version.run_id or "", version.model_id or ""
            model_id = model_id or named.model_id
        if model_id is None:
            return source, "", ""
        logged = MlflowClient(self._tracking_uri).get_logged_model(model_id)
        place = logged.artifact_location if source.startswith("models:/") else source
        return place, logged.source_run_id or "", model_id


def _described(place: str, local: str | None, gateway: str) -> LoggedModel | None:
    """Return what the model says of itself; None when there is none to be read (MLflow registers any place)."""
    try:
        return describe_directory(Path(local), uri=place) if local else describe_model(place, gateway)
    except (InvalidRequest, OSError):
        return None


def _page(max_results: int | None, threshold: int) -> int | None:
    if max_results is not None and not (isinstance(max_results, int) and 1 <= max_results <= threshold):
        raise invalid(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be a positive integer of at most "
            f"{threshold}"
        )
    return max_results


def _number(version: Any) -> int:
    _validate_model_version(version)
    return int(version)
