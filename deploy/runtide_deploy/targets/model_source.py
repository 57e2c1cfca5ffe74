"""From a version's source URI to a model directory on this machine."""

import shutil
import tempfile
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

from runtide.artifacts.uris import for_fsspec, is_proxied, local_path, resolve_proxied
from runtide_consumers.deployer.target import CannotDeploy
from runtide_schemas.errors import InvalidRequest, TransientError


def resolve_source(source: str, digest: str, cache: Path, artifacts: str = "") -> Path:
    """Return a local directory with the model's files.

    A ``file:`` URI or a path is used where it is; the server checks its digest before it loads. Everything else is
    fetched through fsspec into ``cache``, once per digest, and checked there.

    Args:
        source: URI of the model's directory, or a path.
        digest: of its content; empty when unknown.
        cache: folder for what is fetched.
        artifacts: where the gateway keeps what has the scheme ``mlflow-artifacts:``; empty when that is not known.

    Raises:
        CannotDeploy: there is no such directory, or its content is not what was registered.
        TransientError: the store is away.
    """
    if is_proxied(source):
        source = _where_the_gateway_keeps(source, artifacts)
    directory = _local_directory(source)
    if directory is None:
        return _cached(source, digest, cache)
    if not directory.is_dir():
        raise CannotDeploy(f"the model's source {source} is not a directory on this machine")
    return directory


def _where_the_gateway_keeps(source: str, artifacts: str) -> str:
    if not artifacts:
        raise CannotDeploy(
            f"the model's source {source} is kept by the gateway: set RUNTIDE_LOCAL_TARGET_ARTIFACTS to the root that "
            "RUNTIDE_GATEWAY_ARTIFACTS names there"
        )
    try:
        return resolve_proxied(source, artifacts)
    except InvalidRequest as error:
        raise CannotDeploy(f"the model's source cannot be used: {error}") from error


def _local_directory(source: str) -> Path | None:
    local = local_path(source)
    return Path(source) if local is None and not urlsplit(source).scheme else local


def _cached(source: str, digest: str, cache: Path) -> Path:
    place = cache / (digest or sha256(source.encode()).hexdigest())
    if digest and place.is_dir():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="unfinished-") as scratch:
        fetched = Path(scratch, "model")
        _fetch(source, fetched)
        _check_digest(fetched, digest, source)
        if place.is_dir():
            shutil.rmtree(place)
        fetched.rename(place)
    return place


def _fetch(source: str, target: Path) -> None:
    import fsspec  # imported late: an idle deployer does without

    try:
        file_system, path = fsspec.core.url_to_fs(for_fsspec(source))
        file_system.get(path.rstrip("/") + "/", str(target) + "/", recursive=True)
    except (ImportError, ValueError, FileNotFoundError) as error:
        raise CannotDeploy(f"cannot fetch the model from {source}: {error}") from error
    except OSError as error:
        raise TransientError(f"cannot fetch the model from {source}: {error}") from error


def _check_digest(directory: Path, digest: str, source: str) -> None:
    from runtide.models.digest import digest_directory
    from runtide.models.errors import ModelDirectoryError

    try:
        found, _ = digest_directory(directory)
    except ModelDirectoryError as error:
        raise CannotDeploy(f"what lies at {source} is no model: {error}") from error
    if digest and found != digest.lower():
        raise CannotDeploy(f"the model at {source} has digest {found}; {digest} was registered")
