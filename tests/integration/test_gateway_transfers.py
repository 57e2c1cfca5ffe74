"""MLflow's uploads in parts and its signed URLs, against a folder and S3: by hand, by its real client, and by those who have no token."""

import hashlib
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from tests.integration.artifact_gateway import ARTIFACTS, artifact_gateway, client_of, seen_files
from tests.integration.gateway_stack import Gateway
from tests.integration.s3_double import running_s3

pytestmark = pytest.mark.gate

MIB = 1024 * 1024
MPU = "/api/2.0/mlflow-artifacts/mpu"
TOKEN = "may-do-everything"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the local gateway."""
    return tmp_path_factory.mktemp("transfers") / "root"


@pytest.fixture(scope="module")
def local(root: Path) -> Iterator[Gateway]:
    """A gateway on a folder that wants a token."""
    (root.parent / "token").write_text(TOKEN)
    (root.parent / "token").chmod(0o600)
    with artifact_gateway(
        root.parent, str(root), {"RUNTIDE_GATEWAY_TOKEN_FILE": str(root.parent / "token")}
    ) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway on a bucket that wants the same token."""
    place = tmp_path_factory.mktemp("s3")
    (place / "token").write_text(TOKEN)
    (place / "token").chmod(0o600)
    with (
        running_s3() as s3,
        artifact_gateway(
            place, f"s3://bucket/{uuid.uuid4().hex}", {**s3, "RUNTIDE_GATEWAY_TOKEN_FILE": str(place / "token")}
        ) as gateway,
    ):
        yield gateway


@pytest.fixture(params=["local", pytest.param("on_s3", marks=pytest.mark.slow)])
def gateway(request: pytest.FixtureRequest) -> Gateway:
    """Either."""
    found: Gateway = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    """A client that has the token."""
    with client_of(gateway) as client:
        client.headers["authorization"] = f"Bearer {TOKEN}"
        yield client


def put(url: str, data: bytes) -> httpx.Response:
    """Follow a URL as MLflow's client does: with nothing but the body."""
    return httpx.put(url, content=data, timeout=60, trust_env=False)


def test_parts_become_a_file(client: httpx.Client, gateway: Gateway) -> None:
    folder, data = uuid.uuid4().hex, [os.urandom(5 * MIB), os.urandom(5 * MIB), b"end"]
    begun = client.post(f"{MPU}/create/{folder}/deep", json={"path": "/home/ada/a b.bin", "num_parts": 3}).json()
    credentials = {one["part_number"]: one for one in begun["credentials"]}
    assert all(one["headers"] == {} for one in credentials.values())
    ours = urlsplit(gateway.url).netloc
    through_us = {urlsplit(one["url"]).netloc == ours for one in credentials.values()}
    assert through_us == {not begun["upload_id"].startswith("store:")}
    tags = {number: put(credentials[number]["url"], data[number - 1]).headers["etag"] for number in (3, 1, 2)}
    assert client.get(f"{ARTIFACTS}/{folder}/deep/a%20b.bin").status_code == 404
    parts = [{"part_number": number, "etag": tag, "url": ""} for number, tag in sorted(tags.items())]
    about = {"path": "a b.bin", "upload_id": begun["upload_id"]}
    elsewhere = client.post(f"{MPU}/complete/{folder}/other", json=about | {"parts": parts})
    assert elsewhere.status_code == 404, elsewhere.text
    whole = b"".join(data)
    for _ in range(2):  # a client that did not hear the answer asks again
        done = client.post(f"{MPU}/complete/{folder}/deep", json=about | {"parts": parts})
        assert done.json() == {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}, done.text
    assert client.get(f"{ARTIFACTS}/{folder}/deep/a%20b.bin").content == whole


def test_what_is_aborted_or_not_whole_is_not_stored(client: httpx.Client) -> None:
    folder = uuid.uuid4().hex
    begun = client.post(f"{MPU}/create/{folder}".replace("/api/", "/ajax-api/"), json={"path": "a", "num_parts": 2})
    assert begun.status_code == 200, begun.text
    about = {"path": "a", "upload_id": begun.json()["upload_id"]}
    tag = put(begun.json()["credentials"][0]["url"], b"x").headers["etag"]
    for parts in (
        [{"part_number": 1, "etag": tag}, {"part_number": 2, "etag": '"00"'}],
        [],
        [{"part_number": "x"}],
        ["x"],
    ):
        refused = client.post(f"{MPU}/complete/{folder}", json=about | {"parts": parts})
        assert 400 <= refused.status_code < 500, refused.text
    assert client.post(f"{MPU}/abort/{folder}", json=about).json() == {}
    gone = client.post(
        f"{MPU}/complete/{folder}",
        json=about | {"parts": [{"part_number": 1, "etag": tag}, {"part_number": 2, "etag": tag}]},
    )
    assert gone.status_code == 404, gone.text
    assert client.get(ARTIFACTS, params={"path": folder}).json() == {}


@pytest.mark.parametrize(
    "body",
    [{}, {"path": ""}, {"path": 1}, {"path": "a", "num_parts": 0}, {"path": "a", "num_parts": 10_001}, {"path": ".."}, {"path": "a/"},
     {"path": "a", "num_parts": "x"}, {"path": "a\0"}, {"path": "%2e%2e"}, {"path": "c:\\.."}],
)  # fmt: skip
def test_uploads_that_cannot_be(client: httpx.Client, body: object) -> None:
    assert client.post(f"{MPU}/create/run", json=body).status_code == 400
    for step in ("complete", "abort"):
        refused = client.post(f"{MPU}/{step}/run", json={"upload_id": "x", "parts": [{"part_number": 1}], **body})  # type: ignore[dict-item]  # the cases are dicts
        assert 400 <= refused.status_code < 500, refused.text


def test_a_part_needs_the_url_that_was_signed_for_it(local: Gateway, root: Path) -> None:
    with client_of(local) as stranger:
        assert stranger.post(f"{MPU}/create/run", json={"path": "a", "num_parts": 1}).status_code == 401
        owner = {"authorization": f"Bearer {TOKEN}"}
        begun = stranger.post(f"{MPU}/create/run", json={"path": "a", "num_parts": 2}, headers=owner).json()
        first, second = (one["url"] for one in begun["credentials"])
        before = seen_files(root)
        wrong = (
            first.partition("?")[0],
            first.replace("/1?", "/2?"),
            f"{first}0",
            first.replace("expires=", "expires=9"),
        )
        for url in wrong:
            assert put(url, b"attack").status_code == 401, url
        assert httpx.get(first, trust_env=False, timeout=60).status_code in (401, 405)
        assert seen_files(root) == before
        assert put(second, b"fine").status_code == 200
        owned = {"path": "a", "upload_id": begun["upload_id"]}
        assert stranger.post(f"{MPU}/abort/run", json=owned).status_code == 401
        assert stranger.post(f"{MPU}/abort/run", json=owned, headers=owner).status_code == 200
        assert seen_files(root) == before


def test_a_signed_url_hands_a_file_out(client: httpx.Client, gateway: Gateway) -> None:
    path, data = f"{uuid.uuid4().hex}/page.html", os.urandom(1000)
    assert client.get(f"/api/2.0/mlflow-artifacts/presigned/{path}").status_code == 404
    client.put(f"{ARTIFACTS}/{path}", content=data)
    about = client.get(f"/api/2.0/mlflow-artifacts/presigned/{path}").json()
    assert (about["file_size"], about["headers"]) == (1000, {})
    found = httpx.get(about["url"], headers={"range": "bytes=10-19"}, trust_env=False, timeout=60)
    assert (found.status_code, found.content) == (206, data[10:20])
    assert found.headers["content-disposition"].startswith("attachment")
    if urlsplit(about["url"]).netloc == urlsplit(gateway.url).netloc:
        assert put(about["url"], b"other").status_code == 401
        assert client.delete(f"{ARTIFACTS}/{path}").status_code == 200
        assert httpx.get(about["url"], trust_env=False, timeout=60).status_code == 404


def test_mlflows_client_sends_and_fetches_in_parts(
    gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "true", "MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE": str(6 * MIB),
        "MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE": str(5 * MIB), "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "true",
        "MLFLOW_MULTIPART_DOWNLOAD_CHUNK_SIZE": str(4 * MIB), "MLFLOW_TRACKING_TOKEN": TOKEN,
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    folder = uuid.uuid4().hex
    (tmp_path / "large.bin").write_bytes(os.urandom(17 * MIB + 3))
    repository = MlflowArtifactsRepository(f"mlflow-artifacts:/{folder}", gateway.url)
    repository.log_artifact(str(tmp_path / "large.bin"), "deep")
    assert [(one.path, one.file_size) for one in repository.list_artifacts("deep")] == [
        ("deep/large.bin", 17 * MIB + 3)
    ]
    there = tmp_path / "there"
    there.mkdir()
    found = Path(repository.download_artifacts("deep/large.bin", str(there)))
    assert found.read_bytes() == (tmp_path / "large.bin").read_bytes()
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING], (
        "it sent and fetched in parts, and did not fall back"
    )
    repository.delete_artifacts("deep")
    assert repository.list_artifacts("deep") == []
