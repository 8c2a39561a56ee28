//! Real clients, each in its own language: psycopg, asyncpg and SQLAlchemy, node-postgres, pgx and lib/pq, pgjdbc. Each sends
//! and reads values of every type in text and in binary, looks at the catalog in its own way, cancels a query, and
//! opens fifty connections.
//!
//! The clients are fetched into a cache outside of the checkout; where that cannot be done (no interpreter, no network) a
//! line says so, and with `CI=true` the test fails.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::{in_ci, repository};

/// Fetching is slow the first time.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);
const RUN_TIMEOUT: Duration = Duration::from_secs(100);

const PYTHON: [&str; 3] = [
    "psycopg[binary]==3.3.*",
    "asyncpg==0.32.*",
    "sqlalchemy==2.1.*",
];
const NODE: &str = "pg@8";
const JDBC: &str = "org.postgresql:postgresql:42.7.4";

#[test]
fn python_clients() {
    let client = sources("python/client.py");
    with_clients("Python", python, |python, server| {
        for driver in ["psycopg", "asyncpg", "sqlalchemy"] {
            let url = url(server);
            run(
                Command::new(python.join("bin/python"))
                    .arg(&client)
                    .args([driver, &url]),
                RUN_TIMEOUT,
            )
            .with_context(|| driver.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn node_client() {
    let client = sources("node/client.js");
    with_clients("Node", node, |directory, server| {
        let mut command = Command::new("node");
        command.arg(&client).arg(url(server));
        command.env("NODE_PATH", directory.join("node_modules"));
        run(&mut command, RUN_TIMEOUT)
    });
}

#[test]
fn go_clients() {
    with_clients("Go", go, |directory, server| {
        let url = format!("{}?sslmode=disable", url(server));
        run(
            Command::new(directory.join("clients")).arg(url),
            RUN_TIMEOUT,
        )
    });
}

#[test]
fn java_client() {
    let client = sources("java/Client.java");
    with_clients("Java", java, |directory, server| {
        let url = format!(
            "jdbc:postgresql://127.0.0.1:{}/rivermark?user=rivermark",
            server.port()
        );
        let mut command = Command::new("java");
        command.arg("-cp").arg(directory.join("postgresql.jar"));
        run(command.arg(&client).arg(url), RUN_TIMEOUT)
    });
}

/// Fetches clients and runs them against a server of their own.
fn with_clients(
    language: &str,
    fetch: impl FnOnce(&Path) -> Result<()>,
    test: impl FnOnce(&Path, &Server) -> Result<()>,
) {
    let directory = cache(language);
    let ready = directory.join(".ready");
    if !ready.is_file() {
        let fetched = std::fs::create_dir_all(&directory)
            .map_err(anyhow::Error::from)
            .and_then(|()| fetch(&directory));
        if let Err(error) = fetched {
            assert!(
                !in_ci(),
                "the {language} clients cannot be installed: {error:#}"
            );
            println!("skipped: the {language} clients cannot be installed: {error:#}");
            return;
        }
        std::fs::write(&ready, "").expect("the cache can be written");
    }
    let mut server = Server::options().start().expect("the server starts");
    if let Err(error) = test(&directory, &server) {
        panic!("{error:#}\n{}", server.log_tail());
    }
    server.stop().expect("the server stops cleanly");
}

fn sources(file: &str) -> PathBuf {
    repository().join("sql-tests/clients").join(file)
}

/// A directory for what is fetched; another one when what is asked for changes.
fn cache(language: &str) -> PathBuf {
    let home = std::env::var("XDG_CACHE_HOME").map_or_else(
        |_| PathBuf::from(std::env::var("HOME").unwrap_or_else(|_| "/tmp".into())).join(".cache"),
        PathBuf::from,
    );
    let asked: String = [PYTHON.concat(), NODE.into(), JDBC.into()].concat();
    // FNV-1a
    let version = asked.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    home.join("rivermark/clients")
        .join(format!("{}-{version:08x}", language.to_lowercase()))
}

fn url(server: &Server) -> String {
    format!(
        "postgresql://rivermark@127.0.0.1:{}/rivermark",
        server.port()
    )
}

fn python(directory: &Path) -> Result<()> {
    run(
        Command::new("python3").args(["-m", "venv"]).arg(directory),
        FETCH_TIMEOUT,
    )?;
    let mut pip = Command::new(directory.join("bin/python"));
    pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check"]);
    run(pip.args(PYTHON), FETCH_TIMEOUT)
}

fn node(directory: &Path) -> Result<()> {
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]);
    run(npm.arg(directory).arg(NODE), FETCH_TIMEOUT)
}

fn go(directory: &Path) -> Result<()> {
    for file in ["go.mod", "main.go"] {
        std::fs::copy(sources("go").join(file), directory.join(file))?;
    }
    for arguments in [&["mod", "tidy"][..], &["build", "-o", "clients", "."]] {
        let mut go = Command::new("go");
        run(go.args(arguments).current_dir(directory), FETCH_TIMEOUT)?;
    }
    Ok(())
}

fn java(directory: &Path) -> Result<()> {
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy"]);
    maven.arg(format!("-Dartifact={JDBC}"));
    maven.arg(format!("-DoutputDirectory={}", directory.display()));
    maven.arg("-Dmdep.stripVersion=true").current_dir(directory);
    run(&mut maven, FETCH_TIMEOUT)?;
    ensure!(
        directory.join("postgresql.jar").is_file(),
        "Maven brought no driver"
    );
    Ok(())
}

/// Runs a program to its end; an error with what it said if that is not a good one, or does not come in time.
fn run(command: &mut Command, timeout: Duration) -> Result<()> {
    let log = tempfile::NamedTempFile::new()?;
    let out = OpenOptions::new().append(true).open(log.path())?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let deadline = Instant::now() + timeout;
    let said = || std::fs::read_to_string(log.path()).unwrap_or_default();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{command:?} ended with {status}:\n{}", said()),
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                bail!("{command:?} did not end in time:\n{}", said());
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
