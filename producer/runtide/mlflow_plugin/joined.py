"""Runs of other processes that nobody can tell of yet: writing to them needs nobody, and MLflow asks for a run first."""

import logging
import os
from pathlib import Path

from mlflow.environment_variables import MLFLOW_RUN_ID

from runtide.connection import Connection
from runtide.mlflow_plugin.gateway import Gateway
from runtide.mlflow_plugin.memory import RunMemory
from runtide.spool.segment import events_of, segment_files
from runtide.sync import find_spools
from runtide_schemas import topics
from runtide_schemas.codec import decode
from runtide_schemas.errors import RuntideError
from runtide_schemas.events.runs import RunStarted

log = logging.getLogger("runtide")


def may_exist(run_id: str, connection: Connection, gateway: Gateway) -> bool:
    """Say whether a run that the gateway does not know may be there all the same.

    It is when this process was told to write to it, when a spool of this machine is of it, or while projections are behind.
    """
    if os.environ.get(MLFLOW_RUN_ID.name) == run_id or (connection.spool / run_id).is_dir():
        return True
    return gateway.behind()


def describe_joined(memory: RunMemory, connection: Connection) -> None:
    """Fill in what this machine's spool says of a run, or else what any run is like: it runs, and has the usual place."""
    started = _started(connection.spool / memory.run_id)
    if started is None:
        log.warning(
            "nobody can tell of run %s yet: it is taken to be there, and to be running. What is logged to it is kept",
            memory.run_id,
        )
        memory.artifact_uri = f"{connection.artifacts}/{memory.run_id}/artifacts"
        return
    memory.experiment_id, memory.name, memory.user = started.experiment_id, started.name, started.user
    memory.start_time, memory.artifact_uri = started.start_time, started.artifact_uri
    memory.tags = {**started.tags, **memory.tags}


def _started(folder: Path) -> RunStarted | None:
    try:
        for spool in find_spools([folder]):
            for topic, _, path in segment_files(spool):
                if topic != topics.RUNS:
                    continue
                for event in events_of(path):
                    body = decode(event.value())
                    if isinstance(body, RunStarted):
                        return body
    except (RuntideError, OSError) as error:  # its writer delivers and deletes it meanwhile
        log.debug("the spool at %s cannot be read: %s", folder, error)
    return None
