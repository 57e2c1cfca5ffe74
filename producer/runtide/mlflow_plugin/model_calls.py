"""The part of MLflow's tracking store that is about logged models."""

import json
from collections.abc import Sequence
from typing import Any

from mlflow.entities import LoggedModel, LoggedModelParameter, LoggedModelStatus, LoggedModelTag
from mlflow.store.entities.paged_list import PagedList
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_MODELS
from mlflow.utils.validation import _validate_logged_model_name, _validate_param, _validate_run_id, _validate_tag_name

from runtide.mlflow_plugin.errors import in_mlflows_terms
from runtide.mlflow_plugin.logged_models import LoggedModels
from runtide.mlflow_plugin.runs import Runs
from runtide.mlflow_plugin.searching import Searching
from runtide_schemas.limits import MAX_TAG_VALUE_LENGTH, check_model_pairs


class ModelCalls:
    """Checks as MLflow does, and leaves the rest to ``logged_models.py``."""

    _models: LoggedModels
    _runs: Runs
    _searching: Searching

    @in_mlflows_terms
    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        """Add to the tag with the history of a run's models (MLflow before 3); what does not fit any more is left out."""
        _validate_run_id(run_id)
        known = json.loads(self._runs.memory(run_id).tags.get(MLFLOW_LOGGED_MODELS, "[]"))
        models = [*known, mlflow_model.get_tags_dict()]
        while len(text := json.dumps(models)) > MAX_TAG_VALUE_LENGTH and len(models) > 1:
            del models[0]
        self._runs.set_tags(run_id, {MLFLOW_LOGGED_MODELS: text})

    @in_mlflows_terms
    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Sequence[LoggedModelTag] | None = None,
        params: Sequence[LoggedModelParameter] | None = None,
        model_type: str | None = None,
    ) -> LoggedModel:
        """Create a model; without a run it gets one of its own, which ends when it is finalized."""
        _validate_logged_model_name(name)
        checked = [_validate_param(param.key, param.value) for param in params or ()]
        return self._models.create(
            experiment_id,
            name,
            source_run_id,
            check_model_pairs({tag.key: tag.value for tag in tags or ()}, "tag"),
            check_model_pairs({param.key: param.value or "" for param in checked}, "param"),
            model_type,
        )

    @in_mlflows_terms
    def finalize_logged_model(self, model_id: str, status: LoggedModelStatus) -> LoggedModel:
        """Set a model's status."""
        return self._models.finalize(model_id, status)

    @in_mlflows_terms
    def set_logged_model_tags(self, model_id: str, tags: Sequence[LoggedModelTag]) -> None:
        """Set tags of a model."""
        for tag in tags:
            _validate_tag_name(tag.key)
        self._models.set_tags(model_id, check_model_pairs({tag.key: tag.value for tag in tags}, "tag"))

    @in_mlflows_terms
    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        """Delete a tag of a model."""
        _validate_tag_name(key)
        self._models.delete_tag(model_id, key)

    @in_mlflows_terms
    def log_logged_model_params(self, model_id: str, params: Sequence[LoggedModelParameter]) -> None:
        """Add params to a model."""
        checked = [_validate_param(param.key, param.value) for param in params]
        self._models.log_params(model_id, {param.key: param.value or "" for param in checked})

    @in_mlflows_terms
    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> LoggedModel:
        """Return a model: one of this process from memory, others from the gateway."""
        return self._models.get(model_id, allow_deleted)

    @in_mlflows_terms
    def delete_logged_model(self, model_id: str) -> None:
        """Delete a model, softly."""
        self._models.delete(model_id)

    @in_mlflows_terms
    def search_logged_models(
        self,
        experiment_ids: list[str],
        filter_string: str | None = None,
        datasets: list[dict[str, Any]] | None = None,
        max_results: int | None = None,
        order_by: list[dict[str, Any]] | None = None,
        page_token: str | None = None,
    ) -> PagedList[LoggedModel]:
        """Search models; needs the gateway."""
        return self._searching.models(experiment_ids, filter_string, datasets, max_results, order_by, page_token)
