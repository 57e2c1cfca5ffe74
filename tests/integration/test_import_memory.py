"""Sources that would take more memory than they have bytes, or than we have, do not: they are read in bounded pieces."""

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from runtide.importing import neptune
from runtide.importing.ledger import Imported
from runtide.importing.neptune_columns import Batch, batches
from runtide.importing.records import Artifact, Attributes, Params, Points, Record
from runtide.importing.staging import StagedRun
from tests.integration.import_samples import attribute, connection_to, export_part, said

MIB = 1024 * 1024


def read(file: Path) -> list[Batch]:
    """Return the batches of a part that is whole."""
    found = list(batches(file))
    assert all(isinstance(batch, Batch) for batch in found)
    return [batch for batch in found if isinstance(batch, Batch)]


def test_a_text_that_a_neptune_export_has_once_is_in_memory_once(tmp_path: Path) -> None:
    part = tmp_path / "a_part_0.parquet"
    export_part(part, [attribute("log", "string_series", "x" * MIB, step=Decimal(step)) for step in range(32)])
    assert part.stat().st_size < MIB
    (batch,) = read(part)
    assert batch._columns["string_value"].nbytes < 2 * MIB
    assert batch.value("string_value", 31) == "x" * MIB


def test_many_texts_of_a_neptune_export_are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = tmp_path / "a_part_0.parquet"
    export_part(part, [attribute("log", "string_series", f"{step}" * 100, step=Decimal(step)) for step in range(200)])
    assert len(read(part)) == 1
    monkeypatch.setattr("runtide.importing.neptune_columns._MOST_TEXT_BYTES", 10_000)
    few = read(part)
    sizes = [len(batch._columns["step"]) for batch in few]
    assert sizes == [64, 64, 64, 8]
    assert [few[3].value("string_value", row) for row in range(8)] == [f"{step}" * 100 for step in range(192, 200)]


def test_paths_come_in_the_order_of_each_batch_however_the_file_numbers_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "a_part_0.parquet"
    names = ["b", "a", "c"] * 21 + ["b", "c", "b", "a"]  # 64 rows to the batch
    export_part(part, [attribute(name, "float_series", 0.5, step=Decimal(row)) for row, name in enumerate(names)])
    monkeypatch.setattr("runtide.importing.neptune_columns._MOST_TEXT_BYTES", 0)
    assert [[path for path, _, _ in batch.groups()] for batch in read(part)] == [["b", "a", "c"], ["c", "b", "a"]]


def test_params_of_a_neptune_export_have_a_bound_together_and_what_is_beyond_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = attribute("sys/creation_time", "datetime", datetime(2024, 1, 1, tzinfo=UTC))
    rows = [attribute(f"p{number}", "string", "x" * 400) for number in range(4)]
    export_part(tmp_path / "data" / "p" / "a_part_0.parquet", [start, *rows])
    monkeypatch.setattr("runtide.importing.neptune.MOST_CHARACTERS", 1_000)
    report = neptune.import_export(tmp_path / "data", connection_to(None, tmp_path))
    assert report.new == ["R-1"]
    assert "2 params: a run's params have at most 1,000 characters together" in said(report)


def test_a_dry_run_counts_what_comes_and_keeps_none_of_it() -> None:
    ones = np.ones(MIB // 8, np.int64)

    def records() -> Iterator[Record]:
        yield Attributes(name="a", start_time=1)
        for number in range(40):
            yield Artifact(path=f"a/{number}", at=1, data=bytes(MIB))
            yield Params({f"p{number}": "x" * MIB})  # too long for a param: an artifact
            yield Points("", "loss", ones, ones, np.ones(MIB // 8))

    with StagedRun(Imported(), None) as staged:
        tracemalloc.start()
        try:
            staged.take(records())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (staged.new_points, len(staged.artifacts)) == (40 * MIB // 8, 80)
    assert peak < 20 * MIB, "of 200 MiB"
