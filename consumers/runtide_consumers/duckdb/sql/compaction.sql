-- Giving the room of forgotten points back to the file system: DuckDB itself only uses it again.

-- name: room
SELECT block_size, used_blocks, free_blocks FROM pragma_database_size();

-- name: layouts
SELECT table_name, sql FROM duckdb_tables() WHERE NOT internal ORDER BY table_name;
