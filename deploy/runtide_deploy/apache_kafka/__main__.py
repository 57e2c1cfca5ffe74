"""``python -m runtide_deploy.apache_kafka``: become one Apache Kafka node, in this very process.

SIGTERM stops it cleanly; Java then reports status 143. Exit code 2: it cannot start, and the message says why.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from runtide_deploy.apache_kafka.artefacts import CannotResolve, java_command, resolve_class_path
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings
from runtide_deploy.apache_kafka.storage import address_of, server_command, with_ports

CANNOT_START = 2
_TYPES: dict[Any, Any] = {int: int, Path: Path, dict[str, str]: json.loads}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the node and replace this process by Java; return only when that cannot be."""
    try:
        settings = with_ports(ApacheKafkaSettings(**vars(_parser().parse_args(arguments))))
        command = server_command(settings, java_command(), resolve_class_path())
    except (CannotResolve, ValidationError, OSError) as error:
        sys.stderr.write(f"Apache Kafka cannot start: {error}\n")
        return CANNOT_START
    sys.stderr.write(f"starting Apache Kafka on {address_of(settings)}\n")
    sys.stderr.flush()
    return os.execv(command[0], command)  # noqa: S606 - an argv of ours, no shell


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runtide_deploy.apache_kafka",
        description="One Apache Kafka node (KRaft) on this machine. Every setting can also be given as "
        "RUNTIDE_APACHE_KAFKA_<NAME> in the environment.",
        argument_default=argparse.SUPPRESS,
    )
    for name, field in ApacheKafkaSettings.model_fields.items():
        flag = "--" + name.replace("_", "-")
        if field.annotation is bool:
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=field.description)
        else:
            parser.add_argument(flag, type=_TYPES.get(field.annotation, str), help=field.description)
    return parser


if __name__ == "__main__":
    sys.exit(main())
