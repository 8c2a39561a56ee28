//! COPY in both directions through psql, and psycopg's executemany, beside PostgreSQL on the same rows.

use std::io::Write;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rivermark_sql_tests::clients::cache;
use rivermark_sql_tests::postgres::{Postgres, program};
use rivermark_sql_tests::server::Server;
use rivermark_sql_tests::{env_number, repository};

const TABLE: &str = "CREATE TABLE readings (id BIGINT PRIMARY KEY, device TEXT, ts TIMESTAMPTZ, v DOUBLE PRECISION)";

/// `RIVERMARK_BENCH_COPY_ROWS` (3 million) rows.
pub fn run() -> Result<()> {
    let rows = env_number("RIVERMARK_BENCH_COPY_ROWS").unwrap_or(3_000_000);
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("readings.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    for i in 0..rows {
        let (minute, second) = (i / 60 % 60, i % 60);
        writeln!(
            file,
            "{i},device-{},2026-01-01 10:{minute:02}:{second:02}+00,{}.25",
            i % 1000,
            i % 97
        )?;
    }
    file.into_inner()?;

    let postgres = Postgres::start()?;
    postgres.connect()?.must(TABLE);
    let server = Server::options().memory_limit("2GB").start()?;
    server.connect().must(TABLE);
    let ends = [
        ("PostgreSQL", postgres.port(), "postgres", "postgres"),
        ("Rivermark", server.port(), "rivermark", "rivermark"),
    ];
    let path = path.display();
    let commands = [
        (
            "COPY FROM STDIN",
            format!("\\copy readings from '{path}' csv"),
        ),
        (
            "COPY TO STDOUT",
            "\\copy readings to '/dev/null' csv".to_string(),
        ),
    ];
    for (what, command) in commands {
        let mut rates = Vec::new();
        for (name, port, user, database) in ends {
            let begin = Instant::now();
            let output = Command::new(program("psql")?)
                .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", user])
                .args(["-v", "ON_ERROR_STOP=1", "-X", "-c", &command, database])
                .output()
                .context("psql can not be started")?;
            let errors = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{name}: {errors}");
            let rate = rows as f64 / begin.elapsed().as_secs_f64();
            println!("{what}, {name}: {rate:.0} rows a second");
            rates.push(rate);
        }
        println!("{what} / PostgreSQL's: {:.2}", rates[1] / rates[0]);
    }
    execute_many(&ends)
}

/// `RIVERMARK_BENCH_MANY_ROWS` (500,000) rows, one INSERT each.
fn execute_many(ends: &[(&str, u16, &str, &str)]) -> Result<()> {
    let python = cache("python").join("bin/python");
    if !python.is_file() {
        println!("executemany: not measured; `./dev test clients` fetches psycopg");
        return Ok(());
    }
    let rows = env_number("RIVERMARK_BENCH_MANY_ROWS").unwrap_or(500_000);
    let mut rates = Vec::new();
    for (name, port, user, database) in ends {
        let output = Command::new(&python)
            .arg(repository().join("sql-tests/clients/python/many.py"))
            .arg(rows.to_string())
            .arg(format!("postgresql://{user}@127.0.0.1:{port}/{database}"))
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name}: {errors}");
        let rate: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
        println!("executemany, {name}: {rate:.0} rows a second");
        rates.push(rate);
    }
    println!("executemany / PostgreSQL's: {:.2}", rates[1] / rates[0]);
    Ok(())
}
