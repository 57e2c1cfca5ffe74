"""Notes, datasets, images and tables: what is accepted, stored and said of it."""

import hashlib
import io
import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import runtide
from runtide.tracking.run import Run
from runtide_schemas.events.runs import ArtifactLogged, DatasetInput, InputsLogged, TagsSet
from tests.unit.test_sdk_run import logged, run

__all__ = ["run"]  # the fixture


def stored(run: Run, path: str) -> bytes:
    found = run.store.read_bytes(path)
    assert found is not None
    return found


def dataset(run: Run, data: Any, **given: Any) -> DatasetInput:
    run.log_input("digits", data=data, **given)
    (logged_one,) = [body for body in logged(run) if isinstance(body, InputsLogged)]
    return logged_one.datasets[0]


def test_a_note_is_mlflows_description_and_has_a_limit(run: Run) -> None:
    run.set_note("# Why\n\nBecause.")
    with pytest.raises(runtide.InvalidRequest, match="Note has 8001 characters; the limit is 8000"):
        run.set_note("x" * 8_001)
    assert [body.tags for body in logged(run) if isinstance(body, TagsSet)] == [
        {"mlflow.note.content": "# Why\n\nBecause."}
    ]


def test_a_files_digest_is_its_sha256(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(b"a,b\n1,2\n" * 1000)
    said = subprocess.run(["sha256sum", str(file)], check=True, capture_output=True, text=True).stdout
    found = dataset(run, str(file), context="training", tags={"split": 1})
    assert found.digest == said[:32]
    assert (found.source_type, json.loads(found.source)) == ("local", {"uri": str(file)})
    assert found.tags == {"mlflow.data.context": "training", "split": "1"}


def test_a_folders_digest_is_of_its_files(run: Run, tmp_path: Path) -> None:
    tree = tmp_path / "images"
    (tree / "b").mkdir(parents=True)
    (tree / "a.txt").write_bytes(b"A")
    (tree / "b" / "c.txt").write_bytes(b"CC")
    lines = [("a.txt", b"A"), ("b/c.txt", b"CC")]
    rule = "".join(f"{path}\0{len(data)}\0{hashlib.sha256(data).hexdigest()}\n" for path, data in lines)
    found = dataset(run, tree)
    assert found.digest == hashlib.sha256(rule.encode()).hexdigest()[:32]
    assert json.loads(found.profile) == {"num_files": 2, "num_bytes": 3}


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<f8").reshape(3, 2),
        np.arange(6, dtype=">f8").reshape(3, 2),
        np.asfortranarray(np.arange(6, dtype="<f8").reshape(3, 2)),
        np.arange(12, dtype="<f8").reshape(6, 2)[::2] * 0 + np.arange(6, dtype="<f8").reshape(3, 2),
    ],
)
def test_an_arrays_digest_is_of_its_values_however_they_lie(run: Run, array: "np.ndarray[Any, Any]") -> None:
    rule = b"<f8 (3, 2)\n" + np.arange(6, dtype="<f8").tobytes()
    found = dataset(run, array)
    assert found.digest == hashlib.sha256(rule).hexdigest()[:32]
    (spec,) = json.loads(found.schema)["mlflow_tensorspec"]
    assert spec["tensor-spec"]["shape"] == [-1, 2]


@pytest.mark.parametrize(
    "array", [np.zeros(0), np.array(5.0), np.zeros((0, 3)), np.array(["a", "bc"]), np.zeros((2, 0))]
)
def test_odd_arrays_have_digests_too(run: Run, array: "np.ndarray[Any, Any]") -> None:
    assert len(dataset(run, array).digest) == 32


def test_a_large_array_is_digested_in_chunks_to_the_same(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from runtide.tracking import datasets

    array = np.arange(10_000.0).reshape(1000, 10)
    monkeypatch.setattr(datasets, "_CHUNK_BYTES", 777)
    expected = hashlib.sha256(b"<f8 (1000, 10)\n" + array.tobytes()).hexdigest()[:32]
    assert dataset(run, {"x": array[:0], "y": array}).digest != expected
    assert datasets.dataset_input("d", array, {}, "", None).digest == expected


def test_a_frame_says_digest_schema_and_profile(run: Run) -> None:
    frame = pd.DataFrame({"x": [1.0, 2.0, math.nan], "label": ["a", "b", "c"]})
    found = dataset(run, frame, source="s3://bucket/train.parquet", source_type="s3")
    assert found.schema == json.dumps(
        {
            "mlflow_colspec": [
                {"type": "double", "name": "x", "required": False},
                {"type": "string", "name": "label", "required": True},
            ]
        }
    )
    assert json.loads(found.profile) == {"num_rows": 3, "num_elements": 6}
    assert (found.source, found.source_type) == ("s3://bucket/train.parquet", "s3")

    def digest(data: Any) -> str:
        from runtide.tracking.datasets import dataset_input

        return dataset_input("d", data, {}, "", None).digest

    assert digest(frame.copy()) == found.digest
    changed = [frame.rename(columns={"x": "y"}), frame.iloc[::-1], frame.assign(label=["a", "b", "d"]), frame["x"]]
    assert len({found.digest, *map(digest, changed)}) == 5


def test_what_is_given_wins_and_what_cannot_be_read_is_said(run: Run, tmp_path: Path) -> None:
    with pytest.raises(runtide.InvalidRequest, match="cannot read the dataset"):
        run.log_input("d", data=tmp_path / "missing.csv")
    with pytest.raises(runtide.InvalidRequest, match="give digest"):
        run.log_input("d", data=np.array([object()]))
    with pytest.raises(runtide.InvalidRequest, match="Dataset profile has 500001 characters; the limit is 500000"):
        run.log_input("d", profile="x" * 500_001)
    assert dataset(run, np.zeros(3), digest="mine").digest == "mine"


IMAGES: dict[str, Any] = {
    "grey": np.arange(12, dtype=np.uint8).reshape(3, 4) * 20,
    "grey, one channel": np.arange(12, dtype=np.uint8).reshape(3, 4, 1),
    "colours": np.arange(36, dtype=np.uint8).reshape(3, 4, 3),
    "transparent": np.arange(48, dtype=np.uint8).reshape(3, 4, 4),
    "int64": np.arange(12).reshape(3, 4),
    "a view": np.arange(72, dtype=np.uint8).reshape(6, 4, 3)[::2],
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_array_becomes_the_png_that_pillow_reads(run: Run, name: str) -> None:
    array = IMAGES[name]
    run.log_image(array, "image.png")
    read = np.asarray(Image.open(io.BytesIO(stored(run, "image.png"))))
    assert np.array_equal(read, array.reshape(3, 4) if array.size == 12 else array)


def test_floats_bools_and_pillow_images_are_images(run: Run) -> None:
    run.log_image(np.array([[0.0, 0.5, 1.0]]), "floats.png")
    assert np.asarray(Image.open(io.BytesIO(stored(run, "floats.png")))).tolist() == [[0, 128, 255]]
    run.log_image(np.array([[True, False]]), "bools.png")
    assert np.asarray(Image.open(io.BytesIO(stored(run, "bools.png")))).tolist() == [[255, 0]]
    run.log_image(Image.new("RGBA", (5, 4), "red"), "pillow.jpg")
    assert Image.open(io.BytesIO(stored(run, "pillow.jpg"))).size == (5, 4)
    run.log_image(np.zeros((2, 2)), "zeros.webp")
    assert Image.open(io.BytesIO(stored(run, "zeros.webp"))).format == "WEBP"


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((2, 2, 2)), "shape"),
        (np.zeros((0, 2)), "shape"),
        (np.full((2, 2), 1.5), r"0\.\.1, got 1\.5"),
        (np.full((2, 2), math.nan), r"0\.\.1, got nan"),
        (np.full((2, 2), 256), r"0\.\.255"),
        (np.full((2, 2), -1), r"0\.\.255"),
        (np.array([["a"]]), "whole numbers"),
        (np.zeros((20_000, 5_001), np.uint8), "at most 100000000 pixels"),
    ],
)
def test_what_is_no_image_is_refused(run: Run, image: Any, problem: str) -> None:
    with pytest.raises(runtide.InvalidRequest, match=problem):
        run.log_image(image, "image.png")
    with pytest.raises(runtide.InvalidRequest, match="must end in one of"):
        run.log_image(np.zeros((2, 2)), "image.tiff")
    with pytest.raises(runtide.InvalidRequest, match="either artifact_file, or key"):
        run.log_image(np.zeros((2, 2)), "image.png", key="samples")


def test_a_series_of_images_has_mlflows_names(run: Run) -> None:
    for step in range(3):
        run.log_image(np.zeros((2, 2)), key="val/samples", step=step, timestamp=1000 + step)
    paths = [body.path for body in logged(run) if isinstance(body, ArtifactLogged)]
    parts = [path.removesuffix(".png").split("%") for path in paths]
    assert [part[:5] for part in parts] == [
        ["images/val#samples", "step", str(step), "timestamp", str(1000 + step)] for step in range(3)
    ]
    assert all(run.store.read_bytes(path) for path in paths)


def test_a_table_is_pandas_split_form_and_grows(run: Run) -> None:
    run.log_table({"question": ["a", "b"], "score": np.array([0.5, math.nan])}, "eval/table.json")
    run.log_table(pd.DataFrame({"score": [1], "judge": ["x"]}), "eval/table.json")
    run.log_table({"question": "single", "score": 2}, "eval/table.json")
    found = json.loads(stored(run, "eval/table.json"))
    assert found["columns"] == ["question", "score", "judge"]
    assert found["data"] == [["a", 0.5, None], ["b", None, None], [None, 1, "x"], ["single", 2, None]]
    read = pd.read_json(io.BytesIO(stored(run, "eval/table.json")), orient="split")
    assert read["question"].tolist()[0] == "a"


def test_a_table_as_parquet_keeps_types_and_grows(run: Run) -> None:
    run.log_table(pd.DataFrame({"score": [0.5, math.nan], "name": ["a", "b"]}), "table.parquet")
    run.log_table({"score": [1.0], "name": ["c"]}, "table.parquet")
    read = pd.read_parquet(io.BytesIO(stored(run, "table.parquet")))
    assert read["name"].tolist() == ["a", "b", "c"]
    assert read["score"].tolist()[0] == 0.5
    assert math.isnan(read["score"].tolist()[1])


class OnTheGpu:
    """Refuses as a CUDA tensor does."""

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")


def test_what_libraries_refuse_is_our_error_with_their_reason(run: Run) -> None:
    with pytest.raises(runtide.InvalidRequest, match=r"Tensor\.cpu"):
        run.log_image(OnTheGpu(), "image.png")
    with pytest.raises(runtide.InvalidRequest, match="cannot digest column 'boxes'"):
        run.log_input("d", data=pd.DataFrame({"boxes": [[1, 2], [3]]}))
    with pytest.raises(runtide.InvalidRequest, match="different names"):
        run.log_table(pd.DataFrame([[1, 2]], columns=["a", "a"]), "table.json")


@pytest.mark.parametrize("data", [{}, [1, 2], {"a": [1, 2], "b": [1]}, "text"])
def test_what_is_no_table_is_refused(run: Run, data: Any) -> None:
    with pytest.raises(runtide.InvalidRequest, match=r"[Tt]able"):
        run.log_table(data, "table.json")
    with pytest.raises(runtide.InvalidRequest, match=r"\.json, \.parquet"):
        run.log_table({"a": 1}, "table.csv")
    run.log_text("nonsense", "table.json")
    with pytest.raises(runtide.InvalidRequest, match="no table to append to"):
        run.log_table({"a": 1}, "table.json")


def test_mixed_types_are_no_parquet_and_the_error_says_what_to_do(run: Run) -> None:
    with pytest.raises(runtide.InvalidRequest, match=r"log it as \.json"):
        run.log_table({"a": [1, "x", {}]}, "table.parquet")
