-- The state's tables as they were at a moment. Each is put before a statement under the table's own name, as a common table
-- expression, so that the statements that read what is read what was. `moment` has the records that count, by partition.
-- Conditions on DISTINCT ON columns go through to the index, so one entity's past costs what that entity has.

-- name: moment
SELECT * FROM unnest($topics::text[], $partitions::int[], $next_offsets::bigint[]) AS m (topic, partition, next_offset)

-- name: latest
-- Rows as the last event before the moment left them; the marks /*…*/ are filled by past/store.py from a fixed table.
SELECT c.entity AS /*entity*/, r.*
FROM (
    SELECT DISTINCT ON (c.entity, c.key) c.entity, c.key, c.row
    FROM changes c
    JOIN moment m ON m.topic = c.topic AND m.partition = c.partition AND c.record_offset < m.next_offset
    WHERE c.table_name = /*table*/
    ORDER BY c.entity, c.key, c.record_offset DESC
) c
CROSS JOIN LATERAL jsonb_to_record(c.row) AS r (/*columns*/)
WHERE c.row IS NOT NULL

-- name: moved
-- Runs of which something was said since the moment. What is said now of the others held then, and need not be folded again.
SELECT x.run_id
FROM run_extents x
LEFT JOIN moment m ON m.topic = x.topic AND m.partition = x.partition
WHERE x.topic = 'runtide.runs' AND x.last_offset >= coalesce(m.next_offset, 0)

-- name: settled
-- Runs that were then what they are now (a purge is an event of the run like any other). Not those whose experiment the registrar
-- has named since, nor what only metrics tell of.
SELECT r.run_id
FROM runs r
WHERE EXISTS (SELECT 1 FROM run_extents x WHERE x.run_id = r.run_id AND x.topic = 'runtide.runs')
    AND NOT EXISTS (SELECT 1 FROM moved m WHERE m.run_id = r.run_id)
    AND NOT EXISTS (
        SELECT 1
        FROM history h
        LEFT JOIN moment n ON n.topic = h.topic AND n.partition = h.partition
        WHERE h.kind = 'experiment' AND h.type IN ('ExperimentCreated', 'ExperimentResolved')
            AND h.record_offset >= coalesce(n.next_offset, 0) AND h.body #>> '{answer,request_id}' = r.experiment_request
            AND r.experiment_request <> ''
    )

-- name: runs
-- A run is there with its first event of whatever topic. Its experiment is the one that its start named, or the answer to
-- the request that it named instead. What was purged is gone from the past, too.
SELECT r.run_id, r.name, r.experiment_id, r.experiment_request, r.experiment_name, r.user_id, r.source_name, r.source_type,
    r.source_version, r.parent_run_id, r.status, r.start_time, r.end_time, r.end_reason, r.artifact_uri, r.lifecycle_stage,
    r.started, r.silent_since, r.deleted_at, r.deleted_by
FROM runs r
WHERE EXISTS (SELECT 1 FROM settled s WHERE s.run_id = r.run_id)
UNION ALL
SELECT e.run_id, coalesce(r.name, '') AS name, coalesce(nullif(g.experiment_id, ''), q.experiment_id, '') AS experiment_id,
    coalesce(r.experiment_request, '') AS experiment_request, coalesce(r.experiment_name, '') AS experiment_name,
    coalesce(r.user_id, '') AS user_id, coalesce(r.source_name, '') AS source_name,
    coalesce(r.source_type, '') AS source_type, coalesce(r.source_version, '') AS source_version,
    coalesce(r.parent_run_id, '') AS parent_run_id, coalesce(r.status, 'RUNNING') AS status, r.start_time, r.end_time,
    coalesce(r.end_reason, '') AS end_reason, coalesce(r.artifact_uri, '') AS artifact_uri,
    CASE WHEN p.run_id IS NULL THEN coalesce(r.lifecycle_stage, 'active') ELSE 'purged' END AS lifecycle_stage,
    coalesce(r.started, false) AS started, r.silent_since, r.deleted_at, coalesce(r.deleted_by, '') AS deleted_by
FROM (
    SELECT x.run_id
    FROM run_extents x
    JOIN moment m ON m.topic = x.topic AND m.partition = x.partition AND x.first_offset < m.next_offset
    WHERE NOT EXISTS (SELECT 1 FROM settled s WHERE s.run_id = x.run_id)
    GROUP BY x.run_id
) e
LEFT JOIN run_receipts p ON p.run_id = e.run_id
LEFT JOIN (
    SELECT DISTINCT ON (c.entity) c.entity, c.row
    FROM changes c
    JOIN moment m ON m.topic = c.topic AND m.partition = c.partition AND c.record_offset < m.next_offset
    WHERE c.table_name = 'runs' AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.run_id = c.entity)
    ORDER BY c.entity, c.record_offset DESC
) l ON l.entity = e.run_id
LEFT JOIN (
    SELECT c.entity, max(c.row ->> 'experiment_id') AS experiment_id
    FROM changes c
    JOIN moment m ON m.topic = c.topic AND m.partition = c.partition AND c.record_offset < m.next_offset
    WHERE c.table_name = 'runs' AND NOT EXISTS (SELECT 1 FROM settled s WHERE s.run_id = c.entity)
    GROUP BY c.entity
) g ON g.entity = e.run_id
LEFT JOIN LATERAL jsonb_to_record(l.row) AS r (
    name text, experiment_request text, experiment_name text, user_id text, source_name text, source_type text,
    source_version text, parent_run_id text, status text, start_time bigint, end_time bigint, end_reason text,
    artifact_uri text, lifecycle_stage text, started boolean, silent_since bigint, deleted_at bigint, deleted_by text) ON true
LEFT JOIN (
    SELECT DISTINCT ON (h.body #>> '{answer,request_id}') h.body #>> '{answer,request_id}' AS request_id,
        h.body ->> 'experiment_id' AS experiment_id
    FROM history h
    JOIN moment m ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
    WHERE h.kind = 'experiment' AND h.type IN ('ExperimentCreated', 'ExperimentResolved')
    ORDER BY h.body #>> '{answer,request_id}', h.record_offset
) q ON q.request_id = r.experiment_request AND r.experiment_request <> ''

-- name: params
-- The first value of a key wins.
SELECT p.run_id, p.key, p.value
FROM params p
WHERE NOT EXISTS (SELECT 1 FROM moved s WHERE s.run_id = p.run_id)
UNION ALL
SELECT *
FROM (
    SELECT DISTINCT ON (h.entity, p.key) h.entity AS run_id, p.key, p.value
    FROM history h
    JOIN moment m ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
    CROSS JOIN LATERAL jsonb_each_text(h.body -> 'params') AS p (key, value)
    WHERE h.kind = 'run' AND h.type = 'ParamsLogged'
        AND EXISTS (SELECT 1 FROM moved s WHERE s.run_id = h.entity)
    ORDER BY h.entity, p.key, h.record_offset
) changing

-- name: tags
SELECT t.run_id, t.key, t.value
FROM tags t
WHERE NOT EXISTS (SELECT 1 FROM moved s WHERE s.run_id = t.run_id)
UNION ALL
SELECT c.entity AS run_id, r.*
FROM (
    SELECT DISTINCT ON (c.entity, c.key) c.entity, c.key, c.row
    FROM changes c
    JOIN moment m ON m.topic = c.topic AND m.partition = c.partition AND c.record_offset < m.next_offset
    WHERE c.table_name = 'tags' AND EXISTS (SELECT 1 FROM moved s WHERE s.run_id = c.entity)
    ORDER BY c.entity, c.key, c.record_offset DESC
) c
CROSS JOIN LATERAL jsonb_to_record(c.row) AS r (key text, value text)
WHERE c.row IS NOT NULL

-- name: param_conflicts
SELECT run_id, key, value, writer_id, seq
FROM (
    SELECT h.entity AS run_id, p.key, p.value, h.writer_id, h.seq,
        first_value(p.value) OVER (PARTITION BY h.entity, p.key ORDER BY h.record_offset) AS first_one
    FROM history h
    JOIN moment m ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
    CROSS JOIN LATERAL jsonb_each_text(h.body -> 'params') AS p (key, value)
    WHERE h.kind = 'run' AND h.type = 'ParamsLogged'
) logged
WHERE value <> first_one

-- name: inputs
SELECT DISTINCT ON (h.entity, d.one ->> 'name', d.one ->> 'digest') h.entity AS run_id, d.one ->> 'name' AS name,
    d.one ->> 'digest' AS digest, d.one ->> 'source_type' AS source_type, d.one ->> 'source' AS source,
    d.one ->> 'schema' AS schema, d.one ->> 'profile' AS profile, d.one ->> 'tags' AS tags
FROM history h
JOIN moment m ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
CROSS JOIN LATERAL jsonb_array_elements(h.body -> 'datasets') WITH ORDINALITY AS d (one, place)
WHERE h.kind = 'run' AND h.type = 'InputsLogged'
ORDER BY h.entity, d.one ->> 'name', d.one ->> 'digest', h.record_offset, d.place

-- name: artifacts
-- What was stored last at a path is what lies there.
SELECT DISTINCT ON (h.entity, h.body ->> 'path') h.entity AS run_id, h.body ->> 'path' AS path, h.body ->> 'uri' AS uri,
    (h.body ->> 'size')::bigint AS size, h.body ->> 'sha256' AS sha256, h.body ->> 'content_type' AS content_type,
    (h.body ->> 'at')::bigint AS stored_at
FROM history h
JOIN moment m ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
WHERE h.kind = 'run' AND h.type = 'ArtifactLogged'
ORDER BY h.entity, h.body ->> 'path', h.record_offset DESC

-- name: logged_model_params
-- The first value of a key wins.
SELECT c.entity AS run_id, r.*
FROM (
    SELECT DISTINCT ON (c.entity, c.key) c.entity, c.key, c.row
    FROM changes c
    JOIN moment m ON m.topic = c.topic AND m.partition = c.partition AND c.record_offset < m.next_offset
    WHERE c.table_name = 'logged_model_params'
    ORDER BY c.entity, c.key, c.record_offset
) c
CROSS JOIN LATERAL jsonb_to_record(c.row) AS r (model_id text, key text, value text)

-- name: logged_model_metrics
-- JSON has no NaN: it stands there as text.
SELECT DISTINCT p.one ->> 'model_id' AS model_id, h.entity AS run_id, p.one ->> 'key' AS key,
    p.one ->> 'dataset_name' AS dataset_name, p.one ->> 'dataset_digest' AS dataset_digest,
    (p.one ->> 'step')::bigint AS step, (p.one ->> 'timestamp')::bigint AS timestamp,
    (p.one ->> 'value')::double precision AS value
FROM history h
JOIN moment m ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
CROSS JOIN LATERAL jsonb_array_elements(h.body -> 'model_points') AS p (one)
WHERE h.kind = 'run' AND h.type = 'ModelMetricsLogged'

-- name: metric_summaries
-- Those of runs that have logged no point since stand as they are; the others were asked of the history store.
SELECT s.*
FROM metric_summaries s
WHERE NOT EXISTS (
    SELECT 1
    FROM run_extents x
    LEFT JOIN moment m ON m.topic = x.topic AND m.partition = x.partition
    WHERE x.run_id = s.run_id AND x.topic = 'runtide.metrics' AND x.last_offset >= coalesce(m.next_offset, 0)
)
UNION ALL
SELECT *
FROM unnest($run_ids::text[], $keys::text[], $last_values::float8[], $last_steps::bigint[], $last_timestamps::bigint[],
    $first_values::float8[], $first_steps::bigint[], $first_timestamps::bigint[], $min_values::float8[],
    $max_values::float8[], $point_counts::bigint[], $nan_counts::bigint[])

-- name: moved_runs
-- Runs with points on both sides of the moment.
SELECT x.run_id
FROM run_extents x
LEFT JOIN unnest($topics::text[], $partitions::int[], $next_offsets::bigint[]) AS m (topic, partition, next_offset)
    ON m.topic = x.topic AND m.partition = x.partition
WHERE x.topic = 'runtide.metrics' AND ($run_id::text = '' OR x.run_id = $run_id::text)
GROUP BY x.run_id
HAVING bool_or(x.last_offset >= coalesce(m.next_offset, 0)) AND bool_or(x.first_offset < coalesce(m.next_offset, 0))
ORDER BY x.run_id
LIMIT $most

-- name: list_history
-- The events of an entity before a moment, the newest first. Records' times are their writers'; the log's own time goes on
-- within a partition, so an event is as late as the latest before it.
SELECT *
FROM (
    SELECT h.*, max(h.record_time) OVER (PARTITION BY h.topic, h.partition ORDER BY h.record_offset) AS log_time
    FROM history h
    JOIN unnest($topics::text[], $partitions::int[], $next_offsets::bigint[]) AS m (topic, partition, next_offset)
        ON m.topic = h.topic AND m.partition = h.partition AND h.record_offset < m.next_offset
    WHERE h.kind = $kind AND h.entity = $entity
) h
WHERE (h.log_time, h.topic, h.partition, h.record_offset)
    < ($before_time::bigint, $before_topic::text, $before_partition::int, $before_offset::bigint)
ORDER BY h.log_time DESC, h.topic DESC, h.partition DESC, h.record_offset DESC
LIMIT $page_size

-- name: events_by_id
-- What led to other events: facts of the catalogue. One that is about several entities comes once.
SELECT DISTINCT ON (event_id) event_id, type, kind, entity, actor, body
FROM history
WHERE kind <> 'run' AND event_id = ANY ($event_ids::text[])
ORDER BY event_id, kind, entity
