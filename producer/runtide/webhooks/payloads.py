"""What webhooks are told of a fact of the catalogue, in MLflow's words (``mlflow/webhooks/types.py``)."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runtide_schemas.events.catalog import (
    AliasDeleted,
    AliasMoved,
    ModelVersionRegistered,
    ModelVersionTagsDeleted,
    ModelVersionTagsSet,
    RegisteredModelCreated,
    RegisteredModelTagsDeleted,
    RegisteredModelTagsSet,
)

PROMPT_TAG = "mlflow.prompt.is_prompt"
_TEXT_TAG = "mlflow.prompt.text"
_MARKS = frozenset({PROMPT_TAG, "_mlflow_prompt_type"})
Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """One thing to tell: ``event`` is ENTITY.ACTION, ``data`` what there is to it."""

    event: str
    data: Data

    def body(self, at: int) -> Data:
        """Return what is sent; ``at`` is when it happened, Unix milliseconds."""
        entity, _, action = self.event.partition(".")
        return {
            "entity": entity,
            "action": action,
            "timestamp": datetime.fromtimestamp(at / 1000, UTC).isoformat(),
            "data": self.data,
        }


def told_by(fact: Any, is_prompt: Callable[[str], bool]) -> list[Told]:
    """Return what a fact has to tell, in order. ``is_prompt`` says of a registered model whether it is a prompt, by then."""
    tell = _TELLING.get(type(fact))
    return [] if tell is None else list(tell(fact, is_prompt(fact.name)))


def _created(fact: RegisteredModelCreated, prompt: bool) -> Iterator[Told]:
    tags = {key: value for key, value in fact.tags.items() if not prompt or key not in _MARKS}
    data = {"name": fact.name, "tags": tags, "description": fact.description}
    yield Told("prompt.created" if prompt else "registered_model.created", data)


def _registered(fact: ModelVersionRegistered, prompt: bool) -> Iterator[Told]:
    if fact.model_created:
        yield Told("registered_model.created", {"name": fact.name, "tags": {}, "description": ""})
    about = {"name": fact.name, "version": str(fact.version)}
    if prompt:
        tags = {key: value for key, value in fact.tags.items() if key not in {*_MARKS, _TEXT_TAG}}
        text = {"template": fact.tags.get(_TEXT_TAG), "tags": tags, "description": fact.description or None}
        yield Told("prompt_version.created", about | text)
    else:
        origin = {"source": fact.source, "run_id": fact.run_id or None, "tags": dict(fact.tags)}
        yield Told("model_version.created", about | origin | {"description": fact.description or None})
    for alias in fact.aliases:
        yield Told(
            f"{_entity(prompt, 'alias')}.created", {"name": fact.name, "alias": alias, "version": str(fact.version)}
        )


def _version_tags_set(fact: ModelVersionTagsSet, prompt: bool) -> Iterator[Told]:
    event = "prompt_version_tag.set" if prompt else "model_version_tag.set"
    for key, value in fact.tags.items():
        yield Told(event, {"name": fact.name, "version": str(fact.version), "key": key, "value": value})


def _version_tags_deleted(fact: ModelVersionTagsDeleted, prompt: bool) -> Iterator[Told]:
    event = "prompt_version_tag.deleted" if prompt else "model_version_tag.deleted"
    for key in fact.keys:
        yield Told(event, {"name": fact.name, "version": str(fact.version), "key": key})


def _tags_set(fact: RegisteredModelTagsSet, prompt: bool) -> Iterator[Told]:
    """Of models MLflow tells nothing here."""
    for key, value in fact.tags.items() if prompt else ():
        yield Told("prompt_tag.set", {"name": fact.name, "key": key, "value": value})


def _tags_deleted(fact: RegisteredModelTagsDeleted, prompt: bool) -> Iterator[Told]:
    for key in fact.keys if prompt else ():
        yield Told("prompt_tag.deleted", {"name": fact.name, "key": key})


def _alias_moved(fact: AliasMoved, prompt: bool) -> Iterator[Told]:
    data = {"name": fact.name, "alias": fact.alias, "version": str(fact.version)}
    yield Told(f"{_entity(prompt, 'alias')}.created", data)


def _alias_deleted(fact: AliasDeleted, prompt: bool) -> Iterator[Told]:
    yield Told(f"{_entity(prompt, 'alias')}.deleted", {"name": fact.name, "alias": fact.alias})


def _entity(prompt: bool, what: str) -> str:
    return f"prompt_{what}" if prompt else f"model_version_{what}"


_TELLING: Mapping[type, Callable[[Any, bool], Iterator[Told]]] = {
    RegisteredModelCreated: _created,
    ModelVersionRegistered: _registered,
    ModelVersionTagsSet: _version_tags_set,
    ModelVersionTagsDeleted: _version_tags_deleted,
    RegisteredModelTagsSet: _tags_set,
    RegisteredModelTagsDeleted: _tags_deleted,
    AliasMoved: _alias_moved,
    AliasDeleted: _alias_deleted,
}

_MODEL = {"name": "example_model"}
_PROMPT = {"name": "example_prompt"}
_VERSION = {"version": "1"}
_TAG = {"key": "example_key", "value": "example_value"}
_TAGS = {"tags": {"example_key": "example_value"}}
_ALIAS = {"alias": "example_alias"}
EXAMPLES: Mapping[str, Data] = {
    "registered_model.created": _MODEL | _TAGS | {"description": "An example registered model"},
    "model_version.created": _MODEL
    | _VERSION
    | {"source": "models:/123", "run_id": "abcd1234abcd5678"}
    | _TAGS
    | {"description": "An example model version"},
    "model_version_tag.set": _MODEL | _VERSION | _TAG,
    "model_version_tag.deleted": _MODEL | _VERSION | {"key": "example_key"},
    "model_version_alias.created": _MODEL | _ALIAS | _VERSION,
    "model_version_alias.deleted": _MODEL | _ALIAS,
    "prompt.created": _PROMPT | _TAGS | {"description": "An example prompt"},
    "prompt_version.created": _PROMPT
    | _VERSION
    | {"template": "Hello {{name}}!"}
    | _TAGS
    | {"description": "An example prompt version"},
    "prompt_tag.set": _PROMPT | _TAG,
    "prompt_tag.deleted": _PROMPT | {"key": "example_key"},
    "prompt_version_tag.set": _PROMPT | _VERSION | _TAG,
    "prompt_version_tag.deleted": _PROMPT | _VERSION | {"key": "example_key"},
    "prompt_alias.created": _PROMPT | _ALIAS | _VERSION,
    "prompt_alias.deleted": _PROMPT | _ALIAS,
}
"""What a test of each event tells; the names and values are those of MLflow's documentation."""
