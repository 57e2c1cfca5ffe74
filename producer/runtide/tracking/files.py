"""Storing a run's files and models: what waits for a store. ``Run`` calls it, ``AsyncRun`` calls it in a thread."""

import io
import json
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runtide.artifacts.models import MODELS_DIRECTORY, LoggedModel, store_model
from runtide.artifacts.paths import check_artifact_path
from runtide.artifacts.progress import shown, size_of
from runtide.artifacts.store import StoredFile
from runtide.tracking.coordinates import check_step, check_timestamp
from runtide.tracking.environment import describe_environment
from runtide.tracking.images import encode_image, series_path
from runtide.tracking.run_log import RunLog
from runtide.tracking.source_code import CODE_DIRECTORY, SourceCode
from runtide.tracking.tables import Table, as_table, from_json, from_parquet, to_json, to_parquet
from runtide_schemas.errors import InvalidRequest
from runtide_schemas.events.runs import ArtifactLogged, ModelLogged
from runtide_schemas.identity import now_ms
from runtide_schemas.limits import check_key

ENVIRONMENT_DIRECTORY = "environment"
_TABLE_FORMATS: Mapping[str, tuple[Callable[[Table], bytes], Callable[[bytes, str], Table]]] = {
    ".json": (to_json, from_json),
    ".parquet": (to_parquet, from_parquet),
}


def log_artifact(run: RunLog, path: str | Path, artifact_path: str | None, resume: bool) -> StoredFile:
    """Store a local file and publish that it is there."""
    with shown(str(path), size_of(path)) as advance:
        return _published(run, run.store.store_file(path, artifact_path, resume=resume, advance=advance))


def log_artifacts(run: RunLog, directory: str | Path, artifact_path: str | None, resume: bool) -> list[StoredFile]:
    """Store a local directory's files and publish each when it is stored."""
    with shown(str(directory), size_of(directory)) as advance:
        files = run.store.store_directory(directory, artifact_path, resume=resume, advance=advance)
        return [_published(run, stored) for stored in files]


def log_text(run: RunLog, text: str, artifact_file: str) -> StoredFile:
    """Store text as UTF-8."""
    return _published(run, run.store.store_bytes(text.encode(), artifact_file))


def log_dict(run: RunLog, value: Any, artifact_file: str) -> StoredFile:
    """Store a JSON-like value: as YAML when the name ends so, else as JSON."""
    if artifact_file.endswith((".yaml", ".yml")):
        import yaml

        return log_text(run, yaml.safe_dump(value, sort_keys=False, allow_unicode=True), artifact_file)
    try:
        return log_text(run, json.dumps(value, indent=2, ensure_ascii=False, default=_plain), artifact_file)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"cannot store {artifact_file!r} as JSON: {error}") from error


def store_bytes(run: RunLog, data: bytes, path: str) -> StoredFile:
    """Store bytes at a path, in place of what lies there."""
    return _published(run, run.store.store_bytes(data, path))


def log_code(run: RunLog) -> None:
    """Tag the run with its commit, and store the command line and what differs from the commit."""
    code = SourceCode.detect()
    if code.tags:
        run.set_tags(code.tags)
    log_dict(run, {**code.command, "untracked": list(code.untracked)}, f"{CODE_DIRECTORY}/command.json")
    if code.diff:
        store_bytes(run, code.diff, f"{CODE_DIRECTORY}/diff.patch")


def log_environment(run: RunLog) -> None:
    """Store what the process runs on and with."""
    described = describe_environment()
    log_dict(run, described, f"{ENVIRONMENT_DIRECTORY}/environment.json")
    lines = [f"{name}=={version}\n" for name, version in described["packages"].items()]
    log_text(run, "".join(lines), f"{ENVIRONMENT_DIRECTORY}/requirements.txt")


def log_figure(run: RunLog, figure: Any, artifact_file: str, options: Mapping[str, Any]) -> StoredFile:
    """Store a Matplotlib figure in the format of the name's suffix, or a Plotly figure as HTML."""
    suffix = Path(check_artifact_path(artifact_file)).suffix.removeprefix(".").lower()
    buffer = io.BytesIO()
    if hasattr(figure, "savefig"):
        figure.savefig(buffer, format=suffix or "png", **options)
    elif hasattr(figure, "to_html") and suffix in ("html", "htm"):
        buffer.write(figure.to_html(**options).encode())
    else:
        raise InvalidRequest(
            f"cannot store a {type(figure).__name__} as {artifact_file!r}: give a Matplotlib figure, or a Plotly figure "
            "and a name that ends in .html"
        )
    return _published(run, run.store.store_bytes(buffer.getvalue(), artifact_file))


def log_image(
    run: RunLog, image: Any, artifact_file: str | None, key: str | None, step: int | None, timestamp: int | None
) -> StoredFile:
    """Store an image under a name, or as one of a series: ``key`` and ``step``."""
    if (artifact_file is None) == (key is None):
        raise InvalidRequest("log_image takes either artifact_file, or key (and step) for a series of images")
    if key is not None:
        at = now_ms() if timestamp is None else check_timestamp(timestamp)
        number = 0 if step is None else check_step(step)
        artifact_file = series_path(check_key(key, "Image"), number, at, secrets.token_hex(16))
    path = check_artifact_path(artifact_file or "")
    return _published(run, run.store.store_bytes(encode_image(image, path), path))


def log_table(run: RunLog, data: Any, artifact_file: str) -> StoredFile:
    """Store a table, below the rows of the one that lies there already."""
    suffix = Path(check_artifact_path(artifact_file)).suffix.lower()
    if suffix not in _TABLE_FORMATS:
        raise InvalidRequest(f"Table file {artifact_file!r} must end in one of {', '.join(_TABLE_FORMATS)}")
    write, read = _TABLE_FORMATS[suffix]
    table = as_table(data)
    with run.tables:
        before = run.store.read_bytes(artifact_file)
        whole = table if before is None else read(before, artifact_file).with_rows_of(table)
        return _published(run, run.store.store_bytes(write(whole), artifact_file))


def log_model(run: RunLog, model: Any, name: str, options: Mapping[str, Any]) -> LoggedModel:
    """Save a model, store its directory and publish files and model."""
    logged, files = store_model(run.store, run.run_id, model, name, options)
    for stored in files:
        _published(run, stored)
    run.writer.publish(
        ModelLogged(
            run_id=run.run_id,
            model_id=logged.model_id,
            name=name,
            artifact_path=f"{MODELS_DIRECTORY}/{name}",
            uri=logged.uri,
            digest=logged.digest,
            size=logged.size,
            flavors=logged.flavors,
            signature=logged.signature,
            at=now_ms(),
        )
    )
    return logged


def _published(run: RunLog, stored: StoredFile) -> StoredFile:
    run.writer.publish(
        ArtifactLogged(
            run_id=run.run_id,
            path=stored.path,
            uri=stored.uri,
            size=stored.size,
            sha256=stored.sha256,
            content_type=stored.content_type,
            at=now_ms(),
        )
    )
    return stored


def _plain(value: Any) -> Any:
    """Return a NumPy scalar or array as plain Python."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
