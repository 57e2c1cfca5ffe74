"""Packages with projections of an operator's own, put where Python finds them as if they had been installed."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree

EXAMPLE = Path(__file__).parent / "gradient_rollups"


def install_example(site: Path) -> None:
    """Build the example's wheel and unpack it into a folder for PYTHONPATH."""
    source = copytree(EXAMPLE, site.with_name(f"{site.name}-source"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(site)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    [wheel] = site.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def install(site: Path, package: str, projections: Mapping[str, str], code: str = "") -> None:
    """Install a module ``package`` of this code, with these projections (name: what the entry point names)."""
    folder = site / f"{package}-1.0.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in projections.items()]
    (folder / "entry_points.txt").write_text("".join(["[runtide.projections]\n", *lines]))
    (site / f"{package}.py").write_text(code)
