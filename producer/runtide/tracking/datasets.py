"""Dataset inputs: what data says about itself, with a digest by a rule that anyone can repeat.

The digest is the first 32 hexadecimal characters of a SHA-256 over all of the data:

- a file: its bytes (``sha256sum FILE``);
- a folder: for each file below it, by the UTF-8 bytes of its path, the line ``path NUL size NUL sha256 LF``;
- a NumPy array: ``<dtype> <shape> LF``, e.g. ``<f8 (3, 2)``, then its values in C order, little-endian;
- a mapping of names to arrays: for each in its order, the name, LF, and the array as above;
- a pandas DataFrame or Series: for the index (name ``index``) and each column, ``<name> <dtype> LF``, then what
  ``pandas.util.hash_pandas_object(column, index=False)`` gives, little-endian.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import DatasetInput
from runtide_schemas.limits import check_tags, check_text

if TYPE_CHECKING:
    import numpy as np

LIMITS = {"name": 500, "digest": 36, "source": 65_535, "source_type": 500, "schema": 500_000, "profile": 500_000}
CONTEXT_TAG = "mlflow.data.context"
_DIGEST_LENGTH = 32
_CHUNK_BYTES = 16 * 1024 * 1024
_CHUNK_ROWS = 1_000_000


def dataset_input(
    name: str, data: Any, given: Mapping[str, str], context: str, tags: Mapping[str, object] | None
) -> DatasetInput:
    """Return the checked description of a dataset: what was given, else what the data says.

    Args:
        name: of the dataset.
        data: a path, array, mapping of arrays, DataFrame or Series; None to go by what is given.
        given: digest, source, source_type, schema and profile; an empty text is not given.
        context: e.g. ``training``; becomes the tag ``mlflow.data.context``.
        tags: of the input.
    """
    if not name:
        raise InvalidRequest("Dataset name must not be empty")
    described = {} if data is None else _describe(data)
    fields = {"name": name} | described | {field: text for field, text in given.items() if text}
    texts = {field: check_text(fields.get(field, ""), f"Dataset {field}", most) for field, most in LIMITS.items()}
    return DatasetInput(**texts, tags=check_tags({CONTEXT_TAG: context, **(tags or {})} if context else tags or {}))


def _describe(data: Any) -> dict[str, str]:
    if isinstance(data, str | Path):
        return _describe_path(Path(data))
    if _is_pandas(data):
        return _describe_pandas(data)
    import numpy as np

    if isinstance(data, Mapping) and data:
        return _describe_arrays({str(name): np.asarray(array) for name, array in data.items()})
    array = np.asarray(data)
    return {
        **_describe_arrays({"": array}),
        "profile": json.dumps(
            {"features_shape": array.shape, "features_size": array.size, "features_nbytes": array.nbytes}
        ),
    }


def _describe_path(path: Path) -> dict[str, str]:
    from runtide.models.digest import digest_directory
    from runtide.models.errors import ModelDirectoryError

    try:
        if path.is_dir():
            digest, entries = digest_directory(path)
            profile = {"num_files": len(entries), "num_bytes": sum(entry.size for entry in entries)}
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            profile = {"num_bytes": path.stat().st_size}
    except (OSError, ModelDirectoryError) as error:
        raise InvalidRequest(f"cannot read the dataset {str(path)!r}: {error}") from error
    return {
        "digest": digest[:_DIGEST_LENGTH],
        "source_type": "local",
        "source": json.dumps({"uri": str(path.absolute())}),
        "profile": json.dumps(profile),
    }


def _describe_pandas(data: Any) -> dict[str, str]:
    import pandas as pd

    frame = data.to_frame() if isinstance(data, pd.Series) else data
    digest = hashlib.sha256()
    for name, column in (("index", frame.index), *frame.items()):
        digest.update(f"{name} {column.dtype}\n".encode())
        for start in range(0, len(column), _CHUNK_ROWS):
            try:
                hashes = pd.util.hash_pandas_object(column[start : start + _CHUNK_ROWS], index=False)
            except TypeError as error:  # lists, dicts and the like
                raise InvalidRequest(f"cannot digest column {name!r} ({error}): give digest=...") from error
            digest.update(hashes.to_numpy().astype("<u8").tobytes())
    return {
        "digest": digest.hexdigest()[:_DIGEST_LENGTH],
        "schema": _schema(frame, "mlflow_colspec"),
        "profile": json.dumps({"num_rows": len(frame), "num_elements": int(frame.size)}),
    }


def _describe_arrays(arrays: "Mapping[str, np.ndarray[Any, Any]]") -> dict[str, str]:
    digest = hashlib.sha256()
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise InvalidRequest(
                f"cannot digest an array of Python objects{f' ({name})' if name else ''}: give digest=..., or convert it "
                "to numbers or text"
            )
        digest.update(f"{name}\n".encode() if name else b"")
        _update(digest, array)
    only = arrays.get("")
    return {
        "digest": digest.hexdigest()[:_DIGEST_LENGTH],
        "schema": _schema(dict(arrays) if only is None else only, "mlflow_tensorspec"),
    }


def _update(digest: Any, array: "np.ndarray[Any, Any]") -> None:
    """In chunks, so that neither a byte order nor a layout costs a copy of the whole."""
    little = array.dtype.newbyteorder("<")
    digest.update(f"{little.str} {array.shape}\n".encode())
    rows = array.reshape(1, -1) if array.ndim == 0 else array
    step = max(1, _CHUNK_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), step):
        digest.update(rows[start : start + step].astype(little, copy=False).tobytes())


def _schema(data: Any, kind: str) -> str:
    """Return the schema in MLflow's form; empty when the columns have none that it knows."""
    from runtide.models.signature import infer_schema

    try:
        return json.dumps({kind: [spec.to_dict() for spec in infer_schema(data)]})
    except TypeError:
        return ""


def _is_pandas(data: Any) -> bool:
    return type(data).__module__.partition(".")[0] == "pandas" and hasattr(data, "index")
