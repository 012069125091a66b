-- Prepares a PostgreSQL server for Bindery. Run it once as a superuser, and again
-- whenever somebody other than Bindery has created a database there; it can be
-- repeated and then changes nothing that is right already.
--
--   psql -X -d postgres -f setup.sql
--
-- psql asks for the password of Bindery's role, and sends only its verifier. The
-- role's name, and the database that Bindery connects to, can be chosen:
--
--   psql -X -d postgres -v user=bindery -v database=postgres -f setup.sql
--
-- What it does:
--
-- 1. It makes Bindery's own role. It is no superuser. It may create databases
--    (one for each service instance) and roles (a group for each instance, a login
--    for each binding), and end the sessions of roles that are not superusers:
--    a role that is dropped keeps its open sessions, so unbinding ends them.
--
--    Before PostgreSQL 16, CREATEROLE is close to superuser: it may change any role
--    but superusers, and join any group but theirs, pg_execute_server_program
--    included. Give Bindery a server of its own there. From 16 on it has power over
--    the roles that it created and over no others.
--
-- 2. It takes the right to connect to any existing database from PUBLIC, that is,
--    from every role that was not given it by name. Otherwise each binding could
--    connect to each database on the server. Superusers and the owners of a database
--    still can. ON A SERVER THAT OTHERS USE AS WELL, give it to them by name first:
--
--      GRANT CONNECT ON DATABASE theirs TO them;
--
-- 3. Before PostgreSQL 15 it gives Bindery's role the public schema of template1, and
--    with it that of each new database: there everybody could create things in it.
--
-- To take it all back: GRANT CONNECT ON DATABASE … TO PUBLIC, DROP ROLE bindery.

\set ON_ERROR_STOP on
\if :{?user}
\else
\set user bindery
\endif
\if :{?database}
\else
\set database postgres
\endif

-- Before PostgreSQL 14 the default is md5, which the server may not take at a login.
SET password_encryption = 'scram-sha-256';

BEGIN;

-- A statement with a password in it must not reach the server's log.
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';

-- The block below cannot see psql's variables.
SELECT set_config('bindery.setup_user', :'user', true), set_config('bindery.setup_database', :'database', true);

DO $$
DECLARE
	role text := current_setting('bindery.setup_user');
	db text;
BEGIN
	IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = role) THEN
		EXECUTE format('CREATE ROLE %I', role);
	END IF;
	EXECUTE format('ALTER ROLE %I LOGIN CREATEROLE CREATEDB NOSUPERUSER NOREPLICATION NOBYPASSRLS', role);
	EXECUTE format('GRANT pg_signal_backend TO %I', role);

	FOR db IN SELECT datname FROM pg_catalog.pg_database LOOP
		EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', db);
	END LOOP;
	EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_setting('bindery.setup_database'), role);
END
$$;

\if :{?password}
ALTER ROLE :"user" PASSWORD :'password';
\endif

COMMIT;

\if :{?password}
\else
\password :user
\endif

-- Before PostgreSQL 15: the public schema of new databases.
SELECT current_setting('server_version_num')::int < 150000 AS old;
\gset
\if :old
\connect template1
SELECT set_config('bindery.setup_user', :'user', false);
DO $$
BEGIN
	IF current_database() = 'template1' AND current_setting('server_version_num')::int < 150000 THEN
		EXECUTE format('ALTER SCHEMA public OWNER TO %I', current_setting('bindery.setup_user'));
	END IF;
END
$$;
\endif
