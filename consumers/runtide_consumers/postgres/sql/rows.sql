-- Rows that are read, folded and written back whole: load_<table> by keys, save_<table> by columns.

-- name: load_runs
select t.* from unnest($run_id::text[]) as k (run_id) join runs t using (run_id);

-- name: save_runs
insert into runs
select * from unnest(
    $run_id::text[], $name::text[], $experiment_id::text[], $experiment_request::text[], $experiment_name::text[],
    $user_id::text[], $source_name::text[], $source_type::text[], $source_version::text[], $parent_run_id::text[],
    $status::text[], $start_time::bigint[], $end_time::bigint[], $end_reason::text[], $artifact_uri::text[],
    $lifecycle_stage::text[], $started::boolean[], $stated_status::text[], $lost_episode::bigint[],
    $recovered_episode::bigint[], $silent_since::bigint[], $deleted_at::bigint[], $deleted_by::text[])
on conflict (run_id) do update set
    name = excluded.name,
    experiment_id = excluded.experiment_id,
    experiment_request = excluded.experiment_request,
    experiment_name = excluded.experiment_name,
    user_id = excluded.user_id,
    source_name = excluded.source_name,
    source_type = excluded.source_type,
    source_version = excluded.source_version,
    parent_run_id = excluded.parent_run_id,
    status = excluded.status,
    start_time = excluded.start_time,
    end_time = excluded.end_time,
    end_reason = excluded.end_reason,
    artifact_uri = excluded.artifact_uri,
    lifecycle_stage = excluded.lifecycle_stage,
    started = excluded.started,
    stated_status = excluded.stated_status,
    lost_episode = excluded.lost_episode,
    recovered_episode = excluded.recovered_episode,
    silent_since = excluded.silent_since,
    deleted_at = excluded.deleted_at,
    deleted_by = excluded.deleted_by;

-- name: load_writers
select t.* from unnest($run_id::text[], $writer_id::text[]) as k (run_id, writer_id)
join writers t using (run_id, writer_id);

-- name: save_writers
insert into writers
select * from unnest(
    $run_id::text[], $writer_id::text[], $host::text[], $pid::bigint[], $rank::bigint[], $local_rank::bigint[],
    $world_size::bigint[], $client::text[], $opened_at::bigint[], $closed_at::bigint[], $close_reason::text[])
on conflict (run_id, writer_id) do update set
    host = excluded.host,
    pid = excluded.pid,
    rank = excluded.rank,
    local_rank = excluded.local_rank,
    world_size = excluded.world_size,
    client = excluded.client,
    opened_at = excluded.opened_at,
    closed_at = excluded.closed_at,
    close_reason = excluded.close_reason;

-- name: load_logged_models
select
    t.run_id, t.model_id, t.source_run_id, t.experiment_id, t.name, t.model_type, t.status, t.status_message,
    t.artifact_path, t.uri, t.digest, t.size, to_json(t.flavors)::text as flavors, t.signature, t.created_at,
    t.updated_at, t.deleted, t.announced
from unnest($run_id::text[], $model_id::text[]) as k (run_id, model_id)
join logged_models t using (run_id, model_id);

-- name: save_logged_models
insert into logged_models (
    run_id, model_id, source_run_id, experiment_id, name, model_type, status, status_message, artifact_path, uri, digest,
    size, flavors, signature, created_at, updated_at, deleted, announced)
select
    n.run_id, n.model_id, n.source_run_id, n.experiment_id, n.name, n.model_type, n.status, n.status_message,
    n.artifact_path, n.uri, n.digest, n.size, array(select json_array_elements_text(n.flavors::json)), n.signature,
    n.created_at, n.updated_at, n.deleted, n.announced
from unnest(
    $run_id::text[], $model_id::text[], $source_run_id::text[], $experiment_id::text[], $name::text[],
    $model_type::text[], $status::text[], $status_message::text[], $artifact_path::text[], $uri::text[],
    $digest::text[], $size::bigint[], $flavors::text[], $signature::text[], $created_at::bigint[],
    $updated_at::bigint[], $deleted::boolean[], $announced::boolean[])
    as n (run_id, model_id, source_run_id, experiment_id, name, model_type, status, status_message, artifact_path, uri,
          digest, size, flavors, signature, created_at, updated_at, deleted, announced)
on conflict (run_id, model_id) do update set
    source_run_id = excluded.source_run_id,
    experiment_id = excluded.experiment_id,
    name = excluded.name,
    model_type = excluded.model_type,
    status = excluded.status,
    status_message = excluded.status_message,
    artifact_path = excluded.artifact_path,
    uri = excluded.uri,
    digest = excluded.digest,
    size = excluded.size,
    flavors = excluded.flavors,
    signature = excluded.signature,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    deleted = excluded.deleted,
    announced = excluded.announced;

-- name: load_experiments
select t.* from unnest($experiment_id::text[]) as k (experiment_id) join experiments t using (experiment_id);

-- name: save_experiments
insert into experiments
select * from unnest(
    $experiment_id::text[], $name::text[], $artifact_location::text[], $lifecycle_stage::text[], $created_at::bigint[],
    $updated_at::bigint[])
on conflict (experiment_id) do update set
    name = excluded.name,
    artifact_location = excluded.artifact_location,
    lifecycle_stage = excluded.lifecycle_stage,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at;

-- name: load_registered_models
select t.* from unnest($name::text[]) as k (name) join registered_models t using (name);

-- name: save_registered_models
insert into registered_models
select * from unnest($name::text[], $description::text[], $created_at::bigint[], $updated_at::bigint[], $deleted::boolean[])
on conflict (name) do update set
    description = excluded.description,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    deleted = excluded.deleted;

-- name: load_model_versions
select
    t.name, t.version, t.source, t.run_id, t.model_id, t.digest, to_json(t.flavors)::text as flavors, t.description,
    t.stage, t.created_at, t.updated_at, t.deleted, t.run_link, t.location
from unnest($name::text[], $version::bigint[]) as k (name, version)
join model_versions t using (name, version);

-- name: save_model_versions
insert into model_versions
select
    n.name, n.version, n.source, n.run_id, n.model_id, n.digest,
    array(select json_array_elements_text(n.flavors::json)),
    n.description, n.stage, n.created_at, n.updated_at, n.deleted, n.run_link, n.location
from unnest(
    $name::text[], $version::bigint[], $source::text[], $run_id::text[], $model_id::text[], $digest::text[],
    $flavors::text[], $description::text[], $stage::text[], $created_at::bigint[], $updated_at::bigint[],
    $deleted::boolean[], $run_link::text[], $location::text[])
    as n (name, version, source, run_id, model_id, digest, flavors, description, stage, created_at, updated_at, deleted,
        run_link, location)
on conflict (name, version) do update set
    source = excluded.source,
    run_id = excluded.run_id,
    model_id = excluded.model_id,
    digest = excluded.digest,
    flavors = excluded.flavors,
    description = excluded.description,
    stage = excluded.stage,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    deleted = excluded.deleted,
    run_link = excluded.run_link,
    location = excluded.location;

-- name: load_webhooks
select t.* from unnest($webhook_id::text[]) as k (webhook_id) join webhooks t using (webhook_id);

-- name: save_webhooks
insert into webhooks
select * from unnest(
    $webhook_id::text[], $name::text[], $url::text[], $events::text[], $description::text[], $secret::text[],
    $status::text[], $created_at::bigint[], $updated_at::bigint[], $deleted::boolean[])
on conflict (webhook_id) do update set
    name = excluded.name,
    url = excluded.url,
    events = excluded.events,
    description = excluded.description,
    secret = excluded.secret,
    status = excluded.status,
    created_at = excluded.created_at,
    updated_at = excluded.updated_at,
    deleted = excluded.deleted;

-- name: load_endpoints
select t.* from unnest($endpoint::text[]) as k (endpoint) join endpoints t using (endpoint);

-- name: save_endpoints
insert into endpoints
select * from unnest(
    $endpoint::text[], $model::text[], $follow::text[], $alias::text[], $version::bigint[], $target::text[],
    $config::text[], $generation::bigint[], $requested_at::bigint[], $removed::boolean[])
on conflict (endpoint) do update set
    model = excluded.model,
    follow = excluded.follow,
    alias = excluded.alias,
    version = excluded.version,
    target = excluded.target,
    config = excluded.config,
    generation = excluded.generation,
    requested_at = excluded.requested_at,
    removed = excluded.removed;

-- name: load_deployments
select t.* from unnest($deployment_id::text[]) as k (deployment_id) join deployments t using (deployment_id);

-- name: save_deployments
insert into deployments
select * from unnest(
    $deployment_id::text[], $endpoint::text[], $model::text[], $version::bigint[], $source::text[], $digest::text[],
    $target::text[], $generation::bigint[], $state::text[], $url::text[], $instance::text[], $reason::text[],
    $cause::text[], $started_at::bigint[], $updated_at::bigint[])
on conflict (deployment_id) do update set
    endpoint = excluded.endpoint,
    model = excluded.model,
    version = excluded.version,
    source = excluded.source,
    digest = excluded.digest,
    target = excluded.target,
    generation = excluded.generation,
    state = excluded.state,
    url = excluded.url,
    instance = excluded.instance,
    reason = excluded.reason,
    cause = excluded.cause,
    started_at = excluded.started_at,
    updated_at = excluded.updated_at;
