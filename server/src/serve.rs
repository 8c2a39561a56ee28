//! The running server: what all sessions share, and the order in which its parts start and stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use rivermark_connectors::Registry;
use rivermark_executor::engine::Engine;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::channels::{Channels, pass_changes_on};
use crate::config::{MemoryPlan, ServerConfig};
use crate::query_runtime::QueryRuntime;
use crate::session::Connector;
use crate::sessions::{Sessions, now_us};
use crate::table_turns::TableTurns;
use crate::wire::{AuthMethod, Listener, ListenerConfig};

/// What every session uses.
pub struct ServerState {
    pub engine: Engine,
    pub sessions: Sessions,
    /// Statements that change the catalog take turns.
    pub ddl: Arc<tokio::sync::Mutex<()>>,
    /// Statements that take rows away take turns when they meet too often.
    pub turns: TableTurns,
    pub queries: QueryRuntime,
    /// When the server started, in microseconds since 1970.
    pub started_at_us: i64,
    /// `--memory-limit`, in bytes.
    pub memory_limit: usize,
    pub channels: Channels,
}

/// A server that has started; [`Server::run`] serves until it is told to stop.
pub struct Server {
    /// Where it listens, with the port that was chosen.
    pub address: SocketAddr,
    pub state: Arc<ServerState>,
    listener: Listener,
    /// Sockets and sessions.
    connections: Runtime,
    /// Ad-hoc queries.
    queries: Runtime,
}

/// Threads that serve sockets: they never compute.
const CONNECTION_THREADS: usize = 2;
/// Stack of the query threads: planning recurses.
const QUERY_STACK_BYTES: usize = 8 << 20;

impl Server {
    /// Recovers the data directory and binds the socket. Blocks.
    pub fn start(config: &ServerConfig) -> Result<Server> {
        let connections = Builder::new_multi_thread()
            .worker_threads(CONNECTION_THREADS)
            .thread_name("rm-connection")
            .thread_stack_size(QUERY_STACK_BYTES)
            .enable_all()
            .build()
            .context("cannot start the connection threads")?;
        let queries = Builder::new_multi_thread()
            .worker_threads(config.shards.max(1))
            .thread_name("rm-query")
            .thread_stack_size(QUERY_STACK_BYTES)
            .enable_all()
            .build()
            .context("cannot start the query threads")?;
        // Bound first: a port in use is found out before recovery, which may take long.
        let listener_config = ListenerConfig {
            auth: if config.is_insecure {
                AuthMethod::Trust
            } else {
                AuthMethod::TrustLoopback
            },
            ..ListenerConfig::default()
        };
        let listener = connections
            .block_on(Listener::bind(config.listen, listener_config))
            .map_err(|error| anyhow!("cannot listen on {}: {error}", config.listen))?;
        let address = listener
            .local_addr()
            .context("cannot read the listening address")?;
        create_data_dir(&config.data_dir)?;
        let engine = {
            // the engine may start tasks of its own
            let _guard = connections.enter();
            Engine::open(config.engine(), Arc::new(Registry)).map_err(|error| anyhow!("{error}"))?
        };
        let memory = MemoryPlan::split(config.memory_limit);
        let state = Arc::new(ServerState {
            engine,
            sessions: Sessions::default(),
            ddl: Arc::default(),
            turns: TableTurns::default(),
            queries: QueryRuntime::new(queries.handle().clone(), memory.queries)
                .map_err(|error| anyhow!("cannot set up the query memory: {error}"))?,
            started_at_us: now_us(),
            memory_limit: config.memory_limit,
            channels: Channels::default(),
        });
        Ok(Server {
            address,
            state,
            listener,
            connections,
            queries,
        })
    }

    /// Runs work on the connections' threads before the server serves.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.connections.block_on(work)
    }

    /// Serves until `shutdown`, then stops: clients first, the engine's last commit at the end. Blocks.
    pub fn run(self, shutdown: CancellationToken) {
        let Server {
            state,
            listener,
            connections,
            queries,
            ..
        } = self;
        let factory = Arc::new(Connector(state.clone()));
        let news = connections.spawn(pass_changes_on(state.clone()));
        connections.block_on(async {
            listener.run(factory, shutdown).await;
            // It must not hold the engine while the process ends.
            news.abort();
            let _ = news.await;
            state.engine.shutdown().await;
        });
        queries.shutdown_background();
        connections.shutdown_background();
    }
}

fn create_data_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).map_err(|error| {
        anyhow!(
            "cannot create the data directory {}: {error}",
            path.display()
        )
    })
}
