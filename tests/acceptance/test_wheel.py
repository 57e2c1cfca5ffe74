"""What users install is the wheel, not the checkout: build it, install it elsewhere, import everything."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from runtide_schemas.registry import EVENT_TYPES

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("schemas", "producer", "consumers", "queries", "deploy")
PACKAGES = ("runtide_schemas", "runtide", "runtide_consumers", "runtide_queries", "runtide_deploy")

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
from pathlib import Path
for name in sys.argv[2:]:
    package = importlib.import_module(name)
    assert Path(package.__file__).is_relative_to(sys.argv[1]), package.__file__
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ImportError as error:
                if "pip install 'runtide[" not in str(error):  # else it is for a framework that is not here
                    raise
            print(module.name)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)], cwd=out)
    (built,) = out.glob("*.whl")
    return built


def run(command: list[str], cwd: Path, **environment: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RUNTIDE"))}
    done = subprocess.run(command, cwd=cwd, env={**clean, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def shipped_files() -> set[str]:
    """Every file of the packages, by its name inside the wheel."""
    listed = run(["git", "ls-files", *SOURCE_ROOTS], cwd=ROOT).split()
    inside = {name.split("/", 1)[1] for name in listed}
    return {name for name in inside if name.split("/", 1)[0] in PACKAGES and not name.endswith("README.md")}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    names = {
        name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name and not name.endswith(".md")
    }
    expected = shipped_files()
    assert expected <= names, sorted(expected - names)[:10]
    assert {name.split("/", 1)[0] for name in names} == set(PACKAGES)
    assert sum(name.startswith("runtide_schemas/avro/") for name in names) == len(EVENT_TYPES)
    assert sum(name.startswith("runtide_schemas/released/") for name in names) >= len(EVENT_TYPES)
    assert any(name.endswith(".sql") for name in names)


@pytest.mark.gate
def test_every_module_of_the_wheel_imports_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    printed = run(
        [sys.executable, "-c", IMPORT_EVERYTHING, str(unpacked), *PACKAGES], tmp_path, PYTHONPATH=str(unpacked)
    )
    assert len(printed.split()) > 40


def _install(wheel: Path, into: Path, extra: str) -> Path:
    venv.create(into, with_pip=True)
    python = into / "bin" / "python"
    target = f"runtide{extra} @ {wheel.as_uri()}"
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", target], into)
    return python


@pytest.mark.gate
def test_the_sdk_alone_installs_into_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    python = _install(wheel, tmp_path / "env", "")
    check = "import runtide, sys; assert 'duckdb' not in sys.modules; print(runtide.__file__)"
    assert str(tmp_path) in run([str(python), "-c", check], tmp_path)
    missing = (
        "import importlib.util as u; print([n for n in ('asyncpg', 'duckdb', 'kio', 'pyarrow') if u.find_spec(n)])"
    )
    assert run([str(python), "-c", missing], tmp_path).strip() == "[]"
    assert "Usage" in run([str(tmp_path / "env" / "bin" / "runtide"), "--help"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_whole_installs_into_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    python = _install(wheel, tmp_path / "env", "[demo,mlflow]")
    printed = run([str(python), "-c", IMPORT_EVERYTHING, str(tmp_path / "env"), *PACKAGES], tmp_path)
    assert len(printed.split()) > 40
