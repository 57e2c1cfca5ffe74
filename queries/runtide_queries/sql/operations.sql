-- name: list_quarantine
SELECT topic, partition, record_offset, entity, kind, reason, parked_at, octet_length(value)::bigint AS value_bytes
FROM quarantine
WHERE (topic, partition, record_offset) > ($after_topic::text, $after_partition::int, $after_offset::bigint)
    AND ($entity::text = '' OR entity = $entity::text)
    AND (kind = $kind::text OR $kind::text = '' AND kind <> 'dropped')
ORDER BY topic, partition, record_offset
LIMIT $page_size

-- name: count_quarantine
SELECT kind, count(*) AS events
FROM quarantine
GROUP BY kind
ORDER BY kind

-- name: get_parked
SELECT entity, kind, reason, parked_at, octet_length(value)::bigint AS value_bytes, key, value, headers
FROM quarantine
WHERE topic = $topic::text AND partition = $partition::int AND record_offset = $record_offset::bigint

-- name: list_released
-- Entities with parked records, of a kind if one is given, and one by one those records that belong to none.
SELECT entity, min(topic) AS topic, min(partition) AS partition, min(record_offset) AS record_offset
FROM quarantine
WHERE kind <> 'dropped' AND ($kind::text = '' OR kind = $kind::text) AND ($entity::text = '' OR entity = $entity::text)
GROUP BY entity, CASE WHEN entity = '' THEN topic || '/' || partition || '/' || record_offset ELSE '' END
ORDER BY entity, topic, partition, record_offset
LIMIT $most

-- name: get_positions
SELECT topic, partition, next_offset, epoch
FROM projection_offsets
ORDER BY topic, partition

-- name: get_writer_positions
-- Of the topics that the state store folds: each request is answered by a fact of its own in the catalogue, and the
-- store never sees the requests themselves. Services (gateway, watcher) state things about a run and never close.
SELECT p.writer_id, p.topic, p.next_seq, p.final_count, p.heard_at, w.rank, w.host, w.pid, w.closed_at, w.close_reason,
    w.client = 'gateway' OR w.writer_id IS NULL AND EXISTS (
        SELECT 1
        FROM history h
        WHERE h.kind = 'run' AND h.entity = p.run_id AND h.writer_id = p.writer_id AND h.source LIKE '/services/%'
    ) AS of_service
FROM writer_positions p
LEFT JOIN writers w ON w.run_id = p.run_id AND w.writer_id = p.writer_id
WHERE p.run_id = $run_id AND p.topic <> 'runtide.requests'
ORDER BY w.rank NULLS LAST, w.opened_at, p.writer_id, p.topic

-- name: get_writer_gaps
SELECT writer_id, topic, first_seq, last_seq, since
FROM writer_gaps
WHERE run_id = $run_id
ORDER BY writer_id, topic, first_seq

-- name: count_parked_of
-- Events of a run that could not be applied, and those that wait behind them; since when, by the log's times.
SELECT count(*) AS parked, min(parked_at) AS since FROM quarantine WHERE entity = $run_id AND kind <> 'dropped'

-- name: get_writers_without_positions
-- Writers that said they opened and of which no sequence is known yet.
SELECT w.writer_id, w.rank, w.host, w.pid, w.opened_at AS heard_at, w.closed_at, w.close_reason
FROM writers w
WHERE w.run_id = $run_id
    AND NOT EXISTS (SELECT 1 FROM writer_positions p WHERE p.run_id = w.run_id AND p.writer_id = w.writer_id)
ORDER BY w.rank NULLS LAST, w.opened_at, w.writer_id
