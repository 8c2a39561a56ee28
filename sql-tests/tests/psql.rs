//! What a person sees who explores with psql: its backslash commands print for Rivermark what they print for PostgreSQL.

use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::psql::{psql, psql_head};
use rivermark_sql_tests::server::Server;

const DEFINITIONS: [&str; 6] = [
    "CREATE TABLE devices (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL, price NUMERIC(10,2), ok BOOLEAN,
     at TIMESTAMPTZ, made DATE, ratio DOUBLE PRECISION, tags TEXT[])",
    "CREATE VIEW cheap AS SELECT id, made FROM devices WHERE price < 10",
    "CREATE MATERIALIZED VIEW by_name AS SELECT made, count(*) AS n, max(ratio) AS top FROM devices GROUP BY made",
    "CREATE INDEX devices_name ON devices (name, made DESC, at NULLS FIRST)",
    "CREATE INDEX ON devices (price)",
    "CREATE INDEX ON by_name (n DESC NULLS LAST, top)",
];

/// Commands whose output is the same on both servers, word for word.
const EQUAL: [&str; 21] = [
    "\\d devices",
    "\\d cheap",
    "\\d by_name",
    "\\d devices_name",
    "\\d devices_pkey",
    "\\d by_name_n_top_idx",
    "\\d",
    "\\dt",
    "\\dv",
    "\\dm",
    "\\di",
    "\\dtvm",
    "\\dt dev*",
    "SELECT 'devices'::regclass, 'integer'::regtype, 'now'::regproc::text, 25::regtype, 'public'::regnamespace",
    "SELECT n.nspname, c.relname, a.attname, a.attnotnull, format_type(a.atttypid, a.atttypmod) FROM pg_class c
     JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
     WHERE c.oid IN ('devices'::regclass, 'cheap'::regclass, 'by_name'::regclass) ORDER BY 1, 2, a.attnum",
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "SELECT pg_get_indexdef('devices_name'::regclass, 2, true), pg_get_indexdef('devices_pkey'::regclass)",
    "SELECT * FROM devices ORDER BY id",
    "SELECT pg_typeof(1::int), pg_typeof('x'::text), pg_typeof(now()), pg_typeof(1.5::double precision)",
    "SELECT current_database() IS NOT NULL, current_schema()",
    "SELECT relname, relkind FROM pg_class WHERE relname IN ('devices', 'cheap', 'by_name') ORDER BY 1",
];

/// Commands that list the same columns under the same title on both servers.
const SAME_SHAPE: [&str; 40] = [
    "\\d+ devices",
    "\\d+ cheap",
    "\\d+ by_name",
    "\\d+ devices_name",
    "\\dt+",
    "\\dv+",
    "\\dm+",
    "\\di+",
    "\\dS",
    "\\l",
    "\\l+",
    "\\dn",
    "\\dn+",
    "\\du",
    "\\du+",
    "\\dg",
    "\\df",
    "\\df+ lower",
    "\\da sum",
    "\\do +",
    "\\dT",
    "\\dT+ int4",
    "\\dD",
    "\\dy",
    "\\db",
    "\\db+",
    "\\dp",
    "\\z devices",
    "\\dd",
    "\\dO",
    "\\dc",
    "\\dC",
    "\\dl",
    "\\ddp",
    "\\des",
    "\\dew",
    "\\det",
    "\\dA",
    "\\dRp",
    "\\dRs",
];

#[test]
fn psql_shows_what_it_shows_for_postgres() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    let mut server = Server::options().start().expect("the server starts");
    let theirs = postgres.connection_string();
    // owners are printed
    let ours = server
        .connection_string()
        .replace("user=rivermark", "user=postgres");
    for definition in DEFINITIONS.iter().chain(&["INSERT INTO devices VALUES
        (1, 'bolt', 0.25, true, '2024-01-01 00:00:00+00', '2024-02-29', 0.1, ARRAY['a', 'b c'])"])
    {
        psql(&theirs, definition).expect("PostgreSQL accepts the definition");
        psql(&ours, definition).unwrap_or_else(|e| panic!("{e:#}\n{}", server.log_tail()));
    }
    let mut complaints = Vec::new();
    for command in EQUAL {
        let expected = psql(&theirs, command).expect("PostgreSQL answers");
        match psql(&ours, command) {
            Ok(printed) if printed == expected => {}
            Ok(printed) => complaints.push(format!(
                "{command}\n--- PostgreSQL\n{expected}--- Rivermark\n{printed}"
            )),
            Err(error) => complaints.push(format!("{command}\n{error:#}")),
        }
    }
    for command in SAME_SHAPE {
        let expected = psql_head(&theirs, command).expect("PostgreSQL answers");
        match psql_head(&ours, command) {
            Ok(head) if head == expected => {}
            Ok(head) => complaints.push(format!("{command}\n{expected:?}\n{head:?}")),
            Err(error) => complaints.push(format!("{command}\n{error:#}")),
        }
    }
    for (command, names) in [
        ("\\dx", &[][..]),
        ("\\sv cheap", &["CREATE OR REPLACE VIEW public.cheap AS"]),
        ("\\df+ lower", &["lower"]),
        ("\\d+ devices", &["price", "numeric(10,2)"]),
        ("SELECT version()", &["PostgreSQL 15"]),
    ] {
        match psql(&ours, command) {
            Ok(printed) if names.iter().all(|name| printed.contains(name)) => {}
            Ok(printed) => {
                complaints.push(format!("{command}: not all of {names:?} in\n{printed}"))
            }
            Err(error) => complaints.push(format!("{command}\n{error:#}")),
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    server.stop().expect("the server stops cleanly");
}
