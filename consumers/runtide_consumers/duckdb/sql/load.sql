-- Rows that a batch needs before it can change them, all of one scope at once.

-- name: positions
SELECT topic, partition, next_offset, epoch FROM projection_offsets;

-- name: last_request_offset
SELECT value FROM projection_state WHERE name = 'last_request_offset';

-- name: made_by_code
SELECT value FROM projection_state WHERE name = 'code';

-- name: purged
SELECT run_id FROM runs WHERE lifecycle_stage = 'purged';

-- name: blocked_entities
SELECT DISTINCT entity FROM quarantine WHERE entity <> '' AND kind <> 'dropped';

-- name: dropped
SELECT topic, partition, record_offset, entity, reason FROM quarantine WHERE kind = 'dropped';

-- The first records of an entity, until their values have so many bytes, and whether there are more behind them.
-- name: parked
WITH of_entity AS (
    SELECT topic, partition, record_offset FROM quarantine WHERE entity = $entity AND kind <> 'dropped'
), first_ones AS (
    SELECT quarantine.*, coalesce(sum(octet_length(value)) OVER (
        ORDER BY topic, partition, record_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS bytes_before
    FROM quarantine
    SEMI JOIN (FROM of_entity ORDER BY ALL LIMIT $most) chosen USING (topic, partition, record_offset)
)
SELECT * EXCLUDE (bytes_before), (SELECT count(*) FROM of_entity) AS standing
FROM first_ones
WHERE bytes_before < $most_bytes
ORDER BY topic, partition, record_offset;

-- name: parked_at
SELECT * FROM quarantine WHERE topic = $topic AND partition = $partition AND record_offset = $record_offset;

-- name: run_ids
SELECT run_id, id FROM run_ids;

-- name: metric_keys
SELECT key, id FROM metric_keys;

-- name: writer_ids
SELECT writer_id, id FROM writer_ids;

-- name: sequences
SELECT run_id, writer_id, topic, next_seq, final_count FROM writer_positions
WHERE writer_id IN (SELECT unnest($writers));

-- name: gaps
SELECT run_id, writer_id, topic, first_seq, last_seq FROM writer_gaps
WHERE writer_id IN (SELECT unnest($writers))
ORDER BY run_id, writer_id, topic, first_seq;

-- name: runs
SELECT * FROM runs WHERE run_id IN (SELECT unnest($scopes));

-- name: writers
SELECT * FROM writers WHERE run_id IN (SELECT unnest($scopes));

-- name: claimed_models
SELECT * FROM claimed_models WHERE model_id IN (SELECT unnest($scopes));

-- name: experiments
SELECT * FROM experiments WHERE experiment_id IN (SELECT unnest($scopes));

-- name: registered_models
SELECT * FROM registered_models WHERE name IN (SELECT unnest($scopes));

-- name: model_versions
SELECT * FROM model_versions WHERE name IN (SELECT unnest($scopes));

-- name: model_aliases
SELECT * FROM model_aliases WHERE name IN (SELECT unnest($scopes));

-- name: deployments
SELECT * FROM deployments WHERE deployment_id IN (SELECT unnest($scopes));
