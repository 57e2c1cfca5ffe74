-- Layout of the operational state: what is. Everything here is folded from the log and can be rebuilt from it.
-- Times are Unix milliseconds, as in the events; nothing comes from the clock or from a sequence of the database.

create table if not exists projection_offsets (
    topic text not null,
    partition integer not null,
    next_offset bigint not null,
    epoch bigint not null,
    primary key (topic, partition)
);

create table if not exists projection_state (
    name text primary key,
    value bigint not null
);

create table if not exists writers (
    run_id text not null,
    writer_id text not null,
    host text not null,
    pid bigint not null,
    rank bigint,
    local_rank bigint,
    world_size bigint,
    client text not null,
    opened_at bigint,
    closed_at bigint,
    close_reason text not null,
    primary key (run_id, writer_id)
);

-- run_id is '' for the topics that are not about runs. heard_at: time of the latest record of those applied.
create table if not exists writer_positions (
    run_id text not null,
    writer_id text not null,
    topic text not null,
    next_seq bigint not null,
    final_count bigint,
    heard_at bigint,
    primary key (run_id, writer_id, topic)
);

-- since: time of the record after the gap, by which it was first seen.
create table if not exists writer_gaps (
    run_id text not null,
    writer_id text not null,
    topic text not null,
    first_seq bigint not null,
    last_seq bigint not null,
    since bigint not null,
    primary key (run_id, writer_id, topic, first_seq)
);

-- A row appears with the first event of a run, of whatever type; started tells whether RunStarted has come.
create table if not exists runs (
    run_id text primary key,
    name text not null,
    experiment_id text not null,
    experiment_request text not null,
    experiment_name text not null,
    user_id text not null,
    source_name text not null,
    source_type text not null,
    source_version text not null,
    parent_run_id text not null,
    status text not null,
    start_time bigint,
    end_time bigint,
    end_reason text not null,
    artifact_uri text not null,
    lifecycle_stage text not null,
    started boolean not null,
    stated_status text not null,
    lost_episode bigint not null,
    recovered_episode bigint not null,
    silent_since bigint,
    deleted_at bigint,
    deleted_by text not null default ''
);
create index if not exists runs_by_experiment
    on runs (experiment_id, lifecycle_stage, start_time desc nulls last, run_id collate "C");
create index if not exists runs_by_start on runs (start_time desc nulls last, run_id collate "C");
create index if not exists runs_unresolved on runs (experiment_request) where experiment_id = '' and experiment_request <> '';

create table if not exists params (
    run_id text not null,
    key text not null,
    value text not null,
    primary key (run_id, key)
);
create index if not exists params_by_value on params (key, left(value, 64));

create table if not exists param_conflicts (
    run_id text not null,
    key text not null,
    value text not null,
    writer_id text not null,
    seq bigint not null,
    primary key (run_id, key, writer_id, seq)
);

create table if not exists tags (
    run_id text not null,
    key text not null,
    value text not null,
    primary key (run_id, key)
);
create index if not exists tags_by_value on tags (key, left(value, 64));

-- One row per run and key, merged without regard to order: last is the greatest (step, timestamp, value), first the
-- least; NaN sorts above all numbers; min and max ignore NaN.
create table if not exists metric_summaries (
    run_id text not null,
    key text not null,
    last_value double precision not null,
    last_step bigint not null,
    last_timestamp bigint not null,
    first_value double precision not null,
    first_step bigint not null,
    first_timestamp bigint not null,
    min_value double precision,
    max_value double precision,
    point_count bigint not null,
    nan_count bigint not null,
    primary key (run_id, key)
);
create index if not exists metric_summaries_by_value on metric_summaries (key, last_value);

create table if not exists inputs (
    run_id text not null,
    name text not null,
    digest text not null,
    source_type text not null,
    source text not null,
    schema text not null,
    profile text not null,
    tags text not null,
    primary key (run_id, name, digest)
);
create index if not exists inputs_by_name on inputs (name, digest);

create table if not exists artifacts (
    run_id text not null,
    path text not null,
    uri text not null,
    size bigint not null,
    sha256 text not null,
    content_type text not null,
    stored_at bigint not null,
    primary key (run_id, path)
);

-- What a run says of a model. Of several runs that claim a model id the lesser run id has it. source_run_id is '' for a
-- model outside of any run, whose run_id is the rest of its own id; experiment_id is '' when it is that of the run.
create table if not exists logged_models (
    run_id text not null,
    model_id text not null,
    source_run_id text not null,
    experiment_id text not null,
    name text not null,
    model_type text not null,
    status text not null,
    status_message text not null,
    artifact_path text not null,
    uri text not null,
    digest text not null,
    size bigint not null,
    flavors text[] not null,
    signature text not null,
    created_at bigint not null,
    updated_at bigint not null,
    deleted boolean not null,
    announced boolean not null,
    primary key (run_id, model_id)
);
create index if not exists logged_models_by_id on logged_models (model_id);
create index if not exists logged_models_by_run on logged_models (run_id, created_at);

create table if not exists logged_model_tags (
    model_id text not null,
    key text not null,
    value text not null,
    run_id text not null,
    primary key (model_id, key, run_id)
);
create index if not exists logged_model_tags_by_run on logged_model_tags (run_id);

create table if not exists logged_model_params (
    model_id text not null,
    key text not null,
    value text not null,
    run_id text not null,
    primary key (model_id, key, run_id)
);
create index if not exists logged_model_params_by_run on logged_model_params (run_id);

-- One row per distinct point; run_id is the run that logged it, which need not be the model's. Names have no bound that an
-- index would hold, so theirs has digests of them.
create table if not exists logged_model_metrics (
    model_id text not null,
    run_id text not null,
    key text not null,
    dataset_name text not null,
    dataset_digest text not null,
    step bigint not null,
    timestamp bigint not null,
    value double precision not null
);
create unique index if not exists logged_model_metrics_once on logged_model_metrics
    (model_id, md5(key), run_id, md5(dataset_name), md5(dataset_digest), step, timestamp, value);
create index if not exists logged_model_metrics_by_run on logged_model_metrics (run_id);

-- Models that a run used (role input) or made (output).
create table if not exists run_models (
    run_id text not null,
    model_id text not null,
    role text not null,
    step bigint not null,
    primary key (run_id, model_id, role)
);
create index if not exists run_models_by_model on run_models (model_id);

create table if not exists experiments (
    experiment_id text primary key,
    name text not null,
    artifact_location text not null,
    lifecycle_stage text not null,
    created_at bigint not null,
    updated_at bigint not null
);
create index if not exists experiments_by_name on experiments (name);
insert into experiments values ('0', 'Default', '', 'active', 0, 0) on conflict do nothing;

create table if not exists experiment_requests (
    request_id text primary key,
    experiment_id text not null
);

create table if not exists experiment_tags (
    experiment_id text not null,
    key text not null,
    value text not null,
    primary key (experiment_id, key)
);

create table if not exists registered_models (
    name text primary key,
    description text not null,
    created_at bigint not null,
    updated_at bigint not null,
    deleted boolean not null
);

create table if not exists registered_model_tags (
    name text not null,
    key text not null,
    value text not null,
    primary key (name, key)
);

create table if not exists model_versions (
    name text not null,
    version bigint not null,
    source text not null,
    run_id text not null,
    model_id text not null,
    digest text not null,
    flavors text[] not null,
    description text not null,
    stage text not null,
    created_at bigint not null,
    updated_at bigint not null,
    deleted boolean not null,
    run_link text not null default '',
    location text not null default '',
    primary key (name, version)
);
create index if not exists model_versions_by_run on model_versions (run_id) where run_id <> '';
create index if not exists model_versions_by_model on model_versions (model_id) where model_id <> '';

create table if not exists model_version_tags (
    name text not null,
    version bigint not null,
    key text not null,
    value text not null,
    primary key (name, version, key)
);

create table if not exists model_aliases (
    name text not null,
    alias text not null,
    version bigint not null,
    primary key (name, alias)
);

-- secret is encrypted; whoever delivers has the key.
create table if not exists webhooks (
    webhook_id text primary key,
    name text not null,
    url text not null,
    events text not null,
    description text not null,
    secret text not null,
    status text not null,
    created_at bigint not null,
    updated_at bigint not null,
    deleted boolean not null
);
create index if not exists webhooks_by_age on webhooks (created_at desc, webhook_id) where not deleted;

create table if not exists rejected_requests (
    request_id text primary key,
    request_type text not null,
    code text not null,
    message text not null,
    rejected_at bigint not null
);

create table if not exists endpoints (
    endpoint text primary key,
    model text not null,
    follow text not null,
    alias text not null,
    version bigint not null,
    target text not null,
    config text not null,
    generation bigint not null,
    requested_at bigint not null,
    removed boolean not null
);

create table if not exists deployments (
    deployment_id text primary key,
    endpoint text not null,
    model text not null,
    version bigint not null,
    source text not null,
    digest text not null,
    target text not null,
    generation bigint not null,
    state text not null,
    url text not null,
    instance text not null,
    reason text not null,
    cause text not null,
    started_at bigint not null,
    updated_at bigint not null
);
create index if not exists deployments_by_endpoint on deployments (endpoint, started_at desc);

-- What the log said about each entity, metrics left out: every event that was applied, once for each entity that it is about.
-- Nothing here is ever changed; who asks for a moment of the past reads a prefix of it (topic, partition, record_offset).
create table if not exists history (
    kind text not null,
    entity text not null,
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    record_time bigint not null,
    event_time bigint not null,
    event_id text not null,
    type text not null,
    actor text not null,
    cause text not null,
    source text not null,
    writer_id text not null,
    seq bigint not null,
    body jsonb not null,
    primary key (kind, entity, topic, partition, record_offset)
);
create index if not exists history_by_event on history (event_id) where kind <> 'run';
create index if not exists history_of_model_metrics on history (topic, partition, record_offset)
    where type = 'ModelMetricsLogged';

-- A row of the state as each event left it, of those tables whose rows an event alone does not tell; null when it was taken
-- away. key is the row's key within its entity. Nothing that another partition decides is in it.
create table if not exists changes (
    kind text not null,
    entity text not null,
    table_name text not null,
    key text not null,
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    row jsonb,
    primary key (table_name, entity, key, topic, partition, record_offset)
);
insert into changes values ('experiment', '0', 'experiments', '', 'runtide.catalog', 0, -1,
    '{"name": "Default", "artifact_location": "", "lifecycle_stage": "active", "created_at": 0, "updated_at": 0}')
on conflict do nothing;

-- Where a run's events lie: its first and last in each partition.
create table if not exists run_extents (
    run_id text not null,
    topic text not null,
    partition integer not null,
    first_offset bigint not null,
    last_offset bigint not null,
    primary key (run_id, topic, partition)
);

-- What is left of a purged run beside its row: who gave it up when and why, what it had then, and what came of it since.
create table if not exists run_receipts (
    run_id text primary key,
    deleted_at bigint,
    deleted_by text not null,
    purged_at bigint not null,
    purged_by text not null,
    reason text not null,
    points bigint not null,
    metrics bigint not null,
    params bigint not null,
    tags bigint not null,
    inputs bigint not null,
    artifacts bigint not null,
    artifact_bytes bigint not null,
    models bigint not null,
    checksum text not null,
    points_seen bigint not null,
    late_events bigint not null,
    files_removed_at bigint,
    files_removed bigint not null,
    bytes_removed bigint not null
);

-- Part of the receipt: where the run's logged models kept files of their own, outside of the run's, and what became of those.
create table if not exists purged_models (
    run_id text not null,
    model_id text not null,
    uri text not null,
    files_removed_at bigint,
    files_removed bigint not null,
    bytes_removed bigint not null,
    primary key (run_id, model_id)
);
create index if not exists purged_models_with_files on purged_models (run_id) where files_removed_at is null;

-- headers is JSON: a list of [name, base64 of the value or null].
create table if not exists quarantine (
    topic text not null,
    partition integer not null,
    record_offset bigint not null,
    entity text not null,
    kind text not null,
    reason text not null,
    key bytea,
    value bytea,
    headers bytea not null,
    parked_at bigint not null,
    primary key (topic, partition, record_offset)
);
create index if not exists quarantine_by_entity on quarantine (entity, topic, partition, record_offset);
