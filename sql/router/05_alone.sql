DO $alone$
BEGIN
    IF EXISTS (SELECT FROM pg_extension e WHERE e.extname = 'allsource') THEN
        RAISE EXCEPTION 'this database is a store and cannot be a router'
              USING ERRCODE = 'object_not_in_prerequisite_state',
                    DETAIL = 'It has the extension allsource, whose functions have the same names.',
                    HINT = 'Make the router in a database of its own.';
    END IF;
END
$alone$;
