"""What the surroundings of the process say: user, code, machine, packages."""

import getpass
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """Code that a run comes from: entry point, MLflow's type of it, git commit (empty when unknown)."""

    name: str
    type: str
    version: str

    @classmethod
    def detect(cls) -> "Source":
        """Return the entry point of this process."""
        if "ipykernel" in sys.modules:
            return cls("notebook", "NOTEBOOK", git_commit(Path.cwd()))
        script = sys.argv[0] if sys.argv else ""
        if script in ("", "-", "-c"):
            return cls(script or "<python>", "LOCAL", git_commit(Path.cwd()))
        return cls(script, "LOCAL", git_commit(Path(script).absolute().parent))


def describe_environment() -> dict[str, Any]:
    """Return Python, machine and installed packages, as plain data."""
    from importlib.metadata import distributions

    packages = {found.metadata["Name"]: found.version for found in distributions() if found.metadata["Name"]}
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "host": platform.node(),
        "cpus": os.cpu_count(),
        "usable_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
        "packages": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
    }


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None


def user_name() -> str:
    """Return the name of the user; empty when the system knows none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""


def git_commit(directory: Path) -> str:
    """Return the commit that is checked out around a directory, read from ``.git`` without running git."""
    for folder in (directory, *directory.parents):
        if (folder / ".git").exists():
            try:
                return _head(folder / ".git")
            except (OSError, ValueError, IndexError):
                return ""
    return ""


def _head(git: Path) -> str:
    if git.is_file():  # a worktree or submodule: "gitdir: <path>"
        git = git.parent / git.read_text(encoding="utf-8").split(": ", 1)[1].strip()
    head = (git / "HEAD").read_text(encoding="utf-8").strip()
    if not head.startswith("ref: "):
        return head
    reference = head.removeprefix("ref: ")
    shared = git / (git / "commondir").read_text(encoding="utf-8").strip() if (git / "commondir").exists() else git
    if (loose := shared / reference).exists():
        return loose.read_text(encoding="utf-8").strip()
    packed = (shared / "packed-refs").read_text(encoding="utf-8").splitlines()
    return next((line.split()[0] for line in packed if line.endswith(f" {reference}")), "")
