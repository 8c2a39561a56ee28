//! Real clients, each in its own language: psycopg, asyncpg and SQLAlchemy, node-postgres, pgx and lib/pq, pgjdbc. Each sends
//! and reads values of every type in text and in binary, looks at the catalog in its own way, cancels a query, and
//! opens fifty connections: as a superuser without a password, and as an ordinary role with one, in the clear and over TLS.
//!
//! The clients are fetched into a cache outside of the checkout; where that cannot be done (no interpreter, no network) a
//! line says so, and with `CI=true` the test fails.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rivermark_sql_tests::certificate::Certificate;
use rivermark_sql_tests::clients::{JDBC, NODE, PYTHON, cache};
use rivermark_sql_tests::postgres::Postgres;
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::{env_number, in_ci, is_full, repository};
use tempfile::TempDir;

/// Fetching is slow the first time.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);
const RUN_TIMEOUT: Duration = Duration::from_secs(100);
/// 2,000 rows through every driver.
const VALUES_TIMEOUT: Duration = Duration::from_secs(600);

/// How a client connects.
enum Access<'a> {
    Trust,
    Scram,
    /// With a password too; the server's certificate.
    Tls(&'a Path),
}

/// What a client is told: where the server is, and how to connect.
struct Target<'a> {
    port: u16,
    access: Access<'a>,
}

impl Target<'_> {
    fn credentials(&self) -> &'static str {
        match self.access {
            Access::Trust => "rivermark",
            Access::Scram | Access::Tls(_) => "app:to%20be%20told",
        }
    }

    /// `sslmode` and `sslrootcert`, as libpq and those who follow it name them.
    fn encryption(&self) -> String {
        match self.access {
            Access::Trust | Access::Scram => "sslmode=disable".to_string(),
            Access::Tls(certificate) => {
                format!("sslmode=verify-full&sslrootcert={}", certificate.display())
            }
        }
    }

    fn url(&self) -> String {
        let (credentials, port, encryption) = (self.credentials(), self.port, self.encryption());
        format!("postgresql://{credentials}@localhost:{port}/rivermark?{encryption}")
    }

    fn jdbc_url(&self) -> String {
        let (port, encryption) = (self.port, self.encryption());
        let user = match self.access {
            Access::Trust => "user=rivermark",
            Access::Scram | Access::Tls(_) => "user=app&password=to%20be%20told",
        };
        format!("jdbc:postgresql://localhost:{port}/rivermark?{user}&{encryption}")
    }
}

#[test]
fn python_clients() {
    let client = sources("python/client.py");
    with_clients("Python", python, |directory, target| {
        for driver in ["psycopg", "asyncpg", "sqlalchemy"] {
            let mut command = Command::new(directory.join("bin/python"));
            command.arg(&client).args([driver, &target.url()]);
            run(&mut command, RUN_TIMEOUT).with_context(|| driver.to_string())?;
        }
        Ok(())
    });
}

#[test]
fn node_client() {
    let client = sources("node/client.js");
    with_clients("Node", node, |directory, target| {
        let mut command = Command::new("node");
        command.arg(&client).arg(target.url());
        command.env("NODE_PATH", directory.join("node_modules"));
        run(&mut command, RUN_TIMEOUT)
    });
}

#[test]
fn go_clients() {
    with_clients("Go", go, |directory, target| {
        let mut command = Command::new(directory.join("clients"));
        run(command.arg(target.url()), RUN_TIMEOUT)
    });
}

#[test]
fn java_client() {
    let client = sources("java/Client.java");
    with_clients("Java", java, |directory, target| {
        let mut command = Command::new("java");
        command.arg("-cp").arg(directory.join("postgresql.jar"));
        run(command.arg(&client).arg(target.jdbc_url()), RUN_TIMEOUT)
    });
}

/// Random values of each type, against PostgreSQL with the same ones: 2,000 with `--full`.
#[test]
fn random_values() {
    let (values, copies) = (sources("python/values.py"), sources("java/Values.java"));
    let (Some(python), Some(java)) = (fetched("Python", python), fetched("Java", java)) else {
        return;
    };
    let seed = env_number("RIVERMARK_SEED").unwrap_or(11);
    let count = if is_full() { "2000" } else { "150" };
    println!("RIVERMARK_SEED={seed}");
    let postgres = Postgres::start().expect("PostgreSQL is the oracle");
    let mut server = Server::options().start().expect("the server starts");
    let (port, oracle) = (server.port(), postgres.port());
    let mut sent = Command::new(python.join("bin/python"));
    sent.arg(values).args([&seed.to_string(), count]);
    sent.arg(format!("postgresql://rivermark@127.0.0.1:{port}/rivermark"));
    sent.arg(format!("postgresql://postgres@127.0.0.1:{oracle}/postgres"));
    let mut copied = Command::new("java");
    copied.arg("-cp").arg(java.join("postgresql.jar"));
    copied.arg(copies).arg(count);
    copied.arg(format!(
        "jdbc:postgresql://127.0.0.1:{port}/rivermark?user=rivermark"
    ));
    copied.arg(format!(
        "jdbc:postgresql://127.0.0.1:{oracle}/postgres?user=postgres"
    ));
    for mut command in [sent, copied] {
        run(&mut command, VALUES_TIMEOUT).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
    }
    server.stop().expect("the server stops cleanly");
}

/// Fetches clients and runs them against a server of their own: first as it is when it is new, then with passwords and
/// a certificate.
fn with_clients(
    language: &str,
    fetch: impl FnOnce(&Path) -> Result<()>,
    test: impl Fn(&Path, &Target) -> Result<()>,
) {
    let Some(directory) = fetched(language, fetch) else {
        return;
    };
    let data = TempDir::new().expect("a directory");
    let certificate = Certificate::make(data.path()).expect("openssl makes a certificate");
    let options = || Server::options().data_dir(data.path().join("data"));

    let mut server = options().start().expect("the server starts");
    connected(&server, Access::Trust, &directory, &test);
    for sql in [
        "ALTER ROLE rivermark PASSWORD 'nobody uses it'",
        "CREATE USER app PASSWORD 'to be told'",
        "GRANT CREATE ON SCHEMA public TO app",
        "GRANT CREATE ON DATABASE rivermark TO app",
    ] {
        server.connect().must(sql);
    }
    drop_all(&server);
    server.stop().expect("the server stops cleanly");

    let mut server = certificate
        .serve(options().env("RIVERMARK_AUTH", "scram"))
        .start()
        .expect("the server starts");
    connected(&server, Access::Scram, &directory, &test);
    connected(&server, Access::Tls(&certificate.file), &directory, &test);
    server.stop().expect("the server stops cleanly");
}

/// What the superuser has made, an ordinary role could not drop.
fn drop_all(server: &Server) {
    let session = server.connect();
    let mine = "SELECT table_name FROM information_schema.tables
                WHERE table_schema = 'public' AND table_type = 'BASE TABLE'";
    for row in session.rows(mine) {
        let name = row[0].clone().unwrap_or_default();
        session.must(&format!("DROP TABLE IF EXISTS {name} CASCADE"));
    }
}

fn connected(
    server: &Server,
    access: Access<'_>,
    directory: &Path,
    test: &impl Fn(&Path, &Target) -> Result<()>,
) {
    let target = Target {
        port: server.port(),
        access,
    };
    if let Err(error) = test(directory, &target) {
        panic!("{}: {error:#}\n{}", target.url(), server.log_tail());
    }
}

/// The directory of clients, which are fetched unless they are there; `None`, with a line, where that cannot be done.
fn fetched(language: &str, fetch: impl FnOnce(&Path) -> Result<()>) -> Option<PathBuf> {
    // tests that need the same clients wait for one another
    static FETCHING: Mutex<()> = Mutex::new(());
    let _fetching = FETCHING.lock().unwrap_or_else(|error| error.into_inner());
    let directory = cache(language);
    let ready = directory.join(".ready");
    if ready.is_file() {
        return Some(directory);
    }
    let fetched = std::fs::create_dir_all(&directory)
        .map_err(anyhow::Error::from)
        .and_then(|()| fetch(&directory));
    if let Err(error) = fetched {
        assert!(
            !in_ci(),
            "the {language} clients cannot be installed: {error:#}"
        );
        println!("skipped: the {language} clients cannot be installed: {error:#}");
        return None;
    }
    std::fs::write(&ready, "").expect("the cache can be written");
    Some(directory)
}

fn sources(file: &str) -> PathBuf {
    repository().join("sql-tests/clients").join(file)
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
