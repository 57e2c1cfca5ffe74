"""A second gateway process beside a stack's own, started as that one was."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.stack import RunningStack, eventually


@contextmanager
def second_gateway(stack: RunningStack, folder: Path) -> Iterator[str]:
    """Run one more gateway on a free port, with its log below ``folder``; yield its address."""
    process = Path("/proc") / str(stack.services()["gateway"])
    command = process.joinpath("cmdline").read_text().rstrip("\0").split("\0")
    variables = dict(one.split("=", 1) for one in process.joinpath("environ").read_text().rstrip("\0").split("\0"))
    command[command.index("--port") + 1] = "0"
    with (folder / "second-gateway.log").open("w+") as said:
        second = subprocess.Popen(command, env=os.environ | variables, stdout=said, stderr=said)
        try:
            [url] = eventually(lambda: re.findall(r"http://[\d.]+:\d+", Path(said.name).read_text())[:1], "it listens")
            yield url
        finally:
            second.terminate()
            second.wait(60)
