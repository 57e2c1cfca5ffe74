"""What the registrar knows: the catalogue, as far as decisions depend on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from runtide_consumers.sequences import Sequence
from runtide_schemas.errors import InvalidRequest, NotFound
from runtide_schemas.events.catalog import Answer, WebhookUpdated

DEFAULT_EXPERIMENT_ID = "0"
PROMPT_TAG = "mlflow.prompt.is_prompt"
"""A registered model with this tag is a prompt: MLflow keeps both in one table."""


@dataclass(slots=True)
class Experiment:
    """An experiment; deleted ones keep their names."""

    experiment_id: str
    name: str
    active: bool = True
    tag_keys: set[str] = field(default_factory=set)

    @property
    def stage(self) -> str:
        """MLflow's name of the lifecycle stage."""
        return "active" if self.active else "deleted"


@dataclass(slots=True)
class Version:
    """A version of a model that has not been deleted."""

    stage: str = "None"


@dataclass(slots=True)
class Model:
    """A registered model.

    Attributes:
        number: tells it from an earlier model of the same name.
        versions: its versions that have not been deleted.
        aliases: version by alias.
        issued: every version number it was ever given.
        prompt: it is a prompt.
    """

    number: int
    versions: dict[int, Version] = field(default_factory=dict)
    aliases: dict[str, int] = field(default_factory=dict)
    issued: set[int] = field(default_factory=set)
    prompt: bool = False


@dataclass(slots=True)
class Endpoint:
    """An endpoint that was asked for, now or once."""

    generation: int
    removed: bool = False


@dataclass(slots=True)
class Catalogue:
    """The state. Only ``folding.apply`` changes it.

    Attributes:
        experiments: by id.
        experiment_ids: id by name, deleted experiments included.
        models: registered models by name.
        issued: number of the model by version, of every name that ever had a version: a name and number that have
            once meant something never mean something else.
        models_created: how many models there ever were.
        endpoints: by name, removed ones included.
        webhooks: by id, those that have not been deleted, as they are.
        last_request_offset: offset of the last request answered; -1 before the first.
        writers: which requests of each writer were answered.
    """

    experiments: dict[str, Experiment] = field(
        default_factory=lambda: {DEFAULT_EXPERIMENT_ID: Experiment(DEFAULT_EXPERIMENT_ID, "Default")}
    )
    experiment_ids: dict[str, str] = field(default_factory=lambda: {"Default": DEFAULT_EXPERIMENT_ID})
    models: dict[str, Model] = field(default_factory=dict)
    issued: dict[str, dict[int, int]] = field(default_factory=dict)
    models_created: int = 0
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    webhooks: dict[str, WebhookUpdated] = field(default_factory=dict)
    last_request_offset: int = -1
    writers: dict[str, Sequence] = field(default_factory=dict)

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment, deleted or not.

        Raises:
            NotFound: there is none of that id.
        """
        if not (experiment_id.isascii() and experiment_id.isdecimal()):
            raise InvalidRequest(
                f"Invalid experiment ID {experiment_id[:80]!r}. Experiment ID must be a valid integer."
            )
        if (found := self.experiments.get(experiment_id)) is None:
            raise NotFound(f"No Experiment with id={experiment_id} exists")
        return found

    def model(self, name: str) -> Model:
        """Return a registered model.

        Raises:
            NotFound: there is none of that name.
        """
        if (found := self.models.get(name)) is None:
            raise NotFound(f"Registered Model with name={name} not found")
        return found

    def version(self, name: str, version: int) -> Version:
        """Return a version of a registered model.

        Raises:
            NotFound: there is none, or it was deleted.
        """
        model = self.models.get(name)
        if model is None or (found := model.versions.get(version)) is None:
            raise NotFound(f"Model Version (name={name}, version={version}) not found")
        return found

    def webhook(self, webhook_id: str) -> WebhookUpdated:
        """Return a webhook as it is.

        Raises:
            NotFound: there is none of that id, or it was deleted.
        """
        if (found := self.webhooks.get(webhook_id)) is None:
            raise NotFound(f"Webhook with ID {webhook_id[:80]} not found.")
        return found

    def next_experiment_id(self) -> str:
        """Return the id of the next experiment: ids are counted and never reused."""
        return str(len(self.experiments))

    def next_version(self, name: str) -> int:
        """Return the number of the next version registered under a name: above all that the name ever had."""
        return max(self.issued.get(name, ()), default=0) + 1


Decision = Callable[[Catalogue, Any, Answer, int], Any]
"""State, body of the request, what the fact answers, time of the request -> fact. Raises InvalidRequest to reject."""


def is_prompt(tags: Mapping[str, str]) -> bool:
    """Say whether tags are those of a prompt."""
    return tags.get(PROMPT_TAG, "false").lower() == "true"
