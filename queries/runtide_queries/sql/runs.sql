-- name: get_run
SELECT r.run_id, r.name, r.experiment_id, coalesce(e.name, r.experiment_name) AS experiment_name, r.user_id,
    r.source_name, r.source_type, r.source_version, r.parent_run_id, r.status, r.start_time, r.end_time, r.end_reason,
    r.artifact_uri, r.lifecycle_stage, r.started, r.silent_since, r.deleted_at, r.deleted_by,
    e.lifecycle_stage AS experiment_stage
FROM runs r
LEFT JOIN experiments e ON e.experiment_id = r.experiment_id
WHERE r.run_id = $run_id

-- name: get_params
SELECT key, value
FROM params
WHERE run_id = $run_id
ORDER BY key

-- name: get_param_conflicts
SELECT key, value, writer_id, seq
FROM param_conflicts
WHERE run_id = $run_id
ORDER BY key, writer_id, seq

-- name: get_tags
SELECT key, value
FROM tags
WHERE run_id = $run_id
ORDER BY key

-- name: get_metric_summaries
SELECT key, last_value, last_step, last_timestamp, first_value, first_step, first_timestamp, min_value, max_value,
    point_count, nan_count
FROM metric_summaries
WHERE run_id = $run_id
ORDER BY key

-- name: get_inputs
SELECT name, digest, source_type, source, schema, profile, tags
FROM inputs
WHERE run_id = $run_id
ORDER BY name, digest

-- name: get_artifacts
SELECT path, uri, size, sha256, content_type, stored_at
FROM artifacts
WHERE run_id = $run_id
ORDER BY path

-- name: get_logged_models
SELECT model_id, name, artifact_path, uri, digest, size, flavors, signature, created_at, status
FROM logged_models
WHERE run_id = $run_id AND announced AND NOT deleted
ORDER BY created_at, model_id

-- name: get_run_models
SELECT model_id, role, step
FROM run_models
WHERE run_id = $run_id
ORDER BY role, step, model_id

-- name: get_writers
SELECT writer_id, host, pid, rank, local_rank, world_size, client, opened_at, closed_at, close_reason
FROM writers
WHERE run_id = $run_id
ORDER BY opened_at, writer_id

-- name: get_receipt
SELECT deleted_at, deleted_by, purged_at, purged_by, reason, points, metrics, params, tags, inputs, artifacts,
    artifact_bytes, models, checksum, points_seen, late_events, files_removed_at, files_removed, bytes_removed,
    (SELECT count(*) FROM purged_models m WHERE m.run_id = run_receipts.run_id) AS model_folders,
    (SELECT count(m.files_removed_at) FROM purged_models m WHERE m.run_id = run_receipts.run_id) AS model_folders_removed
FROM run_receipts
WHERE run_id = $run_id

-- name: get_run_state
SELECT r.run_id, r.experiment_id, r.name, r.user_id, r.status, r.start_time, r.end_time, r.artifact_uri,
    CASE WHEN r.lifecycle_stage = 'active' AND e.lifecycle_stage = 'deleted' THEN 'deleted' ELSE r.lifecycle_stage END
        AS lifecycle_stage
FROM runs r
LEFT JOIN experiments e ON e.experiment_id = r.experiment_id
WHERE r.run_id = $run_id

-- name: list_deleted_runs
SELECT run_id
FROM runs
WHERE experiment_id = $experiment_id AND lifecycle_stage = 'deleted'

-- name: get_params_of
SELECT key, value
FROM params
WHERE run_id = $run_id AND key = ANY ($keys::text[])

-- name: list_params_of
SELECT key, value
FROM params
WHERE run_id = $run_id
LIMIT $most

-- name: get_tag
SELECT key, value
FROM tags
WHERE run_id = $run_id AND key = $key
