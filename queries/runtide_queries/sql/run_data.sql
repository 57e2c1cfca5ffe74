-- What a search for runs brings of each run of its page: one of these goes into search_runs.

-- name: summaries
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS param_keys, array_agg(value ORDER BY key) AS param_values
    FROM params
    WHERE params.run_id = page.run_id
) p ON true
LEFT JOIN LATERAL (
    SELECT array_agg(key ORDER BY key) AS tag_keys, array_agg(value ORDER BY key) AS tag_values
    FROM tags
    WHERE tags.run_id = page.run_id
) t ON true
LEFT JOIN LATERAL (
    SELECT /*metrics*/
    FROM metric_summaries
    WHERE metric_summaries.run_id = page.run_id
) m ON true

-- name: as_json
-- Lists of MLflow's API without their brackets, null where they would be empty. The name of a run is not among its tags. A double
-- is never written as an integer is; infinities are the largest doubles, as in MLflow's SQL store.
LEFT JOIN LATERAL (
    SELECT string_agg('{"key":' || to_json(key)::text || ',"value":' || to_json(value)::text || '}', ',' ORDER BY key)
        AS params_json
    FROM params
    WHERE params.run_id = page.run_id
) p ON true
LEFT JOIN LATERAL (
    SELECT string_agg('{"key":' || to_json(key)::text || ',"value":' || to_json(value)::text || '}', ',' ORDER BY key)
        AS tags_json
    FROM tags
    WHERE tags.run_id = page.run_id AND (tags.key <> 'mlflow.runName' OR page.name = '')
) t ON true
LEFT JOIN LATERAL (
    SELECT string_agg('{"key":' || to_json(key)::text || ',"value":' ||
        CASE
            WHEN last_value <> trunc(last_value) THEN last_value::text
            WHEN abs(last_value) < 1e15 THEN last_value::text || '.0'
            WHEN last_value = 'NaN'::float8 THEN '"NaN"'
            WHEN last_value = 'Infinity'::float8 THEN '1.7976931348623157e308'
            WHEN last_value = '-Infinity'::float8 THEN '-1.7976931348623157e308'
            ELSE last_value::text
        END
        || ',"timestamp":' || last_timestamp || ',"step":' || last_step || '}', ',' ORDER BY key) AS metrics_json
    FROM metric_summaries
    WHERE metric_summaries.run_id = page.run_id
) m ON true
