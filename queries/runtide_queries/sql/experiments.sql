-- name: get_experiment
SELECT experiment_id, name, artifact_location, lifecycle_stage, created_at, updated_at
FROM experiments
WHERE experiment_id = $experiment_id

-- name: get_experiment_by_name
SELECT experiment_id, name, artifact_location, lifecycle_stage, created_at, updated_at
FROM experiments
WHERE name = $name
ORDER BY lifecycle_stage, experiment_id
LIMIT 1

-- name: get_experiment_tags
SELECT key, value
FROM experiment_tags
WHERE experiment_id = $experiment_id
ORDER BY key

-- name: list_experiments
-- A page ordered by number, then text, since ids are small integers as strings.
SELECT experiment_id, name, artifact_location, lifecycle_stage, created_at, updated_at
FROM experiments
WHERE lifecycle_stage = ANY ($lifecycle_stages::text[])
    AND (length(experiment_id), experiment_id) > (length($after::text), $after::text)
ORDER BY length(experiment_id), experiment_id
LIMIT $page_size

-- name: deleted_experiments
SELECT experiment_id
FROM experiments
WHERE experiment_id = ANY ($experiment_ids::text[]) AND lifecycle_stage = 'deleted'
