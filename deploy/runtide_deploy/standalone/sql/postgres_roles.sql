-- Run once, by initdb's superuser in single-user mode, while the new cluster is not yet reachable by anyone.
-- PostgreSQL's single-user mode (-j) ends a command at a semicolon followed by an empty line.
-- Passwords are hexadecimal, made by us: the two names below are replaced before the run.

CREATE ROLE runtide LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '$owner_password';

CREATE ROLE sql_reader LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '$reader_password';

ALTER ROLE sql_reader SET default_transaction_read_only = on;

ALTER ROLE sql_reader SET statement_timeout = '60s';

ALTER ROLE sql_reader SET lock_timeout = '2s';

CREATE DATABASE runtide OWNER runtide TEMPLATE template0 ENCODING 'UTF8';

REVOKE ALL ON DATABASE runtide FROM PUBLIC;

REVOKE ALL ON DATABASE postgres FROM PUBLIC;

REVOKE ALL ON DATABASE template1 FROM PUBLIC;

GRANT CONNECT ON DATABASE runtide TO sql_reader;

