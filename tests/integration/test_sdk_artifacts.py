"""Files into stores: an S3 double, uploads that break off and are resumed, the bar on a terminal."""

import gc
import hashlib
import io
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import runtide
from runtide.artifacts.store import ArtifactStore
from runtide.tracking.run import Run
from runtide_schemas.events.runs import ArtifactLogged
from tests.integration.s3_double import running_s3
from tests.unit.test_sdk_run import logged


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3 double in this process; returns the URI of a bucket."""
    with running_s3():
        yield "s3://bucket/artifacts"


@pytest.fixture
def run(tmp_path: Path, s3: str) -> Iterator[Run]:
    runtide.init(broker="", spool=tmp_path / "spool", artifacts=s3)
    run = runtide.start_run()
    yield run
    run.end()


def in_bucket(run: Run, path: str) -> bytes:
    found: bytes = fsspec.filesystem("s3").cat_file(f"bucket/artifacts/{run.run_id}/artifacts/{path}")
    return found


def test_files_go_to_s3_with_their_checksums(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    large = np.random.default_rng(0).bytes(12 * 2**20)  # more than one part of an upload
    (tree / "deep" / "large 100%.bin").write_bytes(large)
    (tree / "small.txt").write_text("hello")
    run.log_artifacts(tree, "saved")
    run.log_image(np.zeros((2, 2)), key="samples", step=1, timestamp=5)
    run.log_table({"a": [1]}, "table.json")
    run.log_table({"a": [2]}, "table.json")
    assert in_bucket(run, "saved/deep/large 100%.bin") == large
    assert json.loads(in_bucket(run, "table.json"))["data"] == [[1], [2]]
    events = {body.path: body for body in logged(run) if isinstance(body, ArtifactLogged)}
    assert events["saved/deep/large 100%.bin"].sha256 == hashlib.sha256(large).hexdigest()
    (image,) = [path for path in events if path.startswith("images/")]
    assert in_bucket(run, image).startswith(b"\x89PNG")


def test_an_upload_that_broke_off_is_resumed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in "abcd":
        (tree / name).write_text(name * 1000)
    opened: list[str] = []
    really = fsspec.open

    def flaky(uri: str, mode: str) -> Any:
        opened.append(uri[-1])
        if opened == ["a", "b", "c"] and not (tree / "b").read_text().startswith("B"):
            raise ConnectionResetError("the network is gone")
        return really(uri, mode)

    monkeypatch.setattr(fsspec, "open", flaky)
    with pytest.raises(runtide.TransientError, match="the network is gone"):
        run.log_artifacts(tree)
    (tree / "b").write_text("B" * 1000)
    again = run.log_artifacts(tree, resume=True)
    assert opened == ["a", "b", "c", "b", "c", "d"], "a is not sent again; b has other content"
    assert [stored.path for stored in again] == ["a", "b", "c", "d"]
    assert in_bucket(run, "b") == b"B" * 1000
    opened.clear()
    run.log_artifacts(tree)
    assert opened == ["a", "b", "c", "d"], "unless asked, everything is sent"


def test_a_part_of_a_file_is_never_stored(run: Run) -> None:
    class Broken(io.BytesIO):
        """A disk that fails in the middle of a file."""

        fails_at = 0

        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= self.fails_at:
                raise OSError("the disk is gone")
            return super().read(size)

    run.log_text("whole", "weights.bin")
    for megabytes in (1, 60):  # before and after a part of 50 MiB is sent
        broken = Broken(bytes(80 * 2**20))
        broken.fails_at = megabytes * 2**20
        with pytest.raises(runtide.TransientError, match="the disk is gone"):
            run.store._store(broken, "weights.bin")
        gc.collect()
        assert in_bucket(run, "weights.bin") == b"whole"


def test_a_store_that_is_away_is_said_and_the_run_goes_on(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    store = ArtifactStore(blocked.as_uri())
    with pytest.raises(runtide.TransientError, match="cannot store artifact 'a'"):
        store.store_bytes(b"x", "a")
    with pytest.raises(runtide.TransientError, match="cannot read artifact 'a'"):
        store.read_bytes("a")
    with pytest.raises(runtide.InvalidRequest, match="cannot store at nonsense"):
        ArtifactStore("nonsense://x").store_bytes(b"x", "a")


UPLOAD = """
import sys
import runtide
from runtide.artifacts import places, progress

progress.LEAST_BYTES = 1000
places.CHUNK_BYTES = 1000
runtide.init(broker="")
with runtide.start_run() as run:
    run.log_artifact(sys.argv[1])
"""


@pytest.mark.parametrize(("terminal", "setting", "shown"), [(True, "1", True), (True, "0", False), (False, "1", False)])
def test_a_terminal_sees_a_bar(tmp_path: Path, terminal: bool, setting: str, shown: bool) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"x" * 200_000)
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RUNTIDE_")}
    process = subprocess.Popen(
        [sys.executable, "-c", UPLOAD, str(file)],
        env={**clean, "RUNTIDE_DATA": str(tmp_path), "RUNTIDE_PROGRESS": setting, "TERM": "xterm", "COLUMNS": "200"},
        stderr=theirs if terminal else subprocess.DEVNULL,
    )
    os.close(theirs)
    said = b""
    deadline = time.monotonic() + 60
    while terminal and time.monotonic() < deadline and select.select([ours], [], [], 60)[0]:
        try:
            if not (part := os.read(ours, 65_536)):
                break
        except OSError:  # the other end is closed: Linux's way to say so
            break
        said += part
    assert process.wait(60) == 0
    os.close(ours)
    assert (b"weights.bin" in said and b"kB" in said) is shown, said
