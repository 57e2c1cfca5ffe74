-- Run once inside the database `runtide`: nobody but its owner creates anything there, large objects included.

REVOKE ALL ON SCHEMA public FROM PUBLIC;

REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC;

