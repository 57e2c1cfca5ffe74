"""Save a model as a directory: whole or not at all."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtide.models.digest import ManifestEntry, digest_directory
from runtide.models.environment import write_environment
from runtide.models.errors import ModelDirectoryError
from runtide.models.examples import write_example
from runtide.models.flavors import Trust, flavor_for, flavor_named
from runtide.models.mlmodel import PYTHON_FUNCTION, MLmodel, SignatureTexts
from runtide.models.signature import ModelSignature


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A saved model: where, of which flavor, and its content's identity (see `digest_directory`)."""

    path: Path
    flavor: str
    model_uuid: str | None
    signature: ModelSignature | None
    digest: str
    manifest: Sequence[ManifestEntry]

    @property
    def size_bytes(self) -> int:
        """The sum of its files."""
        return sum(entry.size for entry in self.manifest)


def save_model(
    model: Any,
    path: Path | str,
    *,
    signature: ModelSignature | None = None,
    input_example: Any = None,
    flavor: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    trusted_types: Sequence[str] = (),
) -> ModelInfo:
    """Write `model` into the new (or empty) directory `path`, which MLflow can load too.

    `flavor` is found from the model unless given. `metadata` goes into the MLmodel file. `trusted_types` are dotted
    names of types inside the model that are safe to build from a file, beyond those the flavor knows. Raises a
    `ModelError`; then nothing is left at `path`.
    """
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelDirectoryError(f"{target} exists and is not empty: give a new directory, or remove it first")
    name, module = (flavor, flavor_named(flavor)) if flavor else flavor_for(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
    try:
        saved = module.save(model, unfinished, Trust(types=trusted_types))
        sections = {} if saved.python_function is None else {PYTHON_FUNCTION: dict(saved.python_function)}
        document = MLmodel(
            flavors={**sections, name: dict(saved.configuration)},
            metadata=dict(metadata) if metadata is not None else None,
        )
        if input_example is not None:
            document.saved_input_example_info = write_example(unfinished, input_example)
        if signature is not None:
            document.signature = SignatureTexts(**signature.to_strings())
        document.model_size_bytes = sum(entry.size for entry in digest_directory(unfinished)[1])
        document.write(unfinished)
        write_environment(unfinished, saved.requirements)
        unfinished.chmod(0o755)
        unfinished.replace(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    digest, manifest = digest_directory(target)
    return ModelInfo(target, name, document.model_uuid, signature, digest, manifest)
