//! A few seconds of the wire protocol's fuzzer; `./dev fuzz wire` goes on for longer. And connections without number.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rivermark_sql_tests::env_number;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::wire::{Wire, startup};
use rivermark_sql_tests::wire_fuzz::{WireReport, fuzz_wire};

#[test]
fn hostile_messages_do_no_harm() {
    let seed = env_number("RIVERMARK_SEED").unwrap_or(5);
    println!("RIVERMARK_SEED={seed}");
    let mut report = WireReport::default();
    let deadline = Instant::now() + Duration::from_secs(8);
    let found = fuzz_wire(seed, deadline, &mut report);
    println!("{report:?}");
    found.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(report.sessions > 30, "{report:?}");
}

#[test]
fn a_thousand_connections_that_say_nothing_are_borne() {
    let mut server = Server::options()
        .env("RIVERMARK_MAX_CONNECTIONS", "300")
        .start()
        .expect("the server starts");
    let port = server.port();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    // those beyond the limit wait for the server to take them, as many as the system lets wait
    let patience = Duration::from_secs(3);
    let idle: Vec<TcpStream> = (0..1000)
        .map_while(|_| TcpStream::connect_timeout(&address, patience).ok())
        .collect();
    assert!(idle.len() >= 300, "{}", idle.len());
    drop(idle);
    // they are forgotten, and who comes now is served
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.try_connect().is_err() {
        assert!(Instant::now() < deadline, "nobody is served any more");
        std::thread::sleep(Duration::from_millis(50));
    }
    // who stays counts
    let begin = startup(&[("user", "rivermark"), ("database", "rivermark")]);
    let mut sessions = Vec::new();
    for _ in 0..310 {
        let mut wire = Wire::open(port).expect("a socket");
        wire.send(&begin).expect("sent");
        sessions.push(wire);
    }
    let refused = sessions.last_mut().expect("there are some").receive();
    let (tag, _) = refused.expect("in time").expect("an answer");
    assert_eq!(tag, b'E', "too many clients");
    drop(sessions);
    server.stop().expect("the server stops cleanly");
}
