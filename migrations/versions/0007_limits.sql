-- A minute is 60 slots of a second, and the one that is not yet wholly past: an admission counts
-- for at least 60 s and at most 61. Unlogged: after a crash of the server a minute is forgotten,
-- and no admission ever waits for the disk.
CREATE UNLOGGED TABLE rate_windows (
    subject text COLLATE "C" PRIMARY KEY,
    slots bigint[] NOT NULL,
    requests bigint[] NOT NULL,
    tokens bigint[] NOT NULL
) WITH (fillfactor = 50);


CREATE UNLOGGED TABLE rate_leases (
    holder text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    runs bigint NOT NULL,
    expires_at double precision NOT NULL,
    PRIMARY KEY (subject, holder)
);


CREATE OR REPLACE FUNCTION rate_admit(
    p_holder text, p_subjects text[], p_max_requests bigint[], p_max_tokens bigint[],
    p_max_runs bigint[], p_tokens bigint, p_runs bigint, p_lease_s double precision,
    p_at double precision
) RETURNS TABLE (
    at double precision, slots bigint[], requests bigint[], tokens bigint[], runs bigint,
    fits boolean
) LANGUAGE plpgsql AS $$
DECLARE
    fit boolean := true;
    fits_all boolean := true;
    slot bigint;
    sum_requests numeric;
    sum_tokens numeric;
    i int;
BEGIN
    -- Sorted by the caller, so that two admissions never wait for each other.
    INSERT INTO rate_windows
        SELECT name, '{}', '{}', '{}' FROM unnest(p_subjects) AS name ON CONFLICT DO NOTHING;
    PERFORM 1 FROM rate_windows w
        WHERE w.subject = ANY (p_subjects) ORDER BY w.subject FOR UPDATE;
    -- After the lock: nobody before us in the queue has a later time.
    at := coalesce(p_at, extract(epoch FROM clock_timestamp()));
    slot := floor(at);
    FOR i IN 1 .. cardinality(p_subjects) LOOP
        SELECT coalesce(array_agg(e.s ORDER BY e.s), '{}'),
               coalesce(array_agg(e.r ORDER BY e.s), '{}'),
               coalesce(array_agg(e.t ORDER BY e.s), '{}'),
               coalesce(sum(e.r), 0), coalesce(sum(e.t), 0)
            INTO slots, requests, tokens, sum_requests, sum_tokens
            FROM rate_windows w, unnest(w.slots, w.requests, w.tokens) AS e(s, r, t)
            WHERE w.subject = p_subjects[i] AND e.s + 61 > at;
        SELECT coalesce(sum(l.runs), 0) INTO runs
            FROM rate_leases l WHERE l.subject = p_subjects[i] AND l.expires_at > at;
        fit := (p_max_requests[i] IS NULL OR sum_requests + 1 <= p_max_requests[i])
            AND (p_max_tokens[i] IS NULL OR sum_tokens + p_tokens <= p_max_tokens[i])
            AND (p_max_runs[i] IS NULL OR runs + p_runs <= p_max_runs[i]);
        fits := fit;
        fits_all := fits_all AND fit;
        RETURN NEXT;
    END LOOP;
    IF NOT fits_all THEN
        RETURN;
    END IF;
    FOR i IN 1 .. cardinality(p_subjects) LOOP
        UPDATE rate_windows w SET slots = n.slots, requests = n.requests, tokens = n.tokens
            FROM (
                SELECT array_agg(m.s ORDER BY m.s) AS slots, array_agg(m.r ORDER BY m.s) AS requests,
                       array_agg(m.t ORDER BY m.s) AS tokens
                FROM (
                    SELECT e.s, sum(e.r)::bigint AS r, sum(e.t)::bigint AS t FROM (
                        SELECT o.* FROM rate_windows v,
                            unnest(v.slots, v.requests, v.tokens) AS o(s, r, t)
                            WHERE v.subject = p_subjects[i] AND o.s + 61 > at
                        UNION ALL SELECT slot, 1, p_tokens
                    ) AS e(s, r, t) GROUP BY e.s
                ) AS m
            ) AS n
            WHERE w.subject = p_subjects[i];
        IF p_max_runs[i] IS NOT NULL THEN
            INSERT INTO rate_leases
                VALUES (p_holder, p_subjects[i], p_runs, at + p_lease_s);
        END IF;
    END LOOP;
END $$;


CREATE OR REPLACE FUNCTION rate_settle(
    p_holder text, p_subjects text[], p_slot bigint, p_tokens bigint, p_runs bigint,
    p_at double precision
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- Less than was reserved is given back where it was taken, more counts from now on.
    slot bigint := CASE WHEN p_tokens < 0 THEN p_slot
        ELSE floor(coalesce(p_at, extract(epoch FROM clock_timestamp()))) END;
BEGIN
    IF p_tokens <> 0 THEN
        PERFORM 1 FROM rate_windows w
            WHERE w.subject = ANY (p_subjects) ORDER BY w.subject FOR UPDATE;
        UPDATE rate_windows w SET slots = n.slots, requests = n.requests, tokens = n.tokens
            FROM (
                SELECT m.subject, array_agg(m.s ORDER BY m.s) AS slots,
                       array_agg(m.r ORDER BY m.s) AS requests,
                       array_agg(m.t ORDER BY m.s) AS tokens
                FROM (
                    SELECT e.subject, e.s, sum(e.r)::bigint AS r,
                           greatest(sum(e.t), 0)::bigint AS t
                    FROM (
                        SELECT v.subject, o.* FROM rate_windows v,
                            unnest(v.slots, v.requests, v.tokens) AS o(s, r, t)
                            WHERE v.subject = ANY (p_subjects)
                        UNION ALL SELECT name, slot, 0, p_tokens FROM unnest(p_subjects) AS name
                    ) AS e(subject, s, r, t) GROUP BY e.subject, e.s
                ) AS m GROUP BY m.subject
            ) AS n
            WHERE w.subject = n.subject;
    END IF;
    IF p_runs > 0 THEN
        UPDATE rate_leases l SET runs = l.runs - p_runs
            WHERE l.holder = p_holder AND l.subject = ANY (p_subjects);
        DELETE FROM rate_leases l
            WHERE l.holder = p_holder AND l.subject = ANY (p_subjects) AND l.runs <= 0;
    END IF;
END $$
