-- The layout of the file. No PRIMARY KEY anywhere: keys are kept by the one writer, and an index on points would cost
-- most of the write rate. Times are Unix milliseconds. Change the layout only together with FORMAT_VERSION.
-- A rebuild reads these of any format, older and newer ones: format (version), projection_offsets, quarantine (entity).

-- What every file has, whatever is folded into it: how far the log was read, and what is parked.
-- name: create_log_tables
CREATE TABLE format (version INTEGER NOT NULL);
CREATE TABLE projection_offsets (
    topic VARCHAR NOT NULL, partition INTEGER NOT NULL, next_offset BIGINT NOT NULL, epoch BIGINT NOT NULL
);
CREATE TABLE projection_state (name VARCHAR NOT NULL, value BIGINT NOT NULL);
CREATE TABLE writer_positions (
    run_id VARCHAR NOT NULL, writer_id VARCHAR NOT NULL, topic VARCHAR NOT NULL,
    next_seq BIGINT NOT NULL, final_count BIGINT
);
CREATE TABLE writer_gaps (
    run_id VARCHAR NOT NULL, writer_id VARCHAR NOT NULL, topic VARCHAR NOT NULL,
    first_seq BIGINT NOT NULL, last_seq BIGINT NOT NULL
);
CREATE TABLE quarantine (
    topic VARCHAR NOT NULL, partition INTEGER NOT NULL, record_offset BIGINT NOT NULL, entity VARCHAR NOT NULL,
    kind VARCHAR NOT NULL, reason VARCHAR NOT NULL, key BLOB, value BLOB, headers BLOB NOT NULL,
    parked_at BIGINT NOT NULL
);
INSERT INTO projection_state VALUES ('last_request_offset', -1);

-- name: create_schema
CREATE TABLE run_ids (id INTEGER NOT NULL, run_id VARCHAR NOT NULL);
CREATE TABLE metric_keys (id INTEGER NOT NULL, key VARCHAR NOT NULL);
CREATE TABLE writer_ids (id INTEGER NOT NULL, writer_id VARCHAR NOT NULL);
-- place says which record of runtide.metrics a point came with: the partition above 44 bits of the offset.
CREATE TABLE points (
    run INTEGER NOT NULL, key INTEGER NOT NULL, writer INTEGER NOT NULL,
    step BIGINT NOT NULL, timestamp BIGINT NOT NULL, value DOUBLE NOT NULL, place BIGINT NOT NULL
);
CREATE TABLE runs (
    run_id VARCHAR NOT NULL, name VARCHAR NOT NULL, experiment_id VARCHAR NOT NULL,
    experiment_request VARCHAR NOT NULL, experiment_name VARCHAR NOT NULL, user_id VARCHAR NOT NULL,
    source_name VARCHAR NOT NULL, source_type VARCHAR NOT NULL, source_version VARCHAR NOT NULL,
    parent_run_id VARCHAR NOT NULL, status VARCHAR NOT NULL, start_time BIGINT, end_time BIGINT,
    end_reason VARCHAR NOT NULL, artifact_uri VARCHAR NOT NULL, lifecycle_stage VARCHAR NOT NULL,
    started BOOLEAN NOT NULL, stated_status VARCHAR NOT NULL, lost_episode BIGINT NOT NULL,
    recovered_episode BIGINT NOT NULL, silent_since BIGINT
);
CREATE TABLE params (run_id VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE tags (run_id VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL);
CREATE TABLE artifacts (
    run_id VARCHAR NOT NULL, path VARCHAR NOT NULL, uri VARCHAR NOT NULL, size BIGINT NOT NULL,
    sha256 VARCHAR NOT NULL, content_type VARCHAR NOT NULL, stored_at BIGINT NOT NULL
);
-- What one run says of a model, or a model outside of any run of itself: run_id is then its own id without "m-". All of
-- that lies in one partition. Readers go by the views below.
CREATE TABLE claimed_models (
    run_id VARCHAR NOT NULL, model_id VARCHAR NOT NULL, source_run_id VARCHAR NOT NULL, experiment_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL, model_type VARCHAR NOT NULL, status VARCHAR NOT NULL, status_message VARCHAR NOT NULL,
    artifact_path VARCHAR NOT NULL, uri VARCHAR NOT NULL, digest VARCHAR NOT NULL, size BIGINT NOT NULL,
    flavors VARCHAR[] NOT NULL, signature VARCHAR NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL, announced BOOLEAN NOT NULL
);
CREATE TABLE claimed_model_params (
    run_id VARCHAR NOT NULL, model_id VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL
);
CREATE TABLE claimed_model_tags (
    run_id VARCHAR NOT NULL, model_id VARCHAR NOT NULL, key VARCHAR NOT NULL, value VARCHAR NOT NULL
);
-- Appended as they come, as points are; the same one may have been logged twice.
CREATE TABLE model_points (
    model_id VARCHAR NOT NULL, run_id VARCHAR NOT NULL, key VARCHAR NOT NULL, dataset_name VARCHAR NOT NULL,
    dataset_digest VARCHAR NOT NULL, step BIGINT NOT NULL, timestamp BIGINT NOT NULL, value DOUBLE NOT NULL
);
-- Models that a run used (role input) or made (output).
CREATE TABLE run_models (run_id VARCHAR NOT NULL, model_id VARCHAR NOT NULL, role VARCHAR NOT NULL, step BIGINT NOT NULL);
CREATE TABLE writers (
    run_id VARCHAR NOT NULL, writer_id VARCHAR NOT NULL, host VARCHAR NOT NULL, pid BIGINT NOT NULL, rank BIGINT,
    local_rank BIGINT, world_size BIGINT, client VARCHAR NOT NULL, opened_at BIGINT, closed_at BIGINT,
    close_reason VARCHAR NOT NULL
);
CREATE TABLE experiments (
    experiment_id VARCHAR NOT NULL, name VARCHAR NOT NULL, artifact_location VARCHAR NOT NULL,
    lifecycle_stage VARCHAR NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
);
CREATE TABLE experiment_requests (request_id VARCHAR NOT NULL, experiment_id VARCHAR NOT NULL);
CREATE TABLE registered_models (
    name VARCHAR NOT NULL, description VARCHAR NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    deleted BOOLEAN NOT NULL
);
CREATE TABLE model_versions (
    name VARCHAR NOT NULL, version BIGINT NOT NULL, source VARCHAR NOT NULL, run_id VARCHAR NOT NULL,
    model_id VARCHAR NOT NULL, digest VARCHAR NOT NULL, flavors VARCHAR[] NOT NULL, description VARCHAR NOT NULL,
    stage VARCHAR NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, deleted BOOLEAN NOT NULL
);
CREATE TABLE model_aliases (name VARCHAR NOT NULL, alias VARCHAR NOT NULL, version BIGINT NOT NULL);
CREATE TABLE deployments (
    deployment_id VARCHAR NOT NULL, endpoint VARCHAR NOT NULL, model VARCHAR NOT NULL, version BIGINT NOT NULL,
    source VARCHAR NOT NULL, digest VARCHAR NOT NULL, target VARCHAR NOT NULL, generation BIGINT NOT NULL,
    state VARCHAR NOT NULL, url VARCHAR NOT NULL, instance VARCHAR NOT NULL, reason VARCHAR NOT NULL,
    cause VARCHAR NOT NULL, started_at BIGINT NOT NULL, updated_at BIGINT NOT NULL
);
-- Every point ever logged, with its names.
CREATE VIEW metrics AS
SELECT run_ids.run_id, metric_keys.key, points.step, points.timestamp, points.value, writer_ids.writer_id
FROM points
JOIN run_ids ON run_ids.id = points.run
JOIN metric_keys ON metric_keys.id = points.key
JOIN writer_ids ON writer_ids.id = points.writer;
-- One row per (run, key), as PostgreSQL keeps it: last and first by (step, timestamp, value), NaN above all numbers;
-- minimum and maximum are of the numbers only. Grouped by the names, not their numbers, so that a filter on run_id goes
-- through to the scan of points; write it as `run_id = $run_id` or `list_contains($run_ids, run_id)`: a semi-join
-- (IN (SELECT ...)) stays above the grouping, and every point is read.
CREATE VIEW metric_summaries AS
WITH summaries AS (
    SELECT run_ids.run_id, metric_keys.key,
        max(struct_pack(step := step, timestamp := timestamp, value := value)) AS latest,
        min(struct_pack(step := step, timestamp := timestamp, value := value)) AS earliest,
        min(value) FILTER (NOT isnan(value)) AS min_value,
        max(value) FILTER (NOT isnan(value)) AS max_value,
        count(*) AS point_count,
        count(*) FILTER (isnan(value)) AS nan_count
    FROM points
    JOIN run_ids ON run_ids.id = points.run
    JOIN metric_keys ON metric_keys.id = points.key
    GROUP BY run_ids.run_id, metric_keys.key
)
SELECT run_id, key,
    latest.value AS last_value, latest.step AS last_step, latest.timestamp AS last_timestamp,
    earliest.value AS first_value, earliest.step AS first_step, earliest.timestamp AS first_timestamp,
    min_value, max_value, point_count, nan_count
FROM summaries;
-- One row per model. Of several runs that claim an id the lesser run id has it, as for PostgreSQL's readers. run_id is the run
-- that made it, '' where none did.
CREATE VIEW logged_models AS
SELECT c.model_id, c.name, c.model_type, c.status, c.status_message, c.source_run_id AS run_id,
    coalesce(nullif(c.experiment_id, ''), r.experiment_id, '') AS experiment_id, c.artifact_path, c.uri, c.digest, c.size,
    c.flavors, c.signature, c.created_at, c.updated_at, c.deleted
FROM claimed_models c
LEFT JOIN runs r ON r.run_id = c.run_id
WHERE c.announced AND NOT EXISTS (
    SELECT 1 FROM claimed_models o WHERE o.model_id = c.model_id AND o.announced AND o.run_id < c.run_id);
CREATE VIEW logged_model_params AS
SELECT p.model_id, p.key, p.value
FROM claimed_model_params p
JOIN (SELECT model_id, min(run_id) AS run_id FROM claimed_models WHERE announced GROUP BY model_id) USING (model_id, run_id);
CREATE VIEW logged_model_tags AS
SELECT t.model_id, t.key, t.value
FROM claimed_model_tags t
JOIN (SELECT model_id, min(run_id) AS run_id FROM claimed_models WHERE announced GROUP BY model_id) USING (model_id, run_id);
-- Every distinct point that tells of a model; run_id is the run that logged it. metrics has it, too, as a point of that run.
CREATE VIEW logged_model_metrics AS
SELECT DISTINCT model_id, run_id, key, step, timestamp, value, dataset_name, dataset_digest FROM model_points;
INSERT INTO experiments VALUES ('0', 'Default', '', 'active', 0, 0);

-- name: transaction
SELECT txid_current();

-- name: set_format
INSERT INTO format VALUES ($version);

-- name: get_format
SELECT version FROM format;

-- name: list_tables
SELECT table_name FROM duckdb_tables() WHERE NOT internal;

-- name: list_columns
SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal ORDER BY table_name, column_index;
