//! The running server: what all sessions share, and the order in which its parts start and stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use pgwire::api::auth::sasl::scram::ScramSecret;
use rivermark_connectors::Registry;
use rivermark_executor::engine::Engine;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::channels::{Channels, pass_changes_on};
use crate::config::{Auth, MemoryPlan, ServerConfig};
use crate::passwords;
use crate::query_runtime::QueryRuntime;
use crate::session::Connector;
use crate::sessions::{Sessions, now_us};
use crate::table_turns::TableTurns;
use crate::tls;
use crate::wire::{AuthMethod, Listener, ListenerConfig, ScramCredentials};

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
    /// Clients are not authenticated.
    pub is_trusting: bool,
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
        let tls = match &config.tls {
            Some((certificate, key)) => Some(tls::acceptor(certificate, key)?),
            None => None,
        };
        let listener_config = ListenerConfig {
            // until the catalog with its roles has been read; nobody is served before
            auth: AuthMethod::TrustLoopback,
            tls,
            max_connections: config.max_connections,
            ..ListenerConfig::default()
        };
        let mut listener = connections
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
        listener.authenticate_with(match config.auth {
            Auth::Scram => {
                check_passwords(&engine)?;
                AuthMethod::Scram(Arc::new(Passwords(engine.clone())))
            }
            Auth::Trust if config.is_insecure => AuthMethod::Trust,
            Auth::Trust => AuthMethod::TrustLoopback,
        });
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
            is_trusting: config.auth == Auth::Trust,
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

/// The passwords of roles, as the newest epoch has them.
struct Passwords(Engine);

impl ScramCredentials for Passwords {
    fn secret(&self, user: &str) -> Option<ScramSecret> {
        let role = self.0.snapshot().catalog.security.role(user)?;
        if role.valid_until_us.is_some_and(|until| until <= now_us()) {
            return None;
        }
        passwords::secret(&role.verifier?)
    }

    fn salt_of_nobody(&self, user: &str) -> Vec<u8> {
        // a secret that lasts, and that whoever asks does not know
        let roles = self.0.snapshot().catalog.security.roles();
        let mut superusers = roles.into_iter().filter(|role| role.is_superuser);
        let key = superusers.find_map(|role| role.verifier);
        passwords::salt_of_nobody(&key.unwrap_or_default(), user)
    }
}

/// Without a superuser who can log in, nobody could ever make one.
fn check_passwords(engine: &Engine) -> Result<()> {
    let roles = engine.snapshot().catalog.security.roles();
    let is_usable = roles
        .iter()
        .any(|role| role.is_superuser && role.can_login && role.verifier.is_some());
    match is_usable {
        true => Ok(()),
        false => Err(anyhow!(
            "nobody could log in: no superuser has a password. Start once with --auth trust on a loopback address, \
             connect, and run: ALTER ROLE rivermark PASSWORD '...'"
        )),
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
