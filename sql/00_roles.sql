-- Every name below that is not qualified is PostgreSQL's own.
SET LOCAL search_path TO pg_catalog, pg_temp;

-- Names are checked, and messages made, as UTF-8.
DO $encoding$
BEGIN
    IF current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'allsource needs a database with encoding UTF8'
              USING ERRCODE = 'feature_not_supported',
                    DETAIL = format('The encoding of this database is %s.', current_setting('server_encoding')),
                    HINT = 'Create a database with TEMPLATE template0 ENCODING ''UTF8''.';
    END IF;
END
$encoding$;

-- Somebody else's schema could hold functions and operators of theirs, and be changed by them later.
DO $schema$
DECLARE
    owner text := (SELECT r.rolname FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'allsource');
BEGIN
    IF owner <> current_user THEN
        RAISE EXCEPTION 'schema allsource belongs to another role'
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    DETAIL = format('Its owner is %I.', owner),
                    HINT = 'Drop the schema, or make it your own.';
    END IF;
END
$schema$;

-- The roles that rights are granted to; allsource_replication is who copies a partition to another server
-- of a cluster. Roles belong to the whole server, so they may be
-- there already: from another database, or from before a DROP EXTENSION.
DO $roles$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['allsource_reader', 'allsource_writer', 'allsource_admin', 'allsource_replication'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$roles$;

GRANT allsource_reader TO allsource_writer;
GRANT allsource_writer TO allsource_admin;
