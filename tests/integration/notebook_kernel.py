"""A notebook's kernel, driven as Jupyter drives it."""

import ast
import contextlib
import os
import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

_REPLY_SECONDS = 180.0


class NotebookKernel:
    """A kernel and its one client. A cell that raises does not keep the next one from running, as with people's typing.

    Attributes:
        manager: restarts it, shuts it down.
    """

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self._client: Any = manager.client()
        self._client.start_channels()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it answers, after a restart too."""
        self._client.wait_for_ready(_REPLY_SECONDS)

    def run(self, cell: str) -> str:
        """Run a cell to its end; return the name of what it raised, or an empty string."""
        return _raised(self._client.execute(cell, reply=True, timeout=_REPLY_SECONDS, stop_on_error=False))

    def begin(self, cell: str) -> None:
        """Start a cell without waiting for its end."""
        self._client.execute(cell, stop_on_error=False)

    def end_of_cell(self) -> str:
        """Wait for the end of a cell that was begun; return the name of what it raised, or an empty string."""
        return _raised(self._client.get_shell_msg(timeout=_REPLY_SECONDS))

    def value(self, expression: str) -> Any:
        """Return the value of an expression whose repr is a Python literal."""
        content = self._client.execute("", reply=True, timeout=_REPLY_SECONDS, user_expressions={"it": expression})
        answer = content["content"]["user_expressions"]["it"]
        assert answer["status"] == "ok", answer
        return ast.literal_eval(answer["data"]["text/plain"])

    def interrupt(self) -> None:
        """Press the stop button."""
        self.manager.interrupt_kernel()

    def said(self, until: str) -> str:
        """Return what came on standard output and error since the last call, as the notebook shows it, once ``until`` did."""
        said, deadline = "", time.monotonic() + _REPLY_SECONDS
        while until not in said:
            assert time.monotonic() < deadline, f"not said: {until!r}, but {said!r}"
            with contextlib.suppress(queue.Empty):
                message = self._client.get_iopub_msg(timeout=1)
                if message["msg_type"] == "stream":
                    said += message["content"]["text"]
        return said

    def close(self) -> None:
        """End it, whatever state it is in."""
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


def _raised(reply: Any) -> str:
    content = reply["content"]
    assert content["status"] in ("ok", "error"), f"the cell did not run: {content}"
    return str(content.get("ename", ""))


@contextlib.contextmanager
def running_kernel(folder: Path, **variables: str) -> Iterator[NotebookKernel]:
    """Run a kernel that logs through a spool in a folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RUNTIDE_")}
    environment |= {
        "IPYTHONDIR": str(folder / "ipython"),
        "RUNTIDE_SPOOL": str(folder / "spool"),
        "RUNTIDE_DATA": str(folder / "no-stack"),
    }
    manager = KernelManager(kernel_name="python3", connection_file=str(folder / "kernel.json"))
    manager.start_kernel(env=environment | variables)
    kernel = NotebookKernel(manager)
    try:
        yield kernel
    finally:
        kernel.close()
