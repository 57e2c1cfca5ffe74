"""What the surroundings of the process say: user and code."""

import getpass
import sys
from dataclasses import dataclass
from pathlib import Path


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
