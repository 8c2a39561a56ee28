//! Free ports of the loopback interface.

use std::net::TcpListener;

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Panics
/// If the machine has none left.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port is free");
    listener
        .local_addr()
        .expect("a bound listener has an address")
        .port()
}
