"""A job that reaches the gateway only, and whether its run is all there."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from runtide.kafka import KafkaSettings, new_producer
from runtide_schemas.codec import encode
from runtide_schemas.envelope import make_envelope, to_headers
from runtide_schemas.events.runs import RunStarted, WriterClosed
from runtide_schemas.identity import now_ms
from runtide_schemas.routing import key_of
from runtide_schemas.topics import RUNS
from tests.acceptance.stack import RunningStack, eventually

TRAINING = """
import sys, runtide
with runtide.start_run("over http", experiment="http") as run:
    print(run.run_id, flush=True)
    for step in range(1000):
        run.log_metric("loss", 1 / (step + 1), step=step)
    run.flush()
    sys.stdin.readline()
"""


def test_a_job_that_reaches_only_the_gateway_is_all_there(stack: RunningStack, tmp_path: Path) -> None:
    only_http = {
        "RUNTIDE_URI": stack.file.gateway,
        "RUNTIDE_DATA": str(tmp_path),
        "RUNTIDE_ARTIFACTS": str(tmp_path / "artifacts"),
    }
    job = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        env=stack.environment | only_http,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert job.stdout is not None
    run_id = job.stdout.readline().strip()
    going_on = eventually(lambda: checked(stack, run_id, 5), "the open run")
    assert "nothing is missing so far; still open: writer" in going_on
    _, errors = job.communicate("\n", timeout=170)
    assert job.returncode == 0, errors
    said = eventually(lambda: checked(stack, run_id, 0), "the whole run")
    assert said.startswith("complete: all ")
    eventually(lambda: stack.get(f"/runs/{run_id}/metrics/loss")["total"] == 1000, "every point, in DuckDB too")
    # Its number comes from the registrar, in another topic than the run.
    info = f"/runs/{run_id}"
    eventually(lambda: stack.get(info)["run"]["info"]["experiment_name"] == "http", "the experiment is known")


def test_what_is_missing_is_said_exactly(stack: RunningStack) -> None:
    run_id, writer = "5" * 32, "6" * 32
    asyncio.run(_publish_with_a_gap(stack.file.broker, run_id, writer))
    said = eventually(lambda: checked(stack, run_id, 6), "the gap")
    assert "writer 66666666 is missing 1-2" in said
    done = stack.runtide("check", run_id, "--json", check=False)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (6, "missing")


def checked(stack: RunningStack, run_id: str, status: int) -> str:
    done = stack.runtide("check", run_id[:12], check=False)
    return done.stdout if done.returncode == status else ""


async def _publish_with_a_gap(broker: str, run_id: str, writer: str) -> None:
    start = RunStarted(run_id=run_id, name="gap", experiment_id="0", start_time=now_ms())
    closed = WriterClosed(run_id=run_id, writer_id=writer, counts={RUNS: 4}, at=now_ms())
    producer = new_producer(KafkaSettings(bootstrap=broker))
    await producer.start()
    try:
        for seq, body in ((0, start), (3, closed)):
            envelope = make_envelope(type(body).__name__, subject=run_id, writer=writer, seq=seq)
            await producer.send_and_wait(RUNS, encode(body), key=key_of(body, writer), headers=to_headers(envelope))
    finally:
        await producer.stop()
