"""Logged models: saved in their flavor, stored as artifacts, described from where they lie."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtide.artifacts.paths import check_artifact_path
from runtide.artifacts.places import place_of
from runtide.artifacts.store import ArtifactStore, StoredFile
from runtide.artifacts.uris import local_path
from runtide.connection import as_uri
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.identity import new_model_id

MODELS_DIRECTORY = "models"


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a run logged.

    Attributes:
        model_id: its id.
        uri: where its directory lies.
        digest: SHA-256 of the directory's content (``runtide.models.digest_directory``).
        name: as given to ``log_model``.
        run_id: the run; empty when unknown.
        flavors: flavors that can load it.
        size: bytes.
        signature: inputs, outputs and params as JSON; empty when unknown.
    """

    model_id: str
    uri: str
    digest: str
    name: str = ""
    run_id: str = ""
    flavors: tuple[str, ...] = ()
    size: int = 0
    signature: str = ""


def store_model(
    store: ArtifactStore, run_id: str, model: Any, name: str, options: Mapping[str, Any]
) -> tuple[LoggedModel, list[StoredFile]]:
    """Save a model and store its directory; return it and its files.

    Args:
        store: of the run.
        run_id: the run.
        model: any object that an installed flavor can save.
        name: of the model; the directory is ``models/<name>``.
        options: further arguments of ``runtide.models.save_model``.
    """
    path = f"{MODELS_DIRECTORY}/{_check_name(name)}"
    with tempfile.TemporaryDirectory(prefix="runtide-model-") as scratch:
        directory = Path(scratch) / "model"
        _save(directory, run_id, model, name, options)
        described = describe_directory(directory, uri=store.uri(path))
        return described, list(store.store_directory(directory, path))


def describe_model(uri: str, gateway: str = "") -> LoggedModel:
    """Return what a stored model says about itself.

    Args:
        uri: of its directory, or a path.
        gateway: base URL of the gateway that keeps what lies at ``mlflow-artifacts:``.

    Raises:
        InvalidRequest: there is no model.
        TransientError: the gateway is away.
    """
    uri = as_uri(uri)
    if (local := local_path(uri)) is not None:
        return describe_directory(local, uri=uri)
    place = place_of(uri, gateway)
    with tempfile.TemporaryDirectory(prefix="runtide-model-") as scratch:
        try:
            place.fetch_directory(uri, Path(scratch))
        except OSError as error:
            raise InvalidRequest(f"cannot read a model at {uri}: {error}") from error
        finally:
            place.close()
        return describe_directory(Path(scratch), uri=uri)


def describe_directory(directory: Path, uri: str) -> LoggedModel:
    """Return what a model directory says about itself; ``uri`` is where it lies or will lie."""
    from runtide.models import MLmodel, digest_directory

    document = MLmodel.read(directory)
    digest, manifest = digest_directory(directory)
    extra = document.model_extra or {}
    return LoggedModel(
        model_id=document.model_id or "",
        uri=uri.rstrip("/"),
        digest=digest,
        name=str(extra.get("artifact_path") or ""),
        run_id=str(extra.get("run_id") or ""),
        flavors=tuple(document.flavors),
        size=sum(entry.size for entry in manifest),
        signature=document.signature.model_dump_json() if document.signature else "",
    )


def _save(directory: Path, run_id: str, model: Any, name: str, options: Mapping[str, Any]) -> None:
    from runtide.models import MLmodel, save_model

    save_model(model, directory, **options)
    document = MLmodel.read(directory)
    stamped = document.model_copy(update={"model_id": new_model_id(), "run_id": run_id, "artifact_path": name})
    stamped.write(directory)


def _check_name(name: str) -> str:
    if set(name) & set("/:.%\"'"):
        raise InvalidRequest(f"Model name {name!r} must have none of / : . % \" ' (MLflow's rule)")
    return check_artifact_path(name)
