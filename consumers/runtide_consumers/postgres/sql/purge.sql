-- A deleted run is given up: its row says so from now on, its receipt says what it had, everything else of it goes.
-- Each statement runs alone, in this order, and does nothing to a run that is not deleted: it was restored before.

-- name: purge_meet
insert into runs values (
    $run_id::text, '', '', '', '', '', '', '', '', '', 'RUNNING', null, null, '', '', 'active', false, 'RUNNING', 0,
    0, null, null, '')
on conflict do nothing;

-- points_seen counts those that come later, too: points and this event come in any order.
-- name: purge_receipt
insert into run_receipts
select r.run_id, r.deleted_at, r.deleted_by, $at::bigint, $actor::text, $reason::text, $points::bigint,
    $metrics::bigint, $params::bigint, $tags::bigint, $inputs::bigint, $artifacts::bigint, $artifact_bytes::bigint,
    $models::bigint, $checksum::text,
    (select coalesce(sum(s.point_count), 0) from metric_summaries s where s.run_id = r.run_id), 0, null, 0, 0
from runs r
where r.run_id = $run_id::text and r.lifecycle_stage = 'deleted'
on conflict do nothing;

-- Only ids and places of the gateway's making: others are not removed by themselves, and those below the run's go with it.
-- name: purge_models
insert into purged_models
select l.run_id, l.model_id, rtrim(l.uri, '/'), null, 0, 0
from logged_models l join runs r using (run_id)
where l.run_id = $run_id::text and r.lifecycle_stage = 'deleted' and l.model_id ~ '^m-[0-9a-f]{32}$'
    and rtrim(l.uri, '/') ~ ('/models/' || l.model_id || '(/artifacts)?$')
    and (r.artifact_uri = '' or not starts_with(l.uri, rtrim(r.artifact_uri, '/') || '/'))
on conflict do nothing;

-- name: purge_rows
with purged as (
    update runs set lifecycle_stage = 'purged', user_id = '', source_name = '', source_version = ''
    where run_id = $run_id::text and lifecycle_stage = 'deleted'
    returning run_id
), gone_params as (delete from params where run_id in (select run_id from purged)
), gone_conflicts as (delete from param_conflicts where run_id in (select run_id from purged)
), gone_tags as (delete from tags where run_id in (select run_id from purged)
), gone_summaries as (delete from metric_summaries where run_id in (select run_id from purged)
), gone_inputs as (delete from inputs where run_id in (select run_id from purged)
), gone_artifacts as (delete from artifacts where run_id in (select run_id from purged)
), gone_writers as (delete from writers where run_id in (select run_id from purged)
), gone_models as (delete from logged_models where run_id in (select run_id from purged)
), gone_model_tags as (delete from logged_model_tags where run_id in (select run_id from purged)
), gone_model_params as (delete from logged_model_params where run_id in (select run_id from purged)
), gone_model_metrics as (delete from logged_model_metrics where run_id in (select run_id from purged)
)
delete from run_models where run_id in (select run_id from purged);
