-- What the purge job asks. Deleted runs that a registered model version came from are kept: it may be served. While facts of
-- the catalogue or of the run are parked, nobody knows that; and a purge would wait behind the run's.

-- name: purgeable
select r.run_id, r.deleted_at
from runs r
where r.lifecycle_stage = 'deleted' and r.deleted_at <= $before::bigint
    and ($wanted::text[] is null or r.run_id = any($wanted::text[]))
    and not exists (
        select from unnest($told_runs::text[], $told_at::bigint[]) as t (run_id, deleted_at)
        where t.run_id = r.run_id and t.deleted_at = r.deleted_at
    )
    and not exists (select from model_versions v where v.run_id = r.run_id and not v.deleted)
    and not exists (
        select from model_versions v
        where not v.deleted and (strpos(v.source, r.run_id) > 0 or strpos(v.location, r.run_id) > 0
            or (r.artifact_uri <> '' and starts_with(coalesce(nullif(v.location, ''), v.source), rtrim(r.artifact_uri, '/') || '/')))
    )
    and not exists (
        select from logged_models l
        join model_versions v on v.model_id = l.model_id or strpos(v.source, l.model_id) > 0 or strpos(v.location, l.model_id) > 0
        where l.run_id = r.run_id and not v.deleted and l.model_id ~ '^m-[0-9a-f]{32}$'
    )
    and not exists (select from quarantine q where q.entity = r.run_id and q.kind <> 'dropped')
    and not exists (select from quarantine q where q.topic = 'runtide.catalog' and q.kind <> 'dropped')
order by r.deleted_at, r.run_id
limit $most::bigint;

-- name: stage
select lifecycle_stage, deleted_at from runs where run_id = $run_id::text;

-- name: kept_for
select v.name, v.version
from model_versions v left join runs r on r.run_id = $run_id::text
where not v.deleted and (v.run_id = $run_id::text or strpos(v.source, $run_id::text) > 0
    or strpos(v.location, $run_id::text) > 0
    or (r.artifact_uri <> '' and starts_with(coalesce(nullif(v.location, ''), v.source), rtrim(r.artifact_uri, '/') || '/'))
    or exists (
        select from logged_models l
        where l.run_id = $run_id::text and l.model_id ~ '^m-[0-9a-f]{32}$'
            and (v.model_id = l.model_id or strpos(v.source, l.model_id) > 0 or strpos(v.location, l.model_id) > 0)
    ))
order by v.name, v.version
limit 1;

-- name: parked_for
select topic, partition, record_offset from quarantine
where (entity = $run_id::text or topic = 'runtide.catalog') and kind <> 'dropped'
order by topic, partition, record_offset
limit 1;

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
    union all select 'logged_model_tags', x::text from logged_model_tags x where x.run_id = $run_id::text
    union all select 'logged_model_params', x::text from logged_model_params x where x.run_id = $run_id::text
    union all select 'logged_model_metrics', x::text from logged_model_metrics x where x.run_id = $run_id::text
    union all select 'run_models', x::text from run_models x where x.run_id = $run_id::text
) t
order by t.name collate "C", t.row collate "C";

-- Of a run itself model_id is ''. A model that another run tells of, too, is not the purged one's alone.
-- name: with_files
select f.run_id, f.model_id, f.uri, f.purged_at, f.claimed
from (
    select r.run_id, '' as model_id, r.artifact_uri as uri, p.purged_at, false as claimed
    from run_receipts p join runs r using (run_id)
    where p.files_removed_at is null
    union all
    select m.run_id, m.model_id, m.uri, p.purged_at, exists (select from logged_models l where l.model_id = m.model_id)
    from purged_models m join run_receipts p using (run_id)
    where m.files_removed_at is null
) f
where (f.purged_at, f.run_id, f.model_id) > ($after_at::bigint, $after_run::text, $after_model::text)
order by f.purged_at, f.run_id, f.model_id
limit $most::bigint;

-- Where something is kept that nobody has given up.
-- name: kept_places
select 'run ' || run_id as whose, artifact_uri as uri from runs where lifecycle_stage <> 'purged' and artifact_uri <> ''
union all
select 'logged model ' || model_id || ' of run ' || run_id, uri from logged_models where uri <> ''
union all
select 'version ' || version || ' of the registered model ' || name, coalesce(nullif(location, ''), source)
from model_versions where not deleted and source <> '';
