//! Runs PostgreSQL's own load generator, `pgbench -M prepared`, and reads what it measured.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rivermark_sql_tests::postgres::program;

/// What a run measured.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub transactions_per_second: f64,
    /// Of a tenth of the transactions, in milliseconds.
    pub p99_ms: f64,
}

/// Where to connect.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub port: u16,
    pub user: &'static str,
    pub database: &'static str,
}

/// Runs the script `sql` on so many connections for so long.
pub fn run(endpoint: &Endpoint, sql: &str, connections: usize, seconds: u64) -> Result<Load> {
    let directory = tempfile::tempdir()?;
    let script = directory.path().join("script.sql");
    std::fs::write(&script, sql)?;
    let output = Command::new(program("pgbench")?)
        .current_dir(directory.path())
        .args(["-h", "127.0.0.1", "-p", &endpoint.port.to_string()])
        .args(["-U", endpoint.user, "-M", "prepared", "--no-vacuum"])
        .args(["-c", &connections.to_string(), "-j", "2"])
        .args(["-T", &seconds.to_string(), "-f"])
        .arg(&script)
        .args(["--log", "--log-prefix=load", "--sampling-rate=0.1"])
        .arg(endpoint.database)
        .output()
        .context("pgbench can not be started")?;
    let (out, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "pgbench: {out}\n{errors}");
    let failed = number_after(&out, "number of failed transactions: ").unwrap_or(0.0);
    ensure!(failed == 0.0, "transactions failed: {out}\n{errors}");
    Ok(Load {
        transactions_per_second: number_after(&out, "tps = ")
            .with_context(|| format!("pgbench says no rate: {out}"))?,
        p99_ms: p99_ms(directory.path())?,
    })
}

fn number_after(text: &str, label: &str) -> Option<f64> {
    let rest = &text[text.find(label)? + label.len()..];
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// The third field of a line of pgbench's log is the time that a transaction took, in microseconds.
fn p99_ms(directory: &Path) -> Result<f64> {
    let mut micros: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_log = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("load"));
        if !is_log {
            continue;
        }
        let text = std::fs::read_to_string(&path)?;
        micros.extend(
            text.lines()
                .filter_map(|l| l.split(' ').nth(2)?.parse::<u64>().ok()),
        );
    }
    ensure!(!micros.is_empty(), "pgbench logged no transaction");
    micros.sort_unstable();
    Ok(micros[(micros.len() - 1) * 99 / 100] as f64 / 1000.0)
}
