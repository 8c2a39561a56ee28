//! The `rivermark` binary: command line, start and stop.

mod alter;
mod assignment;
mod catalog;
mod channels;
mod commit;
mod config;
mod constraints;
mod copy_in;
mod cursors;
mod ddl;
mod demo;
mod dispatch;
mod dml;
mod drop;
mod evaluation_state;
mod fleet;
mod grants;
mod half_built;
mod index;
mod information_schema;
mod parameters;
mod passwords;
mod pg_catalog;
mod pg_error;
mod plan_cache;
mod plan_fences;
mod planning;
mod point_lookup;
mod prepared;
mod privileges;
mod query;
mod query_runtime;
mod rebuild;
mod roles;
mod rows;
mod savepoints;
mod secrets;
mod serve;
mod session;
mod session_api;
#[cfg(test)]
mod session_tests;
mod sessions;
mod setting_list;
mod settings;
mod show;
mod sqlstate;
mod subscribe;
mod system_views;
mod table_expressions;
mod table_turns;
mod tls;
mod transaction;
mod transaction_control;
mod wire;

use std::process::ExitCode;
use std::thread;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::{Cli, Command, ServeArgs, ServerConfig};
use crate::serve::Server;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit code after a second signal.
const FORCED: i32 = 130;

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_logging();
    let result = match cli.command {
        Command::Version => {
            println!("rivermark {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
        Command::Serve(args) => serve(*args),
        Command::Demo { port, rate } => demo::run(port, rate),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rivermark: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Logs go to stderr; `RIVERMARK_LOG` chooses what, as in `info,rivermark_executor=debug`.
fn start_logging() {
    let filter =
        EnvFilter::try_from_env("RIVERMARK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

fn serve(args: ServeArgs) -> Result<()> {
    let config = ServerConfig::resolve(args)?;
    let shutdown = stop_on_signals()?;
    let server = Server::start(&config)?;
    println!("{}", ready_line(&server));
    server.run(shutdown);
    Ok(())
}

/// What tells scripts that clients may connect.
fn ready_line(server: &Server) -> String {
    format!(
        "rivermark {} ready to accept connections on {}",
        env!("CARGO_PKG_VERSION"),
        server.address
    )
}

/// Cancelled by the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_on_signals() -> Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot wait for signals")?;
    let (mut terminate, mut interrupt) = {
        let _guard = runtime.enter();
        let listen = |kind| signal(kind).context("cannot wait for signals");
        (
            listen(SignalKind::terminate())?,
            listen(SignalKind::interrupt())?,
        )
    };
    let wait = move || {
        runtime.block_on(async move {
            for signals in 0.. {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                if signals > 0 {
                    std::process::exit(FORCED);
                }
                stop.cancel();
            }
        });
    };
    thread::Builder::new()
        .name("rm-signals".to_string())
        .spawn(wait)
        .context("cannot wait for signals")?;
    Ok(shutdown)
}
