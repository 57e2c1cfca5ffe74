"""Projections of an operator's own: the page's example in this process, and what is said of those that are not right."""

import argparse
import asyncio
import math
import sys
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import duckdb
import pytest
from typer.testing import CliRunner

from runtide.kafka import KafkaSettings
from runtide_consumers.decoding import decode_record
from runtide_consumers.duckdb.custom import Connection, DuckdbFold, NewEvents, run_over
from runtide_consumers.duckdb.custom_layout import check_fold
from runtide_consumers.project import listed, main
from runtide_consumers.rebuild.comparison import compare
from runtide_consumers.registered import load, registrations
from runtide_deploy.cli.main import app
from runtide_deploy.cli.up import standalone_settings
from runtide_deploy.standalone.data_directory import DataDirectory
from runtide_deploy.standalone.service_table import Plan, service_table
from runtide_schemas.errors import FatalError, InvalidRequest
from runtide_schemas.events.metrics import MetricsLogged
from runtide_schemas.events.runs import RunDeleted, RunPurged, RunRestored
from tests.custom_projections import EXAMPLE, install
from tests.parked_log import OTHER, RUN, Loop, ParkedLog
from tests.unit.custom_fold_file import opened, points, some_log
from tests.unit.duckdb_file import rows
from tests.unit.event_log import AT

PAGE = Path(__file__).parents[2] / "consumers" / "PROJECTIONS.md"


@pytest.fixture
def rollups(monkeypatch: pytest.MonkeyPatch) -> type[DuckdbFold]:
    """The example's class."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    found: type[DuckdbFold] = import_module("gradient_rollups").GradientRollups
    return found


def test_the_page_shows_the_example_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, language in (
        ("gradient_rollups.py", "python"),
        ("pyproject.toml", "toml"),
        ("ask_gradients.py", "python"),
    ):
        assert f"```{language}\n{(EXAMPLE / name).read_text(encoding='utf-8')}```" in text, name


async def test_the_example_forgets_a_purged_run_wherever_its_points_stand(
    tmp_path: Path, rollups: type[DuckdbFold]
) -> None:
    log, restored, never_deleted = some_log(), "c" * 32, "d" * 32
    for run_id in (restored, never_deleted):
        log.append(points(run_id, "layer0", range(5)), f"w{run_id[0]}", 0)
    for run_id, facts in (
        (RUN, (RunDeleted, RunPurged, RunRestored)),
        (restored, (RunDeleted, RunRestored, RunPurged)),
        (never_deleted, (RunPurged, RunDeleted)),
    ):
        for number, fact in enumerate(facts):
            log.append(fact(run_id=run_id, at=AT), "0" * 32, ord(run_id[0]) * 10 + number)
    log.append(points(RUN, "layer0", range(5)), "late", 0)
    for seed in range(2):
        async with opened(tmp_path / f"{seed}.duckdb", rollups) as projection:
            loop = Loop(projection)
            await loop.start()
            while await loop.read(log, Random(seed), 12):
                pass
            found = await rows(projection, "SELECT run_id, sum(points) FROM layers GROUP BY ALL ORDER BY ALL")
            assert found == [(OTHER, 360), (restored, 5), (never_deleted, 5)]
            assert await rows(projection, "SELECT run_id, name FROM runs WHERE stage = 'purged'") == [(RUN, None)]


async def test_the_example_counts_no_infinity_as_vanishing(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    log, values = ParkedLog(), [math.inf, -math.inf, math.nan, 0.0, -1.0]
    log.append(points(RUN, "a", range(5), values.__getitem__), "w0", 0)
    async with opened(tmp_path / "file.duckdb", rollups) as projection:
        loop = Loop(projection)
        await loop.start()
        await loop.read_on(log)
        assert await rows(projection, "SELECT not_finite, vanishing FROM layers") == [(3, 1)]


def test_points_come_in_columns_with_their_names() -> None:
    log = ParkedLog()
    log.append(points(RUN, "a", range(2)), "w0", 0)
    log.append(points(OTHER, "b", range(5, 6), lambda _: math.nan), "w1", 0)
    events = [event for event, _ in NewEvents(_events(log)).of(MetricsLogged)]
    table = NewEvents(events).points().to_pylist()
    found = sorted(tuple(row.values())[:5] for row in table)
    assert found == sorted(
        [
            *((RUN, "w0", "gradient_norm/a", step, AT) for step in range(2)),
            (OTHER, "w1", "gradient_norm/b", 5, AT),
        ]
    )
    assert [math.isnan(row["value"]) for row in table if row["run_id"] == OTHER] == [True]
    assert NewEvents(()).points().num_rows == 0


def _events(log: ParkedLog) -> Any:
    return [decode_record(record) for records in log.partitions.values() for record in records]


async def test_a_fold_counts_each_point_once_however_it_is_cut_and_killed(
    tmp_path: Path, rollups: type[DuckdbFold]
) -> None:
    log, answers = some_log(), []
    for seed in range(5):
        async with opened(tmp_path / f"{seed}.duckdb", rollups) as projection:
            loop, random = Loop(projection), Random(seed)
            await loop.start()
            while await loop.read(log, random, 5):
                if random.random() < 0.3:
                    await loop.start()
            answers.append(await rows(projection, "FROM layers ORDER BY ALL"))
            assert await rows(projection, "SELECT sum(points) FROM layers") == [(720,)]
        if seed:
            assert answers[seed] == answers[0]
    assert answers[0][0] == (RUN, "layer0", 0, 60, 0, 1, 0.0, 59.0)


async def test_a_rebuilt_file_is_compared_entity_by_entity(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    log = some_log()
    async with opened(tmp_path / "one.duckdb", rollups) as one, opened(tmp_path / "two.duckdb", rollups) as two:
        for seed, projection in enumerate((one, two)):
            loop = Loop(projection)
            await loop.start()
            await loop.read_all(log, Random(seed))
        layout, live, rebuilt = one.layout, *[await p.owner.run(p.layout.digests) for p in (one, two)]
        same = await compare(live, rebuilt, layout.shares)
        assert (same.differences, same.entities > 2) == ((), True)
        await rows(two, f"UPDATE layers SET points = points + 1 WHERE run_id = '{RUN}' AND first_step = 100")
        [difference] = (await compare(live, rebuilt, layout.shares)).differences
        assert (difference.key, difference.tables) == (RUN, ('"layers"',))


async def test_tables_and_their_names_have_to_agree(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    class Unnamed(rollups):  # type: ignore[misc, valid-type]
        """Names one of two."""

        tables: ClassVar = {"layers": "run_id"}

    class Misnamed(rollups):  # type: ignore[misc, valid-type]
        """Names a column that is none."""

        tables: ClassVar = {"layers": "run", "runs": "run_id"}

    class Broken(rollups):  # type: ignore[misc, valid-type]
        """No SQL."""

        def create(self, connection: Connection) -> None:
            connection.execute("CREATE TABEL layers")

    for kind, message in ((Unnamed, "names \\['layers'\\]"), (Misnamed, "'layers': 'run'"), (Broken, "create failed")):
        with pytest.raises(FatalError, match=message):
            async with opened(tmp_path / f"{kind.__name__}.duckdb", kind):
                pass


async def test_another_layout_version_is_refused_with_what_to_do(tmp_path: Path, rollups: type[DuckdbFold]) -> None:
    async with opened(tmp_path / "file.duckdb", rollups):
        pass
    newer = type("Newer", (rollups,), {"layout_version": 2})
    with pytest.raises(FatalError, match=r"format version 1, .* version 2. Run `runtide rebuild gradients`"):
        async with opened(tmp_path / "file.duckdb", newer):
            pass


def test_a_class_that_is_no_whole_fold_is_told_what_it_lacks(rollups: type[DuckdbFold]) -> None:
    def kind(*bases: type, **members: Any) -> Any:
        return type("Kind", bases, members)

    lacking = {
        "lacks the method fold": kind(DuckdbFold, create=lambda *_: None),
        "lacks topics and tables": kind(DuckdbFold, create=lambda *_: None, fold=lambda *_: None),
        "topics has \\['runtide.run'\\]": kind(rollups, topics=frozenset({"runtide.run"})),
        "topics has nothing": kind(rollups, topics=frozenset()),
        "cannot name its tables \\['quarantine'\\]": kind(rollups, tables={"Quarantine": "entity"}),
        "layout_version is 0": kind(rollups, layout_version=0),
    }
    for message, found in lacking.items():
        with pytest.raises(FatalError, match=message):
            check_fold(found)


def test_ours_come_through_the_same_door() -> None:
    assert {"postgres", "duckdb"} <= set(registrations())
    for name in ("postgres", "duckdb"):
        assert load(name).name == name


BROKEN = {
    "absent": ("no_such_module:Fold", "cannot be imported: ModuleNotFoundError"),
    "unfinished": ("odd_projections:Unfinished", "lacks the method fold"),
    "thing": ("odd_projections:THING", "has to be a class"),
    "other": ("odd_projections:Other", "neither a DuckdbFold nor a Projection"),
    "half": ("odd_projections:Half", "it lacks name, topics, open, positions, blocked"),
    "raising": ("odd_projections:Raising", "cannot be used: ZeroDivisionError: division by zero"),
    "leaving": ("leaving_projections:Fold", "cannot be imported: "),
    "set": ("odd_projections:Set", "tables is {'t'}: make it a mapping"),
    "needy": ("odd_projections:Needy", "Needy has to be made without arguments: missing a required argument: 'x'"),
    "Bad Name": ("odd_projections:Half", "which is no name of a projection"),
}
ODD = """
from runtide_consumers.duckdb.custom import DuckdbFold
THING = 3

class Unfinished(DuckdbFold):
    def create(self, connection):
        pass

class Other:
    pass

class Raising:
    @classmethod
    def program(cls, name):
        return 1 / 0

class Whole(DuckdbFold):
    topics = frozenset({"runtide.runs"})
    tables = {"t": "run_id"}
    def create(self, connection):
        pass
    def fold(self, connection, new):
        pass

class Set(Whole):
    tables = {"t"}

class Needy(Whole):
    def __init__(self, x):
        pass

class Unmade(Whole):
    def __init__(self):
        raise LookupError("no such thing")

class Half:
    async def apply(self, batch):
        pass
"""


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where projections are installed that cannot be used."""
    install(tmp_path, "odd_projections", {name: value for name, (value, _) in BROKEN.items()}, ODD)
    (tmp_path / "leaving_projections.py").write_text("raise SystemExit(1)")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_projections", raising=False)
    return tmp_path


def test_a_projection_that_cannot_be_used_says_why_and_disturbs_no_other(odd: Path) -> None:
    for name, (_, message) in BROKEN.items():
        with pytest.raises(FatalError, match=message):
            load(name)
    lines = dict(line.split(maxsplit=1) for line in listed())
    assert lines["duckdb"].startswith("Fold the log into one DuckDB file")
    assert "cannot be run" in lines["absent"]
    with pytest.raises(InvalidRequest, match=r"no projection is called 'lost'; registered are .*duckdb"):
        load("lost")


PLAIN = """
from runtide_consumers.duckdb.projection import DuckdbProjection
from runtide_consumers.duckdb.settings import DuckdbSettings

class Plain(DuckdbProjection):
    def __init__(self):
        super().__init__(DuckdbSettings(file="never-opened.duckdb"))
"""


async def test_any_projection_can_be_run_but_not_rebuilt(odd: Path) -> None:
    install(odd, "plain_projection", {"plain": "plain_projection:Plain"}, PLAIN)
    program = load("plain")
    with pytest.raises(InvalidRequest, match="plain is a projection over a store of its own"):
        program.store(argparse.Namespace())
    with pytest.raises(FatalError, match="calls itself 'duckdb' and is registered as 'plain'"):
        await program.serve(argparse.Namespace(), asyncio.Event(), lambda _: None)


def test_a_stack_runs_those_that_it_is_told_of_by_the_command_of_ours(tmp_path: Path) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.prepare()
    settings = standalone_settings({"project": "gradients, duckdb,gradients"})
    plan = Plan(
        directory=directory,
        ports={"gateway": 1, "history": 2},
        kafka=KafkaSettings(),
        own_broker=False,
        kafka_option="",
        java=(),
        cluster=None,
        dsn="",
        reader_dsn="",
        partitions=8,
        projections=settings.projections,
    )
    services = {service.name: service for service in service_table(plan)}
    commands = {name: list(service.command[2:4]) for name, service in services.items() if "projector" in name}
    assert commands == {
        f"projector-{name}": ["runtide_consumers.project", name] for name in ("postgres", "duckdb", "gradients")
    }
    folder = services["projector-gradients"].env["RUNTIDE_PROJECTIONS_FOLDER"]
    assert folder == services["gateway"].env["RUNTIDE_GATEWAY_PROJECTIONS"]


def test_each_projector_of_a_stack_has_a_port_of_its_own_for_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = DataDirectory(tmp_path)
    directory.prepare()
    plan = Plan(
        directory=directory,
        ports={"gateway": 1, "history": 2},
        kafka=KafkaSettings(),
        own_broker=False,
        kafka_option="",
        java=(),
        cluster=None,
        dsn="",
        reader_dsn="",
        partitions=8,
        projections=("gradients", "duckdb", "other"),
    )

    def ports() -> dict[str, str | None]:
        found = {service.name: service.env.get("RUNTIDE_METRICS_PORT") for service in service_table(plan)}
        return {name.removeprefix("projector-"): port for name, port in found.items() if "projector" in name}

    assert set(ports().values()) == {None}
    monkeypatch.setenv("RUNTIDE_METRICS_PORT", "0")
    assert set(ports().values()) == {None}, "each finds one for itself"
    monkeypatch.setenv("RUNTIDE_METRICS_PORT", "9105")
    assert ports() == {"postgres": "9105", "duckdb": "9106", "gradients": "9107", "other": "9108"}
    monkeypatch.setenv("RUNTIDE_METRICS_PORT", "99999")
    with pytest.raises(InvalidRequest, match="makes no sense: port: Input should be less than"):
        service_table(plan)


def test_two_packages_with_one_name_are_both_named(odd: Path) -> None:
    install(odd, "second_package", {"duckdb": "second_package:Fold"})
    with pytest.raises(FatalError, match=r"several packages register a projection 'duckdb': .*second[_-]package 1.0"):
        load("duckdb")
    assert load("postgres").name == "postgres"


def test_the_commands_tell_what_there_is_and_refuse_the_rest(odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert "cannot be run: the projection 'absent'" in capsys.readouterr().out
    assert main([]) == 2
    assert main(["absent"]) == 3
    assert "cannot be imported" in capsys.readouterr().err
    done = CliRunner().invoke(app, ["project", "--list"])
    assert (done.exit_code, "postgres" in done.output) == (0, True)
    done = CliRunner().invoke(app, ["project", "lost"])
    assert isinstance(done.exception, InvalidRequest)
    done = CliRunner().invoke(app, ["rebuild", "lost", "--rollback", "--data", str(odd)])
    assert isinstance(done.exception, InvalidRequest)


def test_a_statement_that_fails_says_why_within_a_transaction() -> None:
    connection = duckdb.connect()
    connection.execute("CREATE TABLE t (a INTEGER NOT NULL)")
    connection.execute("BEGIN")
    with pytest.raises(duckdb.ConstraintException):
        run_over(connection, "INSERT INTO t VALUES (NULL)", new=NewEvents(()).points())
    connection.execute("ROLLBACK")
