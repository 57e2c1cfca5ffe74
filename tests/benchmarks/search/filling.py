"""The same runs in our tables and in MLflow's: made by the server itself, from numbers alone, so that both have the same.

Not by way of the log: this measures reading, and 4.3 million rows take the server a minute.
"""

from collections.abc import Iterator

# In the order of the ids, so that the tables' keys grow at their end.
_RUNS = "(SELECT number FROM generate_series(1, {runs}) AS g (number) ORDER BY md5(number::text)) AS r"
_BY_RUN = "ORDER BY md5(r.number::text), k.number"
"""What is written of a run together lies together."""
_KEYS = "generate_series(0, 19) AS k (number)"
_ID = "md5(r.number::text)"
_VALUE = "(hashint8(r.number * 20 + k.number)::bigint + 2147483648) / 4294967296.0"
_PARAM = "CASE k.number WHEN 0 THEN r.number % 1000 ELSE (r.number / (k.number + 1)) % 10 END"
_TAGS = (("team", "'team' || r.number % 7"), ("mlflow.runName", "'run ' || r.number"), ("mlflow.user", "'somebody'"))

OURS = ("runtide.metric_summaries", "runtide.params", "runtide.tags")
MLFLOWS = ("latest_metrics", "params", "tags")
"""The large tables."""


def ours(runs: int) -> Iterator[str]:
    """The statements that fill Runtide's tables."""
    series = _RUNS.format(runs=runs)
    yield (
        f"INSERT INTO runtide.runs SELECT {_ID}, 'run ' || r.number, '1', '', '', 'somebody', '', '', '', '', 'FINISHED', r.number, "
        f"r.number + 10, '', 'file:/a', 'active', true, 'FINISHED', 0, 0, null, null, '' FROM {series}"
    )
    yield "INSERT INTO runtide.experiments VALUES ('1', 'one', '', 'active', 0, 0)"
    yield (
        f"INSERT INTO runtide.metric_summaries SELECT {_ID}, 'm' || k.number, v, 1, 1, v, 1, 1, v, v, 1, 0 "
        f"FROM {series}, {_KEYS}, LATERAL (SELECT {_VALUE}) AS drawn (v) {_BY_RUN}"
    )
    yield f"INSERT INTO runtide.params SELECT {_ID}, 'p' || k.number, {_PARAM} FROM {series}, {_KEYS} {_BY_RUN}"
    for key, value in _TAGS:
        yield f"INSERT INTO runtide.tags SELECT {_ID}, '{key}', {value} FROM {series}"
    yield "VACUUM ANALYZE"


def mlflows(runs: int) -> Iterator[str]:
    """The statements that fill MLflow's tables; the history of metrics, which no search reads, stays empty."""
    series = _RUNS.format(runs=runs)
    yield (
        "INSERT INTO experiments (experiment_id, name, artifact_location, lifecycle_stage, creation_time, last_update_time, workspace) "
        "VALUES (1, 'one', '', 'active', 0, 0, 'default')"
    )
    yield (
        "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time, end_time, source_version, "
        f"lifecycle_stage, artifact_uri, experiment_id) SELECT {_ID}, 'run ' || r.number, 'UNKNOWN', '', '', 'somebody', 'FINISHED', "
        f"r.number, r.number + 10, '', 'active', 'file:/a', 1 FROM {series}"
    )
    yield (
        "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid) "
        f"SELECT 'm' || k.number, {_VALUE}, 1, 1, false, {_ID} FROM {series}, {_KEYS} {_BY_RUN}"
    )
    yield f"INSERT INTO params (key, value, run_uuid) SELECT 'p' || k.number, {_PARAM}, {_ID} FROM {series}, {_KEYS} {_BY_RUN}"
    for key, value in _TAGS:
        yield f"INSERT INTO tags (key, value, run_uuid) SELECT '{key}', {value}, {_ID} FROM {series}"
    yield "VACUUM ANALYZE"
