//! A private PostgreSQL, the oracle of the equivalence tests: Debian's package, in a temporary directory, on a free
//! loopback port, with durability off.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::ports::free_port;
use crate::server::signal;
use crate::session::Session;

/// A running PostgreSQL; stopped when dropped.
pub struct Postgres {
    _dir: TempDir,
    port: u16,
    child: Child,
}

impl Postgres {
    /// Initialises and starts a server. As root it runs as the system user `postgres`, since PostgreSQL refuses root.
    pub fn start() -> Result<Postgres> {
        let bin = bin_dir()?;
        let dir = tempfile::Builder::new()
            .prefix("rivermark-postgres-")
            .tempdir()?;
        if is_root() {
            run(Command::new("chown")
                .arg("postgres:postgres")
                .arg(dir.path()))?;
        }
        let data = dir.path().join("data");
        run(as_postgres(&bin.join("initdb"))
            .args([
                "--auth=trust",
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--lc-ctype=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(&data))?;
        let port = free_port();
        let mut command = as_postgres(&bin.join("postgres"));
        command
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args(["-p", &port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "timezone=UTC",
            "logging_collector=off",
            "log_min_messages=fatal",
            "log_min_error_statement=panic",
        ] {
            command.args(["-c", setting]);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut postgres = Postgres {
            _dir: dir,
            port,
            child,
        };
        postgres.wait_ready()?;
        Ok(postgres)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match Session::connect(&self.connection_string()) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    bail!("PostgreSQL does not answer: {error}")
                }
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("PostgreSQL ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A libpq connection string.
    pub fn connection_string(&self) -> String {
        format!(
            "host=127.0.0.1 port={} user=postgres dbname=postgres",
            self.port
        )
    }

    /// Opens a session.
    pub fn connect(&self) -> Result<Session> {
        Ok(Session::connect(&self.connection_string())?)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // SIGQUIT is PostgreSQL's immediate shutdown: all its processes end, and the data is thrown away anyway.
        let _ = signal(self.child.id(), "QUIT");
        let _ = self.child.wait();
    }
}

/// A program of PostgreSQL's.
pub fn program(name: &str) -> Result<PathBuf> {
    Ok(bin_dir()?.join(name))
}

/// The newest of Debian's `/usr/lib/postgresql/N/bin`.
fn bin_dir() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is missing: apt-get install postgresql")?
    {
        let path = entry?.path();
        let version = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.parse().ok());
        if let Some(version) = version.filter(|_| path.join("bin/initdb").is_file()) {
            found.push((version, path.join("bin")));
        }
    }
    found.sort();
    found
        .pop()
        .map(|(_, path)| path)
        .context("no initdb below /usr/lib/postgresql: apt-get install postgresql")
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// `setpriv` replaces itself by the program, so that the child's pid is PostgreSQL's own.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program)
        .current_dir("/");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
