"""Open MPI for real: ``mpirun`` starts ranks that write one run."""

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide_schemas.events.runs import RunEnded, RunStarted, WriterOpened
from tests.broker_process import BrokerProcess
from tests.integration.sdk_log import assert_complete, bodies, broker_with_topics, points_of, read_log

RANKS = 4
MPIRUN = shutil.which("mpirun")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MPIRUN is None, reason="no mpirun; Debian has it in the package openmpi-bin"),
]

TRAIN = """
import os, sys
import runtide

rank = int(os.environ["OMPI_COMM_WORLD_RANK"])
with runtide.start_run("mpi", shared=True if "shared" in sys.argv else None) as run:
    for step in range(200):
        run.log_metric(f"loss {rank}", float(step), step=step)
    open(os.path.join(os.environ["SAID"], str(rank)), "w").write(run.run_id)
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    with broker_with_topics(tmp_path_factory.mktemp("mpi") / "broker") as process:
        yield process


def launched(
    broker: BrokerProcess, folder: Path, *arguments: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run the training under ``mpirun``, to its end."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "said").mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RUNTIDE_", "OMPI_", "PMIX_"))}
    given = {"RUNTIDE_BROKER": broker.address, "RUNTIDE_SPOOL": str(folder / "spool"), "SAID": str(folder / "said")}
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    command = [MPIRUN or "", "-n", str(RANKS), "--oversubscribe", *as_root, sys.executable, str(folder / "train.py")]
    return subprocess.run(
        [*command, *arguments],
        env=kept | given | {"RUNTIDE_DATA": str(folder / "no-stack"), "RUNTIDE_EXIT_DEADLINE": "60"} | variables,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


def test_ranks_of_mpirun_write_the_run_that_the_environment_names(broker: BrokerProcess, tmp_path: Path) -> None:
    run_id = uuid.uuid4().hex
    done = launched(broker, tmp_path, RUNTIDE_RUN_ID=run_id)
    assert done.returncode == 0, done.stderr
    assert {path.read_text() for path in (tmp_path / "said").iterdir()} == {run_id}
    events = read_log(broker.address, run_id)
    assert_complete(events)
    for rank in range(RANKS):
        assert points_of(events, f"loss {rank}") == [(step, float(step)) for step in range(200)]
    writers = bodies(events, WriterOpened)
    assert sorted(writer.rank for writer in writers) == sorted(writer.local_rank for writer in writers) == [0, 1, 2, 3]
    assert {writer.world_size for writer in writers} == {RANKS}
    assert all("openmpi" in writer.client for writer in writers)
    assert len(bodies(events, RunStarted)) == len(bodies(events, RunEnded)) == 1, "rank 0 starts and ends it"


def test_a_shared_run_is_refused_where_mpirun_names_no_job(broker: BrokerProcess, tmp_path: Path) -> None:
    done = launched(broker, tmp_path, "shared")
    assert done.returncode != 0
    assert "set RUNTIDE_RUN_ID" in done.stderr
    assert list((tmp_path / "said").iterdir()) == []
    assert not list((tmp_path / "spool").glob("*/*/writer.json"))
