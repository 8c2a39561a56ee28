//! The wire protocol under a fuzzer: sessions of messages that are right, cut, changed, too long or no messages at all, to a
//! server that trusts and to one that asks for passwords. The server goes on, forgets who left, and tells nobody anything before
//! it knows who it is.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::server::Server;
use crate::wire::{message, query, startup};

/// Statements that the sessions run, right and wrong ones.
const STATEMENTS: [&str; 28] = [
    "",
    "SELECT 1",
    "SELECT $1::int4, $2::text, $3::numeric",
    "SELECT * FROM fuzzed ORDER BY id",
    "SELECT * FROM fuzzed WHERE id = $1",
    "SELECT * FROM generate_series(1, 100000)",
    "INSERT INTO fuzzed VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    "INSERT INTO fuzzed (id) SELECT max(id) + 1 FROM fuzzed",
    "UPDATE fuzzed SET v = $1 WHERE id = 1",
    "DELETE FROM fuzzed WHERE id > 100",
    "COPY fuzzed FROM STDIN",
    "COPY fuzzed FROM STDIN (FORMAT binary)",
    "COPY fuzzed FROM STDIN CSV",
    "COPY fuzzed TO STDOUT (FORMAT binary)",
    "SUBSCRIBE fuzzed",
    "COPY (SUBSCRIBE fuzzed WITH (PROGRESS)) TO STDOUT",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT a",
    "ROLLBACK TO a",
    "DECLARE c CURSOR FOR SELECT * FROM generate_series(1, 1000)",
    "FETCH 10 FROM c",
    "LISTEN fuzzed",
    "NOTIFY fuzzed, 'x'",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELECT pg_cancel_backend(pg_backend_pid())",
    "SELECT 'unterminated",
];
/// Of a message whose length was changed.
const LENGTHS: [u32; 8] = [0, 1, 3, 4, 5, 1 << 20, 1 << 30, u32::MAX];
/// The server may grow by so much over all sessions: caches fill, and nothing else.
const GROWTH: u64 = 400 << 20;

/// What a campaign came to.
#[derive(Debug, Default)]
pub struct WireReport {
    pub sessions: usize,
    pub messages: usize,
    pub bytes: usize,
}

/// Fuzzes until the deadline; an error tells what was wrong, with the seed of the session.
pub fn fuzz_wire(seed: u64, deadline: Instant, report: &mut WireReport) -> Result<()> {
    let data = tempfile::TempDir::new()?;
    let options = || Server::options().data_dir(data.path().join("data"));
    let mut server = options().start()?;
    for sql in [
        "CREATE TABLE fuzzed (id INT PRIMARY KEY, v TEXT)",
        "INSERT INTO fuzzed SELECT n, 'x' FROM generate_series(1, 50) AS n",
        "ALTER ROLE rivermark PASSWORD 'hidden'",
    ] {
        server.connect().must(sql);
    }
    let middle = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
    campaign(&mut server, seed, true, middle, report)?;
    server.stop()?;
    let mut server = options().env("RIVERMARK_AUTH", "scram").start()?;
    campaign(&mut server, !seed, false, deadline, report)?;
    server.stop()
}

fn campaign(
    server: &mut Server,
    seed: u64,
    is_trusting: bool,
    deadline: Instant,
    report: &mut WireReport,
) -> Result<()> {
    let port = server.port();
    let mut first_size = None;
    let mut number = 0;
    while Instant::now() < deadline {
        number += 1;
        let seed = seed.wrapping_add(number);
        // many at a time, as they come
        let results: Vec<Result<WireReport>> = std::thread::scope(|scope| {
            let session =
                |i| move || fuzz_session(port, seed.wrapping_mul(31).wrapping_add(i), is_trusting);
            let running: Vec<_> = (0..8).map(|i| scope.spawn(session(i))).collect();
            let ended = running.into_iter().map(|session| session.join());
            ended
                .map(|result| result.unwrap_or_else(|_| bail!("a session of the fuzzer panicked")))
                .collect()
        });
        for result in results {
            let one = result.with_context(|| format!("seed {seed}\n{}", server.log_tail()))?;
            report.sessions += one.sessions;
            report.messages += one.messages;
            report.bytes += one.bytes;
        }
        ensure!(
            server.is_running(),
            "seed {seed}: the server is gone\n{}",
            server.log_tail()
        );
        let size = server.resident_bytes();
        // the first sessions fill caches
        let before = *first_size.get_or_insert(size);
        ensure!(
            size < before + GROWTH,
            "seed {seed}: the server grew from {before} to {size} bytes"
        );
    }
    ensure!(!server.log().contains("panicked"), "{}", server.log());
    if is_trusting {
        forgets(server)?;
    }
    Ok(())
}

/// Sessions whose clients are gone end.
fn forgets(server: &Server) -> Result<()> {
    let session = server.connect();
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        let count = session.integer("SELECT count(*) FROM rivermark.sessions");
        if count == 1 {
            return Ok(());
        }
        if Instant::now() > until {
            let left = session.rows("SELECT state, statement FROM rivermark.sessions");
            bail!("{count} sessions are left: {left:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One connection: what it sends follows from the seed.
fn fuzz_session(port: u16, seed: u64, is_trusting: bool) -> Result<WireReport> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut socket = TcpStream::connect(("127.0.0.1", port))?;
    socket.set_read_timeout(Some(Duration::from_millis(rng.random_range(1..40))))?;
    socket.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut report = WireReport {
        sessions: 1,
        ..WireReport::default()
    };
    let mut answer = Vec::new();
    let count = rng.random_range(1..30);
    for i in 0..count {
        let bytes = match i {
            0 => opening(&mut rng),
            _ => sent(&mut rng),
        };
        report.messages += 1;
        report.bytes += bytes.len();
        // a server that has closed the connection is heard, and no defect
        if socket.write_all(&bytes).is_err() {
            break;
        }
        if rng.random_bool(0.3) {
            read_some(&mut socket, &mut answer);
        }
    }
    read_some(&mut socket, &mut answer);
    let tags = tags(&answer).with_context(|| format!("session {seed}"))?;
    if !is_trusting {
        ensure!(
            !tags.contains([
                'T', 'D', 'C', 'Z', 'S', 'K', 'G', 'H', 't', '1', '2', '3', 'n', 's', 'A'
            ]),
            "session {seed} was answered before it was known who it is: {tags}"
        );
    }
    Ok(report)
}

fn read_some(socket: &mut TcpStream, answer: &mut Vec<u8>) {
    let mut piece = [0; 65_536];
    for _ in 0..16 {
        match socket.read(&mut piece) {
            Ok(count @ 1..) => answer.extend_from_slice(&piece[..count]),
            // silence or the end
            _ => return,
        }
    }
}

/// The types of the messages of an answer, which must be messages. The refusal of encryption is a byte of its own.
fn tags(mut answer: &[u8]) -> Result<String> {
    let mut tags = String::new();
    while let Some((tag, rest)) = answer.split_first() {
        if *tag == b'N' && !matches!(rest, [0, ..]) {
            answer = rest;
            continue;
        }
        ensure!(
            tag.is_ascii_alphanumeric(),
            "{tag} is no type of a message after {tags}"
        );
        tags.push(char::from(*tag));
        let Some(length) = rest.first_chunk::<4>() else {
            break;
        };
        let length = u32::from_be_bytes(*length) as usize;
        ensure!(
            (4..1 << 28).contains(&length),
            "{length} is no length after {tags}"
        );
        answer = rest.get(length..).unwrap_or_default();
    }
    Ok(tags)
}

/// What a connection begins with: mostly what is right, so that the rest is seen.
fn opening(rng: &mut StdRng) -> Vec<u8> {
    let user = ["rivermark", "unknown", ""][rng.random_range(0..3)];
    let right = startup(&[("user", user), ("database", "rivermark")]);
    match rng.random_range(0..20) {
        0 => changed(rng, right),
        1 => [8_u32, 80_877_103].map(u32::to_be_bytes).concat(),
        2 => [8_u32, 80_877_104].map(u32::to_be_bytes).concat(),
        3 => [16_u32, 80_877_102, rng.random(), rng.random()]
            .map(u32::to_be_bytes)
            .concat(),
        4 => noise(rng, 64),
        5 => startup(&[
            ("user", "rivermark"),
            ("options", "-c role=nobody -c x"),
            ("replication", "true"),
        ]),
        _ => startup(&[("user", "rivermark"), ("database", "rivermark")]),
    }
}

/// A message, or what looks like one.
fn sent(rng: &mut StdRng) -> Vec<u8> {
    let right = right(rng);
    match rng.random_range(0..10) {
        0 => changed(rng, right),
        1 => {
            let mut bytes = right;
            if let Some(length) = bytes.get_mut(1..5) {
                let wrong = LENGTHS[rng.random_range(0..LENGTHS.len())];
                length.copy_from_slice(&wrong.to_be_bytes());
            }
            bytes
        }
        2 if rng.random_bool(0.2) => noise(rng, 200),
        _ => right,
    }
}

fn changed(rng: &mut StdRng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..3) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), rng.random()),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.random();
                }
            }
        }
    }
    bytes
}

fn noise(rng: &mut StdRng, most: usize) -> Vec<u8> {
    let length = rng.random_range(0..most);
    (0..length).map(|_| rng.random()).collect()
}

fn text(rng: &mut StdRng) -> Vec<u8> {
    let name = ["", "a", "b", "c"][rng.random_range(0..4)];
    [name.as_bytes(), &[0]].concat()
}

fn right(rng: &mut StdRng) -> Vec<u8> {
    let statement = STATEMENTS[rng.random_range(0..STATEMENTS.len())];
    match rng.random_range(0..16) {
        0..4 => query(statement),
        4 | 5 => {
            let oids: Vec<u32> = (0..rng.random_range(0..4))
                .map(|_| [0, 16, 23, 25, 1700, 12_345_678][rng.random_range(0..6)])
                .collect();
            let mut body = [text(rng), statement.as_bytes().to_vec(), vec![0]].concat();
            body.extend((oids.len() as u16).to_be_bytes());
            body.extend(oids.into_iter().flat_map(u32::to_be_bytes));
            message(b'P', &body)
        }
        6 | 7 => message(b'B', &bind(rng)),
        8 => {
            let kind = [b'S', b'P', b'x'][rng.random_range(0..3)];
            let tag = [b'D', b'C'][rng.random_range(0..2)];
            message(tag, &[vec![kind], text(rng)].concat())
        }
        9 | 10 => {
            let most = [0_u32, 1, 10, u32::MAX][rng.random_range(0..4)];
            message(b'E', &[text(rng), most.to_be_bytes().to_vec()].concat())
        }
        11 | 12 => message(b'S', &[]),
        13 => {
            let rows = [
                "7\ty\n",
                "8,z\n",
                "PGCOPY\n\u{1}\r\n\0",
                "\\.\n",
                "nonsense",
            ];
            message(b'd', rows[rng.random_range(0..rows.len())].as_bytes())
        }
        14 => {
            let (tag, body): (u8, &[u8]) = [
                (b'c', &b""[..]),
                (b'f', b"given up\0"),
                (b'H', b""),
                (b'F', b"\0\0\0\x01\0\0\0\0\0\0"),
                (b'X', b""),
            ][rng.random_range(0..5)];
            message(tag, body)
        }
        _ => {
            let mut body = b"SCRAM-SHA-256\0".to_vec();
            let first: &[u8] = [
                &b"n,,n=,r=abcdefgh"[..],
                b"y,,n=x,r=",
                b"p=tls-unique,,",
                b"\xff",
            ][rng.random_range(0..4)];
            body.extend((first.len() as u32).to_be_bytes());
            body.extend(first);
            message(b'p', &body)
        }
    }
}

fn bind(rng: &mut StdRng) -> Vec<u8> {
    let mut body = [text(rng), text(rng)].concat();
    let formats: Vec<u16> = (0..rng.random_range(0..3))
        .map(|_| rng.random_range(0..3))
        .collect();
    body.extend((formats.len() as u16).to_be_bytes());
    body.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    let count = rng.random_range(0..4_u16);
    body.extend(count.to_be_bytes());
    for _ in 0..count {
        let value = [&b"1"[..], b"\0\0\0\x01", b"", b"text", b"\xff\xfe"][rng.random_range(0..5)];
        match rng.random_bool(0.2) {
            true => body.extend((-1_i32).to_be_bytes()),
            false => {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(value);
            }
        }
    }
    body.extend(1_u16.to_be_bytes());
    body.extend(rng.random_range(0..3_u16).to_be_bytes());
    body
}
