-- Changes that need not know the row before. A null value of a tag or alias means that it is gone.

-- name: tags
with change as (
    select * from unnest($run_id::text[], $key::text[], $value::text[]) as c (run_id, key, value)
), gone as (
    delete from tags t using change c where t.run_id = c.run_id and t.key = c.key and c.value is null
)
insert into tags select run_id, key, value from change where value is not null
on conflict (run_id, key) do update set value = excluded.value;

-- name: experiment_tags
with change as (
    select * from unnest($experiment_id::text[], $key::text[], $value::text[]) as c (experiment_id, key, value)
), gone as (
    delete from experiment_tags t using change c
    where t.experiment_id = c.experiment_id and t.key = c.key and c.value is null
)
insert into experiment_tags select experiment_id, key, value from change where value is not null
on conflict (experiment_id, key) do update set value = excluded.value;

-- name: registered_model_tags
with change as (
    select * from unnest($name::text[], $key::text[], $value::text[]) as c (name, key, value)
), gone as (
    delete from registered_model_tags t using change c where t.name = c.name and t.key = c.key and c.value is null
)
insert into registered_model_tags select name, key, value from change where value is not null
on conflict (name, key) do update set value = excluded.value;

-- name: model_version_tags
with change as (
    select * from unnest($name::text[], $version::bigint[], $key::text[], $value::text[]) as c (name, version, key, value)
), gone as (
    delete from model_version_tags t using change c
    where t.name = c.name and t.version = c.version and t.key = c.key and c.value is null
)
insert into model_version_tags select name, version, key, value from change where value is not null
on conflict (name, version, key) do update set value = excluded.value;

-- name: model_aliases
with change as (
    select * from unnest($name::text[], $alias::text[], $version::bigint[]) as c (name, alias, version)
), gone as (
    delete from model_aliases t using change c where t.name = c.name and t.alias = c.alias and c.version is null
)
insert into model_aliases select name, alias, version from change where version is not null
on conflict (name, alias) do update set version = excluded.version;

-- name: params
insert into params
select distinct on (run_id, key) run_id, key, value
from unnest($run_id::text[], $key::text[], $value::text[], $writer_id::text[], $seq::bigint[])
    with ordinality as c (run_id, key, value, writer_id, seq, place)
order by run_id, key, place
on conflict do nothing;

-- name: param_conflicts
insert into param_conflicts
select c.run_id, c.key, c.value, c.writer_id, c.seq
from unnest($run_id::text[], $key::text[], $value::text[], $writer_id::text[], $seq::bigint[])
    as c (run_id, key, value, writer_id, seq)
join params p using (run_id, key)
where p.value <> c.value
on conflict do nothing;

-- name: metric_summaries
insert into metric_summaries as s
select * from unnest(
    $run_id::text[], $key::text[], $last_value::double precision[], $last_step::bigint[], $last_timestamp::bigint[],
    $first_value::double precision[], $first_step::bigint[], $first_timestamp::bigint[],
    $min_value::double precision[], $max_value::double precision[], $point_count::bigint[], $nan_count::bigint[])
    as n (run_id, key, last_value, last_step, last_timestamp, first_value, first_step, first_timestamp, min_value,
          max_value, point_count, nan_count)
on conflict (run_id, key) do update set
    (last_value, last_step, last_timestamp) = (
        select w.value, w.step, w.at
        from (values (s.last_value, s.last_step, s.last_timestamp),
                     (excluded.last_value, excluded.last_step, excluded.last_timestamp)) as w (value, step, at)
        order by w.step desc, w.at desc, w.value desc, float8send(w.value) desc limit 1),
    (first_value, first_step, first_timestamp) = (
        select w.value, w.step, w.at
        from (values (s.first_value, s.first_step, s.first_timestamp),
                     (excluded.first_value, excluded.first_step, excluded.first_timestamp)) as w (value, step, at)
        order by w.step, w.at, w.value, float8send(w.value) limit 1),
    min_value = least(s.min_value, excluded.min_value),
    max_value = greatest(s.max_value, excluded.max_value),
    point_count = s.point_count + excluded.point_count,
    nan_count = s.nan_count + excluded.nan_count;

-- name: final_counts
insert into writer_positions (run_id, writer_id, topic, next_seq, final_count)
select run_id, writer_id, topic, 0, final_count
from unnest($run_id::text[], $writer_id::text[], $topic::text[], $final_count::bigint[])
    as c (run_id, writer_id, topic, final_count)
on conflict (run_id, writer_id, topic) do update set final_count = excluded.final_count;

-- name: inputs
insert into inputs
select * from unnest(
    $run_id::text[], $name::text[], $digest::text[], $source_type::text[], $source::text[], $schema::text[],
    $profile::text[], $tags::text[])
on conflict do nothing;

-- name: artifacts
insert into artifacts
select * from unnest(
    $run_id::text[], $path::text[], $uri::text[], $size::bigint[], $sha256::text[], $content_type::text[],
    $stored_at::bigint[])
on conflict (run_id, path) do update set
    uri = excluded.uri,
    size = excluded.size,
    sha256 = excluded.sha256,
    content_type = excluded.content_type,
    stored_at = excluded.stored_at;

-- name: logged_model_tags
with change as (
    select * from unnest($run_id::text[], $model_id::text[], $key::text[], $value::text[]) as c (run_id, model_id, key, value)
), gone as (
    delete from logged_model_tags t using change c
    where t.run_id = c.run_id and t.model_id = c.model_id and t.key = c.key and c.value is null
)
insert into logged_model_tags (run_id, model_id, key, value)
select run_id, model_id, key, value from change where value is not null
on conflict (model_id, key, run_id) do update set value = excluded.value;

-- name: logged_model_params
insert into logged_model_params (run_id, model_id, key, value)
select * from unnest($run_id::text[], $model_id::text[], $key::text[], $value::text[])
on conflict do nothing;

-- name: logged_model_metrics
insert into logged_model_metrics (model_id, run_id, key, dataset_name, dataset_digest, step, timestamp, value)
select c.model_id, c.run_id, c.key, c.dataset_name, c.dataset_digest, c.step, c.timestamp, c.value::double precision
from unnest(
    $model_id::text[], $run_id::text[], $key::text[], $dataset_name::text[], $dataset_digest::text[], $step::bigint[],
    $timestamp::bigint[], $value::text[])
    as c (model_id, run_id, key, dataset_name, dataset_digest, step, timestamp, value)
on conflict do nothing;

-- name: run_models
insert into run_models
select * from unnest($run_id::text[], $model_id::text[], $role::text[], $step::bigint[])
on conflict (run_id, model_id, role) do update set step = excluded.step;

-- name: experiment_requests
insert into experiment_requests
select * from unnest($request_id::text[], $experiment_id::text[])
on conflict (request_id) do update set experiment_id = excluded.experiment_id;

-- name: rejected_requests
insert into rejected_requests
select * from unnest($request_id::text[], $request_type::text[], $code::text[], $message::text[], $rejected_at::bigint[])
on conflict (request_id) do nothing;

-- name: answered_requests
select q.request_id, q.experiment_id
from unnest($request_id::text[]) as k (request_id) join experiment_requests q using (request_id);

-- name: resolve_waiting_runs
update runs r set experiment_id = k.experiment_id
from unnest($request_id::text[], $experiment_id::text[]) as k (request_id, experiment_id)
where r.experiment_id = '' and r.experiment_request <> '' and r.experiment_request = k.request_id;

-- Events of purged runs that came after the purge; points count as seen, whenever they came.
-- name: late_events
update run_receipts r set late_events = r.late_events + l.events, points_seen = r.points_seen + l.points
from unnest($run_id::text[], $events::bigint[], $points::bigint[]) as l (run_id, events, points)
where r.run_id = l.run_id;

-- Of a model's place it is noted there; what the run's own is, is what is no model's.
-- name: artifacts_removed
with told as (
    select run_id, uri, max(at) as at, sum(files) as files, sum(bytes) as bytes
    from unnest($run_id::text[], $offset::bigint[], $uri::text[], $at::bigint[], $files::bigint[], $bytes::bigint[])
        as c (run_id, place, uri, at, files, bytes)
    group by run_id, uri
), of_models as (
    update purged_models p
    set files_removed_at = greatest(p.files_removed_at, t.at), files_removed = p.files_removed + t.files,
        bytes_removed = p.bytes_removed + t.bytes
    from told t
    where p.run_id = t.run_id and p.uri = t.uri
    returning p.run_id, p.uri
)
update run_receipts r
set files_removed_at = greatest(r.files_removed_at, l.at), files_removed = r.files_removed + l.files,
    bytes_removed = r.bytes_removed + l.bytes
from (
    select t.run_id, max(t.at) filter (where m.uri is null) as at, sum(t.files) as files, sum(t.bytes) as bytes
    from told t left join of_models m using (run_id, uri)
    group by t.run_id
) l
where r.run_id = l.run_id;
