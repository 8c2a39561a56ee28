//! Whether state stays bounded over a month (`month.rs`), and what hopping windows cost (`hop.rs`).
//!
//! `RIVERMARK_BENCH_PART=month|hop` runs one part.

mod hop;
mod month;

use anyhow::Result;
use rivermark_sql_tests::targets::Targets;

fn main() -> Result<()> {
    // `cargo test` runs benches too, with --test; there is nothing to test here.
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let mut targets = Targets::default();
    let part = std::env::var("RIVERMARK_BENCH_PART").unwrap_or_default();
    if part != "hop" {
        month::stays_bounded(&mut targets)?;
    }
    if part != "month" {
        hop::costs(&mut targets)?;
    }
    targets.verdict()
}
