//! What goes wrong outside must end in a clear error or a dead letter: nothing else stops, and nothing is lost.
//! This file is about messages; `bad_surroundings.rs` about statements, brokers, memory, clients and disks.

use rivermark_sql_tests::kafka::{Kafka, Message};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::session::{Row, Session};

/// A server with the source `s (id INT NOT NULL, v INT, t VARCHAR)` over a topic that holds these payloads.
struct Fixture {
    server: Server,
    session: Session,
    topic: String,
}

impl Fixture {
    fn new(payloads: &[&[u8]]) -> Fixture {
        let kafka = Kafka::shared();
        let topic = kafka.new_topic("bad", 1).expect("a topic");
        kafka
            .produce(&topic, payloads.iter().map(|p| Message::new(*p)))
            .expect("messages are produced");
        let server = Server::options().start().expect("the server starts");
        let session = server.connect();
        session.must(&format!(
            "CREATE SOURCE s (id INT NOT NULL, v INT, t VARCHAR)
             WITH (connector = 'kafka', topic = '{topic}', properties.bootstrap.server = '{}')
             FORMAT PLAIN ENCODE JSON",
            kafka.bootstrap()
        ));
        session.must("CREATE MATERIALIZED VIEW ids AS SELECT id FROM s");
        Fixture {
            server,
            session,
            topic,
        }
    }

    fn ids(&self) -> Vec<i64> {
        self.session.must("FLUSH");
        integers(&self.session.rows("SELECT id FROM ids ORDER BY id"))
    }

    /// The offsets of the dead letters, each with a text that says why.
    fn dead_offsets(&self) -> Vec<i64> {
        let rows = self
            .session
            .rows(r#"SELECT DISTINCT "offset", error FROM rivermark.dead_letters ORDER BY 1"#);
        let unexplained = rows
            .iter()
            .filter(|r| r[1].as_deref().unwrap_or("").is_empty())
            .count();
        assert_eq!(unexplained, 0, "dead letters without an error: {rows:?}");
        let mut offsets = integers(&rows);
        offsets.dedup();
        offsets
    }

    /// The pipeline goes on: a good message comes through.
    fn check_alive(mut self, ids: &[i64]) {
        let good = Message::new(r#"{"id": 1000, "v": 1, "t": "good"}"#);
        Kafka::shared()
            .produce(&self.topic, [good])
            .expect("a message is produced");
        let expected: Vec<i64> = ids.iter().copied().chain([1000]).collect();
        assert_eq!(self.ids(), expected);
        self.server.stop().expect("the server stops cleanly");
    }
}

fn integers(rows: &[Row]) -> Vec<i64> {
    let parse = |text: &Option<String>| text.as_ref().and_then(|t| t.parse().ok());
    rows.iter()
        .map(|row| parse(&row[0]).unwrap_or_else(|| panic!("{row:?} begins with no integer")))
        .collect()
}

const GOOD_1: &[u8] = br#"{"id": 1, "v": 10, "t": "one"}"#;
const GOOD_2: &[u8] = br#"{"id": 2, "v": 20, "t": "two"}"#;

/// Messages that are not well formed are dead letters of the source: no view sees any part of them.
#[test]
fn malformed_messages() {
    let bad: [&[u8]; 9] = [
        br#"{"id": 9, "v": "#,
        b"not json",
        br#"{"id": 9} trailing"#,
        br#"[{"id": 9}]"#,
        br#"{"id": 9, "x": "unterminated}"#,
        br#"{"id": 9, "ignored": {"deep": [1, 2}}"#,
        b"{\"id\": 9, \"t\": \"\xff\xfe\"}",
        b"{\"id\": 9, \"ignored\": \"\xc3\x28\"}",
        b"",
    ];
    let mut payloads = vec![GOOD_1];
    payloads.extend(bad);
    payloads.push(GOOD_2);
    let fixture = Fixture::new(&payloads);
    assert_eq!(fixture.ids(), [1, 2]);
    assert_eq!(fixture.dead_offsets(), (1..=9).collect::<Vec<i64>>());
    let counted = fixture
        .session
        .integer("SELECT sum(dead_letters)::bigint FROM rivermark.sources");
    assert_eq!(counted, 9, "the source counts its dead letters");
    fixture.check_alive(&[1, 2]);
}

/// A message without a payload holds no row; it is told, not lost.
#[test]
fn message_without_payload() {
    let fixture = Fixture::new(&[GOOD_1]);
    let tombstone = Message {
        key: Some(b"k".to_vec()),
        ..Message::default()
    };
    Kafka::shared()
        .produce(&fixture.topic, [tombstone])
        .expect("a message is produced");
    assert_eq!(fixture.ids(), [1]);
    assert_eq!(fixture.dead_offsets(), [1]);
    fixture.check_alive(&[1]);
}

/// A value that its column cannot take removes the row only from the plans that use that column.
#[test]
fn wrong_type_of_a_value() {
    let bad: [&[u8]; 5] = [
        br#"{"id": 3, "v": "many", "t": "a"}"#,
        br#"{"id": 4, "v": {"nested": 1}, "t": "b"}"#,
        br#"{"id": 5, "v": 99999999999, "t": "c"}"#,
        br#"{"id": 6, "v": 1e400, "t": "d"}"#,
        br#"{"id": 7, "v": true, "t": "e"}"#,
    ];
    let mut payloads = vec![GOOD_1];
    payloads.extend(bad);
    payloads.push(GOOD_2);
    let fixture = Fixture::new(&payloads);
    assert_eq!(fixture.ids(), [1, 2, 3, 4, 5, 6, 7], "nobody reads v yet");
    let session = &fixture.session;
    session.must("CREATE MATERIALIZED VIEW texts AS SELECT t, count(*) AS n FROM s GROUP BY t");
    let texts = session.rows("SELECT * FROM texts ORDER BY t");
    assert_eq!(texts.len(), 7);

    // Adding a view that reads v misses the bad rows and changes nothing for the others.
    session.must("CREATE MATERIALIZED VIEW vs AS SELECT id, v FROM s");
    session.must("CREATE MATERIALIZED VIEW sum_v AS SELECT sum(v) AS s, count(*) AS n FROM s");
    session.must("FLUSH");
    assert_eq!(
        integers(&session.rows("SELECT id FROM vs ORDER BY id")),
        [1, 2]
    );
    assert_eq!(session.integer("SELECT s FROM sum_v"), 30);
    assert_eq!(session.rows("SELECT * FROM texts ORDER BY t"), texts);
    assert_eq!(fixture.dead_offsets(), [1, 2, 3, 4, 5]);
    fixture.check_alive(&[1, 2, 3, 4, 5, 6, 7]);
}

/// NULL, or nothing, in a NOT NULL column makes the whole message a dead letter.
#[test]
fn null_in_a_not_null_column() {
    let fixture = Fixture::new(&[
        GOOD_1,
        br#"{"id": null, "v": 1}"#,
        br#"{"v": 1, "t": "x"}"#,
        GOOD_2,
    ]);
    let session = &fixture.session;
    assert_eq!(fixture.ids(), [1, 2]);
    session.must("CREATE MATERIALIZED VIEW other_columns AS SELECT v, t FROM s");
    session.must("FLUSH");
    assert_eq!(session.rows("SELECT * FROM other_columns").len(), 2);
    assert_eq!(fixture.dead_offsets(), [1, 2]);
    fixture.check_alive(&[1, 2]);
}

#[test]
fn message_of_ten_megabytes() {
    let long = format!(r#"{{"id": 3, "v": 1, "t": "{}"}}"#, "x".repeat(10 << 20));
    let fixture = Fixture::new(&[GOOD_1, long.as_bytes(), GOOD_2]);
    assert_eq!(fixture.ids(), [1, 2, 3]);
    fixture
        .session
        .must("CREATE MATERIALIZED VIEW lengths AS SELECT id, length(t) AS n FROM s");
    fixture.session.must("FLUSH");
    assert_eq!(
        fixture
            .session
            .integer("SELECT n FROM lengths WHERE id = 3"),
        10 << 20
    );
    fixture.check_alive(&[1, 2, 3]);
}

/// The last of two equal keys wins, as in every browser and in PostgreSQL's jsonb.
#[test]
fn duplicate_keys() {
    let fixture = Fixture::new(&[br#"{"id": 7, "v": 1, "id": 8}"#]);
    assert_eq!(fixture.ids(), [8]);
    fixture.check_alive(&[8]);
}

/// An expression that fails for a row takes the row away from that view, as a dead letter of the view.
#[test]
fn division_by_zero_inside_a_view() {
    let fixture = Fixture::new(&[GOOD_1, br#"{"id": 5, "v": 0, "t": "zero"}"#, GOOD_2]);
    let session = &fixture.session;
    session.must("CREATE MATERIALIZED VIEW q AS SELECT id, 100 / v AS q FROM s");
    session.must("CREATE MATERIALIZED VIEW n AS SELECT count(*) AS n FROM s");
    session.must("FLUSH");
    assert_eq!(
        integers(&session.rows("SELECT id FROM q ORDER BY id")),
        [1, 2]
    );
    assert_eq!(
        session.integer("SELECT n FROM n"),
        3,
        "only the view that divides misses the row"
    );
    assert_eq!(
        session.integer("SELECT count(*) FROM rivermark.dead_letters WHERE object = 'q'"),
        1
    );
    let error = session
        .scalar("SELECT error FROM rivermark.dead_letters")
        .expect("an error");
    assert!(error.contains("division by zero"), "{error}");
    fixture.check_alive(&[1, 2, 5]);
}

/// Dead letters are part of the state: they are there once after a restart, and once after a crash.
#[test]
fn dead_letters_survive() {
    let mut fixture = Fixture::new(&[GOOD_1, b"broken", GOOD_2]);
    assert_eq!(fixture.ids(), [1, 2]);
    for crash in [false, true] {
        match crash {
            true => {
                fixture.server.kill9().expect("the server is killed");
                fixture
                    .server
                    .start_again()
                    .expect("the server starts after a crash");
            }
            false => fixture.server.restart().expect("the server restarts"),
        }
        fixture.session = fixture.server.connect();
        assert_eq!(fixture.ids(), [1, 2]);
        assert_eq!(
            fixture
                .session
                .integer("SELECT count(*) FROM rivermark.dead_letters"),
            1,
            "crash: {crash}"
        );
    }
    fixture.check_alive(&[1, 2]);
}
