"""A real schema registry for tests: Apicurio Registry, resolved from Maven Central and run on loopback, in memory.

It speaks Confluent's REST contract below ``/apis/ccompat/v7``. Confluent's own registry is not in Maven Central, Karapace not
on PyPI.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from runtide_deploy.apache_kafka import CannotResolve, java_command

VERSION = "3.0.9"
"""The last that runs on Java 17; later ones need 21."""
_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:2.8:copy"
"""Newer ones read the artefact's POM as well, whose parent is not in Maven Central."""
_ARTEFACT = "io.apicurio:apicurio-registry-app:{version}:tar.gz:all"
_START_S = 60.0
_MAVEN_S = 600.0


class ApicurioRegistry:
    """One registry process; what it holds is gone when it stops."""

    def __init__(self, folder: Path, jar: Path) -> None:
        self._folder, self._jar = folder, jar
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def start(self) -> None:
        """Start it, and return once it answers."""
        environment = os.environ | {"QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(self._port)}
        options = ("-Xmx320m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        with (self._folder / "apicurio.log").open("ab") as log:
            command = [java_command(), *options, "-jar", str(self._jar)]
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self._folder / "apicurio.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"Apicurio Registry does not answer at {self.url}; it said:\n{said}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/subjects", timeout=2) as response:
                return bool(response.status == 200)
        except OSError:
            return False


@contextlib.contextmanager
def running_apicurio(folder: Path) -> Iterator[ApicurioRegistry]:
    """Run one for the length of a block.

    Raises:
        CannotResolve: Java, Maven or the artefact cannot be had here.
    """
    java_command()
    registry = ApicurioRegistry(folder, _resolved())
    try:
        registry.start()
        yield registry
    finally:
        registry.stop()


def _resolved() -> Path:
    """Return the JAR to run; the first call downloads 110 MB with Maven."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runtide"
    folder = cache / f"apicurio-registry-{VERSION}"
    if not folder.is_dir():
        _download(folder)
    return folder / f"apicurio-registry-app-{VERSION}-runner.jar"


def _download(folder: Path) -> None:
    """Fill the folder, or leave nothing of it."""
    if (maven := shutil.which("mvn")) is None:
        raise CannotResolve("Apicurio Registry is fetched with Maven, and there is no `mvn` on PATH")
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    try:
        artefact = _ARTEFACT.format(version=VERSION)
        options = ("--batch-mode", "--quiet", "--strict-checksums", f"-Dartifact={artefact}")
        command = [maven, *options, f"-DoutputDirectory={unfinished}", _PLUGIN]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_MAVEN_S, check=False
        )
        if done.returncode:
            said = (done.stdout + done.stderr).strip() or "nothing"
            raise CannotResolve(f"Maven cannot resolve {artefact}; it said: {said.splitlines()[0][:500]}")
        archive = next(unfinished.glob("*.tar.gz"))
        with tarfile.open(archive) as packed:
            packed.extractall(unfinished, filter="data")
        archive.unlink()
        if not folder.is_dir():
            unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
