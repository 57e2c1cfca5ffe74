-- name: list_registered_models
SELECT m.name, m.description, m.created_at, m.updated_at,
    (SELECT max(v.version) FROM model_versions v WHERE v.name = m.name AND NOT v.deleted) AS latest_version
FROM registered_models m
WHERE NOT m.deleted AND m.name > $after AND ($prompts::boolean OR NOT EXISTS (
    SELECT FROM registered_model_tags t
    WHERE t.name = m.name AND t.key = 'mlflow.prompt.is_prompt' AND t.value = 'true'))
ORDER BY m.name
LIMIT $page_size

-- name: get_registered_model
SELECT m.name, m.description, m.created_at, m.updated_at,
    (SELECT max(v.version) FROM model_versions v WHERE v.name = m.name AND NOT v.deleted) AS latest_version
FROM registered_models m
WHERE m.name = $name AND NOT m.deleted

-- name: get_registered_model_tags
SELECT key, value
FROM registered_model_tags
WHERE name = $name
ORDER BY key

-- name: list_model_versions
SELECT name, version, source, run_id, model_id, digest, flavors, description, stage, created_at, updated_at
FROM model_versions
WHERE name = $name AND NOT deleted
ORDER BY version DESC

-- name: list_versions_of_run
SELECT name, version, source, run_id, model_id, digest, flavors, description, stage, created_at, updated_at
FROM model_versions
WHERE run_id = $run_id AND NOT deleted
ORDER BY name, version

-- name: list_model_version_tags
SELECT version, key, value
FROM model_version_tags
WHERE name = $name
ORDER BY version, key

-- name: list_aliases
SELECT name, alias, version
FROM model_aliases
WHERE name = ANY ($names::text[])
ORDER BY name, alias

-- name: get_model_version
SELECT v.name, v.version, v.source, v.run_id, v.model_id, v.digest, v.flavors, v.description, v.stage, v.created_at,
    v.updated_at, v.run_link, v.location,
    (SELECT array_agg(t.key ORDER BY t.key) FROM model_version_tags t WHERE (t.name, t.version) = (v.name, v.version)) AS tag_keys,
    (SELECT array_agg(t.value ORDER BY t.key) FROM model_version_tags t WHERE (t.name, t.version) = (v.name, v.version))
        AS tag_values,
    (SELECT array_agg(a.alias ORDER BY a.alias) FROM model_aliases a WHERE (a.name, a.version) = (v.name, v.version)) AS aliases
FROM model_versions v
WHERE v.name = $name AND v.version = $version::bigint AND NOT v.deleted

-- name: get_aliased_version
SELECT v.name, v.version, v.source, v.run_id, v.model_id, v.digest, v.flavors, v.description, v.stage, v.created_at,
    v.updated_at, v.run_link, v.location,
    (SELECT array_agg(t.key ORDER BY t.key) FROM model_version_tags t WHERE (t.name, t.version) = (v.name, v.version)) AS tag_keys,
    (SELECT array_agg(t.value ORDER BY t.key) FROM model_version_tags t WHERE (t.name, t.version) = (v.name, v.version))
        AS tag_values,
    (SELECT array_agg(a.alias ORDER BY a.alias) FROM model_aliases a WHERE (a.name, a.version) = (v.name, v.version)) AS aliases
FROM model_aliases p JOIN model_versions v ON (v.name, v.version) = (p.name, p.version)
WHERE p.name = $name AND p.alias = $alias AND NOT v.deleted

-- name: list_latest_versions
-- The latest version of each stage that has one.
SELECT v.name, v.version, v.source, v.run_id, v.model_id, v.digest, v.flavors, v.description, v.stage, v.created_at,
    v.updated_at, v.run_link, v.location,
    (SELECT array_agg(t.key ORDER BY t.key) FROM model_version_tags t WHERE (t.name, t.version) = (v.name, v.version)) AS tag_keys,
    (SELECT array_agg(t.value ORDER BY t.key) FROM model_version_tags t WHERE (t.name, t.version) = (v.name, v.version))
        AS tag_values,
    (SELECT array_agg(a.alias ORDER BY a.alias) FROM model_aliases a WHERE (a.name, a.version) = (v.name, v.version)) AS aliases
FROM model_versions v
WHERE v.name = $name AND v.version IN (
    SELECT max(l.version) FROM model_versions l WHERE l.name = $name AND NOT l.deleted GROUP BY l.stage
)
ORDER BY v.version

-- name: list_versions_of_logged_model
SELECT name, version
FROM model_versions
WHERE model_id = $model_id AND model_id <> '' AND NOT deleted
ORDER BY created_at, name, version
