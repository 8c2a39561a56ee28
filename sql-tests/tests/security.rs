//! Who may do what: nothing is served before a password has been proved, encryption is PostgreSQL's, and an ordinary role
//! does what was granted to it and no more.

use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rivermark_sql_tests::certificate::Certificate;
use rivermark_sql_tests::psql::psql;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::Session;
use rivermark_sql_tests::wire::{Wire, field, message, query, startup};
use tempfile::TempDir;

const PASSWORD: &str = "top secret";

/// A data directory in which the superuser has a password, and there is an ordinary role.
fn prepared() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let options = Server::options().data_dir(directory.path().join("data"));
    let mut server = options.start().expect("the server starts");
    let session = server.connect();
    for sql in [
        "CREATE SCHEMA other",
        "CREATE TABLE t (id INT PRIMARY KEY, v TEXT)",
        "CREATE TABLE hidden (id INT PRIMARY KEY, at TIMESTAMPTZ)",
        "CREATE TABLE other.t (id INT PRIMARY KEY)",
        "INSERT INTO t VALUES (1, 'a')",
        "INSERT INTO hidden VALUES (1)",
        "CREATE VIEW shown AS SELECT count(*) AS n FROM hidden",
        "CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM hidden",
        "ALTER ROLE rivermark PASSWORD 'top secret'",
        "CREATE ROLE grafana LOGIN PASSWORD 'read only' CONNECTION LIMIT 3",
        "CREATE ROLE nobody PASSWORD 'cannot log in'",
        "GRANT SELECT ON t, shown TO grafana",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana",
        "GRANT SELECT ON other.t TO grafana",
    ] {
        session.must(sql);
    }
    let shown = session.rows("SELECT usename, query FROM pg_stat_activity");
    assert!(!format!("{shown:?}").contains(PASSWORD));
    server.stop().expect("the server stops cleanly");
    directory
}

fn authenticating(directory: &Path) -> Server {
    let options = Server::options().data_dir(directory.join("data"));
    options
        .env("RIVERMARK_AUTH", "scram")
        .start()
        .expect("the server starts")
}

fn login(server: &Server, user: &str, password: &str) -> Result<Session, String> {
    let config = format!(
        "host=127.0.0.1 port={} user={user} password='{password}' dbname=rivermark",
        server.port()
    );
    Session::connect(&config).map_err(|error| error.code)
}

/// The first message of SCRAM.
fn first_message() -> Vec<u8> {
    let data = b"n,,n=,r=abcdefghijklmnop";
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend((data.len() as u32).to_be_bytes());
    body.extend(data);
    message(b'p', &body)
}

#[test]
fn nothing_is_served_before_a_password_is_proved() {
    let directory = prepared();
    let mut server = authenticating(directory.path());
    assert!(login(&server, "rivermark", PASSWORD).is_ok());
    let started = Instant::now();
    assert_eq!(
        login(&server, "rivermark", "guess").err().as_deref(),
        Some("28P01")
    );
    assert!(
        started.elapsed() >= Duration::from_millis(500),
        "guessing takes time"
    );
    for (user, password) in [
        ("unknown", PASSWORD),
        ("nobody", "cannot log in"),
        ("rivermark", ""),
    ] {
        assert!(login(&server, user, password).is_err(), "{user}");
    }
    let begin = |user: &str| startup(&[("user", user), ("database", "rivermark")]);
    let first = first_message();
    let wrong = message(
        b'p',
        b"c=biws,r=abcdefghijklmnop,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    );
    for (what, messages) in [
        (
            "a query behind the start",
            vec![begin("rivermark"), query("SELECT 1")],
        ),
        (
            "a query behind a wrong proof",
            vec![
                begin("rivermark"),
                first.clone(),
                wrong.clone(),
                query("SELECT 1"),
            ],
        ),
        (
            "a query of an unknown user",
            vec![
                begin("unknown"),
                first.clone(),
                wrong.clone(),
                query("SELECT 1"),
            ],
        ),
        (
            "a query instead of a proof",
            vec![begin("rivermark"), first, query("SELECT 1")],
        ),
        (
            "a start that fails",
            vec![startup(&[("database", "rivermark")]), query("SELECT 1")],
        ),
        (
            "a plain password",
            vec![
                begin("rivermark"),
                message(b'p', b"top secret\0"),
                query("SELECT 1"),
            ],
        ),
    ] {
        let mut wire = Wire::open(server.port()).expect("a socket");
        wire.send(&messages.concat()).expect("sent");
        let mut seen = String::new();
        while let Some((tag, body)) = wire.receive().expect("in time") {
            seen.push(char::from(tag));
            if tag == b'E' {
                assert_eq!(field(&body, b'S'), "FATAL", "{what}");
            }
            assert!(tag != b'R' || body[..4] != [0, 0, 0, 0], "{what}: let in");
        }
        assert!(
            seen.ends_with('E') && !seen.contains(['T', 'D', 'C', 'Z', 'S', 'K']),
            "{what}: {seen}"
        );
    }
    server.stop().expect("the server stops cleanly");
}

#[test]
fn an_ordinary_role_does_what_was_granted_to_it() {
    let directory = prepared();
    let mut server = authenticating(directory.path());
    let admin = login(&server, "rivermark", PASSWORD).expect("a session");
    let grafana = login(&server, "grafana", "read only").expect("a session");
    grafana.must("SELECT * FROM t");
    grafana.must("SELECT * FROM shown");
    grafana.must("SELECT table_name FROM information_schema.tables");
    for sql in [
        "SELECT * FROM hidden",
        "SELECT * FROM t, hidden",
        "SELECT (SELECT max(id) FROM hidden)",
        "WITH h AS (SELECT * FROM hidden) SELECT * FROM h",
        "SELECT relname, (SELECT max(id) FROM hidden) FROM pg_class",
        "COPY hidden TO STDOUT",
        "SUBSCRIBE hidden",
        "BEGIN; DECLARE c CURSOR FOR SUBSCRIBE hidden",
        "ROLLBACK; SELECT * FROM other.t",
        "INSERT INTO t VALUES (2, 'b')",
        "UPDATE t SET v = 'b'",
        "DELETE FROM t",
        "TRUNCATE t",
        "CREATE TABLE mine (id INT)",
        "DROP TABLE t",
        "CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
        "ALTER TABLE t RENAME TO u",
        "CREATE ROLE me SUPERUSER",
        "ALTER ROLE grafana SUPERUSER",
        "GRANT SELECT ON hidden TO grafana",
        "SELECT * FROM pg_authid",
        "SELECT * FROM rivermark.dead_letters",
        "EXPLAIN ANALYZE SELECT * FROM hidden",
        "EXPLAIN CREATE MATERIALIZED VIEW m AS SELECT * FROM hidden",
        "EXPLAIN ANALYZE MATERIALIZED VIEW kept",
        "SELECT * FROM TUMBLE(hidden, at, INTERVAL '1 minute')",
        "SELECT * FROM HOP(TABLE hidden, at, INTERVAL '1 minute', INTERVAL '2 minutes')",
        "SELECT t.id FROM t ASOF LEFT JOIN hidden AS h ON h.id = t.id AND h.at <= now()",
        "COPY t FROM STDIN",
        "COPY (SUBSCRIBE hidden) TO STDOUT",
        "CREATE SOURCE s (id INT) WITH (connector = 'datagen')",
        "CREATE OR REPLACE VIEW shown AS SELECT 1 AS n",
        "CREATE OR REPLACE MATERIALIZED VIEW kept AS SELECT 1 AS n",
        "ALTER MATERIALIZED VIEW kept PAUSE",
        "ALTER MATERIALIZED VIEW kept REBUILD",
        "ALTER SCHEMA other OWNER TO grafana",
        "REASSIGN OWNED BY rivermark TO grafana",
        "ALTER DEFAULT PRIVILEGES FOR ROLE rivermark GRANT SELECT ON TABLES TO grafana",
        "SELECT * FROM rivermark.late_rows",
    ] {
        assert_eq!(grafana.must_fail(sql).code, "42501", "{sql}");
        grafana.run("ROLLBACK").expect("an answer");
    }
    admin.must("GRANT INSERT, UPDATE, DELETE ON t TO grafana");
    grafana.must("INSERT INTO t VALUES (2, 'b')");
    grafana.must("UPDATE t SET v = 'c' WHERE id = 2");
    grafana.must("DELETE FROM t WHERE id = 2");
    admin.must("GRANT USAGE ON SCHEMA other TO grafana");
    grafana.must("SELECT * FROM other.t");
    admin.must("CREATE MATERIALIZED VIEW later AS SELECT count(*) AS n FROM hidden");
    grafana.must("SELECT * FROM later");
    let told = "SELECT has_table_privilege('t', 'select'), has_table_privilege('hidden', 'select'),
                has_table_privilege('rivermark', 'hidden', 'select'), has_schema_privilege('other', 'usage')";
    let told = grafana.rows(told).concat();
    let told: Vec<_> = told.iter().map(|v| v.as_deref()).collect();
    assert_eq!(told, [Some("t"), Some("f"), Some("t"), Some("t")]);
    let acl =
        admin.scalar("SELECT array_to_string(relacl, ' ') FROM pg_class WHERE relname = 'later'");
    assert_eq!(
        acl.as_deref(),
        Some("rivermark=arwdDxt/rivermark grafana=r/rivermark")
    );
    grafana.must("PREPARE p AS SELECT * FROM t");
    grafana.must("EXECUTE p");
    admin.must("REVOKE ALL ON t FROM grafana");
    assert_eq!(grafana.must_fail("EXECUTE p").code, "42501");
    assert_eq!(grafana.must_fail("SELECT * FROM t").code, "42501");
    server.stop().expect("the server stops cleanly");
}

#[test]
fn what_is_revoked_is_denied_to_the_next_statement() {
    let directory = prepared();
    let mut server = authenticating(directory.path());
    let admin = login(&server, "rivermark", PASSWORD).expect("a session");
    let grafana = login(&server, "grafana", "read only").expect("a session");
    for sql in ["BEGIN", "SELECT * FROM t", "SELECT * FROM t"] {
        grafana.must(sql);
    }
    admin.must("REVOKE SELECT ON t FROM grafana");
    assert_eq!(grafana.must_fail("SELECT * FROM t").code, "42501");
    grafana.must("ROLLBACK");
    admin.must("GRANT SELECT ON t TO grafana");
    // a grant belongs to what it is on, whatever becomes of that
    admin.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM hidden");
    admin.must(
        "CREATE OR REPLACE MATERIALIZED VIEW m AS SELECT count(*) AS n, max(id) AS id FROM hidden",
    );
    grafana.must("SELECT id FROM m");
    admin.must("DROP MATERIALIZED VIEW m");
    admin.must("ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM grafana");
    admin.must("CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n FROM hidden");
    assert_eq!(grafana.must_fail("SELECT n FROM m").code, "42501");
    server.restart().expect("the server restarts");
    let grafana = login(&server, "grafana", "read only").expect("a session");
    grafana.must("SELECT * FROM t");
    assert_eq!(grafana.must_fail("SELECT n FROM m").code, "42501");
    server.stop().expect("the server stops cleanly");
}

#[test]
fn roles_log_in_as_they_may() {
    let directory = prepared();
    let mut server = authenticating(directory.path());
    let admin = login(&server, "rivermark", PASSWORD).expect("a session");
    let refusal = |user: &str, password: &str| login(&server, user, password).err();
    let first = login(&server, "grafana", "read only").expect("a session");
    let more: Vec<_> = (0..2)
        .map(|_| login(&server, "grafana", "read only").expect("a session"))
        .collect();
    assert_eq!(refusal("grafana", "read only").as_deref(), Some("53300"));
    drop(more);
    // what others run is not for everyone to see
    let seen = first.rows("SELECT query FROM pg_stat_activity WHERE usename = 'rivermark'");
    assert_eq!(seen[0][0].as_deref(), Some("<insufficient privilege>"));
    // sessions reach those of their own role
    let pid = |session: &Session| session.scalar("SELECT pg_backend_pid()").expect("a number");
    for function in ["pg_cancel_backend", "pg_terminate_backend"] {
        let sql = format!("SELECT {function}({})", pid(&admin));
        assert_eq!(first.must_fail(&sql).code, "42501", "{sql}");
        let sql = format!("SELECT {function}(2000000000)");
        assert_eq!(first.scalar(&sql).as_deref(), Some("f"), "{sql}");
    }
    let other = login(&server, "grafana", "read only").expect("a session");
    let sql = format!("SELECT pg_terminate_backend({})", pid(&other));
    assert_eq!(first.scalar(&sql).as_deref(), Some("t"));
    assert!(other.run("SELECT 1").is_err(), "the session was ended");
    // everyone changes the own password, and nothing else
    first.must("ALTER ROLE grafana PASSWORD 'changed'");
    for sql in [
        "ALTER ROLE grafana CONNECTION LIMIT 100",
        "ALTER ROLE grafana PASSWORD 'changed' SUPERUSER",
        "ALTER ROLE rivermark PASSWORD 'changed'",
        "SET ROLE rivermark",
    ] {
        assert_eq!(first.must_fail(sql).code, "42501", "{sql}");
    }
    drop(first);
    assert_eq!(refusal("grafana", "read only").as_deref(), Some("28P01"));
    assert!(login(&server, "grafana", "changed").is_ok());
    assert_eq!(refusal("nobody", "cannot log in").as_deref(), Some("28000"));
    for (sql, expected) in [
        ("ALTER ROLE grafana VALID UNTIL '2020-01-01'", Some("28P01")),
        ("ALTER ROLE grafana VALID UNTIL 'infinity'", None),
        ("ALTER ROLE grafana NOLOGIN", Some("28000")),
        ("ALTER ROLE grafana LOGIN", None),
        (
            "REVOKE CONNECT ON DATABASE rivermark FROM PUBLIC",
            Some("42501"),
        ),
        ("GRANT CONNECT ON DATABASE rivermark TO grafana", None),
        ("ALTER ROLE grafana PASSWORD NULL", Some("28P01")),
    ] {
        admin.must(sql);
        assert_eq!(refusal("grafana", "changed").as_deref(), expected, "{sql}");
    }
    assert_eq!(admin.must_fail("DROP ROLE rivermark").code, "55006");
    // what was granted to a role keeps it
    let kept = admin.must_fail("DROP ROLE grafana");
    assert_eq!(kept.code, "2BP01");
    assert!(kept.detail.contains("privileges for table t"), "{kept}");
    admin.must("DROP OWNED BY grafana");
    admin.must("DROP ROLE grafana");
    assert_eq!(refusal("grafana", "changed").as_deref(), Some("28P01"));
    // no password and no verifier is shown
    let shown = admin.rows("SELECT * FROM pg_authid, pg_shadow");
    let shown = format!(
        "{shown:?}{:?}",
        admin.rows("SELECT * FROM rivermark.sessions")
    );
    assert!(
        !shown.contains("SCRAM-SHA-256$") && !shown.contains("changed"),
        "{shown}"
    );
    server.stop().expect("the server stops cleanly");
}

#[test]
fn a_trusting_server_still_asks_what_a_role_may() {
    let directory = prepared();
    let options = Server::options().data_dir(directory.path().join("data"));
    let mut server = options.start().expect("the server starts");
    // whoever is no role acts as the superuser
    login(&server, "somebody", "")
        .expect("a session")
        .must("SELECT * FROM hidden");
    let grafana = login(&server, "grafana", "").expect("a session");
    assert_eq!(grafana.must_fail("SELECT * FROM hidden").code, "42501");
    assert_eq!(login(&server, "nobody", "").err().as_deref(), Some("28000"));
    server.stop().expect("the server stops cleanly");
}

/// The salt that a user is told, who then gives up.
fn salt(server: &Server, user: &str) -> String {
    let mut wire = Wire::open(server.port()).expect("a socket");
    wire.send(&startup(&[("user", user), ("database", "rivermark")]))
        .expect("sent");
    wire.send(&first_message()).expect("sent");
    while let Some((tag, body)) = wire.receive().expect("in time") {
        if tag == b'R' && body[..4] == [0, 0, 0, 11] {
            let text = String::from_utf8_lossy(&body[4..]).into_owned();
            let salt = text.split(',').find_map(|part| part.strip_prefix("s="));
            return salt.expect("there is a salt").to_string();
        }
    }
    panic!("no salt");
}

#[test]
fn guessing_does_not_tell_which_roles_there_are() {
    let directory = prepared();
    let mut server = authenticating(directory.path());
    for user in ["rivermark", "unknown"] {
        assert_eq!(salt(&server, user), salt(&server, user), "{user}");
    }
    assert_ne!(salt(&server, "unknown"), salt(&server, "another"));
    let before = salt(&server, "unknown");
    server.restart().expect("the server restarts");
    assert_eq!(salt(&server, "unknown"), before);
    server.stop().expect("the server stops cleanly");
}

#[test]
fn connections_are_encrypted() {
    let directory = prepared();
    let certificate = Certificate::make(directory.path()).expect("openssl makes a certificate");
    let options = Server::options()
        .data_dir(directory.path().join("data"))
        .env("RIVERMARK_AUTH", "scram");
    let mut server = certificate
        .serve(options)
        .start()
        .expect("the server starts");
    for mode in ["require", "verify-ca", "verify-full", "disable"] {
        let config = format!(
            "host=127.0.0.1 port={} user=rivermark password='{PASSWORD}' dbname=rivermark sslmode={mode} sslrootcert={}",
            server.port(),
            certificate.file.display()
        );
        let answer = psql(&config, "SELECT 1 + 1").unwrap_or_else(|e| panic!("{mode}: {e:#}"));
        assert_eq!(answer.trim(), "2", "{mode}");
    }
    // what is sent in the clear behind the request for encryption is not taken for encrypted
    let mut wire = Wire::open(server.port()).expect("a socket");
    let request = [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat();
    let begin = startup(&[("user", "rivermark"), ("database", "rivermark")]);
    wire.send(&[request, begin].concat()).expect("sent");
    let mut answer = Vec::new();
    wire.0.read_to_end(&mut answer).expect("in time");
    assert_eq!(answer.first(), Some(&b'E'));
    server.stop().expect("the server stops cleanly");
}

#[test]
fn a_server_without_passwords_stays_on_this_machine() {
    for arguments in [
        &["--listen", "0.0.0.0:0", "--auth", "trust"][..],
        // nobody could log in
        &["--listen", "0.0.0.0:0"],
        &["--auth", "scram"],
        &["--auth", "md5"],
        &["--tls-cert", "/nowhere"],
    ] {
        let directory = TempDir::new().expect("a directory");
        let output = Command::new(Server::binary().expect("a binary"))
            .arg("serve")
            .args(["--memory-limit", "64MB", "--data-dir"])
            .arg(directory.path())
            .args(arguments)
            .args(if arguments.contains(&"--listen") {
                &[][..]
            } else {
                &["--listen", "127.0.0.1:0"]
            })
            .output()
            .expect("the binary runs");
        assert!(!output.status.success(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn errors_do_not_show_rows_that_may_not_be_read() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    for sql in [
        "CREATE TABLE t (id INT PRIMARY KEY, secret TEXT, v TEXT NOT NULL CHECK (v <> 'wrong'))",
        "INSERT INTO t VALUES (1, 'hunter2', 'a')",
        "CREATE TABLE keyed (a TEXT, b INT, PRIMARY KEY (a, b))",
        "INSERT INTO keyed VALUES ('hunter2', 1), ('hunter2', 2)",
        "CREATE ROLE writer",
        "GRANT UPDATE ON t, keyed TO writer",
    ] {
        session.must(sql);
    }
    let shown = session.must_fail("UPDATE t SET v = NULL");
    assert!(shown.detail.contains("(1, hunter2, null)"), "{shown:?}");
    session.must("SET ROLE writer");
    session.must("UPDATE t SET v = 'b'");
    for (sql, code) in [
        ("UPDATE t SET v = NULL", "23502"),
        ("UPDATE t SET v = 'wrong'", "23514"),
        ("UPDATE keyed SET b = 3", "42501"),
    ] {
        let error = session.must_fail(sql);
        assert_eq!(error.code, code, "{sql}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    server.stop().expect("the server stops cleanly");
}

#[test]
fn a_subscription_ends_with_the_right_to_it() {
    let mut server = Server::options().start().expect("the server starts");
    let session = server.connect();
    session.must("CREATE TABLE t (id INT PRIMARY KEY)");
    session.must("CREATE ROLE reader LOGIN");
    session.must("GRANT SELECT ON t TO reader");
    let reader = login(&server, "reader", "").expect("trusted");
    reader.must("BEGIN");
    reader.must("DECLARE c CURSOR FOR SUBSCRIBE t");
    session.must("INSERT INTO t VALUES (1)");
    let fetch = "FETCH 1 FROM c WITH (timeout = '10s')";
    assert_eq!(reader.rows(fetch).len(), 1);
    session.must("REVOKE SELECT ON t FROM reader");
    session.must("INSERT INTO t VALUES (2)");
    assert_eq!(reader.must_fail(fetch).code, "42501");
    server.stop().expect("the server stops cleanly");
}
