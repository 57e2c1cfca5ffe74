-- What the purge job asks. Deleted runs that a registered model version came from are kept: it may be served.

-- name: purgeable
select r.run_id
from runs r
where r.lifecycle_stage = 'deleted' and r.deleted_at <= $before::bigint
    and ($wanted::text[] is null or r.run_id = any($wanted::text[]))
    and not exists (select from model_versions v where v.run_id = r.run_id and not v.deleted)
order by r.deleted_at, r.run_id
limit $most::bigint;

-- name: stage
select lifecycle_stage, deleted_at from runs where run_id = $run_id::text;

-- name: kept_for
select name, version from model_versions where run_id = $run_id::text and not deleted order by name, version limit 1;

-- name: counts
select
    (select coalesce(sum(point_count), 0)::bigint from metric_summaries where run_id = $run_id::text) as points,
    (select count(*) from metric_summaries where run_id = $run_id::text) as metrics,
    (select count(*) from params where run_id = $run_id::text) as params,
    (select count(*) from tags where run_id = $run_id::text) as tags,
    (select count(*) from inputs where run_id = $run_id::text) as inputs,
    (select count(*) from artifacts where run_id = $run_id::text) as artifacts,
    (select coalesce(sum(size), 0)::bigint from artifacts where run_id = $run_id::text) as artifact_bytes,
    (select count(*) from logged_models where run_id = $run_id::text) as models;

-- Every row of the run as text, tables in their order.
-- name: rows_of_run
select t.name, t.row from (
    select 'runs' as name, x::text as row from runs x where x.run_id = $run_id::text
    union all select 'writers', x::text from writers x where x.run_id = $run_id::text
    union all select 'params', x::text from params x where x.run_id = $run_id::text
    union all select 'tags', x::text from tags x where x.run_id = $run_id::text
    union all select 'metric_summaries', x::text from metric_summaries x where x.run_id = $run_id::text
    union all select 'inputs', x::text from inputs x where x.run_id = $run_id::text
    union all select 'artifacts', x::text from artifacts x where x.run_id = $run_id::text
    union all select 'logged_models', x::text from logged_models x where x.run_id = $run_id::text
) t
order by t.name collate "C", t.row collate "C";

-- name: with_files
select r.run_id, r.artifact_uri
from run_receipts p join runs r using (run_id)
where p.files_removed_at is null
order by p.purged_at, p.run_id
limit $most::bigint;
