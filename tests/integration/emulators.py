"""Emulators of Google Cloud Storage and Azure Blob Storage: fetched below .tools/ when first wanted, run on a free port."""

import base64
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / ".tools"
START_S = 30.0
INSTALL_S = 600.0
_ACCOUNT = "runtide"


@contextmanager
def running_azure(folder: Path) -> Iterator[dict[str, str]]:
    """Run Azurite; yield the environment that leads adlfs to it, which this process has, too. Skips where it cannot be had."""
    program = TOOLS / "azurite" / "node_modules" / ".bin" / "azurite-blob"
    if not program.exists():
        _need("node", "npm")
        program.parents[2].mkdir(parents=True, exist_ok=True)
        _install(["npm", "install", "--no-fund", "--no-audit", "azurite"], program.parents[2])
    port, key = _free_port(), base64.b64encode(secrets.token_bytes(64)).decode()
    options = ["--blobPort", str(port), "--location", str(folder), "--silent", "--skipApiVersionCheck"]
    endpoint = f"http://127.0.0.1:{port}/{_ACCOUNT}"
    parts = f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={key};BlobEndpoint={endpoint};"
    with _running([str(program), *options], port, {"AZURITE_ACCOUNTS": f"{_ACCOUNT}:{key}"}):
        yield from _set({"AZURE_STORAGE_CONNECTION_STRING": parts})


@contextmanager
def running_gcs(folder: Path) -> Iterator[dict[str, str]]:
    """Run fake-gcs-server; yield the environment that leads gcsfs to it. Skips where it cannot be had."""
    program = TOOLS / "go" / "bin" / "fake-gcs-server"
    if not program.exists():
        _need("go")
        program.parent.mkdir(parents=True, exist_ok=True)
        module = "github.com/fsouza/fake-gcs-server@v1.56.1"
        _install(["go", "install", module], TOOLS, {"GOBIN": str(program.parent), "GOFLAGS": "-modcacherw"})
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    options = [
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-external-url",
        url,
        "-filesystem-root",
        str(folder),
    ]
    with _running([str(program), *options], port, {}):
        yield from _set({"STORAGE_EMULATOR_HOST": url})


def _need(*programs: str) -> None:
    if missing := [name for name in programs if shutil.which(name) is None]:
        pytest.skip(f"the emulator needs {', '.join(missing)}")


def _install(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{' '.join(command)} failed: {(done.stderr or done.stdout)[-300:]}")


@contextmanager
def _running(command: Sequence[str], port: int, environment: Mapping[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, f"{command[0]} ended with {process.returncode}"
                assert time.monotonic() < deadline, f"{command[0]} does not listen"
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _set(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
