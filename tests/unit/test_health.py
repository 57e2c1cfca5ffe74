"""Health is progress: a fresh note and a broker that answers."""

import json
import re
import time
from pathlib import Path

import pytest

from runtide_consumers.progress import Progress
from runtide_deploy.health import main


@pytest.fixture
def note(tmp_path: Path) -> Path:
    return tmp_path / "progress.json"


def check(note: Path, *options: str) -> int:
    return main(["--file", str(note), *options])


def test_a_process_that_has_just_gone_round_is_healthy(note: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Progress(note).note(time.time(), lag=7)
    assert check(note) == 0
    assert capsys.readouterr().out == "healthy: lag 7\n"


def test_one_that_never_went_round_is_not(note: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(note) == 1
    assert "no progress yet" in capsys.readouterr().out


def test_the_note_of_an_earlier_process_does_not_count(note: Path) -> None:
    Progress(note).note(time.time())
    Progress(note)
    assert check(note) == 1


@pytest.mark.parametrize(
    ("at", "broker_at", "words"),
    [(-60, -60, r"no progress for 6\d s"), (0, -45, r"no answer from the broker for (4[5-9]|5\d) s")],
)
def test_one_that_hangs_or_hears_nothing_of_the_broker_is_not(
    note: Path, at: float, broker_at: float, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    note.write_text(json.dumps({"at": now + at, "broker_at": now + broker_at, "lag": 3}))
    assert check(note) == 1
    assert re.search(words, capsys.readouterr().out)
    assert check(note, "--max-age", "120") == 0


def test_it_is_noted_once_a_second_at_most(note: Path) -> None:
    progress = Progress(note)
    progress.note(1.0)
    progress.note(2.0)
    assert json.loads(note.read_text())["broker_at"] == 1.0


def test_a_note_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Progress(tmp_path / "no" / "such" / "folder").note(1.0)
    assert "cannot note the progress" in caplog.text


def test_a_gateway_that_does_not_answer_is_not_healthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gateway", "http://127.0.0.1:9"]) == 1
    assert "no answer from http://127.0.0.1:9" in capsys.readouterr().out


def test_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("RUNTIDE_PROGRESS_FILE", raising=False)
    with pytest.raises(SystemExit):
        main([])
    assert "RUNTIDE_PROGRESS_FILE" in capsys.readouterr().err
