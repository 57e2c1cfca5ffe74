-- name: get_webhook
SELECT webhook_id, name, url, events, description, secret, status, created_at, updated_at
FROM webhooks
WHERE webhook_id = $webhook_id AND NOT deleted

-- name: list_webhooks
-- The newest first; those of one millisecond by id.
SELECT webhook_id, name, url, events, description, secret, status, created_at, updated_at
FROM webhooks
WHERE NOT deleted AND (
    created_at < $created_at::bigint OR (created_at = $created_at::bigint AND webhook_id > $webhook_id)
)
ORDER BY created_at DESC, webhook_id
LIMIT $page_size
