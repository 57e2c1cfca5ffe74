"""What others know of the process that owns a fold's file: the code that it folds by, and where it answers."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import pytest

from runtide_consumers.counters import Counters
from runtide_consumers.duckdb.custom_layout import FoldLayout
from runtide_consumers.duckdb.generations import Generations
from runtide_consumers.duckdb.owner_client import OwnerClient
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.queries import Queries
from runtide_consumers.duckdb.rebuild import DuckdbStore
from runtide_consumers.duckdb.server import Server, build_app, listen
from runtide_consumers.duckdb.settings import DuckdbSettings
from runtide_consumers.duckdb.snapshots import Snapshots
from runtide_consumers.rebuild.code import hash_of_code
from runtide_consumers.rebuild.procedure import Wishes, roll_back
from runtide_consumers.rebuild.watch import LogWatch
from runtide_queries.projections import OWNER_NOTE, OtherProjections
from runtide_schemas.errors import FatalError, InvalidRequest, TransientError
from tests.custom_projections import EXAMPLE
from tests.parked_log import OTHER, RUN, Loop, ParkedLog
from tests.unit.custom_fold_file import opened, points

FOLD = """
from runtide_consumers.duckdb.custom import DuckdbFold

class Fold(DuckdbFold):
    topics = frozenset({"runtide.runs"})
    tables = {"t": "run_id"}
    def create(self, connection):
        connection.execute("CREATE TABLE t (run_id VARCHAR)")
    def fold(self, connection, new):
        pass
"""


@asynccontextmanager
async def answering(projection: DuckdbProjection, settings: DuckdbSettings, code: str) -> AsyncIterator[OwnerClient]:
    """Answer as the owner's process does."""
    queries, snapshots = Queries(projection.owner, settings), Snapshots(projection.owner, settings)
    app = build_app("token", queries, snapshots, projection, Counters(), settings.served_hosts, code)
    server, sock = Server(app), listen("127.0.0.1", 0)
    serving = asyncio.create_task(server.serve([sock]))
    try:
        yield OwnerClient(f"http://127.0.0.1:{sock.getsockname()[1]}", "token")
    finally:
        server.should_exit = True
        await serving
        queries.close()


async def test_a_rebuild_waits_for_an_owner_that_has_the_new_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, settings = tmp_path / "changing_fold.py", DuckdbSettings(file=tmp_path / "file.duckdb")
    module.write_text(FOLD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "changing_fold", raising=False)
    kind = import_module("changing_fold").Fold
    layout = FoldLayout("gradients", kind())
    async with opened(settings.file, kind) as projection:
        async with answering(projection, settings, hash_of_code(layout.code)) as owner:
            store = DuckdbStore(settings, owner, layout)
            assert not await store.prepare("first")
            module.write_text(FOLD + "# changed\n")
            with pytest.raises(
                FatalError, match="restart the projection with the code that lies here first, then rebuild"
            ):
                await store.prepare("second")
            with pytest.raises(FatalError, match="restart the projection"):
                async with store.halted():
                    pass
        async with answering(projection, settings, hash_of_code(layout.code)) as owner:
            assert not await DuckdbStore(settings, owner, layout).prepare("second")


async def test_a_file_of_other_code_is_not_gone_back_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module, settings = tmp_path / "changing_fold.py", DuckdbSettings(file=tmp_path / "file.duckdb")
    module.write_text(FOLD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "changing_fold", raising=False)
    layout = FoldLayout("gradients", import_module("changing_fold").Fold())
    store, first, second = DuckdbStore(settings, None, layout), settings.file, tmp_path / "file.duckdb.g1"
    await made(DuckdbProjection(settings, layout))
    module.write_text(FOLD + "# changed\n")
    await made(store.new())
    await store.exchange(second, None)
    with pytest.raises(InvalidRequest, match=r"was made by other code of changing_fold than lies here.* or leave it"):
        await store.roll_back()
    assert Generations(first).live == second
    module.write_text(FOLD)
    projection = DuckdbProjection(settings, layout)
    await projection.open()
    async with answering(projection, settings, "of the code that was changed") as owner:
        with pytest.raises(
            FatalError, match="restart the projection with the code that lies here first, then roll back"
        ):
            await DuckdbStore(settings, owner, layout).roll_back()
    await projection.close()
    await store.roll_back()
    assert Generations(first).live == first


async def made(projection: DuckdbProjection) -> None:
    """Make a projection's file."""
    await projection.open()
    await projection.close()


async def test_a_rollback_takes_no_wishes_of_a_rebuild(tmp_path: Path) -> None:
    store = DuckdbStore(DuckdbSettings(file=tmp_path / "file.duckdb"), None)
    for wishes in (Wishes(accept_differences=True), Wishes(from_version=1)):
        with pytest.raises(InvalidRequest, match="leave out --accept-differences and --from-version"):
            await roll_back(store, LogWatch(), wishes)
    with pytest.raises(InvalidRequest, match="no file to go back to"):
        await roll_back(store, LogWatch(), Wishes())


async def test_the_page_shows_how_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    settings, log = DuckdbSettings(file=tmp_path / "file.duckdb"), ParkedLog()
    log.append(points(RUN, "a", range(100, 102)), "w0", 0)
    log.append(points(OTHER, "b", range(3)), "w1", 0)
    async with opened(settings.file, import_module("gradient_rollups").GradientRollups) as projection:
        loop = Loop(projection)
        await loop.start()
        await loop.read_on(log)
        async with answering(projection, settings, "") as owner:
            write_note(tmp_path, owner._url)
            command = (sys.executable, str(EXAMPLE / "ask_gradients.py"), str(tmp_path / "gradients"))
            asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
            told, _ = await asking.communicate()
    assert told.decode() == f"{{'run_id': '{OTHER}', 'layer': 'b', 'first_step': 0, 'vanishing': 1}}\n"


def write_note(folder: Path, url: str) -> None:
    """Say that the projection is answered for at ``url``."""
    note = folder / "gradients" / OWNER_NOTE
    note.parent.mkdir(exist_ok=True)
    token = folder / "token"
    token.write_text("token")
    note.write_text(json.dumps({"name": "gradients", "topics": [], "url": url, "token_file": str(token)}))


async def test_the_gateway_lets_go_of_a_process_that_was_replaced(tmp_path: Path) -> None:
    others, seen = OtherProjections(tmp_path), []
    for port in range(1, 6):
        write_note(tmp_path, f"http://127.0.0.1:{port}")
        seen.append(others.named("gradients"))
        await asyncio.sleep(0)
    await others.closing()
    assert [one.store._client.is_closed for one in seen] == [True, True, True, True, False]
    with pytest.raises(TransientError, match="started anew meanwhile"):
        await seen[0].positions()
    await others.close()
    assert seen[-1].store._client.is_closed


async def test_who_is_asking_it_is_answered_first(tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def answering_late(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer.wait()
        body = b'{"positions": {"runtide.runs": {"0": 7}}}'
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answering_late, "127.0.0.1", 0)
    others = OtherProjections(tmp_path)
    write_note(tmp_path, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    one = others.named("gradients")
    asking = asyncio.create_task(one.positions())
    await asked.wait()
    write_note(tmp_path, "http://127.0.0.1:1")
    others.named("gradients")
    await others.closing()
    answer.set()
    assert await asking == {("runtide.runs", 0): 7}
    await others.closing()
    assert one.store._client.is_closed
    await others.close()
    server.close()
    await server.wait_closed()
