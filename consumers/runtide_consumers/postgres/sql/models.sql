-- What changes many rows of a registered model at once; each statement runs alone, in the order of the facts.

-- name: rename_drop_deleted_model
delete from registered_models where name = $name::text and deleted;

-- name: rename_model
update registered_models set name = $name::text, updated_at = $at::bigint where name = $previous_name::text;

-- name: rename_model_tags
update registered_model_tags set name = $name::text where name = $previous_name::text;

-- name: rename_versions
update model_versions set name = $name::text, updated_at = $at::bigint where name = $previous_name::text;

-- name: rename_version_tags
update model_version_tags set name = $name::text where name = $previous_name::text;

-- name: rename_aliases
update model_aliases set name = $name::text where name = $previous_name::text;

-- name: rename_in_endpoints
update endpoints set model = $name::text where model = $previous_name::text;

-- name: delete_model
update registered_models set deleted = true, updated_at = $at::bigint where name = $name::text;

-- name: delete_model_tags
delete from registered_model_tags where name = $name::text;

-- name: delete_aliases
delete from model_aliases where name = $name::text;

-- name: delete_versions
update model_versions set deleted = true, updated_at = $at::bigint where name = $name::text and not deleted;

-- name: delete_version
update model_versions set deleted = true, updated_at = $at::bigint where name = $name::text and version = $version::bigint;

-- name: delete_aliases_of_version
delete from model_aliases where name = $name::text and version = $version::bigint;

-- name: touch_model
update registered_models set updated_at = $at::bigint where name = $name::text;
