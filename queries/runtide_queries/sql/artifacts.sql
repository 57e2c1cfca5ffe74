-- name: list_directory
-- The names in a directory of a run, as its facts have them: a file with its size, a directory without.
SELECT name, CASE WHEN bool_or(deeper) THEN NULL ELSE max(size) END AS size
FROM (
    SELECT split_part(substr(path, length($prefix::text) + 1), '/', 1) AS name,
        position('/' IN substr(path, length($prefix::text) + 1)) > 0 AS deeper, size
    FROM artifacts
    WHERE run_id = $run_id AND starts_with(path, $prefix::text)
) AS found
WHERE name COLLATE "C" > $after::text COLLATE "C"
GROUP BY name
ORDER BY name COLLATE "C"
LIMIT $count

-- name: get_model_place
SELECT run_id, uri, artifact_path
FROM logged_models
WHERE model_id = $model_id

-- name: get_version_source
SELECT source
FROM model_versions
WHERE name = $name AND version = $version AND NOT deleted
