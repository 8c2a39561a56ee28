//! What no driver does: the protocol byte by byte.

use std::sync::Arc;

use pgwire::api::auth::sasl::scram::{ScramSecret, gen_salted_password};
use tokio::io::AsyncReadExt;

use super::raw_client::{RawClient, USER, V3, bind, execute, message, parse, query, startup, sync};
use super::session::TestServer;
use crate::wire::{AuthMethod, ListenerConfig, ScramCredentials};

#[tokio::test]
async fn start_up_reports_what_drivers_need() {
    let server = TestServer::start().await;
    let mut client = RawClient(server.socket().await);
    client.send(&[vec![0, 0, 0, 8, 4, 210, 22, 48]]).await;
    assert_eq!(client.0.read_u8().await.unwrap(), b'N');
    client.send(&[vec![0, 0, 0, 8, 4, 210, 22, 47]]).await;
    assert_eq!(client.0.read_u8().await.unwrap(), b'N');
    client
        .send(&[startup(V3, "user\0u\0application_name\0app\0")])
        .await;
    let mut statuses = Vec::new();
    let mut key_bytes = 0;
    loop {
        match client.receive().await.unwrap() {
            ('S', body) => {
                let mut parts = body
                    .split(|b| *b == 0)
                    .map(|p| String::from_utf8_lossy(p).into_owned());
                statuses.push((parts.next().unwrap(), parts.next().unwrap()));
            }
            ('K', body) => key_bytes = body.len(),
            ('Z', _) => break,
            ('R', body) => assert_eq!(body, [0, 0, 0, 0]),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(key_bytes, 8);
    for (name, value) in [
        ("server_version", "15.0 (Rivermark 0.1)"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("application_name", "app"),
        ("session_authorization", "u"),
        ("TimeZone", "UTC"),
    ] {
        assert!(
            statuses.contains(&(name.to_string(), value.to_string())),
            "{name}"
        );
    }
}

#[tokio::test]
async fn newer_minor_versions_are_negotiated_and_broken_start_ups_refused() {
    let server = TestServer::start().await;
    let mut client = RawClient(server.socket().await);
    client
        .send(&[startup(V3 + 9, "user\0u\0_pq_.x\0y\0")])
        .await;
    let (tag, body) = client.receive().await.unwrap();
    assert_eq!((tag, &body[..4]), ('v', &(V3 + 2).to_be_bytes()[..]));
    assert!(client.until_ready().await.ends_with("ZI"));

    for (bytes, expected) in [
        (startup(2 << 16, USER), "E:0A000 closed"),
        (startup(V3, "database\0d\0"), "E:28000 closed"),
        (vec![0, 0, 0, 4], "E:08P01 closed"),
        (vec![0, 0xff, 0, 0], "E:08P01 closed"),
        (vec![0, 0, 0, 9, 0, 3, 0, 0, b'x'], "E:08P01 closed"),
    ] {
        let mut client = RawClient(server.socket().await);
        client.send(&[bytes]).await;
        assert_eq!(client.until_ready().await, expected);
    }
}

#[tokio::test]
async fn errors_skip_to_sync() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(server.socket().await).await;
    client
        .send(&[
            parse("", "select SYNTAX"),
            bind("", ""),
            execute("", 0),
            message(b'D', b"X\0"),
            query("select 1"),
            sync(),
            parse("", "select 1"),
            bind("", ""),
            message(b'D', b"P\0"),
            execute("", 0),
            sync(),
        ])
        .await;
    assert_eq!(client.until_ready().await, "E:42601 ZI");
    assert_eq!(client.until_ready().await, "1 2 T D C ZI");
}

#[tokio::test]
async fn names_formats_and_counts_are_checked() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(server.socket().await).await;
    let select = || parse("s", "select 1");
    let two_formats = message(b'B', b"\0s\0\0\0\0\0\0\x02\0\0\0\0");
    let bad_format = message(b'B', b"\0s\0\0\0\0\0\0\x01\0\x07");
    let one_parameter = message(b'B', b"\0s\0\0\0\0\x01\xff\xff\xff\xff\0\0");
    for (messages, expected) in [
        (vec![select(), select(), sync()], "1 E:42P05 ZI"),
        (vec![bind("", "nothing"), sync()], "E:26000 ZI"),
        (vec![execute("nothing", 0), sync()], "E:34000 ZI"),
        (vec![bind("p", "s"), bind("p", "s"), sync()], "2 E:42P03 ZI"),
        (vec![two_formats, sync()], "E:08P01 ZI"),
        (vec![bad_format, sync()], "E:22023 ZI"),
        (vec![one_parameter, sync()], "E:08P01 ZI"),
        (vec![parse("", "select 1; select 2"), sync()], "E:42601 ZI"),
        (vec![message(b'B', b"\0\0"), sync()], "E:08P01 ZI"),
        (
            vec![
                message(b'D', b"Ss\0"),
                message(b'C', b"Ss\0"),
                message(b'C', b"Ss\0"),
                sync(),
            ],
            "t T 3 3 ZI",
        ),
        (
            vec![
                parse("", ""),
                bind("", ""),
                message(b'D', b"P\0"),
                execute("", 0),
                sync(),
            ],
            "1 2 n I ZI",
        ),
        (vec![query("")], "I ZI"),
        (vec![message(b'F', b"whatever")], "E:0A000 ZI"),
        (vec![message(b'd', b"left over"), query("NOTICE")], "N C ZI"),
        (vec![query("SET application_name = x")], "S C ZI"),
    ] {
        client.send(&messages).await;
        assert_eq!(client.until_ready().await, expected);
    }
}

#[tokio::test]
async fn portals_suspend_resume_and_end_with_their_transaction() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(server.socket().await).await;
    client.send(&[query("BEGIN")]).await;
    assert_eq!(client.until_ready().await, "C ZT");
    let rows = "select value from generate_series(1, 3)";
    client
        .send(&[parse("", rows), bind("p", ""), execute("p", 2), sync()])
        .await;
    assert_eq!(client.until_ready().await, "1 2 D D s ZT");
    client
        .send(&[execute("p", 2), execute("p", 2), sync()])
        .await;
    assert_eq!(client.until_ready().await, "D C C ZT");
    client
        .send(&[
            parse("", "NOTICE"),
            bind("c", ""),
            execute("c", 0),
            execute("c", 0),
            sync(),
        ])
        .await;
    assert_eq!(client.until_ready().await, "1 2 N C E:55000 ZE");
    client.send(&[execute("p", 2), sync()]).await;
    assert_eq!(client.until_ready().await, "E:34000 ZE");
    client.send(&[query("ROLLBACK")]).await;
    assert_eq!(client.until_ready().await, "C ZI");
    client
        .send(&[
            parse("", rows),
            bind("p", ""),
            sync(),
            execute("p", 0),
            sync(),
        ])
        .await;
    assert_eq!(client.until_ready().await, "1 2 ZI");
    assert_eq!(client.until_ready().await, "E:34000 ZI");
}

#[tokio::test]
async fn flush_sends_what_is_pending_and_notifications_come_unasked() {
    let server = TestServer::start().await;
    let mut client = RawClient::connect(server.socket().await).await;
    client
        .send(&[parse("", "select 1"), message(b'H', b"")])
        .await;
    assert_eq!(client.receive().await.unwrap().0, '1');
    client.send(&[sync()]).await;
    assert_eq!(client.until_ready().await, "ZI");
    client.send(&[query("NOTIFY")]).await;
    let mut seen = client.until_ready().await;
    if !seen.contains('A') {
        seen.push_str(&format!(" {}", client.receive().await.unwrap().0));
    }
    assert!(seen == "C ZI A" || seen == "A C ZI", "{seen}");
    // One row, then nothing: the row arrives although the statement never ends.
    client.send(&[query("TRICKLE")]).await;
    assert_eq!(client.receive().await.unwrap().0, 'T');
    assert_eq!(client.receive().await.unwrap().0, 'D');
}

#[tokio::test]
async fn violations_end_the_connection() {
    let config = ListenerConfig {
        max_message_bytes: 1_000,
        ..ListenerConfig::default()
    };
    let server = TestServer::with(config).await;
    for (bytes, expected) in [
        (query(&"x".repeat(2_000)), "E:54000 closed"),
        (message(b'?', b""), "E:08P01 closed"),
        (message(b'p', b"secret\0"), "E:08P01 closed"),
        (vec![b'Q', 0, 0, 0, 1], "E:08P01 closed"),
    ] {
        let mut client = RawClient::connect(server.socket().await).await;
        client.send(&[bytes]).await;
        assert_eq!(client.until_ready().await, expected);
    }
    let mut client = RawClient::connect(server.socket().await).await;
    client.send(&[message(b'Q', b"select '\xff'\0")]).await;
    assert_eq!(client.until_ready().await, "E:22021 ZI");
    client.send(&[message(b'X', b"")]).await;
    assert_eq!(client.until_ready().await, "closed");
}

struct OnePassword;

impl ScramCredentials for OnePassword {
    fn secret(&self, user: &str) -> Option<ScramSecret> {
        let salt = b"0123456789abcdef".to_vec();
        let salted_password = gen_salted_password("right", &salt, 4_096);
        (user == "u")
            .then(|| ScramSecret::verifier_from_salted_password(salt, salted_password, 4_096))
    }

    fn salt_of_nobody(&self, _user: &str) -> Vec<u8> {
        b"another salt too".to_vec()
    }
}

#[tokio::test]
async fn passwords_are_checked_and_nothing_is_served_before() {
    let server = TestServer::with_auth(AuthMethod::Scram(Arc::new(OnePassword))).await;
    let client = server.connect("password=right").await.unwrap();
    client.simple_query("select 1").await.unwrap();
    for options in ["password=wrong", "user=stranger password=right"] {
        let error = server.connect(options).await.err().unwrap();
        assert_eq!(error.code().map(|c| c.code()), Some("28P01"), "{options}");
    }
    let mut first = b"SCRAM-SHA-256\0".to_vec();
    let client_first = b"n,,n=,r=abcdefgh";
    first.extend((client_first.len() as u32).to_be_bytes());
    first.extend(client_first);
    // A query behind a wrong proof, and one in place of a password.
    let mut client = RawClient(server.socket().await);
    let wrong = message(b'p', b"c=biws,r=abcdefgh,p=AAAA");
    client
        .send(&[
            startup(V3, USER),
            message(b'p', &first),
            wrong,
            query("WAIT"),
        ])
        .await;
    let seen = client.until_ready().await;
    assert!(seen == "R R E:28P01 closed", "{seen}");
    let mut client = RawClient(server.socket().await);
    client.send(&[startup(V3, USER), query("WAIT")]).await;
    assert_eq!(client.until_ready().await, "R E:08P01 closed");
    assert_eq!(
        server
            .probe
            .running
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}
