-- The search for logged models; marks as in search.sql.

-- name: search_logged_models_page
SELECT l.*, r.experiment_id AS run_experiment_id /*sort_keys*/
FROM logged_models l
/*joins*/
WHERE /*conditions*/
ORDER BY /*order*/
LIMIT /*page_size*/

-- name: search_logged_models
WITH /*before*/page AS MATERIALIZED (
/*page*/
)
SELECT page.*, t.tag_keys, t.tag_values, p.param_keys, p.param_values, m.metric_rows
FROM page
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS tag_keys, array_agg(value ORDER BY key) AS tag_values
    FROM logged_model_tags
    WHERE logged_model_tags.model_id = page.model_id AND logged_model_tags.run_id = page.run_id
) t ON true
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS param_keys, array_agg(value ORDER BY key) AS param_values
    FROM logged_model_params
    WHERE logged_model_params.model_id = page.model_id AND logged_model_params.run_id = page.run_id
) p ON true
LEFT JOIN LATERAL (
    SELECT array_agg((run_id, key, dataset_name, dataset_digest, step, timestamp, value)
        ORDER BY key, dataset_name, dataset_digest, timestamp, step, run_id) AS metric_rows
    FROM logged_model_metrics
    WHERE logged_model_metrics.model_id = page.model_id
) m ON true
ORDER BY /*page_order*/

-- name: models_of_runs
-- Goes into search_runs.
LEFT JOIN LATERAL (
    SELECT array_agg((model_id, role, step) ORDER BY role, step, model_id) AS model_rows
    FROM run_models
    WHERE run_models.run_id = page.run_id
) o ON true
