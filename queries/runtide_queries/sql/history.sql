-- name: metric_history
-- Every point of one curve, in MLflow's order (metrics/get-history): timestamp, step, value.
SELECT step, timestamp, value, writer_id
FROM metrics
WHERE run_id = $run_id AND key = $key
ORDER BY timestamp, step, value
LIMIT $most

-- name: curve_points
-- The points of one curve in no order, at most $most. Of the view's tables only those that it takes: planning is most of the work.
SELECT p.step, p.timestamp, p.value
FROM points p
JOIN run_ids r ON r.id = p.run
JOIN metric_keys k ON k.id = p.key
WHERE r.run_id = $run_id AND k.key = $key
LIMIT $most

-- name: curve
-- One curve cut into at most $buckets equal spans of steps. Minimum, maximum and mean leave NaN out; the last value of a bucket
-- is that of the greatest (step, timestamp, value). Doubles, since a span may exceed 64 bits.
WITH curve_points AS (
    SELECT p.step, p.timestamp, p.value
    FROM points p
    JOIN run_ids r ON r.id = p.run
    JOIN metric_keys k ON k.id = p.key
    WHERE r.run_id = $run_id AND k.key = $key
),
span AS (SELECT min(step)::DOUBLE AS low, max(step)::DOUBLE - min(step)::DOUBLE + 1 AS width FROM curve_points)
SELECT least(floor((p.step::DOUBLE - s.low) / s.width * $buckets), $buckets - 1)::BIGINT AS bucket,
    min(p.step) AS first_step, max(p.step) AS last_step, max(p.timestamp) AS timestamp,
    min(p.value) FILTER (NOT isnan(p.value)) AS minimum, max(p.value) FILTER (NOT isnan(p.value)) AS maximum,
    avg(p.value) FILTER (isfinite(p.value)) AS mean,
    arg_max(p.value, (p.step, p.timestamp, p.value)) AS last, count(*) AS points
FROM curve_points p
CROSS JOIN span s
GROUP BY bucket
ORDER BY bucket

-- name: curves
-- Several curves, each cut as by the statement above. Points are told apart by numbers, and named once they are buckets.
WITH wanted_points AS (
    SELECT p.run, p.key, p.step, p.timestamp, p.value
    FROM points p
    JOIN (SELECT id FROM run_ids WHERE list_contains($run_ids::VARCHAR[], run_id)) r ON r.id = p.run
    JOIN (SELECT id FROM metric_keys WHERE list_contains($keys::VARCHAR[], key)) k ON k.id = p.key
),
spans AS (
    SELECT run, key, min(step)::DOUBLE AS low, max(step)::DOUBLE - min(step)::DOUBLE + 1 AS width
    FROM wanted_points
    GROUP BY run, key
),
cut AS (
    SELECT p.run, p.key,
        least(floor((p.step::DOUBLE - s.low) / s.width * $buckets), $buckets - 1)::BIGINT AS bucket,
        min(p.step) AS first_step, max(p.step) AS last_step, max(p.timestamp) AS timestamp,
        min(p.value) FILTER (NOT isnan(p.value)) AS minimum, max(p.value) FILTER (NOT isnan(p.value)) AS maximum,
        avg(p.value) FILTER (isfinite(p.value)) AS mean,
        arg_max(p.value, (p.step, p.timestamp, p.value)) AS last, count(*) AS points
    FROM wanted_points p
    JOIN spans s ON s.run = p.run AND s.key = p.key
    GROUP BY ALL
)
SELECT r.run_id, k.key, cut.* EXCLUDE (run, key)
FROM cut
JOIN run_ids r ON r.id = cut.run
JOIN metric_keys k ON k.id = cut.key
ORDER BY r.run_id, k.key, cut.bucket

-- name: writer_curves
-- One metric of one run, a curve per writer: like curves, over spans of steps that all writers share, so that their
-- buckets stand side by side. Ranks in order, each one's attempts by age.
WITH points AS (
    SELECT writer_id, step, timestamp, value
    FROM metrics
    WHERE run_id = $run_id AND key = $key
),
span AS (SELECT min(step)::DOUBLE AS low, max(step)::DOUBLE - min(step)::DOUBLE + 1 AS width FROM points),
known AS (SELECT writer_id, rank, local_rank, host, client, opened_at FROM writers WHERE run_id = $run_id)
SELECT p.writer_id, w.rank, w.local_rank, w.host, w.client, w.opened_at,
    least(floor((p.step::DOUBLE - s.low) / s.width * $buckets), $buckets - 1)::BIGINT AS bucket,
    min(p.step) AS first_step, max(p.step) AS last_step, max(p.timestamp) AS timestamp,
    min(p.value) FILTER (NOT isnan(p.value)) AS minimum, max(p.value) FILTER (NOT isnan(p.value)) AS maximum,
    avg(p.value) FILTER (isfinite(p.value)) AS mean,
    arg_max(p.value, (p.step, p.timestamp, p.value)) AS last, count(*) AS points
FROM points p
CROSS JOIN span s
LEFT JOIN known w ON w.writer_id = p.writer_id
GROUP BY ALL
ORDER BY w.rank NULLS LAST, w.opened_at NULLS LAST, p.writer_id, bucket

-- name: compare_runs
SELECT run_id, name, experiment_id, status, start_time, end_time, lifecycle_stage
FROM runs
WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[]))

-- name: compare_params
SELECT key, run_id, value
FROM params
WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[]))
ORDER BY key, run_id

-- name: compare_metrics
-- What the view metric_summaries says, of these runs only: through the view DuckDB would summarise every run first.
WITH points AS (
    SELECT run_id, key, value, struct_pack(step := step, timestamp := timestamp, value := value) AS place
    FROM metrics
    WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[]))
),
summaries AS (
    SELECT key, run_id, max(place) AS latest, min(place) AS earliest,
        min(value) FILTER (NOT isnan(value)) AS min_value, max(value) FILTER (NOT isnan(value)) AS max_value,
        count(*) AS point_count, count(*) FILTER (isnan(value)) AS nan_count
    FROM points
    GROUP BY key, run_id
)
SELECT key, run_id, latest.value AS last_value, latest.step AS last_step, latest.timestamp AS last_timestamp,
    earliest.value AS first_value, earliest.step AS first_step, earliest.timestamp AS first_timestamp, min_value, max_value,
    point_count, nan_count
FROM summaries
ORDER BY key, run_id

-- name: get_received
-- How many events are here of each writer and topic of a run.
SELECT p.writer_id, p.topic, p.next_seq - coalesce(g.missing, 0) AS received
FROM writer_positions p
LEFT JOIN (
    SELECT writer_id, topic, sum(last_seq - first_seq + 1)::BIGINT AS missing
    FROM writer_gaps
    WHERE run_id = $run_id
    GROUP BY ALL
) g ON g.writer_id = p.writer_id AND g.topic = p.topic
WHERE p.run_id = $run_id

-- name: count_parked_of
SELECT count(*) AS parked, min(parked_at) AS since FROM quarantine WHERE entity = $run_id AND kind <> 'dropped'

-- name: list_quarantine
-- This and the next three are as in operations.sql: each projection has a quarantine of its own.
SELECT topic, partition, record_offset, entity, kind, reason, parked_at, octet_length(value) AS value_bytes
FROM quarantine
WHERE (topic, partition, record_offset) > ($after_topic, $after_partition, $after_offset)
    AND ($entity = '' OR entity = $entity)
    AND (kind = $kind OR $kind = '' AND kind <> 'dropped')
ORDER BY topic, partition, record_offset
LIMIT $page_size

-- name: count_quarantine
SELECT kind, count(*) AS events
FROM quarantine
GROUP BY kind
ORDER BY kind

-- name: get_parked
SELECT entity, kind, reason, parked_at, octet_length(value) AS value_bytes, key, value, headers
FROM quarantine
WHERE topic = $topic AND partition = $partition AND record_offset = $record_offset

-- name: list_released
SELECT entity, min(topic) AS topic, min(partition) AS partition, min(record_offset) AS record_offset
FROM quarantine
WHERE kind <> 'dropped' AND ($kind = '' OR kind = $kind) AND ($entity = '' OR entity = $entity)
GROUP BY entity, CASE WHEN entity = '' THEN topic || '/' || partition || '/' || record_offset ELSE '' END
ORDER BY entity, topic, partition, record_offset
LIMIT $most

-- name: summaries_at
-- What the metrics of some runs had come to, of points whose place in the log is before the next one of its partition. As in
-- PostgreSQL, of equal values the one with a sign is the greater.
WITH ends AS (SELECT unnest($partitions::BIGINT[]) AS partition, unnest($next_places::BIGINT[]) AS next_place),
points_then AS (
    SELECT r.run_id, k.key, p.value,
        struct_pack(step := p.step, timestamp := p.timestamp, value := p.value, sign := signbit(p.value)) AS place
    FROM points p
    JOIN ends e ON e.partition = p.place >> 44 AND p.place < e.next_place
    JOIN run_ids r ON r.id = p.run
    JOIN metric_keys k ON k.id = p.key
    WHERE r.run_id IN (SELECT unnest($run_ids::VARCHAR[]))
),
summaries AS (
    SELECT run_id, key, arg_max(value, place) AS last_value, max(place) AS latest, arg_min(value, place) AS first_value,
        min(place) AS earliest,
        min(value) FILTER (NOT isnan(value)) AS min_value, max(value) FILTER (NOT isnan(value)) AS max_value,
        count(*) AS point_count, count(*) FILTER (isnan(value)) AS nan_count
    FROM points_then
    GROUP BY run_id, key
)
SELECT run_id, key, last_value, latest.step AS last_step, latest.timestamp AS last_timestamp, first_value,
    earliest.step AS first_step, earliest.timestamp AS first_timestamp, min_value + 0.0 AS min_value,
    max_value + 0.0 AS max_value, point_count, nan_count
FROM summaries
ORDER BY run_id, key

-- name: first_points
-- The first distinct points of one curve, in MLflow's order. As the next three it goes past the view of metrics, which looks
-- every point's writer up: where few points are wanted, that was half of the time.
SELECT DISTINCT points.timestamp, points.step, points.value
FROM points
JOIN run_ids ON run_ids.id = points.run
JOIN metric_keys ON metric_keys.id = points.key
WHERE run_ids.run_id = $run_id AND metric_keys.key = $key
ORDER BY points.timestamp, points.step, points.value
LIMIT $most

-- name: next_points
-- Those behind one of them. The value is text, for JSON has no NaN.
SELECT DISTINCT points.timestamp, points.step, points.value
FROM points
JOIN run_ids ON run_ids.id = points.run
JOIN metric_keys ON metric_keys.id = points.key
WHERE run_ids.run_id = $run_id AND metric_keys.key = $key
    AND (points.timestamp, points.step, points.value)
        > ($after_timestamp::BIGINT, $after_step::BIGINT, $after_value::VARCHAR::DOUBLE)
ORDER BY points.timestamp, points.step, points.value
LIMIT $most

-- name: points_of_runs
SELECT DISTINCT run_ids.run_id, points.timestamp, points.step, points.value
FROM points
JOIN run_ids ON run_ids.id = points.run
JOIN metric_keys ON metric_keys.id = points.key
WHERE run_ids.run_id IN (SELECT unnest($run_ids::VARCHAR[])) AND metric_keys.key = $key
ORDER BY run_ids.run_id, points.timestamp, points.step, points.value
LIMIT $most

-- name: sampled_points
-- At most $most points of each run, as MLflow chooses them: the first of each of $most equal parts of the run's points by step,
-- timestamp and value, and the last of all instead of that of the last part.
WITH found AS (
    SELECT DISTINCT run_ids.run_id, points.timestamp, points.step, points.value
    FROM points
    JOIN run_ids ON run_ids.id = points.run
    JOIN metric_keys ON metric_keys.id = points.key
    WHERE run_ids.run_id IN (SELECT unnest($run_ids::VARCHAR[])) AND metric_keys.key = $key
        AND points.step BETWEEN $low::BIGINT AND $high::BIGINT
),
placed AS (
    SELECT *, ntile($most::BIGINT) OVER of_run AS part, row_number() OVER of_run AS place, count(*) OVER whole_run AS total
    FROM found
    WINDOW of_run AS (PARTITION BY run_id ORDER BY step, timestamp, value), whole_run AS (PARTITION BY run_id)
),
beside AS (SELECT *, lag(part) OVER (PARTITION BY run_id ORDER BY place) AS part_before FROM placed)
SELECT run_id, timestamp, step, value
FROM beside
WHERE place = total OR part < least($most, total) AND part IS DISTINCT FROM part_before
ORDER BY list_position($run_ids::VARCHAR[], run_id), step, timestamp, value
