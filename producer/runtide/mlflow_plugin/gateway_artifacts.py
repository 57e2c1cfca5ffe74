"""Artifacts that a gateway keeps, for MLflow: its own repository for ``mlflow-artifacts:`` wants a tracking URI over HTTP."""

import http.client
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from runtide.artifacts.paths import check_artifact_path, join
from runtide.artifacts.store import ArtifactStore
from runtide.artifacts.uris import proxied_path
from runtide.gateway.access import GatewayAccess
from runtide.gateway.asking import Asking, Question
from runtide.mlflow_plugin.errors import in_mlflows_terms
from runtide_schemas.errors import InvalidRequest

SCHEME = "mlflow-artifacts"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_CHUNK = 1024 * 1024


class GatewayArtifactRepository(ArtifactRepository):
    """What lies at or below an ``mlflow-artifacts:`` URI.

    Files go up as the SDK sends them: with their checksum, large ones in parts. Every method raises ``MlflowException``, and
    only that. The environment has the gateway's token. MLflow calls from several threads: each call has its own connection.
    """

    def __init__(
        self, artifact_uri: str, gateway: str, tracking_uri: str | None = None, registry_uri: str | None = None
    ) -> None:
        """Use what the gateway at a URL keeps; "" makes every call say that none is known."""
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._gateway = gateway
        self.stated = False
        """Whether somebody here states in the log what is stored; else the gateway does, where it is a run's."""

    @in_mlflows_terms
    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Store a file."""
        verify_artifact_path(artifact_path)
        self._store().store_file(local_file, artifact_path or None)

    @in_mlflows_terms
    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Store every file of a directory."""
        verify_artifact_path(artifact_path)
        for _ in self._store().store_directory(local_dir, artifact_path or None):
            pass

    @in_mlflows_terms
    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return what lies in a directory; nothing for a file, or what is not there."""
        with self._conversation() as asking:
            target = f"{_ARTIFACTS}?path={quote(self._path(path), safe='')}"
            listed = asking.json(Question("GET", target, {})).get("files", [])
        found = [_file_info(path, entry) for entry in listed]
        return sorted(found, key=lambda one: str(one.path))

    @in_mlflows_terms
    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file or a directory."""
        with self._conversation() as asking:
            asking.json(Question("DELETE", f"{_ARTIFACTS}/{quote(self._path(artifact_path))}", {}))

    @in_mlflows_terms
    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with self._conversation() as asking:
            target = f"{_ARTIFACTS}/{quote(self._path(remote_file_path))}"
            asking.ask(Question("GET", target, {}), partial(_save, local=Path(local_path)))

    def _path(self, path: str | None) -> str:
        return posixpath.join(proxied_path(self.artifact_uri), check_artifact_path(path) if path else "").rstrip("/")

    def _store(self) -> ArtifactStore:
        return ArtifactStore(self.artifact_uri, gateway=self._gateway, stated=self.stated)

    @contextmanager
    def _conversation(self) -> Iterator[Asking]:
        if not self._gateway:
            raise InvalidRequest(
                f"a gateway keeps {self.artifact_uri}, and none is known: set RUNTIDE_GATEWAY or RUNTIDE_URI, or use a "
                "tracking URI with ?gateway=URL"
            )
        asking = Asking(GatewayAccess.of(self._gateway))
        try:
            yield asking
        finally:
            asking.close()


def _file_info(directory: str | None, entry: Any) -> FileInfo:
    name = str(entry["path"])
    if "/" in name:
        raise InvalidRequest(f"the gateway lists {name!r} in {directory or ''!r}, which is no name")
    size = entry.get("file_size")
    return FileInfo(join(directory, name), bool(entry["is_dir"]), None if size is None else int(size))


def _save(reply: http.client.HTTPResponse, *, local: Path) -> None:
    with local.open("wb") as file:
        while chunk := reply.read(_CHUNK):
            file.write(chunk)
        if reply.length:
            raise http.client.IncompleteRead(b"", reply.length)
