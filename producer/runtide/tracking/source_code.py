"""The code that a run comes from, as far as git and the command line tell: tags, and artifacts below ``code/``."""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runtide.tracking.environment import Source
from runtide.tracking.secrets_masking import mask_arguments, strip_credentials

CODE_DIRECTORY = "code"
MAX_DIFF_BYTES = 1024 * 1024
MAX_UNTRACKED = 1_000
GIT_SECONDS = 20.0
_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
"""So that reading a repository starts no program that its configuration names."""
_MAX_ENTRY = 500


@dataclass(frozen=True, slots=True)
class SourceCode:
    """What is known of the code.

    Attributes:
        tags: MLflow's names where it has one: commit, branch, remote (without credentials); and whether it is dirty.
        command: entry point, directory, and the command line with secrets masked.
        diff: what differs from the commit, in git's form, cut at ``MAX_DIFF_BYTES``; empty when nothing does.
        untracked: names of files that git does not know, the first ``MAX_UNTRACKED``; never their content.
    """

    tags: Mapping[str, str]
    command: Mapping[str, object]
    diff: bytes
    untracked: tuple[str, ...]

    @classmethod
    def detect(cls) -> "SourceCode":
        """Ask git about the entry point's folder (the current one in a notebook). Without git only the command is known."""
        source = Source.detect()
        script = Path(source.name)
        folder = script.absolute().parent if script.is_file() else Path.cwd()
        command = {
            "entry_point": source.name,
            "arguments": mask_arguments(sys.argv),
            "directory": str(Path.cwd()),
            "python": sys.executable,
        }
        root = _git(folder, "rev-parse", "--show-toplevel")
        if not root:
            return cls({}, command, b"", ())
        names = _git(Path(root), "ls-files", "--others", "--exclude-standard").splitlines()
        diff, cut = _diff(Path(root))
        tags = {
            "mlflow.source.git.commit": _git(folder, "rev-parse", "HEAD"),
            "mlflow.source.git.branch": _git(folder, "symbolic-ref", "--short", "-q", "HEAD"),
            "mlflow.source.git.repoURL": strip_credentials(_git(folder, "remote", "get-url", "origin")),
            "runtide.git.dirty": "true" if diff or names else "false",
            "runtide.git.diff": "cut" if cut else "",
        }
        known = {name: value[:_MAX_ENTRY] for name, value in tags.items() if value}
        return cls(known, command, diff, tuple(names[:MAX_UNTRACKED]))


def _git(folder: Path, *arguments: str) -> str:
    """Return what git says; empty when there is no git, no repository or no answer in time."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *_SAFE, *arguments],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""


def _diff(root: Path) -> tuple[bytes, bool]:
    """Return the diff to the commit and whether it was cut: no more than that is ever read, however large it is."""
    command = ["git", "-C", str(root), *_SAFE, "diff", "HEAD", "--no-ext-diff", "--no-textconv", "--no-color"]
    try:
        with subprocess.Popen(
            command, env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as git:
            impatient = threading.Timer(GIT_SECONDS, git.kill)
            impatient.start()
            found = git.stdout.read(MAX_DIFF_BYTES + 1) if git.stdout else b""
            impatient.cancel()
            git.kill()
    except OSError:
        return b"", False
    if len(found) <= MAX_DIFF_BYTES:
        return found, False
    whole = found[:MAX_DIFF_BYTES].rpartition(b"\n")[0]
    return whole + f"\n# cut by runtide at {MAX_DIFF_BYTES} bytes\n".encode(), True


def _environment() -> dict[str, str]:
    return {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
