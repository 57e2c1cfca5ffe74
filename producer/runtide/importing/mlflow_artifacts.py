"""Where the files of an MLflow run lie on this machine, for whoever moved or copied the store."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runtide.artifacts.models import MODELS_DIRECTORY
from runtide.importing.local_files import artifacts_below, is_within
from runtide.importing.records import LeftOut, Model, Record

_FOLDERS = ("", "mlruns", "mlartifacts")
_LOCAL_SCHEMES = ("", "file", "mlflow-artifacts")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedModel:
    """A model of MLflow 3, which lies beside the runs and not below one."""

    model_id: str
    name: str
    run_id: str
    location: str
    experiment_id: str
    created: int


class ArtifactPlaces:
    """The directories that files may be read from: the store's own and those that the user named."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = roots

    def of_run(self, uri: str, experiment_id: str, run_id: str) -> Iterator[Record]:
        """Yield a run's files. They are looked for at its URI, then where MLflow would have put them below each root."""
        yield from self._files(uri, f"{experiment_id}/{run_id}/artifacts", "", "the run's artifacts")

    def of_models(self, models: list[LoggedModel]) -> Iterator[Record]:
        """Yield the files of a run's models, and the models; of several with one name the later ones go by their id."""
        taken: set[str] = set()
        for model in sorted(models, key=lambda model: (model.created, model.model_id)):
            name = model.model_id if model.name in taken else model.name
            taken.add(name)
            below = f"{model.experiment_id}/models/{model.model_id}/artifacts"
            path = f"{MODELS_DIRECTORY}/{name}"
            yield from self._files(model.location, below, f"{path}/", f"model {model.name!r}")
            if (directory := self._find(model.location, below)) and (directory / "MLmodel").is_file():
                yield Model(model_id=model.model_id, name=model.name, path=path, directory=directory, at=model.created)

    def _files(self, uri: str, below: str, under: str, what: str) -> Iterator[Record]:
        if directory := self._find(uri, below):
            yield from artifacts_below(directory, self._roots, under)
        elif urlsplit(uri).scheme not in _LOCAL_SCHEMES:
            yield LeftOut(what, f"they are at {uri}; copy them here and name the folder with --artifact-root")
        elif (path := _local(uri)) is not None and path.is_dir() and any(path.iterdir()):
            yield LeftOut(what, f"they are in {path}, outside of the source; allow it with --artifact-root")

    def _find(self, uri: str, below: str) -> Path | None:
        given = _local(uri)
        guesses = [root / folder / below for root in self._roots for folder in _FOLDERS]
        for path in ([given] if given else []) + guesses:
            if path.is_dir() and is_within(path, *self._roots):
                return path
        return None


def local_model(fields: Mapping[str, object], location: str, created: str) -> LoggedModel:
    """Return a logged model of a row or document; ``location`` and ``created`` are the names of its fields."""
    return LoggedModel(
        model_id=str(fields["model_id"]),
        name=str(fields.get("name") or fields["model_id"]),
        run_id=str(fields.get("source_run_id") or ""),
        location=str(fields.get(location) or ""),
        experiment_id=str(fields.get("experiment_id") or ""),
        created=int(str(fields.get(created) or 0)),
    )


def _local(uri: str) -> Path | None:
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if uri and parts.scheme in ("", "file") else None
