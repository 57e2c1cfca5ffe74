"""What torchrun, SLURM and MPI tell a process, and the run id that a job's ranks derive alike."""

from pathlib import Path

import pytest

import runtide
from runtide.tracking import plan
from runtide.tracking.launcher import Launcher, job_run_id
from runtide.tracking.plan import JOB_TAG, Part, plan_run
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import RunEnded, RunStarted, RunUpdated, WriterOpened
from tests.unit.test_sdk_run import logged

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "GROUP_RANK": "1"}
SRUN = {"SLURM_PROCID": "5", "SLURM_LOCALID": "0", "SLURM_NTASKS": "6", "SLURM_NODEID": "2"}
STEP = {"SLURM_CLUSTER_NAME": "alps", "SLURM_JOB_ID": "123", "SLURM_STEP_ID": "0"}
BATCH_STEP = {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "1", "SLURM_NODEID": "0"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "7", "OMPI_COMM_WORLD_LOCAL_RANK": "3", "OMPI_COMM_WORLD_SIZE": "8"}
HYDRA = {"PMI_RANK": "4", "PMI_SIZE": "8", "MPI_LOCALRANKID": "0"}
STANDALONE = {"TORCHELASTIC_RUN_ID": "9b2e5f1c-90d7-4b3a-a7a2-6a3a2c7b9f10"}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The machine that runs the tests may itself be a SLURM node."""
    for names in (TORCHRUN, SRUN, STEP, MPIRUN, HYDRA, STANDALONE):
        for name in (*names, "RUNTIDE_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plan, "_common_id_used_by", 0)
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=str(tmp_path / "artifacts"))


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({}, Launcher()),
        (TORCHRUN, Launcher(name="torchrun", rank=3, local_rank=1, world_size=8, node_rank=1)),
        (SRUN, Launcher(name="slurm", rank=5, local_rank=0, world_size=6, node_rank=2)),
        (MPIRUN, Launcher(name="openmpi", rank=7, local_rank=3, world_size=8)),
        (HYDRA, Launcher(name="mpich", rank=4, local_rank=0, world_size=8)),
        ({"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, Launcher(name="openmpi", rank=0, world_size=2)),
        ({"RANK": "", "SLURM_PROCID": "x"}, Launcher()),
        ({"RANK": "9" * 20}, Launcher()),
        ({"RANK": "-1"}, Launcher()),
    ],
)
def test_ranks_of_launchers_are_known(environment: dict[str, str], launcher: Launcher) -> None:
    assert Launcher.detect(environment) == launcher


@pytest.mark.parametrize("inner", [TORCHRUN, MPIRUN, HYDRA])
def test_in_a_batch_step_the_inner_launcher_counts(inner: dict[str, str]) -> None:
    found = Launcher.detect(BATCH_STEP | inner)
    assert found == Launcher.detect(inner), "SLURM's variables there are of the one process that ran mpirun"
    assert not found.leads


def test_attempts_are_counted_by_whoever_restarts() -> None:
    assert not Launcher.detect({"TORCHELASTIC_RESTART_COUNT": "0"}).restarted
    again = Launcher.detect(
        TORCHRUN | STEP | {"TORCHELASTIC_RESTART_COUNT": "2", "SLURM_RESTART_COUNT": "1", "SLURM_PROCID": "0"}
    )
    assert (again.restarts, again.requeues, again.restarted) == (2, 1, True)
    assert again.describe() == "torchrun; node=1; restarts=2; requeues=1; job=slurm:alps:123.0"


def test_ranks_derive_one_run_id_and_other_jobs_another() -> None:
    def derived(*environments: dict[str, str]) -> str:
        merged: dict[str, str] = {}
        for environment in environments:
            merged |= environment
        return job_run_id(Launcher.detect(merged))

    ranks = {derived(STEP, SRUN), derived(STEP, SRUN, {"SLURM_PROCID": "1"}), derived(STEP, TORCHRUN)}
    assert len(ranks) == 1
    assert len(next(iter(ranks))) == 32
    assert derived(STEP, SRUN, {"SLURM_RESTART_COUNT": "1"}) in ranks, "a requeued job goes on with its run"
    others = [
        derived(STEP, {"SLURM_STEP_ID": "1"}),
        derived(STEP, {"SLURM_JOB_ID": "124"}),
        derived(STEP, {"SLURM_CLUSTER_NAME": "eiger"}),
        derived(STANDALONE),
    ]
    assert len({*others, *ranks}) == 5


@pytest.mark.parametrize(
    "environment",
    [
        {},
        TORCHRUN | {"TORCHELASTIC_RUN_ID": "none"},
        TORCHRUN | {"TORCHELASTIC_RUN_ID": "1"},
        {"SLURM_CLUSTER_NAME": "alps", "SLURM_JOB_ID": "123"},
        {"SLURM_JOB_ID": "123", "SLURM_STEP_ID": "0"},
        {"SLURM_CLUSTER_NAME": "alps", "SLURM_JOB_ID": "123", "SLURM_STEP_ID": "batch"},
    ],
)
def test_what_two_jobs_may_have_in_common_names_no_run(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="RUNTIDE_RUN_ID"):
        job_run_id(Launcher.detect(environment))


def test_sharing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (STEP | SRUN).items():
        monkeypatch.setenv(name, value)
    from runtide.tracking.configuration import current

    alone = plan_run(current())
    assert alone.part is Part.CREATOR, "tasks of one step may be different trainings"
    assert alone.tags[JOB_TAG] == "slurm:alps:123.0"
    member = plan_run(current(), shared=True)
    assert (member.part, member.run_id) == (Part.MEMBER, job_run_id(Launcher.detect()))
    with pytest.raises(InvalidRequest, match="one run"):
        plan_run(current(), shared=True)
    monkeypatch.setattr(plan, "_common_id_used_by", 0)
    monkeypatch.setenv("RUNTIDE_RUN_ID", "chosen")
    assert plan_run(current(), shared=False).run_id != "chosen"
    assert plan_run(current(), shared=True).run_id == "chosen"


def test_a_restarted_attempt_goes_on_with_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (STEP | TORCHRUN | {"RANK": "0", "TORCHELASTIC_RESTART_COUNT": "1"}).items():
        monkeypatch.setenv(name, value)
    bodies = logged(runtide.start_run(shared=True))
    (opened,) = [body for body in bodies if isinstance(body, WriterOpened)]
    assert opened.client.endswith("(torchrun; node=1; restarts=1; job=slurm:alps:123.0)")
    (started,) = [body for body in bodies if isinstance(body, RunStarted)]
    (updated,) = [body for body in bodies if isinstance(body, RunUpdated)]
    assert started.run_id == updated.run_id, "the first RunStarted counts; there may have been none"
    assert (updated.status, updated.name) == ("RUNNING", None)
    assert [body.status for body in bodies if isinstance(body, RunEnded)] == ["FINISHED"]


def test_attaching_takes_the_environments_run(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequest, match="RUNTIDE_RUN_ID"):
        runtide.attach()
    monkeypatch.setenv("RUNTIDE_RUN_ID", "chosen")
    bodies = logged(runtide.attach())
    assert {body.run_id for body in bodies} == {"chosen"}
    assert not [body for body in bodies if isinstance(body, RunStarted | RunEnded)]


def test_a_child_names_its_parent() -> None:
    parent = runtide.start_run()
    child = runtide.start_run(nested=True)
    other = runtide.start_run(nested=True, parent_run_id="ab" * 16)
    started = [next(body for body in logged(run) if isinstance(body, RunStarted)) for run in (other, child, parent)]
    assert [body.parent_run_id for body in started] == ["ab" * 16, parent.run_id, ""]
    lonely = runtide.start_run(nested=True)
    (body,) = [body for body in logged(lonely) if isinstance(body, RunStarted)]
    assert body.parent_run_id == "", "as in MLflow: with no run active it has no parent"
