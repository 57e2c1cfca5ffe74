"""What the surroundings of the process say: user, code, rank."""

import getpass
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_RANKS = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
_LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
_WORLD_SIZES = ("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Place of this process in a distributed job; None outside one.

    Read from torchrun's variables, else SLURM's, else Open MPI's, else MPICH's.
    """

    rank: int | None
    local_rank: int | None
    world_size: int | None

    @classmethod
    def detect(cls, environment: Mapping[str, str] = os.environ) -> "Ranks":
        """Return what the environment says."""
        return cls(*(_first_number(environment, names) for names in (_RANKS, _LOCAL_RANKS, _WORLD_SIZES)))

    @property
    def leads(self) -> bool:
        """True for rank 0, and outside of distributed jobs."""
        return self.rank in (None, 0)


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


def _first_number(environment: Mapping[str, str], names: tuple[str, ...]) -> int | None:
    return next((int(environment[name]) for name in names if environment.get(name, "").isdecimal()), None)
