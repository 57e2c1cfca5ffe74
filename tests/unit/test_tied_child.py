"""A child that is tied to its parent ends with it, however the parent ends."""

import subprocess
import sys

import psutil
import pytest

from runtide_deploy.tied_child import tied
from tests.broker_process import wait_until

PARENT = """
import subprocess, sys, time
from runtide_deploy.tied_child import tied
child = subprocess.Popen(tied([sys.executable, "-c", "import time; time.sleep(100)"]))
print(child.pid, flush=True)
time.sleep(100)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends the children of a killed process")
def test_a_killed_parent_takes_its_child_along() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert child.is_running()
        parent.kill()
    wait_until(lambda: not child.is_running())


def test_it_becomes_the_program() -> None:
    done = subprocess.run(tied(["sh", "-c", "echo out; exit 7"]), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "")


def test_a_program_that_is_not_there_is_named() -> None:
    done = subprocess.run(tied(["/no/such/program"]), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "cannot run /no/such/program" in done.stderr
