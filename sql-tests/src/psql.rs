//! The real `psql`, the client that everybody has: runs a command and returns what it prints.

use std::process::Command;

use anyhow::{Context, Result, bail};

/// Runs one SQL statement or backslash command of psql against a server; values unaligned, separated by `,`.
pub fn psql(connection_string: &str, command: &str) -> Result<String> {
    let mut psql = Command::new("psql");
    psql.args([
        "-X",
        "-d",
        connection_string,
        "-v",
        "ON_ERROR_STOP=1",
        "-At",
        "-F",
        ",",
        "-c",
        command,
    ]);
    let output = psql
        .output()
        .context("psql cannot be started (apt-get install postgresql-client)")?;
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    if !output.status.success() || err.contains("ERROR:") {
        bail!("psql failed: {err}\nin: {command}");
    }
    Ok(out.into_owned())
}
