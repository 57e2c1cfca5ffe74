"""Experiments for MLflow: named by the registrar when it can be asked, and by their own name until then.

MLflow wants an experiment's id at once. With a broker the registrar is asked, and its number is the id. Without one (or
when there is no answer in time) the id *is* the name, encoded: ``name-`` and the name in URL-safe base64. Such an id needs
no table: a subprocess that inherits ``MLFLOW_EXPERIMENT_ID`` reads the name out of it, and every run carries the name with
a request to resolve it, so that the run lands in the right experiment, whoever made that first.
"""

import base64
import binascii
import logging
import time
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Experiment, ExperimentTag, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_STATE, RESOURCE_ALREADY_EXISTS

from runtide.catalogue import AnswerPending
from runtide.mlflow_plugin.asking import Asking
from runtide.mlflow_plugin.errors import invalid, not_found
from runtide.mlflow_plugin.gateway import Gateway
from runtide.tracking.plan import DEFAULT_EXPERIMENT_ID
from runtide_schemas.errors import NotFound, TransientError
from runtide_schemas.events.requests import CreateExperiment
from runtide_schemas.identity import now_ms
from runtide_schemas.limits import check_experiment_name

log = logging.getLogger("runtide")

_PREFIX = "name-"
_DEFAULT_NAME = Experiment.DEFAULT_EXPERIMENT_NAME
_OWN_WRITES_COUNT_S = 15.0
"""For so long what this process changed is taken from its memory: a projection may be behind."""


class Experiments:
    """What this process knows of experiments, what the gateway does, and new ones from the registrar."""

    def __init__(self, asking: Asking, gateway: Gateway, artifacts: str) -> None:
        self._asking = asking
        self._gateway = gateway
        self._artifacts = artifacts
        self._known: dict[str, Experiment] = {}
        self._changed: dict[str, float] = {}
        self._missed: set[str] = set()

    def create(self, name: str, location: str, tags: Mapping[str, str]) -> str:
        """Return the id of a new experiment; the encoded name when the registrar does not answer in time.

        One that this process was told there is none of may be there all the same: no gateway was asked, or somebody was
        quicker. It is returned then, because MLflow's ``set_experiment`` does not get over the error.

        Raises:
            MlflowException: RESOURCE_ALREADY_EXISTS.
            InvalidRequest: the registrar refused.
        """
        check_experiment_name(name)
        if self._remembered(name) is not None:
            raise _taken(name)
        asked = CreateExperiment(name=name, artifact_location=location, tags=tags, if_exists="resolve")
        try:
            fact = self._asking.ask(asked)
        except AnswerPending as pending:
            experiment_id = provisional_id(name)
            if pending.__cause__ is not None:  # without a broker there is nothing to warn of
                log.warning("experiment %r has no number yet: %s", name, pending)
            self._remember(self._experiment(experiment_id, name, location, tags))
            return experiment_id
        found = type(fact).__name__ == "ExperimentResolved"
        self._remember(self._experiment(fact.experiment_id, name, "" if found else location, {} if found else tags))
        if found and name not in self._missed:
            raise _taken(name)
        return str(fact.experiment_id)

    def get(self, experiment_id: str) -> Experiment:
        """Return an experiment.

        Raises:
            MlflowException: there is none, or it is no id.
            TransientError: only a gateway knows.
        """
        name = name_in(experiment_id)
        if name is None and not experiment_id.isdecimal():
            raise invalid(f"Invalid experiment ID '{experiment_id}'. Experiment ID must be a valid integer.")
        known = self._known.get(experiment_id)
        if known is not None and (name is not None or self._just_changed(experiment_id)):
            return known
        if name is not None:
            return self._experiment(experiment_id, name, "", {})
        try:
            return self._asked(experiment_id)
        except (NotFound, TransientError) as error:
            if known is not None:
                return known
            if experiment_id == DEFAULT_EXPERIMENT_ID:
                return self._experiment(DEFAULT_EXPERIMENT_ID, _DEFAULT_NAME, "", {})
            if isinstance(error, NotFound):
                raise not_found(f"No Experiment with id={experiment_id} exists") from error
            raise

    def named(self, name: str) -> Experiment | None:
        """Return the experiment of a name; None when there is none, or nobody here knows any."""
        if (remembered := self._remembered(name)) is not None:
            return self.get(remembered.experiment_id)
        if name == _DEFAULT_NAME:
            return self.get(DEFAULT_EXPERIMENT_ID)
        try:
            if self._gateway.known:
                (row,) = self._gateway.get("experiments", name=name)["experiments"]
                return self._asked(row["experiment_id"])
        except NotFound:
            pass
        except TransientError as error:
            log.warning("cannot look experiment %r up: %s. The registrar will know when it is made", name, error)
        self._missed.add(name)
        return None

    def every(self, with_tags: bool) -> list[Experiment]:
        """Return all experiments, deleted ones too; ``with_tags`` asks for each.

        Raises:
            TransientError: there is no gateway to ask.
        """
        rows: list[Any] = []
        token = ""
        while not rows or token:
            page = self._gateway.get("experiments", include_deleted=True, page_token=token)
            rows += page["experiments"]
            if not (token := page["next_page_token"]):
                break
        if with_tags:
            return [self._asked(row["experiment_id"]) for row in rows]
        return [self._of_row(row, {}) for row in rows]

    def change(self, experiment_id: str, request: object, **changes: Any) -> None:
        """Ask for a change of an experiment, and remember what it comes to.

        Raises:
            MlflowException: it has no number yet.
            InvalidRequest: the registrar refused.
            AnswerPending: no answer in time; the request is kept.
        """
        if name_in(experiment_id) is not None:
            raise MlflowException(
                f"experiment {name_in(experiment_id)!r} has no number yet, because the registrar was not reached when it was "
                "made; change it when it has",
                error_code=INVALID_STATE,
            )
        before = self.get(experiment_id)
        self._asking.ask(request)
        kept = {tag: value for tag, value in {**before.tags, **changes.get("tags", {})}.items() if value is not None}
        self._remember(
            Experiment(
                experiment_id=experiment_id,
                name=changes.get("name", before.name),
                artifact_location=before.artifact_location,
                lifecycle_stage=changes.get("stage", before.lifecycle_stage),
                tags=[ExperimentTag(key, value) for key, value in kept.items()],
                creation_time=before.creation_time,
                last_update_time=now_ms(),
            )
        )

    def location(self, experiment_id: str) -> str:
        """Return the root of its runs' artifacts; the gateway is asked once, if there is one.

        Raises:
            MlflowException: it is no id, or this process knows that the experiment is deleted.
        """
        if name_in(experiment_id) is None and not experiment_id.isdecimal():
            raise invalid(f"Invalid experiment ID '{experiment_id}'. Experiment ID must be a valid integer.")
        known = self._known.get(experiment_id)
        if known is None and name_in(experiment_id) is None and self._gateway.known:
            try:
                known = self._asked(experiment_id)
            except NotFound:
                pass
            except TransientError as error:
                log.warning("artifacts of experiment %s go to the usual place: %s", experiment_id, error)
        if known is None:
            return self._artifacts
        if known.lifecycle_stage != LifecycleStage.ACTIVE:
            raise MlflowException(
                f"The experiment {experiment_id} must be in the 'active' state. Current state is {known.lifecycle_stage}.",
                error_code=INVALID_STATE,
            )
        return str(known.artifact_location)

    def _asked(self, experiment_id: str) -> Experiment:
        found = self._gateway.get("experiments", experiment_id)
        experiment = self._of_row(found["experiment"], found["tags"])
        self._known[experiment_id] = experiment
        return experiment

    def _of_row(self, row: Mapping[str, Any], tags: Mapping[str, str]) -> Experiment:
        return self._experiment(
            row["experiment_id"],
            row["name"],
            row["artifact_location"] or "",
            tags,
            stage=row["lifecycle_stage"],
            times=(row["created_at"], row["updated_at"]),
        )

    def _experiment(
        self,
        experiment_id: str,
        name: str,
        location: str,
        tags: Mapping[str, str],
        *,
        stage: str = LifecycleStage.ACTIVE,
        times: tuple[int | None, int | None] | None = None,
    ) -> Experiment:
        created, updated = (now_ms(), now_ms()) if times is None else times
        return Experiment(
            experiment_id=experiment_id,
            name=name,
            artifact_location=location or self._artifacts,
            lifecycle_stage=stage,
            tags=[ExperimentTag(key, value) for key, value in tags.items()],
            creation_time=created,
            last_update_time=updated,
        )

    def _remember(self, experiment: Experiment) -> None:
        self._known[experiment.experiment_id] = experiment
        self._changed[experiment.experiment_id] = time.monotonic()

    def _remembered(self, name: str) -> Experiment | None:
        """Return what this process made or changed of that name."""
        return next((self._known[found] for found in list(self._changed) if self._known[found].name == name), None)

    def _just_changed(self, experiment_id: str) -> bool:
        return time.monotonic() - self._changed.get(experiment_id, float("-inf")) < _OWN_WRITES_COUNT_S


def provisional_id(name: str) -> str:
    """Return the id of an experiment that has no number yet: its name, in characters that MLflow allows in ids."""
    return _PREFIX + base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def name_in(experiment_id: str) -> str | None:
    """Return the name that an id encodes; None for a number, or anything else."""
    if not experiment_id.startswith(_PREFIX):
        return None
    encoded = experiment_id.removeprefix(_PREFIX)
    try:
        return base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _taken(name: str) -> MlflowException:
    return MlflowException(f"Experiment(name={name}) already exists.", error_code=RESOURCE_ALREADY_EXISTS)
