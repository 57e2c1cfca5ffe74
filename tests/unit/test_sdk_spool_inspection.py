"""``runtide spool``: spools are listed, checked and exported, and not touched."""

import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import fastavro
import pytest
from typer.testing import CliRunner

from runtide.spool import liveness
from runtide.spool.inspection import summarize, verify
from runtide.spool.limits import SpoolLimits
from runtide.spool.segment import SegmentReader, segment_files
from runtide.spool.writer_spool import WriterSpool
from runtide_deploy.cli.main import app
from runtide_schemas import topics
from runtide_schemas.errors import FatalError, InvalidRequest
from runtide_schemas.events.runs import ParamsLogged

RUN = "ab" * 16


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriterSpool:
    monkeypatch.setenv("RUNTIDE_SPOOL", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    spool = WriterSpool.create(tmp_path, RUN, SpoolLimits(), actor="alice")
    for number in range(4):
        spool.append(ParamsLogged(run_id=RUN, params={f"p{number}": "x" * 100}))
    loss = spool.keys.add("loss")
    spool.points.append(loss, 0, 1, 0.5)
    spool.seal()
    for step, value in ((1, float("nan")), (2, float("-inf"))):
        spool.points.append(loss, step, step, value)
    spool.acknowledge(topics.RUNS, 3)
    spool.save_acknowledged()
    return spool


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["spool", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def segment_of(spool: WriterSpool, topic: str) -> Path:
    return next(path for name, _, path in segment_files(spool.directory) if name == topic)


def test_a_list_says_what_is_there_and_who_takes_care_of_it(spool: WriterSpool) -> None:
    before = contents(spool.directory)
    code, text = run("ls")
    assert code == 0
    row = text.splitlines()[1].split()
    assert row[:2] == [RUN[:12], spool.manifest.writer_id[:8]]
    assert row[4:7] == ["5", "2", "2"], "run, writer, age and its unit come before"
    assert row[-1] == "live"
    (found,) = json.loads(run("ls", "--json")[1])
    assert (found["events"], found["unsent"], found["points"], found["state"]) == (5, 2, 2, "live")
    assert contents(spool.directory) == before


def test_the_state_of_a_spool_whose_writer_is_gone(spool: WriterSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "process_start", lambda _: 1)
    assert summarize(spool.directory).state == "being sent", "somebody holds the lock"
    spool.close(remove=False)
    assert summarize(spool.directory).state == "left behind"
    (spool.directory / "writer.json").write_text("{")
    found = summarize(spool.directory)
    assert found.state == "unreadable"
    assert "no manifest" in found.problem
    assert found.run_id == RUN


def test_nothing_to_list_is_said(tmp_path: Path) -> None:
    assert "There is no spool" in run("ls", str(tmp_path))[1]


def test_a_spool_that_goes_while_one_looks_is_no_error(spool: WriterSpool) -> None:
    directory = spool.directory
    shutil.rmtree(directory)
    assert (summarize(directory).state, summarize(directory).bytes) == ("unreadable", 0)


def test_a_spool_without_a_note_of_what_is_acknowledged_is_sound(spool: WriterSpool) -> None:
    (spool.directory / "acked").unlink()
    assert list(verify(spool.directory)) == []
    (spool.directory / "acked").write_bytes(b"{")
    (finding,) = verify(spool.directory)
    assert not finding.damage


def test_a_sound_spool_is_called_so(spool: WriterSpool) -> None:
    assert list(verify(spool.directory)) == []
    code, text = run("verify")
    assert (code, text.split()[0]) == (0, "sound")


def flip(path: Path, offset: int) -> None:
    content = bytearray(path.read_bytes())
    content[offset] ^= 1
    path.write_bytes(bytes(content))


def test_every_flipped_bit_of_an_event_is_found(spool: WriterSpool) -> None:
    path = segment_of(spool, topics.RUNS)
    whole = path.read_bytes()
    with closing(SegmentReader(path)) as reader:
        first = reader.end
    for offset in range(first, len(whole), 7):
        flip(path, offset)
        assert list(verify(spool.directory)), f"byte {offset}"
        path.write_bytes(whole)


def test_a_segment_that_is_just_being_made_holds_nothing_yet(spool: WriterSpool, tmp_path: Path) -> None:
    before = summarize(spool.directory)
    whole = segment_of(spool, topics.METRICS).read_bytes()
    for topic in (topics.RUNS, topics.METRICS):
        name = f"{topic.removeprefix('runtide.')}-{1_000:012d}.avro"
        (spool.directory / name).write_bytes(whole[:20])
    after = summarize(spool.directory)
    assert (after.events, after.points, after.problem) == (before.events, before.points, "")
    code, output = run("export", str(spool.directory), "--to", str(tmp_path / "events.jsonl"))
    assert code == 0, output


def test_damage_is_told_from_a_torn_end(spool: WriterSpool) -> None:
    path = segment_of(spool, topics.RUNS)
    whole = path.read_bytes()
    path.write_bytes(whole[:-50])
    (finding,) = verify(spool.directory)
    assert not finding.damage
    assert "no whole event: torn" in finding.text
    assert run("verify")[0] == 0
    path.write_bytes(whole)
    flip(path, whole.index(b"p1") + 1)
    (finding,) = verify(spool.directory)
    assert finding.damage
    assert "after event 0" in finding.text
    with pytest.raises(FatalError, match="1 of 1 spools are damaged"):
        run("verify")


def test_missing_names_and_segments_are_found(spool: WriterSpool) -> None:
    keys = (spool.directory / "keys").read_bytes()
    (spool.directory / "keys").write_bytes(b"")
    assert [finding.text.split(",")[0] for finding in verify(spool.directory)] == ["lacks the names of keys [1]"]
    (spool.directory / "keys").write_bytes(keys)
    path = segment_of(spool, topics.RUNS)
    os.link(path, path.with_name("runs-000000000007.avro"))
    assert "events 4 to 6 are missing before it" in {finding.text for finding in verify(spool.directory)}


def check_export(rows: list[dict[str, Any]], spool: WriterSpool) -> None:
    assert [(row["topic"], row["seq"]) for row in rows] == [
        (topics.METRICS, 0),
        *((topics.RUNS, number) for number in range(4)),
        (topics.METRICS, -1),
    ]
    assert {row["writer"] for row in rows} == {spool.manifest.writer_id}
    assert rows[1]["actor"] == "alice"
    assert rows[1]["body"]["params"] == {"p0": "x" * 100}
    assert rows[0]["body"]["keys"] == ["loss"]
    assert rows[0]["body"]["value"] == [0.5]
    assert rows[5]["body"]["step"] == [1, 2]


def test_an_export_as_json_lines_has_every_event_and_point(spool: WriterSpool, tmp_path: Path) -> None:
    before = contents(spool.directory)
    code, text = run("export", RUN[:6])
    assert code == 0
    rows = [json.loads(line) for line in text.splitlines()]
    check_export(rows, spool)
    assert rows[5]["body"]["value"] == ["NaN", "-Infinity"], "JSON has no numbers for them"
    assert contents(spool.directory) == before
    assert "6 events of 1 writers" in run("export", str(spool.directory), "--to", str(tmp_path / "out"))[1]
    assert (tmp_path / "out").read_text() == text


def test_an_export_as_avro_is_read_by_fastavro(spool: WriterSpool, tmp_path: Path) -> None:
    run("export", RUN, "--format", "avro", "--to", str(tmp_path / "out.avro"))
    with (tmp_path / "out.avro").open("rb") as file:
        rows: list[dict[str, Any]] = [dict(row) for row in fastavro.reader(file) if isinstance(row, dict)]
    check_export([row | {"body": dict(row["body"])} for row in rows], spool)
    assert repr(rows[5]["body"]["value"]) == "[nan, -inf]"


@pytest.mark.parametrize(("what", "answer"), [("ff", "No spool holds a run ff"), ("ab", "more than one run")])
def test_an_export_names_one_run(spool: WriterSpool, what: str, answer: str) -> None:
    WriterSpool.create(spool.directory.parents[1], "ab" + "cd" * 15, SpoolLimits())
    with pytest.raises(InvalidRequest, match=answer):
        run("export", what)
