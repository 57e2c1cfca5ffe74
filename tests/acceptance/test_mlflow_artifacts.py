"""MLflow's unmodified client and a stack: its files go through the gateway, and the log says of each what it is."""

import asyncio
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtide.kafka import KafkaSettings
from runtide_schemas.events.runs import ModelLogged
from tests.acceptance.stack import RunningStack
from tests.integration.gateway_stack import log_writer

pytestmark = pytest.mark.gate

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "GIT_PYTHON_REFRESH": "quiet", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
MIB = 1024 * 1024

CLIENT = """
import json, os, sys
from pathlib import Path
import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

folder = Path(sys.argv[1])
with mlflow.start_run() as run:
    mlflow.log_artifact(folder / "a 100%.txt", "deep")
    mlflow.log_artifacts(folder / "tree", "saved")
    mlflow.log_text("first", "note.txt")
    mlflow.log_text("hello", "note.txt")
    mlflow.log_dict({"a": 1}, "settings/a.json")
    if (folder / "large.bin").exists():
        mlflow.log_artifact(str(folder / "large.bin"))
run_id = run.info.run_id
repository = get_artifact_repository(run.info.artifact_uri)
there = Path(mlflow.artifacts.download_artifacts(artifact_uri=run.info.artifact_uri))
print(json.dumps({
    "run_id": run_id,
    "experiment_id": run.info.experiment_id,
    "uri": run.info.artifact_uri,
    "root": [(one.path, one.is_dir, one.file_size) for one in repository.list_artifacts()],
    "saved": [(one.path, one.is_dir, one.file_size) for one in repository.list_artifacts("saved/inner")],
    "of a file": [one.path for one in repository.list_artifacts("note.txt")],
    "missing": [one.path for one in repository.list_artifacts("missing")],
    "note": mlflow.artifacts.load_text(f"{run.info.artifact_uri}/note.txt"),
    "large": (there / "large.bin").exists() and (there / "large.bin").read_bytes() == (folder / "large.bin").read_bytes(),
}))
repository.delete_artifacts("saved")
assert repository.list_artifacts("saved") == []
"""

OF_THE_SDK = """
import runtide
with runtide.start_run() as run:
    run.log_text("from the SDK", "note.txt")
    run.log_text("deeper", "deep/er/a.txt")
print(run.run_id)
"""


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """A client of the stack's gateway."""
    with httpx.Client(base_url=stack.file.gateway, timeout=60, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def logged(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What MLflow's client logged, with a file that is sent in parts, and what it saw."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "tree" / "inner").mkdir(parents=True)
    (folder / "a 100%.txt").write_text("a")
    (folder / "tree" / "inner" / "b.bin").write_bytes(b"12345")
    (folder / "large.bin").write_bytes(os.urandom(12 * MIB + 7))
    parts = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true",
        "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(6 * MIB),
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * MIB),
    }
    tracking = {"MLFLOW_TRACKING_URI": str(stack.file.gateway)}
    job = stack.python(CLIENT, str(folder), variables=QUIET | parts | tracking)
    said, errors = job.communicate(timeout=500)
    assert job.returncode == 0, errors
    assert "multipart" not in errors, "it was sent in parts"
    return folder, json.loads(said.splitlines()[-1])


def facts(stack: RunningStack, run_id: str) -> dict[str, dict[str, Any]]:
    """Return what is known of a run's files, by path, once all that the log says of the run is folded."""
    asked = httpx.get(
        f"{stack.file.gateway}/api/2.0/mlflow/runs/get", params={"run_id": run_id}, timeout=60, trust_env=False
    )
    assert asked.status_code in {200, 404}, asked.text  # there is none of a run that nobody knows
    rows = stack.postgres("select path, uri, size, sha256, content_type from artifacts where run_id = $1", run_id)
    return {row["path"]: dict(row) for row in rows}


def test_what_mlflow_logs_is_there_and_stated(stack: RunningStack, logged: tuple[Path, dict[str, Any]]) -> None:
    folder, seen = logged
    run_id, uri = seen["run_id"], f"mlflow-artifacts:/{seen['experiment_id']}/{seen['run_id']}/artifacts"
    assert seen["uri"] == uri
    assert seen["root"] == [
        ["deep", True, None], ["large.bin", False, 12 * MIB + 7], ["note.txt", False, 5], ["saved", True, None], ["settings", True, None],
    ]  # fmt: skip
    assert seen["saved"] == [["saved/inner/b.bin", False, 5]]
    assert (seen["of a file"], seen["missing"], seen["note"], seen["large"]) == ([], [], "hello", True)
    wanted = {
        "deep/a 100%.txt": (b"a", "text/plain"),
        "saved/inner/b.bin": (b"12345", "application/octet-stream"),
        "note.txt": (b"hello", "text/plain"),
        "settings/a.json": (b'{\n  "a": 1\n}', "application/json"),
        "large.bin": ((folder / "large.bin").read_bytes(), "application/octet-stream"),
    }
    found = facts(stack, run_id)
    assert {path: (one["size"], one["sha256"], one["content_type"]) for path, one in found.items()} == {
        path: (len(data), hashlib.sha256(data).hexdigest(), kind) for path, (data, kind) in wanted.items()
    }
    assert found["deep/a 100%.txt"]["uri"] == f"{uri}/deep/a%20100%25.txt"
    shown = stack.get(f"/runs/{run_id}")
    assert {one["path"] for one in shown["artifacts"]} == set(wanted)
    assert hashlib.sha256(b"hello").hexdigest() in stack.runtide("show", run_id, "--json").stdout


def test_a_runs_files_by_its_id(client: httpx.Client, logged: tuple[Path, dict[str, Any]]) -> None:
    folder, seen = logged
    run_id = seen["run_id"]
    for prefix in ("/api", "/ajax-api"):
        listed = client.get(f"{prefix}/2.0/mlflow/artifacts/list", params={"run_id": run_id, "path": "settings"}).json()
        assert listed == {
            "root_uri": seen["uri"],
            "files": [{"path": "settings/a.json", "is_dir": False, "file_size": 12}],
        }
    for path in ("note.txt", "missing"):
        listed = client.get("/api/2.0/mlflow/artifacts/list", params={"run_uuid": run_id, "path": path}).json()
        assert listed == {"root_uri": seen["uri"]}
    found = client.get("/get-artifact", params={"run_id": run_id, "path": "note.txt"})
    assert (found.content, found.headers["content-type"]) == (b"hello", "text/plain; charset=utf-8")
    assert found.headers["content-disposition"].startswith("attachment")
    large = client.get("/get-artifact", params={"run_uuid": run_id, "path": "large.bin"}, headers={"range": "bytes=-7"})
    assert (large.status_code, large.content) == (206, (folder / "large.bin").read_bytes()[-7:])


def test_a_page_stores_a_small_file(
    stack: RunningStack, client: httpx.Client, logged: tuple[Path, dict[str, Any]]
) -> None:
    run_id, place = logged[1]["run_id"], "/ajax-api/2.0/mlflow/upload-artifact"
    about = {"run_uuid": run_id, "path": "from/page.png"}
    assert client.post(place, params=about, content=b"image").status_code == 200
    assert client.get("/get-artifact", params={"run_id": run_id, "path": "from/page.png"}).content == b"image"
    assert facts(stack, run_id)["from/page.png"]["content_type"] == "image/png"
    for wrong, body in (
        (about | {"run_uuid": ""}, b"x"),
        ({"run_uuid": run_id}, b"x"),
        (about, b""),
        (about, bytes(10 * MIB + 1)),
    ):
        assert client.post(place, params=wrong, content=body).status_code == 400


def test_signed_urls_of_a_runs_files(
    stack: RunningStack, client: httpx.Client, logged: tuple[Path, dict[str, Any]]
) -> None:
    run_id, place = logged[1]["run_id"], "/api/2.0/mlflow/artifacts/presigned-{}-url"
    about = {"run_id": run_id, "path": "signed/a.bin"}
    url = client.post(place.format("upload"), json=about).json()["presigned_url"]
    assert httpx.put(url, content=b"signed", timeout=60, trust_env=False).status_code == 200
    assert facts(stack, run_id)["signed/a.bin"]["sha256"] == hashlib.sha256(b"signed").hexdigest()
    found = client.post(place.format("download"), json=about | {"expiration": 60}).json()
    assert (found["file_size"], httpx.get(found["presigned_url"], timeout=60, trust_env=False).content) == (
        6,
        b"signed",
    )
    for wrong in (
        about | {"expiration": 0},
        about | {"path": "../x"},
        about | {"run_id": ""},
        about | {"expiration": 10**9},
    ):
        assert client.post(place.format("download"), json=wrong).status_code == 400
    assert client.post(place.format("upload"), json=about | {"model_id": "m-" + "0" * 32}).status_code == 400


def test_files_that_the_sdk_stored_beside_the_gateway(stack: RunningStack, client: httpx.Client) -> None:
    """The SDK states its files itself; the gateway finds them by the URI that it stated, which lies below its own root."""
    job = stack.python(OF_THE_SDK)
    said, errors = job.communicate(timeout=170)
    assert job.returncode == 0, errors
    run_id = said.strip()
    listed = client.get("/api/2.0/mlflow/artifacts/list", params={"run_id": run_id}).json()
    assert listed["root_uri"].startswith("file:")
    assert listed["files"] == [{"path": "deep", "is_dir": True}, {"path": "note.txt", "is_dir": False, "file_size": 12}]
    assert client.get("/get-artifact", params={"run_id": run_id, "path": "deep/er/a.txt"}).content == b"deeper"


def test_files_that_lie_elsewhere_are_listed_by_the_facts_and_not_fetched(
    stack: RunningStack, client: httpx.Client, tmp_path: Path
) -> None:
    job = stack.python(OF_THE_SDK, variables={"RUNTIDE_ARTIFACTS": str(tmp_path)})
    said, errors = job.communicate(timeout=170)
    assert job.returncode == 0, errors
    about = {"run_id": said.strip()}
    for path, files in (
        ("", [{"path": "deep", "is_dir": True}, {"path": "note.txt", "is_dir": False, "file_size": 12}]),
        ("deep", [{"path": "deep/er", "is_dir": True}]),
        ("deep/er", [{"path": "deep/er/a.txt", "is_dir": False, "file_size": 6}]),
        ("note.txt", None), ("dee", None), ("no%", None),
    ):  # fmt: skip
        listed = client.get("/api/2.0/mlflow/artifacts/list", params=about | {"path": path}).json()
        assert listed.get("files") == files, path
    refused = client.get("/get-artifact", params=about | {"path": "note.txt"})
    assert (refused.status_code, refused.json()["error_code"]) == (501, "NOT_IMPLEMENTED")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a\\b", "%2e%2e/x", "a\0", "x" * 1001, "c:/x", ".", "a//b"])
def test_hostile_paths_of_a_run(client: httpx.Client, logged: tuple[Path, dict[str, Any]], path: str) -> None:
    run_id = logged[1]["run_id"]
    for place, named in (("/api/2.0/mlflow/artifacts/list", "run_id"), ("/get-artifact", "run_id")):
        assert client.get(place, params={named: run_id, "path": path}).status_code == 400, place
    uploaded = client.post(
        "/ajax-api/2.0/mlflow/upload-artifact", params={"run_uuid": run_id, "path": path}, content=b"x"
    )
    assert uploaded.status_code == 400


def test_what_nobody_knows(stack: RunningStack, client: httpx.Client) -> None:
    unknown = {"run_id": "0" * 32, "path": "a"}
    for place in ("/api/2.0/mlflow/artifacts/list", "/get-artifact"):
        answer = client.get(place, params=unknown)
        assert (answer.status_code, answer.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST"), answer.text
        assert client.get(place, params={"path": "a"}).status_code == 400
    model = f"m-{'0' * 32}"
    assert client.get(f"/api/2.0/mlflow/logged-models/{model}/artifacts/directories").status_code == 404
    wanted = {"artifact_file_path": "MLmodel"}
    assert client.get(f"/ajax-api/2.0/mlflow/logged-models/{model}/artifacts/files", params=wanted).status_code == 404
    version = {"name": "no-such-model", "version": "1", "path": "MLmodel"}
    assert client.get("/model-versions/get-artifact", params=version).status_code == 404
    stray = f"/api/2.0/mlflow-artifacts/artifacts/1/{'0' * 32}/artifacts/a"
    assert client.put(stray, content=b"x").status_code == 200, "MLflow's proxy does not ask whose it is"
    assert facts(stack, "0" * 32) == {}
    assert stack.postgres("select 1 from runs where run_id = $1", "0" * 32) == []


def test_a_logged_models_files_are_its_runs(
    stack: RunningStack, client: httpx.Client, logged: tuple[Path, dict[str, Any]]
) -> None:
    """Where MLflow puts a model's files is beside its run; the facts about them are the run's all the same."""
    run_id, model_id = logged[1]["run_id"], f"m-{uuid.uuid4().hex}"
    place = f"{logged[1]['experiment_id']}/models/{model_id}/artifacts"
    model = ModelLogged(
        run_id=run_id, model_id=model_id, name="net", artifact_path="", uri=f"mlflow-artifacts:/{place}", digest="", size=0, flavors=(), at=1
    )  # fmt: skip

    async def publish() -> None:
        async with log_writer(KafkaSettings(bootstrap=stack.file.broker)) as log:
            await log.publish(model, uuid.uuid4().hex)

    asyncio.run(publish())
    for path, folder in ((f"{place}/data/MLmodel", place), (f"{place}x/MLmodel", ""), (f"other/{place}/MLmodel", "")):
        assert client.put(f"/api/2.0/mlflow-artifacts/artifacts/{path}", content=folder.encode()).status_code == 200
    found = {path: one["uri"] for path, one in facts(stack, run_id).items() if path.startswith("models/")}
    assert found == {f"models/{model_id}/data/MLmodel": f"mlflow-artifacts:/{place}/data/MLmodel"}
    about = f"/api/2.0/mlflow/logged-models/{model_id}/artifacts"
    listed = client.get(f"{about}/directories", params={"artifact_directory_path": "data"}).json()
    assert listed["files"] == [{"path": "data/MLmodel", "is_dir": False, "file_size": len(place)}]
    got = client.get(f"{about}/files", params={"artifact_file_path": "data/MLmodel"})
    assert got.text == place
    assert client.get(f"{about}/files", params={"artifact_file_path": "../x"}).status_code == 400
    assert client.get(f"{about}/files").status_code == 400
