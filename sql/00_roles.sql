-- The three roles that rights are granted to. Roles belong to the whole server, so they may be
-- there already: from another database, or from before a DROP EXTENSION.
DO $roles$
DECLARE
    name pg_catalog.text;
BEGIN
    FOREACH name IN ARRAY ARRAY['allsource_reader', 'allsource_writer', 'allsource_admin'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) name) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', name);
        END IF;
    END LOOP;
END
$roles$;

GRANT allsource_reader TO allsource_writer;
GRANT allsource_writer TO allsource_admin;
