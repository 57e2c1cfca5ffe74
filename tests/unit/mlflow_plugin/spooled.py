"""What lies in the spool, and MLflow's refusals."""

from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from runtide.spool.export import exported
from runtide.sync import find_spools
from runtide_schemas.events.metrics import MetricsLogged


def events(tmp_path: Path, kind: type[Any]) -> list[Any]:
    """Return the bodies of one type that lie in the spool, writer by writer."""
    every = exported(find_spools([tmp_path / "spool"]))
    return [event.body for event in every if isinstance(event.body, kind)]


def points(tmp_path: Path, key: str) -> list[tuple[int, int, float]]:
    """Return (step, timestamp, value) of a metric's points in the order of the spool."""
    found = []
    for body in events(tmp_path, MetricsLogged):
        rows = zip(
            body.key_index.tolist(), body.step.tolist(), body.timestamp.tolist(), body.value.tolist(), strict=True
        )
        found += [(step, at, value) for index, step, at, value in rows if body.keys[index] == key]
    return found


def refused(code: str, match: str = "") -> Any:
    """Expect MLflow's exception with a code."""

    class Expecting:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
            assert isinstance(error, MlflowException), f"expected MlflowException {code}, got {error!r}"
            assert error.error_code == code, error
            assert match in str(error)
            return True

    return Expecting()


def a_model_directory(folder: Path) -> Path:
    folder.mkdir()
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: mine\nmodel_uuid: abc\n")
    (folder / "data").mkdir()
    (folder / "data" / "weights.bin").write_bytes(b"12345")
    return folder
