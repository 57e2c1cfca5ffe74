-- What a rebuild asks and does. It relies on these of any layout, older and newer ones: projection_offsets (topic, partition,
-- next_offset), projection_state (name, value) with the rows layout and epoch, quarantine (entity).

-- name: is_there
select to_regclass('projection_state') is not null;

-- name: layout_version
select value from projection_state where name = 'layout';

-- name: halt
select value from projection_state where name = 'epoch' for update;

-- name: columns
select table_name, column_name from information_schema.columns where table_schema = current_schema()
order by table_name, ordinal_position;

-- name: tables
select tablename from pg_tables where schemaname = current_schema() order by tablename;

-- name: made_by
select obj_description(to_regnamespace($schema::text)::oid, 'pg_namespace');

-- name: exists
select to_regnamespace($schema::text) is not null;

-- name: try_alone
select pg_try_advisory_lock($number::bigint);
