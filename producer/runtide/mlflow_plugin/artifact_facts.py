"""Facts about the files that MLflow stores for our runs.

MLflow's own artifact repositories write to the store directly, ours to a gateway (``gateway_artifacts.py``). Each repository that MLflow makes for a place of one of our
runs is told to publish, after it has stored a file, that it is there: path, size, SHA-256 of what was sent. Repositories
for other places are left alone, and so is every repository while no tracking store of ours is in use.
"""

import hashlib
import logging
import mimetypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.store.artifact import artifact_repository_registry
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from runtide.artifacts.paths import check_artifact_path
from runtide.mlflow_plugin.address import SCHEME, read_address
from runtide.mlflow_plugin.errors import mlflow_error
from runtide.mlflow_plugin.gateway_artifacts import SCHEME as KEPT_BY_A_GATEWAY
from runtide.mlflow_plugin.gateway_artifacts import GatewayArtifactRepository
from runtide_schemas.errors import RuntideError
from runtide_schemas.events.runs import ArtifactLogged
from runtide_schemas.identity import now_ms

log = logging.getLogger("runtide")

_CHUNK = 1024 * 1024
_watching = threading.Lock()
_watched: set[str] = set()
_owners: "weakref.WeakSet[Owner]" = weakref.WeakSet()


class Owner(Protocol):
    """Whose runs' files are announced.

    Attributes:
        gateway: base URL of the gateway that keeps what lies at ``mlflow-artifacts:``; or empty.
    """

    gateway: str

    def root_of(self, uri: str) -> tuple[str, str] | None:
        """Return the run whose artifacts lie at or above a URI, and the URI of their root; None for foreign places."""

    def announce(self, fact: ArtifactLogged) -> None:
        """Publish that a file is there."""

    def model_stored(self, uri: str, directory: Path) -> None:
        """Hear that a directory with an ``MLmodel`` file was stored."""


def announce_artifacts_to(owner: Owner) -> None:
    """Have the files of an owner's runs announced from now on, for as long as it lives."""
    registry = artifact_repository_registry._artifact_repository_registry
    with _watching:
        _owners.add(owner)
        for scheme, builder in list(registry.get_registered_artifact_repositories().items()):
            if scheme not in _watched:
                _watched.add(scheme)
                registry.register(scheme, _announcing(builder))


def reach_gateways() -> None:
    """Have MLflow find what gateways keep, from now on; while its tracking URI is another's, as before. Called once."""
    registry = artifact_repository_registry._artifact_repository_registry
    builder = registry.get_registered_artifact_repositories()[KEPT_BY_A_GATEWAY]
    registry.register(KEPT_BY_A_GATEWAY, _through_gateway(builder))


def _through_gateway(builder: Callable[..., ArtifactRepository]) -> Callable[..., ArtifactRepository]:
    def build(
        artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> ArtifactRepository:
        from mlflow.tracking import (
            get_tracking_uri,
        )  # imported late: MLflow is loading this package when it is imported

        gateway = _gateway_of(artifact_uri, tracking_uri or get_tracking_uri())
        if gateway is None:
            return builder(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
        return GatewayArtifactRepository(artifact_uri, gateway, tracking_uri, registry_uri)

    return build


def _gateway_of(artifact_uri: str, tracking_uri: str) -> str | None:
    """Return the gateway that keeps a place: that of the store whose run it is of, else the tracking URI's; None of others'."""
    for owner in list(_owners):
        if owner.root_of(artifact_uri) is not None:
            return owner.gateway
    if urlsplit(tracking_uri).scheme != SCHEME:
        return None
    try:
        return read_address(tracking_uri).connection.gateway
    except RuntideError as error:
        raise mlflow_error(error) from error


def _announcing(builder: Callable[..., ArtifactRepository]) -> Callable[..., ArtifactRepository]:
    def build(artifact_uri: str, *arguments: Any, **options: Any) -> ArtifactRepository:
        repository = builder(artifact_uri, *arguments, **options)
        for owner in list(_owners):
            if (found := owner.root_of(artifact_uri)) is not None:
                _watch(repository, owner, artifact_uri.rstrip("/"), *found)
        return repository

    return build


def _watch(repository: Any, owner: Owner, place: str, run_id: str, root: str) -> None:
    """Wrap the two methods by which files get into a repository, on this object alone."""
    store_file, store_directory = repository.log_artifact, repository.log_artifacts
    base = place.removeprefix(root).strip("/")

    def announce(local: Path, *parts: str) -> None:
        path = "/".join(part.strip("/") for part in (base, *parts) if part and part.strip("/"))
        with _said(path, run_id):
            owner.announce(_fact(run_id, root, check_artifact_path(path), local))

    def log_artifact(local_file: Any, artifact_path: str | None = None, *further: Any, **options: Any) -> Any:
        result = store_file(local_file, artifact_path, *further, **options)
        announce(Path(local_file), artifact_path or "", Path(local_file).name)
        return result

    def log_artifacts(local_dir: Any, artifact_path: str | None = None, *further: Any, **options: Any) -> Any:
        result = store_directory(local_dir, artifact_path, *further, **options)
        for local, relative in _files(Path(local_dir)):
            announce(local, artifact_path or "", relative)
        if not artifact_path and (Path(local_dir) / "MLmodel").is_file():
            with _said("MLmodel", run_id):
                owner.model_stored(place, Path(local_dir))
        return result

    repository.log_artifact, repository.log_artifacts, repository.stated = log_artifact, log_artifacts, True


@contextmanager
def _said(path: str, run_id: str) -> Iterator[None]:
    """What is stored is stored: that it cannot be announced is said, and is no failure of MLflow's call."""
    try:
        yield
    except (RuntideError, MlflowException, OSError) as error:
        log.warning("artifact %r of run %s is stored, and cannot be announced: %s", path, run_id, error)


def _files(directory: Path) -> Iterator[tuple[Path, str]]:
    for folder, folders, names in os.walk(directory):
        folders.sort()
        for name in sorted(names):
            local = Path(folder) / name
            yield local, local.relative_to(directory).as_posix()


def _fact(run_id: str, root: str, path: str, local: Path) -> ArtifactLogged:
    digest, size = hashlib.sha256(), 0
    with local.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return ArtifactLogged(
        run_id=run_id,
        path=path,
        uri=f"{root}/{quote(path)}",
        size=size,
        sha256=digest.hexdigest(),
        content_type=mimetypes.guess_type(path)[0] or "application/octet-stream",
        at=now_ms(),
    )
