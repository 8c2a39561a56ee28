//! COPY … FROM STDIN through psql: what it prints, which errors it shows with which context, and which rows are there
//! afterwards, is what it is with PostgreSQL.

use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::psql::{psql, psql_with_input};
use rivermark_sql_tests::server::Server;

const DEFINITIONS: [&str; 5] = [
    "CREATE TABLE t (a INT PRIMARY KEY, b TEXT, c DOUBLE PRECISION DEFAULT 0.5, d VARCHAR(5),
     CONSTRAINT small CHECK (a < 1000))",
    "CREATE TABLE g (a INT, twice INT GENERATED ALWAYS AS (a * 2) STORED, at TIMESTAMPTZ NOT NULL DEFAULT '2024-01-01 00:00:00+00')",
    "CREATE TABLE single (s TEXT)",
    "CREATE TABLE bytes (a SMALLINT, b BIGINT, c NUMERIC(10,2), d BYTEA, e TIMESTAMP, f UUID, g BOOLEAN, h INT[])",
    "CREATE MATERIALIZED VIEW m AS SELECT count(*) AS n, sum(a) AS a, min(b) AS b FROM t",
];

/// Statements and their data. Each is run on both servers, one after the other.
const COPIES: &[(&str, &[u8])] = &[
    ("COPY t FROM STDIN", b"1\tone\t1.5\tx\n2\t\\N\t\\N\t\\N\n3\ttab\\there\\nline\t-0\t\n"),
    ("COPY t (b, a) FROM STDIN", b"four\t4\nfive\t5\n\\.\nignored\n"),
    ("COPY t FROM STDIN WITH (FORMAT csv, HEADER)", b"a,b,c,d\n6,\"say \"\"hi\"\", you\",2,\n7,\"two\nlines\",,\"\"\n"),
    ("COPY t FROM STDIN CSV DELIMITER ';' NULL 'null' QUOTE '''' ESCAPE '\\'", b"8;'it\\'s';null;'null'\n9;x;1;null\n"),
    ("COPY t FROM STDIN WITH (DELIMITER '|', NULL '-')", b"10|a\\|b|-|c\n11|-|3|-"),
    ("COPY t (a, b) FROM STDIN WHERE a % 2 = 0", b"20\teven\n21\todd\n22\teven\n"),
    ("COPY t (a, b, d) FROM STDIN WITH (FORMAT csv, FORCE_NULL (d), FORCE_NOT_NULL (b), HEADER match)", b"a,b,d\n30,,\"\"\n"),
    ("COPY t FROM STDIN", b""),
    // values that are none
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n41\tx\tabc\ty\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ttoo long\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n99999999999\tx\t1\ty\n"),
    ("COPY t FROM STDIN CSV", b"40,x,1,y\nzz,x,1,y\n"),
    // lines that are none
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n41\tx\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ty\tmore\n"),
    ("COPY t FROM STDIN", b"\n"),
    ("COPY t FROM STDIN CSV", b"40,\"x,1,y\n41,x,1,y\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n41\tx\t1\ty\r\n"),
    ("COPY t FROM STDIN CSV", b"40,x,1,y\r\n41,x,1,y\n"),
    ("COPY t FROM STDIN WITH (FORMAT csv, HEADER match)", b"a,b,c\n"),
    ("COPY t FROM STDIN WITH (FORMAT csv, HEADER match)", b"a,b,x,d\n"),
    // constraints
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n\\N\tx\t1\ty\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n4000\tx\t1\ty\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n1\tx\t1\ty\n"),
    ("COPY t FROM STDIN", b"40\tx\t1\ty\n41\tx\t1\ty\n40\tx\t1\ty\n"),
    ("COPY g (a, at) FROM STDIN", b"1\t\\N\n"),
    ("COPY g (a) FROM STDIN", b"1\n2\n"),
    ("COPY g FROM STDIN CSV", b"3,2024-02-03 04:05:06+00\n"),
    ("COPY g (a, twice) FROM STDIN", b"1\t2\n"),
    // names
    ("COPY nope FROM STDIN", b"1\n"),
    ("COPY t (nope) FROM STDIN", b"1\n"),
    ("COPY t (a, a) FROM STDIN", b"1\t1\n"),
    // one column
    ("COPY single FROM STDIN", b"a\n\nb\\\\.\n\\N\nc\\\nd\n"),
    ("COPY single FROM STDIN CSV", b"x\n\"\"\n\\.x\n"),
    ("COPY single FROM STDIN", b"caf\xc3\xa9\n\xff\n"),
    ("COPY single FROM STDIN", b"\\x41\\101\\x\\q\n"),
    // other types
    ("COPY bytes FROM STDIN", b"1\t2\t3.005\t\\\\x00ff\t2024-01-02 03:04:05.5\t6f2e4b1c-5a37-4c7c-8a0e-1f0f0f0f0f0f\tt\t{1,NULL,3}\n\\N\t\\N\t\\N\t\\N\t\\N\t\\N\tno\t{}\n"),
    ("COPY bytes (a) FROM STDIN", b"40000\n"),
    ("COPY bytes (f) FROM STDIN", b"not-a-uuid\n"),
    // in a transaction and in one message
    ("BEGIN; COPY single FROM STDIN; ROLLBACK", b"gone\n"),
    ("BEGIN; COPY single FROM STDIN; INSERT INTO single VALUES ('y'); COMMIT", b"stays\n"),
    ("COPY single FROM STDIN; SELECT count(*) FROM single", b"too\n"),
    ("COPY single FROM STDIN; SELECT 1 / 0", b"not\n"),
];

const QUERIES: [&str; 5] = [
    "SELECT * FROM t ORDER BY a",
    "SELECT * FROM g ORDER BY a",
    "SELECT s, s IS NULL FROM single ORDER BY s",
    "SELECT * FROM bytes ORDER BY a",
    "SELECT * FROM m",
];

#[test]
fn copy_from_stdin_is_postgres_copy() {
    let postgres = Postgres::start().expect("PostgreSQL starts");
    let mut server = Server::options().start().expect("the server starts");
    let (ours, theirs) = (server.connection_string(), postgres.connection_string());
    for definition in DEFINITIONS {
        let oracle = definition.replace("MATERIALIZED VIEW", "VIEW");
        psql(&theirs, &oracle).expect("PostgreSQL accepts the definition");
        psql(&ours, definition).unwrap_or_else(|e| panic!("{e:#}\n{}", server.log_tail()));
    }
    let mut complaints = Vec::new();
    for (copy, data) in COPIES {
        let expected = psql_with_input(&theirs, copy, data).expect("psql runs");
        let printed = psql_with_input(&ours, copy, data).expect("psql runs");
        // Where in the statement an error is, is not told of every one.
        let plain = |(out, err): (String, String)| {
            let is_kept = |line: &&str| !line.starts_with("LINE ") && line.trim() != "^";
            let err: Vec<&str> = err.lines().filter(is_kept).collect();
            format!("{out}{}", err.join("\n"))
        };
        let (expected, printed) = (plain(expected), plain(printed));
        if printed != expected {
            let data = String::from_utf8_lossy(data);
            complaints.push(format!(
                "{copy}\n{data}\n--- PostgreSQL\n{expected}\n--- Rivermark\n{printed}"
            ));
        }
    }
    for query in QUERIES {
        let expected = psql(&theirs, query).expect("PostgreSQL answers");
        match psql(&ours, query) {
            Ok(printed) if printed == expected => {}
            Ok(printed) => complaints.push(format!(
                "{query}\n--- PostgreSQL\n{expected}--- Rivermark\n{printed}"
            )),
            Err(error) => complaints.push(format!("{query}\n{error:#}")),
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n\n"));
    server.stop().expect("the server stops cleanly");
}

/// A file that takes many batches, there and back in every format.
#[test]
fn files_come_back_as_they_went() {
    let mut server = Server::options().start().expect("the server starts");
    let ours = server.connection_string();
    let run = |sql: &str, input: &[u8]| {
        let (out, err) = psql_with_input(&ours, sql, input).expect("psql runs");
        assert_eq!(err, "", "{sql}");
        out
    };
    let columns = "(id INT PRIMARY KEY, s TEXT, n NUMERIC(10,2), at TIMESTAMPTZ, ok BOOLEAN)";
    run(&format!("CREATE TABLE big {columns}"), b"");
    run(
        "CREATE MATERIALIZED VIEW sums AS SELECT ok, count(*) AS c, sum(id) AS i, sum(n) AS n FROM big GROUP BY ok",
        b"",
    );
    let mut lines = String::new();
    for i in 0..60_000 {
        let text = match i % 3 {
            0 => "\\N".to_string(),
            1 => format!("line\\nand \"{i}\", tab\\t\\\\"),
            _ => String::new(),
        };
        let ok = ["t", "f", "\\N"][i % 3];
        lines.push_str(&format!(
            "{i}\t{text}\t{i}.25\t2024-01-01 00:00:00+00\t{ok}\n"
        ));
    }
    assert_eq!(run("COPY big FROM STDIN", lines.as_bytes()), "COPY 60000\n");
    let sums = run("SELECT * FROM sums ORDER BY ok", b"");
    let all = run("SELECT * FROM big ORDER BY id", b"");
    let directory = tempfile::tempdir().expect("a directory for the test");
    for (format, path) in [("text", "a"), ("csv", "b"), ("binary", "c")] {
        let path = directory.path().join(path);
        let path = path.display();
        run(
            &format!("\\copy big TO '{path}' WITH (FORMAT {format})"),
            b"",
        );
        run("TRUNCATE big", b"");
        assert_eq!(run("SELECT count(*) FROM sums", b""), "0\n");
        let copied = run(
            &format!("\\copy big FROM '{path}' WITH (FORMAT {format})"),
            b"",
        );
        assert_eq!(copied, "COPY 60000\n", "{format}");
        assert_eq!(run("SELECT * FROM big ORDER BY id", b""), all, "{format}");
        assert_eq!(run("SELECT * FROM sums ORDER BY ok", b""), sums, "{format}");
    }
    // The last line is wrong: nothing of the file is there.
    run("TRUNCATE big", b"");
    lines.push_str("60000\tx\ty\t\\N\t\\N\n");
    let (_, err) =
        psql_with_input(&ours, "COPY big FROM STDIN", lines.as_bytes()).expect("psql runs");
    assert!(err.contains("line 60001, column n: \"y\""), "{err}");
    assert_eq!(run("SELECT count(*) FROM big", b""), "0\n");
    server.stop().expect("the server stops cleanly");
}

/// Rows in the order of their keys and against it, with a key and without one, more than go through the log: what was
/// answered is there after a crash, once, and a key that is taken is still found.
#[test]
fn large_files_survive_a_crash() {
    const ROWS: u64 = 150_000;
    let mut server = Server::options().start().expect("the server starts");
    let run = |server: &Server, sql: &str, input: &str| {
        psql_with_input(&server.connection_string(), sql, input.as_bytes()).expect("psql runs")
    };
    let columns = "(id BIGINT, a TEXT, b TEXT)";
    for sql in [
        &format!(
            "CREATE TABLE keyed {}",
            columns.replace("BIGINT", "BIGINT PRIMARY KEY")
        ),
        &format!("CREATE TABLE bag {columns}"),
        "CREATE INDEX by_a ON keyed (a)",
        "CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(id) AS s FROM keyed",
    ] {
        assert_eq!(run(&server, sql, "").1, "", "{sql}");
    }
    let line = |id: u64| format!("{id}\tdevice {}\t{:060}\n", id % 100, id);
    let up: String = (0..ROWS).map(line).collect();
    let down: String = (ROWS..2 * ROWS).rev().map(line).collect();
    for (file, table) in [(&up, "keyed"), (&up, "bag"), (&down, "keyed"), (&up, "bag")] {
        let copied = run(&server, &format!("COPY {table} FROM STDIN"), file);
        assert_eq!(copied, (format!("COPY {ROWS}\n"), String::new()), "{table}");
        server.kill9().expect("killed");
        server.start_again().expect("the server starts again");
    }
    let session = server.connect();
    let told = session.rows(
        "SELECT count(*), sum(id), (SELECT n FROM sums), (SELECT s FROM sums),
            (SELECT count(*) FROM keyed WHERE a = 'device 7'), (SELECT count(*) FROM bag),
            (SELECT count(DISTINCT id) FROM bag), (SELECT count(*) FROM bag WHERE id = 77) FROM keyed",
    );
    let sum = ROWS * (2 * ROWS - 1);
    let expected = [2 * ROWS, sum, 2 * ROWS, sum, ROWS / 50, 2 * ROWS, ROWS, 2];
    assert_eq!(told, [expected.map(|n| Some(n.to_string())).to_vec()]);
    let (_, err) = run(&server, "COPY keyed FROM STDIN", &line(2 * ROWS - 1));
    assert!(err.contains("Key (id)=(299999) already exists."), "{err}");
    server.stop().expect("the server stops cleanly");
}
