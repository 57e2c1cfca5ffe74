"""The gateway's artifacts between requests: leftovers go while it runs, and checking large files holds nobody else up."""

import asyncio
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtide.kafka import KafkaSettings
from runtide_queries.artifacts import Stored, storage
from runtide_queries.artifacts.storage import CHECKING_THREADS, MOST_CHECKS, ArtifactStorage, Upload
from runtide_queries.artifacts.tree import RESERVED
from runtide_queries.server import stores
from runtide_queries.server.settings import GatewaySettings
from runtide_schemas.errors import InvalidRequest, NotFound, TransientError

CONTENT = b"weights"
WHOLE = Upload("run/weights", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[ArtifactStorage]:
    kept = ArtifactStorage(str(tmp_path / "root"), 1000)
    yield kept
    kept.close()


def wait_until_gone(path: Path) -> None:
    deadline = time.monotonic() + 60
    while path.exists():
        assert time.monotonic() < deadline, f"{path} is still there"
        time.sleep(0.01)


async def test_leftovers_are_deleted_while_the_gateway_runs(
    kept: ArtifactStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "CLEAR_EVERY_S", 0.02)
    uploads = tmp_path / "root" / RESERVED
    async with stores.open_stores(GatewaySettings(), KafkaSettings(bootstrap="127.0.0.1:1"), kept):
        for round_ in ("first", "second"):
            left, new = uploads / ("a" * 64), uploads / round_
            left.write_bytes(b"x")
            new.write_bytes(b"x")
            os.utime(left, (1, 1))
            await asyncio.to_thread(wait_until_gone, left)
            assert new.exists()
            uploads.rename(tmp_path / "away")  # what cannot be cleared now is cleared later
            uploads.symlink_to(tmp_path)
            await asyncio.sleep(0.1)
            uploads.unlink()
            (tmp_path / "away").rename(uploads)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "clear artifacts" and not task.cancelling()]


async def test_checking_files_holds_nobody_else_up_and_is_bounded(
    kept: ArtifactStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kept.prepare()
    async with kept.storing(WHOLE.path) as storing:
        await storing.write(CONTENT)
        await storing.keep()
    go_on, at_once, most_at_once, has = threading.Event(), 0, 0, storage._has
    counting = threading.Lock()

    def slow(*arguments: object) -> bool:
        nonlocal at_once, most_at_once
        with counting:
            at_once += 1
            most_at_once = max(at_once, most_at_once)
        assert go_on.wait(120)
        with counting:
            at_once -= 1
        return has(*arguments)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(storage, "_has", slow)
    checks = [asyncio.create_task(kept.begin(WHOLE, resume=True)) for _ in range(MOST_CHECKS)]
    try:
        await asyncio.sleep(0)
        assert [entry.name for entry in await asyncio.wait_for(kept.entries("run"), 60)] == ["weights"]
        with pytest.raises(TransientError, match="try again"):
            await asyncio.wait_for(kept.begin(WHOLE, resume=True), 60)
        assert most_at_once <= CHECKING_THREADS
    finally:
        go_on.set()
    assert await asyncio.gather(*checks) == [(WHOLE.size, True)] * MOST_CHECKS
    assert await kept.begin(WHOLE, resume=True) == (WHOLE.size, True), "there is room again"


async def test_who_asks_again_for_an_upload_in_parts_gets_the_same_answer(kept: ArtifactStorage) -> None:
    await kept.prepare()
    upload, urls = await kept.begin_parts("run/large", 2, 60)
    assert urls == [], "a folder signs no URLs"
    for number, data in ((2, b"b"), (1, b"a")):
        async with kept.storing_part(upload, number) as storing:
            await storing.write(data)
            await storing.keep()
    parts = [(1, ""), (2, "")]
    with pytest.raises(InvalidRequest):
        await kept.complete_parts(upload, "run/large", parts[:1])
    both = await asyncio.gather(*(kept.complete_parts(upload, "run/large", parts) for _ in range(2)))
    again = await kept.complete_parts(upload, "run/large", parts)
    assert [*both, again] == [Stored(2, hashlib.sha256(b"ab").hexdigest())] * 3
    for _ in range(2):
        with pytest.raises(NotFound):
            await kept.complete_parts(upload, "run/other", parts)


@pytest.mark.parametrize(
    ("root", "uri", "path"),
    [
        ("/data/artifacts", "mlflow-artifacts:/1/abc/artifacts", "1/abc/artifacts"),
        ("/data/artifacts", "mlflow-artifacts:/a%20b", "a b"),
        ("/data/artifacts", "mlflow-artifacts://elsewhere/1", None),
        ("/data/artifacts", "mlflow-artifacts:/../x", None),
        ("/data/artifacts", "file:///data/artifacts/abc/artifacts", "abc/artifacts"),
        ("file:///data/artifacts/", "/data/artifacts/abc", "abc"),
        ("/data/artifacts", "file:/data/artifacts", ""),
        ("/data/artifacts", "file:///data/artifacts/a%20b", "a b"),
        ("/data/artifacts", "file:///data/artifacts-of-others/abc", None),
        ("/data/artifacts", "file:///data/artifacts/../secret", None),
        ("/data/artifacts", "file:///data/artifacts/%2e%2e/secret", None),
        ("/data/artifacts", "file:///data/artifacts/.runtide-uploads/x", None),
        ("/data/artifacts", "file:///data", None),
        ("/data/artifacts", "artifacts/abc", None),
        ("/data/artifacts", "s3://bucket/abc", None),
        ("/data/artifacts", "", None),
        ("memory://root/a", "memory://root/a/run/artifacts", "run/artifacts"),
        ("memory://root/a", "memory://root/b", None),
        ("memory://root/a", "file:///root/a", None),
        ("", "file:///data", None),
    ],
)
def test_what_lies_below_the_root(root: str, uri: str, path: str | None) -> None:
    storage = ArtifactStorage(root, 1)
    assert storage.kept_at(uri) == path
    storage.close()
