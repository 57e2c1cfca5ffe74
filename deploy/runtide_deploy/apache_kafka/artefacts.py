"""Java, Maven, and the JAR files that Maven resolves once into the user's cache directory."""

import hashlib
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtide_schemas.errors import FatalError

POM: Final = Path(__file__).with_name("pom.xml")
OLDEST_JAVA: Final = 17
_JAVA_SECONDS: Final = 30.0
_MAVEN_SECONDS: Final = 900.0


class CannotResolve(FatalError):
    """Java, Maven or Apache Kafka's artefacts cannot be had here; the message says what to do."""


def java_command() -> str:
    """Return the path of ``java``: of JAVA_HOME, else of PATH.

    Raises:
        CannotResolve: there is none, or it is too old for Apache Kafka 4 (KIP-1013: brokers need Java 17).
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH"
        raise CannotResolve(
            f"Apache Kafka needs Java {OLDEST_JAVA} or newer, and there is no `java` {where}. Install a JDK or JRE "
            "(Debian, Ubuntu: `apt install openjdk-17-jre-headless`; macOS: `brew install openjdk`), "
            "or leave out --kafka=java to use the embedded broker."
        )
    version = _run([java, "-version"], _JAVA_SECONDS)
    major = re.search(r'version "(\d+)', version)
    if major is None or int(major[1]) < OLDEST_JAVA:
        raise CannotResolve(
            f"Apache Kafka needs Java {OLDEST_JAVA} or newer; {java} says: {version.splitlines()[0]!r}. "
            "Install a newer one, or point JAVA_HOME at it."
        )
    return java


def resolve_class_path() -> str:
    """Return Java's class path of an Apache Kafka broker; the first call of a version downloads it with Maven.

    Raises:
        CannotResolve: Maven is missing or could not resolve the artefacts.
    """
    content = POM.read_bytes()
    folder = _cache_directory() / f"apache-kafka-{hashlib.sha256(content).hexdigest()[:12]}"
    if not folder.is_dir():
        _download(folder)
    return f"{folder}/*"


def _cache_directory() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "runtide"


def _download(folder: Path) -> None:
    """Fill the folder, or leave nothing of it: it appears with one rename, whoever else does the same."""
    maven = shutil.which("mvn")
    if maven is None:
        raise CannotResolve(
            "Apache Kafka is fetched with Maven the first time, and there is no `mvn` on PATH. Install it (Debian, "
            "Ubuntu: `apt install maven`; macOS: `brew install maven`), or give the address of a running Kafka "
            "with --kafka HOST:PORT."
        )
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    try:
        goal = "dependency:copy-dependencies"
        options = ("-DincludeScope=runtime", f"-DoutputDirectory={unfinished}")
        _run(
            [maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(POM), goal, *options], _MAVEN_SECONDS
        )
        if not folder.is_dir():
            unfinished.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise CannotResolve(
                f"Cannot write Apache Kafka's files to {folder}: {error}. Set XDG_CACHE_HOME."
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _run(command: Sequence[str], seconds: float) -> str:
    """Return what a command writes, its errors too."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CannotResolve(f"`{' '.join(command)}` took longer than {seconds:g} s; try again by hand.") from error
    output = f"{done.stdout}{done.stderr}".strip()
    if done.returncode:
        raise CannotResolve(
            f"`{' '.join(command)}` ended with status {done.returncode}; check the network and Maven's settings.xml. "
            f"It said:\n{output[-2000:]}"
        )
    return output
