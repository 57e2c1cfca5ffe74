-- What is kept of the past; see past.py.

-- name: save_history
insert into history
select * from unnest(
    $kind::text[], $entity::text[], $topic::text[], $partition::integer[], $record_offset::bigint[],
    $record_time::bigint[], $event_time::bigint[], $event_id::text[], $type::text[], $actor::text[], $cause::text[],
    $source::text[], $writer_id::text[], $seq::bigint[], $body::jsonb[]);

-- name: save_changes
insert into changes (kind, entity, table_name, key, topic, partition, record_offset, row)
select * from unnest(
    $kind::text[], $entity::text[], $table_name::text[], $key::text[], $topic::text[], $partition::integer[],
    $record_offset::bigint[], $row::jsonb[]);

-- name: save_extents
insert into run_extents as e
select * from unnest(
    $run_id::text[], $topic::text[], $partition::integer[], $first_offset::bigint[], $last_offset::bigint[])
on conflict (run_id, topic, partition) do update set
    first_offset = least(e.first_offset, excluded.first_offset),
    last_offset = greatest(e.last_offset, excluded.last_offset);

-- Every row of some registered models, and of the endpoints that serve them, as in changes.
-- name: rows_of_models
select 'registered_models' as table_name, name as entity, '' as key, (to_jsonb(t) - 'name')::text as row
from registered_models t where name = any ($names::text[])
union all
select 'registered_model_tags', name, key, (to_jsonb(t) - 'name')::text
from registered_model_tags t where name = any ($names::text[])
union all
select 'model_versions', name, version::text, (to_jsonb(t) - 'name')::text
from model_versions t where name = any ($names::text[])
union all
select 'model_version_tags', name, version || '/' || key, (to_jsonb(t) - 'name')::text
from model_version_tags t where name = any ($names::text[])
union all
select 'model_aliases', name, alias, (to_jsonb(t) - 'name')::text
from model_aliases t where name = any ($names::text[])
union all
select 'endpoints', endpoint, '', (to_jsonb(t) - 'endpoint')::text
from endpoints t where model = any ($names::text[]);

-- The rows of those of some runs that are purged, as in changes: without what the catalogue says of their experiment.
-- name: rows_of_runs
select 'runs' as table_name, run_id as entity, '' as key,
    ((to_jsonb(t) - 'run_id') || jsonb_build_object('experiment_id', coalesce((
        select max(c.row ->> 'experiment_id') from changes c where c.table_name = 'runs' and c.entity = t.run_id
    ), '')))::text as row
from runs t where run_id = any ($run_ids::text[]) and lifecycle_stage = 'purged';

-- A purged run's rows as they were are given up with it.
-- name: forget_changes
delete from changes
where kind = 'run' and entity = $run_id::text
    and exists (select from runs r where r.run_id = $run_id::text and r.lifecycle_stage = 'purged');

-- Of a purged run it is kept how that came about.
-- name: forget_history
delete from history h
using runs r
where r.run_id = any ($run_ids::text[]) and r.lifecycle_stage = 'purged' and h.kind = 'run' and h.entity = r.run_id
    and h.type not in ('RunDeleted', 'RunRestored', 'RunPurged', 'RunArtifactsRemoved');
