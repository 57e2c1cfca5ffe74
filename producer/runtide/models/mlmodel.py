"""The `MLmodel` file: YAML, with MLflow's keys (https://mlflow.org/docs/latest/ml/model/#storage-format)."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pydantic
import yaml

from runtide.models.errors import ModelDirectoryError
from runtide.models.signature import ModelSignature

FILE_NAME = "MLmodel"
PYTHON_FUNCTION = "python_function"
_LARGEST_BYTES = 4 * 1024 * 1024


class SignatureTexts(pydantic.BaseModel):
    """Each part is a JSON text inside the YAML, as MLflow writes it."""

    inputs: str | None = None
    outputs: str | None = None
    params: str | None = None


class MLmodel(pydantic.BaseModel):
    """The content of an `MLmodel` file. Keys it does not know are kept, so that a file survives being read and written."""

    model_config = pydantic.ConfigDict(extra="allow", protected_namespaces=())

    flavors: dict[str, dict[str, Any]]
    model_uuid: str | None = pydantic.Field(default_factory=lambda: uuid.uuid4().hex)
    utc_time_created: str | None = pydantic.Field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}")
    mlflow_version: str | None = None
    model_id: str | None = None
    model_size_bytes: int | None = None
    signature: SignatureTexts | None = None
    saved_input_example_info: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None

    @property
    def model_signature(self) -> ModelSignature | None:
        """The signature, parsed. Raises `ModelDirectoryError` when it is not one."""
        if self.signature is None:
            return None
        try:
            return ModelSignature.from_strings(self.signature.inputs, self.signature.outputs, self.signature.params)
        except (ValueError, TypeError, KeyError) as error:
            raise ModelDirectoryError(f"The model's signature cannot be read: {error!r}") from error

    @classmethod
    def read(cls, directory: Path) -> "MLmodel":
        """The file of a model directory. Raises `ModelDirectoryError` when there is none or it says nonsense."""
        path = directory / FILE_NAME
        try:
            with path.open("rb") as file:
                text = file.read(_LARGEST_BYTES + 1)
        except OSError as error:
            raise ModelDirectoryError(
                f"{directory} is not a model: {path} cannot be read ({error.strerror})"
            ) from error
        if len(text) > _LARGEST_BYTES:
            raise ModelDirectoryError(f"{path} is larger than {_LARGEST_BYTES} bytes: not an MLmodel file")
        try:
            return cls.model_validate(yaml.load(text, _PlainLoader))  # noqa: S506 - it is a SafeLoader
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ModelDirectoryError(f"{path} is not an MLmodel file: {error}") from error

    def write(self, directory: Path) -> None:
        """Write the file into a model directory, keys in order, without those that were never set."""
        unset = {key for key in ("saved_input_example_info", "metadata", "signature") if getattr(self, key) is None}
        document = self.model_dump(exclude=unset)
        text = yaml.safe_dump(document, default_flow_style=False, allow_unicode=True)
        (directory / FILE_NAME).write_text(text, encoding="utf-8")


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases: nothing in an MLmodel needs them, and a few nested ones fill any memory."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)


def file_below(directory: Path, configuration: Mapping[str, Any], key: str) -> Path:
    """The file that a flavor's configuration names, which must lie in the model's directory.

    Raises `ModelDirectoryError` for a missing key, a path that leads out (also by a link) or a file that is not there.
    """
    name = configuration.get(key)
    if not isinstance(name, str) or not name:
        raise ModelDirectoryError(f"{directory}: the flavor's configuration names no '{key}'")
    relative = PurePosixPath(name)
    path = (directory / relative).resolve()
    if relative.is_absolute() or not path.is_relative_to(directory.resolve()):
        raise ModelDirectoryError(f"{directory}: '{key}' leads out of the model's directory: {name!r}")
    if not path.exists():
        raise ModelDirectoryError(f"{directory}: the file {name!r} named by '{key}' is not there")
    return path
