//! `rivermark demo`: a broker, a fleet of machines and the server in one process, in a temporary directory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use rivermark_connectors::kafka::embedded::EmbeddedBroker;
use rivermark_connectors::kafka::producer::Producer;
use rivermark_planner::security::BOOTSTRAP;
use tokio_util::sync::CancellationToken;

use crate::catalog::DATABASE_NAME;
use crate::config::{ServeArgs, ServerConfig};
use crate::fleet::Fleet;
use crate::pg_error::PgError;
use crate::serve::{Server, ServerState};
use crate::session::Session;
use crate::session_api::{Execution, SqlSession};
use crate::sessions::{SessionShared, now_us};
use crate::settings::Settings;

const TOPIC: &str = "readings";
const PARTITIONS: i32 = 4;
const MACHINES: usize = 50;
/// How often the fleet publishes what is due.
const TICK: Duration = Duration::from_millis(20);

/// What the demo declares, with the broker's address in place of `$BROKER`.
const STATEMENTS: &[&str] = &[
    "CREATE SOURCE readings (
       machine_id VARCHAR, site VARCHAR, temperature DOUBLE PRECISION, vibration DOUBLE PRECISION, ts TIMESTAMPTZ,
       WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
     ) WITH (
       connector = 'kafka', topic = 'readings', properties.bootstrap.server = '$BROKER',
       scan.startup.mode = 'earliest', on_data_loss = 'continue'
     ) FORMAT PLAIN ENCODE JSON",
    "CREATE MATERIALIZED VIEW machine_10s AS
     SELECT machine_id, site, window_start, count(*) AS readings, avg(temperature) AS avg_temperature,
            max(temperature) AS max_temperature, max(vibration) AS max_vibration
     FROM TUMBLE(readings, ts, INTERVAL '10 seconds')
     GROUP BY machine_id, site, window_start",
    "CREATE MATERIALIZED VIEW site_minute AS
     SELECT site, window_start, window_end, count(*) AS readings, avg(temperature) AS avg_temperature
     FROM HOP(readings, ts, INTERVAL '10 seconds', INTERVAL '1 minute')
     GROUP BY site, window_start, window_end",
    "CREATE MATERIALIZED VIEW alarms AS
     SELECT machine_id, site, window_start, max_temperature, max_vibration
     FROM machine_10s WHERE max_temperature > 90",
];

const QUERIES: &[&str] = &[
    "SELECT * FROM site_minute ORDER BY window_start DESC, site LIMIT 8;   -- then: \\watch 0.3",
    "SELECT * FROM alarms ORDER BY window_start DESC LIMIT 10;",
    "SELECT at, error, payload FROM rivermark.dead_letters ORDER BY at DESC LIMIT 5;",
];

/// Runs the demo until Ctrl-C.
pub fn run(port: u16, rate: u32) -> Result<()> {
    let shutdown = crate::stop_on_signals()?;
    let directory = tempfile::Builder::new()
        .prefix("rivermark-demo-")
        .tempdir()
        .context("cannot make a directory")?;
    let broker = EmbeddedBroker::start().map_err(|error| anyhow!("{error}"))?;
    broker
        .create_topic(TOPIC, PARTITIONS)
        .map_err(|error| anyhow!("{error}"))?;
    let fleet = publish(broker.bootstrap_servers(), rate, shutdown.clone())?;

    let config = ServerConfig::resolve(ServeArgs {
        data_dir: Some(directory.path().join("data").display().to_string()),
        listen: Some(SocketAddr::from(([127, 0, 0, 1], port)).to_string()),
        ..ServeArgs::default()
    })?;
    let server = Server::start(&config)?;
    declare(&server, &broker.bootstrap_servers())?;
    println!("{}", crate::ready_line(&server));
    println!(
        "{}",
        welcome(server.address, &broker.bootstrap_servers(), rate)
    );
    server.run(shutdown);
    fleet
        .join()
        .map_err(|_| anyhow!("the fleet's thread failed"))?;
    Ok(())
}

fn welcome(address: SocketAddr, broker: &str, rate: u32) -> String {
    let queries: Vec<String> = QUERIES.iter().map(|q| format!("    {q}")).collect();
    format!(
        "\n{MACHINES} machines publish {rate} readings a second to the topic \"{TOPIC}\" of the broker at {broker}.\n\
         Connect with:\n\n    psql -h {} -p {} -U rivermark {DATABASE_NAME}\n\nand try:\n\n{}\n\nCtrl-C stops everything.",
        address.ip(),
        address.port(),
        queries.join("\n")
    )
}

/// Publishes the fleet's readings on a thread of its own until `shutdown`.
fn publish(
    broker: String,
    rate: u32,
    shutdown: CancellationToken,
) -> Result<thread::JoinHandle<()>> {
    let producer = Producer::new(&broker).map_err(|error| anyhow!("{error}"))?;
    let work = move || {
        let mut fleet = Fleet::new(MACHINES, 42);
        let start = Instant::now();
        let mut published = 0_u64;
        while !shutdown.is_cancelled() {
            let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            while published < due {
                let message = fleet.reading(now_us() / 1000);
                if let Err(error) = producer.send(TOPIC, &message.key, &message.payload) {
                    tracing::warn!(%error, "a reading was not published");
                }
                published += 1;
            }
            producer.poll();
            thread::sleep(TICK);
        }
    };
    thread::Builder::new()
        .name("demo-fleet".to_string())
        .spawn(work)
        .context("cannot start the fleet")
}

/// Runs the demo's statements in a session of its own.
fn declare(server: &Server, broker: &str) -> Result<()> {
    let state = server.state.clone();
    let sql: Vec<String> = STATEMENTS
        .iter()
        .map(|s| s.replace("$BROKER", broker))
        .collect();
    server.block_on(async move {
        let mut session = own_session(state);
        for text in sql {
            execute(&mut session, &text)
                .await
                .map_err(|error| anyhow!("{error}\n{text}"))?;
        }
        Ok(())
    })
}

fn own_session(state: Arc<ServerState>) -> Session {
    let catalog = state.engine.snapshot().catalog.clone();
    let shared = SessionShared::new(
        0,
        BOOTSTRAP.to_string(),
        true,
        None,
        Settings::default(),
        catalog,
    );
    Session::new(state, Arc::new(shared), None)
}

async fn execute(session: &mut Session, sql: &str) -> Result<(), PgError> {
    for statement in session.parse(sql).await? {
        match session.execute(&statement, &[]).await? {
            Execution::Command { tag } => tracing::debug!(tag, "demo"),
            // the demo only declares
            Execution::Rows { .. } | Execution::CopyOut { .. } | Execution::CopyIn { .. } => {}
        }
    }
    Ok(())
}
