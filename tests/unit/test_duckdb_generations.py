"""The pointer to the live DuckDB file: what it says at every moment, and what becomes of older files."""

import os
from pathlib import Path

import pytest

from runtide_consumers.duckdb.generations import Generations, made_by_file
from runtide_schemas.errors import FatalError, TransientError


def made(path: Path) -> Path:
    path.write_bytes(path.name.encode())
    return path


def test_without_a_pointer_the_named_file_is_the_live_one(tmp_path: Path) -> None:
    generations = Generations(tmp_path / "history.duckdb")
    assert (generations.live, generations.previous) == (tmp_path / "history.duckdb", None)
    assert generations.next().name == "history.duckdb.g1"
    assert generations.unfinished == []


def test_one_generation_is_kept_and_numbers_are_never_used_again(tmp_path: Path) -> None:
    generations = Generations(made(tmp_path / "history.duckdb"))
    for number in range(1, 4):
        new = made(generations.next())
        assert new.name == f"history.duckdb.g{number}"
        assert generations.unfinished == [new]
        made(made_by_file(new))
        generations.turn_to(new)
        assert (generations.live, generations.unfinished) == (new, [])
    assert {path.name for path in tmp_path.iterdir()} == {
        "history.duckdb.live",
        "history.duckdb.g2",
        "history.duckdb.g3",
        "history.duckdb.g3.made-by",
        "history.duckdb.g2.made-by",
    }
    generations.turn_to(tmp_path / "history.duckdb.g2")
    assert (generations.live.name, generations.next().name) == ("history.duckdb.g2", "history.duckdb.g4")
    previous = generations.previous
    assert previous is not None
    assert previous.read_bytes() == b"history.duckdb.g3"


@pytest.mark.parametrize("fails_at", ["fsync", "replace"])
def test_a_turn_that_fails_has_not_turned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str) -> None:
    generations = Generations(made(tmp_path / "history.duckdb"))
    generations.turn_to(made(generations.next()))
    new = made(generations.next())

    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os if fails_at == "fsync" else Path, fails_at, refuse)
        with pytest.raises(TransientError, match="No space left"):
            generations.turn_to(new)
    assert generations.live.read_bytes() == b"history.duckdb.g1"
    assert generations.unfinished == [new]
    generations.turn_to(new)
    assert generations.live == new


def test_only_files_of_the_store_can_be_named(tmp_path: Path) -> None:
    generations = Generations(made(tmp_path / "history.duckdb"))
    made(tmp_path / "other.duckdb")
    for name in ("other.duckdb", "../history.duckdb", "history.duckdb.g7", "history.duckdb.live", ""):
        with pytest.raises(FatalError, match=r"has no file .* of history\.duckdb"):
            generations.named(name)
    assert generations.named("history.duckdb") == tmp_path / "history.duckdb"


def test_a_damaged_pointer_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "history.duckdb.live").write_text("{")
    with pytest.raises(FatalError, match="says which file is the live one"):
        _ = Generations(tmp_path / "history.duckdb").live
