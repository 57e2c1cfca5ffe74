"""The SDK's artifacts through a real gateway: whole or not at all, gone on with after kills on either side, in little memory."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

import runtide
from runtide.artifacts.models import describe_model
from runtide.artifacts.store import ArtifactStore
from runtide.gateway import asking, files
from runtide.tracking.run import Run
from runtide_queries.artifacts.tree import RESERVED
from runtide_schemas.events.runs import ArtifactLogged
from tests.integration.artifact_gateway import artifact_gateway, peak_memory, seen_files
from tests.integration.gateway_stack import Gateway, wait_until
from tests.integration.s3_double import running_s3
from tests.unit.test_sdk_run import logged

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway for all tests that do not end it."""
    folder = tmp_path_factory.mktemp("gateway")
    with artifact_gateway(folder, str(folder / "root")) as gateway:
        yield gateway


@pytest.fixture
def root(gateway: Gateway) -> Path:
    """Where it keeps artifacts; empty when a test begins."""
    root = gateway.folder / "root"
    for path in [*root.iterdir(), *(root / RESERVED).iterdir()]:
        if path.name != RESERVED:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return root


@pytest.fixture
def run(tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """A run without a broker, whose artifacts go through the gateway."""
    monkeypatch.setenv("RUNTIDE_GATEWAY", gateway.url)
    runtide.init(broker="", spool=tmp_path / "spool", artifacts="mlflow-artifacts:")
    run = runtide.start_run()
    yield run
    run.end()


def large_file(path: Path, size: int) -> str:
    """Write a file and return its SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // MIB):
            chunk = number.to_bytes(8, "big") * (MIB // 8)
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_everything_that_a_run_stores(run: Run, root: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "a 100%.bin").write_bytes(b"\x00" * 5000)
    (tree / "empty").write_bytes(b"")
    run.log_artifacts(tree, "saved")
    run.log_text("hello", "ü/notes.txt")
    run.log_image(np.zeros((2, 2)), key="samples", step=1, timestamp=5)
    run.log_table({"a": [1]}, "table.json")
    run.log_table({"a": [2]}, "table.json")
    place = root / run.run_id / "artifacts"
    assert (place / "saved/deep/a 100%.bin").read_bytes() == b"\x00" * 5000
    assert (place / "saved/empty").read_bytes() == b""
    assert (place / "ü/notes.txt").read_text() == "hello"
    assert "[[1], [2]]" in (place / "table.json").read_text().replace("\n", "")
    assert list((root / RESERVED).iterdir()) == []
    events = {body.path: body for body in logged(run) if isinstance(body, ArtifactLogged)}
    stored = events["saved/deep/a 100%.bin"]
    assert stored.uri == f"mlflow-artifacts:/{run.run_id}/artifacts/saved/deep/a%20100%25.bin"
    assert (stored.size, stored.sha256) == (5000, hashlib.sha256(b"\x00" * 5000).hexdigest())


def test_a_model_is_described_from_where_the_gateway_keeps_it(run: Run, gateway: Gateway) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    model = linear_model.LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    described = run.log_model(model, "classifier")
    assert describe_model(described.uri, gateway.url) == described
    with pytest.raises(runtide.InvalidRequest, match="none is known"):
        describe_model(described.uri)
    with pytest.raises(runtide.RuntideError):
        describe_model(f"mlflow-artifacts:/{run.run_id}/artifacts/nothing", gateway.url)


def test_a_large_file_goes_in_parts_and_progress_is_told(gateway: Gateway, root: Path, tmp_path: Path) -> None:
    sha256 = large_file(tmp_path / "weights.bin", 70 * MIB)
    store = ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url)
    sent: list[int] = []
    stored = store.store_file(tmp_path / "weights.bin", advance=sent.append)
    assert (stored.size, stored.sha256) == (70 * MIB, sha256)
    assert sum(sent) == 70 * MIB
    assert len(sent) > 2
    assert sha256_of(root / "run" / "weights.bin") == sha256
    assert seen_files(root) == {"run/weights.bin"}


def test_what_is_stored_already_is_not_sent_again(
    gateway: Gateway, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large_file(tmp_path / "weights.bin", 40 * MIB)
    (tmp_path / "small").write_text("small")
    for name in ("weights.bin", "small"):
        ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url).store_file(tmp_path / name)
        before = (root / "run" / name).stat()
        sent: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(files._PartedUpload, "_send_part", lambda *_: pytest.fail("it was sent"))
            again = ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url)
            assert again.store_file(tmp_path / name, resume=True, advance=sent.append).size == before.st_size
        after = (root / "run" / name).stat()
        assert (after.st_ino, after.st_mtime_ns, after.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
        assert sum(sent) == before.st_size
    (tmp_path / "small").write_text("SMALL")
    again.store_file(tmp_path / "small", resume=True)
    assert (root / "run" / "small").read_text() == "SMALL"


UPLOAD = """
import sys
from pathlib import Path
from runtide.artifacts.store import ArtifactStore

store = ArtifactStore("mlflow-artifacts:/run", gateway=sys.argv[1])
done = 0

def advance(count):
    global done
    done += count
    print(done, flush=True)

stored = store.store_file(Path(sys.argv[2]), resume="resume" in sys.argv, advance=advance)
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print("memory", int(peak) * 1024, "stored", stored.sha256, flush=True)
"""


def upload(url: str, file: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", UPLOAD, url, str(file), *options], stdout=subprocess.PIPE, text=True)


def finished(process: "subprocess.Popen[str]") -> list[str]:
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return said.splitlines()


@pytest.mark.slow
def test_a_killed_client_goes_on_where_it_was(gateway: Gateway, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    sha256 = large_file(file, 300 * MIB)
    first = upload(gateway.url, file)
    assert first.stdout is not None
    assert int(first.stdout.readline()) >= files.PART_BYTES
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    assert not (root / "run" / "weights.bin").exists()
    (upload_file,) = (root / RESERVED).iterdir()
    received = upload_file.stat().st_size
    assert files.PART_BYTES <= received < 300 * MIB
    *told, last = finished(upload(gateway.url, file, "resume"))
    assert int(told[0]) >= received, "it went on, and did not begin anew"
    assert last.endswith(f"stored {sha256}")
    assert sha256_of(root / "run" / "weights.bin") == sha256
    memory = int(last.split()[1])
    print(f"a client that sends 300 MiB has at most {memory / MIB:.0f} MiB")
    assert memory < 120 * MIB


@pytest.mark.slow
def test_a_changed_file_begins_anew(gateway: Gateway, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    large_file(file, 100 * MIB)
    first = upload(gateway.url, file)
    assert first.stdout is not None
    first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    with file.open("r+b") as changed:
        changed.write(b"changed")
    told = finished(upload(gateway.url, file, "resume"))
    assert int(told[0]) == files.PART_BYTES
    assert sha256_of(root / "run" / "weights.bin") == sha256_of(file)


@pytest.mark.slow
def test_a_gateway_that_is_killed_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    root = tmp_path / "root"
    file = tmp_path / "weights.bin"
    sha256 = large_file(file, 300 * MIB)
    with artifact_gateway(tmp_path, str(root)) as gateway:
        port = int(gateway.url.rpartition(":")[2])
        process = upload(gateway.url, file)
        assert process.stdout is not None
        process.stdout.readline()
        assert gateway.process is not None
        gateway.process.kill()
    assert not (root / "run" / "weights.bin").exists()
    with artifact_gateway(tmp_path, str(root), port=port):
        *told, last = finished(process)
        assert last.endswith(f"stored {sha256}")
        assert int(told[-1]) == 300 * MIB
    assert sha256_of(root / "run" / "weights.bin") == sha256
    assert seen_files(root) == {"run/weights.bin"}


@pytest.mark.slow
def test_a_gateway_on_s3_goes_on_after_a_kill_and_takes_little_memory(tmp_path: Path) -> None:
    file, root = tmp_path / "weights.bin", f"s3://bucket/{uuid.uuid4().hex}"
    sha256 = large_file(file, 300 * MIB)
    with running_s3() as s3:
        with artifact_gateway(tmp_path, root, s3) as gateway:
            port = int(gateway.url.rpartition(":")[2])
            process = upload(gateway.url, file)
            assert process.stdout is not None
            process.stdout.readline()
            assert gateway.process is not None
            gateway.process.kill()
        with artifact_gateway(tmp_path, root, s3, port=port) as gateway:
            assert gateway.process is not None
            before = peak_memory(gateway.process.pid)
            assert finished(process)[-1].endswith(f"stored {sha256}")
            grown = peak_memory(gateway.process.pid) - before
            print(f"300 MiB to S3 in parts: the gateway's peak grew by {grown / MIB:.0f} MiB")
            assert grown < 250 * MIB, "140 to 170 MiB, S3's client itself among it, whether the file has 70 MiB or 500"
        fsspec.filesystem("s3").invalidate_cache()
        with fsspec.open(f"{root}/run/weights.bin", "rb") as stored:
            assert hashlib.file_digest(stored, "sha256").hexdigest() == sha256
        assert fsspec.filesystem("s3").find(root) == [f"{root}/run/weights.bin".removeprefix("s3://")]


@pytest.mark.slow
def test_parts_that_were_damaged_on_the_gateway_are_sent_anew(gateway: Gateway, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    sha256 = large_file(file, 100 * MIB)
    first = upload(gateway.url, file)
    assert first.stdout is not None
    first.stdout.readline()
    first.send_signal(signal.SIGKILL)
    first.wait()
    first.stdout.close()
    (received,) = (root / RESERVED).iterdir()
    with received.open("r+b") as damaged:
        damaged.write(b"damaged")
    assert finished(upload(gateway.url, file, "resume"))[-1].endswith(f"stored {sha256}")
    assert sha256_of(root / "run" / "weights.bin") == sha256


def test_a_file_that_changes_while_it_is_sent_is_refused(
    gateway: Gateway, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = files._measured
    for size in (MIB, 40 * MIB):
        large_file(tmp_path / "weights.bin", size)

        def changed(data: object, start: int) -> tuple[int, str]:
            found = really(data, start)  # type: ignore[arg-type]  # an open file
            with (tmp_path / "weights.bin").open("r+b") as file:
                file.write(b"changed")
            return found

        with monkeypatch.context() as patch:
            patch.setattr(files, "_measured", changed)
            with pytest.raises(runtide.InvalidRequest, match="nothing was stored"):
                ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url).store_file(tmp_path / "weights.bin")
        assert seen_files(root) == set()


def test_a_gateway_that_stays_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.5)
    store, before = ArtifactStore("mlflow-artifacts:/run", gateway="http://127.0.0.1:1"), time.monotonic()
    with pytest.raises(runtide.TransientError, match=r"cannot store artifact 'a'.*127\.0\.0\.1:1 did not answer"):
        store.store_bytes(b"x", "a")
    with pytest.raises(runtide.TransientError, match="cannot read artifact 'a'"):
        store.read_bytes("a")
    assert 1 < time.monotonic() - before < 60
    with pytest.raises(runtide.InvalidRequest, match="RUNTIDE_GATEWAY"):
        ArtifactStore("mlflow-artifacts:/run").store_bytes(b"x", "a")


@pytest.mark.slow
def test_a_gateway_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE_S", 0.5)
    (tmp_path / "root").write_text("no folder")
    with artifact_gateway(tmp_path, str(tmp_path / "root")) as gateway:
        store = ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url)
        with pytest.raises(runtide.TransientError, match="cannot be opened"):
            store.store_bytes(b"x", "a")


def test_tokens_open_and_wrong_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("token-of-this-gateway")
    (tmp_path / "token").chmod(0o600)
    token = {"RUNTIDE_GATEWAY_TOKEN_FILE": str(tmp_path / "token")}
    with artifact_gateway(tmp_path, str(tmp_path / "root"), token) as gateway:
        for wrong in ("", "wrong"):
            monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN", wrong)
            with pytest.raises(runtide.FatalError, match="RUNTIDE_GATEWAY_TOKEN"):
                ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url).store_bytes(bytes(4 * MIB), "a")
        monkeypatch.delenv("RUNTIDE_GATEWAY_TOKEN")
        monkeypatch.setenv("RUNTIDE_GATEWAY_TOKEN_FILE", str(tmp_path / "token"))
        store = ArtifactStore("mlflow-artifacts:/run", gateway=gateway.url)
        store.store_bytes(b"x", "a")
        assert store.read_bytes("a") == b"x"
        assert store.read_bytes("b") is None


@pytest.mark.slow
def test_a_folder_is_gone_on_with_by_another_process(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    store = ArtifactStore((tmp_path / "store").as_uri())
    store.store_file(tmp_path / "a")
    before = (tmp_path / "store" / "a").stat()
    sent: list[int] = []
    again = ArtifactStore((tmp_path / "store").as_uri())
    assert again.store_file(tmp_path / "a", resume=True, advance=sent.append).size == sum(sent) == 7
    assert (tmp_path / "store" / "a").stat() == before
    for text in ("CONTENT", "longer content"):
        (tmp_path / "a").write_text(text)
        ArtifactStore((tmp_path / "store").as_uri()).store_file(tmp_path / "a", resume=True)
        assert (tmp_path / "store" / "a").read_text() == text
    os.utime(tmp_path / "store" / "a", (1, 1))
    ArtifactStore((tmp_path / "store").as_uri()).store_file(tmp_path / "a")
    assert (tmp_path / "store" / "a").stat().st_mtime != 1, "unless asked, it is stored again"


@pytest.mark.slow
def test_uploads_end_with_the_process(gateway: Gateway, tmp_path: Path) -> None:
    """The gateway holds no lock, thread or descriptor for a client that has gone."""
    large_file(tmp_path / "weights.bin", 100 * MIB)
    assert gateway.process is not None
    descriptors = Path(f"/proc/{gateway.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(3):
        process = upload(gateway.url, tmp_path / "weights.bin")
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
    wait_until(lambda: len(list(descriptors.iterdir())) <= before, "descriptors are closed")
    assert finished(upload(gateway.url, tmp_path / "weights.bin", "resume"))[-1].startswith("memory")
