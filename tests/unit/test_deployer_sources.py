"""From a version's source to files on this machine."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from runtide.models.digest import digest_directory
from runtide_consumers.deployer.target import CannotDeploy
from runtide_deploy.targets.model_source import resolve_source


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with two files."""
    (tmp_path / "model" / "data").mkdir(parents=True)
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    (tmp_path / "model" / "data" / "weights").write_bytes(b"\x00\x01")
    return tmp_path / "model"


@pytest.fixture
def remote(model: Path) -> Iterator[str]:
    """The same in a store that is no directory here."""
    store = fsspec.filesystem("memory")
    store.put(f"{model}/", "/bucket/model/", recursive=True)
    yield "memory://bucket/model"
    store.rm("/bucket", recursive=True)


def test_a_local_model_is_used_where_it_lies(model: Path, tmp_path: Path) -> None:
    for source in (model.as_uri(), str(model)):
        assert resolve_source(source, "", tmp_path / "cache") == model
    assert not (tmp_path / "cache").exists()


def test_a_remote_model_is_fetched_once_per_digest(model: Path, remote: str, tmp_path: Path) -> None:
    digest, _ = digest_directory(model)
    place = resolve_source(remote, digest, tmp_path / "cache")
    assert digest_directory(place)[0] == digest
    fsspec.filesystem("memory").rm("/bucket/model/MLmodel")
    assert resolve_source(remote, digest, tmp_path / "cache") == place
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [digest]


def test_other_content_than_registered_is_refused_and_not_kept(remote: str, tmp_path: Path) -> None:
    with pytest.raises(CannotDeploy, match=r"has digest [0-9a-f]{64}; 00"):
        resolve_source(remote, "0" * 64, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_the_gateway_keeps_is_found_below_its_root(model: Path, remote: str, tmp_path: Path) -> None:
    source, cache = "mlflow-artifacts:/model", tmp_path / "cache"
    assert resolve_source(source, "", cache, str(model.parent)) == model
    place = resolve_source(source, "", cache, remote.removesuffix("/model"))
    assert digest_directory(place) == digest_directory(model)
    with pytest.raises(CannotDeploy, match="RUNTIDE_LOCAL_TARGET_ARTIFACTS"):
        resolve_source(source, "", cache)
    for out in ("mlflow-artifacts:/../model", "mlflow-artifacts:/%2e%2e/model", "mlflow-artifacts://host/model"):
        with pytest.raises(CannotDeploy, match="cannot be used"):
            resolve_source(out, "", cache, str(model.parent))


def test_a_name_with_a_space_is_fetched(model: Path, tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    store.put(f"{model}/", "/spaced/a model/", recursive=True)
    assert (resolve_source("memory://spaced/a%20model", "", tmp_path / "cache") / "MLmodel").is_file()
    store.rm("/spaced", recursive=True)


@pytest.mark.parametrize("source", ["file:///nowhere/model", "memory://nowhere", "nonsense://x/y", "relative/nowhere"])
def test_what_cannot_be_fetched_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(CannotDeploy, match=source):
        resolve_source(source, "", tmp_path / "cache")
