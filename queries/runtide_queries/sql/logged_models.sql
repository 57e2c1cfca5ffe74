-- name: get_logged_model
-- Of several runs that claim a model id the lesser run id has it.
SELECT l.model_id, l.run_id, l.source_run_id, coalesce(nullif(l.experiment_id, ''), r.experiment_id, '') AS experiment_id,
    l.name, l.model_type, l.status, l.status_message, l.artifact_path, l.uri, l.digest, l.size, l.flavors, l.signature,
    l.created_at, l.updated_at, l.deleted
FROM logged_models l
LEFT JOIN runs r ON r.run_id = l.run_id
WHERE l.model_id = $model_id AND l.announced
ORDER BY l.run_id COLLATE "C"
LIMIT 1

-- name: get_run_of_logged_model
SELECT run_id
FROM logged_models
WHERE model_id = $model_id AND announced
ORDER BY run_id COLLATE "C"
LIMIT 1

-- name: get_logged_model_tags
SELECT key, value
FROM logged_model_tags
WHERE model_id = $model_id AND run_id = $run_id
ORDER BY key

-- name: get_logged_model_params
SELECT key, value
FROM logged_model_params
WHERE model_id = $model_id AND run_id = $run_id
ORDER BY key

-- name: get_logged_model_metrics
SELECT key, value, step, timestamp, run_id, dataset_name, dataset_digest
FROM logged_model_metrics
WHERE model_id = $model_id
ORDER BY key, timestamp, step, value, run_id, dataset_name, dataset_digest
LIMIT $most
