"""A gateway whose answers a test writes down: how late a real one is, and what it lacks, no test could say beforehand."""

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from runtide.mlflow_plugin.gateway import API
from runtide_schemas import topics


@dataclass
class GatewayDouble:
    """Answers with what a run's projections hold, as far as a test has them hold it.

    Attributes:
        answers: JSON by path below the API's root; what is not there is not found.
        silent: paths that are answered only when ``let_go`` is set.
        trickling: paths whose answers begin at once, and come blank by blank for 5 s.
        asked: how often each path was.
        url: where it listens.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    trickling: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)
    let_go: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def was_asked(self, path: str, times: int = 1) -> None:
        """Wait until a path was asked so often: who gives an answer up does not know how far its question has come."""
        deadline = time.monotonic() + 60
        while self.asked[path] < times:
            assert time.monotonic() < deadline, f"{path} was asked {self.asked[path]} times, not {times}"
            time.sleep(0.01)

    def knows(self, run_id: str, **known: Any) -> None:
        """Have a run be there, that of another process unless ``known`` says otherwise: info, tags, params, metrics."""
        info = {
            "run_id": run_id, "name": "theirs", "experiment_id": "3", "user_id": "bob", "status": "RUNNING",
            "start_time": 5, "end_time": None, "lifecycle_stage": "active", "artifact_uri": "file:///theirs",
        } | known.get("info", {})  # fmt: skip
        run = {"info": info, "metrics": {}, "params": {}, "tags": {}} | {**known, "info": info}
        self.answers[f"runs/{run_id}"] = {"run": run, "inputs": [], "models": known.get("models", [])}

    def knows_model(self, model_id: str, run_id: str, *, deleted: bool = False, **known: Any) -> None:
        """Have one logged model be there, of another process: tags, params."""
        info = {
            "model_id": model_id, "run_id": run_id, "source_run_id": "", "experiment_id": "3", "name": "net",
            "model_type": "", "status": "READY", "status_message": "", "uri": "file:///theirs", "created_at": 5,
            "updated_at": 6, "deleted": deleted,
        }  # fmt: skip
        point = {"key": "acc", "value": 0.5, "step": 1, "timestamp": 5, "run_id": run_id}
        on = {"dataset_name": "digits", "dataset_digest": "d1"}
        model = {"info": info, "tags": {}, "params": {}, "metrics": [point | on], **known}
        self.answers[f"logged-models/{model_id}"] = model
        self.answers["logged-models"] = {"models": [] if deleted else [model], "next_page_token": ""}

    def has_passed(self, run_id: str, events: Mapping[str, int], missing: tuple[tuple[int, int], ...] = ()) -> None:
        """Have the state store be that far with a run's writers, with gaps in the midst of each."""
        lost = sum(last - first + 1 for first, last in missing)
        gaps = [{"first": first, "last": last} for first, last in missing]
        told = {"topic": topics.RUNS, "final_count": None, "missing": gaps}
        sequences = [{**told, "writer_id": writer, "received": count - lost} for writer, count in events.items()]
        self.answers[f"runs/{run_id}/completeness"] = {"sequences": sequences}

    def has_points(self, run_id: str, key: str, points: list[tuple[str, int, float]]) -> None:
        """Have the history hold a metric's points, each with its writer and its step, which is its time, too."""
        told = [
            {"writer_id": writer, "step": step, "timestamp": step, "value": value} for writer, step, value in points
        ]
        counts = Counter(writer for writer, _, _ in points)
        writers = [{"writer_id": writer, "buckets": [{"points": count}]} for writer, count in counts.items()]
        self.answers[f"runs/{run_id}/metrics/{key}"] = {"points": told, "writers": writers}


@contextmanager
def gateway_double() -> Iterator[GatewayDouble]:
    """Run one for the length of a block."""
    double = GatewayDouble({"health": {"status": "ok"}})

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path = parts.path.removeprefix(f"{API}/")
            double.asked[path] += 1
            if path in double.silent:
                double.let_go.wait(60)
            answer = double.answers.get(path)
            if callable(answer):
                answer = answer(parse_qs(parts.query))
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no {path}"}
            body = json.dumps(missing if answer is None else answer).encode()
            blanks = 100 if path in double.trickling else 0
            self.send_response(404 if answer is None else 200)
            self.send_header("Content-Length", str(blanks + len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # nobody waits for it any more
                for _ in range(blanks):
                    double.let_go.wait(0.05)
                    self.wfile.write(b" ")
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        double.url = f"http://127.0.0.1:{server.server_address[1]}"
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        try:
            yield double
        finally:
            double.let_go.set()
            server.shutdown()
            serving.join()
