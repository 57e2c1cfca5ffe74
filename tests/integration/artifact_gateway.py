"""A gateway that keeps artifacts, alone: without broker and stores it answers for these."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import httpx

from tests.integration.gateway_stack import Gateway

ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
UPLOADS = "/api/runtide/v1/artifact-uploads"


@contextmanager
def artifact_gateway(
    folder: Path, root: str, environment: Mapping[str, str] = MappingProxyType({}), *, port: int = 0
) -> Iterator[Gateway]:
    """Run one with its artifacts at ``root``."""
    gateway = Gateway(folder, "--port", str(port), "--artifacts", root, **environment)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()


def client_of(gateway: Gateway) -> httpx.Client:
    """Return a client of a gateway."""
    return httpx.Client(base_url=gateway.url, timeout=60, trust_env=False)


def peak_memory(pid: int) -> int:
    """Return the most memory that a process had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def seen_files(root: Path) -> set[str]:
    """Return every file below a root, whether clients see it or not."""
    return {str(Path(folder, name).relative_to(root)) for folder, _, names in os.walk(root) for name in names}
