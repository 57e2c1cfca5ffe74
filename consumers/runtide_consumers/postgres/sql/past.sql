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
