#!/bin/sh
# Makes the role and the database of the service, once, when the directory of Postgres is empty. The role owns its
# database and no more: row-level security does not hold for superusers.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv password AGENTS_PASSWORD
CREATE ROLE agents LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
CREATE DATABASE agents OWNER agents TEMPLATE template0 ENCODING 'UTF8';
REVOKE CONNECT, TEMPORARY ON DATABASE agents FROM PUBLIC;
SQL
