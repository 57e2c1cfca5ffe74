"""The Java programs of ``conformance/java``, compiled against the artefacts of Apache Kafka."""

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from runtide_deploy.apache_kafka import CannotResolve, java_command, resolve_class_path
from runtide_deploy.tied_child import tied

SOURCES = Path(__file__).with_name("conformance") / "java"
QUIET = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")

JavaPrograms = Callable[[str], list[str]]
"""Gives the command that runs the program of a class."""


def compile_programs(classes: Path) -> JavaPrograms:
    """Compile them all into a folder.

    Raises:
        CannotResolve: there is no JDK, or no artefacts of Kafka.
    """
    java, class_path = java_command(), resolve_class_path()
    compiler = shutil.which("javac", path=str(Path(java).parent)) or shutil.which("javac")
    if compiler is None:
        raise CannotResolve("there is no javac (a JDK has it, a JRE does not)")
    sources = [str(source) for source in SOURCES.glob("*.java")]
    compiled = subprocess.run(
        [compiler, "-d", str(classes), "-cp", class_path, *sources], capture_output=True, text=True, check=False
    )
    assert compiled.returncode == 0, compiled.stderr
    return lambda name: [java, *QUIET, "-cp", f"{classes}:{class_path}", name]


def run_java(
    command: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[str, str, int]:
    """Run a program; return its output, its errors and its status. One that hangs is killed and says where it was."""
    process = subprocess.Popen(
        tied(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # makes a JVM write the stacks of its threads to its output
        time.sleep(2)
        process.kill()
        output, errors = process.communicate()
        own = output[output.find('"main"') :][:2000]
        raise AssertionError(f"not done within {seconds:g} s; it said:\n{errors[-3000:]}\n{own}") from None
    return output, errors, process.returncode
