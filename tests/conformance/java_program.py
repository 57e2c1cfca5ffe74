"""The Java client's program with further options, as a secured broker needs them."""

import os
import subprocess
from pathlib import Path


def java_program(
    java: list[str], address: str, properties: str, folder: Path, scenario: str, *arguments: str
) -> "subprocess.CompletedProcess[str]":
    """Run a scenario with further client options, which go in a file: passwords have no place on a command line."""
    file = folder / "client.properties"
    file.write_text(properties)
    return subprocess.run(
        [*java, scenario, address, *arguments, *(["none"] if scenario == "idempotent-produce" else [])],
        env=os.environ | {"CLIENT_PROPERTIES": str(file)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
