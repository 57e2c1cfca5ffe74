-- name: metric_history
-- Every point of one curve, in MLflow's order (metrics/get-history): timestamp, step, value.
SELECT step, timestamp, value, writer_id
FROM metrics
WHERE run_id = $run_id AND key = $key
ORDER BY timestamp, step, value
LIMIT $most

-- name: curves
-- Several curves cut into at most $buckets equal spans of steps each. Minimum, maximum and mean leave NaN out; the
-- last value of a bucket is that of the greatest (step, timestamp, value). Doubles, since a span may exceed 64 bits.
WITH points AS (
    SELECT run_id, key, step, timestamp, value
    FROM metrics
    WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[])) AND key IN (SELECT unnest($keys::VARCHAR[]))
),
spans AS (
    SELECT run_id, key, min(step)::DOUBLE AS low, max(step)::DOUBLE - min(step)::DOUBLE + 1 AS width
    FROM points
    GROUP BY run_id, key
)
SELECT p.run_id, p.key,
    least(floor((p.step::DOUBLE - s.low) / s.width * $buckets), $buckets - 1)::BIGINT AS bucket,
    min(p.step) AS first_step, max(p.step) AS last_step, max(p.timestamp) AS timestamp,
    min(p.value) FILTER (NOT isnan(p.value)) AS minimum, max(p.value) FILTER (NOT isnan(p.value)) AS maximum,
    avg(p.value) FILTER (isfinite(p.value)) AS mean,
    arg_max(p.value, (p.step, p.timestamp, p.value)) AS last, count(*) AS points
FROM points p
JOIN spans s ON s.run_id = p.run_id AND s.key = p.key
GROUP BY ALL
ORDER BY p.run_id, p.key, bucket

-- name: compare_runs
SELECT run_id, name, experiment_id, status, start_time, end_time
FROM runs
WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[]))

-- name: compare_params
SELECT key, run_id, value
FROM params
WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[]))
ORDER BY key, run_id

-- name: compare_metrics
SELECT key, run_id, last_value, last_step, last_timestamp, first_value, first_step, first_timestamp, min_value,
    max_value, point_count, nan_count
FROM metric_summaries
WHERE run_id IN (SELECT unnest($run_ids::VARCHAR[]))
ORDER BY key, run_id
