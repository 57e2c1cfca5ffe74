"""What others have written is printed as it is: no markup of ours, and nothing that a terminal obeys."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from rich.console import Console

from runtide.connection import StackFile
from runtide_consumers.purge.settings import PurgeSettings
from runtide_deploy.cli import gateway as api
from runtide_deploy.cli import main
from runtide_deploy.cli.check import writers_table
from runtide_deploy.cli.diff import differences_table
from runtide_deploy.cli.entities import resolve_entity, resolve_run
from runtide_deploy.cli.formatting import plain
from runtide_deploy.cli.log import events_table, history_table
from runtide_deploy.cli.runs import _print_run, runs_table
from runtide_schemas.errors import InvalidRequest

HOSTILE = "run [/b] [lr=0.1] \x1b[2J\x07\u202eend"
SHOWN = "run [/b] [lr=0.1] \\x1b[2J\\x07\\u202eend"
RUN = {
    "info": {
        **dict.fromkeys(("name", "experiment_name", "end_reason", "source_name", "source_version", "user_id"), HOSTILE),
        **dict.fromkeys(("run_id", "experiment_id", "parent_run_id"), "a" * 32),
        **dict.fromkeys(("start_time", "end_time", "silent_since"), 1),
        "status": "FINISHED",
    },
    "params": {HOSTILE: HOSTILE},
    "tags": {HOSTILE: HOSTILE},
    "metrics": {HOSTILE: dict.fromkeys(("last_value", "last_step", "min_value", "max_value", "point_count"), 1)},
}
WRITER = {
    **dict.fromkeys(("host", "client", "close_reason"), HOSTILE),
    **dict.fromkeys(("rank", "pid", "opened_at", "closed_at", "received", "final_count"), 1),
    "writer_id": HOSTILE,
    "topic": "runtide.runs",
    "missing": [],
    "state": "complete",
}
DETAIL: dict[str, Any] = {
    "run": RUN,
    "receipt": None,
    "artifacts": [{"path": HOSTILE, "size": 1, "content_type": HOSTILE}],
    "inputs": [{"name": HOSTILE, "digest": "d", "source": HOSTILE}],
    "logged_models": [{"model_id": "m-1", "name": HOSTILE, "status": "READY"}],
    "model_versions": [{"name": HOSTILE, "version": 1}],
    "param_conflicts": [{"key": HOSTILE, "value": HOSTILE}],
    "writers": [WRITER],
}
RECEIPT = {
    **dict.fromkeys(("deleted_by", "purged_by", "reason", "checksum"), HOSTILE),
    **dict.fromkeys(("points", "metrics", "params", "tags", "inputs", "artifacts", "models", "points_seen"), 1),
    **dict.fromkeys(("late_events", "deleted_at", "purged_at", "files_removed", "bytes_removed", "model_folders"), 0),
}
CHANGE = {"what": HOSTILE, "change": "added", "before": None, "after": HOSTILE, "event": None}
LOGGED = {
    "envelope": {"id": "1", "time": "t", "type": HOSTILE, "writer": HOSTILE, "seq": 0},
    "origin": {"topic": "runtide.runs", "partition": 0, "offset": 0},
    "body": {"name": HOSTILE},
}
EVENT = {
    "event_time": 1,
    "type": "TagsSet",
    "actor": HOSTILE,
    "topic": "runtide.runs",
    "partition": 0,
    "offset": 0,
    "summary": HOSTILE,
    "because": None,
}


def printed(show: Callable[[Console], None]) -> str:
    """Return what is printed where there is room for it."""
    file = io.StringIO()
    show(Console(file=file, width=1_000, highlight=False, force_terminal=False))
    return file.getvalue()


PRINTS: dict[str, tuple[Callable[[Console], None], int]] = {
    "runs": (lambda console: console.print(runs_table([RUN])), 3),
    "a run": (lambda console: _print_run(console, DETAIL, None), 22),
    "a deleted run": (lambda console: _print_run(console, {**DETAIL, "deletion": HOSTILE}, None), 23),
    "a receipt": (lambda console: _print_run(console, {**DETAIL, "receipt": RECEIPT}, None), 6),
    "check": (lambda console: console.print(writers_table([WRITER])), 2),
    "differences": (lambda console: console.print(differences_table([CHANGE])), 2),
    "events": (lambda console: console.print(events_table([LOGGED], 1_000)), 2),
    "history": (lambda console: console.print(history_table([EVENT], 1_000)), 2),
}


@pytest.mark.parametrize("what", PRINTS)
def test_names_are_printed_as_they_are_and_obeyed_by_nobody(what: str) -> None:
    show, times = PRINTS[what]
    text = printed(show)
    assert text.count(SHOWN) == times, text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_tabs_and_new_lines_stay() -> None:
    assert plain("a\tb\nc\r\x00") == "a\tb\nc\\r\\x00"


@pytest.mark.parametrize("run", ["", "a" * 31 + "?", "../" * 10 + "ab"])
def test_what_is_no_run_is_asked_of_nobody(run: str) -> None:
    nobody = "http://127.0.0.1:1"
    with pytest.raises(InvalidRequest, match=r"is empty|Invalid run id"):
        resolve_run(run, nobody)
    with pytest.raises(InvalidRequest):
        resolve_entity(run, nobody)


def test_the_gateway_is_the_one_of_the_directory_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIDE_GATEWAY", raising=False)
    monkeypatch.delenv("RUNTIDE_URI", raising=False)
    for name in ("mine", "other"):
        (tmp_path / name).mkdir()
        url = f"http://{name}:5050"
        StackFile(broker="b:1", gateway=url, artifacts="file:///a", pid=1, started_at=1).write(tmp_path / name)
    monkeypatch.setenv("RUNTIDE_DATA", str(tmp_path / "mine"))
    assert api.gateway_url("") == "http://mine:5050"
    assert api.gateway_url("", tmp_path / "other") == "http://other:5050"
    assert api.gateway_url("http://given:1/", tmp_path / "other") == "http://given:1"
    for wrong in ("localhost:5050", "http://[::1", "http://host:99999"):
        with pytest.raises(InvalidRequest, match="is no address of a gateway"):
            api.gateway_url(wrong)


def test_a_setting_that_makes_no_sense_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIDE_PURGE_AUTOMATIC", "may[/b]be")
    monkeypatch.setattr(main, "app", PurgeSettings)
    with pytest.raises(SystemExit, match="2"):
        main.main()
    assert (
        "RUNTIDE_PURGE_...) makes no sense: purge automatic is 'may[/b]be': Input should be" in capsys.readouterr().err
    )
    monkeypatch.setattr(main, "app", lambda: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        main.main()


def test_a_setting_that_is_missing_tells_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class SecretSettings(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="RUNTIDE_SECRET_")
        password: SecretStr
        host: str

    monkeypatch.setenv("RUNTIDE_SECRET_PASSWORD", "open sesame")
    monkeypatch.setattr(main, "app", SecretSettings)
    with pytest.raises(SystemExit, match="2"):
        main.main()
    told = capsys.readouterr().err
    assert "secret host: Field required" in told
    assert "sesame" not in told
