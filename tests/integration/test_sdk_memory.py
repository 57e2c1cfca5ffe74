"""Memory while the broker is away: bounded by a setting, not by how much is logged."""

import json
import socket
from pathlib import Path

import pytest

from tests.integration.sdk_log import child, finished

MIB = 2**20

TRAINER = """
import json
from pathlib import Path
import runtide

def own_memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) * 1024

def log_points(count):
    for step in range(count):
        runtide.log_metric("loss", step * 0.5, step=step)
    run.flush(timeout=1)  # the broker has nothing, but all is in segments, and the publisher has had its turn

run = runtide.start_run()
log_points(200_000)
early = own_memory()
log_points(1_000_000)
print(json.dumps({"early": early, "late": own_memory(), "segments": run.writer.spool.size}))
run.end(timeout=0)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process from /proc")
@pytest.mark.gate
def test_memory_is_bounded_by_its_setting_while_a_broker_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        process = child(
            TRAINER,
            broker=address,
            spool=tmp_path / "spool",
            variables={"RUNTIDE_MEMORY_BYTES": str(2 * MIB), "RUNTIDE_EXIT_DEADLINE": "1"},
        )
        returned, out, errors = finished(process, 500)
    assert returned == 0, errors
    found = json.loads(out)
    assert found["segments"] > 20 * MIB, "enough to be seen in memory"
    assert found["late"] < found["early"] + 6 * MIB
