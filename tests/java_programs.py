"""The Java programs of ``conformance/java``, compiled against the artefacts of Apache Kafka."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from runtide_deploy.apache_kafka import CannotResolve, java_command, resolve_class_path

SOURCES = Path(__file__).with_name("conformance") / "java"
QUIET = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error")

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
