//! What clients of PostgreSQL really send is answered: psql's backslash commands and tab completion, drivers' start-up
//! and introspection, as they were captured on the wire.

use std::collections::BTreeMap;

use rivermark_sql_tests::compat::{self, Captured};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::wire::{Reply, Wire};

/// The captured server's relations, as far as they can exist here.
const DEFINITIONS: [&str; 9] = [
    "CREATE SCHEMA s2",
    "CREATE TABLE items (id BIGINT PRIMARY KEY, name TEXT NOT NULL DEFAULT 'x', price NUMERIC(10,2), ts TIMESTAMPTZ,
     tags TEXT[], js JSONB, u UUID, iv INTERVAL, CONSTRAINT pos CHECK (price >= 0))",
    "CREATE TABLE orders (oid_ BIGINT DEFAULT 7, item_id BIGINT, q INT)",
    "CREATE INDEX items_ts ON items (ts)",
    "CREATE VIEW v_items AS SELECT id, name FROM items",
    "CREATE MATERIALIZED VIEW mv_items AS SELECT name, count(*) AS c FROM items GROUP BY name",
    "CREATE TABLE parted (a INT, b DATE)",
    "CREATE TABLE parted_1 (a INT, b DATE)",
    "INSERT INTO items (id, name, price) VALUES (1, 'a', 1.5), (2, 'b', 2), (3, 'b', NULL)",
];

/// Oids in psql's statements, by the relations that they were of.
const PSQL_OIDS: [(&str, &str); 7] = [
    ("16390", "items"),
    ("16397", "items_pkey"),
    ("16399", "items_ts"),
    ("16411", "v_items"),
    ("16415", "mv_items"),
    ("16434", "parted"),
    ("16437", "parted_1"),
];

/// Values of types that a person has created, which cannot be: the error says that there is no such type.
const USER_TYPES: [&str; 2] = ["::mood", "::comp"];
const UNDEFINED_OBJECT: &str = "42704";

#[test]
fn psql_statements_are_answered() {
    let Some(directory) = compat::directory() else {
        return;
    };
    let mut server = Server::options().start().expect("the server starts");
    let mut wire = Wire::connect(server.port(), "postgres").expect("a session");
    define(&mut wire);
    let mut oids = BTreeMap::new();
    for (captured, relation) in PSQL_OIDS {
        let reply = must(&mut wire, &format!("SELECT '{relation}'::regclass::oid"));
        let oid = reply.rows[0][0].clone().expect("an oid");
        oids.insert(captured, oid);
    }
    let mut statements = compat::read(&directory.join("psql_queries.sql"));
    assert!(statements.len() > 240, "{}", statements.len());
    for statement in &mut statements {
        for (captured, oid) in &oids {
            statement.sql = statement.sql.replace(captured, oid);
        }
        // the captured server's own function
        statement.sql = statement.sql.replace("'add1'", "'lower'");
    }
    answer_all(&mut wire, &statements, &server);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn drivers_statements_are_answered() {
    let Some(directory) = compat::directory() else {
        return;
    };
    let mut server = Server::options().start().expect("the server starts");
    let mut wire = Wire::connect(server.port(), "postgres").expect("a session");
    define(&mut wire);
    let statements = compat::read(&directory.join("driver_queries.sql"));
    assert!(statements.len() > 250, "{}", statements.len());
    answer_all(&mut wire, &statements, &server);
    server.stop().expect("the server stops cleanly");
}

fn define(wire: &mut Wire) {
    for definition in DEFINITIONS {
        must(wire, definition);
    }
}

fn must(wire: &mut Wire, sql: &str) -> Reply {
    let reply = wire.simple(sql).expect("an answer");
    assert_eq!(reply.error, None, "{sql}");
    reply
}

/// Runs the statements as they came: those of a transaction in it.
fn answer_all(wire: &mut Wire, statements: &[Captured], server: &Server) {
    let mut complaints = Vec::new();
    let mut status = 'I';
    for statement in statements {
        // An error that was expected ends its transaction.
        if status == 'E' {
            must(wire, "ROLLBACK");
        }
        let is_simple = statement.name.ends_with("[statement]") && statement.parameters.is_empty();
        let reply = match is_simple {
            true => wire.simple(&statement.sql),
            false => wire.extended(&statement.sql, &statement.parameters),
        };
        let reply =
            reply.unwrap_or_else(|e| panic!("{e:#}\n{}\n{}", statement.sql, server.log_tail()));
        status = reply.status;
        let is_of_user_type = USER_TYPES.iter().any(|t| statement.sql.contains(t));
        match &reply.error {
            None => assert!(
                !is_of_user_type,
                "there are such types now: {}",
                statement.sql
            ),
            Some((code, _)) if is_of_user_type && code == UNDEFINED_OBJECT => {}
            Some(_) if statement.may_fail => {}
            Some((code, message)) => {
                complaints.push(format!(
                    "{}: {code} {message}\n{}",
                    statement.name, statement.sql
                ));
            }
        }
        assert_ne!(status, '\0', "the connection was closed: {}", statement.sql);
    }
    assert!(
        complaints.is_empty(),
        "{} of {} failed:\n\n{}",
        complaints.len(),
        statements.len(),
        complaints.join("\n\n")
    );
}
