"""The importers' parts that need no broker: names, derived ids, frames of records, tables in memory, the command line."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from runtide.importing.identity import derived_id, event_id
from runtide.importing.ledger import Imported
from runtide.importing.local_files import Unreadable, milliseconds
from runtide.importing.names import original_name_tag, our_name
from runtide.importing.nested_values import flat, parsed, text_of
from runtide.importing.record_files import read_tfrecords, read_wandb_log
from runtide.importing.records import Artifact, Attributes, Params, Points, Tags, points
from runtide.importing.series_buffer import SeriesBuffer
from runtide.importing.staging import StagedRun
from runtide_deploy.cli.main import app
from runtide_schemas.limits import check_key


@given(st.text(min_size=0, max_size=400), st.text(min_size=0, max_size=400))
def test_any_name_becomes_one_that_is_allowed_and_no_two_become_one(one: str, other: str) -> None:
    assert check_key(our_name(one), "Metric") == our_name(one)
    assert (our_name(one) == our_name(other)) == (one == other)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../a", "/a", "a/", "a//b", "a/../b", "loss (1)", "x" * 251, "\x00", "\ud800"]
)
def test_refused_names_are_changed_and_the_original_is_kept(name: str) -> None:
    tag, original = original_name_tag(name)
    assert our_name(name) != name and our_name(name)[-8:] == tag[-8:]
    check_key(tag, "Tag")
    assert original.encode().decode() == original and "\x00" not in original


def test_derived_ids_are_the_same_everywhere() -> None:
    """Fixed values: another version that derives others would import everything a second time."""
    assert derived_id("neptune", "team/vision", "VIS-1") == "3b17730f7e5acaf9b7d984d83936a8fc"
    first = event_id("ab" * 16, "runtide.runs", 0, 1_600_000_000_000)
    assert first == event_id("ab" * 16, "runtide.runs", 0, 1_600_000_000_000)
    assert first != event_id("ab" * 16, "runtide.runs", 1, 1_600_000_000_000)
    assert first[14] == "7" and first[19] in "89ab" and int(first.replace("-", "")[:12], 16) == 1_600_000_000_000


def tfrecord(data: bytes) -> bytes:
    def masked(part: bytes) -> bytes:
        checksum = crc32c(part)
        return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def wandb_log(records: list[bytes]) -> bytearray:
    """Return a log as W&B writes it: fragments in blocks of 32 KiB."""
    log = bytearray(b":W&B\xe1\xbe\x00")
    for record in records:
        left, first = record, True
        while first or left:
            room = 32768 - len(log) % 32768
            if room < 7:
                log += bytes(room)
                room = 32768
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if first else (4 if not left else 3)
            log += struct.pack("<IHB", zlib.crc32(part, zlib.crc32(bytes((kind,)))), len(part), kind) + part
            first = False
    return log


RECORDS = [b"a", b"b" * 32_748, b"", b"c" * 100_000, b"d" * 7]


@pytest.mark.parametrize("kind", ["tfrecord", "wandb"])
def test_whole_records_are_read_and_every_cut_and_flip_is_said(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "records"
    whole = b"".join(map(tfrecord, RECORDS)) if kind == "tfrecord" else bytes(wandb_log(RECORDS))
    read = read_tfrecords if kind == "tfrecord" else read_wandb_log
    path.write_bytes(whole)
    found = list(read(path))
    assert [data for _, data in found] == RECORDS and found[-1][0] == len(whole)
    ends = {end for end, _ in found}
    for cut in sorted({*range(1, 60), *range(len(whole) - 60, len(whole)), *range(100, len(whole), 7_919)}):
        path.write_bytes(whole[:cut])
        expected = [data for end, data in found if end <= cut]
        assert _read_until_damage(read, path) == (expected, cut not in ends and not (kind == "wandb" and cut == 7))
    for place in range(20, len(whole), 3_001):
        damaged = bytearray(whole)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        records, said = _read_until_damage(read, path)
        assert said and records == RECORDS[: len(records)]


def _read_until_damage(read: object, path: Path) -> tuple[list[bytes], bool]:
    records: list[bytes] = []
    try:
        for _, data in read(path):  # type: ignore[operator]  # one of two functions
            records.append(data)
    except Unreadable:
        return records, True
    return records, False


def staged(known: Imported, *batches: Points, points_file: Path | None = None) -> StagedRun:
    run = StagedRun(known, points_file)
    run.take([Attributes(name="a", start_time=1), *batches])
    return run


def rows(count: int, start: int = 0) -> list[tuple[int, int, float]]:
    return [(step, 1_000 + step, step / 3) for step in range(start, start + count)]


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.integers(1, 7), min_size=1, max_size=20))
def test_what_was_imported_is_passed_over_however_the_source_hands_it_out(
    before: int, more: int, sizes: list[int]
) -> None:
    known = staged(Imported(), points("f", "k", rows(before))).state({}, ())
    everything = rows(before + more)
    batches: list[Points] = []
    while everything:
        size = sizes[len(batches) % len(sizes)]
        batches.append(points("f", "k", everything[:size]))
        everything = everything[size:]
    run = staged(known, *batches)
    assert run.new_points == more and not run.left_out
    assert run.series == staged(Imported(), points("f", "k", rows(before + more))).series


def test_series_of_different_streams_are_counted_apart() -> None:
    known = staged(Imported(), points("f", "k", rows(5))).state({}, ())
    assert staged(known, points("g", "k", rows(5)), points("f", "k", rows(5))).new_points == 5


@pytest.mark.parametrize("now", [rows(3), [(9, 9, 9.0), *rows(9, 1)]])
def test_a_series_that_shrank_or_changed_is_left_out(now: list[tuple[int, int, float]]) -> None:
    known = staged(Imported(), points("f", "k", rows(5))).state({}, ())
    run = staged(known, points("f", "k", now))
    assert run.new_points == 0 and "have changed at the source" in run.left_out[0].why
    assert run.series == known.series


def test_content_in_memory_goes_to_disk_and_staged_files_go_with_the_run(tmp_path: Path) -> None:
    with StagedRun(Imported(), tmp_path / "points") as run:
        run.take([Artifact(path="a", at=1, data=b"x" * 100), Params({"p": "1"}), Tags({"t": "2"})])
        file = run.artifacts[0].file
        assert file is not None and file.read_bytes() == b"x" * 100 and not run.artifacts[0].data
        assert (run.params, run.tags) == ({"p": "1"}, {"t": "2"})
    assert not (tmp_path / "points").exists()


def test_points_before_1970_are_counted_and_left_out() -> None:
    run = staged(Imported(), points("", "k", [(0, -1, 1.0), (1, 5, 2.0)]))
    assert run.new_points == 1
    assert [left_out.what for left_out in run.left_out] == ["1 points of 'k'"]
    assert milliseconds(float("nan")) == milliseconds(float("inf")) == milliseconds(-1) == -1
    assert milliseconds(1.6e9 + 0.0005) == 1_600_000_000_000 + 0


def test_numbers_that_no_event_can_hold_are_refused_and_counted() -> None:
    buffer = SeriesBuffer("")
    taken = [*buffer.add("k", 2**63, 1, 1.0), *buffer.add("k", 1, 2**70, 1.0), *buffer.add("k", -(2**63), 7, 1.0)]
    run = StagedRun(Imported(), None)
    run.take([Attributes(name="a", start_time=2**70), *taken, *buffer.rest()])
    assert run.new_points == 1 and run.attributes is None
    assert [left_out.what for left_out in run.left_out] == ["2 points of 'k'"]
    run.take([Attributes(name="a", start_time=1, end_time=2**60)])
    assert run.attributes == Attributes(name="a", start_time=1)


def test_a_buffer_keeps_the_order_of_each_series() -> None:
    buffer, taken = SeriesBuffer("f"), []
    for number in range(20_000):
        taken += list(buffer.add(f"k{number % 3}", number, number, float(number)))
    taken += list(buffer.rest())
    for key in ("k0", "k1", "k2"):
        steps = np.concatenate([part.steps for part in taken if part.key == key])
        assert steps.tolist() == list(range(int(key[1]), 20_000, 3))


def test_nested_values_are_flat_and_media_stay_whole() -> None:
    value = {"a": {"b": 1, "c": [1, 2]}, "m": {"_type": "image", "x": 1}, "e": {}}
    assert dict(flat(value)) == {"a.b": 1, "a.c": [1, 2], "m": {"_type": "image", "x": 1}, "e": {}}
    assert (text_of([1, 2]), text_of(True), text_of("a")) == ("[1, 2]", "True", "a")
    assert parsed("[" * 100_000) == "[" * 100_000 and parsed("{") == "{" and parsed("1") == 1


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb", "neptune"])
def test_the_command_line_teaches(kind: str) -> None:
    shown = CliRunner().invoke(app, ["import", kind, "--help"], terminal_width=200)
    assert shown.exit_code == 0
    assert f"runtide import {kind}" in shown.output and "--dry-run" in shown.output and "--no-artifacts" in shown.output
