"""The part of MLflow's tracking store that is about experiments."""

from collections.abc import Sequence

from mlflow.entities import Experiment, ExperimentTag, ViewType
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking import SEARCH_MAX_RESULTS_DEFAULT
from mlflow.utils.validation import (
    _validate_experiment_artifact_location_length,
    _validate_experiment_name,
    _validate_experiment_tag,
)

from runtide.mlflow_plugin.errors import in_mlflows_terms
from runtide.mlflow_plugin.experiments import Experiments
from runtide.mlflow_plugin.searching import Searching
from runtide_schemas.events.requests import (
    DeleteExperiment,
    DeleteExperimentTags,
    RenameExperiment,
    RestoreExperiment,
    SetExperimentTags,
)


class ExperimentCalls:
    """Asks the registrar for what is to change, and ``experiments.py`` for what there is."""

    _experiments: Experiments
    _searching: Searching

    @in_mlflows_terms
    def create_experiment(
        self, name: str, artifact_location: str | None = None, tags: Sequence[ExperimentTag] | None = None
    ) -> str:
        """Return the registrar's number, or the encoded name while it cannot be asked (``experiments.py``)."""
        _validate_experiment_name(name)
        if artifact_location:
            _validate_experiment_artifact_location_length(artifact_location)
        for tag in tags or ():
            _validate_experiment_tag(tag.key, tag.value)
        return self._experiments.create(name, artifact_location or "", {tag.key: str(tag.value) for tag in tags or ()})

    @in_mlflows_terms
    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment, a deleted one too."""
        return self._experiments.get(str(experiment_id))

    @in_mlflows_terms
    def get_experiment_by_name(self, experiment_name: str) -> Experiment | None:
        """Return an experiment, a deleted one too; None when there is none, or no gateway to ask and none made here."""
        _validate_experiment_name(experiment_name)
        return self._experiments.named(experiment_name)

    @in_mlflows_terms
    def delete_experiment(self, experiment_id: str) -> None:
        """Delete an experiment, softly; its runs stay as they are."""
        self._experiments.change(experiment_id, DeleteExperiment(experiment_id=experiment_id), stage="deleted")

    @in_mlflows_terms
    def restore_experiment(self, experiment_id: str) -> None:
        """Undo a deletion."""
        self._experiments.change(experiment_id, RestoreExperiment(experiment_id=experiment_id), stage="active")

    @in_mlflows_terms
    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Give an experiment another name."""
        _validate_experiment_name(new_name)
        request = RenameExperiment(experiment_id=experiment_id, name=new_name)
        self._experiments.change(experiment_id, request, name=new_name)

    @in_mlflows_terms
    def set_experiment_tag(self, experiment_id: str, tag: ExperimentTag) -> None:
        """Set a tag of an experiment."""
        _validate_experiment_tag(tag.key, tag.value)
        tags = {tag.key: str(tag.value)}
        self._experiments.change(experiment_id, SetExperimentTags(experiment_id=experiment_id, tags=tags), tags=tags)

    @in_mlflows_terms
    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Delete a tag of an experiment."""
        request = DeleteExperimentTags(experiment_id=experiment_id, keys=(key,))
        self._experiments.change(experiment_id, request, tags={key: None})

    @in_mlflows_terms
    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = SEARCH_MAX_RESULTS_DEFAULT,
        filter_string: str | None = None,
        order_by: list[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        """Search all experiments; needs the gateway."""
        return self._searching.experiments(view_type, max_results, filter_string, order_by, page_token)
