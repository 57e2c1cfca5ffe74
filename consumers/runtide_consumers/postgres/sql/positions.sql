-- name: take_over
insert into projection_state (name, value) values ('epoch', 1)
on conflict (name) do update set value = projection_state.value + 1
returning value;

-- name: raise_epochs
update projection_offsets set epoch = $epoch::bigint;

-- name: current_epoch
select value from projection_state where name = 'epoch' for update;

-- name: positions
select topic, partition, next_offset from projection_offsets;

-- name: blocked
select distinct entity from quarantine where entity <> '' and kind <> 'dropped';

-- name: dropped
select topic, partition, record_offset, entity, reason from quarantine where kind = 'dropped';

-- The first records of an entity, until their values have so many bytes.
-- name: parked
select topic, partition, record_offset, entity, kind, reason, key, value, headers, parked_at
from (
    select q.*, coalesce(sum(octet_length(value)) over (
        order by topic, partition, record_offset rows between unbounded preceding and 1 preceding), 0) as bytes_before
    from (
        select * from quarantine where entity = $entity::text and kind <> 'dropped'
        order by topic, partition, record_offset limit $most::bigint
    ) q
) first_ones
where bytes_before < $most_bytes::bigint
order by topic, partition, record_offset;

-- name: parked_beyond
select exists (
    select from quarantine
    where entity = $entity::text and kind <> 'dropped'
        and (topic, partition, record_offset) > ($topic::text, $partition::integer, $offset::bigint)
);

-- name: parked_at
select topic, partition, record_offset, entity, kind, reason, key, value, headers, parked_at
from quarantine
where topic = $topic::text and partition = $partition::integer and record_offset = $offset::bigint;

-- name: release
delete from quarantine q
using unnest($topic::text[], $partition::integer[], $offset::bigint[]) as r (topic, partition, record_offset)
where q.topic = r.topic and q.partition = r.partition and q.record_offset = r.record_offset;

-- name: begin_partitions
insert into projection_offsets (topic, partition, next_offset, epoch)
select topic, partition, 0, $epoch::bigint
from unnest($topic::text[], $partition::integer[]) as n (topic, partition)
on conflict do nothing;

-- name: advance
update projection_offsets o
set next_offset = n.next_offset
from unnest($topic::text[], $partition::integer[], $begin::bigint[], $next_offset::bigint[])
    as n (topic, partition, begin, next_offset)
where o.topic = n.topic and o.partition = n.partition and o.epoch = $epoch::bigint and o.next_offset = n.begin;

-- name: sequences
select p.run_id, p.writer_id, p.topic, p.next_seq, p.heard_at
from unnest($run_id::text[], $writer_id::text[], $topic::text[]) as k (run_id, writer_id, topic)
join writer_positions p using (run_id, writer_id, topic);

-- name: gaps
select g.run_id, g.writer_id, g.topic, g.first_seq, g.last_seq, g.since
from unnest($run_id::text[], $writer_id::text[], $topic::text[]) as k (run_id, writer_id, topic)
join writer_gaps g using (run_id, writer_id, topic)
order by g.run_id, g.writer_id, g.topic, g.first_seq;

-- name: save_sequences
insert into writer_positions (run_id, writer_id, topic, next_seq, heard_at)
select * from unnest($run_id::text[], $writer_id::text[], $topic::text[], $next_seq::bigint[], $heard_at::bigint[])
on conflict (run_id, writer_id, topic) do update set next_seq = excluded.next_seq, heard_at = excluded.heard_at;

-- name: delete_gaps
delete from writer_gaps g
using unnest($run_id::text[], $writer_id::text[], $topic::text[]) as k (run_id, writer_id, topic)
where g.run_id = k.run_id and g.writer_id = k.writer_id and g.topic = k.topic;

-- name: save_gaps
insert into writer_gaps (run_id, writer_id, topic, first_seq, last_seq, since)
select * from unnest(
    $run_id::text[], $writer_id::text[], $topic::text[], $first_seq::bigint[], $last_seq::bigint[], $since::bigint[]);

-- name: last_request_offset
select value from projection_state where name = 'last_request_offset';

-- name: save_last_request_offset
insert into projection_state (name, value) values ('last_request_offset', $offset::bigint)
on conflict (name) do update set value = excluded.value;

-- name: quarantine
insert into quarantine (topic, partition, record_offset, entity, kind, reason, key, value, headers, parked_at)
select * from unnest(
    $topic::text[], $partition::integer[], $record_offset::bigint[], $entity::text[], $kind::text[], $reason::text[],
    $key::bytea[], $value::bytea[], $headers::bytea[], $parked_at::bigint[])
on conflict (topic, partition, record_offset) do update set
    entity = excluded.entity,
    kind = excluded.kind,
    reason = excluded.reason,
    key = excluded.key,
    value = excluded.value,
    headers = excluded.headers,
    parked_at = excluded.parked_at;
