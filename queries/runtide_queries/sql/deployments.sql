-- name: list_endpoints
SELECT endpoint, model, follow, alias, version, target, config, generation, requested_at, removed
FROM endpoints
WHERE NOT removed
ORDER BY endpoint

-- name: list_deployments
SELECT deployment_id, endpoint, model, version, source, digest, target, generation, state, url, instance, reason, cause,
    started_at, updated_at
FROM deployments
WHERE endpoint = ANY ($endpoints::text[])
ORDER BY endpoint, generation DESC, started_at DESC, deployment_id
