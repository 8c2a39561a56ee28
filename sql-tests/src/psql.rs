//! The real `psql`, the client that everybody has: runs a command and returns what it prints.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

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
    let (output, err) = run(&mut psql)?;
    if !output.status.success() || err.contains("ERROR:") {
        bail!("psql failed: {err}\nin: {command}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a backslash command such as `\copy` as if psql had been started in `directory`.
pub fn psql_in(connection_string: &str, directory: &Path, command: &str) -> Result<()> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-d", connection_string, "-v", "ON_ERROR_STOP=1"]);
    psql.args(["-c", command]).current_dir(directory);
    let (output, complaint) = run(&mut psql)?;
    ensure!(
        output.status.success() && !complaint.contains("ERROR:"),
        "psql failed: {complaint}\nin: {command}"
    );
    Ok(())
}

/// Title and column names of what a backslash command of psql lists.
pub fn psql_head(connection_string: &str, command: &str) -> Result<Vec<String>> {
    let mut psql = Command::new("psql");
    psql.args([
        "-X",
        "-A",
        "-d",
        connection_string,
        "-F",
        ",",
        "-c",
        command,
    ]);
    let (output, err) = run(&mut psql)?;
    // "Did not find any relations." is no error
    if err.contains("ERROR:") {
        bail!("psql failed: {err}\nin: {command}");
    }
    let out = String::from_utf8_lossy(&output.stdout);
    Ok(out.lines().take(2).map(str::to_string).collect())
}

/// What psql prints, and what it complains of, under these arguments.
fn run(psql: &mut Command) -> Result<(Output, String)> {
    let output = psql
        .output()
        .context("psql cannot be started (apt-get install postgresql-client)")?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output, complaint))
}

/// Runs a statement with input, such as the data of a COPY; what psql prints and what it complains of.
pub fn psql_with_input(
    connection_string: &str,
    command: &str,
    input: &[u8],
) -> Result<(String, String)> {
    let mut psql = Command::new("psql");
    psql.args(["-X", "-d", connection_string, "-At", "-c", command]);
    psql.stdin(Stdio::piped());
    psql.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = psql
        .spawn()
        .context("psql cannot be started (apt-get install postgresql-client)")?;
    let mut stdin = child.stdin.take().context("psql has an input")?;
    let output = std::thread::scope(|scope| {
        // psql may end before it has read all.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output()
    })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok((text(&output.stdout), text(&output.stderr)))
}
