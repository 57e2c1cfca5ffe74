"""Starting the gateway: with nothing there, on a port in use, with wrong options."""

import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.gateway_stack import API, Gateway


def test_a_port_in_use_ends_the_start_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = [sys.executable, "-m", "runtide_queries.server", "--port", port, "--dsn", "postgresql://x/y"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 2
    assert f"port {port}" in ended.stderr
    assert "--port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "RUNTIDE_GATEWAY_TOKEN_SHA256"),
        (["--port", "99999"], "port"),
        (["--history-token-file", "/nonexistent/token"], "--history-token-file"),
    ],
)
def test_wrong_options_end_the_start_with_what_to_do(arguments: list[str], words: str) -> None:
    command = [sys.executable, "-m", "runtide_queries.server", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_starts_and_ends_with_every_store_away(tmp_path: Path) -> None:
    gateway = Gateway(
        tmp_path, "--port", "0", "--bootstrap", "127.0.0.1:1", RUNTIDE_POSTGRES_DSN="postgresql://127.0.0.1:1/none"
    )
    try:
        gateway.start()
        assert httpx.get(f"{gateway.url}{API}/health", timeout=60).json() == {"status": "ok"}
        ready = httpx.get(f"{gateway.url}{API}/ready", timeout=60)
        assert ready.status_code == 503
        assert {reason.partition(":")[0] for reason in ready.json()["reasons"]} == {"log", "postgres", "duckdb"}
        for path in ("/runs", "/models", "/endpoints", "/experiments", "/quarantine"):
            reply = httpx.get(f"{gateway.url}{API}{path}", timeout=60)
            assert (reply.status_code, reply.json()["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        page = httpx.get(gateway.url, headers={"accept": "text/html"}, timeout=60)
        assert page.status_code == 503
        assert "Not available right now" in page.text
    finally:
        status = gateway.stop()
    assert status == 0
    assert "Traceback" not in gateway.log()


def test_the_dsn_is_in_no_log_and_no_answer(tmp_path: Path) -> None:
    dsn = "postgresql://user:hunter2secret@127.0.0.1:1/none"
    gateway = Gateway(
        tmp_path, "--port", "0", "--bootstrap", "127.0.0.1:1", "--log-level", "DEBUG", RUNTIDE_POSTGRES_DSN=dsn
    )
    try:
        gateway.start()
        answers = [httpx.get(f"{gateway.url}{API}{path}", timeout=60).text for path in ("/ready", "/runs", "/metrics")]
    finally:
        gateway.stop()
    assert "hunter2secret" not in gateway.log() + "".join(answers)
