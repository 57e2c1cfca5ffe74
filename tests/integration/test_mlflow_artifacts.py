"""MLflow's own client stores and reads artifacts through the gateway, as through its own server."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.artifact_gateway import artifact_gateway
from tests.integration.gateway_stack import Gateway

mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: make test-heavy")

pytestmark = pytest.mark.heavy
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that MLflow takes for its server."""
    folder = tmp_path_factory.mktemp("gateway")
    with artifact_gateway(folder, str(folder / "root")) as gateway:
        yield gateway


def test_files_and_folders_go_up_and_down(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(8 * MIB))
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "a b%.txt").write_text("hello")
    (tree / "large.bin").write_bytes(os.urandom(20 * MIB))
    mlflow.set_tracking_uri(gateway.url)
    store = get_artifact_repository("mlflow-artifacts:/1/run/artifacts")
    store.log_artifacts(str(tree), "saved")
    store.log_artifact(str(tree / "large.bin"))
    assert [(one.path, one.is_dir, one.file_size) for one in store.list_artifacts("saved")] == [
        ("saved/deep", True, None),
        ("saved/large.bin", False, 20 * MIB),
    ]
    assert store.list_artifacts("saved/large.bin") == store.list_artifacts("nothing") == []
    assert (gateway.folder / "root/1/run/artifacts/saved/deep/a b%.txt").read_text() == "hello"
    (tmp_path / "down").mkdir()
    found = Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri="mlflow-artifacts:/1/run/artifacts/saved", dst_path=str(tmp_path / "down")
        )
    )
    assert (found / "deep" / "a b%.txt").read_text() == "hello"
    for name in ("saved/large.bin", "large.bin"):
        kept = (gateway.folder / "root/1/run/artifacts" / name).read_bytes()
        assert hashlib.sha256(kept).digest() == hashlib.sha256((tree / "large.bin").read_bytes()).digest()
    assert (found / "large.bin").read_bytes() == kept


def test_what_is_missing_and_what_is_deleted(gateway: Gateway, tmp_path: Path) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    mlflow.set_tracking_uri(gateway.url)
    store = get_artifact_repository("mlflow-artifacts:/2/run/artifacts")
    (tmp_path / "a").write_text("x")
    store.log_artifact(str(tmp_path / "a"), "deep")
    with pytest.raises(mlflow.exceptions.MlflowException, match=r"404|No such"):
        store.download_artifacts("nothing")
    store.delete_artifacts("deep")
    assert store.list_artifacts() == []
