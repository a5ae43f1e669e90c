-- A walk over the catalogs: what is new must not be open, or without a comment, by accident. Queries
-- that look for offenders find none.

-- Every function. A new one, or another default, shows here.
\pset format unaligned
SELECT p.proname AS function, pg_get_function_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
  FROM pg_proc p WHERE p.pronamespace = 'allsource'::regnamespace ORDER BY 1, 2;
\pset format aligned
SELECT p.proname AS function, l.lanname AS language, p.provolatile AS volatility, p.proparallel AS parallel, p.proisstrict AS strict,
       p.proretset AS "set", p.procost AS cost, p.prorows AS "rows", p.proconfig AS settings,
       (SELECT string_agg(a.grantee::regrole::text, ' ') FROM aclexplode(p.proacl) AS a WHERE a.grantee <> p.proowner) AS role
  FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'allsource'::regnamespace ORDER BY 1;

-- Functions that anyone may execute.
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'allsource'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE');
-- Not granted to exactly one of the roles, or granted on.
SELECT p.oid::regprocedure, p.proacl FROM pg_proc p
 WHERE p.pronamespace = 'allsource'::regnamespace
   AND ARRAY(SELECT a.grantee::regrole::text || CASE WHEN a.is_grantable THEN ' *' ELSE '' END
               FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS a WHERE a.grantee <> p.proowner)
       NOT IN ('{allsource_reader}', '{allsource_writer}', '{allsource_admin}')
   AND p.prorettype <> 'trigger'::regtype;
-- Without a comment.
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'allsource'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL;
-- With rights that are not the caller's.
SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'allsource'::regnamespace AND p.prosecdef;
-- Left at VOLATILE and PARALLEL UNSAFE, other than those that write or take the safe position.
SELECT p.oid::regprocedure FROM pg_proc p
 WHERE p.pronamespace = 'allsource'::regnamespace AND (p.provolatile = 'v' OR p.proparallel <> 's')
   AND p.proname NOT IN ('es_append', 'es_append_many', 'es_append_batch', 'es_create_stream', 'es_read_all', 'es_read_all_from', 'es_positions', 'es_safe_position',
                         'es_enqueue', 'es_enqueue_batch', 'es_flush', 'es_queue_stats', 'es_worker_pause', 'es_worker_resume',
                         'es_dead_letter_retry', 'es_dead_letter_discard', 'es_metrics', 'es_metrics_prometheus', 'es_health',
                         'es_heat', 'es_cool', 'es_settle', 'es_sidecar_rebuild', 'es_sidecar_checkpoint', 'es_sidecar_stats',
                         'hot_partitions_changed', 'cluster_changed')
   AND p.proname NOT LIKE 'es\_member\_%';
-- In SQL with a body that is looked up by the caller's search_path.
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
 WHERE p.pronamespace = 'allsource'::regnamespace AND l.lanname NOT IN ('c', 'internal')
   AND p.prosqlbody IS NULL AND NOT coalesce(p.proconfig::text LIKE '%search_path=%', false);
-- Two of one name: COMMENT and GRANT go by the name.
SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'allsource'::regnamespace GROUP BY 1 HAVING count(*) > 1;

-- Every relation; the leaves of a table count as one line.
SELECT regexp_replace(c.relname, '_p\d\d', '_p…') AS relation, c.relkind AS kind, count(*), min(obj_description(c.oid, 'pg_class')) AS comment
  FROM pg_class c WHERE c.relnamespace = 'allsource'::regnamespace GROUP BY 1, 2 ORDER BY 1;
-- Anything that anyone but the owner may write, for the extension's roles and for the public.
SELECT c.oid::regclass, r.role, p.privilege
  FROM pg_class c, unnest(ARRAY['allsource_reader', 'allsource_writer', 'allsource_admin', 'allsource_replication', 'public']) AS r (role),
       unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS p (privilege)
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND has_table_privilege(r.role, c.oid, p.privilege);
SELECT c.oid::regclass, r.role
  FROM pg_class c, unnest(ARRAY['allsource_reader', 'allsource_writer', 'allsource_admin', 'allsource_replication', 'public']) AS r (role)
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND has_any_column_privilege(r.role, c.oid, 'INSERT, UPDATE, REFERENCES');
SELECT c.oid::regclass, r.role
  FROM pg_class c, unnest(ARRAY['allsource_reader', 'allsource_writer', 'allsource_admin', 'allsource_replication', 'public']) AS r (role)
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege(r.role, c.oid, 'USAGE, SELECT, UPDATE');
-- What may be read, and by whom.
SELECT a.grantee::regrole AS role, a.privilege_type AS privilege, string_agg(DISTINCT regexp_replace(c.relname, '_p\d\d$', '_p…'), ', ') AS relations
  FROM pg_class c, aclexplode(c.relacl) AS a
 WHERE c.relnamespace = 'allsource'::regnamespace AND a.grantee <> c.relowner GROUP BY 1, 2;
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND has_table_privilege('public', c.oid, 'SELECT');
-- The schema and the types of its tables.
SELECT r.role, has_schema_privilege(r.role, 'allsource', 'USAGE') AS usage, has_schema_privilege(r.role, 'allsource', 'CREATE') AS "create"
  FROM unnest(ARRAY['allsource_reader', 'allsource_writer', 'allsource_admin', 'allsource_replication', 'public']) AS r (role);
SELECT defaclobjtype, defaclacl FROM pg_default_acl WHERE defaclnamespace = 'allsource'::regnamespace;

-- Views that are not SECURITY INVOKER.
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind IN ('v', 'm')
   AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false);
-- Objects of the schema that do not belong to the extension.
SELECT o.class, o.name
  FROM (
           SELECT 'pg_class'::regclass AS class, oid, relname AS name FROM pg_class
            WHERE relnamespace = 'allsource'::regnamespace AND relkind NOT IN ('i', 'I', 't', 'c')
           UNION ALL SELECT 'pg_proc'::regclass, oid, proname FROM pg_proc WHERE pronamespace = 'allsource'::regnamespace
           UNION ALL SELECT 'pg_operator'::regclass, oid, oprname FROM pg_operator WHERE oprnamespace = 'allsource'::regnamespace
       ) AS o
 WHERE NOT EXISTS (SELECT FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_extension'::regclass
                    WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e' AND e.extname = 'allsource');
-- Tables and sequences whose content pg_dump leaves out (the row of safe_position is made with the extension; what is restored is a
-- single server), and what it dumps.
SELECT c.oid::regclass FROM pg_class c
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind IN ('r', 'S')
   AND NOT (SELECT c.oid = ANY (extconfig) FROM pg_extension WHERE extname = 'allsource');
SELECT count(*) AS dumped, array_agg(DISTINCT condition) AS conditions
  FROM pg_extension, unnest(extconfig, extcondition) AS u (relation, condition) WHERE extname = 'allsource';

-- Constraints are keys, and the one row of safe_position; there are no triggers, no rules but those of the views, no policies.
SELECT DISTINCT regexp_replace(conname, '_p\d\d', '_p…') AS "constraint", contype, regexp_replace(pg_get_constraintdef(oid), '\d+', '…') AS definition
  FROM pg_constraint WHERE connamespace = 'allsource'::regnamespace ORDER BY 1, 2;
SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = 'allsource'::regnamespace;
SELECT rulename, count(*) FROM pg_rules WHERE schemaname = 'allsource' GROUP BY 1;
SELECT count(*) FROM pg_policies WHERE schemaname = 'allsource';
-- How the columns are stored.
SELECT regexp_replace(c.relname, '_p\d\d', '_p…') AS leaf, a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type,
       a.attnotnull AS "not null", a.attstorage AS storage, a.attcompression AS compression, l.collname AS "collation", count(*) AS leaves
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_collation l ON l.oid = a.attcollation
 WHERE c.relnamespace = 'allsource'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
 GROUP BY 1, a.attnum, 2, 3, 4, 5, 6, 7 ORDER BY 1, a.attnum;
