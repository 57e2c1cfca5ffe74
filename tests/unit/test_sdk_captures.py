"""What a run captures by itself: code, environment, system metrics, console."""

import io
import json
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import runtide
from runtide.tracking import captures, console, source_code
from runtide.tracking.console import ConsoleCapture
from runtide.tracking.plan import CAPTURE_NAMES
from runtide.tracking.run import Run
from runtide.tracking.secrets_masking import mask_arguments, strip_credentials
from runtide.tracking.system_metrics import SystemMetrics, find_samplers
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import ArtifactLogged, TagsSet
from tests.broker_process import wait_until
from tests.unit.test_sdk_run import logged, points, run

__all__ = ["run"]  # the fixture


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("train.py --password hunter2 --epochs 3", "train.py --password *** --epochs 3"),
        ("--api-key=abc --apikey abc --max-tokens 5", "--api-key=*** --apikey *** --max-tokens 5"),
        ("--hf_token X --tokenizer bert", "--hf_token *** --tokenizer bert"),
        ("db.password=X optimizer.lr=0.1", "db.password=*** optimizer.lr=0.1"),
        ("AWS_SECRET_ACCESS_KEY=X", "AWS_SECRET_ACCESS_KEY=***"),
        ("--accessKey X --verbose", "--accessKey *** --verbose"),
        ("--secret --verbose", "--secret --verbose"),
        ("postgresql://ada:hunter2@db/runs", "postgresql://***@db/runs"),
        ("--url=https://token@host/x", "--url=https://***@host/x"),
        ("login ghp_0123456789abcdef0123 now", "login *** now"),
        ("sk-learn hf_x", "sk-learn hf_x"),
    ],
)
def test_secrets_of_a_command_line_are_masked(given: str, kept: str) -> None:
    assert mask_arguments(given.split()) == kept.split()


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://ada:hunter2@github.com/x/y.git", "https://github.com/x/y.git"),
        ("https://ghp_token@github.com:8443/x/y.git?private=1#frag", "https://github.com:8443/x/y.git"),
        ("ssh://git:pw@host/x", "ssh://git@host/x"),
        ("git@github.com:x/y.git", "git@github.com:x/y.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("https://ada:hunter2@host:notaport/x", "https://host:notaport/x"),
        ("", ""),
    ],
)
def test_a_remote_has_no_credentials(url: str, kept: str) -> None:
    assert strip_credentials(url) == kept


@pytest.fixture
def git(tmp_path: Path) -> Callable[..., str]:
    repository = tmp_path / "project"
    repository.mkdir()

    def run_git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        done = subprocess.run(
            ["git", "-C", str(repository), *identity, *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    run_git("init", "-q", "-b", "work")
    (repository / "train.py").write_text("import runtide\n")
    run_git("add", ".")
    run_git("commit", "-q", "-m", "first")
    return run_git


@pytest.fixture
def project(tmp_path: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "project"
    monkeypatch.setattr(sys, "argv", [str(folder / "train.py"), "--token", "hunter2"])
    return folder


def artifact(run: Run, path: str) -> bytes:
    found = run.store.read_bytes(path)
    assert found is not None, path
    return found


def test_code_is_commit_branch_remote_and_what_differs(run: Run, project: Path, git: Callable[..., str]) -> None:
    git("remote", "add", "origin", "https://ada:hunter2@example.org/x.git")
    (project / "train.py").write_text("import runtide\nprint('changed')\n")
    (project / "notes.txt").write_text("not in git")
    run.log_code()
    command = json.loads(artifact(run, "code/command.json"))
    diff = artifact(run, "code/diff.patch").decode()
    (tags,) = [body.tags for body in logged(run) if isinstance(body, TagsSet)]
    assert tags == {
        "mlflow.source.git.commit": git("rev-parse", "HEAD"),
        "mlflow.source.git.branch": "work",
        "mlflow.source.git.repoURL": "https://example.org/x.git",
        "runtide.git.dirty": "true",
    }
    assert command["arguments"] == [str(project / "train.py"), "--token", "***"]
    assert command["untracked"] == ["notes.txt"]
    assert "+print('changed')" in diff
    git("checkout", "-q", "--", ".")
    (project / "patch").write_text(diff)
    git("apply", "patch")
    assert "changed" in (project / "train.py").read_text(), "the patch brings the code back"


def test_a_large_diff_is_cut(run: Run, project: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_code, "MAX_DIFF_BYTES", 10_000)
    (project / "train.py").write_text("x = 1\n" * 500_000)
    run.log_code()
    diff = artifact(run, "code/diff.patch")
    assert len(diff) < 10_100
    assert diff.endswith(b"\n# cut by runtide at 10000 bytes\n")
    (tags,) = [body.tags for body in logged(run) if isinstance(body, TagsSet)]
    assert tags["runtide.git.diff"] == "cut"


def test_reading_a_repository_runs_none_of_its_programs(run: Run, project: Path, git: Callable[..., str]) -> None:
    evil = project / "evil.sh"
    evil.write_text(f"#!/bin/sh\ntouch {project}/ran\n")
    evil.chmod(0o755)
    for name in ("diff.external", "core.fsmonitor", "diff.x.textconv", "core.pager"):
        git("config", name, str(evil))
    (project / ".gitattributes").write_text("*.py diff=x\n")
    (project / "train.py").write_text("changed\n")
    run.log_code()
    assert b"+changed" in artifact(run, "code/diff.patch")
    assert not (project / "ran").exists()


def test_code_without_git_is_the_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.chdir(tmp_path)
    run.log_code()
    assert "arguments" in json.loads(artifact(run, "code/command.json"))
    assert not [body for body in logged(run) if isinstance(body, TagsSet)]


def test_the_environment_is_kept(run: Run) -> None:
    run.log_environment()
    found = json.loads(artifact(run, "environment/environment.json"))
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"]["numpy"]
    assert found["memory_bytes"] > 2**28
    assert f"numpy=={found['packages']['numpy']}\n" in artifact(run, "environment/requirements.txt").decode()


def keys(run: Run) -> set[str]:
    return {key for key, _, _, _ in points(run)}


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name != "runtide-publisher"}


def test_system_metrics_are_sampled_until_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNTIDE_SYSTEM_INTERVAL", "0.05")
    runtide.init(broker="", spool=tmp_path / "spool")
    before = threads()
    run = runtide.start_run(capture=["system"])
    assert threads() - before == {"runtide-system metrics"}
    wait_until(lambda: run._companions[0]._step >= 3, 30)  # type: ignore[attr-defined]
    found = points(run)
    assert not threads() - before
    steps = [step for key, step, _, _ in found if key == "system/cpu_utilization_percentage"]
    assert steps == list(range(len(steps)))
    last = {key: value for key, _, _, value in found}
    assert 0 < last["system/system_memory_usage_percentage"] <= 100
    assert last["system/process_memory_megabytes"] > 10
    assert last["system/network_receive_megabytes"] >= 0
    assert {"system/disk_available_megabytes", "system/network_transmit_megabytes_per_second"} <= set(last)


class FakeNvml(types.ModuleType):
    """Two GPUs, the second of which does not tell its power."""

    class NVMLError(Exception):
        """As pynvml's."""

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        """Nothing to do."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:  # noqa: N802
        return types.SimpleNamespace(used=2_000_000_000, total=8_000_000_000)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802
        return types.SimpleNamespace(gpu=50 + handle, memory=0)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        if handle == 1:
            raise self.NVMLError("not supported")
        return 175_000

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:  # noqa: N802
        return 350_000


def test_gpus_are_sampled_as_mlflow_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml("pynvml"))
    values: dict[str, float] = {}
    for sampler in find_samplers():
        values |= sampler()
    assert {key: value for key, value in values.items() if key.startswith("gpu_")} == {
        "gpu_0_memory_usage_megabytes": 2000,
        "gpu_0_memory_usage_percentage": 25,
        "gpu_0_utilization_percentage": 50,
        "gpu_0_power_usage_watts": 175,
        "gpu_0_power_usage_percentage": 50,
        "gpu_1_memory_usage_megabytes": 2000,
        "gpu_1_memory_usage_percentage": 25,
        "gpu_1_utilization_percentage": 51,
    }


def test_a_source_that_fails_is_said_once_and_the_others_go_on(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> dict[str, float]:
        raise OSError("the driver is gone")

    sampling = SystemMetrics(run, 0.02, (broken, lambda: {"load": 1.0}))
    wait_until(lambda: sampling._step >= 3, 30)
    sampling.stop(10)
    assert capsys.readouterr().err.count("the driver is gone") == 1
    assert keys(run) == {"system/load"}


def test_without_psutil_it_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    SystemMetrics(run, 10).stop(1)
    assert "runtide[system]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rank", "local_rank", "begun"),
    [("0", "0", {"code", "environment", "system"}), ("8", "0", {"system"}), ("3", "3", set())],
)
def test_a_run_captures_code_once_and_a_host_its_load_once(
    run: Run, monkeypatch: pytest.MonkeyPatch, rank: str, local_rank: str, begun: set[str]
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_RANK", local_rank)
    called: set[str] = set()
    for name in CAPTURE_NAMES:
        monkeypatch.setitem(captures.CAPTURES, name, lambda run, name=name: called.add(name))
    from runtide.tracking.plan import Part

    captures.begin(run, ("code", "environment", "system"), Part.CREATOR if rank == "0" else Part.MEMBER)
    assert called == begun


def test_captures_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tuple(captures.CAPTURES) == CAPTURE_NAMES
    runtide.init(broker="", spool=tmp_path / "spool")
    with pytest.raises(runtide.InvalidRequest, match="cannot capture gpu; there is code, environment"):
        runtide.start_run(capture=["gpu"])
    with pytest.raises(runtide.InvalidRequest, match="not one text"):
        runtide.start_run(capture="code")
    monkeypatch.setenv("RUNTIDE_CAPTURE", "environment, code")
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=str(tmp_path / "artifacts"))
    paths = {body.path for body in logged(runtide.start_run()) if isinstance(body, ArtifactLogged)}
    assert {"environment/environment.json", "code/command.json"} <= paths
    runtide.start_run(capture=()).end()


@contextmanager
def streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Streams of our own, in the test itself: pytest sets its own between a fixture and the test."""
    before, ours = (sys.stdout, sys.stderr), (io.StringIO(), io.StringIO())
    sys.stdout, sys.stderr = ours
    try:
        yield ours
        assert (sys.stdout, sys.stderr) == ours, "given back"
    finally:
        sys.stdout, sys.stderr = before


def console_of(run: Run) -> str:
    folder = Path(run.store.root.removeprefix("file://")) / "console" / run.writer.id[:8]
    return "".join(path.read_bytes().decode() for path in sorted(folder.glob("*.log")))


def test_the_console_is_kept_in_order_and_still_seen(run: Run) -> None:
    with streams() as (out, errors):
        capture = ConsoleCapture(run, 0.02)
        print("one")
        sys.stderr.write("two\n")
        print("epoch 1:  10%\repoch 1:  50%\repoch 1: 100%")
        sys.stdout.writelines(["th", "ree\r\n"])
        capture.stop(10)
        print("after")
    assert console_of(run) == "one\ntwo\nepoch 1: 100%\nthree\r\n"
    assert "10%\repoch" in out.getvalue()
    assert out.getvalue().endswith("after\n")
    assert errors.getvalue() == "two\n"


def test_a_wrapper_that_came_later_stays_and_nothing_more_is_heard(run: Run) -> None:
    with streams() as (out, _):
        capture = ConsoleCapture(run, 0.02)
        wrapper: Any = console.Tee(sys.stdout, lambda text: None)
        sys.stdout = wrapper  # as a notebook would
        capture.stop(10)
        print("after")
        assert sys.stdout is wrapper
        sys.stdout = out
    assert console_of(run) == ""
    assert out.getvalue() == "after\n"


def test_rich_prints_as_before_and_is_kept(run: Run) -> None:
    from rich.console import Console
    from rich.live import Live

    with streams() as (out, _):
        capture = ConsoleCapture(run, 0.02)
        Console(width=40).print("[bold]styled[/bold]")
        with Live("live", console=Console(width=40, force_terminal=True), refresh_per_second=20):
            print("inside")  # rich has put its own stream in place of ours
        capture.stop(10)
    assert "styled" in out.getvalue()
    assert "inside" in out.getvalue()
    assert "styled" in console_of(run)
    assert "inside" in console_of(run)


def test_pieces_are_bounded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "MAX_PIECE_BYTES", 1000)
    monkeypatch.setattr(console, "MAX_PIECES", 3)
    with streams() as (_, errors):
        capture = ConsoleCapture(run, 0.01)
        for number in range(100):
            print(f"{number:099}")
            time.sleep(0.001)
        capture.stop(10)
    assert console_of(run) == "".join(f"{number:099}\n" for number in range(30))
    assert "more than 3 MiB; the rest is not kept" in errors.getvalue()


FORKED = """
import os, sys
import runtide
runtide.init(broker="", artifacts=sys.argv[1])
run = runtide.start_run(capture=["console", "system"])
print("parent before", flush=True)
pid = os.fork()
if pid == 0:
    print("child", flush=True)
    import threading
    assert threading.active_count() == 1, threading.enumerate()
    run.log_metric("loss", 1.0)
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(run.writer.id[:8])
raise ValueError("no luck")
"""


def test_a_forked_child_captures_nothing_and_an_error_is_captured(tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIDE_")}
    done = subprocess.run(
        [sys.executable, "-c", FORKED, str(tmp_path / "artifacts")],
        env={**clean, "RUNTIDE_DATA": str(tmp_path)}, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    before, child, writer = done.stdout.splitlines()
    assert (before, child) == ("parent before", "child")
    logs = sorted((tmp_path / "artifacts").rglob("*.log"))
    assert {log.parent.name for log in logs} == {writer}
    text = "".join(log.read_text() for log in logs)
    assert text.startswith(f"parent before\n{writer}\n")
    assert "ValueError: no luck" in text
    assert "child" not in text


def test_metrics_are_logged_while_captures_run(tmp_path: Path) -> None:
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=str(tmp_path / "artifacts"))
    run = runtide.start_run(capture=CAPTURE_NAMES)
    run.log_metric("loss", 1.0)
    bodies = logged(run)
    assert {"loss"} < {key for body in bodies if isinstance(body, MetricsLogged) for key in body.keys}
