//! psql at a terminal, as a person uses it: backslash commands, completion by Tab, `\watch`, Ctrl-C.

use std::time::{Duration, Instant};

use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::terminal::Terminal;

/// A line that is typed, and what must be shown before the next prompt.
const LINES: [(&str, &[&str]); 24] = [
    (
        "\\d",
        &["devices", "by_name", "materialized view", "(3 rows)"],
    ),
    (
        "\\d devices",
        &["character varying(20)", "not null", "devices_pkey"],
    ),
    (
        "\\d+ by_name",
        &[
            "Materialized view \"public.by_name\"",
            "View definition",
            "count",
        ],
    ),
    ("\\dt", &["devices", "table"]),
    ("\\dm", &["by_name"]),
    ("\\dv", &["names"]),
    ("\\l", &["rivermark", "UTF8"]),
    ("\\dn", &["public"]),
    ("\\du", &["rivermark", "Superuser", "grafana"]),
    ("\\dp devices", &["grafana=r/rivermark"]),
    ("\\ddp", &["grafana=r/rivermark"]),
    ("\\df date_trunc", &["date_trunc"]),
    ("\\sv names", &["CREATE OR REPLACE VIEW public.names AS"]),
    ("\\conninfo", &["database \"rivermark\""]),
    ("\\x", &["Expanded display is on"]),
    ("SELECT 1 AS one;", &["-[ RECORD 1 ]", "one | 1"]),
    ("\\x", &["Expanded display is off"]),
    ("\\timing", &["Timing is on"]),
    ("SELECT 2 AS two;", &["Time:"]),
    ("\\timing", &["Timing is off"]),
    ("SELECT id, name FROM devices \\gdesc", &["integer", "text"]),
    ("SELECT id FROM devices ORDER BY id \\g", &["(2 rows)"]),
    (
        "SELECT nothing FROM devices;",
        &["ERROR:  column \"nothing\" does not exist", "LINE 1", "^"],
    ),
    ("BEGIN;", &["BEGIN"]),
];

fn started() -> (Server, Terminal) {
    let server = Server::options().start().expect("the server starts");
    let session = server.connect();
    for sql in [
        "CREATE TABLE devices (id INT PRIMARY KEY, name VARCHAR(20) NOT NULL)",
        "INSERT INTO devices VALUES (1, 'a'), (2, 'b')",
        "CREATE VIEW names AS SELECT name FROM devices",
        "CREATE MATERIALIZED VIEW by_name AS SELECT name, count(*) AS n FROM devices GROUP BY name",
        "CREATE ROLE grafana LOGIN",
        "GRANT SELECT ON devices TO grafana",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO grafana",
    ] {
        session.must(sql);
    }
    let terminal = Terminal::open(&format!(
        "host=127.0.0.1 port={} user=rivermark dbname=rivermark",
        server.port()
    ));
    (server, terminal.expect("psql starts"))
}

#[test]
fn a_person_at_psql() {
    let (mut server, mut terminal) = started();
    for (line, expected) in LINES {
        let shown = terminal.press(&format!("{line}\n"));
        shown.expect("keys are taken");
        // within a transaction the prompt has a star
        let prompt = if line == "BEGIN;" { "=*# " } else { "=# " };
        let shown = terminal.until(prompt).expect("a prompt");
        for part in expected {
            assert!(shown.contains(part), "{line}: {part:?} is not in\n{shown}");
        }
        assert!(
            !shown.contains("ERROR") || line.contains("nothing"),
            "{line}: {shown}"
        );
    }
    terminal.line("ROLLBACK;").expect("a prompt");

    // completion asks the catalog
    for (keys, completed) in [
        ("SELECT * FROM devi\t", "devices"),
        ("SELECT * FROM by_\t", "by_name"),
        ("\\d na\t", "names"),
        ("DROP MATERIALIZED VIEW by\t", "by_name"),
        ("GRANT SELECT ON devices TO gra\t", "grafana"),
    ] {
        terminal.press(keys).expect("keys are taken");
        terminal
            .until(completed)
            .unwrap_or_else(|e| panic!("{keys:?}: {e:#}"));
        terminal.press("\x03").expect("keys are taken");
        terminal.until("=# ").expect("a prompt");
    }

    let copied = terminal
        .line("\\copy (SELECT id, name FROM devices ORDER BY id) TO STDOUT CSV")
        .expect("a prompt");
    assert!(copied.contains("1,a\n2,b\n"), "{copied}");
    terminal
        .press("\\copy devices FROM STDIN CSV\n")
        .expect("keys are taken");
    terminal.until(">> ").expect("psql asks for rows");
    let copied = terminal.line("3,c\n\\.").expect("a prompt");
    assert!(copied.contains("COPY 1"), "{copied}");

    terminal
        .press("SELECT count(*) AS n FROM devices \\watch 1\n")
        .expect("keys are taken");
    for _ in 0..2 {
        terminal.until("(every 1s)").expect("it runs again");
    }
    terminal.press("\x03").expect("keys are taken");
    terminal.until("=# ").expect("a prompt");

    terminal
        .press(
            "SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b;\n",
        )
        .expect("keys are taken");
    std::thread::sleep(Duration::from_millis(500));
    let pressed = Instant::now();
    terminal.press("\x03").expect("keys are taken");
    terminal
        .until("canceling statement due to user request")
        .expect("Ctrl-C cancels");
    assert!(
        pressed.elapsed() < Duration::from_secs(2),
        "{:?}",
        pressed.elapsed()
    );
    terminal.until("=# ").expect("a prompt");

    // a password that is typed is hashed by psql, and kept
    terminal
        .press("\\password grafana\n")
        .expect("keys are taken");
    for _ in 0..2 {
        terminal.until(": ").expect("psql asks for a password");
        terminal.press("typed\n").expect("keys are taken");
    }
    terminal.until("=# ").expect("a prompt");
    drop(terminal);
    server.stop().expect("the server stops cleanly");
}
