"""Many processes: ranks that write one run, and processes that write one each. Every point is there, once."""

import json
import signal
import uuid

import pytest

from tests.acceptance.stack import RunningStack, eventually

POINTS = 300

RANKS = """
import multiprocessing, os, signal, sys
import runtide

def train(rank, world_size, points, killed):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank % 8), "WORLD_SIZE": str(world_size)}
    runtide.init(experiment="distributed")
    run = runtide.start_run("ranks")
    for step in range(points):
        run.log_metric("loss", rank * 1_000_000 + step, step=step)
    run.log_metrics({"samples": rank, "epoch": 1}, step=points)
    if rank == killed:
        run.flush(timeout=60)
        run.log_metric("last", rank)
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    world_size, points, killed = map(int, sys.argv[1:])
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=train, args=(rank, world_size, points, killed)) for rank in range(world_size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    print([rank.exitcode for rank in ranks])
"""

EACH_ITS_OWN = """
import multiprocessing, os, sys
import runtide

def train(number, points):
    runtide.init(experiment=sys.argv[3])
    with runtide.start_run(f"own-{number}") as run:
        run.log_param("number", number)
        for step in range(points):
            run.log_metric("loss", number * 1_000_000 + step, step=step)

if __name__ == "__main__":
    count, points = map(int, sys.argv[1:3])
    fork = multiprocessing.get_context("fork")
    with fork.Pool(8, maxtasksperchild=1) as pool:
        pool.starmap(train, [(number, points) for number in range(count)], chunksize=1)
"""


def finished(stack: RunningStack, code: str, *arguments: object, run_id: str = "", seconds: float = 120) -> str:
    """Run a program against the stack, to its end; return what it wrote."""
    variables = {"RUNTIDE_EXIT_DEADLINE": "90"} | ({"RUNTIDE_RUN_ID": run_id} if run_id else {})  # many on few cores
    process = stack.python(code, *map(str, arguments), variables=variables)
    out, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    return out


def complete(stack: RunningStack, run_id: str, seconds: float = 60) -> None:
    """Wait until every event of a run is in PostgreSQL and in DuckDB."""
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["state"] == "complete", f"{run_id} complete", seconds)


def by_rank(stack: RunningStack, run_id: str, key: str) -> dict[int, tuple[int, int, float, float]]:
    """Per rank: points, different points, least and greatest value of a metric; from DuckDB."""
    rows = stack.sql(
        "SELECT w.rank, count(*) AS points, count(DISTINCT (m.step, m.value)) AS different, min(m.value) AS least, "
        "max(m.value) AS most FROM metrics m JOIN writers w ON w.run_id = m.run_id AND w.writer_id = m.writer_id "
        f"WHERE m.run_id = '{run_id}' AND m.key = '{key}' GROUP BY w.rank"
    )
    return {row["rank"]: (row["points"], row["different"], row["least"], row["most"]) for row in rows}


def assert_ranks_wrote_one_run(stack: RunningStack, ranks: int, points: int, seconds: float) -> str:
    run_id = uuid.uuid4().hex
    codes = json.loads(finished(stack, RANKS, ranks, points, -1, run_id=run_id, seconds=seconds))
    assert codes == [0] * ranks
    complete(stack, run_id, seconds)
    expected = {rank: (points, points, rank * 1_000_000.0, rank * 1_000_000.0 + points - 1) for rank in range(ranks)}
    eventually(lambda: by_rank(stack, run_id, "loss") == expected, "every rank's points, once", seconds)
    detail = stack.get(f"/runs/{run_id}")
    assert detail["run"]["info"]["status"] == "FINISHED"
    assert detail["run"]["metrics"]["loss"]["point_count"] == ranks * points
    assert sorted(writer["rank"] for writer in detail["writers"]) == list(range(ranks))
    assert {writer["world_size"] for writer in detail["writers"]} == {ranks}
    return run_id


def assert_each_wrote_its_own(stack: RunningStack, processes: int, points: int, seconds: float) -> None:
    experiment = f"own-{uuid.uuid4().hex[:8]}"
    finished(stack, EACH_ITS_OWN, processes, points, experiment, seconds=seconds)
    question = (
        "SELECT r.name, r.status, count(*) AS points, count(DISTINCT (m.step, m.value)) AS different, "
        "min(m.value) AS least FROM runs r JOIN metrics m ON m.run_id = r.run_id "
        f"WHERE r.experiment_name = '{experiment}' GROUP BY ALL"
    )
    expected = {(f"own-{number}", "FINISHED", points, points, number * 1_000_000.0) for number in range(processes)}
    eventually(lambda: {tuple(row.values()) for row in stack.sql(question)} == expected, "every run's points", seconds)
    found = stack.postgres("SELECT run_id FROM runs WHERE experiment_name = $1 AND status = 'FINISHED'", experiment)
    assert len(found) == processes
    for row in found[:: max(1, processes // 10)]:
        complete(stack, row["run_id"])


def test_ranks_write_one_run_and_processes_write_their_own(stack: RunningStack) -> None:
    run_id = assert_ranks_wrote_one_run(stack, 4, POINTS, 60)
    apart = stack.get(f"/runs/{run_id}/metrics/loss", by="writer", points=3)
    assert [curve["rank"] for curve in apart["writers"]] == list(range(4))
    assert [bucket["points"] for bucket in apart["writers"][3]["buckets"]] == [100, 100, 100]
    assert apart["writers"][3]["buckets"][-1]["last"] == 3_000_299.0
    together = stack.get(f"/runs/{run_id}/metrics/loss", points=3)
    assert [bucket["points"] for bucket in together["buckets"]] == [400, 400, 400]
    assert_each_wrote_its_own(stack, 6, POINTS, 60)


def test_a_rank_that_never_wrote_is_named(stack: RunningStack) -> None:
    run_id = uuid.uuid4().hex
    code = "import runtide; runtide.start_run().log_metric('loss', 1.0)"
    for rank in (0, 2):
        given = {"RUNTIDE_RUN_ID": run_id, "WORLD_SIZE": "3", "RANK": str(rank)}
        stack.python(code, variables=given).communicate(timeout=60)
    eventually(lambda: stack.get(f"/runs/{run_id}/completeness")["silent_ranks"] == [1], "rank 1 was not heard of")
    assert stack.get(f"/runs/{run_id}/completeness")["summary"].endswith("; not heard of: rank 1")


@pytest.mark.gate
def test_a_rank_that_was_killed_is_seen_and_its_points_come_with_sync(stack: RunningStack) -> None:
    run_id = uuid.uuid4().hex
    codes = json.loads(finished(stack, RANKS, 3, POINTS, 2, run_id=run_id))
    assert codes == [0, 0, -signal.SIGKILL]

    def ended_but_open() -> bool:
        found = stack.get(f"/runs/{run_id}/completeness")
        others = [one["state"] for one in found["sequences"] if one["rank"] != 2]
        return bool(found["state"] == "open" and "rank 2" in found["summary"] and set(others) == {"complete"})

    eventually(lambda: stack.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED", "rank 0 ended the run")
    eventually(ended_but_open, "rank 2 is named as not closed")
    stack.runtide("sync", str(stack.data / "spool" / run_id))
    complete(stack, run_id)
    assert by_rank(stack, run_id, "last")[2] == (1, 1, 2.0, 2.0), "complete holds for DuckDB, too"
    assert by_rank(stack, run_id, "loss")[2] == (POINTS, POINTS, 2_000_000.0, 2_000_299.0)
    assert stack.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED", "only rank 0's end counts"


ATTEMPT = """
import os, signal, sys
import runtide

with runtide.start_run("attempts") as run:
    for step in range(100):
        run.log_metric("loss", float(sys.argv[1]), step=step)
    run.flush(timeout=60)
    run.log_metric("last", float(sys.argv[1]))
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.gate
def test_a_restarted_attempt_goes_on_and_the_dead_ones_spool_changes_no_end(stack: RunningStack) -> None:
    run_id = uuid.uuid4().hex
    for attempt, way in enumerate(("killed", "finished")):
        given = {"RUNTIDE_RUN_ID": run_id, "RANK": "0", "WORLD_SIZE": "1", "TORCHELASTIC_RESTART_COUNT": str(attempt)}
        stack.python(ATTEMPT, str(attempt), way, variables=given).communicate(timeout=60)

    def writers() -> list[dict[str, object]]:
        return sorted(stack.get(f"/runs/{run_id}")["writers"], key=lambda writer: writer["opened_at"])

    eventually(lambda: stack.get(f"/runs/{run_id}")["run"]["info"]["status"] == "FINISHED", "the second attempt ended")
    assert [str(writer["client"]).endswith("(torchrun; restarts=1)") for writer in writers()] == [False, True]
    stack.runtide("sync", str(stack.data / "spool" / run_id))
    complete(stack, run_id)
    assert [writer["close_reason"] for writer in writers()] == ["recovered", "finished"]
    both = {(attempt, 100) for attempt in (0.0, 1.0)}
    counted = f"SELECT value, count(*) FROM metrics WHERE run_id = '{run_id}' AND key = 'loss' GROUP BY ALL"
    eventually(lambda: {tuple(row.values()) for row in stack.sql(counted)} == both, "the points of both attempts")
    assert by_rank(stack, run_id, "last")[0] == (2, 2, 0.0, 1.0)
    info = stack.get(f"/runs/{run_id}")["run"]["info"]
    assert (info["name"], info["status"], info["end_reason"]) == ("attempts", "FINISHED", "")
    assert stack.sql(f"SELECT status FROM runs WHERE run_id = '{run_id}'") == [{"status": "FINISHED"}]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_64_ranks_write_one_run(stack: RunningStack) -> None:
    assert_ranks_wrote_one_run(stack, 64, 2_000, 700)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_processes_write_their_own_runs(stack: RunningStack) -> None:
    assert_each_wrote_its_own(stack, 200, 1_000, 700)
