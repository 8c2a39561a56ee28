//! The test harness: starts what a test needs (the `rivermark` binary, Apache Kafka, PostgreSQL), talks to it over
//! the wire as a user would, and takes it down again. The tests are in `tests/`, the SQL files in `slt/`.

pub mod certificate;
pub mod clients;
pub mod compat;
pub mod equivalence;
pub mod following;
pub mod kafka;
pub mod ports;
pub mod postgres;
pub mod psql;
pub mod random;
pub mod rust_source;
pub mod script;
pub mod server;
pub mod session;
pub mod targets;
pub mod terminal;
pub mod tpch;
pub mod values;
pub mod wire;
pub mod wire_fuzz;

use std::path::PathBuf;

/// The root of the repository.
pub fn repository() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map(PathBuf::from).unwrap_or(manifest)
}

/// True in continuous integration, where a missing broker or database is a failure and not a skip.
pub fn in_ci() -> bool {
    matches!(std::env::var("CI").as_deref(), Ok("true" | "1"))
}

/// The directory of the real sensor data, beside the checkout or below `RIVERMARK_SHARED`; `None`, after a line that says
/// so, where there is none.
///
/// # Panics
/// If there is none in continuous integration.
pub fn sensor_data() -> Option<PathBuf> {
    let shared = std::env::var("RIVERMARK_SHARED")
        .map_or_else(|_| repository().join("../shared"), PathBuf::from);
    let data = shared.join("data");
    if data.is_dir() {
        return Some(data);
    }
    println!(
        "skipped: no sensor data at {} (set RIVERMARK_SHARED)",
        data.display()
    );
    assert!(!in_ci(), "in CI the sensor data must be there");
    None
}

/// True under `./dev test --full`.
pub fn is_full() -> bool {
    std::env::var("RIVERMARK_TEST_FULL").is_ok_and(|v| v == "1")
}

/// The value of a numeric variable of the environment.
///
/// # Panics
/// If it is set and no number.
pub fn env_number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
    )
}

/// The seed of the random tests unless `RIVERMARK_SEED` says otherwise: fixed, so that a change is judged by the cases
/// its predecessor passed. docs/testing.md tells how to look for new failures.
pub const DEFAULT_SEED: u64 = 1003;

/// The seed of a random test: `RIVERMARK_SEED`, else [`DEFAULT_SEED`]. Print it.
pub fn seed() -> u64 {
    env_number("RIVERMARK_SEED").unwrap_or(DEFAULT_SEED)
}
