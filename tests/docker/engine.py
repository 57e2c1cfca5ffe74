"""The Docker engine of this machine, and images to run on it: the official ones, or stand-ins where none can be pulled."""

import functools
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import yaml

ROOT = Path(__file__).parents[2]
STAND_INS = {
    "kafka": "stand-in/kafka:4.4.0",
    "postgres": "stand-in/postgres:17",
    "python": "stand-in/python:3.13-slim-trixie",
}
_PULL_SECONDS = 600


class NoDocker(Exception):
    """There is no Docker engine, or no image for it; the message says what to do."""


def docker(
    *arguments: str, seconds: float = 120, check: bool = True, environment: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Run the docker command, with more in its environment, and return what it writes."""
    done = subprocess.run(
        ["docker", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0 or not check, (
        f"docker {' '.join(arguments)}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
    )
    return done.stdout


@functools.cache
def require_engine(*plugins: str) -> None:
    """Return when there is an engine, and each plugin of the command line (``compose``, ``buildx``).

    Raises:
        NoDocker: one is missing.
    """
    for command in (["info", "--format", "{{.ServerVersion}}"], *([plugin, "version"] for plugin in plugins)):
        try:
            done = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=30, check=False)
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise NoDocker(f"no Docker: {error}") from error
        if done.returncode or not done.stdout.strip():
            raise NoDocker(f"no Docker: `docker {' '.join(command)}` says {done.stderr.strip()[:200]!r}")


@functools.cache
def image(name: str) -> str:
    """Return an image that is here: the one of RUNTIDE_TEST_<NAME>_IMAGE, else compose.yaml's, else its stand-in.

    Raises:
        NoDocker: there is none and none can be pulled.
    """
    require_engine()
    if given := os.environ.get(f"RUNTIDE_TEST_{name.upper()}_IMAGE"):
        return given
    official = official_image(name)
    for candidate in (official, STAND_INS[name]):
        if is_here(candidate):
            return candidate
    try:
        done = subprocess.run(
            ["docker", "pull", official], capture_output=True, text=True, timeout=_PULL_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NoDocker(f"pulling {official} took more than {_PULL_SECONDS} s") from error
    if done.returncode:
        raise NoDocker(
            f"cannot pull {official} ({done.stderr.strip()[:200]}); name another image in RUNTIDE_TEST_{name.upper()}_IMAGE, "
            "or run tests/docker/make-stand-ins.sh"
        )
    return official


def official_image(name: str) -> str:
    """Return the image that compose.yaml names by default."""
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    named: str = compose["setup"]["build"]["args"]["PYTHON_IMAGE"] if name == "python" else compose[name]["image"]
    (default,) = re.findall(r":-(.*)\}$", named)
    return str(default)


def is_here(name: str) -> bool:
    """Return whether the engine has an image."""
    command = ["docker", "image", "inspect", name]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
