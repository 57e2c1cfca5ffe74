-- One batch into one table. `batch_rows` is the batch's Arrow table (one row per key), `batch_keys` the keys to delete.

-- name: points
INSERT INTO points BY NAME FROM batch_rows;

-- name: run_ids
INSERT INTO run_ids BY NAME FROM batch_rows;

-- name: metric_keys
INSERT INTO metric_keys BY NAME FROM batch_rows;

-- name: writer_ids
INSERT INTO writer_ids BY NAME FROM batch_rows;

-- name: projection_offsets
MERGE INTO projection_offsets USING batch_rows USING (topic, partition)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: update_projection_offsets
UPDATE projection_offsets SET next_offset = $next_offset, epoch = $epoch
WHERE topic = $topic AND partition = $partition;

-- name: last_request_offset
UPDATE projection_state SET value = $value WHERE name = 'last_request_offset';

-- name: made_by_code
INSERT INTO projection_state VALUES ('code', $value);

-- name: writer_positions
MERGE INTO writer_positions USING batch_rows USING (run_id, writer_id, topic)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: update_writer_positions
UPDATE writer_positions SET next_seq = $next_seq, final_count = $final_count
WHERE run_id = $run_id AND writer_id = $writer_id AND topic = $topic;

-- name: delete_writer_gaps
DELETE FROM writer_gaps USING batch_keys
WHERE (writer_gaps.run_id, writer_gaps.writer_id, writer_gaps.topic)
    = (batch_keys.run_id, batch_keys.writer_id, batch_keys.topic);

-- name: writer_gaps
INSERT INTO writer_gaps BY NAME FROM batch_rows;

-- name: runs
MERGE INTO runs USING batch_rows USING (run_id)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- The first value of a param wins.
-- name: params
MERGE INTO params USING batch_rows USING (run_id, key) WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: tags
MERGE INTO tags USING batch_rows USING (run_id, key)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: delete_tags
DELETE FROM tags USING batch_keys WHERE (tags.run_id, tags.key) = (batch_keys.run_id, batch_keys.key);

-- name: artifacts
MERGE INTO artifacts USING batch_rows USING (run_id, path)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: claimed_models
MERGE INTO claimed_models USING batch_rows USING (run_id, model_id)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- The first value of a param wins.
-- name: claimed_model_params
MERGE INTO claimed_model_params USING batch_rows USING (run_id, model_id, key) WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: claimed_model_tags
MERGE INTO claimed_model_tags USING batch_rows USING (run_id, model_id, key)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: delete_claimed_model_tags
DELETE FROM claimed_model_tags USING batch_keys
WHERE (claimed_model_tags.run_id, claimed_model_tags.model_id, claimed_model_tags.key)
    = (batch_keys.run_id, batch_keys.model_id, batch_keys.key);

-- name: run_models
MERGE INTO run_models USING batch_rows USING (run_id, model_id, role)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: model_points
INSERT INTO model_points BY NAME FROM batch_rows;

-- name: writers
MERGE INTO writers USING batch_rows USING (run_id, writer_id)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: experiments
MERGE INTO experiments USING batch_rows USING (experiment_id)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: experiment_requests
MERGE INTO experiment_requests USING batch_rows USING (request_id)
WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: registered_models
MERGE INTO registered_models USING batch_rows USING (name)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: delete_registered_models
DELETE FROM registered_models USING batch_keys WHERE registered_models.name = batch_keys.name;

-- name: model_versions
MERGE INTO model_versions USING batch_rows USING (name, version)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: delete_model_versions
DELETE FROM model_versions USING batch_keys
WHERE (model_versions.name, model_versions.version) = (batch_keys.name, batch_keys.version);

-- name: model_aliases
MERGE INTO model_aliases USING batch_rows USING (name, alias)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: delete_model_aliases
DELETE FROM model_aliases USING batch_keys
WHERE (model_aliases.name, model_aliases.alias) = (batch_keys.name, batch_keys.alias);

-- name: deployments
MERGE INTO deployments USING batch_rows USING (deployment_id)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: quarantine
MERGE INTO quarantine USING batch_rows USING (topic, partition, record_offset)
WHEN MATCHED THEN UPDATE BY NAME WHEN NOT MATCHED THEN INSERT BY NAME;

-- name: delete_quarantine
DELETE FROM quarantine USING batch_keys
WHERE (quarantine.topic, quarantine.partition, quarantine.record_offset)
    = (batch_keys.topic, batch_keys.partition, batch_keys.record_offset);

-- Whichever came first, the run or the answer to its experiment request: both have come when this joins.
-- name: resolve_experiments
UPDATE runs SET experiment_id = experiment_requests.experiment_id
FROM experiment_requests
WHERE experiment_requests.request_id = runs.experiment_request AND runs.experiment_id = '';

-- What a purged run had. Each for all runs of a batch at once: a statement reads its table once, however many runs it is about.
-- name: forget_points
DELETE FROM points WHERE run IN (SELECT unnest($runs));

-- name: forget_params
DELETE FROM params WHERE run_id IN (SELECT unnest($run_ids));

-- name: forget_tags
DELETE FROM tags WHERE run_id IN (SELECT unnest($run_ids));

-- name: forget_artifacts
DELETE FROM artifacts WHERE run_id IN (SELECT unnest($run_ids));

-- name: forget_writers
DELETE FROM writers WHERE run_id IN (SELECT unnest($run_ids));

-- Not the models outside of any run, which have no run's id, whoever gave them one of these.
-- name: forget_models
DELETE FROM claimed_models WHERE run_id IN (SELECT unnest($run_ids)) AND model_id NOT IN (run_id, 'm-' || run_id);

-- name: forget_model_params
DELETE FROM claimed_model_params WHERE run_id IN (SELECT unnest($run_ids)) AND model_id NOT IN (run_id, 'm-' || run_id);

-- name: forget_model_tags
DELETE FROM claimed_model_tags WHERE run_id IN (SELECT unnest($run_ids)) AND model_id NOT IN (run_id, 'm-' || run_id);

-- name: forget_model_points
DELETE FROM model_points WHERE run_id IN (SELECT unnest($run_ids));

-- name: forget_run_models
DELETE FROM run_models WHERE run_id IN (SELECT unnest($run_ids));
