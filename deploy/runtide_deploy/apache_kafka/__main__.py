"""``python -m runtide_deploy.apache_kafka``: become one Apache Kafka node, or run three as children.

One node takes the place of this very process: SIGTERM stops it cleanly, and Java then reports status 143. With
``--nodes 3`` this process keeps three up until SIGTERM or Ctrl-C. Exit code 2: it cannot start, and the message says why.
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
from runtide_deploy.apache_kafka.cluster import CLUSTER_SIZES, ApacheKafkaCluster, check_size
from runtide_deploy.apache_kafka.serve import serve
from runtide_deploy.apache_kafka.settings import ApacheKafkaSettings
from runtide_deploy.apache_kafka.storage import address_of, server_command, with_ports

CANNOT_START = 2
_TYPES: dict[Any, Any] = {int: int, Path: Path, dict[str, str]: json.loads}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the node and replace this process by Java, or serve a cluster; return when that cannot be or is over."""
    given = vars(_parser().parse_args(arguments))
    nodes = given.pop("nodes")
    try:
        settings = ApacheKafkaSettings(**given)
        if nodes > 1:
            serve(ApacheKafkaCluster(settings, nodes))
            return 0
        if not settings.voters:
            check_size(settings.data, nodes)
        settings = with_ports(settings)
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
        description="Apache Kafka (KRaft) on this machine: one node, or a cluster of three. Every setting can also be given as "
        "RUNTIDE_APACHE_KAFKA_<NAME> in the environment.",
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--nodes",
        type=int,
        choices=CLUSTER_SIZES,
        default=1,
        help="Nodes of the cluster: 1, or 3 as children of this process (ports PORT, PORT+1, PORT+2).",
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
