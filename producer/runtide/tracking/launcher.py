"""What a launcher of distributed jobs says: the place of this process among the ranks, the job, the attempt."""

import hashlib
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from runtide_schemas.errors import InvalidRequest
from runtide_schemas.identity import RunId


@dataclass(frozen=True, slots=True)
class _Variables:
    """The names that one launcher uses."""

    launcher: str
    rank: str
    local_rank: str
    world_size: str
    node_rank: str = ""


_LAUNCHERS = (
    _Variables("torchrun", "RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK"),
    _Variables("openmpi", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_SIZE"),
    _Variables("mvapich", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_SIZE"),
    _Variables("mpich", "PMI_RANK", "MPI_LOCALRANKID", "PMI_SIZE"),
    _Variables("slurm", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NODEID"),
)
"""In this order: mpirun and torchrun start in a batch step of SLURM, whose variables are then one process's for all."""

_NONE = _Variables("", "", "", "")
_NUMBER = re.compile(r"[0-9]{1,9}\Z")
_JOB_PART = re.compile(r"[\w.\-]{1,100}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """How this process was launched; every number is None where the launcher says none.

    Attributes:
        name: ``torchrun`` (or whatever else sets RANK), ``openmpi``, ``mvapich``, ``mpich`` (also Intel MPI),
            ``slurm``; empty outside of distributed jobs.
        rank: among all processes of the job, from 0.
        local_rank: among those on this host.
        world_size: number of processes.
        node_rank: of this host among the job's hosts.
        job: SLURM's cluster, job and step, e.g. ``slurm:alps:123.0``, or torchrun's run id; empty when unknown.
        restarts: how often torchrun's agent has restarted the workers (TORCHELASTIC_RESTART_COUNT).
        requeues: how often SLURM has started the job again (SLURM_RESTART_COUNT).
    """

    name: str = ""
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    node_rank: int | None = None
    job: str = ""
    restarts: int = 0
    requeues: int = 0

    @classmethod
    def detect(cls, environment: Mapping[str, str] = os.environ) -> "Launcher":
        """Return what the environment says. All ranks are of one launcher, the innermost: names are never mixed."""

        def number(name: str) -> int | None:
            text = environment.get(name, "") if name else ""
            return int(text) if _NUMBER.match(text) else None

        names = next((one for one in _LAUNCHERS if number(one.rank) is not None), _NONE)
        return cls(
            name=names.launcher,
            rank=number(names.rank),
            local_rank=number(names.local_rank),
            world_size=number(names.world_size),
            node_rank=number(names.node_rank),
            job=_slurm_step(environment) or _torch_run(environment),
            restarts=number("TORCHELASTIC_RESTART_COUNT") or 0,
            requeues=number("SLURM_RESTART_COUNT") or 0,
        )

    @property
    def leads(self) -> bool:
        """True for rank 0, and outside of distributed jobs: the process that starts and ends a shared run."""
        return self.rank in (None, 0)

    @property
    def restarted(self) -> bool:
        """True when the job, or its workers, were started before."""
        return bool(self.restarts or self.requeues)

    def describe(self) -> str:
        """Return what a writer's ``client`` says beside its version: ``torchrun; node=0; restarts=1; job=...``."""
        said = {
            "node": self.node_rank,
            "restarts": self.restarts or None,
            "requeues": self.requeues or None,
            "job": self.job or None,
        }
        facts = [f"{name}={value}" for name, value in said.items() if value is not None]
        return "; ".join([self.name] * bool(self.name) + facts)


def job_run_id(launcher: Launcher) -> RunId:
    """Return the run id that all ranks of this job derive alike, the restarted ones too.

    It is made of names that no two jobs share: a SLURM step (cluster, job, step), which is the same after a requeue, or
    torchrun's run id where that is a UUID, as with ``--standalone``. Names that people or process numbers choose are
    refused: ``--rdzv-id=1`` twice would pour two jobs into one run.

    Raises:
        InvalidRequest: the launcher gives no such name.
    """
    if launcher.job:
        return RunId(hashlib.sha256(f"runtide-job:{launcher.job}".encode()).hexdigest()[:32])
    raise InvalidRequest(
        "a shared run needs an id that all ranks know, and this launcher gives none that is safe to share: set "
        "RUNTIDE_RUN_ID, e.g. RUNTIDE_RUN_ID=$(uuidgen | tr -d -) before the launch (torchrun: --standalone, or "
        "--rdzv-id=$(uuidgen), will do too)"
    )


def _slurm_step(environment: Mapping[str, str]) -> str:
    """Cluster, job and step of SLURM; empty without a step, where one script may launch many trainings in turn."""
    parts = [environment.get(f"SLURM_{name}", "") for name in ("CLUSTER_NAME", "JOB_ID", "STEP_ID")]
    cluster, job, step = (part if _JOB_PART.match(part) else "" for part in parts)
    return f"slurm:{cluster}:{job}.{step}" if cluster and job.isdecimal() and step.isdecimal() else ""


def _torch_run(environment: Mapping[str, str]) -> str:
    try:
        return f"torchrun:{uuid.UUID(environment.get('TORCHELASTIC_RUN_ID', ''))}"
    except ValueError:
        return ""
