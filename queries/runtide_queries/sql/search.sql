-- Searches. The marks /*…*/ are filled by search/compile.py from fixed tables; every value is bound. Each finds its page first
-- (the statement search_…_page, which goes into it), and brings what belongs to the rows of that page only.

-- name: search_runs_page
SELECT r.* /*sort_keys*/
FROM runs r
/*joins*/
WHERE /*conditions*/
ORDER BY /*order*/
LIMIT /*page_size*/

-- name: search_runs
WITH /*before*/page AS MATERIALIZED (
/*page*/
)
SELECT page.*, e.name AS resolved_name, e.lifecycle_stage AS experiment_stage, p.*, t.*, m.*, i.input_rows, o.model_rows
FROM page
LEFT JOIN experiments e ON e.experiment_id = page.experiment_id
/*data*/
LEFT JOIN LATERAL (
    SELECT array_agg((name, digest, source_type, source, schema, profile, tags) ORDER BY name, digest) AS input_rows
    FROM inputs
    WHERE inputs.run_id = page.run_id
) i ON true
/*models*/
ORDER BY /*page_order*/

-- name: search_experiments_page
SELECT e.* /*sort_keys*/
FROM experiments e
/*joins*/
WHERE /*conditions*/
ORDER BY /*order*/
LIMIT /*page_size*/

-- name: search_experiments
WITH /*before*/page AS MATERIALIZED (
/*page*/
)
SELECT page.*, t.tag_keys, t.tag_values
FROM page
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS tag_keys, array_agg(value ORDER BY key) AS tag_values
    FROM experiment_tags
    WHERE experiment_tags.experiment_id = page.experiment_id
) t ON true
ORDER BY /*page_order*/

-- name: search_registered_models_page
SELECT m.* /*sort_keys*/
FROM registered_models m
/*joins*/
WHERE /*conditions*/
ORDER BY /*order*/
LIMIT /*page_size*/

-- name: search_registered_models
-- The latest version of a stage is the one with the greatest number.
WITH /*before*/page AS MATERIALIZED (
/*page*/
)
SELECT page.*, t.tag_keys, t.tag_values, a.alias_names, a.alias_versions, l.version_rows
FROM page
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS tag_keys, array_agg(value ORDER BY key) AS tag_values
    FROM registered_model_tags
    WHERE registered_model_tags.name = page.name
) t ON true
LEFT JOIN LATERAL (
    SELECT array_agg(alias ORDER BY alias) AS alias_names, array_agg(version ORDER BY alias) AS alias_versions
    FROM model_aliases
    WHERE model_aliases.name = page.name
) a ON true
LEFT JOIN LATERAL (
    SELECT array_agg((latest.version, latest.source, latest.run_id, latest.model_id, latest.digest, latest.flavors,
        latest.description, latest.stage, latest.created_at, latest.updated_at, latest.run_link, latest.tag_keys, latest.tag_values,
        latest.aliases) ORDER BY latest.version) AS version_rows
    FROM (
        SELECT DISTINCT ON (v.stage) v.*,
            array(SELECT key FROM model_version_tags g WHERE g.name = v.name AND g.version = v.version ORDER BY key)
                AS tag_keys,
            array(SELECT value FROM model_version_tags g WHERE g.name = v.name AND g.version = v.version ORDER BY key)
                AS tag_values,
            array(SELECT alias FROM model_aliases b WHERE b.name = v.name AND b.version = v.version ORDER BY alias)
                AS aliases
        FROM model_versions v
        WHERE v.name = page.name AND NOT v.deleted
        ORDER BY v.stage, v.version DESC
    ) latest
) l ON true
ORDER BY /*page_order*/

-- name: search_model_versions_page
SELECT m.* /*sort_keys*/
FROM model_versions m
/*joins*/
WHERE /*conditions*/
ORDER BY /*order*/
LIMIT /*page_size*/

-- name: search_model_versions
WITH /*before*/page AS MATERIALIZED (
/*page*/
)
SELECT page.*, t.tag_keys, t.tag_values, a.aliases
FROM page
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS tag_keys, array_agg(value ORDER BY key) AS tag_values
    FROM model_version_tags
    WHERE model_version_tags.name = page.name AND model_version_tags.version = page.version
) t ON true
LEFT JOIN LATERAL (
    SELECT array_agg(alias ORDER BY alias) AS aliases
    FROM model_aliases
    WHERE model_aliases.name = page.name AND model_aliases.version = page.version
) a ON true
ORDER BY /*page_order*/

-- name: search_datasets
SELECT DISTINCT r.experiment_id, i.name, i.digest, i.tags::jsonb ->> $context_tag::text AS context
FROM inputs i
JOIN runs r ON r.run_id = i.run_id
WHERE r.experiment_id = ANY ($experiment_ids::text[]) AND r.lifecycle_stage <> 'purged'
ORDER BY r.experiment_id, i.name, i.digest, context
LIMIT $most::bigint
