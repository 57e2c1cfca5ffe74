"""The stack of compose.yaml, up in a project of its own, with secrets, ports and artifacts of its own."""

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.docker.engine import ROOT, docker, image

RUNTIDE = Path(sys.executable).parent / "runtide"
MODEL_PORTS = 3
UP_SECONDS = 400
BUILD_SECONDS = 900
_BUILD_SECRETS = {"pip": Path("/etc/pip.conf"), "certificates": Path("/etc/ssl/certs/ca-certificates.crt")}


@dataclass(frozen=True, slots=True)
class ComposeStack:
    """A project of Docker Compose that is up, and how to reach it from this machine."""

    project: str
    folder: Path
    variables: dict[str, str]

    @property
    def token(self) -> str:
        """The gateway's token."""
        return (self.folder / "secrets" / "gateway_token").read_text()

    @property
    def gateway(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.variables['PUBLISHED_GATEWAY_PORT']}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which clients on this machine find the stack, as docker.md says."""
        clean = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
        return clean | {
            "RUNTIDE_BROKER": f"127.0.0.1:{self.variables['PUBLISHED_KAFKA_PORT']}",
            "RUNTIDE_GATEWAY": self.gateway,
            "RUNTIDE_GATEWAY_TOKEN_FILE": str(self.folder / "secrets" / "gateway_token"),
            "RUNTIDE_ARTIFACTS": self.variables["RUNTIDE_ARTIFACTS"],
            "RUNTIDE_DATA": str(self.folder / "client"),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    def compose(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Run docker compose."""
        file = str(ROOT / "deploy" / "compose.yaml")
        nothing = str(self.folder / "empty.env")  # not the .env that a user may have beside compose.yaml
        prefix = ("compose", "--project-name", self.project, "--env-file", nothing, "--file", file)
        return docker(*prefix, *arguments, seconds=seconds, environment=self.variables)

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service).strip()

    def python(self, program: Path, *arguments: str) -> "subprocess.Popen[str]":
        """Start a Python program on this machine."""
        return subprocess.Popen(
            [sys.executable, str(program), *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def get(self, path: str) -> Any:
        """GET from the gateway's own API."""
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"{self.gateway}/api/runtide/v1{path}", headers=headers, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def runtide(self, *arguments: str) -> str:
        """Run the command line on this machine."""
        done = subprocess.run(
            [str(RUNTIDE), *arguments], env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"runtide {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@contextlib.contextmanager
def compose_stack(folder: Path) -> Iterator[ComposeStack]:
    """Build the image, bring the stack up as docker.md says, take it down with its volumes at the end.

    Raises:
        NoDocker: an image cannot be had.
    """
    project = f"runtide-test-{os.getpid()}"
    stack = ComposeStack(project, folder, _variables(project, folder))
    (folder / "empty.env").touch()
    (folder / "artifacts").mkdir()
    subprocess.run(["sh", str(ROOT / "deploy" / "make-secrets.sh"), str(folder / "secrets")], check=True)
    try:
        _build(stack.variables["RUNTIDE_IMAGE"])
        stack.compose("up", "--detach", "--wait")
        yield stack
    except AssertionError:
        print(stack.compose("ps", "--all"), stack.compose("logs", "--tail", "40"))
        raise
    finally:
        stack.compose("down", "--volumes", "--timeout", "20")
        left = [docker(kind, "ls", "--quiet", "--filter", f"name={project}") for kind in ("volume", "network")]
        docker("image", "rm", stack.variables["RUNTIDE_IMAGE"], check=False)
    assert left == ["", ""]


def _variables(project: str, folder: Path) -> dict[str, str]:
    kafka, gateway, models = (_free_ports(count) for count in (1, 1, MODEL_PORTS))
    return {
        "RUNTIDE_IMAGE": f"{project}:local",
        "KAFKA_IMAGE": image("kafka"),
        "POSTGRES_IMAGE": image("postgres"),
        "SECRETS": str(folder / "secrets"),
        "RUNTIDE_ARTIFACTS": str(folder / "artifacts"),
        "COMPOSE_PROFILES": "deployer",
        "PUBLISHED_KAFKA_PORT": str(kafka),
        "PUBLISHED_GATEWAY_PORT": str(gateway),
        "PUBLISHED_MODEL_PORTS": f"{models}-{models + MODEL_PORTS - 1}",
    }


def _build(name: str) -> None:
    """Build as docker.md says, with this machine's way to the package index; on its network, as pip here is."""
    secrets = [f"--secret=id={key},src={path}" for key, path in _BUILD_SECRETS.items() if path.exists()]
    options = ("--network=host", f"--build-arg=PYTHON_IMAGE={image('python')}", f"--tag={name}", *secrets)
    file = str(ROOT / "deploy" / "Dockerfile")
    docker("buildx", "build", "--load", "--file", file, *options, str(ROOT), seconds=BUILD_SECONDS)


def _free_ports(count: int) -> int:
    """Return the first of so many ports in a row that were free a moment ago."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            for port in range(first + 1, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return int(first)
