"""Signatures: inferred and written as MLflow does, and enforced without losing anything."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from runtide.models import ColumnSpec, ModelInputError, ModelSignature, TensorSpec, infer_signature
from runtide.models.enforcement import enforce

COLUMNS = [
    ColumnSpec("double", "width"),
    ColumnSpec("long", "count"),
    ColumnSpec("string", "name"),
    ColumnSpec("boolean", "new", required=False),
]
FRAME = pd.DataFrame({"name": ["a", "b"], "count": [1, 2], "width": [0.5, 1.5], "new": [True, False], "spare": [0, 0]})


def test_columns_are_written_as_mlflow_writes_them() -> None:
    """The texts are what mlflow 3.17.2 gives for the same frame."""
    frame = pd.DataFrame({"n": [1], "s": ["x"], "b": [True], "f": [1.5]})
    frame["i32"] = np.int32(3)
    frame["dt"] = pd.Timestamp("2020-01-01")
    frame["f32"] = np.float32(1)
    assert infer_signature(frame, frame["n"]).to_strings() == {
        "inputs": '[{"type": "long", "name": "n", "required": true}, {"type": "string", "name": "s", "required": true}, '
        '{"type": "boolean", "name": "b", "required": true}, {"type": "double", "name": "f", "required": true}, '
        '{"type": "integer", "name": "i32", "required": true}, {"type": "datetime", "name": "dt", "required": true}, '
        '{"type": "float", "name": "f32", "required": true}]',
        "outputs": '[{"type": "long", "name": "n", "required": true}]',
        "params": None,
    }


def test_tensors_are_written_as_mlflow_writes_them() -> None:
    assert infer_signature(np.zeros((3, 64)), np.zeros(3, dtype=np.int64)).to_strings() == {
        "inputs": '[{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 64]}}]',
        "outputs": '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]',
        "params": None,
    }
    assert infer_signature(np.array(["ab", "c"])).inputs == (TensorSpec("str", (-1,)),)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pd.Series([1, 2, 3]), [{"type": "long", "required": True}]),
        (["a", "b"], [{"type": "string", "required": True}]),
        ([1, 2], [{"type": "long", "required": True}]),
        (pd.DataFrame({"a": [1, None]}), [{"type": "double", "name": "a", "required": False}]),
        (pd.DataFrame({"a": ["x", None]}), [{"type": "string", "name": "a", "required": False}]),
    ],
)
def test_other_inputs(data: Any, expected: list[dict[str, Any]]) -> None:
    assert json.loads(str(infer_signature(data).to_strings()["inputs"])) == expected


@pytest.mark.parametrize("data", [object(), "text", [], [1, "a"], pd.DataFrame({"a": [None]}), [object()]])
def test_what_has_no_signature_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError):
        infer_signature(data)


def test_texts_survive_a_round_trip_composite_types_included() -> None:
    text = '[{"type": "array", "items": {"type": "long"}, "name": "a", "required": true}]'
    signature = ModelSignature.from_strings(text, None, '[{"name": "p", "type": "double", "default": 1.0}]')
    assert signature.to_strings()["inputs"] == text
    assert signature.params == '[{"name": "p", "type": "double", "default": 1.0}]'


def test_columns_are_ordered_and_spare_ones_dropped() -> None:
    fitted = enforce(FRAME, COLUMNS)
    assert list(fitted.columns) == ["width", "count", "name", "new"]
    assert [str(fitted[name].dtype) for name in ("width", "count", "new")] == ["float64", "int64", "bool"]


def test_a_missing_column_is_named() -> None:
    with pytest.raises(ModelInputError, match=r"lacks 1 column\(s\) that the model needs: 'count'"):
        enforce(FRAME.drop(columns="count"), COLUMNS)


def test_a_missing_optional_column_is_none() -> None:
    assert list(enforce(FRAME.drop(columns="new"), COLUMNS).columns) == ["width", "count", "name"]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("count", [1.5, 2.0]),
        ("count", ["1", "2"]),
        ("count", [None, 1]),
        ("count", [2**63, 1]),
        ("width", ["x", "y"]),
        ("width", [2**53 + 1, 0]),
        ("width", [[1], [2]]),
        ("name", [1, 2]),
        ("name", [None, "a"]),
        ("new", [1, 0]),
        ("new", [{}, []]),
    ],
)
def test_what_would_lose_something_is_refused_with_the_column(column: str, values: list[Any]) -> None:
    frame = FRAME.drop(columns=column)
    frame[column] = values
    with pytest.raises(ModelInputError, match=f"Column '{column}'"):
        enforce(frame, COLUMNS)


def test_whole_numbers_become_floats_when_nothing_is_lost() -> None:
    fitted = enforce(FRAME.assign(width=[1, 2]), COLUMNS)
    assert fitted["width"].tolist() == [1.0, 2.0]
    assert fitted["width"].dtype == np.float64


def test_times_are_parsed() -> None:
    fitted = enforce({"at": ["2026-01-02T03:04:05"]}, [ColumnSpec("datetime", "at")])
    assert fitted["at"].dtype.kind == "M"
    with pytest.raises(ModelInputError, match="'at'"):
        enforce({"at": ["not a time"]}, [ColumnSpec("datetime", "at")])
    with pytest.raises(ModelInputError, match="'at'"):
        enforce({"at": [5]}, [ColumnSpec("datetime", "at")])


def test_unnamed_columns_are_counted() -> None:
    assert enforce([1.0, 2.0], [ColumnSpec("double")]).shape == (2, 1)
    with pytest.raises(ModelInputError, match=r"takes 1 column\(s\), the data has 2"):
        enforce([[1.0, 2.0]], [ColumnSpec("double")])


def test_tensors_are_checked_by_shape_and_converted_when_nothing_is_lost() -> None:
    spec = [TensorSpec("float64", (-1, 2))]
    assert enforce([[1, 2], [3, 4]], spec).dtype == np.float64
    for data in ([[1, 2, 3]], [1, 2], 5, [[1, 2], [3]], [["a", "b"]], [[None, 1]], None):
        with pytest.raises(ModelInputError):
            enforce(data, spec)
    with pytest.raises(ModelInputError, match="int8"):
        enforce([[300]], [TensorSpec("int8", (-1, 1))])
    with pytest.raises(ModelInputError, match="float32"):
        enforce([[1e300]], [TensorSpec("float32", (-1, 1))])


def test_tensors_by_name() -> None:
    spec = [TensorSpec("float64", (-1,), "a"), TensorSpec("int64", (-1,), "b")]
    assert enforce({"a": [1.5], "b": [2]}, spec)["b"].dtype == np.int64
    for data in ({"a": [1.5]}, [1], {"a": [1.5], "b": ["x"]}):
        with pytest.raises(ModelInputError):
            enforce(data, spec)
