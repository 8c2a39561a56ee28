//! Texts that were written to break a parser: deep, long, exponential, random. Each must come back soon, without a
//! panic and without overflowing the two megabytes of stack that a server's threads have.

use std::time::{Duration, Instant};

use crate::parse::parse;

const STACK: usize = 2 << 20;

/// Parses and drops on a stack as small as a server's; says whether it parsed.
fn parses(sql: String) -> bool {
    let start = Instant::now();
    let thread = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || parse(&sql).is_ok());
    let parsed = thread
        .expect("a thread starts")
        .join()
        .expect("parsing does not panic");
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "parsing took {:?}",
        start.elapsed()
    );
    parsed
}

#[test]
fn nesting_without_end_is_an_error() {
    let n = 2_000;
    #[rustfmt::skip]
    let openings = [
        "(", "((", "[", "NOT ", "- ", "+-", "f(", "ARRAY[", "CASE WHEN ", "CAST(", "floor(", "INTERVAL ", "(SELECT ",
        "EXISTS (SELECT ", "1 IN (SELECT ", "trim(", "a::STRUCT<a ", "CAST(a AS ARRAY<", "STRUCT<a STRUCT<", "extract(day from ",
        "COALESCE(1, ", "{", "a[", "ROW(", "substring(",
    ];
    for opening in openings {
        assert!(
            !parses(format!("SELECT {}", opening.repeat(n))),
            "{opening}"
        );
    }
    for opening in [
        "(",
        "(SELECT * FROM ",
        "((SELECT * FROM ",
        "(a JOIN ",
        "LATERAL (SELECT * FROM ",
        "f(",
        "TUMBLE(",
        "TABLE(",
    ] {
        assert!(
            !parses(format!("SELECT * FROM {}", opening.repeat(n))),
            "{opening}"
        );
    }
    for opening in [
        "EXPLAIN ",
        "PREPARE a AS ",
        "(",
        "WITH a AS (",
        "SELECT 1 UNION (",
        "DECLARE c CURSOR FOR ",
    ] {
        assert!(!parses(opening.repeat(n)), "{opening}");
    }
    assert!(!parses(format!(
        "CREATE TABLE t (a {}",
        "STRUCT<b ".repeat(n)
    )));
    assert!(!parses(format!(
        "CREATE TABLE t (a INT{}, b blub)",
        "[]".repeat(n)
    )));
}

#[test]
fn moderate_nesting_comes_back_soon() {
    for n in [8, 16, 24, 32, 48] {
        for (opening, closing) in [
            ("floor(", ")"),
            ("f(", ")"),
            ("(", ")"),
            ("CAST(", " AS int)"),
            ("CASE WHEN a THEN ", " END"),
            ("trim(", ")"),
        ] {
            assert!(
                !parses(format!(
                    "SELECT {} ! {}",
                    opening.repeat(n),
                    closing.repeat(n)
                )),
                "{opening} {n}"
            );
            let text = format!("SELECT {}1{}", opening.repeat(n), closing.repeat(n));
            assert!(parses(text), "{opening} {n}");
        }
        parses(format!(
            "SELECT * FROM {} a {}",
            "((SELECT * FROM ".repeat(n),
            ") x JOIN b ON true)".repeat(n)
        ));
        parses(format!(
            "SELECT * FROM {} a {}",
            "(".repeat(n),
            " JOIN b ON true)".repeat(n)
        ));
        parses(format!(
            "SELECT {} 1 {}",
            "1 IN ((SELECT ".repeat(n),
            "), 2)".repeat(n)
        ));
    }
    let nested = format!(
        "SELECT * FROM {}t{}",
        "(SELECT * FROM ".repeat(20),
        ") x".repeat(20)
    );
    assert!(
        parses(nested),
        "twenty subqueries in one another are honest"
    );
}

#[test]
fn chains_are_bounded_and_lists_are_not() {
    for operator in [
        " + 1",
        " OR a",
        " AND a = 1",
        "::int",
        " IS NULL",
        " || 'x'",
        " AT TIME ZONE 'UTC'",
        " -> 'a'",
    ] {
        assert!(
            !parses(format!("SELECT a{}", operator.repeat(20_000))),
            "{operator}"
        );
        assert!(
            parses(format!("SELECT a{}", operator.repeat(400))),
            "{operator}"
        );
    }
    assert!(!parses(format!(
        "SELECT 1, 2{}",
        " UNION SELECT 1, 2".repeat(10_000)
    )));
    assert!(parses(format!(
        "SELECT 1, 2{}",
        " UNION SELECT 1, 2".repeat(400)
    )));
    assert!(parses(format!(
        "INSERT INTO t VALUES (1, -2){}",
        ", (1, -2)".repeat(20_000)
    )));
    assert!(parses(format!("SELECT a IN (1{})", ", 1".repeat(20_000))));
    assert!(parses(format!(
        "SELECT CASE a{} END",
        " WHEN a = 1 THEN -1".repeat(2_000)
    )));
    assert!(parses("SELECT 1;".repeat(20_000)));
}

#[test]
fn stored_queries_may_be_deeper_than_a_persons() {
    let deep = format!("SELECT {}1{}", "f(".repeat(300), ")".repeat(300));
    assert!(!parses(deep.clone()));
    let thread = std::thread::Builder::new().stack_size(STACK);
    let stored = thread.spawn(move || crate::parse::parse_query(&deep).is_ok());
    assert!(
        stored
            .expect("a thread starts")
            .join()
            .expect("parsing does not panic")
    );
}

/// A small generator of numbers that needs no dependency (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % n as u64).expect("below n")
    }
}

#[test]
fn garbage_never_panics() {
    #[rustfmt::skip]
    const WORDS: &[&str] = &[
        "SELECT", "FROM", "WHERE", "CREATE", "SOURCE", "TABLE", "MATERIALIZED", "VIEW", "AS", "(", ")", "(", ")", ",",
        ";", "a", "b", "t", "\"Q\"", "'s'", "1", "2.5", "*", "=", "<", ">", ">>", "+", "-", "::", "INT", "STRUCT",
        "ARRAY", "[", "]", "WATERMARK", "FOR", "INTERVAL", "'1 minute'", "SECOND", "WITH", "FORMAT", "PLAIN",
        "ENCODE", "JSON", "INCLUDE", "key", "EMIT", "ON", "WINDOW", "CLOSE", "TUMBLE", "HOP", "SESSION", "PARTITION",
        "BY", "DESCRIPTOR", "UNION", "JOIN", "GROUP", "ORDER", "LIMIT", "INSERT", "INTO", "VALUES", "UPDATE", "SET",
        "DELETE", "DROP", "SHOW", "EXPLAIN", "COPY", "TO", "STDOUT", "BEGIN", "END", "CASE", "WHEN", "THEN", "NOT",
        "NULL", "PRIMARY", "KEY", "DEFAULT", "CHECK", "GENERATED", "ALWAYS", "$1", ".", "=>", "COMMENT", "PREPARE",
        "EXECUTE", "DECLARE", "CURSOR", "FETCH", "E'\\n'", "$$x$$", "--c\n", "/* c */", "{", "}", "@", "#", "\\", "é",
    ];
    let mut random = Random(0x5eed_1234_5678_9abc);
    for _ in 0..4_000 {
        let length = 1 + random.below(30);
        let text: Vec<&str> = (0..length)
            .map(|_| WORDS[random.below(WORDS.len())])
            .collect();
        let _ = parse(&text.join(" "));
    }
    for _ in 0..2_000 {
        let length = random.below(60);
        let text: String = (0..length)
            .map(|_| char::from(u8::try_from(random.below(128)).expect("ascii")))
            .collect();
        let _ = parse(&text);
    }
}

#[test]
fn broken_statements_never_panic() {
    let whole = "CREATE SOURCE s (a STRUCT<x INT, y TEXT[]> NOT NULL, ts TIMESTAMPTZ, g INT AS (a).x, WATERMARK FOR ts \
                 AS ts - INTERVAL '5' SECOND) INCLUDE header 'é' AS h WITH (a.b = 'c', d = -1) FORMAT PLAIN ENCODE \
                 JSON (x = 'y'); EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT * FROM TABLE(HOP(TABLE r, \
                 DESCRIPTOR(ts), INTERVAL '1' SECOND, '1 m')) EMIT ON WINDOW CLOSE; COPY t (a) TO STDOUT (FORMAT csv)";
    let ends: Vec<usize> = whole.char_indices().map(|(i, _)| i).collect();
    for end in &ends {
        let _ = parse(&whole[..*end]);
        let _ = parse(&whole[*end..]);
    }
    let mut random = Random(42);
    for _ in 0..1_000 {
        let (from, to) = (
            ends[random.below(ends.len())],
            ends[random.below(ends.len())],
        );
        let _ = parse(&format!("{}{}", &whole[..from], &whole[to..]));
    }
}
