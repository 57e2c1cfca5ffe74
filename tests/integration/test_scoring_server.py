"""The scoring server as a process: MLflow's protocol, its limits, and a clean start and stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression

from runtide.models import infer_signature, save_model

pytestmark = pytest.mark.gate

DIGITS, LABELS = load_digits(return_X_y=True)
MODEL = LogisticRegression(max_iter=1000, tol=0.1).fit(DIGITS, LABELS)
PREDICTIONS = MODEL.predict(DIGITS)
JSON = {"Content-Type": "application/json"}


@contextmanager
def serving(model_dir: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "runtide_deploy.serving", "--model-dir", str(model_dir), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        yield process, line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits` takes an array of 64 numbers, `iris` four named columns, `bare` has no signature."""
    folder = tmp_path_factory.mktemp("models")
    save_model(MODEL, folder / "digits", signature=infer_signature(DIGITS, LABELS))
    save_model(MODEL, folder / "bare")
    frame, target = load_iris(return_X_y=True, as_frame=True)
    iris = LogisticRegression(max_iter=1000).fit(frame, target)
    save_model(iris, folder / "iris", signature=infer_signature(frame, target))
    return folder


@pytest.fixture(scope="module")
def digits(models: Path) -> Iterator[httpx.Client]:
    with serving(models / "digits", "--max-rows", "2000") as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def iris(models: Path) -> Iterator[httpx.Client]:
    with serving(models / "iris") as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def bare(models: Path) -> Iterator[httpx.Client]:
    with serving(models / "bare") as (_, url), httpx.Client(base_url=url, timeout=60) as client:
        yield client


def test_health_and_version(digits: httpx.Client) -> None:
    for path in ("/ping", "/health"):
        response = digits.get(path)
        assert (response.status_code, response.content) == (200, b"\n")
    assert digits.get("/version").text.count(".") >= 1
    described = digits.get("/model").json()
    assert (described["name"], described["flavor"]) == ("digits", "sklearn")
    assert len(described["digest"]) == 64


@pytest.mark.parametrize("key", ["inputs", "instances"])
def test_arrays(digits: httpx.Client, key: str) -> None:
    response = digits.post("/invocations", json={key: DIGITS[:10].tolist()})
    assert response.status_code == 200
    assert response.json() == {"predictions": PREDICTIONS[:10].tolist()}


def test_frames_in_every_form(iris: httpx.Client) -> None:
    frame, target = load_iris(return_X_y=True, as_frame=True)
    expected = {"predictions": target[:5].tolist()}
    split = json.loads(frame[:5].to_json(orient="split"))
    records = json.loads(frame[:5].to_json(orient="records"))
    for body in (
        {"dataframe_split": split},
        {"dataframe_split": {key: split[key] for key in ("columns", "data")}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": frame[:5].to_dict(orient="list")},
        {"dataframe_records": records, "params": {}},
    ):
        assert iris.post("/invocations", json=body).json() == expected
    for content_type in ("text/csv", "text/csv; charset=utf-8", "TEXT/CSV"):
        csv = frame[:5].to_csv(index=False)
        assert iris.post("/invocations", content=csv, headers={"Content-Type": content_type}).json() == expected


def test_a_model_without_signature_takes_arrays_and_frames(bare: httpx.Client) -> None:
    expected = {"predictions": PREDICTIONS[:3].tolist()}
    assert bare.post("/invocations", json={"inputs": DIGITS[:3].tolist()}).json() == expected
    split = {"data": DIGITS[:3].tolist()}
    assert bare.post("/invocations", json={"dataframe_split": split}).json() == expected


def refused(
    client: httpx.Client, status: int, content: bytes | str, content_type: str | None = "application/json"
) -> str:
    headers = {"Content-Type": content_type} if content_type else {}
    response = client.post("/invocations", content=content, headers=headers)
    assert response.status_code == status, response.text
    error = response.json()
    assert set(error) == {"error_code", "message"}
    return str(error["message"])


@pytest.mark.parametrize(
    "content_type", [None, "", "text/html", "application/xml", "application/json; charset=latin-1"]
)
def test_other_content_types_are_415(digits: httpx.Client, content_type: str | None) -> None:
    assert "application/json or text/csv" in refused(digits, 415, "{}", content_type)


ROW = json.dumps(DIGITS[0].tolist())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"inputs"',
        b"\xff\xfe",
        b"{}",
        b'{"data": []}',
        f'{{"inputs": [{ROW}], "instances": [{ROW}]}}'.encode(),
        b'{"inputs": null}',
        b'{"inputs": 5}',
        b'{"inputs": []}',
        b'{"inputs": {}}',
        b'{"inputs": [[]]}',
        b'{"inputs": [[1, 2]]}',
        b'{"inputs": [[1], [1, 2]]}',
        b'{"inputs": [["a"]]}',
        b'{"inputs": [{"a": 1}, 5]}',
        b'{"inputs": [[NaN]]}',
        f'{{"inputs": [{ROW}], "params": [1]}}'.encode(),
        f'{{"inputs": [{ROW.replace("0.0", "null", 1)}]}}'.encode(),
        f'{{"inputs": [{ROW.replace("0.0", "1e999", 1)}]}}'.encode(),
        f'{{"inputs": [{ROW.replace("0.0", "9" * 400, 1)}]}}'.encode(),
        b'{"inputs": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"inputs": ' + b"[" * 500_000,
        b'{"dataframe_split": 1}',
        b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": [{}], "data": [[1]]}}',
        b'{"dataframe_split": {"columns": ["a"], "data": {"a": 1}}}',
        b'{"dataframe_split": {"columns": ["a"], "index": [1, 2], "data": [[1]]}}',
        b'{"dataframe_records": {"a": 1}}',
        b'{"dataframe_records": [1]}',
        b'{"dataframe_records": [{"a": {"b": [1]}}]}',
        b'{"inputs": {"a": [1], "b": [1, 2]}}',
    ],
    ids=range(35),
)
def test_bad_json_is_400_everywhere(digits: httpx.Client, iris: httpx.Client, bare: httpx.Client, body: bytes) -> None:
    for client in (digits, iris, bare):
        assert refused(client, 400, body)


@pytest.mark.parametrize("body", [b"", b"\n", b"a,b\n1,2\n", b"\xff\xfe\x00", b'"a\n', b"a\0b\n1\n", b"a\n1,2,3\n4\n"])
def test_bad_csv_is_400(iris: httpx.Client, body: bytes) -> None:
    assert refused(iris, 400, body, "text/csv")


def test_errors_name_what_is_wrong(iris: httpx.Client, digits: httpx.Client) -> None:
    assert "'sepal length (cm)'" in refused(iris, 400, '{"dataframe_records": [{"petal width (cm)": 1.5}]}')
    assert "shape (-1, 64)" in refused(digits, 400, '{"inputs": [[1, 2]]}')
    assert "'dataframe_split', 'dataframe_records', 'instances', 'inputs'" in refused(digits, 400, "{}")


def test_limits_are_413_and_cost_little(digits: httpx.Client, bare: httpx.Client) -> None:
    assert "2000 are allowed" in refused(digits, 413, json.dumps({"inputs": [[0.0]] * 2001}))
    assert "larger than" in refused(digits, 413, b" " * (16 * 1024 * 1024 + 1))
    started = time.monotonic()
    sparse = json.dumps({"dataframe_records": [{f"k{number}": 1} for number in range(90_000)]})
    assert "values are allowed" in refused(bare, 413, sparse)
    wide = ",".join(f"c{number}" for number in range(100_000)) + "\n" + "1,\n" * 50_000
    assert "values are allowed" in refused(bare, 413, wide, "text/csv")
    assert time.monotonic() - started < 60


def test_a_body_that_lies_about_its_length_is_cut_off(digits: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(20 * 1024):
            yield b" " * 1024

    response = digits.post("/invocations", content=endless(), headers=JSON)
    assert response.status_code == 413


def test_other_paths_and_methods_have_the_same_error_form(digits: httpx.Client) -> None:
    assert (digits.get("/nothing").status_code, digits.get("/invocations").status_code) == (404, 405)
    assert digits.get("/nothing").json()["error_code"] == "ENDPOINT_NOT_FOUND"
    assert digits.get("/openapi.json").status_code == 404


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=12,
)
FORMATS = ["dataframe_split", "dataframe_records", "instances", "inputs"]
quiet = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)


@quiet
@given(
    key=st.sampled_from(FORMATS), data=json_values, extra=st.dictionaries(st.text(max_size=6), json_values, max_size=2)
)
def test_no_json_is_a_server_error(
    digits: httpx.Client, iris: httpx.Client, bare: httpx.Client, key: str, data: Any, extra: dict[str, Any]
) -> None:
    body = json.dumps({**extra, key: data})
    for client in (digits, iris, bare):
        assert client.post("/invocations", content=body, headers=JSON).status_code in (200, 400, 413)


@quiet
@given(body=st.binary(max_size=200), content_type=st.sampled_from(["application/json", "text/csv"]))
def test_no_bytes_are_a_server_error(iris: httpx.Client, bare: httpx.Client, body: bytes, content_type: str) -> None:
    for client in (iris, bare):
        response = client.post("/invocations", content=body, headers={"Content-Type": content_type})
        assert response.status_code in (200, 400, 413)


def test_ready_file_and_graceful_stop(models: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with serving(models / "digits", "--ready-file", str(ready), "--name", "mine") as (process, url):
        document = json.loads(ready.read_text())
        assert document["pid"] == process.pid
        assert url.endswith(f":{document['port']}")
        assert 0 < time.time() - document["started"] < 600
        assert httpx.get(f"{url}/model", timeout=60).json()["name"] == "mine"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert not ready.exists()
    assert list(tmp_path.iterdir()) == []


def test_requests_under_way_are_answered_before_the_stop(models: Path) -> None:
    with serving(models / "digits") as (process, url):
        host, port = url.removeprefix("http://").split(":")
        body = json.dumps({"inputs": DIGITS[:1].tolist()}).encode()
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
            connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + body[:10])
            assert httpx.get(f"{url}/ping", timeout=60).status_code == 200
            process.send_signal(signal.SIGTERM)
            wait_until_refused(host, int(port))
            connection.sendall(body[10:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b"200 OK" in answer
        assert answer.endswith(b'{"predictions":[0]}')
        assert process.wait(60) == 0


def wait_until_refused(host: str, port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except ConnectionError:
            return
        time.sleep(0.02)
    raise AssertionError("the server still accepts connections")


def fails_to_start(*options: str, **environment: str) -> str:
    command = [sys.executable, "-m", "runtide_deploy.serving", *options]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment})
    assert result.returncode == 1
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_model_of_another_digest_is_not_served(models: Path) -> None:
    with serving(models / "digits") as (_, url):
        digest = httpx.get(f"{url}/model", timeout=60).json()["digest"]
    with serving(models / "digits", "--expect-digest", digest.upper()):
        pass
    message = fails_to_start("--model-dir", str(models / "digits"), "--expect-digest", "0" * 64)
    assert digest in message
    assert "Fetch the model again" in message


def test_what_cannot_be_served_is_one_clear_line(models: Path, tmp_path: Path) -> None:
    assert "is not a directory" in fails_to_start("--model-dir", str(tmp_path / "absent"))
    assert "is not a model" in fails_to_start("--model-dir", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        message = fails_to_start("--model-dir", str(models / "digits"), "--port", str(port))
        assert f"cannot listen on 127.0.0.1:{port}" in message
    assert "cannot listen" in fails_to_start("--model-dir", str(models / "digits"), "--port", "70000")


def test_nan_in_a_prediction_is_null() -> None:
    from runtide_deploy.serving.predictions import predictions_json

    for predictions, expected in [
        (np.array([1.5, np.nan, np.inf]), [1.5, None, None]),
        (pd.DataFrame({"a": [np.nan], "b": ["x"]}), [{"a": None, "b": "x"}]),
        (pd.Series([pd.NaT, pd.Timestamp("2026-01-02")]), [None, "2026-01-02T00:00:00"]),
        (np.array([["a"]], dtype=object), [["a"]]),
        ([np.float32(0.5), np.int8(3), b"x"], [0.5, 3, "x"]),
        ({"a": np.array([1])}, {"a": [1]}),
    ]:
        assert json.loads(predictions_json(predictions)) == {"predictions": expected}
    with pytest.raises(TypeError, match="object"):
        predictions_json(object())
