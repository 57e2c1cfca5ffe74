"""The files that say in which environment a model runs: requirements.txt, conda.yaml, python_env.yaml (MLflow's)."""

import importlib.metadata
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

FILES = ("requirements.txt", "conda.yaml", "python_env.yaml")


def write_environment(directory: Path, requirements: Sequence[str]) -> None:
    """Write the three files for this interpreter and these pinned packages."""
    version = platform.python_version()
    (directory / "requirements.txt").write_text("\n".join(requirements), encoding="utf-8")
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [f"python={version}", "pip", {"pip": list(requirements)}],
        "name": "mlflow-env",
    }
    python = {
        "python": version,
        "build_dependencies": _build_dependencies(),
        "dependencies": ["-r requirements.txt"],
    }
    _write(directory / "conda.yaml", conda)
    _write(directory / "python_env.yaml", python)


def _build_dependencies() -> list[str]:
    found = []
    for name in ("pip", "setuptools", "wheel"):
        try:
            found.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(name)
    return found


def _write(path: Path, document: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(document, default_flow_style=False, sort_keys=False), encoding="utf-8")
