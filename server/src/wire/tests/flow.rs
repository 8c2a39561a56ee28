//! Flow control and endings: bounded memory behind a client that does not read, clients that vanish, and a server
//! that stops.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::session::TestServer;
use crate::wire::ListenerConfig;

const STARTUP: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0u\0\0";

async fn begin(server: &TestServer, sql: &str) -> TcpStream {
    let mut socket = server.socket().await;
    let mut bytes = STARTUP.to_vec();
    bytes[3] = bytes.len() as u8;
    bytes.push(b'Q');
    bytes.extend((sql.len() as u32 + 5).to_be_bytes());
    bytes.extend(sql.as_bytes());
    bytes.push(0);
    socket.write_all(&bytes).await.unwrap();
    server.probe.until(&server.probe.running, 1).await;
    socket
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_its_query() {
    let server = TestServer::start().await;
    let mut socket = begin(&server, "ENDLESS").await;
    let mut before = 0;
    // Once the socket's buffers are full no further batch is asked for.
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        let now = server.probe.batches.load(Ordering::SeqCst);
        if now == before && now > 0 {
            break;
        }
        before = now;
    }
    let stopped_at = server.probe.batches.load(Ordering::SeqCst);
    sleep(Duration::from_millis(300)).await;
    assert_eq!(server.probe.batches.load(Ordering::SeqCst), stopped_at);
    // Reading sets it going again.
    let mut sink = vec![0; 1 << 20];
    timeout(Duration::from_secs(20), async {
        while server.probe.batches.load(Ordering::SeqCst) < stopped_at + 100 {
            assert!(socket.read(&mut sink).await.unwrap() > 0);
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_statement_and_session() {
    let server = TestServer::start().await;
    for sql in ["WAIT", "TRICKLE", "ENDLESS"] {
        drop(begin(&server, sql).await);
        server.probe.until(&server.probe.running, 0).await;
        server.probe.until(&server.probe.sessions, 0).await;
    }
}

#[tokio::test]
async fn shutdown_tells_idle_and_busy_clients_and_ends() {
    let mut server = TestServer::start().await;
    let idle = server.client().await;
    idle.simple_query("select 1").await.unwrap();
    let mut busy = begin(&server, "WAIT").await;
    server.shutdown.cancel();
    let mut received = Vec::new();
    timeout(Duration::from_secs(5), busy.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8_lossy(&received);
    assert!(text.contains("57P01") && text.contains("FATAL"));
    timeout(Duration::from_secs(5), &mut server.task)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(server.probe.sessions.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so() {
    let server = TestServer::with(ListenerConfig {
        max_connections: 1,
        ..ListenerConfig::default()
    })
    .await;
    let first = server.client().await;
    let refused = server.connect("").await.err().unwrap();
    assert_eq!(refused.code().map(|c| c.code()), Some("53300"));
    drop(first);
    server.probe.until(&server.probe.sessions, 0).await;
    sleep(Duration::from_millis(50)).await;
    server
        .client()
        .await
        .simple_query("select 1")
        .await
        .unwrap();
}
