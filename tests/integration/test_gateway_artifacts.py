"""The gateway's artifacts over HTTP, on a folder and on S3: what MLflow's contract says, and what hostile clients try."""

import base64
import hashlib
import json
import os
import resource
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from runtide_queries.artifacts.tree import RESERVED
from tests.integration.artifact_gateway import ARTIFACTS, UPLOADS, artifact_gateway, client_of, peak_memory, seen_files
from tests.integration.gateway_stack import Gateway, wait_until
from tests.integration.s3_double import running_s3

pytestmark = pytest.mark.gate

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of the local gateway, with a secret beside it."""
    place = tmp_path_factory.mktemp("artifacts")
    (place / "secret").write_text("secret")
    return place / "root"


@pytest.fixture(scope="module")
def local(folder: Path) -> Iterator[Gateway]:
    """A gateway on a folder."""
    with artifact_gateway(folder.parent, str(folder)) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway on a bucket."""
    place = tmp_path_factory.mktemp("s3")
    with running_s3() as s3, artifact_gateway(place, f"s3://bucket/{uuid.uuid4().hex}", s3) as gateway:
        yield gateway


@pytest.fixture(params=["local", pytest.param("on_s3", marks=pytest.mark.slow)])
def client(request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of either."""
    with client_of(request.getfixturevalue(request.param)) as client:
        yield client


@pytest.fixture
def at_folder(local: Gateway) -> Iterator[httpx.Client]:
    """A client of the gateway on a folder."""
    with client_of(local) as client:
        yield client


def announced(data: bytes) -> dict[str, str]:
    return {"content-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"}


def listed(client: httpx.Client, path: str) -> list[dict[str, object]]:
    reply = client.get(ARTIFACTS, params={"path": path} if path else {})
    assert reply.status_code == 200, reply.text
    files: list[dict[str, object]] = reply.json().get("files", [])
    return files


def test_a_file_is_stored_listed_read_and_deleted(client: httpx.Client) -> None:
    run, data = uuid.uuid4().hex, os.urandom(3 * MIB)
    assert listed(client, run) == []
    assert client.get(f"{ARTIFACTS}/{run}/a%20b.bin").status_code == 404
    reply = client.put(f"{ARTIFACTS}/{run}/deep/a%20b.bin", content=data, headers=announced(data))
    assert reply.status_code == 200, reply.text
    assert reply.json() == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert listed(client, run) == [{"path": "deep", "is_dir": True}]
    assert listed(client, f"{run}/deep") == [{"path": "a b.bin", "is_dir": False, "file_size": len(data)}]
    assert listed(client, f"{run}/deep/a b.bin") == []
    assert run in {entry["path"] for entry in listed(client, "")}
    assert RESERVED not in {entry["path"] for entry in listed(client, "")}
    found = client.get(f"{ARTIFACTS}/{run}/deep/a%20b.bin")
    assert found.content == data
    assert found.headers["content-length"] == str(len(data))
    for path in (run, f"{run}/deep", f"{run}/nothing", f"{run}/deep/a%20b.bin/x"):
        missing = client.get(f"{ARTIFACTS}/{path}")
        assert (missing.status_code, missing.json()["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    for _ in range(2):
        assert client.delete(f"{ARTIFACTS}/{run}/deep").json() == {}
    assert client.get(f"{ARTIFACTS}/{run}/deep/a%20b.bin").status_code == 404


def test_an_empty_file(client: httpx.Client) -> None:
    path = f"{ARTIFACTS}/{uuid.uuid4().hex}/empty"
    assert client.put(path, content=b"").json()["size"] == 0
    reply = client.get(path)
    assert (reply.status_code, reply.content, reply.headers["content-length"]) == (200, b"", "0")
    assert client.get(path, headers={"range": "bytes=0-"}).status_code == 416


def test_ranges_and_tags(client: httpx.Client) -> None:
    path, data = f"{ARTIFACTS}/{uuid.uuid4().hex}/a.bin", os.urandom(2 * MIB + 7)
    client.put(path, content=data)
    whole = client.get(path)
    assert whole.headers["accept-ranges"] == "bytes"
    tag = whole.headers["etag"]
    part = client.get(path, headers={"range": f"bytes={MIB}-{MIB + 9}", "if-range": tag})
    assert (part.status_code, part.content) == (206, data[MIB : MIB + 10])
    assert part.headers["content-range"] == f"bytes {MIB}-{MIB + 9}/{len(data)}"
    assert client.get(path, headers={"range": "bytes=-7"}).content == data[-7:]
    beyond = client.get(path, headers={"range": f"bytes={len(data)}-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{len(data)}")
    assert client.get(path, headers={"if-none-match": f'"x", {tag}'}).status_code == 304
    several = client.get(path, headers={"range": "bytes=0-1,4-5"})
    assert (several.status_code, several.content) == (200, data), "several ranges at once are not served"
    asked = client.head(path, headers={"range": "bytes=0-9"})
    assert (asked.status_code, asked.content, asked.headers["content-length"]) == (206, b"", "10")
    asked = client.head(path)
    assert (asked.headers["content-length"], asked.headers["etag"]) == (str(len(data)), tag)
    assert client.head(f"{path}x").status_code == 404
    client.put(path, content=data[::-1])
    changed = client.get(path, headers={"range": "bytes=0-9", "if-range": tag})
    assert (changed.status_code, changed.content) == (200, data[::-1])


def test_what_was_announced_is_what_is_stored(client: httpx.Client) -> None:
    path = f"{ARTIFACTS}/{uuid.uuid4().hex}/a"
    client.put(path, content=b"before")
    for headers in (announced(b"other"), {"content-digest": "sha-256=:AAAA:"}):
        reply = client.put(path, content=b"after", headers=headers)
        assert (reply.status_code, reply.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert client.get(path).content == b"before"


def test_no_answer_is_run_by_a_browser(at_folder: httpx.Client) -> None:
    for name in ("a.html", "a.svg", "ü%22%0b.js".replace("%0b", ""), "MLmodel"):
        at_folder.put(
            f"{ARTIFACTS}/types/{name}", content=b"<script>alert(1)</script>", headers={"content-type": "text/html"}
        )
        headers = at_folder.get(f"{ARTIFACTS}/types/{name}").headers
        assert headers["content-type"] in ("application/octet-stream", "text/plain; charset=utf-8")
        assert headers["content-disposition"].startswith("attachment; filename=")
        assert headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert headers["x-content-type-options"] == "nosniff"


HOSTILE = [
    "../secret", "a/../../secret", "..%2fsecret", "%2e%2e/secret", "%2e%2e%2fsecret", "a/%2e%2e/%2e%2e/secret", "..%5csecret",
    "..\\secret", "%2fetc/passwd", "/etc/passwd", "//etc/passwd", "a//b", "a/./b", ".", "..", "%2e", "%00", "a%00.txt", "a%0ab", "a%7fb",
    "c:/x", "c%3a/x", "file:///etc/passwd", "file%3a%2f%2f%2fetc%2fpasswd", "x" * 1001, f"{'x' * 300}", "a/" * 600 + "b", "%ff", "%c0%ae%c0%ae/x",
    "%ed%a0%80", RESERVED, f"{RESERVED}/x", f"{RESERVED}%2fx", "trailing/", "%252e%252e/secret", "%252e%252e%252fsecret", "..%252fsecret",
    "%25%32%65", "a/%25252e%252e/secret", "%252fetc/passwd", "..%255csecret",
]  # fmt: skip
LITERAL = [
    "..;/secret",
    "~/x",
    "a%3fb%23c",
    "100%25",
    "a%252eb",
    "seen%25step%253%25timestamp%25176%2500ab.png",
    "a%255cb",
]


JSON = "Content-Type: application/json\r\n"


def raw(gateway: Gateway, method: str, target: str, body: bytes = b"", headers: str = "") -> int:
    """Send a target as it is, which clients would tidy up; return the status."""
    address = urlsplit(gateway.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode("latin-1") + body)
        reply = b""
        while data := connection.recv(65_536):
            reply += data
    assert (
        b"secret" not in reply.partition(b"\r\n\r\n")[2].replace(b"/secret", b"").replace(b"\\\\secret", b"")
        or b'"error_code"' in reply
    )
    return int(reply.split(b" ", 2)[1])


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_paths_are_refused(local: Gateway, folder: Path, path: str) -> None:
    before = seen_files(folder.parent)
    for method in ("GET", "PUT", "DELETE"):
        status = raw(local, method, f"{ARTIFACTS}/{path}", b"attack" if method == "PUT" else b"")
        assert 400 <= status < 500, (method, path)
    if "%" in path or path.startswith("."):
        assert 400 <= raw(local, "GET", f"{ARTIFACTS}?path={path}") < 500 or path in ("%ff", "trailing/")
    for step in ("create", "complete", "abort"):
        for prefix in ("api", "ajax-api"):
            target = f"/{prefix}/2.0/mlflow-artifacts/mpu/{step}/{path}"
            status = raw(local, "POST", target, b'{"path": "x", "num_parts": 1}', JSON)
            too_long_for_this_store = step == "create" and path == "x" * 300  # it is found out when it is stored
            assert 400 <= status < 500 or too_long_for_this_store, target
    assert 400 <= raw(local, "GET", f"/api/2.0/mlflow-artifacts/presigned/{path}") < 500
    for method in ("GET", "PUT"):
        assert 400 <= raw(local, method, f"/api/runtide/v1/signed-artifacts/{path}") < 500
    assert seen_files(folder.parent) == before
    assert (folder.parent / "secret").read_text() == "secret"


@pytest.mark.parametrize("path", LITERAL)
def test_what_is_decoded_once_is_just_a_name(local: Gateway, folder: Path, path: str) -> None:
    assert raw(local, "PUT", f"{ARTIFACTS}/literal/{path}", b"x") == 200
    assert raw(local, "GET", f"{ARTIFACTS}/literal/{path}") == 200
    assert (folder.parent / "secret").read_text() == "secret"
    assert not (folder / "secret").exists()
    assert not (folder / "literal" / "secret").exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"path": "../x", "size": 1, "sha256": "0" * 64}, 400), ({"path": RESERVED, "size": 1, "sha256": "0" * 64}, 400),
        ({"path": "x", "size": -1, "sha256": "0" * 64}, 400), ({"path": "x", "size": 10**30, "sha256": "0" * 64}, 400),
        ({"path": "x", "size": 1, "sha256": "../x"}, 400), ({"path": "x\0", "size": 1, "sha256": "0" * 64}, 400),
        ({"path": "\ud800", "size": 1, "sha256": "0" * 64}, 400), ({"path": ["x"], "size": 1, "sha256": "0" * 64}, 400), ({}, 400), ([], 400),
    ],
)  # fmt: skip
def test_hostile_uploads_are_refused(at_folder: httpx.Client, body: object, status: int) -> None:
    text = json.dumps(body)
    for place in (UPLOADS, f"{UPLOADS}/{'0' * 64}/complete"):
        reply = at_folder.post(place, content=text, headers={"content-type": "application/json"})
        assert reply.status_code == status, reply.text


def test_hostile_parts_are_refused(local: Gateway, at_folder: httpx.Client) -> None:
    for upload in ("x", "../" + "0" * 61, "%2e%2e", "0" * 63 + "%2f", "A" * 64):
        assert 400 <= raw(local, "PUT", f"{UPLOADS}/{upload}?offset=0", b"x") < 500
    for offset in ("-1", "x", "", "1", str(10**30), str(2**63)):
        reply = at_folder.put(f"{UPLOADS}/{'1' * 64}", params={"offset": offset}, content=b"x")
        assert reply.status_code in (400, 409), (offset, reply.text)


def test_a_body_that_breaks_off_leaves_nothing(local: Gateway, folder: Path, at_folder: httpx.Client) -> None:
    at_folder.put(f"{ARTIFACTS}/broken/kept", content=b"before")
    before = seen_files(folder)
    address = urlsplit(local.url)
    for name in ("kept", "new"):
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            head = f"PUT {ARTIFACTS}/broken/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {20 * MIB}\r\n\r\n"
            connection.sendall(head.encode() + os.urandom(5 * MIB))
            wait_until(lambda: len(seen_files(folder)) > len(before), "the bytes come")
        wait_until(lambda: seen_files(folder) == before, "what had come is deleted")
    assert at_folder.get(f"{ARTIFACTS}/broken/kept").content == b"before"
    assert local.process is not None
    assert local.process.poll() is None
    assert "Traceback" not in local.log()


def test_of_concurrent_writers_of_one_path_one_wins_whole(at_folder: httpx.Client) -> None:
    client = at_folder  # the S3 double mixes up concurrent requests for one key itself
    path = f"{ARTIFACTS}/{uuid.uuid4().hex}/contested"
    bodies = [bytes([number]) * (3 * MIB + number) for number in range(8)]
    statuses: list[int] = []

    def put(data: bytes) -> None:
        statuses.append(httpx.put(f"{client.base_url}{path}", content=data, timeout=60, trust_env=False).status_code)

    threads = [threading.Thread(target=put, args=(data,)) for data in bodies]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        seen = client.get(path)
        assert seen.status_code == 404 or seen.content in bodies
    for thread in threads:
        thread.join()
    assert statuses == [200] * 8
    assert client.get(path).content in bodies


@pytest.mark.slow
def test_a_large_file_takes_little_memory(local: Gateway, at_folder: httpx.Client) -> None:
    assert local.process is not None
    before, size = peak_memory(local.process.pid), 300 * MIB
    chunk, digest = os.urandom(MIB), hashlib.sha256()
    for _ in range(size // MIB):
        digest.update(chunk)
    reply = at_folder.put(f"{ARTIFACTS}/large/file", content=(chunk for _ in range(size // MIB)))
    assert reply.json() == {"size": size, "sha256": digest.hexdigest()}
    read = hashlib.sha256()
    with at_folder.stream("GET", f"{ARTIFACTS}/large/file") as answer:
        for data in answer.iter_bytes():
            read.update(data)
    assert read.digest() == digest.digest()
    grown = peak_memory(local.process.pid) - before
    print(f"300 MiB up and down: the gateway's peak grew by {grown / MIB:.1f} MiB")
    assert grown < 48 * MIB
    at_folder.delete(f"{ARTIFACTS}/large")


def test_an_artifact_has_a_limit_of_size(tmp_path: Path) -> None:
    limit = {"RUNTIDE_GATEWAY_ARTIFACT_BYTES": "1000"}
    with artifact_gateway(tmp_path, str(tmp_path / "root"), limit) as gateway, client_of(gateway) as client:
        assert client.put(f"{ARTIFACTS}/a", content=bytes(1000)).status_code == 200
        assert client.put(f"{ARTIFACTS}/a", content=bytes(1001)).status_code == 413
        assert client.put(f"{ARTIFACTS}/a", content=iter([bytes(600), bytes(600)])).status_code == 400
        wanted = {"path": "a", "size": 1001, "sha256": "0" * 64}
        assert client.post(UPLOADS, json=wanted).status_code == 400
        assert client.put(f"{UPLOADS}/{'0' * 64}", params={"offset": 1001}, content=b"x").status_code == 400
        assert client.get(f"{ARTIFACTS}/a").headers["content-length"] == "1000"


def test_a_disk_without_room_is_said_and_nothing_is_left(local: Gateway, folder: Path, at_folder: httpx.Client) -> None:
    assert local.process is not None
    before = seen_files(folder)
    limits = resource.prlimit(local.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(local.process.pid, resource.RLIMIT_FSIZE, (2 * MIB, limits[1]))
    try:
        reply = at_folder.put(f"{ARTIFACTS}/full/a", content=bytes(5 * MIB))
        part = at_folder.put(f"{UPLOADS}/{'2' * 64}", params={"offset": 0}, content=bytes(5 * MIB))
    finally:
        resource.prlimit(local.process.pid, resource.RLIMIT_FSIZE, limits)
    for answer in (reply, part):
        assert (answer.status_code, answer.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert answer.headers["retry-after"] == "1"
    assert seen_files(folder) - before == {f"{RESERVED}/{'2' * 64}"}, "what was received of an upload is kept"
    assert at_folder.delete(f"{UPLOADS}/{'2' * 64}").status_code == 200
    assert at_folder.put(f"{ARTIFACTS}/full/a", content=bytes(5 * MIB)).status_code == 200


def test_a_root_that_is_away_is_said_and_the_gateway_goes_on(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("no folder")
    with artifact_gateway(tmp_path, str(tmp_path / "root")) as gateway, client_of(gateway) as client:
        for reply in (client.get(ARTIFACTS), client.get(f"{ARTIFACTS}/a"), client.put(f"{ARTIFACTS}/a", content=b"x")):
            assert (reply.status_code, reply.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
            assert reply.headers["retry-after"] == "1"
        (tmp_path / "root").unlink()
        (tmp_path / "root").mkdir()
        assert client.put(f"{ARTIFACTS}/a", content=b"x").status_code == 200


def test_without_a_root_it_is_said_what_to_set(tmp_path: Path) -> None:
    with artifact_gateway(tmp_path, "") as gateway, client_of(gateway) as client:
        reply = client.put(f"{ARTIFACTS}/a", content=b"x")
        assert reply.status_code == 501
        assert "RUNTIDE_GATEWAY_ARTIFACTS" in reply.json()["message"]


def test_the_log_token_stores_and_reads_and_does_not_delete(tmp_path: Path) -> None:
    for name in ("all", "log"):
        (tmp_path / name).write_text(name * 8)
        (tmp_path / name).chmod(0o600)
    tokens = {
        "RUNTIDE_GATEWAY_TOKEN_FILE": str(tmp_path / "all"),
        "RUNTIDE_GATEWAY_LOG_TOKEN_FILE": str(tmp_path / "log"),
    }
    with artifact_gateway(tmp_path, str(tmp_path / "root"), tokens) as gateway, client_of(gateway) as client:
        log, whole = ({"authorization": f"Bearer {name * 8}"} for name in ("log", "all"))
        assert client.put(f"{ARTIFACTS}/a", content=b"x").status_code == 401
        assert client.put(f"{ARTIFACTS}/a", content=b"x", headers=log).status_code == 200
        assert client.get(f"{ARTIFACTS}/a", headers=log).content == b"x"
        assert client.get(ARTIFACTS, headers=log).status_code == 200
        assert client.delete(f"{ARTIFACTS}/a", headers=log).status_code == 403
        assert client.delete(f"{ARTIFACTS}/a", headers=whole).status_code == 200
