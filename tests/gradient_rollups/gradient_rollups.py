"""Per layer and 100 steps, what became of a run's gradients: which layer vanishes or explodes, and when."""

from runtide_consumers.duckdb.custom import Connection, DuckdbFold, NewEvents, run_over
from runtide_schemas import topics
from runtide_schemas.events.runs import RunDeleted, RunPurged, RunRestored, RunStarted

TABLES = """
CREATE TABLE runs (run_id VARCHAR PRIMARY KEY, name VARCHAR, stage VARCHAR NOT NULL);
CREATE TABLE layers (
    run_id VARCHAR, layer VARCHAR, first_step BIGINT,
    points BIGINT NOT NULL, not_finite BIGINT NOT NULL, vanishing BIGINT NOT NULL, smallest DOUBLE, largest DOUBLE,
    PRIMARY KEY (run_id, layer, first_step)
);
"""
STARTED = """
INSERT INTO runs (run_id, name, stage) VALUES (?, ?, 'active')
ON CONFLICT DO UPDATE SET name = coalesce(name, excluded.name) WHERE stage <> 'purged'
"""
STAGE = """
INSERT INTO runs (run_id, stage) VALUES (?, ?) ON CONFLICT DO UPDATE SET stage = excluded.stage WHERE stage <> 'purged'
"""
PURGED = "UPDATE runs SET name = NULL, stage = 'purged' WHERE run_id = ? AND stage = 'deleted'"
FORGET = "DELETE FROM layers WHERE run_id IN (SELECT run_id FROM runs WHERE stage = 'purged')"
ROLL_UP = """
INSERT INTO layers BY NAME
SELECT run_id, key[15:] AS layer, step // 100 * 100 AS first_step,
    count(*) AS points,
    count(*) FILTER (NOT isfinite(value)) AS not_finite,
    count(*) FILTER (abs(value) < 1e-7) AS vanishing,
    min(value) FILTER (isfinite(value)) AS smallest,
    max(value) FILTER (isfinite(value)) AS largest
FROM new_points
WHERE starts_with(key, 'gradient_norm/') AND run_id NOT IN (SELECT run_id FROM runs WHERE stage = 'purged')
GROUP BY ALL
ON CONFLICT DO UPDATE SET
    points = points + excluded.points,
    not_finite = not_finite + excluded.not_finite,
    vanishing = vanishing + excluded.vanishing,
    smallest = least(smallest, excluded.smallest),
    largest = greatest(largest, excluded.largest);
"""


class GradientRollups(DuckdbFold):
    """Gradient norms (metrics called gradient_norm/LAYER) per run, layer and 100 steps."""

    topics = frozenset({topics.RUNS, topics.METRICS})
    tables = {"runs": "run_id", "layers": "run_id"}
    layout_version = 1

    def create(self, connection: Connection) -> None:
        connection.execute(TABLES)

    def fold(self, connection: Connection, new: NewEvents) -> None:
        for event in new.events:
            match event.body:
                case RunStarted(run_id=run_id, name=name):
                    connection.execute(STARTED, [run_id, name])
                case RunDeleted(run_id=run_id):
                    connection.execute(STAGE, [run_id, "deleted"])
                case RunRestored(run_id=run_id):
                    connection.execute(STAGE, [run_id, "active"])
                case RunPurged(run_id=run_id):
                    connection.execute(PURGED, [run_id])
                    connection.execute(FORGET)
        run_over(connection, ROLL_UP, new_points=new.points())
