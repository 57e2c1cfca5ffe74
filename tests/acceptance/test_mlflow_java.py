"""MLflow's own client for Java, as Maven has it, works against Runtide; and its sessions are what a genuine server answers, too."""

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtide_deploy.apache_kafka import CannotResolve, java_command
from tests.acceptance.mlflow_servers import environment, genuine_server
from tests.acceptance.stack import RunningStack
from tests.java_programs import QUIET, run_java

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).with_name("java")
SESSIONS = ("experiments", "runs", "batches", "searches", "context", "refusals", "artifacts", "registry")
"""The scenarios of ``java/MlflowSession.java``."""
MAVEN_SECONDS = 600.0

Session = Callable[[str, str], None]
"""Server's address, scenario; fails with what the client said."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def client_of_java() -> Path:
    """Return a folder with the client's JAR files, which Maven fetches below .tools/ when they are first wanted."""
    pom = SOURCES / "pom.xml"
    folder = ROOT / ".tools" / f"mlflow-java-{hashlib.sha256(pom.read_bytes()).hexdigest()[:12]}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        pytest.skip("there is no `mvn` on PATH: Maven fetches MLflow's client for Java (Debian: apt install maven)")
    unfinished = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    unfinished.mkdir(parents=True)
    goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={unfinished}")
    command = [maven, "--batch-mode", "--quiet", "--strict-checksums", "--file", str(pom), *goal]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MAVEN_SECONDS, check=False)
    if done.returncode:
        shutil.rmtree(unfinished)
        pytest.skip(f"Maven cannot fetch MLflow's client for Java: {done.stdout[-600:]}{done.stderr[-600:]}")
    unfinished.rename(folder)
    return folder


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The compiled program."""
    try:
        java = java_command()
    except CannotResolve as error:
        pytest.skip(str(error))
    compiler = shutil.which("javac", path=str(Path(java).parent)) or shutil.which("javac")
    if compiler is None:
        pytest.skip("there is no javac (a JDK has it, a JRE does not)")
    folder = tmp_path_factory.mktemp("java")
    class_path = f"{client_of_java()}/*"
    source = str(SOURCES / "MlflowSession.java")
    compiled = subprocess.run(
        [compiler, "-d", str(folder), "-cp", class_path, source], capture_output=True, text=True, check=False
    )
    assert compiled.returncode == 0, compiled.stderr
    # For artifacts it asks the command `mlflow`, here that of this environment.
    asked = environment(folder, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}", TMPDIR=str(folder))

    def run(address: str, scenario: str) -> None:
        command = [java, *QUIET, f"-Djava.io.tmpdir={folder}", "-cp", f"{folder}:{class_path}", "MlflowSession"]
        output, errors, status = run_java([*command, address, scenario], 300, asked)
        assert status == 0, f"{output[-2000:]}\n{errors[-6000:]}"

    return run


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A genuine server's address."""
    with genuine_server(tmp_path_factory.mktemp("genuine")) as address:
        yield address


@pytest.mark.parametrize("scenario", SESSIONS)
def test_a_session_of_the_java_client(session: Session, stack: RunningStack, scenario: str) -> None:
    session(stack.file.gateway, scenario)


@pytest.mark.parametrize("scenario", SESSIONS)
def test_a_genuine_server_does_so_too(session: Session, genuine: str, scenario: str) -> None:
    session(genuine, scenario)


def test_every_session_is_asked() -> None:
    """One that nobody asks would pass for ever."""
    program = (SOURCES / "MlflowSession.java").read_text()
    assert all(program.count(f'case "{scenario}"') == 1 for scenario in SESSIONS)
    assert program.count("case ") == len(SESSIONS)
