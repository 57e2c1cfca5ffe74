"""A scoring server that takes no time to start: what it does stands in the model directory's file ``behaviour``."""

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from runtide_deploy.targets.local import LocalProcessTarget


def fake_target(state: Path, cache: Path) -> LocalProcessTarget:
    """Return the local-process target with this server in place of the real one."""
    return LocalProcessTarget(state, cache, (sys.executable, __file__))


class _Ping(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until killed, or fail as the model says."""
    parser = argparse.ArgumentParser()
    for option in ("--model-dir", "--host", "--port", "--name", "--ready-file", "--expect-digest"):
        parser.add_argument(option)
    options = parser.parse_args()
    behaviour = Path(options.model_dir, "behaviour").read_text()
    with Path(options.model_dir, "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if behaviour == "fail":
        sys.exit("this model is broken")
    if behaviour == "slow":
        time.sleep(1)
    server = HTTPServer((options.host, int(options.port)), _Ping)
    Path(options.ready_file).write_text(json.dumps({"host": options.host, "port": server.server_port}))
    server.serve_forever()


if __name__ == "__main__":
    main()
