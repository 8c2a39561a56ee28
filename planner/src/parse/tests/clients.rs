//! Statements that psql, drivers and dashboards send by themselves: they must parse, whatever the server answers.

use super::one;

#[test]
fn what_clients_send_parses() {
    let statements = [
        // psql: \d name
        "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n \
         ON n.oid = c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(t)$' COLLATE pg_catalog.default \
         AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;",
        "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT \
         pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid \
         AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, (SELECT c.collname FROM pg_catalog.pg_collation c, \
         pg_catalog.pg_type t WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> \
         t.typcollation) AS attcollation, a.attidentity, a.attgenerated FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = '16385' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum;",
        // psql: \dt
        "SELECT n.nspname as \"Schema\", c.relname as \"Name\", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN \
         'view' WHEN 'm' THEN 'materialized view' WHEN 's' THEN 'special' END as \"Type\", \
         pg_catalog.pg_get_userbyid(c.relowner) as \"Owner\" FROM pg_catalog.pg_class c LEFT JOIN \
         pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r','p','') AND n.nspname !~ \
         '^pg_toast' AND n.nspname <> 'information_schema' ORDER BY 1,2;",
        // psql: tab completion
        "SELECT pg_catalog.quote_ident(c.relname), NULL::pg_catalog.text FROM pg_catalog.pg_class c \
         WHERE (c.relname) LIKE 'rea%' UNION ALL SELECT 'a', NULL::text LIMIT 1000",
        // pgjdbc
        "SET extra_float_digits = 3",
        "SET application_name = 'PostgreSQL JDBC Driver'",
        "SELECT t.typname, t.oid FROM pg_type t JOIN pg_namespace n ON t.typnamespace = n.oid WHERE n.nspname <> \
         'pg_toast' AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_class c WHERE c.oid = t.typrelid))",
        "SELECT e.typdelim FROM pg_type t, pg_type e WHERE t.oid = $1 and t.typelem = e.oid",
        // psycopg, SQLAlchemy
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
        "select pg_catalog.version()",
        "SELECT 't'::regclass::oid, current_schema(), ARRAY[1,2]::int8[] && ARRAY[2]::bigint[]",
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class WHERE pg_catalog.pg_class.relkind = ANY \
         (ARRAY['r', 'p', 'f', 'v', 'm'])",
        // Grafana
        "SELECT \"time\" AS \"time\", avg(value) FROM readings WHERE \"time\" BETWEEN '2026-01-01T00:00:00Z' AND \
         '2026-01-02T00:00:00Z' GROUP BY 1 ORDER BY 1",
        "SELECT date_bin('5 minutes', ts, TIMESTAMPTZ 'epoch'), percentile_cont(0.5) WITHIN GROUP (ORDER BY v) \
         FROM r GROUP BY 1",
        // node-postgres, pgx
        "DEALLOCATE pgx_0",
        "select 1 as \"?column?\", null::jsonb -> 'a' ->> 'b', '{\"a\":1}'::jsonb @> '{}'",
    ];
    for sql in statements {
        one(sql);
    }
}
